"""One column of a table: modelled, auxiliary, or neither; its name, kind and units, and how its values are encoded."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_mnar.kinds import Kind
from pyro_mnar.kinds.dtypes import plain
from pyro_mnar.kinds.reading import cell, numbers_of, row_label
from pyro_mnar.messages import is_real, shown


def check_label(label: Hashable) -> None:
    """ValueError for a boolean as a column's label, of which a list is a mask of rows to pandas."""
    if isinstance(label, (bool, np.bool_)):
        raise ValueError(
            f"column {label!r}: expected a name or a number, got a boolean, of which a list is a mask of rows to"
            " pandas: rename it, such as frame.rename(columns={True: 'yes', False: 'no'})"
        )


@dataclass(frozen=True)
class Column:
    """One modelled column of X.

    Attributes:
        name: The frame's own label.
        kind: How the column is modelled.
        mean: What is subtracted on the unconstrained scale: the mean of the observed values there, 0 for a column that
            is kept in its own units.
        std: What is divided by there: their standard deviation (1 for a constant column, or one in its own units).
        incomplete: Whether a value was missing when the schema was made, so that the column has a mechanism.
        is_auxiliary: Whether the column also serves as U (it was complete, and no auxiliaries were named).
        because: What decided the kind; empty if nobody noted it.
        mean_in_units: Mean of the observed values in the user's units; of words, of their levels' positions.
        std_in_units: Their standard deviation in the user's units (1 for a constant column): what distances between
            imputed means are measured in.
        least: Least value seen in the training rows, in the user's units; infinite if nobody noted it.
        greatest: Greatest value seen, likewise.
        is_constant: Whether all training rows that have a value have the same one.
    """

    name: Hashable
    kind: Kind
    mean: float
    std: float
    incomplete: bool
    is_auxiliary: bool = False
    because: str = ""
    mean_in_units: float = 0.0
    std_in_units: float = 1.0
    least: float = -np.inf
    greatest: float = np.inf
    is_constant: bool = False

    def __post_init__(self) -> None:
        _check_units(self)

    def read(self, values: pd.Series) -> NDArray[np.float64]:
        """Cells to numbers in the user's units, NaN for gaps; a word's number is its level's position."""
        return self.kind.read(plain(values), self.name)

    def encode(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """User's units to standard deviations from the mean, on the unconstrained scale."""
        return (self.kind.scale.unconstrained(numbers) - self.mean) / self.std

    def decode(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Standard deviations from the mean to the user's units, to the nearest value that the column can take."""
        numbers = self.kind.scale.constrained(np.asarray(values, dtype=np.float64) * self.std + self.mean)
        return self.kind.nearest(numbers)

    def decode_mean(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """The same of means, which have fractions even where all values that were seen are whole."""
        if not getattr(self.kind, "whole", False):
            return self.decode(values)
        return self.kind.scale.constrained(np.asarray(values, dtype=np.float64) * self.std + self.mean)

    def settle(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """Imputed numbers in the user's units, exact where training rows say what every value is."""
        return np.full_like(numbers, self.least) if self.is_constant and np.isfinite(self.least) else numbers

    def labelled(self, numbers: NDArray[np.float64]) -> NDArray[Any]:
        """Numbers in the user's units, with words for levels that are words and dates for days."""
        is_numeric_level = self.kind.has_levels and not self.kind.holds_words
        return numbers if is_numeric_level else self.kind.label(numbers)

    @property
    def is_nominal(self) -> bool:
        """Whether it has more than two levels without an order, so that networks see indicators instead of a number."""
        return not self.kind.has_order and len(self.kind.levels) > 2

    @property
    def points(self) -> NDArray[np.float64]:
        """Its levels, standardised, ``(levels,)``; empty if it has none."""
        return self.encode(self.kind.points)


@dataclass(frozen=True)
class Auxiliary:
    """One auxiliary column of U: a standardised number, or one indicator per level beyond the first.

    Attributes:
        name: The frame's own label.
        mean: What is subtracted from a number.
        std: What a number is divided by.
        levels: The levels, if it has any.
        other: The level that stands for any unseen one in new rows; None if such a level is an error.
        unseen: What stands for unseen ones where no training row holds ``other``: the mean of the training rows'
            indicators, since nothing was learned of another.
    """

    name: Hashable
    mean: float = 0.0
    std: float = 1.0
    levels: tuple[Any, ...] = ()
    other: Any = None
    unseen: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        _check_units(self)

    @property
    def width(self) -> int:
        """Number of columns it takes in ``aux``."""
        return max(len(self.levels) - 1, 1) if self.levels else 1

    def encode(self, values: pd.Series) -> NDArray[np.float64]:
        """Encode to ``(rows, width)``.

        Raises:
            ValueError: If a value is missing, or a level was not there when the schema was made.
        """
        if values.isna().any():
            row = row_label(values, int(values.isna().to_numpy().argmax()))
            raise ValueError(
                f"auxiliary column {self.name!r}: expected a value in every row, got none in row {row!r}; left out of"
                " auxiliary, a column with gaps is modelled and imputed"
            )
        values = plain(values)
        if not self.levels:
            return ((numbers_of(values, self.name) - self.mean) / self.std)[:, None]
        index = pd.Index(self.levels, dtype=object, tupleize_cols=False)
        codes = index.get_indexer(pd.Index(values.astype(object), dtype=object, tupleize_cols=False))
        indicators = (codes[:, None] == np.arange(1, self.width + 1)).astype(np.float64)
        if self.other is not None:
            known = index.get_indexer(pd.Index([self.other], dtype=object, tupleize_cols=False))
            of_other = np.arange(1, self.width + 1) == known[0] if known[0] >= 0 else np.array(self.unseen)
            return np.where((codes < 0)[:, None], of_other, indicators)
        if (codes < 0).any():
            at = int((codes < 0).argmax())
            expected, got, row = list(self.levels), cell(values, at), row_label(values, at)
            raise ValueError(
                f"auxiliary column {self.name!r}: expected one of {expected!r}, got {shown(got)} in row {row!r};"
                f" kinds={{{self.name!r}: Categorical(other=...)}} in training takes such for another"
            )
        return indicators


@dataclass(frozen=True)
class OtherColumn:
    """A column that is neither modelled nor conditioned on: no network sees it.

    Attributes:
        name: The frame's own label.
        role: What it is for; ``"carried"``: it stands in every completed frame, as it came.
        because: What decided that.
    """

    name: Hashable
    role: str = "carried"
    because: str = "declared"


def _check_units(column: Column | Auxiliary) -> None:
    """ValueError unless the units of a column, which a file may hold, are numbers to subtract and to divide by."""
    for one in fields(column):
        value = getattr(column, one.name)
        if one.type == "float" and not is_real(value):
            raise ValueError(f"column {column.name!r}, {one.name}: expected a number, got {shown(value)}")
    if not (np.isfinite([column.mean, column.std]).all() and column.std > 0):
        got = f"{column.mean!r} and {column.std!r}"
        raise ValueError(f"column {column.name!r}: expected a finite mean and deviation, got {got}")
