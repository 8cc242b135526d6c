"""Normal and Student's t distributions between bounds.

Draws are reparameterised.  A draw x solves F(x) = (1 - u) F(a) + u F(b), and differentiating this at fixed u gives

    dx = [(1 - u) dF(a) + u dF(b) - dF(x)] / p(x)

(Figurnov et al. 2018, Implicit reparameterization gradients).  Ratios are computed from logarithms in the nearer tail.
"""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_mnar.distributions.truncation import tails
from pyro_mnar.distributions.truncation.truncated import clamped

# Width of an interval in scales: below it, density times width has ten correct digits, and a difference of tails fewer.
NARROW = 1e-5


class TruncatedLocationScale:
    """A location-scale family, symmetric about its location, between bounds.

    An interval above the location is reflected, so that only the lower tail of the standard distribution is needed.
    """

    def __init__(self, fn: Any, lower: Tensor, upper: Tensor, cells: Any) -> None:
        self.fn, self.lower, self.upper, self.cells = fn, lower, upper, cells
        self.loc, self.scale = self._parameter(fn.loc), self._parameter(fn.scale)
        # In double precision, whatever the model's: these cells are few, and far tails underflow in single precision.
        low, high = self._standardised(lower), self._standardised(upper)
        is_free = lower.isinf() & upper.isinf()
        low, high = low.masked_fill(is_free, -1.0), high.masked_fill(is_free, 1.0)
        # From the bounds themselves: the difference of standardised bounds has few correct digits if they are close.
        self.closed = lower.isfinite() & upper.isfinite()
        self.width = torch.where(self.closed, upper.double() - lower.double(), 1.0) / self.scale
        self.flipped = low + high > 0
        self.low, self.high = torch.where(self.flipped, -high, low), torch.where(self.flipped, -low, high)

    def log_mass(self) -> Tensor:
        """Log P(lower ≤ x ≤ upper)."""
        low, high = self._safe()
        to_high = self.log_tail(high)
        difference = torch.where(self.low.isfinite() & ~self._narrow, self.log_tail(low), to_high - 1.0)
        inside = torch.where(self.low.isfinite(), tails.log_difference(to_high, difference), to_high)
        width = torch.where(self._narrow, self.width, 1.0)
        return torch.where(self._narrow, self.log_density((low + high) / 2) + width.log(), inside)

    def draw(self) -> Tensor:
        """One reparameterised draw per cell."""
        low, high = self._safe()
        uniform = torch.rand(self.low.shape, dtype=torch.double, device=self.low.device)
        # A captured step gets numbers in the model's precision; in single precision one of 2^24 of them is zero.
        uniform = uniform.clamp_min(2.0**-25)
        with torch.no_grad():
            below = torch.where(self.low.isfinite(), (self.log_tail(low) - self.log_tail(high)).exp(), 0.0)
            log_p = self.log_tail(high) + (uniform + (1 - uniform) * below).log()
            z = torch.minimum(torch.maximum(self.quantile(log_p), self.low), self.high)
        if torch.is_grad_enabled():
            z = z + self._slope(z, low, high, uniform)
        z = torch.where(self._narrow, low + uniform * self.width, z)
        x = self.loc + self.scale * torch.where(self.flipped, -z, z)
        return clamped(x, self.lower.double(), self.upper.double())

    def log_tail(self, z: Tensor) -> Tensor:
        """Log P(Z ≤ z) of the standard distribution."""
        raise NotImplementedError

    def quantile(self, log_p: Tensor) -> Tensor:
        """The z with log P(Z ≤ z) = log_p; no gradient."""
        raise NotImplementedError

    def log_density(self, z: Tensor) -> Tensor:
        """Log-density of the standard distribution."""
        raise NotImplementedError

    def _parameter(self, value: Tensor) -> Tensor:
        return value.double().expand(self.fn.batch_shape)[..., self.cells]

    def _standardised(self, bound: Tensor) -> Tensor:
        """(bound - loc) / scale; infinite bounds are put back afterwards, so that their gradient is zero, not NaN."""
        finite = bound.isfinite()
        z = (torch.where(finite, bound, 0.0).double() - self.loc) / self.scale
        return torch.where(finite, z, bound.double())

    def _safe(self) -> tuple[Tensor, Tensor]:
        """The bounds with a number in place of -inf, whose gradient would be NaN; the upper bound is never infinite."""
        return torch.where(self.low.isfinite(), self.low, self.high - 1.0), self.high

    @property
    def _narrow(self) -> Tensor:
        return self.closed & ((self.width * self.high.abs().clamp_min(1.0)).detach() < NARROW)

    def _slope(self, z: Tensor, low: Tensor, high: Tensor, uniform: Tensor) -> Tensor:
        """Zero, with the gradient of the quantile in the bounds and parameters."""
        log_density = self.log_density(z).detach()
        at_low = torch.where(self.low.isfinite(), (self.log_tail(low) - log_density).exp(), 0.0)
        at_high = (self.log_tail(high) - log_density).exp()
        moved = (1 - uniform) * at_low + uniform * at_high - (self.log_tail(z) - log_density).exp()
        return moved - moved.detach()


class TruncatedNormal(TruncatedLocationScale):
    """A normal distribution between bounds."""

    def log_tail(self, z: Tensor) -> Tensor:
        """Log P(Z ≤ z), Z standard normal."""
        return tails.log_normal_tail(z)

    def quantile(self, log_p: Tensor) -> Tensor:
        """The z with log P(Z ≤ z) = log_p; no gradient."""
        return tails.normal_quantile(log_p)

    def log_density(self, z: Tensor) -> Tensor:
        """Log-density of the standard normal distribution."""
        return dist.Normal(torch.zeros_like(z), torch.ones_like(z), validate_args=False).log_prob(z)


class TruncatedStudentT(TruncatedLocationScale):
    """Student's t distribution between bounds."""

    def __init__(self, fn: Any, lower: Tensor, upper: Tensor, cells: Tensor) -> None:
        super().__init__(fn, lower, upper, cells)
        self.df = self._parameter(fn.df)

    def log_tail(self, z: Tensor) -> Tensor:
        """Log P(Z ≤ z), Z of Student's t."""
        return tails.log_student_tail(z, self.df)

    def quantile(self, log_p: Tensor) -> Tensor:
        """The z with log P(Z ≤ z) = log_p; no gradient."""
        return tails.student_quantile(log_p, self.df)

    def log_density(self, z: Tensor) -> Tensor:
        """Log-density of Student's t distribution of location 0 and scale 1."""
        return dist.StudentT(self.df, validate_args=False).log_prob(z)
