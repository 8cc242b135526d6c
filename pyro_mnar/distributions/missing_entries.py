"""The missing entries of a row, x_u, with placeholders for the observed ones."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from jaxtyping import Bool
from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor
from torch.distributions import biject_to


class MissingEntries(TorchDistribution):
    """``fn`` at missing entries, a fixed placeholder at observed entries.

    The placeholder is N(0, 1) mapped to the support of ``fn``.  It depends neither on parameters nor on z, so it
    carries no information; and it is a proper distribution, so NUTS meets no flat direction at observed entries.  For a
    discrete ``fn``, every value of the placeholder has probability one.

    Args:
        fn: A univariate distribution of batch shape ``(..., rows, columns)``.
        mask: True where observed; broadcasts with the batch shape.
    """

    arg_constraints: dict[str, Any] = {}

    def __init__(
        self, fn: TorchDistributionMixin, mask: Bool[Tensor, "..."], validate_args: bool | None = None
    ) -> None:
        shape = torch.broadcast_shapes(fn.batch_shape, mask.shape)
        self.fn = fn if fn.batch_shape == shape else fn.expand(shape)
        self.mask_observed = mask
        super().__init__(shape, torch.Size(), validate_args=validate_args)

    @property
    def has_rsample(self) -> bool:
        """Whether the missing entries can be reparameterised."""
        return self.fn.has_rsample

    @property
    def support(self) -> Any:
        """The support of ``fn``."""
        return self.fn.support

    def expand(self, batch_shape: Any, _instance: Any = None) -> MissingEntries:
        """Expand to a larger batch shape."""
        return MissingEntries(self.fn.expand(torch.Size(batch_shape)), self.mask_observed, validate_args=False)

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Draw without gradient; ``sample_shape + batch_shape``."""
        with torch.no_grad():
            return self._draw(self.fn.sample(sample_shape))

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Draw, with gradients at missing entries; ``sample_shape + batch_shape``."""
        if (
            type(self.fn) is dist.Normal
        ):  # one standard normal number per entry, for a missing value or for a placeholder
            noise = torch.zeros_like(self.fn.loc).expand(self._extended_shape(sample_shape)).contiguous().normal_()
            return torch.where(self.mask_observed, noise, torch.addcmul(self.fn.loc, self.fn.scale, noise))
        return self._draw(self.fn.rsample(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """Per entry: the density of ``fn`` or of the placeholder."""
        if self.support.is_discrete:
            return self.fn.log_prob(value).masked_fill(self.mask_observed, 0.0)
        return torch.where(self.mask_observed, self._placeholder(value).log_prob(value), self.fn.log_prob(value))

    def _draw(self, drawn: Tensor) -> Tensor:
        if self.support.is_discrete:
            return drawn
        return torch.where(self.mask_observed, self._placeholder(drawn).sample(), drawn)

    def _placeholder(self, like: Tensor) -> torch.distributions.Distribution:
        normal = dist.Normal(torch.zeros_like(like), torch.ones_like(like), validate_args=False)
        transform = biject_to(self.support)
        if transform == biject_to(dist.constraints.real):
            return normal
        return dist.TransformedDistribution(normal, [transform])
