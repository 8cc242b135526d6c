"""The distributions that Pyro lacks: missing entries of a row, with placeholders for the observed ones; levels and
counts on a standardised line; columns of several kinds side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
from jaxtyping import Bool, Float
from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor
from torch.distributions import biject_to, constraints


class MissingEntries(TorchDistribution):
    """``fn`` where a value is missing, a fixed placeholder where it is observed.

    The placeholder is N(0, 1) mapped to the support of ``fn``: it is free of parameters and of z, so it carries no
    information, and a sampler such as NUTS meets no flat direction at the observed entries.  For a discrete ``fn`` the
    placeholder has probability one wherever it stands.

    Args:
        fn: A univariate distribution of batch shape ``(..., rows, columns)``.
        mask: True where observed; broadcasts with the batch shape.
    """

    arg_constraints: dict[str, Any] = {}

    def __init__(
        self, fn: TorchDistributionMixin, mask: Bool[Tensor, "..."], validate_args: bool | None = None
    ) -> None:
        shape = torch.broadcast_shapes(fn.batch_shape, mask.shape)
        self.fn = fn if fn.batch_shape == shape else fn.expand(shape)
        self.mask_observed = mask
        super().__init__(shape, torch.Size(), validate_args=validate_args)

    @property
    def has_rsample(self) -> bool:
        """Whether the missing entries can be reparameterised."""
        return self.fn.has_rsample

    @property
    def support(self) -> Any:
        """The support of ``fn``."""
        return self.fn.support

    def expand(self, batch_shape: Any, _instance: Any = None) -> MissingEntries:
        """Expand to a larger batch shape."""
        return MissingEntries(self.fn.expand(torch.Size(batch_shape)), self.mask_observed, validate_args=False)

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Draw without gradient; ``sample_shape + batch_shape``."""
        with torch.no_grad():
            return self._draw(self.fn.sample(sample_shape))

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Draw with gradient, at the missing entries only; ``sample_shape + batch_shape``."""
        if type(self.fn) is dist.Normal:  # one standard normal number an entry, whichever of the two it is for
            noise = torch.zeros_like(self.fn.loc).expand(self._extended_shape(sample_shape)).contiguous().normal_()
            return torch.where(self.mask_observed, noise, torch.addcmul(self.fn.loc, self.fn.scale, noise))
        return self._draw(self.fn.rsample(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """Per entry: the density of ``fn`` or of the placeholder."""
        if self.support.is_discrete:
            return self.fn.log_prob(value).masked_fill(self.mask_observed, 0.0)
        return torch.where(self.mask_observed, self._placeholder(value).log_prob(value), self.fn.log_prob(value))

    def _draw(self, drawn: Tensor) -> Tensor:
        if self.support.is_discrete:
            return drawn
        return torch.where(self.mask_observed, self._placeholder(drawn).sample(), drawn)

    def _placeholder(self, like: Tensor) -> torch.distributions.Distribution:
        normal = dist.Normal(torch.zeros_like(like), torch.ones_like(like), validate_args=False)
        transform = biject_to(self.support)
        if transform == biject_to(dist.constraints.real):
            return normal
        return dist.TransformedDistribution(normal, [transform])


class _Discrete(constraints.Constraint):
    """Points on a line; which ones, the distribution knows."""

    is_discrete = True
    event_dim = 0

    def check(self, value: Tensor) -> Tensor:
        return value.isfinite()


class Levels(TorchDistribution):
    """One of several levels a column, each a point on the model's line.

    Args:
        logits: Unnormalised log-probabilities; -inf for levels that a column does not have; ``(..., columns, levels)``.
        points: Ascending point of each level, ``(columns, levels)``.
        straight_through: Let gradients pass a draw as if it were its mean: low variance, biased (Bengio et al. 2013).
    """

    arg_constraints: dict[str, Any] = {}
    support: Any = _Discrete()

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
        """Whether gradients pass a draw, if only straight through."""
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
        logits = self.logits.expand(*batch_shape, self.logits.shape[-1])
        return Levels(logits, self.points, straight_through=self.straight_through, validate_args=False)

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
        """A draw whose gradient is that of the mean."""
        mean = self.mean
        return self.sample(sample_shape) + (mean - mean.detach())

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of the nearest level."""
        logits, codes = torch.broadcast_tensors(self.logits, self.codes(value).unsqueeze(-1))
        return logits.gather(-1, codes[..., :1]).squeeze(-1)

    def codes(self, value: Float[Tensor, "*batch columns"]) -> Tensor:
        """Position of the nearest level."""
        return codes_of(value, self.points)

    def _points_of(self, codes: Tensor) -> Tensor:
        return self.points.expand(*codes.shape, self.points.shape[-1]).gather(-1, codes.unsqueeze(-1)).squeeze(-1)


