"""Rows of a table with other weights: what a bootstrap's fits are trained on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pyro_mnar.tables.batch import Batch, RowSource, split


@dataclass(frozen=True, eq=False)
class Reweighted:
    """A :class:`~pyro_mnar.tables.batch.RowSource` whose rows count otherwise.

    Attributes:
        source: The rows.
        weight: How often each counts, on the source's device; ``(rows,)``.
    """

    source: RowSource
    weight: Float[Tensor, " rows"]

    def __len__(self) -> int:
        return len(self.source)

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the batches."""
        return self.source.dtype

    @property
    def device(self) -> torch.device:
        """Where the batches are."""
        return self.source.device

    def take(self, rows: Int[Tensor, " rows"]) -> Batch:
        """The given rows, still aware of the table they come from."""
        return replace(self.source.take(rows), weight=self.weight[rows])

    def minibatches(self, batch_size: int, generator: torch.Generator | None = None) -> Iterator[Batch]:
        """Split into minibatches, shuffled if a CPU generator is given."""
        return (self.take(rows.to(self.device)) for rows in split(len(self), batch_size, generator))
