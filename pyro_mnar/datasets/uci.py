"""Complete tables in which values are then made missing: the protocol of the not-MIWAE paper (Ipsen et al. 2021,
section 5).

In the first half of the columns, rounded down, values above the column's mean go missing; errors count in standard
deviations of the complete column.  Published figures belong to these columns: both wines without their quality,
banknote without its class, yeast without name and class, concrete with all nine.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import NDArray

Loader = Callable[[], pd.DataFrame]


class SelfMasked(NamedTuple):
    """A table whose high values are missing, and the truth.

    Attributes:
        observed: With gaps; standardised by the complete columns.
        truth: The same without gaps.
    """

    observed: pd.DataFrame
    truth: pd.DataFrame


class _Source(NamedTuple):
    """Files that may hold a table, and the columns of numbers that are used."""

    files: tuple[str, ...]
    columns: slice
    num_columns: int


SOURCES = {
    "banknote": _Source(("banknote_authentication.csv", "data_banknote_authentication.txt"), slice(0, -1), 4),
    "concrete": _Source(("concrete.txt", "concrete.csv", "Concrete_Data.csv"), slice(0, None), 9),
    "red wine": _Source(("winequality-red.csv",), slice(0, -1), 11),
    "white wine": _Source(("winequality-white.csv",), slice(0, -1), 11),
    "yeast": _Source(("yeast.data", "yeast.csv"), slice(0, None), 8),
}


def uci_tables(folder: str | PathLike[str] | None = None) -> dict[str, Loader]:
    """The tables at hand: breast cancer, which scikit-learn has, and those whose files a folder holds.

    Args:
        folder: Where the UCI repository's files are, under their own names or the table's.

    Returns:
        For each table, what loads it.

    Raises:
        FileNotFoundError: If there is no such folder, or it has none of the files.
    """
    found: dict[str, Loader] = {}
    if folder is not None:
        folder = Path(folder)
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: expected a folder with the UCI tables, found none")
        for name, source in SOURCES.items():
            path = next((folder / file for file in source.files if (folder / file).exists()), None)
            if path is not None:
                found[name] = partial(read_table, path, source.columns, source.num_columns)
        if not found:
            files = ", ".join(file for source in SOURCES.values() for file in source.files)
            raise FileNotFoundError(f"{folder}: expected some of {files} in it, found none")
    found["breast cancer"] = breast_cancer
    return found


def breast_cancer() -> pd.DataFrame:
    """569 rows, 30 columns."""
    from sklearn.datasets import load_breast_cancer

    return load_breast_cancer(as_frame=True).data


def read_table(path: Path, columns: slice, num_columns: int) -> pd.DataFrame:
    """Numbers separated by commas, semicolons or blanks, with or without a header; words are left out.

    Args:
        path: The file.
        columns: Which of a line's numbers to use.
        num_columns: How many columns there must then be.

    Raises:
        ValueError: If lines differ in length, or there are other than so many columns.
    """
    lines = [re.split(r"[;,\s]+", line.strip()) for line in path.read_text(encoding="utf-8").splitlines()]
    rows = [numbers for line in lines if (numbers := [float(word) for word in line if _is_number(word)])]
    widths = {len(row) for row in rows}
    if len(widths) != 1:
        raise ValueError(f"{path}: expected as many numbers in every line, got {sorted(widths)}")
    frame = pd.DataFrame(np.array(rows)[:, columns])
    if frame.shape[1] != num_columns:
        raise ValueError(f"{path}: expected {num_columns} columns, got {frame.shape[1]}")
    return frame


def self_masked(frame: pd.DataFrame) -> SelfMasked:
    """The protocol: standardise, then drop what is above the mean in the first half of the columns."""
    truth = standardised(frame)
    return SelfMasked(mask_above_mean(truth, truth.columns[: truth.shape[1] // 2]), truth)


def standardised(frame: pd.DataFrame) -> pd.DataFrame:
    """Every column with mean 0 and standard deviation 1."""
    return (frame - frame.mean()) / frame.std(ddof=0)


def mask_above_mean(frame: pd.DataFrame, columns: pd.Index) -> pd.DataFrame:
    """Hard self-masking: in the given columns, values above the column's mean go missing."""
    masked = frame.copy()
    masked[columns] = frame[columns].where(frame[columns] <= frame[columns].mean())
    return masked


def rmse(completed: pd.DataFrame, masked: SelfMasked) -> float:
    """Root mean squared error over the missing entries, in standard deviations.

    Raises:
        ValueError: If the completed table has another shape than the observed one, or gaps.
    """
    if completed.shape != masked.observed.shape:
        raise ValueError(f"completed table: expected shape {masked.observed.shape}, got {completed.shape}")
    if gaps := int(completed.isna().sum().sum()):
        raise ValueError(f"completed table: expected every gap filled, got {gaps} left")
    missing = masked.observed.isna().to_numpy()
    errors: Float[NDArray, " missing"] = completed.to_numpy()[missing] - masked.truth.to_numpy()[missing]
    return float(np.sqrt(np.mean(errors**2)))


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
