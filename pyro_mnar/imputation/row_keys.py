"""Which row is which, for random numbers that follow rows: by what it holds, or by columns that name it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int
from numpy.typing import NDArray

from pyro_mnar.kinds.reading import row_label
from pyro_mnar.messages import is_one_of, shown
from pyro_mnar.tables.dense import DenseStorage
from pyro_mnar.tables.table import Table


def keys_of_content(table: Table) -> Int[NDArray, " rows"]:
    """A word for each row that says what a model sees of it; the n-th of several equal rows has a word of its own.

    Raises:
        ValueError: If the table is sparse.
    """
    if not isinstance(table.storage, DenseStorage):
        raise ValueError("key: expected a dense table, got a sparse one")
    batch = table.batch()
    seen = [value for name, value in batch.of_rows().items() if name not in ("index", "weight")]
    parts = [np.ascontiguousarray(tensor.numpy() + 0) for tensor in (*seen, table.applicable)]
    counted: Counter[bytes] = Counter()
    words = []
    for row in range(len(table)):
        content = b"".join(part[row].tobytes() for part in parts)
        counted[content] += 1
        words.append(_word(content + counted[content].to_bytes(8, "little")))
    return np.array(words, dtype=np.int64)


def keys_of_columns(table: Table, key: Hashable | Sequence[Hashable]) -> Int[NDArray, " rows"]:
    """A word for each row that says what stands in the columns that name it.

    Args:
        table: The rows; dense.
        key: A column of the table's frame, or a list of them.

    Raises:
        ValueError: If a column is not there or has a gap, or two rows have the same values.
    """
    if not isinstance(table.storage, DenseStorage):
        raise ValueError("key: expected a dense table, got a sparse one")
    names: list[Any] = list(key) if isinstance(key, list) else [key]
    frame = table.frame
    if not names:
        raise ValueError("key: expected at least one column, got none")
    for name in names:
        if not is_one_of(name, frame.columns):
            raise ValueError(f"key: expected a column among {list(frame.columns)!r}, got {shown(name)}")
        if frame[name].isna().any():
            row = row_label(frame, int(frame[name].isna().to_numpy().argmax()))
            raise ValueError(f"key: expected a value of column {name!r} in every row, got none in row {row!r}")
    values = list(zip(*([_plain(value) for value in frame[name].tolist()] for name in names), strict=True))
    repeated = pd.Series(values, dtype=object).duplicated().to_numpy()
    if repeated.any():
        at = int(repeated.argmax())
        raise ValueError(
            f"key: expected values of {', '.join(map(repr, names))} that name each row, got {values[at]!r} again in row"
            f" {row_label(frame, at)!r}; a list of columns may name it"
        )
    return np.array([_word(repr(value).encode()) for value in values], dtype=np.int64)


def _plain(value: Any) -> Any:
    """Whole numbers alike, whichever dtype gaps beside them made."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _word(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little") >> 1
