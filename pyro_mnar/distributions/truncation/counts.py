"""Poisson and negative binomial counts between bounds."""

from __future__ import annotations

from copy import copy
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_mnar.distributions.counts import StandardizedCounts
from pyro_mnar.distributions.truncation import tails

CANDIDATES = 16  # ordinary draws to look through for one inside the bounds, before a quantile is searched for


class TruncatedCounts:
    """Poisson and negative binomial counts between bounds; standardised if the bounds and ``fn`` are."""

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
        # A bound is a count or halfway between two, so a tolerance of 1e-4 decides nothing but rounding errors.
        least, most = (low - 1e-4).ceil().clamp_min(0.0), (high + 1e-4).floor()
        self.least, self.most, _ = torch.broadcast_tensors(least, most, self.parameters[0])

    def log_mass(self) -> Tensor:
        """Log P(least ≤ N ≤ most), from the tail that holds less of the mass.  Gradients in the parameters."""
        in_upper = self.most.isinf() | (self.least > self._base().mean.detach())
        most = torch.where(self.most.isinf(), self.least, self.most)
        # Both tails are computed at all cells; where a tail is not used, it is computed at a count that is safe.
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
        """The first of :data:`CANDIDATES` draws that lies inside, or a quantile if none does.  No gradient."""
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
        wanted = (self._log_mass_up_to(high) < target) & (high < self.most)
        for _ in range(60):  # doublings
            if not wanted.any():
                break
            low = torch.where(wanted, high, low)
            high = torch.where(wanted, torch.minimum(self.least + 2 * (high - self.least) + 1, self.most), high)
            wanted = (self._log_mass_up_to(high) < target) & (high < self.most)
        while (high - low > 1).any():
            middle = ((low + high) / 2).floor()
            above = (self._log_mass_up_to(middle) >= target) & (middle > low)
            low, high = torch.where(above | (middle <= low), low, middle), torch.where(above, middle, high)
        return high

    def _at(self, cells: Tensor) -> TruncatedCounts:
        return self._with(self.least[cells], self.most[cells], [p[cells] for p in self.parameters])

    def _log_mass_up_to(self, most: Tensor) -> Tensor:
        return self._with(self.least, most, self.parameters).log_mass()

    def _with(self, least: Tensor, most: Tensor, parameters: list[Tensor]) -> TruncatedCounts:
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
