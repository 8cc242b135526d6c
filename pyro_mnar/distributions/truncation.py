"""Distributions held between bounds: what a censored cell is scored with, and what it is drawn from.

A cell that is known to lie between a and b, and nothing more, enters the likelihood with log p(a ≤ x ≤ b | z).  Its
value is drawn from p(x | z, a ≤ x ≤ b), so the draw cancels from the importance weight, whatever it is.  How each
family does both stands in :mod:`pyro_mnar.distributions.truncated_families`.

Normal, log-normal and logit-normal columns are computed at all cells, with or without bounds: then no shape depends on
values, and a training step can be captured.  The other families, whose tails are SciPy's or are iterated until every
cell has converged, are computed at the cells with bounds alone, as are tables of so many columns that this is dearer.
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
from pyro_mnar.distributions.truncated_families import between, takes_all_cells

FEW_COLUMNS = 64  # up to which all cells are computed where the family allows


class Restricted(TorchDistribution):
    """``fn`` given that x lies between bounds, entry by entry; ``fn`` itself where there are none.

    Args:
        fn: A univariate distribution of batch shape ``(..., rows, columns)``: normal, Student's t, their exponential or
            logistic function (log-normal), of counts, or any with ``cdf`` and ``icdf``.
        lower: Least value, -inf where there is no bound; a count at a bound lies inside.
        upper: Greatest value, inf where there is no bound.

    Raises:
        ValueError: If ``fn`` is of another family.
    """

    arg_constraints: dict[str, Any] = {}

    def __init__(
        self,
        fn: TorchDistributionMixin,
        lower: Float[Tensor, "rows columns"],
        upper: Float[Tensor, "rows columns"],
        validate_args: bool | None = None,
    ) -> None:
        shape = torch.broadcast_shapes(fn.batch_shape, lower.shape)
        self.fn = fn if fn.batch_shape == shape else fn.expand(shape)
        self.lower, self.upper = lower, upper
        self.bounded = lower.isfinite() | upper.isfinite()
        super().__init__(shape, torch.Size(), validate_args=validate_args)
        is_whole = takes_all_cells(self.fn) and lower.shape[-1] <= FEW_COLUMNS
        self.cells = slice(None) if is_whole else self.bounded
        self._family = between(self.fn, lower[self.cells], upper[self.cells], self.cells)

    @property
    def has_rsample(self) -> bool:
        """Whether draws can be reparameterised: if those of ``fn`` can."""
        return self.fn.has_rsample

    @property
    def support(self) -> Any:
        """The support of ``fn``; beyond the bounds the density is zero."""
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
        """Per entry; -inf outside the bounds."""
        outside = (value < self.lower) | (value > self.upper)
        return (self.fn.log_prob(value) - self.log_mass).masked_fill(outside, -torch.inf)

    def _draw(self, sample_shape: Any, draw: Any) -> Tensor:
        drawn = draw(sample_shape)
        if not sample_shape:
            return self._with(drawn, self._family.draw())
        larger = self.fn.expand(drawn.shape)
        return self._with(drawn, between(larger, self._family.lower, self._family.upper, self.cells).draw())

    def _with(self, values: Tensor, inside: Float[Tensor, "*_"]) -> Tensor:
        if self.cells is not self.bounded:
            return torch.where(self.bounded, inside.to(values.dtype), values)
        values = values.clone()
        values[..., self.bounded] = inside.to(values.dtype)
        return values


class PartlyCensored(TorchDistribution):
    """What is scored of a row: the density where a value is observed, the probability of lying between the bounds where
    only these are known, nothing of other gaps.

    Args:
        restricted: p(x|z) between the bounds.
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
        """Draw from p(x|z), which knows no bounds."""
        return self.restricted.fn.sample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Per entry."""
        return torch.where(self.mask_observed, self.restricted.fn.log_prob(value), self.restricted.log_mass)


def restricted_levels(fn: Levels, lower: Float[Tensor, "rows columns"], upper: Float[Tensor, "rows columns"]) -> Levels:
    """Levels given that they lie between bounds: the others are struck out."""
    outside = (fn.points < lower.unsqueeze(-1)) | (fn.points > upper.unsqueeze(-1))
    return Levels(
        fn.logits.masked_fill(outside, -torch.inf), fn.points, straight_through=fn.straight_through, validate_args=False
    )
