"""Where in a file a message is about: rows by their position become the file's lines."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple


class Place(NamedTuple):
    """A file whose rows messages name.

    Attributes:
        path: The file.
        lines: The line of each row, in order; none where the rows have names of their own.
    """

    path: Path
    lines: Sequence[int] = ()

    def of_error(self, message: str) -> str:
        """A message with the file before it, and lines in place of rows."""
        return f"{self.path}: {self.in_lines(message.removeprefix(f'{self.path}: '))}"

    def in_lines(self, message: str) -> str:
        """A message with lines in place of rows."""
        return re.sub(r"(?<!['\"])\brow (\d+)\b(?!['\"])", self._line_of, message)  # not in a name or a value

    def _line_of(self, match: re.Match[str]) -> str:
        row = int(match[1])
        return f"line {self.lines[row]}" if row < len(self.lines) else match[0]


@contextmanager
def placed(place: Place, *, stacklevel: int) -> Iterator[None]:
    """Errors and warnings inside say where in the file.

    Args:
        place: The file.
        stacklevel: Of warnings, as seen from the caller.

    Raises:
        ValueError: In place of one from inside.
    """
    given: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as given:
            warnings.simplefilter("always")
            yield
    except ValueError as error:
        raise ValueError(place.of_error(str(error))) from None
    finally:  # what was warned of before an error may be its cause
        for one in given:
            warnings.warn(place.in_lines(str(one.message)), one.category, stacklevel=stacklevel + 2)
