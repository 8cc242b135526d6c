"""Reading frames: which columns there are, which cells are gaps, and which codes say why."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from pyro_mnar.kinds.dtypes import plain
from pyro_mnar.kinds.reading import cell, holds_code, row_label
from pyro_mnar.messages import has_parts, shown
from pyro_mnar.tables.columns import check_label
from pyro_mnar.tables.schema import Schema

REASONS = ("na_values", "not_applicable", "by_design")  # for a gap, of which codes may tell
Cells = Mapping[Hashable, Any]  # per column one code, several codes, or a boolean per row


def check_frame(frame: pd.DataFrame, auxiliary: Any, carry: Any = ()) -> None:
    """Raise unless it is a frame with rows and columns, each name once, and ``auxiliary`` no stray word."""
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"expected a pandas DataFrame, got {type(frame).__name__}")
    is_list = auxiliary is None or (has_parts(auxiliary) and not isinstance(auxiliary, str))
    if not is_list and not (isinstance(auxiliary, str) and auxiliary == "mask"):
        raise TypeError(f"auxiliary: expected a list of column names or 'mask', got {shown(auxiliary)}")
    if isinstance(carry, str) or not has_parts(carry):
        raise TypeError(f"carry: expected a list of column names, got {shown(carry)}")
    for name in () if auxiliary is None or isinstance(auxiliary, str) else auxiliary:
        if not isinstance(name, Hashable):
            raise ValueError(f"auxiliary, column {name!r}: expected one of {list(frame.columns)!r}")
    if not len(frame.columns):
        raise ValueError("expected at least one column, got none")
    if not len(frame):
        raise ValueError("expected at least one row, got none")
    check_labels(frame.columns)


def check_labels(names: pd.Index) -> None:
    """ValueError where two columns have one name, as 1 and 1.0 are, or one has a boolean for a name."""
    for name in names:
        check_label(name)
    repeated = names[names.duplicated()]
    if len(repeated):
        raise ValueError(f"column {repeated[0]!r}: expected each name once, got it {sum(names == repeated[0])} times")


def read_once(given: Any) -> Any:
    """An iterator as a list, since names are gone through more than once; anything else as it is."""
    return list(given) if isinstance(given, Iterator) else given


def check_types(standardize: Any, schema: Any, dtype: Any) -> None:
    """TypeError for options that are nothing of the kind."""
    marks = standardize.values() if isinstance(standardize, Mapping) else [standardize]
    for mark in marks:
        if not isinstance(mark, (bool, np.bool_)):
            raise TypeError(f"standardize: expected True, False, or a mapping from columns to these, got {shown(mark)}")
    if schema is not None and not isinstance(schema, Schema):
        raise TypeError(f"schema: expected that of a table, such as table.schema, got {type(schema).__name__}")
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise TypeError(f"dtype: expected a floating type such as torch.float32, got {shown(dtype)}")


def match_columns(frame: pd.DataFrame, schema: Schema) -> None:
    """Raise ValueError unless new rows have the training table's columns, in any order; others are carried through."""
    expected = list(dict.fromkeys([*(auxiliary.name for auxiliary in schema.auxiliaries), *schema.names]))
    for name in expected:
        if name not in frame.columns:
            raise ValueError(f"column {name!r}: expected as in the training table, got columns {list(frame.columns)!r}")


def by_column(cells: Cells | None, reason: str) -> dict[Hashable, Any]:
    """What was given of cells, by column; TypeError for anything but a mapping."""
    if cells is not None and not isinstance(cells, Mapping):
        raise TypeError(f"{reason}: expected a mapping from columns to codes, got {type(cells).__name__}")
    return dict(cells or {})


def known_codes(
    frame: pd.DataFrame, given: Mapping[str, Mapping[Hashable, Any]]
) -> tuple[tuple[str, Hashable, tuple[Any, ...]], ...]:
    """The codes among the reasons given, with a warning for columns in which none of them stands."""
    known = []
    for reason, cells in given.items():
        for name, entries in cells.items():
            codes = tuple(getattr(entry, "item", lambda entry=entry: entry)() for entry in _codes(entries))
            if not codes or _are_marks(codes):
                continue
            known.append((reason, name, codes))
            if not holds_code(frame[name], codes).any():
                warnings.warn(f"{reason} of column {name!r}: none of {list(codes)!r} stands in any row", stacklevel=4)
    return tuple(known)


