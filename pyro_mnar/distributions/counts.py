"""Counts on the standardised scale, on which the networks see every column."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from pyro_mnar.distributions.levels import DiscretePoints


class StandardizedCounts(TorchDistribution):
    """The distribution of (count - mean) / std.

    Args:
        counts: Distribution of the counts themselves, in any floating type; batch shape ``(..., columns)``.
        mean: Mean that is subtracted; ``(columns,)``.
        std: Standard deviation that is divided by; ``(columns,)``.
    """

    arg_constraints: dict[str, Any] = {}
    support: Any = DiscretePoints()
    has_rsample = False

    def __init__(
        self,
        counts: TorchDistributionMixin,
        mean: Float[Tensor, " columns"],
        std: Float[Tensor, " columns"],
        validate_args: bool | None = None,
    ) -> None:
        self.counts, self.offset, self.unit = counts, mean, std
        super().__init__(counts.batch_shape, torch.Size(), validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        """Expected standardised count."""
        return ((self.counts.mean - self.offset) / self.unit).to(self.unit.dtype)

    def expand(self, batch_shape: Any, _instance: Any = None) -> StandardizedCounts:
        """Expand to a larger batch shape."""
        counts = self.counts.expand(torch.Size(batch_shape))
        return StandardizedCounts(counts, self.offset, self.unit, validate_args=False)

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Draw standardised counts; ``sample_shape + batch_shape``."""
        with torch.no_grad():
            return ((self.counts.sample(sample_shape) - self.offset) / self.unit).to(self.unit.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of the nearest count."""
        count = (value.detach().to(self.counts.mean.dtype) * self.unit + self.offset).round().clamp_min(0.0)
        return self.counts.log_prob(count).to(value.dtype)
