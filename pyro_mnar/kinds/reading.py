"""Reading single columns of a frame as numbers, and naming the row when one is not a number."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from numbers import Number
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_mnar.kinds.written import cure_of_words, texts_of

DAY = pd.Timedelta(days=1)
NANOSECOND_DAYS = (-106_751.0, 106_751.0)  # the whole days that a date of nanoseconds can hold
GREATEST = 1e306  # of numbers, so that spreads and draws are finite too
MICROSECONDS = 86_400_000_000  # in a day


def numbers_of(values: pd.Series, name: Hashable) -> NDArray[np.float64]:
    """The column as float64 with NaN for every kind of gap; dates as days since 1970-01-01, by the clock of their zone.

    Raises:
        ValueError: If a value is no number or not finite; names the column, the value and the row's label.
    """
    if isinstance(values.dtype, pd.CategoricalDtype):
        raise ValueError(f"column {name!r}: expected numbers, got categories {values.cat.categories.tolist()!r}")
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        # Not by subtraction: pandas 2 counts it in nanoseconds, and overflows without a word before 1677.
        moments = values.dt.tz_localize(None).to_numpy().astype("datetime64[us]")
        return np.where(np.isnat(moments), np.nan, moments.astype(np.int64) / MICROSECONDS)
    if pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_complex_dtype(values.dtype):
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan, copy=True)
    else:
        numbers = np.array([_number(value) for value in values], dtype=object)
        wrong = np.array([number is None for number in numbers])
        if wrong.any():
            # In a file, one word turns a whole column into text: name the word, not the first number beside it.
            words = wrong & pd.to_numeric(texts_of(values), errors="coerce").isna().to_numpy()
            at = int((words if words.any() else wrong).argmax())
            cure = cure_of_words(values, name, has_words=bool(words.any()))
            raise ValueError(
                f"column {name!r}: expected numbers, got {cell(values, at)!r} in row {row_label(values, at)!r} ({cure})"
            )
        numbers = numbers.astype(np.float64)
    large = np.abs(numbers) > GREATEST
    if large.any():
        at = int(large.argmax())
        value = cell(values, at)
        is_infinite = not isinstance(value, int) and np.isinf(numbers[at])
        expected = "finite numbers" if is_infinite else f"numbers of a size up to {GREATEST:g}"
        got = str(numbers[at]) if is_infinite or np.isfinite(numbers[at]) else "a larger one"
        raise ValueError(f"column {name!r}: expected {expected}, got {got} in row {row_label(values, at)!r}")
    return numbers


def numbers_of_kind(values: pd.Series, name: Hashable, kind: str) -> NDArray[np.float64]:
    """As :func:`numbers_of`, for a kind whose numbers are no days; ValueError of dates, too."""
    refuse_dates(values, name, kind)
    return numbers_of(values, name)


def refuse_dates(values: pd.Series, name: Hashable, kind: str) -> None:
    """ValueError if values are dates, where a kind expects numbers."""
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        raise ValueError(
            f"column {name!r}: expected numbers for kind {kind!r}, got dates: their kind is 'datetime'; for a number of"
            " days, subtract a date first"
        )


def are_whole(values: pd.Series) -> bool:
    """Whether numbers, none of them missing, are whole; infinity counts as such."""
    numbers = np.asarray(values)  # pandas 2 cannot round a sparse column
    return bool((numbers == np.rint(numbers)).all())


def levels_of(values: pd.Series) -> tuple[Any, ...]:
    """A column's different values in order: that of the categories, of a category dtype."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        return tuple(values.cat.remove_unused_categories().cat.categories.tolist())
    found = set(values.dropna().tolist())
    try:
        return tuple(sorted(found, key=lambda level: (str(type(level)), level)))
    except TypeError:  # of complex numbers, for one, there is no order
        return tuple(sorted(found, key=repr))


def holds_words(observed: pd.Series) -> bool:
    """Words only: one number among them makes it a number column with something wrong in it."""
    return (
        len(observed) > 0
        and pd.api.types.infer_dtype(observed, skipna=True) == "string"
        and bool(pd.to_numeric(texts_of(observed), errors="coerce").isna().all())
    )


