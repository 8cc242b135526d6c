"""Files of SPSS and Stata: numbers with labels, and codes that the file itself calls missing.

A variable all of whose values have labels is one of levels, by the labels; in SPSS of ordinal measure they are in their
order.  Labels of single codes, such as -99 for "refused", stay with numbers.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int
from numpy.typing import NDArray

from pyro_mnar.messages import is_real
from pyro_mnar.tables.frame_files import filled_rows


@dataclass(frozen=True)
class LabelledFile:
    """A file of SPSS or Stata.

    Attributes:
        path: The file.
        raw: Its values as they are stored.
        told: What it says of its variables, as pyreadstat has it.
        frame: Its values, labels in place of the numbers of levels.
        labels: Of variables of levels, the label of each number.
        na_values: Codes that the file calls missing, by column.
    """

    path: Path
    raw: pd.DataFrame = field(repr=False)
    told: Any = field(repr=False)
    frame: pd.DataFrame = field(repr=False)
    labels: Mapping[Hashable, Mapping[Any, Any]] = field(repr=False)
    na_values: Mapping[Hashable, list[Any]] = field(default_factory=dict)

    def written(
        self, completed: pd.DataFrame, imputed: Mapping[Hashable, Int[NDArray, " cells"]], levels: Collection[Hashable]
    ) -> bytes:
        """The file with a completed frame's values in its gaps, with its labels, formats and missing codes."""
        done = self.raw.copy()
        for name in self.frame.columns:
            rows = filled_rows(self.frame[name], completed[name])
            if not len(rows):
                continue
            numbers = {label: number for number, label in self.labels.get(name, {}).items()}
            values = [None if pd.isna(value) else _plain(value) for value in completed[name].iloc[rows].tolist()]
            values = [numbers.get(value, value) for value in values] if numbers else values
            is_number = pd.api.types.is_numeric_dtype(done[name].dtype)
            column = done[name].copy() if is_number else done[name].astype(object)
            column.iloc[rows] = [np.nan if value is None else value for value in values] if is_number else values
            done[name] = column
        return self._bytes(done)

    def _bytes(self, frame: pd.DataFrame) -> bytes:
        import pyreadstat

        told, suffix = self.told, self.path.suffix.lower()
        options: dict[str, Any] = {
            "file_label": told.file_label or "",
            "column_labels": dict(told.column_names_to_labels),
            "variable_value_labels": told.variable_value_labels,
            "variable_format": told.original_variable_types,
        }
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / f"written{suffix}"
            if suffix == ".dta":
                numeric = {n: d for n, d in told.variable_value_labels.items() if n in frame}
                options["variable_value_labels"] = numeric
                missing = {n: codes for n, codes in told.missing_user_values.items() if frame[n].isin(codes).any()}
                for name in told.missing_user_values:
                    if name not in missing:
                        frame[name] = frame[name].astype(np.float64)
                pyreadstat.write_dta(frame, place, missing_user_values=missing, **options)
            else:
                ranges = {name: [_range(one) for one in found] for name, found in told.missing_ranges.items()}
                pyreadstat.write_sav(
                    frame,
                    place,
                    compress=suffix == ".zsav",
                    note=told.notes or None,
                    missing_ranges=ranges,
                    variable_measure=told.variable_measure,
                    variable_display_width=told.variable_display_width,
                    **options,
                )
            return place.read_bytes()


def read(path: Path) -> LabelledFile:
    """Read a file of SPSS or Stata, codes that stand for a missing value as they are."""
    import pyreadstat

    reader = pyreadstat.read_dta if path.suffix.lower() == ".dta" else pyreadstat.read_sav
    read_file: Any = reader(path, user_missing=True)
    raw, told = read_file
    frame, labels, na_values = {}, {}, {}
    for at, name in enumerate(raw.columns):
        of_column = told.variable_value_labels.get(name, {})
        codes = _missing_codes(raw[name], name, told)
        found = _values(raw[name])
        levels = _levels(found, of_column, codes)
        if levels:
            labels[name] = levels
            is_ordered = told.variable_measure.get(name) == "ordinal"
            frame[at] = _as_levels(found, levels, codes, is_ordered=is_ordered)
            codes = [levels.get(code, code) for code in codes]
        else:
            frame[at] = found
        if codes:
            na_values[name] = codes
    values = pd.DataFrame(frame, index=raw.index)
    values.columns = raw.columns
    return LabelledFile(path, raw, told, values, labels, na_values)


def _missing_codes(values: pd.Series, name: str, told: Any) -> list[Any]:
    """The codes in a column that the file calls missing."""
    different = pd.unique(values.dropna()).tolist()
    letters = set(told.missing_user_values.get(name, ()))
    ranges = told.missing_ranges.get(name, ())
    return [
        value
        for value in different
        if value in letters or any(type(value) is type(r["lo"]) and r["lo"] <= value <= r["hi"] for r in ranges)
    ]


def _values(values: pd.Series) -> pd.Series:
    """A column with blank text as gaps, and whole numbers as such."""
    if pd.api.types.is_float_dtype(values.dtype):
        seen = values.dropna()
        whole = len(seen) > 0 and bool((seen == seen.round()).all()) and bool((seen.abs() < 2**53).all())
        return values.astype("Int64") if whole else values
    if pd.api.types.is_datetime64_any_dtype(values.dtype) or pd.api.types.is_numeric_dtype(values.dtype):
        return values
    cells = [None if pd.isna(v) or (isinstance(v, str) and not v.strip()) else v for v in values.tolist()]
    return pd.Series(cells, values.index, dtype=object)


def _levels(values: pd.Series, of_column: Mapping[Any, str], codes: list[Any]) -> dict[Any, str]:
    """The label of each number of a variable of levels; empty if it is none."""
    seen = [value for value in pd.unique(values.dropna()).tolist() if value not in codes]
    labelled = {number: label for number, label in of_column.items() if number not in codes}
    if not seen or not all(value in labelled for value in seen) or len(set(of_column.values())) < len(of_column):
        return {}
    return dict(of_column)


def _as_levels(values: pd.Series, levels: Mapping[Any, str], codes: list[Any], *, is_ordered: bool) -> pd.Series:
    """Labels in place of numbers, in the order of these."""
    order = [levels[n] for n in sorted((n for n in levels if n not in codes), key=lambda n: (str(type(n)), n))]
    others = [levels.get(code, code) for code in codes]
    cells = [None if pd.isna(value) else levels.get(value, value) for value in values.tolist()]
    return pd.Series(pd.Categorical(cells, categories=[*order, *others], ordered=is_ordered), values.index)


def _range(one: Any) -> Any:
    return one["lo"] if one["lo"] == one["hi"] else one


def _plain(value: Any) -> Any:
    if isinstance(value, pd.Timestamp):
        return value.to_pydatetime()
    return float(value) if is_real(value) else value
