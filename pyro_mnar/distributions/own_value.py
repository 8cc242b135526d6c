"""Summing missing values out: p(r_d = 0 | z) in the weight, where R_d depends on no gap's value but its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch
from jaxtyping import Bool, Float
from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from pyro_mnar.distributions.densities import log_density
from pyro_mnar.distributions.levels import Levels
from pyro_mnar.distributions.links import Link, link_of
from pyro_mnar.distributions.probit_mixtures import PROBITS
from pyro_mnar.distributions.self_masked import Line, SelfMasked, SelfMaskedNormal
from pyro_mnar.distributions.self_masked_mesh import SelfMaskedByMesh, can_be_integrated

Row = Float[Tensor, "*batch rows columns"]


@dataclass(frozen=True)
class OwnValueMechanism:
    """A mechanism in which missing values cause no R but their own, for :func:`~pyro_mnar.partially_observed`.

    Attributes:
        predictor: What the link turns into the probability of being observed, as a function of the row; log-odds for
            the logistic link.  Also calling the mechanism calls it.
        slope: Where the predictor of each R is linear in its own value, how much it rises per unit of that;
            ``(columns,)``.  It makes the integrals of normal values closed forms, and the others quicker.
        link: As for :func:`~pyro_mnar.observe_mask`.
        columns: Positions of the columns whose values cause no other R; all if None.  The others are drawn.
    """

    predictor: Callable[[Tensor], Tensor]
    slope: Tensor | None = None
    link: str | Callable[[Tensor], Tensor] | Link = "logit"
    columns: frozenset[int] | None = None

    def __call__(self, row: Row) -> Row:
        """The predictor of a row."""
        return self.predictor(row)

    @classmethod
    def of(cls, mechanism: Callable[[Tensor], Tensor]) -> OwnValueMechanism:
        """Itself, or of log-odds as a function of the row."""
        return mechanism if isinstance(mechanism, cls) else cls(mechanism)


def can_be_summed_out(fn: TorchDistributionMixin, mechanism: OwnValueMechanism, within: tuple[int, ...]) -> bool:
    """Whether :func:`given_missing` knows the law of some columns' missing values.

    Args:
        fn: p(x|z) of these columns.
        mechanism: What explains their gaps.
        within: Their positions in the row.
    """
    own = mechanism.columns is None or mechanism.columns.issuperset(within)
    return own and (isinstance(fn, Levels) or can_be_integrated(fn))


def given_missing(
    fn: Any,
    mechanism: OwnValueMechanism,
    row: Float[Tensor, "rows width"],
    within: tuple[int, ...],
    explained: Bool[Tensor, "rows columns"],
) -> Levels | SelfMasked:
    """p(x_d | z, r_d = 0) of some columns where the mechanism explains the gap, p(x_d | z) elsewhere.

    Args:
        fn: p(x|z) of these columns, of a family that :func:`can_be_summed_out`.
        mechanism: What explains their gaps.
        row: The rows, as the mechanism is to see them; gaps hold any number.
        within: Positions of the columns in the row.
        explained: Gaps that the mechanism explains.
    """
    link, at = link_of(mechanism.link), torch.tensor(within, device=row.device)

    def predictor(value: Tensor) -> Tensor:
        whole = row.expand(*value.shape[:-1], row.shape[-1])
        return mechanism(whole.index_copy(-1, at, value.expand(*whole.shape[:-1], len(within)))).index_select(-1, at)

    if isinstance(fn, Levels):  # one pass of the mechanism a level
        shape = (*fn.batch_shape[:-1], len(within))
        log_missing = [link.log_missing(predictor(level.expand(shape))) for level in fn.points.unbind(-1)]
        tilt = torch.stack(log_missing, dim=-1).masked_fill(~explained.unsqueeze(-1), 0.0)
        return Levels(fn.logits + tilt, fn.points)
    if mechanism.slope is None:
        return SelfMaskedByMesh(fn, predictor, link, explained)
    intercept = predictor(row.new_zeros(*fn.batch_shape[:-1], len(within)))
    line = Line(intercept, mechanism.slope.index_select(-1, at))
    closed = type(fn) is dist.Normal and link.name in PROBITS
    return (SelfMaskedNormal if closed else SelfMaskedByMesh)(fn, line, link, explained)


class SummedOut(TorchDistribution):
    """p(x|z) at observed entries, p(r = 0 | z) / p(r = 0 | x, z) at missing ones.

    With p(r = 0 | x, z), which the mask's site has, the weight then holds p(r = 0 | z), whatever x is.

    Args:
        proposal: What the missing values are drawn from.
        mask: True where observed.
    """

    arg_constraints: dict[str, Any] = {}

    def __init__(self, proposal: SelfMasked, mask: Bool[Tensor, "..."], validate_args: bool | None = None) -> None:
        self.proposal, self.mask_observed, self.base_dist = proposal, mask, proposal.fn
        super().__init__(proposal.batch_shape, torch.Size(), validate_args=validate_args)

    @property
    def support(self) -> Any:
        """The support of p(x|z)."""
        return self.base_dist.support

    def expand(self, batch_shape: Any, _instance: Any = None) -> SummedOut:
        """Expand to a larger batch shape."""
        return SummedOut(self.proposal.expand(torch.Size(batch_shape)), self.mask_observed, validate_args=False)

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Draw from p(x|z)."""
        return self.base_dist.sample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Per entry."""
        at_value = torch.where(self.proposal.explained, self.proposal.log_missing_at(value), 0.0)
        return torch.where(self.mask_observed, log_density(self.base_dist, value), self.proposal.log_missing - at_value)


def likely_value(proposal: Levels | SelfMasked) -> Tensor:
    """Any value that can be missing, without random numbers: the weight is the same whichever it is."""
    if isinstance(proposal, Levels):
        best = proposal.logits.detach().argmax(-1, keepdim=True)
        return proposal.points.expand(proposal.logits.shape).gather(-1, best).squeeze(-1)
    return proposal.likely()
