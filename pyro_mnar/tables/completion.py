"""Frames with their gaps filled, in their own dtypes, index and column order; other cells keep their bits."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from typing import Any, cast

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy.typing import NDArray

from pyro_mnar.kinds.dtypes import digits_of, holds_exact_numbers, plain, restored
from pyro_mnar.kinds.reading import dates_of, holds_code, numbers_of
from pyro_mnar.tables.columns import Column
from pyro_mnar.tables.schema import Schema


def completed(
    frame: pd.DataFrame,
    schema: Schema,
    cells: Int[NDArray, "2 cells"],
    values: Float[NDArray, " cells"],
    *,
    keep_integers: bool,
) -> pd.DataFrame:
    """The frame with numbers, in the user's units, in some of its cells.

    Args:
        frame: The user's frame.
        schema: Its columns.
        cells: Row and column position of each cell.
        values: What goes there; of words, the levels' positions.
        keep_integers: Whether columns of whole numbers stay whole; if not they become floating.
    """
    rows, columns = cells
    filled: dict[Hashable, pd.Series] = {}
    for position in np.unique(columns):
        here = columns == position
        column = schema.columns[position]
        name = column.name
        if _takes_levels(column, frame[name]):
            filled[name] = _with_levels(frame[name], rows[here], column.kind.label(values[here]))
        else:
            filled[name] = _filled(frame[name], rows[here], values[here], keep_integers)
    done = frame.copy(deep=False)  # with the frame's attributes; every other column is the frame's own
    for at, name in enumerate(frame.columns):
        if name in filled:
            done.isetitem(at, filled[name])
    return done


def with_derived(
    completed: pd.DataFrame,
    frame: pd.DataFrame,
    schema: Schema,
    given: Mapping[Hashable, Float[NDArray, " rows"]],
    *,
    keep_integers: bool,
) -> pd.DataFrame:
    """A completed frame with the values of derived columns in their gaps.

    Args:
        completed: The frame.
        frame: The user's frame.
        schema: Its columns.
        given: What formulas give, by column; NaN where nothing follows.
        keep_integers: As in :func:`completed`.
    """
    done = completed.copy(deep=False)
    for name, numbers in given.items():
        held = plain(frame[name])
        unseen = held.isna().to_numpy() | holds_code(held, schema.codes_of("na_values").get(name, ()))
        rows = np.flatnonzero(unseen & ~np.isnan(numbers))
        if len(rows):
            at = frame.columns.get_loc(name)
            done.isetitem(at, _filled(frame[name], rows, numbers[rows], keep_integers))
    return done


def without_value(frame: pd.DataFrame, schema: Schema, position: int, rows: Int[NDArray, " rows"]) -> pd.DataFrame:
    """A completed frame in which some cells of a column have no value: gaps, or the column's code that says so."""
    name = schema.columns[position].name
    codes = schema.codes_of("not_applicable").get(name, ())
    is_here = np.zeros(len(frame), dtype=bool)
    is_here[rows] = True
    values = frame[name].mask(is_here, codes[0]) if codes else frame[name].mask(is_here)
    done = frame.copy(deep=False)
    done.isetitem(frame.columns.get_loc(name), values)
    return done


def with_gaps_for(frame: pd.DataFrame, codes: Mapping[Hashable, Collection[Any]]) -> pd.DataFrame:
    """A completed frame as an analysis is to see it: a code for "no value" is no number to compute with.

    Args:
        frame: The frame; it stays as it is.
        codes: By column, what stands for no value.
    """
    done = frame.copy(deep=False)
    for name in codes.keys() & {*frame.columns}:
        has_none = holds_code(frame[name], codes[name])
        if has_none.any():
            kept = frame[name].mask(has_none)
            # Formulas know no other gap of numbers than NaN.
            is_number = pd.api.types.is_numeric_dtype(kept.dtype) and not pd.api.types.is_bool_dtype(kept.dtype)
            done.isetitem(frame.columns.get_loc(name), kept.astype(np.float64) if is_number else kept)
    return done


