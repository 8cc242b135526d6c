"""Minibatches from Parquet files that do not fit in memory, to each rank and worker rows of its own.

Every rank takes an equal share of the rows and, what data-parallel training needs, equally many minibatches.
"""

from __future__ import annotations

import glob
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from pyro_mnar.messages import check_is, has_parts, in_line, seed_of, shown, whole_number
from pyro_mnar.scale.extra import needed
from pyro_mnar.scale.streamed import streamed_schema
from pyro_mnar.tables.arrow_file import OF_ARROW, damaged
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.schema import Schema
from pyro_mnar.tables.table import Table

Paths = str | PathLike[str] | Sequence[str | PathLike[str]]


def parquet_schema(paths: Paths, *, auxiliary: Any = None, kinds: Any = None, carry: Any = ()) -> Schema:
    """The schema of all rows, by two passes over the row groups with one of them in memory at a time.

    It is the schema that ``Table.from_frame`` makes of the whole table, means and deviations to rounding.  Where gaps
    are codes, or the whole is too much to read twice, take that of a sample: ``Table.from_frame(sample, ...).schema``.

    Args:
        paths: A file, a folder of ``*.parquet`` files, a pattern, or several of these.
        auxiliary: As for :meth:`~pyro_mnar.Table.from_frame`.
        kinds: As there.
        carry: As there; whole numbers that are all different are no identifiers here, whatever they are called, unless
            they count the rows.

    Raises:
        ValueError: As there, and if there is no such file or the files differ in their columns.
    """
    groups = RowGroups.of(paths)
    return streamed_schema(
        lambda: (groups.frame(i) for i in range(len(groups))),
        auxiliary,
        {} if kinds is None else kinds,
        carry,
        stacklevel=2,
    )


class ParquetRows(IterableDataset):
    """Minibatches of the rows of Parquet files, as :class:`~pyro_mnar.Batch`, a new order every epoch.

    The order of row groups is shuffled over the whole table, and rows are shuffled among those of a buffer.  Under
    ``torch.distributed`` a rank reads the rows of its share alone, and so does each worker of a ``DataLoader``; all
    ranks see equally many minibatches, whose sizes differ by at most one row.

    Args:
        paths: As for :func:`parquet_schema`.
        schema: Columns and units; of :func:`parquet_schema` or a sample's table.
        batch_size: Rows of a minibatch on each rank.
        seed: Of the order; None keeps the files' own.
        buffer_rows: Rows in memory among which order is shuffled, at least; whole row groups.
        dtype: Floating type of the batches; torch's default if None.

    Attributes:
        epoch: Decides the order together with the seed; :class:`~pyro_mnar.scale.MNARModule` sets it.

    Raises:
        ValueError: If there is no such file, the files differ in their columns, or a number is out of range.
    """

    def __init__(
        self,
        paths: Paths,
        schema: Schema,
        *,
        batch_size: int = 128,
        seed: int | None = 0,
        buffer_rows: int = 100_000,
        dtype: torch.dtype | None = None,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("buffer_rows", buffer_rows)):
            whole_number(name, value)
        check_is("schema", schema, Schema, ", as parquet_schema gives one")
        seed = None if seed is None else seed_of(seed)
        if dtype is not None:
            check_is("dtype", dtype, torch.dtype)
        self.groups, self.schema, self.batch_size = RowGroups.of(paths), schema, batch_size
        self.seed, self.buffer_rows, self.dtype = (
            seed,
            buffer_rows,
            torch.get_default_dtype() if dtype is None else dtype,
        )
        self.epoch = 0

    @property
    def num_rows(self) -> int:
        """N, the rows of all files."""
        return self.groups.num_rows

    def __len__(self) -> int:
        """Minibatches of an epoch, on each rank."""
        _, ranks = _rank()
        return math.ceil(math.ceil(self.num_rows / ranks) / self.batch_size)

    def loader(self, num_workers: int = 0, **options: Any) -> DataLoader:
        """A ``DataLoader`` of these minibatches; each worker process reads a part of the rank's rows."""
        return DataLoader(self, batch_size=None, num_workers=num_workers, **options)

    def __iter__(self) -> Iterator[Batch]:
        # A generator: where training goes on from a checkpoint, Lightning asks for it before it tells the epoch.
        rank, ranks = _rank()
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        first, stop = _share(0, self.num_rows, rank, ranks)
        bounds = np.linspace(first, stop, len(self) + 1).round().astype(np.int64)
        begin, end = _share(0, len(self), number, workers)
        sizes = np.diff(bounds[begin : end + 1])
        random = None if self.seed is None else np.random.default_rng([self.seed, self.epoch])
        pieces = self.groups.pieces(random, int(bounds[begin]), int(bounds[end]))
        # The order of groups is common to all, the order within a buffer each one's own.
        own = None if self.seed is None else np.random.default_rng([self.seed, self.epoch, rank, number])
        yield from self._minibatches(pieces, sizes, own)

    def _minibatches(
        self, pieces: Iterator[_Piece], sizes: NDArray[np.int64], random: np.random.Generator | None
    ) -> Iterator[Batch]:
        buffer, at = None, 0  # rows in memory, in their random order, and how many of them were given out
        for size in sizes.tolist():
            if buffer is None or at + size > len(buffer):
                read = [] if buffer is None else [buffer.take(torch.arange(at, len(buffer)))]
                held = sum(map(len, read))
                while held < max(size, self.buffer_rows) and (piece := next(pieces, None)) is not None:
                    read.append(self._encoded(piece))
                    held += len(read[-1])
                buffer, at = Batch.joined(read), 0
                if random is not None:
                    buffer = buffer.take(torch.from_numpy(random.permutation(len(buffer))))
            yield buffer.take(torch.arange(at, at + size))
            at += size

    def _encoded(self, piece: _Piece) -> Batch:
        frame = self.groups.frame(piece.group, piece.start, piece.stop)
        table = Table.from_frame(frame, schema=self.schema, dtype=self.dtype)
        index = torch.arange(len(frame)) + int(self.groups.first_row[piece.group] + piece.start)
        return replace(table.batch(), index=index, size=self.num_rows)


