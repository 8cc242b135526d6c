"""What the methods of a comparison have in common, so that a table is a loop: fit on a table, complete or predict.

Three small interfaces.  An :class:`Imputer` fills the gaps of a table; a :class:`MomentEstimator` gives means and
covariances and no imputations (deletion and weighting, Appendix A); a :class:`RatingPredictor` learns from a list of
ratings and predicts others (Table 1).
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy.typing import NDArray

from pyro_mnar.imputation import Imputations
from pyro_mnar.tables.table import Table


@runtime_checkable
class Imputer(Protocol):
    """Fills every gap of a table by one number, its point estimate."""

    @property
    def name(self) -> str:
        """What tables and figures call it."""
        ...

    def complete(self, table: Table, *, seed: int) -> pd.DataFrame:
        """The table's frame with its gaps filled, in the user's units; index, columns and observed entries are kept.

        Integer columns that receive a number become floating; cells that are not applicable stay empty.
        """
        ...


class Moments(NamedTuple):
    """First two moments of the modelled columns, in the user's units.

    Attributes:
        mean: By column.
        covariance: By pair of columns.
    """

    mean: pd.Series
    covariance: pd.DataFrame


@runtime_checkable
class MomentEstimator(Protocol):
    """Estimates means and covariances of a table with gaps."""

    @property
    def name(self) -> str:
        """What tables and figures call it."""
        ...

    def moments(self, table: Table) -> Moments:
        """Means and covariances of the modelled columns."""
        ...


@runtime_checkable
class RatingPredictor(Protocol):
    """Predicts ratings from other ratings."""

    @property
    def name(self) -> str:
        """What tables and figures call it."""
        ...

    def fit(self, train: pd.DataFrame, shape: tuple[int, int], *, seed: int) -> RatingPredictor:
        """Learn from ratings, and return itself.

        Args:
            train: One line a rating, with whole numbers from 0 in ``row`` (who rates) and ``column`` (what is rated),
                and the rating in ``value``.
            shape: Number of rows and of columns, rated or not.
            seed: Same seed, same predictions.
        """
        ...

    def predict(self, rows: Int[NDArray, " cells"], columns: Int[NDArray, " cells"]) -> Float[NDArray, " cells"]:
        """Expected ratings of cells, in the units of ``value``."""
        ...


def values_of(table: Table) -> pd.DataFrame:
    """The modelled columns as floating numbers in the user's units, NaN in the gaps; ``(rows, columns)``."""
    x, mask = table.x.numpy().astype(np.float64), table.mask.numpy()
    decoded = [column.decode(x[:, at]) for at, column in enumerate(table.schema.columns)]
    columns = pd.Index(table.schema.names, tupleize_cols=False)
    return pd.DataFrame(np.where(mask, np.stack(decoded, axis=1), np.nan), index=table.row_labels, columns=columns)


def predictors_of(table: Table) -> Float[NDArray, "rows predictors"]:
    """Standardised columns, NaN in the gaps, followed by the auxiliary columns that are not among them already."""
    x = np.where(table.mask.numpy(), table.x.numpy().astype(np.float64), np.nan)
    if table.schema.auxiliary_source != "named":
        return x
    return np.concatenate([x, table.aux.numpy().astype(np.float64)], axis=1)


def completed(table: Table, x: Float[NDArray, "rows columns"]) -> pd.DataFrame:
    """The table's frame with standardised numbers in its gaps, brought back to the user's units."""
    cells = np.stack(np.nonzero(~table.mask.numpy() & table.applicable.numpy()))
    rows, columns = cells
    means = x[rows, columns].astype(np.float64)
    for position, column in enumerate(table.schema.columns):
        means[columns == position] = column.decode_mean(means[columns == position])
    return Imputations(table, cells, means[None], means, np.full(len(table), np.inf)).mean()


def check_ratings(train: pd.DataFrame, shape: tuple[int, int]) -> None:
    """Raise ValueError, naming what is wrong, unless ratings are as :class:`RatingPredictor` takes them."""
    for name in ("row", "column", "value"):
        if name not in train.columns:
            raise ValueError(f"ratings: expected the columns 'row', 'column' and 'value', got {list(train.columns)!r}")
    if not len(train):
        raise ValueError("ratings: expected at least one, got none")
    for name, count in zip(("row", "column"), shape, strict=True):
        if not pd.api.types.is_integer_dtype(train[name].dtype):
            raise ValueError(f"ratings, column {name!r}: expected whole numbers, got {train[name].dtype}")
        low, high = int(train[name].min()), int(train[name].max())
        if low < 0 or high >= count:
            raise ValueError(f"ratings, column {name!r}: expected codes from 0 to {count - 1}, got {low} to {high}")
    if not np.isfinite(train["value"].to_numpy(dtype=np.float64)).all():
        raise ValueError("ratings, column 'value': expected finite numbers, got a gap or an infinity")
    twice = train.duplicated(["row", "column"])
    if twice.any():
        row, column = train.loc[twice, ["row", "column"]].iloc[0]
        raise ValueError(f"ratings: expected one of a cell, got several in row {row}, column {column}")
