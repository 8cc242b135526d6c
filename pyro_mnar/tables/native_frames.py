"""Frames of other makes (polars, Arrow tables, whatever narwhals reads): to plain pandas columns, and completed back.

Only columns in which something was filled are made anew, and in these only the cells that were filled; all others are
the frame's own.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int
from numpy.typing import NDArray


def is_frame(given: Any) -> bool:
    """Whether it is a pandas frame, or an eager one of another make."""
    return isinstance(given, pd.DataFrame) or _narwhals_of(given) is not None


def as_pandas(given: Any) -> tuple[pd.DataFrame, Any]:
    """A frame's values in pandas' columns, and the frame of another make that they are of; None if it is pandas' own.

    Whole numbers and booleans become nullable, dates ``datetime64``, text objects, enumerations ordered categories.

    Raises:
        TypeError: If it is no eager frame.
    """
    if isinstance(given, pd.DataFrame):
        return given, None
    native = _narwhals_of(given)
    if native is None:
        raise TypeError(f"expected a pandas DataFrame, got {type(given).__name__}{_cure(given)}")
    columns = {at: _column(series) for at, series in enumerate(native.iter_columns())}
    frame = pd.DataFrame(columns, index=pd.RangeIndex(len(native)))
    frame.columns = pd.Index(native.columns, dtype=object)
    return frame, native


def as_native(native: Any, frame: pd.DataFrame, done: pd.DataFrame, names: Collection[Hashable]) -> Any:
    """The frame of another make with a completed frame's values where they differ.

    Args:
        native: The frame, as narwhals has it.
        frame: The same in pandas.
        done: The completed frame.
        names: Columns in which something may have been filled.
    """
    filled = []
    for name in frame.columns:
        if name in names:
            before, after = frame[name].astype(object), done[name].astype(object)
            same = (before.isna() & after.isna()) | (before == after).fillna(False).astype(bool)
            rows = np.flatnonzero(~same.to_numpy())
            if len(rows):
                filled.append(_filled(native, native[name], rows, done[name]))
    return (native.with_columns(*filled) if filled else native).to_native()


def _narwhals_of(given: Any) -> Any:
    """A frame as narwhals has it; None if it is none, or narwhals is not there."""
    if isinstance(given, (pd.DataFrame, pd.Series, np.ndarray, list, dict, tuple, str)) or given is None:
        return None
    try:
        import narwhals as nw

        return nw.from_native(given, eager_only=True)
    except (ImportError, TypeError):
        return None


def _cure(given: Any) -> str:
    if hasattr(given, "collect"):
        return ", whose collect() gives an eager frame, which is taken too"
    if type(given).__module__.partition(".")[0] in ("polars", "pyarrow", "modin", "cudf"):
        return "; pip install narwhals"
    return ""


def _column(series: Any) -> pd.Series:
    import narwhals as nw

    dtype = series.dtype
    if dtype.is_float():
        return pd.Series(series.to_numpy())
    if dtype.is_integer() or dtype == nw.Boolean:
        missing = series.is_null().to_numpy().astype(bool)
        values = series.fill_null(False if dtype == nw.Boolean else 0).to_numpy()
        of_values = pd.arrays.BooleanArray if dtype == nw.Boolean else pd.arrays.IntegerArray
        return pd.Series(of_values(values.copy(), missing.copy()))
    if isinstance(dtype, nw.Enum) or dtype == nw.Categorical:
        words = pd.Series(series.cast(nw.String).to_list(), dtype=object)
        if isinstance(dtype, nw.Enum):
            return words.astype(pd.CategoricalDtype(list(dtype.categories), ordered=True))
        return words.astype("category")
    if dtype == nw.Date:
        return pd.Series(series.to_numpy().astype("datetime64[s]"))
    if isinstance(dtype, nw.Datetime):
        zone = dtype.time_zone
        if zone is None:
            return pd.Series(series.to_numpy())
        naive = series.dt.convert_time_zone("UTC").dt.replace_time_zone(None).to_numpy()
        return pd.Series(naive).dt.tz_localize("UTC").dt.tz_convert(zone)
    if isinstance(dtype, nw.Duration):
        return pd.Series(series.to_numpy())
    return pd.Series(series.to_list(), dtype=object)  # text, decimals, and what is only carried


def _filled(native: Any, series: Any, rows: Int[NDArray, " rows"], done: pd.Series) -> Any:
    """A series with a completed column's values in some of its cells; a mean turns whole numbers to floating ones."""
    import narwhals as nw

    dtype, new = series.dtype, done.iloc[rows]
    if (dtype.is_integer() or dtype.is_decimal() or dtype == nw.Boolean) and pd.api.types.is_float_dtype(done.dtype):
        series = series.cast(nw.Float64)
        dtype = nw.Float64()
    if isinstance(dtype, nw.Datetime):
        unit = f"datetime64[{dtype.time_unit}]"
        moments = new.dt.tz_convert("UTC").dt.tz_localize(None) if dtype.time_zone else new
        values = _series(native, series.name, moments.to_numpy().astype(unit), nw.Datetime(dtype.time_unit))
        if dtype.time_zone:
            values = values.dt.replace_time_zone("UTC").dt.convert_time_zone(dtype.time_zone)
    elif dtype == nw.Date:
        days = [None if pd.isna(value) else value.date() for value in new.tolist()]
        values = _series(native, series.name, days, dtype)
    elif isinstance(dtype, nw.Duration):
        values = _series(native, series.name, new.to_numpy().astype(f"timedelta64[{dtype.time_unit}]"), dtype)
    elif dtype == nw.Decimal:
        everything = np.array(series.to_list(), dtype=object)
        everything[rows] = [None if pd.isna(value) else value for value in new.tolist()]
        return nw.from_native(_decimals(series, everything.tolist()), series_only=True).alias(series.name)
    else:
        given = [None if pd.isna(value) else value for value in new.tolist()]
        words = isinstance(dtype, nw.Enum) or dtype == nw.Categorical
        values = _series(native, series.name, given, nw.String() if words else dtype).cast(dtype)
    if dtype == nw.Categorical:  # whose scatter knows no other dictionary
        everything = np.array(series.cast(nw.String).to_list(), dtype=object)
        everything[rows] = values.cast(nw.String).to_list()
        return _series(native, series.name, everything.tolist(), nw.String()).cast(dtype)
    if series.implementation.is_pyarrow():  # which has strings of two lengths, and scatters none among the others
        values = nw.from_native(values.to_native().cast(series.to_native().type), series_only=True)
    return series.scatter(rows.tolist(), values)


def _decimals(series: Any, values: list[Any]) -> Any:
    """Decimals in the dtype of a series of polars or Arrow; narwhals 2.0 makes none, polars 1.30 scatters none."""
    before = series.to_native()
    if series.implementation.is_polars():
        return type(before)(series.name, values, dtype=before.dtype, strict=False)
    import pyarrow as pa

    return pa.chunked_array([pa.array(values, type=before.type)])


def _series(native: Any, name: str, values: Any, dtype: Any) -> Any:
    import narwhals as nw

    return nw.new_series(name, values, dtype, backend=native.implementation)
