"""Scoring masks and observed entries of wide tables: the same log-probabilities in fewer passes over rows × columns.

A mask's log-probability is log σ(±logit), one pass.  A row's is Σ_{d observed} log p(x_d|z): if a row has a thousand
columns and twenty values, only the twenty are scored, given their positions (:class:`~pyro_mnar.tables.batch.Entries`).
"""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from jaxtyping import Bool, Float, Int
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor
from torch.nn.functional import logsigmoid

from pyro_mnar.distributions.densities import without_repeats
from pyro_mnar.distributions.levels import Levels
from pyro_mnar.distributions.shapes import broadcast
from pyro_mnar.tables.batch import Batch

_BY_PARAMETERS = (dist.Normal, dist.StudentT, dist.Poisson)  # families with one number per cell for each argument


class ObservedMask(dist.Bernoulli):
    """Bernoulli with logits, scored as log σ(logit) at 1 and log σ(-logit) at 0."""

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability per entry."""
        if self._validate_args:
            self._validate_sample(value)
        log_prob = logsigmoid((2 * value - 1) * without_repeats(self.logits))
        return log_prob.expand(broadcast(self.batch_shape, value.shape))


class ObservedEntries(dist.MaskedDistribution):
    """``fn`` masked to the observed entries; as a row (``to_event(1)``), it computes these entries alone.

    Args:
        fn: p(x|z) of a family that :func:`of_cells` knows; batch shape ``(..., rows, columns)``.
        mask: True where observed; ``(rows, columns)``.
        row: Row of each observed entry; ``(entries,)``.
        column: Column of each observed entry; ``(entries,)``.
    """

    def __init__(
        self,
        fn: TorchDistributionMixin,
        mask: Bool[Tensor, "rows columns"],
        row: Int[Tensor, " entries"],
        column: Int[Tensor, " entries"],
    ) -> None:
        super().__init__(fn, mask)
        self.fn, self.entries = fn, (mask, row, column)

    def expand(self, batch_shape: Any, _instance: Any = None) -> ObservedEntries:
        """Expand to a larger batch shape."""
        return ObservedEntries(self.fn.expand(torch.Size(batch_shape)), *self.entries)

    def to_event(self, reinterpreted_batch_ndims: int | None = None) -> Any:
        """The row as one event."""
        return _Row(self) if reinterpreted_batch_ndims == 1 else super().to_event(reinterpreted_batch_ndims)


class _Row(dist.Independent):
    """The observed entries of a row as one event."""

    def __init__(self, observed: ObservedEntries) -> None:
        super().__init__(observed, 1)

    def expand(self, batch_shape: Any, _instance: Any = None) -> _Row:
        return _Row(self.base_dist.expand(torch.Size(batch_shape) + self.event_shape))

    def log_prob(self, value: Float[Tensor, "... rows columns"]) -> Float[Tensor, "... rows"]:
        _, row, column = self.base_dist.entries
        of_entries = of_cells(self.base_dist.fn, row, column)
        log_prob = of_entries.log_prob(value[..., row, column])
        zeros = log_prob.new_zeros(*log_prob.shape[:-1], value.shape[-2])
        return zeros.index_add(-1, row, log_prob)


def observed_entries(fn: TorchDistributionMixin, mask: Bool[Tensor, "rows _"], batch: Batch) -> TorchDistributionMixin:
    """``fn`` masked to the observed entries; the positions are used if the batch has them for this very mask."""
    entries = batch.entries
    if entries is None or entries.mask is not mask or len(fn.batch_shape) < 2 or fn.batch_shape[-2:] != mask.shape:
        return fn.mask(mask)
    if not isinstance(fn, Levels) and type(fn) not in _BY_PARAMETERS:
        return fn.mask(mask)
    return ObservedEntries(fn, mask, entries.row, entries.column)


def of_cells(
    fn: TorchDistributionMixin, row: Int[Tensor, " entries"], column: Int[Tensor, " entries"]
) -> TorchDistributionMixin:
    """``fn`` of single cells; batch shape ``(..., entries)``."""
    if isinstance(fn, Levels):
        return Levels(fn.logits[..., row, column, :], fn.points[column])
    arguments: Any = {name: getattr(fn, name).expand(fn.batch_shape)[..., row, column] for name in fn.arg_constraints}
    return type(fn)(**arguments)
