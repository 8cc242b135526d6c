"""A delimited text file (CSV) as records of cells that keep their characters: quotes, line ends, byte order mark.

What is written back differs from the file in the cells that were replaced, and nowhere else.
"""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from pyro_mnar.messages import in_line, place_of, shown
from pyro_mnar.tables.places import Place

SEPARATORS = (",", ";", "\t", "|")  # that are tried, in this order
SPELLED = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}
MARKS = (  # the longer first: UTF-32's begins like UTF-16's
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
MOST_SHARED = 100_000  # different cells that are kept to be shared
GZIP = b"\x1f\x8b"
GUESSES = ("cp1252", "latin-1")  # where a file is not UTF-8


class Record(NamedTuple):
    """A line of the file, or several if a quoted cell spans them.

    Attributes:
        cells: The cells' characters, quotes and all; none in a blank line that is no row.
        end: What ends the line: LF, CRLF, CR, or nothing at the file's end.
        line: Number of the (first) line, from 1.
    """

    cells: list[str]
    end: str
    line: int


@dataclass(frozen=True)
class DelimitedText:
    """A file's text, taken apart without loss.

    Attributes:
        path: The file.
        separator: What stands between cells.
        encoding: Codec of the text.
        mark: The byte order mark, or nothing.
        records: Everything after the mark, in order; the first that has cells is the header.
        said: What was guessed, in words, for the user to see.
    """

    path: Path
    separator: str
    encoding: str
    mark: bytes
    records: list[Record] = field(repr=False)
    said: tuple[str, ...] = ()

    @classmethod
    def read(
        cls, path: str | PathLike[str], *, separator: str | None = None, encoding: str | None = None
    ) -> DelimitedText:
        """Read a file with a header.

        Args:
            path: The file.
            separator: One character, or a word such as ``"tab"``; by default a comma, or else what divides every line
                into as many cells as the header.
            encoding: Codec; by default what the byte order mark says, or UTF-8, or else Windows-1252.

        Raises:
            ValueError: If the file is empty, not in the encoding, repeats a column name, has a quote without an end, or
                lines of other than the header's number of cells: names the file, the line and the option that mends it.
        """
        path = place_of("path", path)
        if path.is_dir():
            raise ValueError(f"{in_line(path)}: expected a CSV file, got a folder")
        if separator is not None:
            if not isinstance(separator, str):
                raise TypeError(f"sep: expected one character, got {shown(separator)}")
            separator = SPELLED.get(separator, separator)
            if len(separator) != 1 or separator in '"\r\n':
                raise ValueError(
                    f"sep: expected one character that is no quote and no line end, got {shown(separator)}"
                )
        text, codec, mark, said = _decoded(path, encoding)
        if not text.strip("\r\n"):
            raise ValueError(f"{in_line(path)}: expected a header and rows, got an empty file")
        if separator is None:
            separator = _separator(text)
            if separator != ",":
                said.append(f"separator: {separator!r}, of which every line has as many as the header (sep= overrules)")
            elif _divides(text, " ") and not _divides(text, ","):
                said.append("separator: none, so one column, of as many words in every line: sep=' ' divides them")
        try:
            records = _as_rows(list(_records(text, separator)))
            _check_widths(records, text, separator)
        except ValueError as error:
            raise ValueError(f"{in_line(path)}, {error}") from None
        read = cls(path, separator, codec, mark, records, tuple(said))
        repeated = [name for at, name in enumerate(read.names) if name in read.names[:at]]
        if repeated:
            raise ValueError(f"{in_line(path)}: expected each column name once, got {repeated[0]!r} twice")
        return read

    @cached_property
    def names(self) -> list[str]:
        """The column names; columns without one are called as pandas calls them."""
        header = self._with_cells[0].cells
        return [content(cell) or f"Unnamed: {at}" for at, cell in enumerate(header)]

    @cached_property
    def rows(self) -> list[Record]:
        """The records below the header."""
        return self._with_cells[1:]

    @property
    def place(self) -> Place:
        """What messages say of its rows."""
        return Place(self.path, [record.line for record in self.rows])

    def contents(self, column: int) -> list[str]:
        """What a column's cells say."""
        return [content(record.cells[column]) for record in self.rows]

    def written(self, replaced: Mapping[int, Mapping[int, str]]) -> bytes:
        """The file's bytes with some cells replaced.

        Args:
            replaced: New characters of cells, quotes included, by column and row (from 0).

        Raises:
            ValueError: If new characters do not exist in the file's encoding.
        """
        text = io.StringIO(newline="")
        number = -2  # the header's is -1
        for record in self.records:
            cells = record.cells
            if cells:
                number += 1
                new = {at: of_column[number] for at, of_column in replaced.items() if number in of_column}
                cells = [new.get(at, cell) for at, cell in enumerate(cells)] if new else cells
            text.write(self.separator.join(cells))
            text.write(record.end)
        try:
            return self.mark + text.getvalue().encode(self.encoding)
        except UnicodeEncodeError as error:
            word = error.object[error.start : error.end]
            raise ValueError(f"{self.path}: {word!r} cannot be written in its encoding, {self.encoding}") from None

    def quoted(self, value: str) -> str:
        """A cell's characters for a value, in quotes if it needs them."""
        if any(mark in value for mark in (self.separator, '"', "\n", "\r")):
            return '"' + value.replace('"', '""') + '"'
        return value

    @property
    def _with_cells(self) -> list[Record]:
        return [record for record in self.records if record.cells]


def content(cell: str) -> str:
    """What a cell says: its characters without quotes around them."""
    return cell[1:-1].replace('""', '"') if cell.startswith('"') else cell


def _unpacked(path: Path) -> bytes:
    """A file's bytes, decompressed if gzip made them."""
    if str(path) == "-":
        raise ValueError("-: expected a file, since it is read more than once: save standard input in one first")
    data = path.read_bytes()
    if data.startswith(b"PK\x03\x04"):
        raise ValueError(
            f"{in_line(path)}: expected text, got a zip archive: unpack it; a workbook's name ends in .xlsx"
        )
    if not data.startswith(GZIP):
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{in_line(path)}: cannot be unpacked by gzip: {error}") from None


def packed(name: str | PathLike[str], data: bytes) -> bytes:
    """A file's bytes, compressed if it is called so."""
    return gzip.compress(data, mtime=0) if str(name).lower().endswith(".gz") else data


def _decoded(path: Path, encoding: str | None) -> tuple[str, str, bytes, list[str]]:
    """Text, codec, byte order mark, and what was guessed."""
    data = _unpacked(path)
    mark, marked = next(((mark, codec) for mark, codec in MARKS if data.startswith(mark)), (b"", None))
    if encoding is not None:
        try:
            codec = codecs.lookup(encoding).name
            b"a".decode(codec, "ignore")  # of no bytes, every codec takes itself for one of text
        except (LookupError, TypeError, UnicodeError):
            raise ValueError(f"encoding: expected a codec such as 'utf-8' or 'cp1252', got {shown(encoding)}") from None
        if marked is None or codec.removesuffix("-sig") not in (marked, marked[:-3]):
            mark = b""  # the bytes are text in this codec
        else:
            codec = marked
    else:
        codec = marked or "utf-8"
    data = data[len(mark) :]
    try:
        return _without_nulls(path, data.decode(codec)), codec, mark, []
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        wrong = f"line {line} is not {codec.upper()} (byte 0x{data[error.start]:02X})"
        if encoding is not None or marked:
            raise ValueError(f"{in_line(path)}, {wrong}; encoding='cp1252' or another may be right") from None
    except UnicodeError as error:  # of codecs that know of no position
        raise ValueError(f"{in_line(path)} is not {codec.upper()}: {error}") from None
    for guess in GUESSES:
        try:
            text = data.decode(guess)
        except UnicodeDecodeError:
            continue
        return _without_nulls(path, text), guess, b"", [f"encoding: {guess}, since {wrong} (encoding= overrules)"]
    raise AssertionError("latin-1 has a character for every byte")


def _without_nulls(path: Path, text: str) -> str:
    if "\0" in text:
        raise ValueError(
            f"{in_line(path)}: expected text, got NUL characters; of UTF-16 without a byte order mark,"
            " encoding='utf-16-le' says so"
        )
    return text


def _separator(text: str) -> str:
    """The comma, unless the header has none and something else divides all lines alike."""
    header = re.sub(r'"[^"]*"', "", next(line for line in io.StringIO(text, newline="") if line.strip("\r\n")))
    if "," not in header:
        for separator in sorted(SEPARATORS[1:], key=header.count, reverse=True):
            if separator in header and _divides(text, separator):
                return separator
    return ","


def _divides(text: str, separator: str) -> bool:
    """Whether all lines have as many cells as the header, more than one."""
    try:
        widths = {len(record.cells) for record in _as_rows(list(_records(text, separator))) if record.cells}
    except ValueError:
        return False
    return len(widths) == 1 and widths != {1}


def _records(text: str, separator: str) -> Iterator[Record]:
    """All lines, blank ones as one empty cell."""
    shared = _Shared()
    if '"' not in text:
        # newline="" divides at the three kinds of line end, and at nothing else that Unicode knows, and keeps them.
        for number, line in enumerate(io.StringIO(text, newline=""), start=1):
            body = line.rstrip("\r\n")
            yield Record(list(map(shared.__getitem__, body.split(separator))), line[len(body) :], number)
        return
    mark = re.escape(separator)
    cell = re.compile(rf'("[^"]*(?:""[^"]*)*"|(?!")[^{mark}\r\n]*)({mark}|\r\n|\n|\r|\Z)')
    cells: list[str] = []
    at, line, first = 0, 1, 1
    while at < len(text) or cells:
        found = cell.match(text, at)
        if found is None:
            raise ValueError(
                f"line {line}: expected a quoted cell to end in a quote and {separator!r} or the line's end, got"
                f" {text[at : at + 20]!r}"
            )
        characters, end = found.groups()
        cells.append(shared[characters])
        line += len(re.findall(r"\r\n|\n|\r", characters))
        at = found.end()
        if end != separator:
            yield Record(cells, end, first)
            cells, line = [], line + 1
            first = line


class _Shared(dict[str, str]):
    """Cells by what they say, so that those that say the same are one text: a long table has few different ones."""

    def __missing__(self, cell: str) -> str:
        if len(self) < MOST_SHARED:
            self[cell] = cell
        return cell


def _as_rows(records: list[Record]) -> list[Record]:
    """Blank lines have no cells: in a file of one column only those at its ends."""
    filled = [at for at, record in enumerate(records) if record.cells != [""]]
    header, last = filled[0], filled[-1]
    has_one_column = len(records[header].cells) == 1
    return [
        record._replace(cells=[]) if record.cells == [""] and not (has_one_column and header < at < last) else record
        for at, record in enumerate(records)
    ]


def _check_widths(records: list[Record], text: str, separator: str) -> None:
    """Raise ValueError unless all lines have as many cells as the header."""
    rows = [record for record in records if record.cells]
    width = len(rows[0].cells)
    wrong = next((record for record in rows if len(record.cells) != width), None)
    if wrong is None:
        return
    other = next((other for other in SEPARATORS if other != separator and _divides(text, other)), None)
    cure = "" if other is None else f"; cells divided by {other!r}: sep={other!r}"
    if other is None and len(wrong.cells) > width:
        cure = f"; a cell that holds {separator!r} stands in quotes"
        usual, count = Counter(len(record.cells) for record in rows).most_common(1)[0]
        if usual > width and 2 * count > len(rows):
            first = next(record.line for record in rows if len(record.cells) == usual)
            cure = f"; {count} lines have {usual}, from line {first} on: if that is the header, remove what is above it"
    raise ValueError(f"line {wrong.line}: expected {width} cells as in the header, got {len(wrong.cells)}{cure}")
