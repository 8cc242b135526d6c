"""Points at which a family of values is integrated or summed, such as Student's t or counts.

A value of a continuous family is integrated by Gauss-Legendre's rule over panels between its extreme quantiles, which
are finer towards the place where a mechanism that is a line turns from observed to missing.  Counts are summed, one by
one where their range has at most 256 of them, by the midpoint rule where it has more.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from pyro.distributions.zero_inflated import ZeroInflatedDistribution
from torch import Tensor
from torch.nn.functional import logsigmoid

from pyro_mnar.distributions.counts import StandardizedCounts
from pyro_mnar.distributions.self_masked import Line

RARE = 1e-9  # probability beyond the last panel of Student's t
NORMAL_REACH = 9.0  # standard deviations to the last panel of a normal distribution
NUM_PANELS = 14
NUM_FINE = 10  # further panels on each side of the place where a line is zero, each a third of the one before
NUM_NODES = 6  # a panel
NUM_PLACED = 20  # further panels where a mechanism that is no line changes
NUM_LOOKS = 48  # places at which a mechanism that is no line is tried before the panels are laid
MOST_COUNTS = 256  # points that counts are summed over
COUNTS_AT_ONCE = 16
MOST_IN_BLOCK = 64  # counts among which a draw is chosen, having chosen the block


class Block(NamedTuple):
    """Some points of the value.

    Attributes:
        x: The points; ``(points, ..., rows, columns)``.
        log_mass: Log of density times weight, or probability; of the same shape.
    """

    x: Float[Tensor, "points *batch rows columns"]
    log_mass: Float[Tensor, "points *batch rows columns"]


@runtime_checkable
class Mesh(Protocol):
    """Points at which a family is integrated or summed."""

    def blocks(self) -> Iterator[Block]:
        """All points, as many at a time as are kept in memory."""
        ...

    def block(self, number: Tensor) -> Block:
        """Of each cell the block of this number."""
        ...

    def within(self, number: Tensor, log_missing: Callable[[Tensor], Tensor]) -> Tensor:
        """A draw of each cell from within its block of this number, given log p(r = 0 | x, z) of some points."""
        ...


def mesh_of(fn: Any, log_missing: Callable[[Tensor], Tensor], line: Line | None) -> Mesh | None:
    """The mesh of a family; None if it has none.

    Args:
        fn: The distribution.
        log_missing: log p(r = 0 | x, z) of a value of each cell.
        line: The predictor, if it is a line: the mesh is finer where it is zero.
    """
    if not can_be_integrated(fn):
        return None
    if isinstance(fn, torch.distributions.TransformedDistribution):
        return Panels(fn, fn.base_dist.expand(fn.batch_shape), fn.transforms, log_missing, line)
    if _is_centred(fn):
        return Panels(fn, fn, [], log_missing, line)
    return Counts(fn, fn.counts if isinstance(fn, StandardizedCounts) else fn)


def can_be_integrated(fn: Any) -> bool:
    """Whether a family has a mesh."""
    if isinstance(fn, torch.distributions.TransformedDistribution):
        return _is_centred(fn.base_dist) and all(type(transform) in _MONOTONE for transform in fn.transforms)
    counts = fn.counts if isinstance(fn, StandardizedCounts) else fn
    counts = counts.base_dist if isinstance(counts, ZeroInflatedDistribution) else counts
    return _is_centred(fn) or isinstance(counts, _COUNTS)


class Panels:
    """Panels between the extreme quantiles of a normal or Student's t distribution, or of functions of one.

    With v the place in the mesh, the value of the base is loc + scale·v for a normal one and loc + scale·sinh(v) for
    Student's t, whose tails are powers.
    """

    def __init__(self, fn: Any, base: Any, transforms: Sequence[Any], log_missing: Callable, line: Line | None) -> None:
        self.base, self.transforms, self.shape = _unchecked(base), transforms, fn.batch_shape
        self.is_heavy = isinstance(base, torch.distributions.StudentT)
        with torch.no_grad():
            self.edges = self._edges(log_missing) if line is None else self._edges_about(line)
            self.scale = self.base.scale.clone()
        points, weights = np.polynomial.legendre.leggauss(NUM_NODES)
        self.points, self.weights = (torch.tensor(values).to(self.edges) for values in (points, weights))

    def blocks(self) -> Iterator[Block]:
        """Every panel."""
        edges = self.edges.unbind(-1)
        for low, high in itertools.pairwise(edges):
            yield self._between(low, high)

    def block(self, number: Tensor) -> Block:
        """A panel of each cell."""
        return self._between(*self._ends(number))

    def within(self, number: Tensor, log_missing: Callable[[Tensor], Tensor]) -> Tensor:
        """Invert the distribution function of the polynomial through the density at the panel's points."""
        block = self.block(number)
        log_mass = block.log_mass + log_missing(block.x)
        density = (log_mass - log_mass.amax(0)).exp() / _like(self.weights, log_mass)
        order = torch.arange(NUM_NODES, dtype=density.dtype, device=density.device)
        projection = _legendre(self.points, NUM_NODES) * self.weights * (order.unsqueeze(-1) + 0.5)
        coefficients = torch.einsum("op,p...->o...", projection, density).unbind(0)
        share = torch.rand_like(density[0]) * 2 * coefficients[0]  # the integral over [-1, 1] is 2 c_0
        low, high = torch.full_like(share, -1.0), torch.ones_like(share)
        for _ in range(40 if share.dtype is torch.double else 24):
            middle = (low + high) / 2
            above = _integral(coefficients, middle) > share
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        first, last = self._ends(number)
        return self._value((first + last) / 2 + (last - first) / 2 * (low + high) / 2)

    def _between(self, low: Tensor, high: Tensor) -> Block:
        half = (high - low) / 2
        v = (low + high) / 2 + half * _like(self.points, half.unsqueeze(0))
        width = half.clamp_min(torch.finfo(half.dtype).tiny) * _like(self.weights, half.unsqueeze(0)) * self.scale
        log_width = (width * v.cosh() if self.is_heavy else width).log()
        return Block(self._value(v), self.base.log_prob(self._base(v)) + log_width)

    def _ends(self, number: Tensor) -> tuple[Tensor, Tensor]:
        at = number.unsqueeze(-1)
        return self.edges.gather(-1, at).squeeze(-1), self.edges.gather(-1, at + 1).squeeze(-1)

    def _base(self, v: Tensor) -> Tensor:
        return self.base.loc.detach() + self.base.scale.detach() * (v.sinh() if self.is_heavy else v)

    def _value(self, v: Tensor) -> Tensor:
        value = self._base(v)
        for transform in self.transforms:
            value = transform(value)
        return value

    def _reach(self) -> Float[Tensor, "*batch 1"]:
        if not self.is_heavy:
            return torch.full_like(self.base.loc, NORMAL_REACH).expand(self.shape).unsqueeze(-1)
        df = self.base.df
        return (df * (RARE ** (-2 / df) - 1)).sqrt().asinh().expand(self.shape).unsqueeze(-1)

    def _edges_about(self, line: Line) -> Float[Tensor, "*batch edges"]:
        """Panels of equal width, and finer ones towards the place where a line is zero."""
        reach = self._reach()
        zero = -line.intercept / line.slope.abs().clamp_min(1e-6).copysign(line.slope)
        for transform in reversed(self.transforms):
            zero = transform.inv(_into(transform, zero))
        zero = ((zero - self.base.loc) / self.base.scale).expand(self.shape).unsqueeze(-1)
        zero = torch.minimum(torch.maximum((zero.asinh() if self.is_heavy else zero).nan_to_num(), -reach), reach)
        fine = NORMAL_REACH * 3.0 ** -torch.arange(1.0, NUM_FINE + 1).to(reach)
        fine = torch.cat([-fine, torch.zeros_like(fine[:1]), fine])
        coarse = reach * torch.linspace(-1.0, 1.0, NUM_PANELS + 1).to(reach)
        return torch.cat([coarse, torch.minimum(torch.maximum(zero + fine, -reach), reach)], dim=-1).sort(-1).values

    def _edges(self, log_missing: Callable) -> Float[Tensor, "*batch edges"]:
        """As many panels of equal width, and others where the probability of being missing changes most."""
        reach = self._reach()
        steps = torch.linspace(-1.0, 1.0, NUM_LOOKS + 1).to(reach)
        places = [reach.squeeze(-1) * step for step in steps]
        missing = torch.stack([log_missing(self._value(v)).exp() for v in places], dim=-1)
        change = missing.diff(dim=-1).abs() + 1e-6
        beside = torch.nn.functional.pad(change, (1, 1))
        change = change + (beside[..., 2:] + beside[..., :-2]) / 2  # a steep place has flat ends on either side
        reached = torch.nn.functional.pad((change / change.sum(-1, keepdim=True)).cumsum(-1), (1, 0))
        wanted = torch.linspace(0.0, 1.0, NUM_PLACED + 2).to(reach)[1:-1].expand(*self.shape, -1).contiguous()
        at = torch.searchsorted(reached.contiguous(), wanted).clamp(1, NUM_LOOKS)
        low, high = reached.gather(-1, at - 1), reached.gather(-1, at)
        place = (at - 1 + (wanted - low) / (high - low).clamp_min(1e-12)) * (2 / NUM_LOOKS) - 1
        coarse = reach * torch.linspace(-1.0, 1.0, NUM_PANELS + 1).to(reach)
        return torch.cat([coarse, reach * place], dim=-1).sort(-1).values


