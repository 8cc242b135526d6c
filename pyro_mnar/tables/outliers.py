"""Single values far from all others: one of a million among five hundred widens all draws, and may be a slip."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from pyro_mnar.kinds.reading import row_label

FEWEST = 30  # numbers that can show what is far from them
SHARE = 0.005  # of the numbers, at most so many of which are taken for outliers
FAR = (
    30.0  # standard deviations of the others from their median; of a t distribution with three degrees of freedom, one
)
# in a hundred thousand lies so far


class Outlier(NamedTuple):
    """The farthest of a column's values.

    Attributes:
        row: Label of its row.
        value: It, in the user's units.
        distance: In standard deviations of the other values.
        count: How many there are like it.
    """

    row: Hashable
    value: float
    distance: float
    count: int

    def told(self, column: Hashable, cure: str) -> str:
        """What a warning says."""
        more = f" (and {self.count - 1} more)" if self.count > 1 else ""
        return (
            f"column {column!r}: {self.value:g} in row {self.row!r}{more} lies {self.distance:,.0f} standard deviations"
            f" of the other values from them, and widens what is drawn: {cure}"
        )


def far_values(numbers: Float[NDArray, " numbers"]) -> tuple[Bool[NDArray, " numbers"], float]:
    """Which finite numbers lie far from the others, and what the distance of the farthest is; none of few numbers."""
    far = np.zeros(len(numbers), dtype=bool)
    if len(numbers) < FEWEST:
        return far, 0.0
    scale = float(np.abs(numbers).max()) or 1.0  # squares of large numbers overflow
    away = np.abs(numbers / scale - np.median(numbers / scale))
    most = math.ceil(SHARE * len(numbers))
    rest = numbers[away <= np.partition(away, -most - 1)[-most - 1]] / scale
    spread = float(rest.std())
    if spread == 0.0:  # all the others are the same: nothing says what is far
        return far, 0.0
    far = away > FAR * spread
    return far, float(away.max() / spread)


def outlier_of(values: pd.Series, numbers: Float[NDArray, " rows"], on_line: Float[NDArray, " rows"]) -> Outlier | None:
    """The farthest value of a column, if it lies far from the others.

    Args:
        values: The column.
        numbers: The same in the user's units, NaN for gaps.
        on_line: The same on the scale on which the column is modelled.
    """
    seen = np.flatnonzero(~np.isnan(on_line))
    far, distance = far_values(on_line[seen])
    if not far.any():
        return None
    at = int(seen[np.abs(on_line[seen] - np.median(on_line[seen])).argmax()])
    return Outlier(row_label(values, at), float(numbers[at]), distance, int(far.sum()))
