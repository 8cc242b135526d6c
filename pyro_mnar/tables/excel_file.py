"""Workbooks of Excel: a sheet with a header; formats, formulas and other sheets stay as they are."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int
from numpy.typing import NDArray

from pyro_mnar.messages import shown
from pyro_mnar.tables.frame_files import filled_rows


@dataclass(frozen=True)
class ExcelFile:
    """A sheet of a workbook.

    Attributes:
        path: The workbook.
        sheet: Name of the sheet.
        frame: Its values, labelled by their row in the sheet.
        na_values: None.
    """

    path: Path
    sheet: str
    frame: pd.DataFrame = field(repr=False)
    na_values: Mapping[Hashable, list[Any]] = field(default_factory=dict)

    def written(
        self, completed: pd.DataFrame, imputed: Mapping[Hashable, Int[NDArray, " cells"]], levels: Collection[Hashable]
    ) -> bytes:
        """The workbook with a completed frame's values in its gaps."""
        import openpyxl

        book = openpyxl.load_workbook(self.path, keep_vba=self.path.suffix.lower() == ".xlsm")
        sheet = book[self.sheet]
        for at, name in enumerate(self.frame.columns):
            after = completed[name]
            for row in filled_rows(self.frame[name], after).tolist():
                (value,) = after.iloc[row : row + 1].tolist()
                sheet.cell(int(self.frame.index[row]), at + 1).value = None if pd.isna(value) else _plain(value)
        buffer = io.BytesIO()
        book.save(buffer)
        return buffer.getvalue()


def read(path: Path, sheet: str | None = None) -> ExcelFile:
    """Read a sheet whose first row is the header; empty cells are gaps, and formulas have the values last computed.

    Raises:
        ValueError: If there is no such sheet, no row, or a column name stands twice.
    """
    import openpyxl

    book = openpyxl.load_workbook(path, data_only=True, read_only=True)
    if sheet is not None and sheet not in book.sheetnames:
        raise ValueError(f"{path}: expected a sheet among {book.sheetnames!r}, got {shown(sheet)}")
    chosen = book[sheet or book.sheetnames[0]]
    rows = [list(row) for row in chosen.iter_rows(values_only=True)]
    book.close()
    filled = [at for at, row in enumerate(rows) if any(not _is_empty(value) for value in row)]
    if len(filled) < 2 or filled[0] != 0:
        raise ValueError(f"{path}, sheet {chosen.title!r}: expected a header in the first row and rows below it")
    width = max(at + 1 for row in rows for at, value in enumerate(row) if not _is_empty(value))
    _check_header(path, chosen.title, rows, width)
    names = [f"Unnamed: {at}" if _is_empty(name) else name for at, name in enumerate(_padded(rows[0], width))]
    repeated = [name for at, name in enumerate(names) if name in names[:at]]
    if repeated:
        raise ValueError(f"{path}: expected each column name once, got {repeated[0]!r} twice")
    below = [at for at in filled if at > 0]
    cells = [_padded(rows[at], width) for at in below]
    index = pd.Index([at + 1 for at in below])  # as a spreadsheet counts rows
    frame = pd.DataFrame({at: _column([row[at] for row in cells], index) for at in range(width)}, index=index)
    frame.columns = pd.Index(names, dtype=object)
    return ExcelFile(path, chosen.title, frame)


def _check_header(path: Path, sheet: str, rows: list[list[Any]], width: int) -> None:
    """Raise ValueError if the first row is a title alone, over a table of several columns."""
    named = [at for at, name in enumerate(rows[0]) if not _is_empty(name)]
    full = [at for at, row in enumerate(rows) if sum(not _is_empty(value) for value in row) == width]
    if width > 1 and named == [0] and full:
        raise ValueError(
            f"{path}, sheet {sheet!r}: expected a header in the first row, got {rows[0][0]!r} alone over {width}"
            f" columns; row {full[0] + 1} is the first that fills them: remove what is above the header"
        )


def _padded(row: list[Any], width: int) -> list[Any]:
    return [*row, *[None] * width][:width]


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _column(values: list[Any], index: pd.Index) -> pd.Series:
    """Cells in a dtype of what they all are, else as they stand."""
    known = [value for value in values if not _is_empty(value)]
    cells = [None if _is_empty(value) else value for value in values]
    if known and all(isinstance(value, bool) for value in known):
        return pd.Series(cells, index, dtype="boolean")
    if known and all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in known):
        if all(float(value).is_integer() and abs(value) < 2**63 for value in known):
            return pd.Series([pd.NA if value is None else int(value) for value in cells], index, dtype="Int64")
        return pd.Series([np.nan if value is None else value for value in cells], index, dtype=np.float64)
    if known and all(isinstance(value, dt.datetime) for value in known):
        return pd.Series(cells, index, dtype="datetime64[us]")
    return pd.Series(cells, index, dtype=object)


def _plain(value: Any) -> Any:
    if isinstance(value, pd.Timestamp):
        return value.to_pydatetime()
    return value.item() if isinstance(value, np.generic) else value
