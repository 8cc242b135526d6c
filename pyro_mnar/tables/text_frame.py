"""A file's text as a frame, and completed frames as text again: cells that were no gaps keep their characters."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int
from numpy.typing import NDArray

from pyro_mnar.kinds import Kind
from pyro_mnar.kinds.registry import named
from pyro_mnar.messages import check_is, has_parts, shown
from pyro_mnar.tables.cell_formats import CellFormat, Dates, Numbers, Words, format_of, has_leading_zeros
from pyro_mnar.tables.delimited_text import DelimitedText
from pyro_mnar.tables.mixed_columns import check_words


@dataclass(frozen=True)
class Writing:
    """How a file writes what it says.

    Attributes:
        numbers: How numbers are written.
        gaps: Words that are gaps in every column, beside empty cells.
        dates: Patterns of ``strftime``, by column; ISO 8601 needs none.
    """

    numbers: Numbers = field(default_factory=Numbers)
    gaps: tuple[str, ...] = ()
    dates: Mapping[Hashable, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        decimal: str = ".",
        thousands: str | None = None,
        na: Collection[str] = (),
        date_format: Mapping[Hashable, str] | None = None,
    ) -> Writing:
        """From the options of :meth:`pyro_mnar.Table.from_csv`.

        Raises:
            ValueError: If a mark is not one character, or both are the same.
            TypeError: If ``na`` is a single string, or a date's pattern none.
        """
        if isinstance(na, str) or not has_parts(na):
            raise TypeError(f"na: expected a list of words, got {shown(na)}")
        for name, mark in (("decimal", decimal), ("thousands", " " if thousands is None else thousands)):
            if not isinstance(mark, str) or len(mark) != 1 or mark.isalnum():
                raise ValueError(f"{name}: expected one character, got {shown(mark)}")
        if decimal == thousands:
            raise ValueError(f"thousands: expected another character than decimal, got {shown(thousands)} for both")
        if date_format is not None:
            check_is("date_format", date_format, Mapping, ", from columns to patterns")
        patterns = dict(date_format or {})
        for name, pattern in patterns.items():
            if not isinstance(pattern, str):
                raise TypeError(
                    f"date_format of column {name!r}: expected a pattern such as '%d.%m.%Y', got {shown(pattern)}"
                )
        return cls(Numbers(decimal, thousands or ""), tuple(map(str, na)), patterns)


@dataclass(frozen=True)
class TextFrame:
    """A frame and the text that it was read from.

    Attributes:
        text: The file.
        frame: Its values, in whole, floating, boolean, date and text columns.
        formats: How each column's cells are written.
    """

    text: DelimitedText
    frame: pd.DataFrame
    formats: list[CellFormat] = field(repr=False)

    @classmethod
    def of(
        cls,
        text: DelimitedText,
        writing: Writing,
        kinds: Any = None,
        codes: Mapping[Hashable, Sequence[Any]] | None = None,
        carry: Collection[Hashable] = (),
    ) -> TextFrame:
        """Read a file's cells.

        Args:
            text: The file.
            writing: How its cells are written.
            kinds: As for :meth:`~pyro_mnar.Table.from_frame`; a declared kind says how its column is to be read.
            codes: By column, what stands for a reason in place of a value.
            carry: Columns that are not modelled, whose words therefore matter to nobody.

        Raises:
            ValueError: If a word stands among numbers: names the file, the line, the column and the options that mend
                it.
        """
        absent = [name for name in writing.dates if name not in text.names]
        if absent:
            raise ValueError(f"date_format: expected columns among {text.names!r}, got {absent[0]!r}")
        if text.separator == writing.numbers.decimal:  # one between thousands stands in quotes
            raise ValueError(
                f"decimal: expected another character than the separator, got {text.separator!r} for both: sep= says"
                " what divides cells"
            )
        gaps = set(writing.gaps)
        values, formats = {}, []
        for at, name in enumerate(text.names):
            cells = text.contents(at)
            given = kinds.get(name) if isinstance(kinds, Mapping) else kinds
            kind = None if given is None or name in carry else named(given, name)
            column = _Column(text, name, cells, gaps, list((codes or {}).get(name, ())), writing, kind)
            formats.append(column.format)
            if name not in carry:
                column.check()
            values[at] = column.series()
        frame = pd.DataFrame(values, index=pd.RangeIndex(len(text.rows)))
        frame.columns = pd.Index(text.names)
        return cls(text, frame, formats)

    def written(
        self, completed: pd.DataFrame, imputed: Mapping[Hashable, Int[NDArray, " cells"]], levels: Collection[Hashable]
    ) -> bytes:
        """The file's bytes with a completed frame's values in its gaps.

        Args:
            completed: A frame of the same rows and columns.
            imputed: Rows of the imputed cells, codes among them, by column.
            levels: Columns whose values are levels, which are written as they were where they were seen.
        """
        replaced: dict[int, dict[int, str]] = {}
        for at, name in enumerate(self.frame.columns):
            before, after = self.frame[name], completed[name]
            filled = np.flatnonzero((before.isna() & after.notna()).to_numpy())
            rows = np.union1d(filled, imputed.get(name, np.array([], dtype=int))).astype(int)
            if not len(rows):
                continue
            cells = [record.cells[at] for record in self.text.rows]
            seen = self._spellings(at, cells) if name in levels else {}
            has_quotes, new = _all_quoted(cells, before), replaced.setdefault(at, {})
            for row, value in zip(rows.tolist(), after.iloc[rows].tolist(), strict=True):
                if value is None or value is pd.NA or value is pd.NaT or value != value:
                    if before.iloc[row : row + 1].notna().all():
                        new[row] = ""
                    continue
                new[row] = seen.get(value) or self._cell(self.formats[at].write(value), has_quotes)
        return self.text.written(replaced)

    def _spellings(self, at: int, cells: Sequence[str]) -> dict[Any, str]:
        """The characters of each value, as it was first written."""
        seen: dict[Any, str] = {}
        for value, cell in zip(self.frame.iloc[:, at].tolist(), cells, strict=True):
            if value is not pd.NA and cell:
                seen.setdefault(value, cell)
        return seen

    def _cell(self, value: str, has_quotes: bool) -> str:
        return '"' + value.replace('"', '""') + '"' if has_quotes else self.text.quoted(value)


@dataclass(frozen=True)
class _Column:
    """One column's text on its way to values."""

    text: DelimitedText
    name: Hashable
    cells: list[str]
    gaps: set[str]
    codes: list[Any]
    writing: Writing
    kind: Kind | None

    @cached_property
    def format(self) -> CellFormat:
        """How the cells are written that are neither gaps nor codes."""
        observed = [cell for cell in self.cells if not self._is_gap(cell) and self._code(cell) is None]
        if self.name in self.writing.dates:
            return Dates(self.writing.dates[self.name])
        numbers = self.writing.numbers
        if self.kind is not None and self.kind.levels and all(isinstance(level, str) for level in self.kind.levels):
            return Words()
        if self.kind is not None and not self.kind.has_levels and has_leading_zeros(observed):
            return numbers if all(numbers.read(cell) is not None for cell in observed) else Words()
        return format_of(observed, numbers)

    def check(self) -> None:
        """Raise ValueError for what was meant to be numbers or dates, but for some cells or signs."""
        found = self.format
        lines = [record.line for record in self.text.rows]
        cells = {
            line: cell
            for line, cell in zip(lines, self.cells, strict=True)
            if not self._is_gap(cell) and self._code(cell) is None
        }
        where = f"{self.text.path}, line {{line}}, column {self.name!r}"
        if isinstance(found, Dates) and found.pattern:
            for line, cell in cells.items():
                if found.read(cell) is None:
                    raise ValueError(
                        f"{where.format(line=line)}: expected a date written as {found.pattern!r}, got {shown(cell)}"
                    )
        if isinstance(found, Words) and self.kind is None:
            check_words(cells, self.writing.numbers, self.name, where)

    def series(self) -> pd.Series:
        """The values, codes as they were given, in the dtype of the format."""
        found = self.format
        values: list[Any] = []
        is_mixed = False
        for cell in self.cells:
            if self._is_gap(cell):
                values.append(None)
                continue
            value = found.read(cell)
            code = self._code(cell)
            if code is not None and (value is None or isinstance(found, Words)):
                value, is_mixed = code, True
            values.append(value)
        if is_mixed:
            column = pd.Series([np.nan if value is None else value for value in values], dtype=object)
        else:
            column = found.series(values)
        if self.kind is not None:
            return self._of_kind(self.kind, column.rename(self.name))
        is_text = isinstance(found, Words) and not is_mixed
        if is_text and column.dropna().map(self.writing.numbers.read).notna().any():
            # Digits among words, or postcodes: a category says that they are no numbers.
            return column.astype(object).astype("category")
        return column

    def _of_kind(self, kind: Kind, column: pd.Series) -> pd.Series:
        """As a declared kind reads it; a kind that reads text of its own sees the signs beside the numbers."""
        found = self.format
        try:
            if isinstance(found, Numbers) and (found.before or found.after):
                cells = [None if self._is_gap(cell) else cell for cell in self.cells]
                read = kind.of_text(Words().series(cells).rename(self.name))
                return column if pd.api.types.is_string_dtype(read.dtype) else read
            return kind.of_text(column)
        except ValueError as error:
            raise ValueError(f"{self.text.path}: {error}") from None

    def _is_gap(self, cell: str) -> bool:
        return not cell.strip() or cell.strip() in self.gaps

    def _code(self, cell: str) -> Any:
        """The code that a cell is, as it was given; None if it is none."""
        for code in self.codes:
            if str(code) == cell.strip() or (not isinstance(code, str) and self.writing.numbers.read(cell) == code):
                return code
        return None


def _all_quoted(cells: Sequence[str], values: pd.Series) -> bool:
    """Whether every cell that is no gap stands in quotes."""
    seen = values.notna().tolist()
    return any(seen) and all(cell.startswith('"') for cell, is_seen in zip(cells, seen, strict=True) if is_seen)
