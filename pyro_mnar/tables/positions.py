"""Naming cells of a table: by labels in a long frame, by positions, or by the entries of a sparse matrix."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Int
from numpy.typing import NDArray

from pyro_mnar.messages import shown

CellPositions = Any  # a long frame, a pair of position arrays, or a scipy sparse matrix; see positions_of


class LongNames(NamedTuple):
    """What a long frame calls its columns: whose value, of what, and the value."""

    row: Hashable = "row"
    column: Hashable = "column"
    value: Hashable = "value"


class Positions(NamedTuple):
    """Positions of cells.

    Attributes:
        rows: Of each cell; ``(cells,)``.
        columns: Of each cell; ``(cells,)``.
    """

    rows: Int[NDArray, " cells"]
    columns: Int[NDArray, " cells"]


def positions_of(
    cells: CellPositions, row_labels: pd.Index, column_labels: list[Hashable], names: LongNames
) -> Positions:
    """Positions of some cells of a table, in the order given.

    Args:
        cells: A long frame with the labels of rows and columns, in columns called as those of ``Table.from_long`` or
            else ``"row"`` and ``"column"``; or positions of rows and positions of columns, two arrays; or a scipy
            sparse matrix, whose explicit entries are meant.
        row_labels: Label of each row of the table.
        column_labels: Name of each of its modelled columns.
        names: What a long frame calls its columns.

    Raises:
        ValueError: If a cell is not in the table or is named twice.
        TypeError: If it is none of these.
    """
    shape = len(row_labels), len(column_labels)
    if isinstance(cells, pd.DataFrame):
        for name in (names.row, names.column):
            if name not in cells.columns:
                raise ValueError(
                    f"cells: expected the columns {names.row!r} and {names.column!r}, got {list(cells.columns)!r}"
                )
        rows = located(cells[names.row], row_labels, "cells", f"row ({names.row})")
        known = pd.Index(column_labels, tupleize_cols=False)
        columns = located(cells[names.column], known, "cells", f"column ({names.column})")
    elif hasattr(cells, "tocoo"):
        if cells.shape != shape:
            raise ValueError(f"cells: expected shape {shape}, got {tuple(cells.shape)}")
        entries = cells.tocoo()
        rows, columns = entries.row.astype(np.int64), entries.col.astype(np.int64)
    elif isinstance(cells, tuple) and len(cells) == 2:
        rows, columns = (np.atleast_1d(np.asarray(positions)) for positions in cells)
        if rows.shape != columns.shape or rows.ndim != 1:
            raise ValueError(f"cells: expected as many rows as columns, got shapes {rows.shape} and {columns.shape}")
        for positions, count, what in zip((rows, columns), shape, ("row", "column"), strict=True):
            _check_positions(positions, count, what)
        rows, columns = rows.astype(np.int64), columns.astype(np.int64)
    else:
        raise TypeError(
            f"cells: expected a long frame, a pair of position arrays or a sparse matrix, got {type(cells).__name__}"
        )
    refuse_duplicates(row_labels, column_labels, rows, columns, "cells")
    return Positions(rows, columns)


def is_mask(cells: Any, shape: tuple[int, int], names: LongNames) -> bool:
    """Whether cells are given as True and False in the shape of the table, instead of being named."""
    if isinstance(cells, pd.DataFrame):
        is_long = names.row in cells.columns and names.column in cells.columns
        return cells.shape == shape and (not is_long or all(map(pd.api.types.is_bool_dtype, cells.dtypes)))
    return isinstance(cells, list) or hasattr(cells, "__array__")


def located(labels: Any, index: pd.Index, what: str, where: str) -> Int[NDArray, " cells"]:
    """Position of each label in an index; ValueError naming one that is not there."""
    if getattr(labels, "dtype", None) == np.float16:
        labels = labels.astype(np.float64)  # pandas makes no index of half floats
    labels = pd.Index(labels, tupleize_cols=False)
    found = index.get_indexer(labels)
    if (found < 0).any():
        label = labels[found < 0][:1].tolist()[0]
        known = f"such as {', '.join(map(repr, index[:5].tolist()))}" if len(index) else "which has none"
        raise ValueError(f"{what}: expected a {where} of the table, {known}, got {shown(label)}")
    return found.astype(np.int64)


def refuse_duplicates(
    row_labels: pd.Index, names: list[Hashable], rows: NDArray[np.int64], columns: NDArray[np.int64], what: str
) -> None:
    """Raise ValueError, with the labels, if a cell is named twice."""
    keys = np.sort(rows * len(names) + columns)
    twice = keys[1:][keys[1:] == keys[:-1]]
    if len(twice):
        row, column = divmod(int(twice[0]), len(names))
        label = row_labels[row : row + 1].tolist()[0]
        count = int((keys == twice[0]).sum())
        raise ValueError(f"{what}: expected each cell once, got row {label!r}, column {names[column]!r} {count} times")


def _check_positions(positions: NDArray[Any], count: int, what: str) -> None:
    if positions.size and positions.dtype.kind not in "iu":
        raise ValueError(f"cells: expected positions of {what}s, whole numbers, got {positions.dtype}")
    if positions.size and (positions.min() < 0 or positions.max() >= count):
        raise ValueError(
            f"cells: expected positions of {what}s from 0 to {count - 1}, got {positions.min()} to {positions.max()}"
        )


def spread_evenly(count: int, most: int) -> Int[NDArray, " chosen"]:
    """Positions of at most so many of ``count`` things, from the first to the last, as far apart as they can be."""
    return np.linspace(0, count - 1, min(count, most)).astype(np.int64)