class Counts:
    """Counts from 0, or from far below the mean, to far above it; an inflated zero has a block of its own."""

    def __init__(self, fn: Any, counts: Any) -> None:
        self.fn = fn
        base, self.log_gate = counts, None
        if isinstance(counts, ZeroInflatedDistribution):
            base = counts.base_dist
            logits = counts.gate_logits if "gate_logits" in vars(counts) else counts.gate.logit()
            self.log_gate = logsigmoid(logits), logsigmoid(-logits)
        self.base = _unchecked(base.expand(fn.batch_shape))
        with torch.no_grad():
            mean, reach = self.base.mean, 12 * self.base.stddev + 24
            self.first = (mean - reach).clamp_min(0.0).floor()
            self.stride = ((mean + reach - self.first) / MOST_COUNTS).ceil().clamp_min(1.0)

    def blocks(self) -> Iterator[Block]:
        """Sixteen counts at a time."""
        for number in range(MOST_COUNTS // COUNTS_AT_ONCE + (self.log_gate is not None)):
            yield self.block(torch.full(self.first.shape, number, device=self.first.device))

    def block(self, number: Tensor) -> Block:
        """Sixteen counts of each cell."""
        count, log_mass = self._counts(number)
        return Block(self._value(count), log_mass)

    def _counts(self, number: Tensor) -> tuple[Tensor, Tensor]:
        inflated = self.log_gate is not None
        step = torch.arange(COUNTS_AT_ONCE, device=number.device).reshape(-1, *[1] * number.dim())
        at = (number - int(inflated)).clamp_min(0) * COUNTS_AT_ONCE + step
        count = self.first + (at + 0.5) * self.stride - 0.5
        log_mass = self.base.log_prob(count) + self.stride.log()
        if self.log_gate is not None:
            zero, (closed, opened) = number == 0, self.log_gate
            only = closed.expand_as(log_mass).masked_fill(step > 0, -torch.inf)
            log_mass = torch.where(zero, only, log_mass + opened)
            count = torch.where(zero, 0.0, count)
        return count, log_mass

    def within(self, number: Tensor, log_missing: Callable[[Tensor], Tensor]) -> Tensor:
        """One of the counts of a block; of a block with more than 64 in steps."""
        inflated = self.log_gate is not None
        low = self.first + (number - int(inflated)).clamp_min(0) * COUNTS_AT_ONCE * self.stride
        of_block = self.stride * COUNTS_AT_ONCE
        step = (of_block / MOST_IN_BLOCK).clamp_min(1.0)
        count = low + torch.arange(MOST_IN_BLOCK).to(low).reshape(-1, *[1] * low.dim()) * step
        log_mass = self.base.log_prob(count) + log_missing(self._value(count))
        log_mass = log_mass.masked_fill(count >= low + of_block, -torch.inf)
        reached = log_mass.softmax(0).cumsum(0)
        chosen = (reached[:-1] <= torch.rand_like(reached[:1])).sum(0, keepdim=True)
        drawn = count.gather(0, chosen).squeeze(0) + torch.rand_like(low) * (step - 1)
        if inflated:
            drawn = torch.where(number == 0, 0.0, drawn)
        return self._value(drawn.round())

    def _value(self, count: Tensor) -> Tensor:
        return (count - self.fn.offset) / self.fn.unit if isinstance(self.fn, StandardizedCounts) else count


_COUNTS = (torch.distributions.Poisson, torch.distributions.NegativeBinomial)


_MONOTONE = (
    torch.distributions.ExpTransform,
    torch.distributions.SigmoidTransform,
    torch.distributions.AffineTransform,
)


def _is_centred(fn: Any) -> bool:
    return isinstance(fn, torch.distributions.Normal | torch.distributions.StudentT)


def _unchecked(fn: Any) -> Any:
    """The same, which takes numbers between counts."""
    fn = fn.expand(fn.batch_shape)
    fn._validate_args = False
    return fn


def _legendre(x: Tensor, count: int) -> Tensor:
    """Legendre polynomials of order 0 to count - 1; ``(count, ...)``."""
    found = [torch.ones_like(x), x]
    for order in range(1, count):
        found.append(((2 * order + 1) * x * found[-1] - order * found[-2]) / (order + 1))
    return torch.stack(found[:count])


def _integral(coefficients: tuple[Tensor, ...], x: Tensor) -> Tensor:
    """∫ from -1 to x of Σ_l c_l P_l."""
    p = _legendre(x, len(coefficients) + 1).unbind(0)
    total = coefficients[0] * (1 + x)
    for order in range(1, len(coefficients)):
        total = total + coefficients[order] * (p[order + 1] - p[order - 1]) / (2 * order + 1)
    return total


def _into(transform: Any, value: Tensor) -> Tensor:
    """Moved into the range of a transform."""
    if isinstance(transform, torch.distributions.ExpTransform):
        return value.clamp_min(torch.finfo(value.dtype).tiny)
    if isinstance(transform, torch.distributions.SigmoidTransform):
        return value.clamp(torch.finfo(value.dtype).eps, 1 - torch.finfo(value.dtype).eps)
    return value


def _like(values: Tensor, like: Tensor) -> Tensor:
    """Numbers of the first dimension, which broadcast with the others."""
    return values.reshape(-1, *[1] * (like.dim() - 1))
