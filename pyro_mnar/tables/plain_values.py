"""Names, levels and codes as JSON and back, types and all: what a frame may hold and a file can keep.

What JSON has no type for stands as a pair of a type's name and its parts, ``{"timestamp": [...]}``.
"""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pyro_mnar.messages import shown

_PLAIN = (str, int, float, bool, type(None))


class _Form(NamedTuple):
    """How values of a type are taken apart and put together."""

    type: type
    parts: Callable[[Any], list[Any]]
    whole: Callable[..., Any]


_FORMS = {
    "tuple": _Form(tuple, list, lambda *parts: tuple(parts)),
    "list": _Form(list, list, lambda *parts: list(parts)),
    "dict": _Form(dict, lambda d: [[key, value] for key, value in d.items()], lambda *pairs: dict(pairs)),
    "timestamp": _Form(
        pd.Timestamp,
        lambda t: [t.tz_localize(None).isoformat(), None if t.tz is None else str(t.tz), t.fold, t.unit],
        lambda text, zone, fold, unit: _timestamp(text, zone, fold, unit),
    ),
    "datetime": _Form(dt.datetime, lambda t: [t.isoformat()], dt.datetime.fromisoformat),
    "date": _Form(dt.date, lambda t: [t.isoformat()], dt.date.fromisoformat),
    "time": _Form(dt.time, lambda t: [t.isoformat()], dt.time.fromisoformat),
    "timedelta": _Form(
        pd.Timedelta,
        lambda d: [int(d.asm8.astype(np.int64)), d.unit],
        lambda count, unit: pd.Timedelta(np.timedelta64(count, unit)),
    ),
    "interval": _Form(pd.Interval, lambda i: [i.left, i.right, i.closed], pd.Interval),
    "period": _Form(pd.Period, lambda p: [p.ordinal, p.freqstr], lambda n, freq: pd.Period(ordinal=n, freq=freq)),
    "decimal": _Form(decimal.Decimal, lambda d: [str(d)], decimal.Decimal),
}


def to_json(value: Any, what: str) -> Any:
    """A value as JSON has it.

    Args:
        value: The value.
        what: What to call it if it cannot be kept.

    Raises:
        TypeError: If it is of no type that a file can keep and give back.
    """
    if type(value) in _PLAIN:
        return value
    if value is pd.NaT or value is pd.NA:
        return {"missing": [repr(value)]}
    if isinstance(value, np.generic) and value.dtype.kind in "biufU":
        return {"numpy": [value.dtype.str, value.item()]}
    if isinstance(value, np.generic) and value.dtype.kind in "mM":
        return {"numpy": [value.dtype.str, int(value.astype(np.int64))]}
    for name, form in _FORMS.items():
        if type(value) is form.type:
            parts = [to_json(part, what) for part in form.parts(value)]
            if from_json({name: parts}) == value:
                return {name: parts}
    raise TypeError(
        f"{what}: expected text, a number, a date, a time, an interval, a period, a Decimal or a tuple of them to save,"
        f" got {shown(value)} of type {type(value).__name__}"
    )


def from_json(data: Any) -> Any:
    """The inverse of :func:`to_json`.

    Raises:
        ValueError: If the data are not its.
    """
    if type(data) in _PLAIN:
        return data
    if isinstance(data, dict) and len(data) == 1:
        ((name, parts),) = data.items()
        if name in _FORMS:
            return _FORMS[name].whole(*map(from_json, parts))
        if name == "missing":
            return pd.NaT if parts == ["NaT"] else pd.NA
        if name == "numpy":
            dtype = np.dtype(parts[0])
            return np.int64(parts[1]).astype(dtype) if dtype.kind in "mM" else dtype.type(parts[1])
    raise ValueError(f"expected plain data, got {shown(data)}")


def _timestamp(text: str, zone: str | None, fold: int, unit: str) -> pd.Timestamp:
    naive = pd.Timestamp(text).as_unit(unit)
    return naive if zone is None else naive.replace(fold=fold).tz_localize(zone, ambiguous=not fold)