class _Piece(NamedTuple):
    """Rows ``start`` to ``stop`` of a row group."""

    group: int
    start: int
    stop: int


@dataclass(frozen=True)
class RowGroups:
    """The row groups of several Parquet files, in order.

    Attributes:
        files: File of each group; ``(groups,)``.
        numbers: Number of each group in its file; ``(groups,)``.
        sizes: Rows of each group; ``(groups,)``.
    """

    files: tuple[str, ...]
    numbers: tuple[int, ...]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, paths: Paths) -> RowGroups:
        """Read the files' footers."""
        files, numbers, sizes = [], [], []
        expected = None
        for path in _files(paths):
            with _open(path) as file:
                names = file.schema_arrow.names
                expected = expected or names
                if names != expected:
                    raise ValueError(f"{path}: expected the columns of the first file, {expected!r}, got {names!r}")
                for number in range(file.metadata.num_row_groups):
                    files.append(path)
                    numbers.append(number)
                    sizes.append(file.metadata.row_group(number).num_rows)
        if not sum(sizes):
            raise ValueError(f"{shown(paths)}: expected at least one row, got none")
        return cls(tuple(files), tuple(numbers), tuple(sizes))

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def num_rows(self) -> int:
        """Rows of all groups."""
        return sum(self.sizes)

    @property
    def first_row(self) -> NDArray[np.int64]:
        """Position in the whole table of each group's first row, and the number of rows; ``(groups + 1,)``."""
        return np.concatenate([[0], np.cumsum(self.sizes)])

    def frame(self, group: int, start: int = 0, stop: int | None = None) -> pd.DataFrame:
        """Some rows of one group; whole numbers and booleans stay what they are beside gaps."""
        path, number = self.files[group], self.numbers[group]
        with _open(path) as file:
            stop = self.sizes[group] if stop is None else stop
            try:
                table = file.read_row_group(number).replace_schema_metadata()
                table.validate(full=True)  # text that is none, lengths that do not fit
                return table.slice(start, stop - start).to_pandas(types_mapper=_nullable().get)
            except OF_ARROW as error:
                raise damaged(path, error, f"row group {number} ({self.sizes[group]} rows)") from None

    def pieces(self, random: np.random.Generator | None, start: int, stop: int) -> Iterator[_Piece]:
        """Rows ``start`` to ``stop`` of the table whose groups stand in random order."""
        order = np.arange(len(self)) if random is None else random.permutation(len(self))
        position = 0
        for group in order.tolist():
            size = self.sizes[group]
            begin, end = max(start - position, 0), min(stop - position, size)
            if begin < end:
                yield _Piece(group, begin, end)
            position += size


def _files(paths: Paths) -> list[str]:
    found = []
    several: Any = [paths] if isinstance(paths, (str, PathLike)) else paths
    if not has_parts(several):
        raise TypeError(f"paths: expected that of a file, or several, got {shown(paths)}")
    for path in several:
        text = fspath(path)
        files = sorted(map(str, Path(text).glob("*.parquet"))) if Path(text).is_dir() else sorted(glob.glob(text))
        if not files:
            raise ValueError(f"{in_line(text)}: expected a Parquet file, a folder of them or a pattern, found none")
        found += files
    return found


def _open(path: str) -> Any:
    """A file whose pages are compared with their checksums, where its writer wrote any."""
    try:
        return needed("pyarrow.parquet").ParquetFile(path, page_checksum_verification=True)
    except OF_ARROW as error:
        raise damaged(path, error, "its footer") from None


def _nullable() -> dict[Any, Any]:
    """Types that pandas would otherwise turn into others in those row groups that have gaps."""
    arrow = needed("pyarrow")
    signed = {getattr(arrow, f"int{bits}")(): getattr(pd, f"Int{bits}Dtype")() for bits in (8, 16, 32, 64)}
    unsigned = {getattr(arrow, f"uint{bits}")(): getattr(pd, f"UInt{bits}Dtype")() for bits in (8, 16, 32, 64)}
    return {**signed, **unsigned, arrow.bool_(): pd.BooleanDtype()}


def _rank() -> tuple[int, int]:
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def _share(first: int, stop: int, number: int, count: int) -> tuple[int, int]:
    """The bounds of one of several equal parts."""
    length = stop - first
    return first + length * number // count, first + length * (number + 1) // count