def refuse(wrong: NDArray[np.bool_], values: pd.Series, column: Hashable, expected: str) -> None:
    """ValueError naming the first value that is wrong and its row, if there is one."""
    if wrong.any():
        at = int(wrong.argmax())
        raise ValueError(
            f"column {column!r}: expected {expected}, got {cell(values, at)!r} in row {row_label(values, at)!r}"
        )


def row_label(values: pd.Series | pd.DataFrame, at: int) -> Hashable:
    """The label of a row as plain Python, for messages."""
    return values.index[at : at + 1].tolist()[0]


def cell(values: pd.Series, at: int) -> Any:
    """One value as plain Python, for messages."""
    return values.iloc[at : at + 1].tolist()[0]


def holds_code(values: pd.Series, codes: Iterable[Any]) -> NDArray[np.bool_]:
    """Which cells hold one of some codes: True is none of 1, nor 1 of True, and text is none of a column of numbers."""
    codes = list(codes)
    truths = [code for code in codes if isinstance(code, (bool, np.bool_))]
    others = [code for code in codes if not isinstance(code, (bool, np.bool_))]
    if pd.api.types.is_bool_dtype(values.dtype):
        is_truth = np.ones(len(values), dtype=bool)
    elif values.dtype == object or isinstance(values.dtype, pd.CategoricalDtype):
        is_truth = np.array([isinstance(value, (bool, np.bool_)) for value in values.tolist()], dtype=bool)
    else:
        is_truth = np.zeros(len(values), dtype=bool)
    return (_is_in(values, truths) & is_truth) | (_is_in(values, others) & ~is_truth)


def _is_in(values: pd.Series, codes: list[Any]) -> NDArray[np.bool_]:
    if not codes:
        return np.zeros(len(values), dtype=bool)
    try:
        return values.isin(codes).to_numpy(dtype=bool)
    except (TypeError, ValueError, OverflowError, NotImplementedError):  # Arrow's columns know their own type alone
        return values.astype(object).isin(codes).to_numpy(dtype=bool)


def as_float(value: Any) -> float:
    """The number as a float, infinite if it is too large for one."""
    try:
        return float(value)
    except OverflowError:
        return np.inf if value > 0 else -np.inf


def _number(value: Any) -> float | None:
    """The value as a number, NaN for a gap, None if it is neither."""
    if value is None or value is pd.NA or value is pd.NaT:
        return np.nan
    if isinstance(value, (int, float, np.bool_, np.number)) and not isinstance(value, np.complexfloating):
        return as_float(value)
    return None


def dates_of(days: NDArray[np.float64], dtype: Any) -> pd.Series:
    """The inverse of :func:`numbers_of` for dates, to a microsecond, in a dtype of dates with or without a zone.

    A time that the clock skips moves to the next one there is; of a time that comes twice the first is meant.
    """
    zone = getattr(dtype, "tz", None)
    if getattr(dtype, "unit", None) == "ns" or dtype == np.dtype("datetime64[ns]"):
        days = np.clip(days, *NANOSECOND_DAYS)
    dates = pd.Series(np.rint(days * MICROSECONDS).astype("int64").astype("datetime64[us]"))
    if zone is not None:
        dates = dates.dt.tz_localize(zone, nonexistent="shift_forward", ambiguous=np.ones(len(dates), dtype=bool))
    return dates.astype(dtype)


def dates_of_text(values: pd.Series) -> pd.Series:
    """Text as dates; of other ways to write one, 01/02 may mean two days."""
    texts = values.astype(object).map(lambda value: str(value) if isinstance(value, Number) else value)
    dates = pd.to_datetime(texts, format="ISO8601", errors="coerce")
    wrong = (dates.isna() & values.notna()).to_numpy()
    if wrong.any():
        at = int(wrong.argmax())
        raise ValueError(
            f"column {values.name!r}: expected dates such as 2021-12-31 (kind 'datetime'), got {cell(values, at)!r} in"
            f" row {row_label(values, at)!r}"
        )
    return dates