def as_held(numbers: Float[NDArray, "*shape"], dtype: Any) -> Float[NDArray, "*shape"]:
    """Numbers as a column of this dtype gives them back."""
    numpy_dtype = getattr(dtype, "numpy_dtype", dtype)
    digits = digits_of(dtype)
    if digits is not None:
        return np.round(numbers, digits)
    if pd.api.types.is_integer_dtype(dtype):
        limits = np.iinfo(numpy_dtype)
        return np.clip(np.rint(numbers), limits.min, limits.max)
    if pd.api.types.is_datetime64_any_dtype(dtype):
        return numbers_of(dates_of(numbers.ravel(), dtype), None).reshape(numbers.shape)
    if isinstance(numpy_dtype, np.dtype) and numpy_dtype.kind == "f":
        return numbers.astype(numpy_dtype).astype(np.float64)
    return numbers


def _takes_levels(column: Column, values: pd.Series) -> bool:
    """Whether gaps are filled with levels and not with numbers."""
    is_category = isinstance(plain(values).dtype, pd.CategoricalDtype)
    return column.kind.has_levels and (is_category or column.kind.holds_words)


def _with_levels(values: pd.Series, rows: NDArray[np.int_], levels: NDArray[Any]) -> pd.Series:
    completed = values.copy()
    if isinstance(values.dtype, pd.ArrowDtype) and isinstance(plain(values).dtype, pd.CategoricalDtype):
        entries = values.astype(object)  # pandas cannot put values into Arrow's dictionaries
        entries.iloc[rows] = levels
        return entries.astype(values.dtype)
    is_number = pd.api.types.is_numeric_dtype(values.dtype)
    completed.iloc[rows] = pd.array(levels.tolist(), dtype=values.dtype) if is_number else levels
    return completed


def _filled(values: pd.Series, rows: NDArray[np.int_], numbers: NDArray[np.float64], keep_integers: bool) -> pd.Series:
    """The column with numbers in some of its cells; the other cells keep their bits."""
    dtype, new = values.dtype, cast(NDArray[Any], numbers)
    held = plain(values)
    if held is not values:
        if not keep_integers and holds_exact_numbers(values):
            values = held  # a mean has more digits
        else:
            new = restored(numbers, values)
        completed = values.copy()
        completed.iloc[rows] = new
        return completed
    floating = "Float64" if pd.api.types.is_extension_array_dtype(dtype) else np.float64
    if pd.api.types.is_bool_dtype(dtype) or pd.api.types.infer_dtype(values, skipna=True) == "boolean":
        if keep_integers:
            new = new > 0.5
        else:  # an object column of booleans has gaps that only the nullable dtypes take
            values = values.astype("boolean").astype("Float64") if dtype.kind == "O" else values.astype(floating)
    elif isinstance(dtype, pd.StringDtype):  # words would not have been read as numbers: it has none
        values = values.astype(np.float64)
    elif pd.api.types.is_datetime64_any_dtype(dtype):
        new = dates_of(numbers, dtype).array
    elif pd.api.types.is_integer_dtype(dtype):
        if keep_integers:
            new = _whole(new, getattr(dtype, "numpy_dtype", dtype))
        else:
            values = values.astype(floating)
    elif isinstance(dtype, np.dtype) and dtype.kind == "f":
        new = new.astype(dtype)
    elif keep_integers and pd.api.types.infer_dtype(values, skipna=True) == "integer":  # as objects
        new = np.array([int(number) for number in np.rint(new)], dtype=object)
    completed = values.sparse.to_dense() if isinstance(dtype, pd.SparseDtype) else values.copy()
    completed.iloc[rows] = new
    return completed.astype(dtype) if isinstance(dtype, pd.SparseDtype) else completed


def _whole(numbers: NDArray[np.float64], dtype: Any) -> NDArray[Any]:
    """Nearest whole numbers that the dtype can hold: a small unsigned integer has no room for a draw below zero."""
    limits = np.iinfo(dtype)
    return np.array([min(max(int(number), limits.min), limits.max) for number in np.rint(numbers)], dtype=dtype)
