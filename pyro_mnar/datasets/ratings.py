"""Wide sparse tables as lists of their observed cells, and where the public ones come from.

No data come with this package.  A loader takes the folder that its user downloaded, checks it, and returns
:class:`Ratings`, which is a :meth:`Ratings.table` to a model and a list of ratings to a
:class:`~pyro_mnar.baselines.protocol.RatingPredictor`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pyro_mnar.memory import check_room
from pyro_mnar.messages import finite_number, seed_of, share_of, shown, whole_number
from pyro_mnar.tables.table import Table


class Source(NamedTuple):
    """Where a data set is to be had.

    Attributes:
        name: What it is called.
        address: The page to get it from.
        terms: What its owners ask for.
        reference: The publication to cite.
    """

    name: str
    address: str
    terms: str
    reference: str

    @property
    def advice(self) -> str:
        """All of it in a sentence, for messages."""
        return f"{self.name} is to be had from {self.address} ({self.terms})"


@dataclass(frozen=True, eq=False, repr=False)
class Ratings:
    """Observed cells of a table with one row a rater (or student) and one column a thing rated (or question).

    Attributes:
        train: One line an observed cell: whole numbers from 0 in ``row`` and ``column``, the rating in ``value``.
        test: The cells set apart to be predicted, likewise; no lines where the data come without any.
        shape: Number of rows and of columns, rated or not.
        row_labels: What the data call each row, by its number.
        column_labels: What the data call each column, by its number.
        row_features: One line a row, in order, without gaps, so that its columns can be auxiliaries; or None.
        column_features: One line a column, in order; or None.
        source: Where the data come from; None for a file of the user's own.
    """

    train: pd.DataFrame
    test: pd.DataFrame
    shape: tuple[int, int]
    row_labels: pd.Index
    column_labels: pd.Index
    row_features: pd.DataFrame | None = None
    column_features: pd.DataFrame | None = None
    source: Source | None = None

    def __repr__(self) -> str:
        rows, columns = self.shape
        train, test = len(self.train), len(self.test)
        return (
            f"Ratings({rows} rows, {columns} columns, {train} to train ({train / rows / columns:.1%}), {test} to test)"
        )

    def table(self, **options: Any) -> Table:
        """The training cells as a table that is never dense, with ``row_features``, if there are any, as U.

        Args:
            **options: As for :meth:`~pyro_mnar.Table.from_long`, such as ``kinds`` or another ``auxiliary``.
        """
        rows, columns = (range(count) for count in self.shape)
        if self.row_features is not None:
            options.setdefault("auxiliary", self.row_features)
        return Table.from_long(self.train, rows=rows, columns=columns, **options)

    def split(self, share: float, *, seed: int) -> Ratings:
        """Set a random share of the training cells apart, to validate or, where the data bring no test, to test on.

        Args:
            share: Of ``train``, between 0 and 1.
            seed: Same seed, same cells.

        Returns:
            The rest in ``train``, those set apart in ``test``; a test set that the data brought is left out.

        Raises:
            ValueError: If the share leaves nothing on one side.
        """
        count = round(share_of("share", share) * len(self.train))
        if not 0 < count < len(self.train):
            raise ValueError(
                f"share: expected at least one of {len(self.train)} cells on either side, got {share} of them"
            )
        apart = np.zeros(len(self.train), dtype=bool)
        apart[np.random.default_rng(seed_of(seed)).permutation(len(self.train))[:count]] = True
        keep, test = (self.train[which].reset_index(drop=True) for which in (~apart, apart))
        return replace(self, train=keep, test=test)


BYTES_OF_A_CELL = 8


# Log-odds that a float tells apart, and the least share whose log-odds are found among such.
STEEPEST, LEAST_SHARE = 1e6, 1e-12


def check_share(name: str, value: Any) -> None:
    """ValueError unless it is a share whose log-odds a float tells apart; names the argument."""
    if share_of(name, value) < LEAST_SHARE:
        raise ValueError(f"{name}: expected at least {LEAST_SHARE:g}, got {shown(value)}")


def check_slope(name: str, value: Any) -> None:
    """TypeError unless it is a finite number, ValueError if it is too steep; names the argument."""
    if abs(finite_number(name, value)) > STEEPEST:
        raise ValueError(f"{name}: expected at most {STEEPEST:g} either way, got {shown(value)}")


def check_shape(shape: Any) -> None:
    """Refuse what is no number of rows and of columns, or more cells than memory holds.

    Raises:
        TypeError: If it is no pair of whole numbers.
        ValueError: If one is below 1, or memory does not hold so many cells.
    """
    if not isinstance(shape, (tuple, list)) or len(shape) != 2:
        raise TypeError(f"shape: expected a number of rows and of columns, got {shown(shape)}")
    rows, columns = (whole_number("shape", size) for size in shape)
    check_room("shape", rows, BYTES_OF_A_CELL * columns, "numbers of every cell")


def cells(rows: np.ndarray, columns: np.ndarray, values: np.ndarray) -> pd.DataFrame:
    """A frame of observed cells from three arrays of one length."""
    return pd.DataFrame({"row": rows.astype(np.int64), "column": columns.astype(np.int64), "value": values})


def no_cells(like: pd.DataFrame) -> pd.DataFrame:
    """A frame of the same columns without lines."""
    return like.iloc[:0].reset_index(drop=True)
