"""Reading single columns of a frame as numbers, and naming the row when one is not a number."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def numbers_of(values: pd.Series, name: Hashable) -> NDArray[np.float64]:
    """The column as float64 with NaN for every kind of gap.

    Raises:
        ValueError: If a value is no number or not finite; names the column, the value and the row's label.
    """
    if pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_complex_dtype(values.dtype):
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan, copy=True)
    else:
        numbers = np.array([_number(value, name, row) for row, value in values.items()], dtype=np.float64)
    infinite = np.isinf(numbers)
    if infinite.any():
        at = int(infinite.argmax())
        raise ValueError(f"column {name!r}: expected finite numbers, got {numbers[at]} in row {values.index[at]!r}")
    return numbers


def _number(value: Any, name: Hashable, row: Hashable) -> float:
    if value is None or value is pd.NA or value is pd.NaT:
        return np.nan
    if isinstance(value, (int, float, np.number)) and not isinstance(value, np.complexfloating):
        return float(value)
    raise ValueError(f"column {name!r}: expected numbers, got {value!r} in row {row!r}")
