"""Cells of a table of which few are kept: row by row in compressed arrays, as in a CSR matrix."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from numpy.typing import NDArray
from torch import Tensor

from pyro_mnar.tables.batch import Batch, Entries, split


@dataclass(frozen=True, eq=False)
class Compressed:
    """Some cells of a table, row by row.

    Attributes:
        start: Where each row's cells begin, and after the last row where they end; ``(rows + 1,)``.
        column: Column of each cell, ascending in a row; ``(cells,)``.
        value: What stands in it; ``(cells,)``.
    """

    start: Int[Tensor, " starts"]
    column: Int[Tensor, " cells"]
    value: Shaped[Tensor, " cells"]

    @classmethod
    def of(cls, row: NDArray[Any], column: NDArray[Any], value: Shaped[Tensor, " cells"], num_rows: int) -> Compressed:
        """Cells that are sorted by row and column."""
        start = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=num_rows))])
        return cls(torch.from_numpy(start), torch.from_numpy(np.ascontiguousarray(column)), value)

    def __len__(self) -> int:
        return len(self.column)

    def row(self) -> Int[Tensor, " cells"]:
        """Row of each cell."""
        counts = self.start.diff()
        return torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)

    def to(self, device: torch.device | str | None) -> Compressed:
        """The same cells on another device."""
        return Compressed(*(getattr(self, field.name).to(device) for field in fields(self)))

    def at(self, rows: Int[Tensor, " rows"]) -> tuple[Int[Tensor, " cells"], Int[Tensor, " cells"]]:
        """Of the cells of some rows: position in ``rows`` of each, and position among all cells."""
        first, counts = self.start[rows], self.start[rows + 1] - self.start[rows]
        row = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), counts)
        before = counts.cumsum(0) - counts
        return row, torch.arange(len(row), device=rows.device) + (first - before)[row]

    def take(self, rows: Int[Tensor, " rows"]) -> Compressed:
        """The cells of some rows."""
        counts = self.start[rows + 1] - self.start[rows]
        _, at = self.at(rows)
        return Compressed(torch.cat([counts.new_zeros(1), counts.cumsum(0)]), self.column[at], self.value[at])


@dataclass(frozen=True, eq=False)
class SparseRows:
    """A :class:`~pyro_mnar.tables.batch.RowSource` over the entries of a sparse table.

    Attributes:
        observed: Standardised values of the observed entries.
        unexplained: Gaps that the mechanism does not explain, with their reasons.
        aux: U, ``(rows, auxiliaries)``; None where U = R.
        incomplete: As in :class:`~pyro_mnar.Batch`; ``(columns,)``.
        names: The same.
    """

    observed: Compressed
    unexplained: Compressed
    aux: Float[Tensor, "rows auxiliaries"] | None
    incomplete: Bool[Tensor, " columns"]
    names: tuple[Hashable, ...]

    def __len__(self) -> int:
        return len(self.observed.start) - 1

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the batches."""
        return self.observed.value.dtype

    @property
    def device(self) -> torch.device:
        """Where the batches are."""
        return self.observed.value.device

    def to(self, device: torch.device | str | None) -> SparseRows:
        """The same rows on another device."""
        aux = None if self.aux is None else self.aux.to(device)
        return SparseRows(
            self.observed.to(device), self.unexplained.to(device), aux, self.incomplete.to(device), self.names
        )

    def take(self, rows: Int[Tensor, " rows"]) -> Batch:
        """A dense minibatch that knows where its entries stand."""
        shape = (len(rows), len(self.incomplete))
        row, at = self.observed.at(rows)
        column = self.observed.column[at]
        x = self.observed.value.new_zeros(shape).index_put_((row, column), self.observed.value[at])
        mask = self.incomplete.new_zeros(shape).index_put_((row, column), self.incomplete.new_ones(()))
        modelled = self.incomplete.new_ones(shape)
        if len(self.unexplained):
            gap_row, gap_at = self.unexplained.at(rows)
            modelled.index_put_((gap_row, self.unexplained.column[gap_at]), self.incomplete.new_zeros(()))
        aux = mask.to(x.dtype) if self.aux is None else self.aux[rows]
        entries = Entries(row, column, mask)
        return Batch(x, mask, modelled, aux, rows, len(self), self.incomplete, entries=entries, names=self.names)

    def minibatches(self, batch_size: int, generator: torch.Generator | None = None) -> Iterator[Batch]:
        """Split into minibatches whose sizes differ by at most one, shuffled if a CPU generator is given."""
        return (self.take(rows.to(self.device)) for rows in split(len(self), batch_size, generator))