def codes_by_column(given: Mapping[str, Cells | None]) -> dict[Hashable, list[Any]]:
    """All codes of a column, whatever their reason."""
    codes: dict[Hashable, list[Any]] = {}
    for cells in given.values():
        for name, entries in (cells or {}).items():
            listed = _codes(entries)
            codes.setdefault(name, []).extend([] if _are_marks(listed) else listed)
    return codes


def _are_marks(entries: Sequence[Any]) -> bool:
    return bool(entries) and all(isinstance(entry, (bool, np.bool_)) for entry in entries)


def read_gaps(
    frame: pd.DataFrame,
    na_values: Mapping[Hashable, Any],
    not_applicable: Cells,
    by_design: Cells,
) -> tuple[pd.DataFrame, pd.DataFrame, dict[Hashable, tuple[NDArray[np.bool_], NDArray[np.bool_]]]]:
    """The frame in plain dtypes with every coded cell a gap, the codes, and per column which gaps have which reason."""
    for name in (*na_values, *not_applicable, *by_design):
        if name not in frame.columns:
            raise ValueError(f"column {name!r}: expected one of {list(frame.columns)!r}")
    gaps, codes, absent = in_plain_dtypes(frame), {}, {}
    for name in dict.fromkeys([*na_values, *not_applicable, *by_design]):
        values = gaps[name]
        missing = values.isna().to_numpy() | holds_code(values, _codes(na_values.get(name, ())))
        inapplicable = _cells(values, missing, not_applicable.get(name, ()), "not_applicable")
        designed = _cells(values, missing, by_design.get(name, ()), "by_design")
        coded = (missing | inapplicable | designed) & values.notna().to_numpy()
        if name in na_values:
            codes[name] = values.astype(object).where(coded)
        if inapplicable.any() or designed.any():
            absent[name] = (inapplicable, designed)
        if coded.any():
            masked = values.mask(coded)
            if isinstance(values.dtype, pd.CategoricalDtype):  # a code is no level, seen or not
                masked = masked.cat.remove_categories(set(values[coded]) - set(values[~coded]))
            gaps[name] = masked
    return gaps, pd.DataFrame(codes, index=frame.index), absent


def in_plain_dtypes(frame: pd.DataFrame) -> pd.DataFrame:
    """The same frame, its columns as :func:`~pyro_mnar.kinds.dtypes.plain` has them."""
    found = frame.copy(deep=False)
    for at, name in enumerate(frame.columns):
        values = plain(frame[name])
        if values is not frame[name]:
            found.isetitem(at, values)
    return found


def _cells(values: pd.Series, missing: NDArray[np.bool_], given: Any, what: str) -> NDArray[np.bool_]:
    """A boolean per row, from booleans or from codes; booleans may only mark gaps."""
    entries = _codes(given)
    if not _are_marks(entries):
        if len(entries) == len(values) > 2 and pd.Series(entries, dtype=object).dropna().isin([0, 1]).all():
            raise ValueError(
                f"{what} of column {values.name!r}: expected booleans without gaps, or codes, got 0s and 1s"
            )
        return holds_code(values, entries)
    if len(entries) != len(values):
        raise ValueError(f"{what} of column {values.name!r}: expected {len(values)} booleans, got {len(entries)}")
    marked = np.array(entries, dtype=bool)
    seen = marked & ~missing
    if seen.any():
        at = int(seen.argmax())
        label, value = row_label(values, at), cell(values, at)
        raise ValueError(f"{what} of column {values.name!r}: expected a gap in row {label!r}, got {shown(value)}")
    return marked


def _codes(given: Any) -> list[Any]:
    """Codes as a list, from one code or several."""
    return [given] if pd.api.types.is_scalar(given) else list(given)
