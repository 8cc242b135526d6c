"""p(x_d | z, r_d = 0) of values that are not normal, and under mechanisms that are no line: quadrature and summation.

Errors of log p(r = 0 | z), by the points of :mod:`~pyro_mnar.distributions.meshes`, as tested: 1e-7 for Student's t
under a line of any slope, 1e-6 for mechanisms whose predictor changes by at most 30 a standard deviation, 1e-10 for
counts that are summed one by one and 1e-3 for others.  Where p(r = 0 | z) is below 1e-8, it is finite with a gradient,
and no more.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from pyro_mnar.distributions.meshes import Mesh, Panels, mesh_of
from pyro_mnar.distributions.self_masked import Line, SelfMasked


class SelfMaskedByMesh(SelfMasked):
    """A value of any family that has a mesh, under any mechanism of the value."""

    @property
    def _first(self) -> Tensor:
        return torch.zeros(self.batch_shape, dtype=torch.long, device=self.explained.device)

    @cached_property
    def _mesh(self) -> Mesh:
        line = self.predictor if isinstance(self.predictor, Line) else None
        # A draw, which has no gradient, may be the first that asks for it; others differentiate what it keeps.
        with torch.enable_grad():
            made = mesh_of(self.fn, self.log_missing_at, line)
        if made is None:
            raise ValueError(f"expected a distribution that can be integrated, got {type(self.fn).__name__}")
        return made

    def likely(self) -> Tensor:
        """The centre of the distribution."""
        with torch.no_grad():
            # A normal distribution's mean is its parameter itself.
            return self.fn.mean.detach() if isinstance(self._mesh, Panels) else self._mesh.block(self._first).x[0]

    def _log_missing(self) -> Tensor:
        return torch.stack([mass.logsumexp(0) for _, mass in self._weighed()]).logsumexp(0)

    def _mean(self) -> Tensor:
        log_total = self._log_missing()
        return sum(((mass - log_total).exp() * x).sum(0) for x, mass in self._weighed())  # pyright: ignore

    def _draw(self) -> Tensor:
        log_total = self._log_missing()
        share = torch.rand_like(log_total)
        reached, number = torch.zeros_like(share), torch.zeros_like(share, dtype=torch.long)
        for count, (_, mass) in enumerate(self._weighed()):
            reached = reached + (mass - log_total).exp().sum(0)
            number = torch.where(reached <= share, count + 1, number)
        number = number.clamp_max(count)
        return self._mesh.within(number, self._log_missing_of)

    def _weighed(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Points, and the log of their mass times p(r = 0 | x, z)."""
        for block in self._mesh.blocks():
            yield block.x, block.log_mass + self._log_missing_of(block.x)

    def _log_missing_of(self, x: Tensor) -> Tensor:
        if isinstance(self.predictor, Line):
            return self.log_missing_at(x)
        return self.link.log_missing(torch.vmap(self.predictor)(x))  # a mechanism of the row knows of no points


class Unexplained(SelfMaskedByMesh):
    """A value of such a family none of whose gaps the mechanism explains: ``fn`` itself, and nothing is integrated."""

    @property
    def mean(self) -> Tensor:
        """Expected value."""
        return self.fn.mean

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Draw without gradient."""
        with torch.no_grad():
            return self.fn.sample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density per entry."""
        return self.fn.log_prob(value)

    def log_ratio(self, value: Tensor) -> Tensor:
        """Zero."""
        return torch.zeros_like(value)
