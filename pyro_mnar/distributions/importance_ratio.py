"""The importance ratio of a row: p(x_o|z) · p(x_u|z) / q(x_u|z), entry by entry."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool
from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from pyro_mnar.distributions.shapes import broadcast


class ImportanceRatio(TorchDistribution):
    """p(x|z) at observed entries, p(x|z) / q(x|z) at missing ones, where q is what the missing values are drawn from.

    Args:
        fn: p(x|z); batch shape ``(..., rows, columns)``.
        proposal: q(x|z), of the same batch shape.
        mask: True where observed.
    """

    arg_constraints: dict[str, Any] = {}

    def __init__(
        self,
        fn: TorchDistributionMixin,
        proposal: TorchDistributionMixin,
        mask: Bool[Tensor, "..."],
        validate_args: bool | None = None,
    ) -> None:
        self.base_dist, self.proposal, self.mask_observed = fn, proposal, mask
        super().__init__(broadcast(fn.batch_shape, mask.shape), torch.Size(), validate_args=validate_args)

    @property
    def support(self) -> Any:
        """The support of ``fn``."""
        return self.base_dist.support

    def expand(self, batch_shape: Any, _instance: Any = None) -> ImportanceRatio:
        """Expand to a larger batch shape."""
        shape = torch.Size(batch_shape)
        return ImportanceRatio(
            self.base_dist.expand(shape), self.proposal.expand(shape), self.mask_observed, validate_args=False
        )

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Draw from ``fn``."""
        return self.base_dist.sample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Per entry: log p(x|z), less log q(x|z) where the value is missing."""
        return self.base_dist.log_prob(value) - self.proposal.log_prob(value).masked_fill(self.mask_observed, 0.0)
