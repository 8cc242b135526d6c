"""Files other than text: which format by which ending, and what every format has to do."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Hashable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Int
from numpy.typing import NDArray

from pyro_mnar.messages import in_line, path_of, shown

MODULES = {  # by the ending of a file: the module of this package that reads it, and what that needs
    ".xlsx": ("excel_file", "openpyxl"),
    ".xlsm": ("excel_file", "openpyxl"),
    ".parquet": ("arrow_file", "pyarrow"),
    ".feather": ("arrow_file", "pyarrow"),
    ".arrow": ("arrow_file", "pyarrow"),
    ".dta": ("labelled_file", "pyreadstat"),
    ".sav": ("labelled_file", "pyreadstat"),
    ".zsav": ("labelled_file", "pyreadstat"),
}


@runtime_checkable
class FrameFile(Protocol):
    """A file that was read, and how completed frames are written as it was.

    Attributes:
        path: The file.
        frame: Its values.
        na_values: Codes that the file itself calls missing, by column.
    """

    path: Path
    frame: pd.DataFrame
    na_values: Mapping[Hashable, list[Any]]

    def written(
        self, completed: pd.DataFrame, imputed: Mapping[Hashable, Int[NDArray, " cells"]], levels: Collection[Hashable]
    ) -> bytes:
        """The file's bytes with a completed frame's values in its gaps.

        Args:
            completed: A frame of the same rows and columns.
            imputed: Rows of the imputed cells, codes among them, by column.
            levels: Columns whose values are levels.
        """
        ...


def has_format(path: str | PathLike[str]) -> bool:
    """Whether a file's ending says that it is no text."""
    return Path(path).suffix.lower() in MODULES


def read_file(path: str | PathLike[str], *, sheet: str | None = None) -> FrameFile:
    """Read a file of one of the formats, by its ending.

    Args:
        path: The file.
        sheet: Of a workbook, the name of a sheet; the first by default.

    Raises:
        ValueError: If the ending is another, or the file is not what its ending says.
        ImportError: If what reads it is not installed; names the extra.
    """
    path = path_of("path", path)
    suffix = path.suffix.lower()
    if suffix not in MODULES:
        raise ValueError(
            f"{in_line(path)}: expected a file that ends in one of {sorted(MODULES)}, or .csv, got {shown(suffix)}"
        )
    if sheet is not None and suffix not in (".xlsx", ".xlsm"):
        raise ValueError(f"sheet: expected a workbook, got {in_line(path)}")
    module, needed = MODULES[suffix]
    try:
        importlib.import_module(needed)
    except ImportError:
        raise ImportError(f"{in_line(path)}: {needed} is not installed: pip install 'pyro-mnar[files]'") from None
    path.open("rb").close()  # a file that is not there is no damaged one
    read = importlib.import_module(f"pyro_mnar.tables.{module}").read
    try:
        return read(path) if sheet is None else read(path, sheet)
    except (ValueError, OSError):
        raise
    except Exception as error:  # each library has errors of its own
        raise ValueError(f"{in_line(path)}: cannot be read as {suffix} ({type(error).__name__}: {error})") from None


def filled_rows(before: pd.Series, after: pd.Series) -> Int[NDArray, " cells"]:
    """Rows in which a completed column differs from the one that was read."""
    one, other = before.astype(object), after.astype(object)
    same = (one.isna() & other.isna()) | (one == other).fillna(False).astype(bool)
    return np.flatnonzero(~same.to_numpy())
