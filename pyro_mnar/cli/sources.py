"""A file on its way to a table: text, whose cells are characters, or another format, which has values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import pandas as pd

from pyro_mnar.kinds.registry import named
from pyro_mnar.tables.delimited_text import DelimitedText
from pyro_mnar.tables.frame_files import FrameFile
from pyro_mnar.tables.places import Place, placed


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

    @property
    def place(self) -> Place:
        """What messages say of its rows."""
        return self.text.place


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

    @property
    def place(self) -> Place:
        """What messages say of its rows, which the file names itself."""
        return Place(self.file.path)

    def read(self, kinds: Mapping[Any, Any]) -> FrameFile:
        """The file, text in it as declared kinds read it.

        Raises:
            ValueError: If it is not written as a kind reads it; names the file.
        """
        frame = self.file.frame.copy(deep=False)
        for name, given in kinds.items():
            if name in frame.columns and pd.api.types.infer_dtype(frame[name], skipna=True) == "string":
                with placed(self.place, stacklevel=2):
                    frame[name] = named(given, name).of_text(frame[name])
        changed: Any = self.file
        return replace(changed, frame=frame)
