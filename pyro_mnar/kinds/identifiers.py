"""Columns that rows cannot teach anything of: identifiers, names, free text, more levels than there are rows for.

Such a column is carried through unless somebody declares its kind; declared, it is refused where a model of it would
have about as many levels as rows, or would not fit into memory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Hashable

import numpy as np
import pandas as pd

from pyro_mnar.kinds.reading import are_whole, cell, holds_words
from pyro_mnar.kinds.written import texts_of

MOST_WORDS = 100  # levels of a text column that nobody declared a category
FEW_LEVELS = 10  # that a column may have however few rows there are
ROWS_PER_WORD = 5  # on average, of a column that nobody declared a category
ROWS_PER_LEVEL = 2  # on average, of one that somebody did
NEARLY_ALL = 0.9  # of the rows, that have a whole number of their own in a column called an identifier
FREE_TEXT = 4  # words of a cell, on average, that make it a text
MOST_PARTICLE_ROWS = 640  # of a training step by default: five particles of 128 rows
NAME_OF_AN_IDENTIFIER = re.compile(r"(.*[_\W])?(id|uuid|guid)|[a-z].*Id|.*ID")
NAME_OF_AN_INDEX = re.compile(r"Unnamed: \d+|__index_level_\d+__")


def why_carried(values: pd.Series, column: Hashable, *, num_observed: int | None = None) -> str:
    """Why nothing can be learned from a column whose kind nobody declared; empty if something can.

    Args:
        values: The column, or every different value of it once.
        column: Its name.
        num_observed: How many values there are, where ``values`` has each only once.
    """
    observed = values.dropna()
    rows = len(observed) if num_observed is None else num_observed
    if NAME_OF_AN_INDEX.fullmatch(str(column)) and observed.is_unique and len(observed) == rows:
        return "the index of a frame, written to a file" if rows else "neither a name nor a value"
    if pd.api.types.is_bool_dtype(values.dtype) or pd.api.types.is_datetime64_any_dtype(values.dtype):
        return ""
    is_float = pd.api.types.is_float_dtype(values.dtype) and len(observed) < len(values)  # whole, but for the gaps
    if pd.api.types.is_integer_dtype(values.dtype) or (is_float and are_whole(observed)):
        return _why_an_identifier(observed, column, rows, is_complete=len(observed) == len(values))
    if not (isinstance(values.dtype, pd.CategoricalDtype) or holds_words(observed)):
        return ""
    levels = observed.nunique()
    if levels == 1 and len(observed) == len(values):
        return "one word in every row"
    is_counted = num_observed is None or levels <= MOST_WORDS  # of more, a stream keeps no count
    said = f"{levels if is_counted else f'more than {MOST_WORDS}'} different words in {rows} rows"
    if levels > max(FEW_LEVELS, min(MOST_WORDS, rows / ROWS_PER_WORD)):
        return said
    is_text = texts_of(observed).str.count(r"\s+\S").mean() >= FREE_TEXT - 1 if levels > FEW_LEVELS // 2 else False
    return f"free text, {said}" if is_text and levels > rows / ROWS_PER_LEVEL else ""


def counts_rows(values: pd.Series, first: int, before: int = 0) -> bool:
    """Whether whole numbers count the rows, from 0 or 1.

    Args:
        values: Of rows that follow each other.
        first: The value in the first row of all.
        before: Number of rows before these.
    """
    start = first + before
    return first in (0, 1) and bool((values.to_numpy() == np.arange(start, start + len(values))).all())


def _why_an_identifier(observed: pd.Series, column: Hashable, rows: int, *, is_complete: bool) -> str:
    if rows <= FEW_LEVELS or len(observed) != rows:
        return ""
    if is_complete and counts_rows(observed, first := int(cell(observed, 0))):
        return f"the rows, counted from {first}"
    different = observed.nunique() if NAME_OF_AN_IDENTIFIER.fullmatch(str(column)) else 0
    if different >= NEARLY_ALL * rows:
        return f"an identifier by its name, {different} different numbers in {rows} rows"
    return ""


def check_levels(
    num_levels: int, num_observed: int, column: Hashable, role: str = "column", *, is_nominal: bool = True
) -> None:
    """Refuse levels that rows cannot teach, and those that do not fit into memory, before it is taken.

    Args:
        num_levels: How many levels the column has.
        num_observed: In how many rows it has a value.
        column: Its name.
        role: What the message calls it.
        is_nominal: Whether its levels have no order, so that each is an indicator of its own.

    Raises:
        ValueError: Names the column, both numbers, the memory of a training step and what to do.
    """
    needed = MOST_PARTICLE_ROWS * num_levels * (num_levels if is_nominal and role == "column" else 1) * 8
    cure = f"carry=[{column!r}] keeps it in every completed frame without a model; or make fewer levels of it"
    if num_levels > max(FEW_LEVELS, num_observed / ROWS_PER_LEVEL):
        raise ValueError(
            f"{role} {column!r}: expected at least {ROWS_PER_LEVEL} rows for each level on average, got"
            f" {num_levels} levels in {num_observed} rows (about {_in_words(needed)} in a training step); {cure}"
        )
    if needed > _memory():
        raise ValueError(
            f"{role} {column!r}: expected levels that fit into memory, got {num_levels}, which take about"
            f" {_in_words(needed)} in a training step; {cure}"
        )


def _memory() -> float:
    """Bytes of this machine; infinite where the system does not say."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return float("inf")


def _in_words(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e8 else f"{max(num_bytes / 1e6, 0.1):.1f} MB"
