"""A point of probability beside a normal density, on the standardised scale."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor
from torch.nn.functional import logsigmoid

from pyro_mnar.distributions.levels import DiscretePoints


class PointOrDensity(TorchDistribution):
    """A point with probability σ(logit), else a draw of a density.

    Its log-density is with respect to the Lebesgue measure and a unit mass at the point.  Draws have no gradient, so
    the score function's stands for both parts.

    Args:
        logits: Log-odds of the point; ``(..., columns)``.
        density: The rest; batch shape ``(..., columns)``.
        points: The point of each column; ``(columns,)``.
        near: How near to it a value is the point; ``(columns,)``.
    """

    arg_constraints: dict[str, Any] = {}
    support: Any = DiscretePoints()
    has_rsample = False

    def __init__(
        self,
        logits: Float[Tensor, "*batch columns"],
        density: TorchDistributionMixin,
        points: Float[Tensor, " columns"],
        near: Float[Tensor, " columns"],
        validate_args: bool | None = None,
    ) -> None:
        self.logits, self.density, self.points, self.near = logits, density, points, near
        super().__init__(density.batch_shape, torch.Size(), validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        """Expected standardised value."""
        share = self.logits.sigmoid()
        return share * self.points + (1 - share) * self.density.mean

    def expand(self, batch_shape: Any, _instance: Any = None) -> PointOrDensity:
        """Expand to a larger batch shape."""
        shape = torch.Size(batch_shape)
        return PointOrDensity(
            self.logits.expand(shape), self.density.expand(shape), self.points, self.near, validate_args=False
        )

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Draw; ``sample_shape + batch_shape``."""
        with torch.no_grad():
            drawn = self.density.sample(sample_shape)
            return torch.where(torch.rand_like(drawn) < self.logits.sigmoid(), self.points.to(drawn.dtype), drawn)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability at the point, log-density elsewhere."""
        value = value.detach()
        is_point = (value - self.points).abs() < self.near
        return torch.where(is_point, logsigmoid(self.logits), logsigmoid(-self.logits) + self.density.log_prob(value))
