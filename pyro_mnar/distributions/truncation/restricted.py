"""Distributions between bounds: how a censored cell is scored, and how its value is drawn.

A censored cell is known only to lie between a and b.  It enters the likelihood with log p(a ≤ x ≤ b | z).  Its value is
drawn from p(x | z, a ≤ x ≤ b), so the draw cancels from the importance weight.  Each family's probabilities and draws
are in :mod:`pyro_mnar.distributions.truncation.families`.

Normal, log-normal and logit-normal columns are computed at all cells, with or without bounds.  No shape then depends on
values, so a training step can be captured.  The other families are computed only at cells with bounds, because their
tails come from SciPy or are iterated until every cell has converged.  So are wide tables, where this is cheaper.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float
from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from pyro_mnar.distributions.levels import Levels
from pyro_mnar.distributions.shapes import broadcast
from pyro_mnar.distributions.truncation.families import takes_all_cells, truncate

FEW_COLUMNS = 64  # most columns of which all cells are computed, if the family allows


class Restricted(TorchDistribution):
    """``fn`` given that x lies between bounds, entry by entry; ``fn`` itself at entries without bounds.

    Args:
        fn: A univariate distribution of batch shape ``(..., rows, columns)``: normal or Student's t; the exponential or
            logistic function of one, such as log-normal; Poisson or negative binomial, standardised or not; or any
            other with ``cdf`` and ``icdf``.
        lower: Least value, -inf where there is no bound.  Both bounds belong to the interval.
        upper: Greatest value, inf where there is no bound.

    Raises:
        ValueError: If ``fn`` is of any other family.
    """

    arg_constraints: dict[str, Any] = {}

    def __init__(
        self,
        fn: TorchDistributionMixin,
        lower: Float[Tensor, "rows columns"],
        upper: Float[Tensor, "rows columns"],
        validate_args: bool | None = None,
    ) -> None:
        shape = broadcast(fn.batch_shape, lower.shape)
        self.fn = fn if fn.batch_shape == shape else fn.expand(shape)
        self.lower, self.upper = lower, upper
        self.bounded = lower.isfinite() | upper.isfinite()
        super().__init__(shape, torch.Size(), validate_args=validate_args)
        is_whole = takes_all_cells(self.fn) and lower.shape[-1] <= FEW_COLUMNS
        self.cells = slice(None) if is_whole else self.bounded
        self._family = truncate(self.fn, lower[self.cells], upper[self.cells], self.cells)

    @property
    def has_rsample(self) -> bool:
        """True if ``fn`` can be reparameterised."""
        return self.fn.has_rsample

    @property
    def support(self) -> Any:
        """The support of ``fn``; the density is zero outside the bounds."""
        return self.fn.support

    @cached_property
    def log_mass(self) -> Float[Tensor, "*batch rows columns"]:
        """Log P(lower ≤ x ≤ upper) under ``fn``, zero where there are no bounds."""
        return self._with(self.lower.new_zeros(self.batch_shape), self._family.log_mass())

    def expand(self, batch_shape: Any, _instance: Any = None) -> Restricted:
        """Expand to a larger batch shape."""
        return Restricted(self.fn.expand(torch.Size(batch_shape)), self.lower, self.upper, validate_args=False)

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Draw without gradient; ``sample_shape + batch_shape``."""
        with torch.no_grad():
            return self._draw(sample_shape, self.fn.sample)

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Draw with gradient; ``sample_shape + batch_shape``."""
        return self._draw(sample_shape, self.fn.rsample)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density per entry; -inf outside the bounds."""
        outside = (value < self.lower) | (value > self.upper)
        return (self.fn.log_prob(value) - self.log_mass).masked_fill(outside, -torch.inf)

    def _draw(self, sample_shape: Any, draw: Any) -> Tensor:
        drawn = draw(sample_shape)
        if not sample_shape:
            return self._with(drawn, self._family.draw())
        larger = self.fn.expand(drawn.shape)
        return self._with(drawn, truncate(larger, self._family.lower, self._family.upper, self.cells).draw())

    def _with(self, values: Tensor, inside: Float[Tensor, "*_"]) -> Tensor:
        if self.cells is not self.bounded:
            return torch.where(self.bounded, inside.to(values.dtype), values)
        values = values.clone()
        values[..., self.bounded] = inside.to(values.dtype)
        return values


class PartlyCensored(TorchDistribution):
    """The likelihood of a partly censored row.

    An observed entry has its density, a censored one the probability of its interval.  Other gaps have probability one.

    Args:
        restricted: p(x|z) between bounds.
        mask: True where observed.
    """

    arg_constraints: dict[str, Any] = {}

    def __init__(self, restricted: Restricted, mask: Bool[Tensor, "..."], validate_args: bool | None = None) -> None:
        self.restricted, self.mask_observed = restricted, mask
        super().__init__(restricted.batch_shape, torch.Size(), validate_args=validate_args)

    @property
    def support(self) -> Any:
        """The support of p(x|z)."""
        return self.restricted.support

    def expand(self, batch_shape: Any, _instance: Any = None) -> PartlyCensored:
        """Expand to a larger batch shape."""
        return PartlyCensored(self.restricted.expand(batch_shape), self.mask_observed, validate_args=False)

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Draw from p(x|z), ignoring the bounds."""
        return self.restricted.fn.sample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density or log-probability per entry."""
        return torch.where(self.mask_observed, self.restricted.fn.log_prob(value), self.restricted.log_mass)


def restricted_levels(fn: Levels, lower: Float[Tensor, "rows columns"], upper: Float[Tensor, "rows columns"]) -> Levels:
    """``fn`` given that the level lies between bounds: levels outside have probability zero."""
    outside = (fn.points < lower.unsqueeze(-1)) | (fn.points > upper.unsqueeze(-1))
    return Levels(
        fn.logits.masked_fill(outside, -torch.inf), fn.points, straight_through=fn.straight_through, validate_args=False
    )
