"""The truncated form of each family, chosen by the distribution's class.

Transformed families and those known by ``cdf`` and ``icdf`` alone stand here; each of the others has a file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor
from torch.nn.functional import logsigmoid

from pyro_mnar.distributions.counts import StandardizedCounts
from pyro_mnar.distributions.truncation.counts import TruncatedCounts
from pyro_mnar.distributions.truncation.location_scale import TruncatedNormal, TruncatedStudentT
from pyro_mnar.distributions.truncation.truncated import Truncated, clamped
from pyro_mnar.distributions.zero_inflated import PointOrDensity


def takes_all_cells(fn: TorchDistributionMixin) -> bool:
    """Whether cells without bounds can be computed along with the others, at a fixed cost per cell."""
    base = fn.base_dist if _is_transformed(fn) else fn
    return isinstance(base, torch.distributions.Normal)


def truncate(
    fn: TorchDistributionMixin,
    lower: Float[Tensor, "*cells"],
    upper: Float[Tensor, "*cells"],
    cells: Bool[Tensor, "rows columns"] | slice,
) -> Truncated:
    """``fn`` between bounds, at the given cells.

    Args:
        fn: A distribution of batch shape ``(..., rows, columns)``.
        lower: Least value of each cell.
        upper: Greatest value of each cell.  Both may be infinite only if :func:`takes_all_cells`; the results at such a
            cell are finite and without meaning.
        cells: True at the cells, or the slice of all of them.

    Raises:
        ValueError: If the family of ``fn`` cannot be truncated.
    """
    family = next((truncated for known, truncated in _FAMILIES.items() if isinstance(fn, known)), None)
    if family is None and _is_transformed(fn):
        family = _TruncatedTransform
    if family is None and _has_quantiles(fn):
        family = _TruncatedByQuantiles
    if family is None:
        raise ValueError(
            "bounds: expected a distribution of levels, of counts, or with cdf and icdf, such as LogNormal or Weibull,"
            f" got {type(fn).__name__}, whose values cannot be held between bounds"
        )
    return family(fn, lower, upper, cells)


class _TruncatedTransform:
    """The exponential or logistic function of another family.

    Bounds are mapped to the other family's scale, and its draws are mapped back.
    """

    def __init__(self, fn: Any, lower: Tensor, upper: Tensor, cells: Any) -> None:
        self.transforms, self.lower, self.upper = fn.transforms, lower, upper
        low, high = lower.double(), upper.double()
        for transform in reversed(fn.transforms):
            low, high = _INVERSES[type(transform)](low), _INVERSES[type(transform)](high)
        self.base = truncate(fn.base_dist.expand(fn.batch_shape), low, high, cells)

    def log_mass(self) -> Tensor:
        return self.base.log_mass()

    def draw(self) -> Tensor:
        x = self.base.draw()
        for transform in self.transforms:
            x = transform(x)
        return clamped(x, self.lower.double(), self.upper.double())


class _TruncatedPointOrDensity:
    """The point, where it lies between the bounds, beside the density between them."""

    def __init__(self, fn: Any, lower: Tensor, upper: Tensor, cells: Any) -> None:
        self.lower, self.upper = lower, upper
        self.density = truncate(fn.density.expand(fn.batch_shape), lower, upper, cells)
        logits, self.point = (part.expand(fn.batch_shape)[..., cells] for part in (fn.logits, fn.points))
        is_inside = (lower <= self.point) & (self.point <= upper)
        self.log_point = logsigmoid(logits).masked_fill(~is_inside, -torch.inf)
        self.log_rest = logsigmoid(-logits) + self.density.log_mass()

    def log_mass(self) -> Tensor:
        return torch.logaddexp(self.log_point, self.log_rest)

    def draw(self) -> Tensor:
        drawn = self.density.draw()
        share = (self.log_point - self.log_mass()).exp()
        return torch.where(torch.rand_like(drawn) < share, self.point.to(drawn.dtype), drawn)


class _TruncatedByQuantiles:
    """Any family with ``cdf`` and ``icdf``; accurate where the ``cdf`` has not yet rounded to 0 or 1."""

    def __init__(self, fn: Any, lower: Tensor, upper: Tensor, cells: Any) -> None:
        self.fn, self.lower, self.upper, self.cells = fn, lower, upper, cells
        self.below, self.above = self._cdf(lower, 0.0), self._cdf(upper, 1.0)

    def log_mass(self) -> Tensor:
        return (self.above - self.below).clamp_min(torch.finfo(self.above.dtype).tiny).log()

    def draw(self) -> Tensor:
        share = self.below + torch.rand_like(self.below) * (self.above - self.below)
        full = torch.full(self.fn.batch_shape, 0.5, dtype=share.dtype, device=share.device)
        full[..., self.cells] = share
        return clamped(self.fn.icdf(full)[..., self.cells], self.lower, self.upper)

    def _cdf(self, bound: Tensor, beyond: float) -> Tensor:
        """The cdf at the bounds; ``beyond`` where a bound is infinite or outside the support."""
        half = torch.full(self.fn.batch_shape, 0.5, dtype=bound.dtype, device=bound.device)
        point = self.fn.icdf(half).detach()
        full = torch.full_like(point, torch.nan)
        full[..., self.cells] = bound
        within = full.isfinite() & self.fn.support.check(full)
        cdf = self.fn.cdf(torch.where(within, full, point))[..., self.cells]
        return torch.where(within[..., self.cells], cdf, beyond)


def _is_transformed(fn: TorchDistributionMixin) -> bool:
    return (
        isinstance(fn, torch.distributions.TransformedDistribution)
        and all(type(transform) in _INVERSES for transform in fn.transforms)
        and isinstance(fn.base_dist, torch.distributions.Normal | torch.distributions.StudentT)
    )


def _has_quantiles(fn: Any) -> bool:  # of Pyro or, inside a transformed one, of torch
    if isinstance(fn, torch.distributions.TransformedDistribution):
        return _has_quantiles(fn.base_dist)
    own, none = type(fn), torch.distributions.Distribution
    return own.icdf is not none.icdf and own.cdf is not none.cdf


_INVERSES: dict[type, Callable[[Tensor], Tensor]] = {
    torch.distributions.ExpTransform: lambda bound: bound.clamp_min(0.0).log(),
    torch.distributions.SigmoidTransform: lambda bound: bound.clamp(0.0, 1.0).logit(),
}
_FAMILIES: dict[type, Callable[..., Truncated]] = {
    torch.distributions.Normal: TruncatedNormal,
    torch.distributions.StudentT: TruncatedStudentT,
    torch.distributions.Poisson: TruncatedCounts,
    torch.distributions.NegativeBinomial: TruncatedCounts,
    StandardizedCounts: TruncatedCounts,
    PointOrDensity: _TruncatedPointOrDensity,
}
