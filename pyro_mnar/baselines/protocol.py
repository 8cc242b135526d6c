"""What the methods of a comparison have in common, so that a table is a loop: fit on a table, complete or predict.

Three small interfaces.  An :class:`Imputer` fills the gaps of a table; a :class:`MomentEstimator` gives means and
covariances and no imputations (deletion and weighting, Appendix A); a :class:`RatingPredictor` learns from a list of
ratings and predicts others (Table 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import nn

from pyro_mnar.imputation import Imputations
from pyro_mnar.messages import check_is, check_list, shown, whole_number
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


def check_table(table: Table) -> None:
    """TypeError unless it is one."""
    check_is("table", table, Table, ", such as Table.from_frame makes")


def made_module(name: str, made: Any) -> nn.Module:
    """What a maker gave; TypeError unless it is a torch module."""
    check_is(name, made, nn.Module, ", made by what was given")
    return made


def check_systems(systems: Sequence[Imputer]) -> None:
    """Raise TypeError, or ValueError for none, unless each completes tables."""
    for system in check_list("systems", systems):
        if not isinstance(system, Imputer) or isinstance(system, type):
            raise TypeError(f"systems: expected those with a name and a method complete, got {shown(system)}")


def values_of(table: Table) -> pd.DataFrame:
    """The modelled columns as floating numbers in the user's units, NaN in the gaps; ``(rows, columns)``."""
    check_table(table)
    x, mask = table.x.numpy().astype(np.float64), table.mask.numpy()
    decoded = [column.decode(x[:, at]) for at, column in enumerate(table.schema.columns)]
    columns = pd.Index(table.schema.names, tupleize_cols=False)
    return pd.DataFrame(np.where(mask, np.stack(decoded, axis=1), np.nan), index=table.row_labels, columns=columns)


def predictors_of(table: Table) -> Float[NDArray, "rows predictors"]:
    """Standardised columns, NaN in the gaps, followed by the auxiliary columns that are not among them already."""
    check_table(table)
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
    """ValueError or TypeError, naming what is wrong, unless ratings are as :class:`RatingPredictor` takes them."""
    check_is("ratings", train, pd.DataFrame)
    check_shape(shape)
    for name in ("row", "column", "value"):
        if list(train.columns).count(name) != 1:
            raise ValueError(f"ratings: expected the columns 'row', 'column' and 'value', got {list(train.columns)!r}")
    if not len(train):
        raise ValueError("ratings: expected at least one, got none")
    for name, count in zip(("row", "column"), shape, strict=True):
        if not pd.api.types.is_integer_dtype(train[name].dtype):
            raise ValueError(f"ratings, column {name!r}: expected whole numbers, got {train[name].dtype}")
        low, high = int(train[name].min()), int(train[name].max())
        if low < 0 or high >= count:
            raise ValueError(f"ratings, column {name!r}: expected codes from 0 to {count - 1}, got {low} to {high}")
    check_values(train)
    twice = train.duplicated(["row", "column"])
    if twice.any():
        row, column = train.loc[twice, ["row", "column"]].iloc[0]
        raise ValueError(f"ratings: expected one of a cell, got several in row {row}, column {column}")


def check_values(ratings: pd.DataFrame) -> None:
    """Raise ValueError or TypeError unless each rating has a finite ``value``, and there is one."""
    check_is("ratings", ratings, pd.DataFrame)
    if list(ratings.columns).count("value") != 1:
        raise ValueError(f"ratings: expected a column 'value', got {list(ratings.columns)!r}")
    if not len(ratings):
        raise ValueError("ratings: expected at least one, got none")
    dtype = ratings["value"].dtype
    if not pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_complex_dtype(dtype):
        raise ValueError(f"ratings, column 'value': expected numbers, got {dtype}")
    if not np.isfinite(ratings["value"].to_numpy(dtype=np.float64, na_value=np.nan)).all():
        raise ValueError("ratings, column 'value': expected finite numbers, got a gap or an infinity")


def check_shape(shape: tuple[int, int]) -> None:
    """Raise ValueError or TypeError unless it is two whole numbers from 1."""
    if not isinstance(shape, (tuple, list)) or len(shape) != 2:
        raise TypeError(f"shape: expected the numbers of rows and of columns, got {shown(shape)}")
    for count in shape:
        whole_number("shape", count)


def asked_cells(
    rows: Int[NDArray, " cells"], columns: Int[NDArray, " cells"], shape: tuple[int, int] | None
) -> tuple[Int[NDArray, " cells"], Int[NDArray, " cells"]]:
    """Rows and columns of cells to predict.

    Args:
        rows: Codes of rows.
        columns: Codes of columns, as many.
        shape: Of the ratings that were learnt from; None if none were.

    Raises:
        ValueError: If nothing was learnt, there are not as many of both, or a code is outside of the shape.
        TypeError: If they are not whole numbers.
    """
    if shape is None:
        raise ValueError("predict: expected ratings to learn from first, by fit")
    asked = []
    for name, codes, count in zip(("rows", "columns"), (rows, columns), shape, strict=True):
        try:
            given = np.asarray(codes)
        except (ValueError, TypeError, RuntimeError):  # such as rows of different lengths
            given = np.zeros((0, 0))
        if given.ndim != 1 or not (np.issubdtype(given.dtype, np.integer) or not given.size):
            raise TypeError(f"{name}: expected whole numbers in one row, got {shown(codes)}")
        if given.size and not 0 <= given.min() <= given.max() < count:
            raise ValueError(f"{name}: expected codes from 0 to {count - 1}, got {given.min()} to {given.max()}")
        asked.append(given.astype(np.int64))
    if len(asked[0]) != len(asked[1]):
        raise ValueError(f"rows, columns: expected as many of both, got {len(asked[0])} and {len(asked[1])}")
    return asked[0], asked[1]
