"""Reading downloaded text files, with errors that name the file and the line."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_mnar.datasets.ratings import Source
from pyro_mnar.messages import in_line, is_one_of, path_of


def find(folder: str | PathLike[str], name: str, source: Source, *, within: Sequence[str] = ()) -> Path:
    """The file of that name in a folder, or in one of the folders within it as the archive lays them out.

    Raises:
        FileNotFoundError: If there is none; says where the data are to be had.
    """
    folder = path_of("folder", folder)
    for place in (folder, *(folder / inner for inner in within)):
        if (place / name).is_file():
            return place / name
    raise FileNotFoundError(f"{in_line(folder)}: expected the file {name}, found none; {source.advice}")


def read_columns(path: Path, names: Sequence[str], *, separator: str) -> pd.DataFrame:
    """A file without a header and with these columns, as pandas reads them.

    Raises:
        ValueError: If a line has more fields, the first has fewer, or there is no line.
    """
    frame = _read(path, sep=separator, header=None)
    if frame.shape[1] != len(names):
        raise ValueError(f"{path}, line 1: expected {len(names)} fields ({', '.join(names)}), got {frame.shape[1]}")
    return frame.set_axis(list(names), axis=1)


def read_table(path: Path, needed: Sequence[str], *, separator: str = ",") -> pd.DataFrame:
    """Columns of a file with a header, in the order asked for.

    Raises:
        ValueError: If one is absent, a line has more fields than the header, or there is no line.
    """
    header = read_header(path, separator=separator)
    for name in needed:
        if not is_one_of(name, header):
            raise ValueError(f"{in_line(path)}, line 1: expected a column {name!r}, got {header!r}")
    # All columns are read, since with usecols pandas lets pass lines of too many fields.
    frame = _read(path, sep=separator)
    if not isinstance(frame.index, pd.RangeIndex):
        raise ValueError(f"{path}, line 2: expected as many fields as in the header, {len(header)}, got more")
    return frame[list(needed)]


def read_header(path: Path, *, separator: str = ",") -> list[str]:
    """Names in a file's first line."""
    return [str(name) for name in _read(path, sep=separator, nrows=0).columns]


def whole_numbers(
    values: pd.Series, path: Path, *, least: int, most: int, what: str, first_line: int = 1
) -> NDArray[np.int64]:
    """A column as whole numbers within limits.

    Args:
        values: The column, one entry a line.
        path: The file, for messages.
        least: The smallest that may be.
        most: The largest that may be.
        what: What the numbers are, for messages.
        first_line: Line of the first entry: 2 below a header.

    Raises:
        ValueError: If an entry is none; names the file, the line, what was expected and what came.
    """
    found = numbers(values, path, what=what, first_line=first_line)
    wrong = (found != np.rint(found)) | (found < least) | (found > most)
    if wrong.any():
        at = int(wrong.argmax())
        raise ValueError(
            f"{path}, line {first_line + at}: expected {what} as a whole number from {least} to {most}, got"
            f" {_shown(values, at)}"
        )
    return found.astype(np.int64)


def numbers(values: pd.Series, path: Path, *, what: str, first_line: int = 1) -> NDArray[np.float64]:
    """A column as finite numbers; ValueError naming the file and the line of an entry that is none."""
    found = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = ~np.isfinite(found)
    if wrong.any():
        at = int(wrong.argmax())
        raise ValueError(f"{path}, line {first_line + at}: expected {what} as a number, got {_shown(values, at)}")
    return found


def refuse_repeated(keys: pd.DataFrame, path: Path, *, what: str, first_line: int = 1) -> None:
    """ValueError naming both lines, if a combination of keys stands in two."""
    repeated = keys.duplicated()
    if repeated.any():
        at = int(repeated.to_numpy().argmax())
        same = (keys == keys.iloc[at]).all(axis=1).to_numpy().argmax()
        got = ", ".join(f"{name} {value}" for name, value in keys.iloc[at].items())
        raise ValueError(
            f"{path}, line {first_line + at}: expected {what} once, got {got} already in line {first_line + int(same)}"
        )


def read_matrix(path: Path, shape: tuple[int, int], *, least: int, most: int, what: str) -> NDArray[np.int64]:
    """A file of whole numbers within limits, one row a line, separated by blanks.

    Raises:
        ValueError: If the shape is another or a number is outside; names the file and the line.
    """
    rows: list[list[float]] = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            fields = line.split()
            if not fields:
                continue
            if len(fields) != shape[1]:
                raise ValueError(f"{path}, line {number}: expected {shape[1]} numbers, got {len(fields)}")
            values = pd.to_numeric(pd.Series(fields), errors="coerce").to_numpy(dtype=np.float64)
            wrong = ~((values == np.rint(values)) & (values >= least) & (values <= most))
            if wrong.any():
                at = int(wrong.argmax())
                raise ValueError(
                    f"{path}, line {number}, column {at + 1}: expected {what} as a whole number from {least} to {most},"
                    f" got {fields[at]!r}"
                )
            rows.append(values.tolist())
    if len(rows) != shape[0]:
        raise ValueError(f"{path}: expected {shape[0]} lines, got {len(rows)}")
    return np.array(rows, dtype=np.int64)


def _read(path: Path, **options: Any) -> pd.DataFrame:
    # Blank lines are kept, as gaps, so that the position of an entry tells its line.
    try:
        return pd.read_csv(path, skip_blank_lines=False, low_memory=False, encoding="utf-8-sig", **options)
    except UnicodeDecodeError as error:
        raise ValueError(f"{in_line(path)}: expected text in UTF-8, got another at byte {error.start}") from None
    except pd.errors.EmptyDataError:
        raise ValueError(f"{path}: expected lines, got an empty file") from None
    except pd.errors.ParserError as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from None


def _shown(values: pd.Series, at: int) -> str:
    value = values.iloc[at : at + 1].tolist()[0]
    return "nothing" if pd.isna(value) else repr(value)
