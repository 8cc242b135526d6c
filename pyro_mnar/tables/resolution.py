"""Whole numbers that a float does not tell apart: beyond 2**53 it knows every second one, beyond 2**60 every 256th."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import NDArray

from pyro_mnar.kinds.reading import cell

EXACT = 2.0**53  # up to here every whole number is a float
STEPS = 5  # of a float in a standard deviation, below which draws would stand on few points


def check_told_apart(values: pd.Series, numbers: Float[NDArray, " rows"], name: Hashable) -> None:
    """Refuse a column whose spread, or whose only value, a float does not hold.

    Args:
        values: The column.
        numbers: The same as floats, NaN for gaps.
        name: Its name.

    Raises:
        ValueError: Names the column, the ends of what was seen, and the cures.
    """
    seen = numbers[~np.isnan(numbers)]
    largest = float(np.abs(seen).max(initial=0.0))
    if largest < EXACT or (seen != np.rint(seen)).any():
        return
    step, observed = int(np.spacing(largest)), values.dropna()
    if seen.min() == seen.max():
        if observed.nunique() == 1 and cell(observed, 0) == int(seen[0]):
            return
    elif (seen / largest).std() * largest >= STEPS * step:  # squares of large numbers overflow
        return
    least = min(observed.tolist())
    raise ValueError(
        f"column {name!r}: expected numbers that a float tells apart, got whole numbers such as {least}, near which it"
        f" has steps of {step}: frame[{name!r}] - {least} has smaller ones, carry=[{name!r}] keeps them as they are"
    )
