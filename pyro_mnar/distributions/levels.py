"""Levels of binary, ordinal and categorical columns, each level a point on the standardised scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints


class DiscretePoints(constraints.Constraint):
    """Isolated points of the real line.

    Any finite value passes the check: which points they are, only the distribution knows.
    """

    is_discrete = True
    event_dim = 0

    def check(self, value: Tensor) -> Tensor:
        """True where the value is finite."""
        return value.isfinite()


class Levels(TorchDistribution):
    """A categorical distribution per column, whose levels are points on the standardised scale.

    Args:
        logits: Unnormalised log-probabilities; ``(..., columns, levels)``, -inf for levels that a column does not have.
        points: The point of each level, ascending; ``(columns, levels)``.
        straight_through: Give a draw the gradient of the mean: biased, of low variance (Bengio et al. 2013).
    """

    arg_constraints: dict[str, Any] = {}
    support: Any = DiscretePoints()

    def __init__(
        self,
        logits: Float[Tensor, "*batch columns levels"],
        points: Float[Tensor, "columns levels"],
        *,
        straight_through: bool = False,
        validate_args: bool | None = None,
    ) -> None:
        self.logits = logits.log_softmax(-1)
        self.points = points
        self.straight_through = straight_through
        super().__init__(logits.shape[:-1], torch.Size(), validate_args=validate_args)

    @property
    def has_rsample(self) -> bool:
        """True if draws carry the straight-through gradient."""
        return self.straight_through

    @property
    def probs(self) -> Float[Tensor, "*batch columns levels"]:
        """Probability of each level."""
        return self.logits.exp()

    @property
    def mean(self) -> Float[Tensor, "*batch columns"]:
        """Expected point."""
        return (self.probs * self.points).sum(-1)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Levels:
        """Expand to a larger batch shape."""
        new: Any = self._get_checked_instance(Levels, _instance)
        # Normalised already; to do so again at each site took a third to half of the time of an imputation.
        new.logits = self.logits.expand(*batch_shape, self.logits.shape[-1])
        new.points, new.straight_through = self.points, self.straight_through
        super(Levels, new).__init__(new.logits.shape[:-1], torch.Size(), validate_args=False)
        return new

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Draw points; ``sample_shape + batch_shape``."""
        with torch.no_grad():
            shape = torch.Size(sample_shape) + self.logits.shape
            uniform = torch.rand(shape[:-1], dtype=self.logits.dtype, device=self.logits.device).unsqueeze(-1)
            below = (self.probs.cumsum(-1)[..., :-1] <= uniform).sum(-1)
            # Rounding must not choose a level without probability.
            last = ((self.logits > -torch.inf) * torch.arange(self.logits.shape[-1], device=uniform.device)).amax(-1)
            return self._points_of(torch.minimum(below, last))

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Draw with the gradient of the mean; ``sample_shape + batch_shape``."""
        mean = self.mean
        return self.sample(sample_shape) + (mean - mean.detach())

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of the nearest level."""
        logits, codes = torch.broadcast_tensors(self.logits, self.codes(value).unsqueeze(-1))
        return logits.gather(-1, codes[..., :1]).squeeze(-1)

    def codes(self, value: Float[Tensor, "*batch columns"]) -> Tensor:
        """The index of the nearest level."""
        return codes_of(value, self.points)

    def _points_of(self, codes: Tensor) -> Tensor:
        return self.points.expand(*codes.shape, self.points.shape[-1]).gather(-1, codes.unsqueeze(-1)).squeeze(-1)


def codes_of(value: Float[Tensor, "*batch columns"], points: Float[Tensor, "columns levels"]) -> Tensor:
    """The index of the nearest of each column's points; the points ascend, and the last ones may be infinite."""
    middle = (points[:, 1:] + points[:, :-1]) / 2
    return (value.detach().unsqueeze(-1) > middle).sum(-1)


def padded_points(
    points: Sequence[Float[NDArray, " _"]],
) -> tuple[Float[Tensor, "columns levels"], Bool[Tensor, "columns levels"]]:
    """The points of all columns in one tensor, and a mask of those that are levels.

    A column with fewer levels than others is continued by points far above its last level.

    Args:
        points: The points of each column's levels, ascending.
    """
    most = max(map(len, points), default=1)
    padded = torch.zeros(len(points), most)
    has_level = torch.zeros(len(points), most, dtype=torch.bool)
    for row, levels in enumerate(points):
        own = torch.as_tensor(levels, dtype=padded.dtype)
        padded[row, : len(own)] = own
        padded[row, len(own) :] = own[-1] + 1e6 * torch.arange(1, most - len(own) + 1)
        has_level[row, : len(own)] = True
    return padded, has_level