class Weighed(TorchDistribution):
    """``fn`` where a value is observed; where it is missing, ``fn`` over what the value was drawn from.

    Args:
        fn: p(x|z); batch shape ``(..., rows, columns)``.
        proposal: What the missing values were drawn from.
        mask: True where observed.
    """

    arg_constraints: dict[str, Any] = {}

    def __init__(
        self,
        fn: TorchDistributionMixin,
        proposal: TorchDistributionMixin,
        mask: Bool[Tensor, "..."],
        validate_args: bool | None = None,
    ) -> None:
        self.base_dist, self.proposal, self.mask_observed = fn, proposal, mask
        super().__init__(torch.broadcast_shapes(fn.batch_shape, mask.shape), torch.Size(), validate_args=validate_args)

    @property
    def support(self) -> Any:
        """The support of ``fn``."""
        return self.base_dist.support

    def expand(self, batch_shape: Any, _instance: Any = None) -> Weighed:
        """Expand to a larger batch shape."""
        shape = torch.Size(batch_shape)
        return Weighed(
            self.base_dist.expand(shape), self.proposal.expand(shape), self.mask_observed, validate_args=False
        )

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Draw from ``fn``."""
        return self.base_dist.sample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Per entry."""
        return self.base_dist.log_prob(value) - self.proposal.log_prob(value).masked_fill(self.mask_observed, 0.0)


def codes_of(value: Float[Tensor, "*batch columns"], points: Float[Tensor, "columns levels"]) -> Tensor:
    """Position of the nearest of a column's points, which ascend and may end in infinities."""
    middle = (points[:, 1:] + points[:, :-1]) / 2
    return (value.detach().unsqueeze(-1) > middle).sum(-1)


class OnLine(TorchDistribution):
    """Counts, standardised: (count - mean) / std.

    Args:
        base: A distribution of counts, batch shape ``(..., columns)``.
        mean: Of the counts; ``(columns,)``.
        std: Of the counts; ``(columns,)``.
    """

    arg_constraints: dict[str, Any] = {}
    support: Any = _Discrete()
    has_rsample = False

    def __init__(
        self,
        base: TorchDistributionMixin,
        mean: Float[Tensor, " columns"],
        std: Float[Tensor, " columns"],
        validate_args: bool | None = None,
    ) -> None:
        self.base, self.offset, self.unit = base, mean, std
        super().__init__(base.batch_shape, torch.Size(), validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        """Expected value on the line."""
        return (self.base.mean - self.offset) / self.unit

    def expand(self, batch_shape: Any, _instance: Any = None) -> OnLine:
        """Expand to a larger batch shape."""
        return OnLine(self.base.expand(torch.Size(batch_shape)), self.offset, self.unit, validate_args=False)

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Draw; ``sample_shape + batch_shape``."""
        with torch.no_grad():
            return (self.base.sample(sample_shape) - self.offset) / self.unit

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of the nearest count."""
        return self.base.log_prob((value.detach() * self.unit + self.offset).round().clamp_min(0.0))


class Columns(TorchDistribution):
    """Columns of several kinds side by side: one distribution a kind, each over its own columns.

    :func:`~pyro_mnar.partially_observed` gives every part sites of its own, so that some may be reparameterised and
    others not.

    Args:
        parts: Pairs of the positions of a part's columns and its distribution, of batch shape ``(..., rows, columns)``;
            together all columns, each once.
    """

    arg_constraints: dict[str, Any] = {}

    def __init__(
        self,
        parts: Sequence[tuple[tuple[int, ...], TorchDistributionMixin]],
        validate_args: bool | None = None,
    ) -> None:
        positions = [position for columns, _ in parts for position in columns]
        if sorted(positions) != list(range(len(positions))):
            raise ValueError(f"Columns: expected every column once, got positions {positions}")
        self.parts = tuple(parts)
        leading = torch.broadcast_shapes(*(fn.batch_shape[:-1] for _, fn in parts))
        super().__init__(torch.Size([*leading, len(positions)]), torch.Size(), validate_args=validate_args)

    @property
    def has_rsample(self) -> bool:
        """Whether every part can be reparameterised."""
        return all(fn.has_rsample for _, fn in self.parts)

    @property
    def support(self) -> Any:
        """The real line, of which some parts take single points only."""
        return constraints.real

    @property
    def mean(self) -> Tensor:
        """Expected value of every column."""
        return self._joined([fn.mean for _, fn in self.parts])

    def expand(self, batch_shape: Any, _instance: Any = None) -> Columns:
        """Expand to a larger batch shape."""
        leading = torch.Size(batch_shape)[:-1]
        return Columns(
            [(columns, fn.expand(leading + fn.batch_shape[-1:])) for columns, fn in self.parts], validate_args=False
        )

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Draw without gradient."""
        return self._joined([fn.sample(sample_shape) for _, fn in self.parts])

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Draw with gradient, if every part can."""
        return self._joined([fn.rsample(sample_shape) for _, fn in self.parts])

    def log_prob(self, value: Tensor) -> Tensor:
        """Per column."""
        return self._joined([fn.log_prob(value[..., list(columns)]) for columns, fn in self.parts])

    def _joined(self, values: Sequence[Tensor]) -> Tensor:
        return joined([columns for columns, _ in self.parts], values)


def joined(positions: Sequence[Sequence[int]], values: Sequence[Tensor]) -> Tensor:
    """Columns put back in order, from parts and the positions of each part's columns."""
    if len(values) == 1:
        return values[0]
    leading = torch.broadcast_shapes(*(value.shape[:-1] for value in values))
    order = sorted(range(sum(map(len, positions))), key=[p for part in positions for p in part].__getitem__)
    return torch.cat([value.expand(*leading, value.shape[-1]) for value in values], dim=-1)[..., order]
