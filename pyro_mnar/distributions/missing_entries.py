"""The missing entries of a row, x_u, with placeholders for the observed ones."""

from __future__ import annotations

import math
from typing import Any

import pyro.distributions as dist
import torch
from jaxtyping import Bool, Float
from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor
from torch.distributions import biject_to, constraints

from pyro_mnar.distributions.levels import Levels
from pyro_mnar.distributions.shapes import broadcast

MOST_COMBINATIONS = 4_096  # of missing levels that are enumerated in a row


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
        shape = broadcast(fn.batch_shape, mask.shape)
        self.fn = fn if fn.batch_shape == shape else fn.expand(shape)
        self.mask_observed = mask
        super().__init__(shape, torch.Size(), validate_args=validate_args)

    @property
    def has_rsample(self) -> bool:
        """Whether the missing entries can be reparameterised."""
        return self.fn.has_rsample

    @property
    def support(self) -> Any:
        """The support of ``fn``, that of its components if it is a mixture."""
        support: Any = self.fn.support
        while isinstance(support, constraints.MixtureSameFamilyConstraint):
            support = support.base_constraint
        return support

    @property
    def can_be_enumerated(self) -> bool:
        """Whether the values that entries can take are finitely many."""
        return has_few_values(self.fn)

    def combinations(self) -> Float[Tensor, "combinations columns"]:
        """Every combination of values that columns with gaps can take, others held at one.

        Raises:
            ValueError: If there are more than 4,096.
        """
        return combinations(self.fn, self.mask_observed)

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
        of_placeholders = placeholder(self.support, value).log_prob(value)
        return torch.where(self.mask_observed, of_placeholders, self.fn.log_prob(value))

    def _draw(self, drawn: Tensor) -> Tensor:
        if self.support.is_discrete:
            return drawn
        return torch.where(self.mask_observed, placeholder(self.support, drawn).sample(), drawn)


def placeholder(support: Any, like: Tensor) -> torch.distributions.Distribution:
    """What stands at observed entries: N(0, 1) mapped to a support that is not discrete."""
    normal = dist.Normal(torch.zeros_like(like), torch.ones_like(like), validate_args=False)
    transform = biject_to(support)
    if transform == biject_to(dist.constraints.real):
        return normal
    return dist.TransformedDistribution(normal, [transform])


def has_few_values(fn: Any) -> bool:
    """Whether the values that the entries of a distribution can take are finitely many."""
    return isinstance(fn, Levels) or fn.has_enumerate_support


def combinations(fn: Any, mask: Bool[Tensor, "..."]) -> Float[Tensor, "combinations columns"]:
    """Every combination of values that columns with gaps can take, others held at one.

    Args:
        fn: Column-wise distribution; batch shape ``(..., columns)``.
        mask: True where observed; ``(..., columns)``.

    Raises:
        ValueError: If there are more than 4,096.
    """
    choices = [_values(fn, column) for column in range(fn.batch_shape[-1])]
    has_gaps = ~mask.reshape(-1, mask.shape[-1]).all(0)
    kept = [v if gaps else v[:1] for v, gaps in zip(choices, has_gaps.tolist(), strict=True)]
    count = math.prod(len(values) for values in kept)
    if count > MOST_COMBINATIONS:
        raise ValueError(
            f"missing levels: {count:,} combinations of {int(has_gaps.sum())} columns are too many to enumerate (at"
            f" most {MOST_COMBINATIONS:,}): give each column a partially_observed(..., columns=[...]) of its own"
        )
    return torch.cartesian_prod(*kept).reshape(count, len(kept))


def _values(fn: Any, column: int) -> Float[Tensor, " values"]:
    if isinstance(fn, Levels):
        logits = fn.logits[..., column, :]
        has = logits.isfinite().reshape(-1, logits.shape[-1]).any(0)
        return fn.points[column][has]
    return fn.enumerate_support(expand=False).reshape(-1)
