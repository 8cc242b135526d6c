"""What a column's dtype holds, as plain pandas: dates, exact numbers, durations and dictionaries of whichever origin.

Databases and Parquet files give dates and amounts as objects or as Arrow's.  Kinds read plain columns alone (numbers,
booleans, dates, text, categories), so that none of them need know where a column came from.
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import NDArray

from pyro_mnar.kinds.reading import DAY, as_float, dates_of, row_label

GREATEST_DENOMINATOR = 1_000_000  # of an imputed fraction


def plain(values: pd.Series) -> pd.Series:
    """The same values in a dtype that kinds read; the column itself if it has one.

    Decimals and fractions become floats, durations days, dates of any origin pandas' own, dictionaries categories.
    """
    dtype = values.dtype
    if isinstance(dtype, pd.ArrowDtype):
        return _of_arrow(values, dtype)
    if pd.api.types.is_timedelta64_dtype(dtype):
        return values / DAY
    return _of_objects(values) if pd.api.types.is_object_dtype(dtype) else values


def restored(numbers: Float[NDArray, " cells"], values: pd.Series) -> Any:
    """Numbers as a column holds them whose plain form is another: an array of its dtype.

    Args:
        numbers: In the units of the plain column.
        values: The column.
    """
    kept = plain(values)
    if pd.api.types.is_datetime64_any_dtype(kept.dtype):
        dates = dates_of(numbers, kept.dtype)
        kinds = {type(value) for value in values[values.notna()].tolist()}
        if dt.datetime in kinds:
            return _objects([date.to_pydatetime() for date in dates.tolist()])
        is_date = kinds <= {dt.date}
        return _in_dtype(dates.dt.date.tolist() if is_date else dates.tolist(), values.dtype)
    first = next((value for value in values.tolist() if not pd.isna(value)), None)
    if isinstance(first, dt.timedelta | np.timedelta64):
        return _in_dtype((pd.Series(numbers) * DAY).tolist(), values.dtype)
    if any(isinstance(value, Fraction) for value in values.tolist()):
        return _objects([Fraction(number).limit_denominator(GREATEST_DENOMINATOR) for number in numbers.tolist()])
    if any(isinstance(value, Decimal) for value in values.tolist()):
        return _in_dtype([_decimal(number, values) for number in numbers.tolist()], values.dtype)
    return _in_dtype(numbers.astype(np.float16).tolist(), values.dtype)


def holds_exact_numbers(values: pd.Series) -> bool:
    """Whether these are decimals or fractions, among which a mean has no place."""
    kept = plain(values)
    is_number = kept is not values and pd.api.types.is_numeric_dtype(kept.dtype)
    return is_number and any(isinstance(value, Decimal | Fraction) for value in values.tolist())


def digits_of(dtype: Any) -> int | None:
    """Digits behind the point that a dtype of decimals keeps; None for another dtype."""
    return getattr(dtype.pyarrow_dtype, "scale", None) if isinstance(dtype, pd.ArrowDtype) else None


def _of_arrow(values: pd.Series, dtype: pd.ArrowDtype) -> pd.Series:
    import pyarrow as pa
    from pyarrow import types

    arrow = dtype.pyarrow_dtype
    awkward = (types.is_temporal, types.is_decimal, types.is_dictionary, types.is_float16)
    if types.is_time(arrow) or not any(is_one(arrow) for is_one in awkward):
        return values
    if types.is_float16(arrow):
        return pd.Series(values.to_numpy(dtype=np.float64, na_value=np.nan), index=values.index, name=values.name)
    read = pa.array(values.array).to_pandas(date_as_object=False)
    return plain(pd.Series(read.array, index=values.index, name=values.name))


def _of_objects(values: pd.Series) -> pd.Series:
    _refuse_signals(values)
    what = pd.api.types.infer_dtype(values, skipna=True)
    if what in ("date", "datetime"):
        return _of_dates(values)
    if what in ("timedelta", "timedelta64"):
        return _at(values, pd.Series(pd.to_timedelta(values.tolist())) / DAY)
    if what in ("decimal", "mixed", "mixed-integer"):
        known = values[values.notna()].tolist()
        are_numbers = all(isinstance(value, int | float | Decimal | Fraction | np.number) for value in known)
        if are_numbers and any(isinstance(value, Decimal | Fraction) for value in known):
            numbers = [np.nan if pd.isna(value) else as_float(value) for value in values.tolist()]
            return _at(values, pd.Series(numbers, dtype=np.float64))
    return values


def _of_dates(values: pd.Series) -> pd.Series:
    """Objects that are dates, by the clock of their zone, which has to be one for all."""
    dates = [None if pd.isna(value) else value for value in values.tolist()]
    zones = [None if date is None else str(getattr(date, "tzinfo", None)) for date in dates]
    first = next(at for at, date in enumerate(dates) if date is not None)
    other = next((at for at, zone in enumerate(zones) if zone not in (None, zones[first])), None)
    if other is not None:
        told = " and ".join(f"{zones[at]} in row {row_label(values, at)!r}" for at in (first, other))
        raise ValueError(
            f"column {values.name!r}: expected dates of one time zone or none, got {told.replace('None', 'no zone')}"
            f" (dates of one zone: pandas.to_datetime(frame[{values.name!r}], utc=True))"
        )
    if (zone := getattr(dates[first], "tzinfo", None)) is not None:
        return _at(values, pd.Series(dates, dtype=pd.DatetimeTZDtype("us", zone)))
    moments = [None if date is None else np.datetime64(date.isoformat(), "us") for date in dates]
    return _at(values, pd.Series(moments, dtype="datetime64[us]"))


def _refuse_signals(values: pd.Series) -> None:
    """A Decimal that signals is an error in whatever touches it."""
    for at, value in enumerate(values.tolist()):
        if isinstance(value, Decimal) and value.is_snan():
            label = row_label(values, at)
            raise ValueError(f"column {values.name!r}: expected numbers, got Decimal('sNaN') in row {label!r}")


def _at(values: pd.Series, read: pd.Series) -> pd.Series:
    return pd.Series(read.array, index=values.index, name=values.name)


def _decimal(number: float, values: pd.Series) -> Decimal:
    """The nearest decimal of as many digits as the column has, inside the precision of its dtype."""
    digits = digits_of(values.dtype)
    if digits is None:
        known = [value for value in values.tolist() if isinstance(value, Decimal) and value.is_finite()]
        digits = max(-int(value.as_tuple().exponent) for value in known)
    found = Decimal(repr(number)).quantize(Decimal(1).scaleb(-digits))
    precision = getattr(getattr(values.dtype, "pyarrow_dtype", None), "precision", None)
    if precision is None:
        return found
    greatest = Decimal(10) ** (precision - digits) - Decimal(1).scaleb(-digits)
    return min(max(found, -greatest), greatest)


def _in_dtype(entries: list[Any], dtype: Any) -> Any:
    return _objects(entries) if pd.api.types.is_object_dtype(dtype) else pd.array(entries, dtype=dtype)


def _objects(entries: Any) -> NDArray[Any]:
    found = np.empty(len(entries), dtype=object)
    found[:] = list(entries)
    return found
