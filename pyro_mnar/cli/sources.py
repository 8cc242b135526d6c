"""A file on its way to a table: text, whose cells are characters, or another format, which has values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import pandas as pd

from pyro_mnar.kinds.registry import named
from pyro_mnar.tables.delimited_text import DelimitedText
from pyro_mnar.tables.frame_files import FrameFile


class TextSource(NamedTuple):
    """A file of text.

    Attributes:
        text: Its cells.
    """

    text: DelimitedText

    @property
    def names(self) -> list[str]:
        """The column names."""
        return self.text.names

    def different(self, name: str) -> set[Any]:
        """What the cells of a column say."""
        return {cell.strip() for cell in self.text.contents(self.names.index(name))}

    def placed(self, error: ValueError) -> str:
        """A message that names rows by their position, naming lines of the file."""
        lines = [record.line for record in self.text.rows]

        def line_of(match: re.Match[str]) -> str:
            row = int(match[1])
            return f"line {lines[row]}" if row < len(lines) else match[0]

        return f"{self.text.path}: " + re.sub(r"\brow (\d+)", line_of, str(error))


class FileSource(NamedTuple):
    """A file of another format.

    Attributes:
        file: What it holds.
    """

    file: FrameFile

    @property
    def names(self) -> list[Any]:
        """The column names."""
        return list(self.file.frame.columns)

    def different(self, name: str) -> set[Any]:
        """What stands in the cells of a column."""
        values = self.file.frame[name].dropna()
        listed = (values.cat.categories if isinstance(values.dtype, pd.CategoricalDtype) else values).tolist()
        return {value for value in listed if isinstance(value, (str, int, float))}

    def placed(self, error: ValueError) -> str:
        """A message that names the file."""
        return f"{self.file.path}: {error}"

    def read(self, kinds: Mapping[Any, Any]) -> FrameFile:
        """The file, text in it as declared kinds read it.

        Raises:
            ValueError: If it is not written as a kind reads it; names the file.
        """
        frame = self.file.frame.copy(deep=False)
        for name, given in kinds.items():
            if name in frame.columns and pd.api.types.infer_dtype(frame[name], skipna=True) == "string":
                try:
                    frame[name] = named(given, name).of_text(frame[name])
                except ValueError as error:
                    raise ValueError(self.placed(error)) from None
        changed: Any = self.file
        return replace(changed, frame=frame)
