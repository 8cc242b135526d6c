"""Families of distributions between bounds: the probability of lying there, and draws from there.

Continuous draws are reparameterised: x solves F(x) = (1 - u) F(a) + u F(b), and differentiating that at fixed u gives

    dx = [(1 - u) dF(a) + u dF(b) - dF(x)] / p(x)

(Figurnov et al. 2018, Implicit reparameterization gradients), all ratios taken of logarithms in the nearer tail.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any, Protocol, runtime_checkable

import pyro.distributions as dist
import torch
from jaxtyping import Bool, Float
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from pyro_mnar.distributions import tails
from pyro_mnar.distributions.counts import StandardizedCounts

NARROW = 1e-5  # in scales: below, density times width is right to ten digits, and a difference of tails is not
CANDIDATES = 16  # draws of a count among which one inside is looked for before its quantile is


@runtime_checkable
class Between(Protocol):
    """A family between bounds, whose parameters and bounds end in a dimension of cells, or in rows and columns."""

    lower: Tensor
    upper: Tensor

    def log_mass(self) -> Float[Tensor, "*batch_and_cells"]:
        """Log-probability of lying inside."""
        ...

    def draw(self) -> Float[Tensor, "*batch_and_cells"]:
        """One draw, with its gradient where the family has one."""
        ...


def takes_all_cells(fn: TorchDistributionMixin) -> bool:
    """Whether cells without bounds can be computed along with the others, at a fixed cost a cell."""
    base = fn.base_dist if _is_transformed(fn) else fn
    return isinstance(base, torch.distributions.Normal)


def between(
    fn: TorchDistributionMixin,
    lower: Float[Tensor, "*cells"],
    upper: Float[Tensor, "*cells"],
    cells: Bool[Tensor, "rows columns"] | slice,
) -> Between:
    """``fn`` between bounds, at some cells.

    Args:
        fn: The distribution, ``(..., rows, columns)``.
        lower: Least value of each cell.
        upper: Greatest value.  Where both are infinite, which takes :func:`takes_all_cells`, the methods give some
            finite number.
        cells: Which cells these are.

    Raises:
        ValueError: If ``fn`` is of no family that can be held between bounds.
    """
    family = next((law for known, law in _FAMILIES.items() if isinstance(fn, known)), None)
    if family is None and _is_transformed(fn):
        family = _Transformed
    if family is None and _has_quantiles(fn):
        family = _ByQuantiles
    if family is None:
        raise ValueError(
            "bounds: expected a distribution of levels, of counts, or with cdf and icdf, got"
            f" {type(fn).__name__}, whose values cannot be held between bounds"
        )
    return family(fn, lower, upper, cells)


class _Symmetric:
    """Families of location and scale, symmetric about the location."""

    def __init__(self, fn: Any, lower: Tensor, upper: Tensor, cells: Any) -> None:
        self.fn, self.lower, self.upper, self.cells = fn, lower, upper, cells
        self.loc, self.scale = self._parameter(fn.loc), self._parameter(fn.scale)
        # In double precision whatever the model's: it is a few cells, and the tails are where floats end.
        low, high = self._standardised(lower), self._standardised(upper)
        is_free = lower.isinf() & upper.isinf()
        low, high = low.masked_fill(is_free, -1.0), high.masked_fill(is_free, 1.0)
        # Not the difference of these, of which a narrow interval leaves few digits.
        self.closed = lower.isfinite() & upper.isfinite()
        self.width = torch.where(self.closed, upper.double() - lower.double(), 1.0) / self.scale
        self.flipped = low + high > 0  # so that all is in terms of the lower tail
        self.low, self.high = torch.where(self.flipped, -high, low), torch.where(self.flipped, -low, high)

    def log_mass(self) -> Tensor:
        low, high = self._safe()
        to_high = self.log_tail(high)
        difference = torch.where(self.low.isfinite() & ~self._narrow, self.log_tail(low), to_high - 1.0)
        inside = torch.where(self.low.isfinite(), tails.log_difference(to_high, difference), to_high)
        width = torch.where(self._narrow, self.width, 1.0)
        return torch.where(self._narrow, self.log_density((low + high) / 2) + width.log(), inside)

    def draw(self) -> Tensor:
        low, high = self._safe()
        uniform = torch.rand(self.low.shape, dtype=torch.double, device=self.low.device)
        # A captured step is given numbers in the model's precision, in single one of 2^24 of which is zero.
        uniform = uniform.clamp_min(2.0**-25)
        with torch.no_grad():
            below = torch.where(self.low.isfinite(), (self.log_tail(low) - self.log_tail(high)).exp(), 0.0)
            log_p = self.log_tail(high) + (uniform + (1 - uniform) * below).log()
            z = torch.minimum(torch.maximum(self.quantile(log_p), self.low), self.high)
        if torch.is_grad_enabled():
            z = z + self._slope(z, low, high, uniform)
        z = torch.where(self._narrow, low + uniform * self.width, z)
        x = self.loc + self.scale * torch.where(self.flipped, -z, z)
        return _held(x, self.lower.double(), self.upper.double())

    def log_tail(self, z: Tensor) -> Tensor:
        return tails.log_normal_tail(z)

    def quantile(self, log_p: Tensor) -> Tensor:
        return tails.normal_quantile(log_p)

    def log_density(self, z: Tensor) -> Tensor:
        return dist.Normal(torch.zeros_like(z), torch.ones_like(z), validate_args=False).log_prob(z)

    def _parameter(self, value: Tensor) -> Tensor:
        return value.double().expand(self.fn.batch_shape)[..., self.cells]

    def _standardised(self, bound: Tensor) -> Tensor:
        """Infinities are put back afterwards: their gradient is zero and not NaN."""
        finite = bound.isfinite()
        z = (torch.where(finite, bound, 0.0).double() - self.loc) / self.scale
        return torch.where(finite, z, bound.double())

    def _safe(self) -> tuple[Tensor, Tensor]:
        """The bounds with numbers for infinities, whose gradients would be NaN; the upper one is always finite."""
        return torch.where(self.low.isfinite(), self.low, self.high - 1.0), self.high

    @property
    def _narrow(self) -> Tensor:
        return self.closed & ((self.width * self.high.abs().clamp_min(1.0)).detach() < NARROW)

    def _slope(self, z: Tensor, low: Tensor, high: Tensor, uniform: Tensor) -> Tensor:
        """Zero, with the gradient of the quantile in bounds and parameters."""
        log_density = self.log_density(z).detach()
        at_low = torch.where(self.low.isfinite(), (self.log_tail(low) - log_density).exp(), 0.0)
        at_high = (self.log_tail(high) - log_density).exp()
        moved = (1 - uniform) * at_low + uniform * at_high - (self.log_tail(z) - log_density).exp()
        return moved - moved.detach()


class _StudentT(_Symmetric):
    def __init__(self, fn: Any, lower: Tensor, upper: Tensor, cells: Tensor) -> None:
        super().__init__(fn, lower, upper, cells)
        self.df = self._parameter(fn.df)

    def log_tail(self, z: Tensor) -> Tensor:
        return tails.log_student_tail(z, self.df)

    def quantile(self, log_p: Tensor) -> Tensor:
        return tails.student_quantile(log_p, self.df)

    def log_density(self, z: Tensor) -> Tensor:
        return dist.StudentT(self.df, validate_args=False).log_prob(z)


class _Transformed:
    """The exponential or the logistic function of another family: bounds are mapped back, draws forth."""

    def __init__(self, fn: Any, lower: Tensor, upper: Tensor, cells: Any) -> None:
        self.transforms, self.lower, self.upper = fn.transforms, lower, upper
        low, high = lower.double(), upper.double()
        for transform in reversed(fn.transforms):
            low, high = _INVERSES[type(transform)](low), _INVERSES[type(transform)](high)
        self.base = between(fn.base_dist.expand(fn.batch_shape), low, high, cells)

    def log_mass(self) -> Tensor:
        return self.base.log_mass()

    def draw(self) -> Tensor:
        x = self.base.draw()
        for transform in self.transforms:
            x = transform(x)
        return _held(x, self.lower.double(), self.upper.double())


class _ByQuantiles:
    """Any family with ``cdf`` and ``icdf``; right as far out as its ``cdf`` differs from 0 and 1."""

    def __init__(self, fn: Any, lower: Tensor, upper: Tensor, cells: Any) -> None:
        self.fn, self.lower, self.upper, self.cells = fn, lower, upper, cells
        self.below, self.above = self._cdf(lower, 0.0), self._cdf(upper, 1.0)

    def log_mass(self) -> Tensor:
        return (self.above - self.below).clamp_min(torch.finfo(self.above.dtype).tiny).log()

    def draw(self) -> Tensor:
        share = self.below + torch.rand_like(self.below) * (self.above - self.below)
        full = torch.full(self.fn.batch_shape, 0.5, dtype=share.dtype, device=share.device)
        full[..., self.cells] = share
        return _held(self.fn.icdf(full)[..., self.cells], self.lower, self.upper)

    def _cdf(self, bound: Tensor, beyond: float) -> Tensor:
        """The cdf at the bounds, ``beyond`` where they are infinite or beyond the support."""
        half = torch.full(self.fn.batch_shape, 0.5, dtype=bound.dtype, device=bound.device)
        point = self.fn.icdf(half).detach()
        full = torch.full_like(point, torch.nan)
        full[..., self.cells] = bound
        within = full.isfinite() & self.fn.support.check(full)
        cdf = self.fn.cdf(torch.where(within, full, point))[..., self.cells]
        return torch.where(within[..., self.cells], cdf, beyond)


class _Counts:
    """Poisson and negative binomial counts, on the model's line if they stand there."""

    def __init__(self, fn: Any, lower: Tensor, upper: Tensor, cells: Tensor) -> None:
        self.lower, self.upper, self.cells = lower, upper, cells
        shape, base = fn.batch_shape, fn
        self.offset, self.unit = lower.new_zeros(()), lower.new_ones(())
        if isinstance(fn, StandardizedCounts):
            base = fn.counts
            self.offset, self.unit = (v.expand(shape)[..., cells].double() for v in (fn.offset, fn.unit))
        names = ("rate",) if isinstance(base, torch.distributions.Poisson) else ("total_count", "logits")
        self.parameters = [getattr(base, name).double().expand(shape)[..., cells] for name in names]
        low, high = lower.double() * self.unit + self.offset, upper.double() * self.unit + self.offset
        # A bound is a count, or lies halfway between two of them: rounding is no question.
        least, most = (low - 1e-4).ceil().clamp_min(0.0), (high + 1e-4).floor()
        self.least, self.most, _ = torch.broadcast_tensors(least, most, self.parameters[0])

    def log_mass(self) -> Tensor:
        in_upper = self.most.isinf() | (self.least > self._base().mean.detach())
        most = torch.where(self.most.isinf(), self.least, self.most)
        # The tail that is not asked for is computed at counts where it is harmless.
        upper = self._tail(torch.where(in_upper, self.least, 0.0), True)
        beyond = self._tail(torch.where(in_upper, most + 1, 1.0), True)
        lower = self._tail(torch.where(in_upper, 0.0, most), False)
        before = self._tail(torch.where(in_upper, 0.0, self.least - 1).clamp_min(0.0), False)
        single = self.least == self.most
        whole = torch.where(in_upper, upper, lower)
        rest = torch.where(in_upper, beyond, before)
        has_rest = torch.where(in_upper, self.most.isfinite(), self.least > 0) & ~single
        difference = tails.log_difference(whole, torch.where(has_rest, rest, whole.detach() - 1.0))
        pmf = self._base().log_prob(torch.where(single, self.least, 0.0))
        return torch.where(single, pmf, torch.where(has_rest, difference, whole))

    def draw(self) -> Tensor:
        """The first of some draws that lies inside, or else a quantile."""
        with torch.no_grad():
            candidates = self._base().sample(torch.Size([CANDIDATES]))
            inside = (candidates >= self.least) & (candidates <= self.most)
            first = inside.int().argmax(0, keepdim=True)
            count = candidates.gather(0, first).squeeze(0)
            wanted = ~inside.any(0)
            if wanted.any():
                count[wanted] = self._at(wanted)._quantile()
            return (count - self.offset) / self.unit

    def _quantile(self) -> Tensor:
        """The least count n with P(least ≤ N ≤ n) ≥ u P(least ≤ N ≤ most), by bisection."""
        target = self.log_mass() + torch.rand_like(self.least).clamp_min(1e-300).log()
        low, high = self.least - 1, self.least
        wanted = (self._between(high) < target) & (high < self.most)
        for _ in range(60):  # doublings
            if not wanted.any():
                break
            low = torch.where(wanted, high, low)
            high = torch.where(wanted, torch.minimum(self.least + 2 * (high - self.least) + 1, self.most), high)
            wanted = (self._between(high) < target) & (high < self.most)
        while (high - low > 1).any():
            middle = ((low + high) / 2).floor()
            above = (self._between(middle) >= target) & (middle > low)
            low, high = torch.where(above | (middle <= low), low, middle), torch.where(above, middle, high)
        return high

    def _at(self, cells: Tensor) -> _Counts:
        return self._with(self.least[cells], self.most[cells], [p[cells] for p in self.parameters])

    def _between(self, most: Tensor) -> Tensor:
        return self._with(self.least, most, self.parameters).log_mass()

    def _with(self, least: Tensor, most: Tensor, parameters: list[Tensor]) -> _Counts:
        other = copy(self)
        other.least, other.most, other.parameters = least, most, parameters
        return other

    def _base(self) -> Any:
        if len(self.parameters) == 1:
            return dist.Poisson(self.parameters[0], validate_args=False)
        return dist.NegativeBinomial(self.parameters[0], logits=self.parameters[1], validate_args=False)

    def _tail(self, count: Tensor, upper: bool) -> Tensor:
        if len(self.parameters) == 1:
            return tails.log_poisson_tail(count, self.parameters[0], upper)
        total, log_odds = self.parameters
        return tails.log_negative_binomial_tail(count, total, log_odds, upper)


def _held(x: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Keep x between its bounds, whatever rounding did; the gradient is that of x."""
    inside = torch.minimum(torch.maximum(x.detach(), lower), upper)
    return inside + (x - x.detach())


def _is_transformed(fn: TorchDistributionMixin) -> bool:
    return (
        isinstance(fn, torch.distributions.TransformedDistribution)
        and all(type(transform) in _INVERSES for transform in fn.transforms)
        and isinstance(fn.base_dist, torch.distributions.Normal | torch.distributions.StudentT)
    )


def _has_quantiles(fn: TorchDistributionMixin) -> bool:
    if isinstance(fn, torch.distributions.TransformedDistribution):
        return _has_quantiles(fn.base_dist)
    own, none = type(fn), torch.distributions.Distribution
    return own.icdf is not none.icdf and own.cdf is not none.cdf


_INVERSES: dict[type, Callable[[Tensor], Tensor]] = {
    torch.distributions.ExpTransform: lambda bound: bound.clamp_min(0.0).log(),
    torch.distributions.SigmoidTransform: lambda bound: bound.clamp(0.0, 1.0).logit(),
}
_FAMILIES: dict[type, Callable[..., Between]] = {
    torch.distributions.Normal: _Symmetric,
    torch.distributions.StudentT: _StudentT,
    torch.distributions.Poisson: _Counts,
    torch.distributions.NegativeBinomial: _Counts,
    StandardizedCounts: _Counts,
}
