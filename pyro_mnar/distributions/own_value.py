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
from pyro_mnar.distributions.meshes import can_be_integrated
from pyro_mnar.distributions.probit_mixtures import PROBITS
from pyro_mnar.distributions.self_masked import Line, SelfMasked, SelfMaskedNormal
from pyro_mnar.distributions.self_masked_mesh import SelfMaskedByMesh, Unexplained
from pyro_mnar.messages import check_boolean, check_is, shown

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
        telling: Positions of the columns whose R depends on their own value; all if None.  Of the others nothing has to
            be integrated: p(r_d = 0 | x, z) is p(r_d = 0 | z).
        effects: What each level of some columns adds to the predictor of its own R, as a function of the columns'
            positions and of the levels' points, ``(columns, levels)``; None where levels do not simply add something.
            Then levels take one pass of the mechanism, and not one each.
        by_quadrature: Whether numbers are summed out whose integral has no closed form, too.
    """

    predictor: Callable[[Tensor], Tensor]
    slope: Tensor | None = None
    link: str | Callable[[Tensor], Tensor] | Link = "logit"
    columns: frozenset[int] | None = None
    telling: frozenset[int] | None = None
    effects: Callable[[tuple[int, ...], Tensor], Tensor | None] | None = None
    by_quadrature: bool = True

    def __post_init__(self) -> None:
        if not callable(self.predictor):
            raise TypeError(f"mechanism: expected a function of the row, got {shown(self.predictor)}")
        if self.slope is not None:
            check_is("slope", self.slope, Tensor)
            if self.slope.is_complex():
                raise TypeError(f"slope: expected real numbers, got {self.slope.dtype}")
        link_of(self.link)
        for name, positions in (("columns", self.columns), ("telling", self.telling)):
            if positions is not None:
                check_is(name, positions, (frozenset, set), " of positions")
        if not (self.effects is None or callable(self.effects)):
            raise TypeError(f"effects: expected a function of columns and points, got {shown(self.effects)}")
        check_boolean("by_quadrature", self.by_quadrature)

    def effects_of(self, within: tuple[int, ...], points: Tensor) -> Tensor | None:
        """What each level of some columns adds to the predictor of its own R; None if that is not known."""
        if self.effects is not None:
            return self.effects(within, points)
        return None if self.slope is None else self.slope[list(within), None] * points

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
    return own and (
        isinstance(fn, Levels) or _has_closed_form(fn, mechanism) or (mechanism.by_quadrature and can_be_integrated(fn))
    )


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
    is_whole = within == tuple(range(row.shape[-1]))
    telling = tuple(n for n, d in enumerate(within) if mechanism.telling is None or d in mechanism.telling)
    if len(telling) < len(within):
        explained = explained & torch.tensor([n in telling for n in range(len(within))], device=explained.device)

    def predictor(value: Tensor) -> Tensor:
        if is_whole:
            return mechanism(value)
        whole = row.expand(*value.shape[:-1], row.shape[-1])
        return mechanism(whole.index_copy(-1, at, value.expand(*whole.shape[:-1], len(within)))).index_select(-1, at)

    if isinstance(fn, Levels):
        tilt = _log_missing_by_level(fn, mechanism, predictor, link, within) if telling else fn.logits.new_zeros(())
        return Levels(fn.logits + torch.where(explained.unsqueeze(-1), tilt, 0.0), fn.points)
    nothing = row.new_zeros(()).expand(*fn.batch_shape[:-1], len(within))
    if not telling and not _has_closed_form(fn, mechanism):
        return Unexplained(fn, Line(nothing, nothing), link, explained)
    if mechanism.slope is None:
        return SelfMaskedByMesh(fn, predictor, link, explained)
    slope = mechanism.slope if is_whole else mechanism.slope.index_select(-1, at)
    line = Line(predictor(nothing) if telling else nothing, slope)
    if _has_closed_form(fn, mechanism):
        return SelfMaskedNormal(fn, line, link, explained, telling)
    return SelfMaskedByMesh(fn, line, link, explained)


def _has_closed_form(fn: Any, mechanism: OwnValueMechanism) -> bool:
    return type(fn) is dist.Normal and mechanism.slope is not None and link_of(mechanism.link).name in PROBITS


def _log_missing_by_level(
    fn: Levels, mechanism: OwnValueMechanism, predictor: Callable[[Tensor], Tensor], link: Link, within: tuple[int, ...]
) -> Float[Tensor, "*batch columns levels"]:
    """Log p(r = 0 | x, z) at each level of each column."""
    shape = (*fn.batch_shape[:-1], len(within))
    effects = mechanism.effects_of(within, fn.points)
    if effects is not None:
        at_first = predictor(fn.points[:, 0].expand(shape))
        return link.log_missing(at_first.unsqueeze(-1) + (effects - effects[:, :1]))
    return torch.stack([link.log_missing(predictor(level.expand(shape))) for level in fn.points.unbind(-1)], dim=-1)


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
        return torch.where(self.mask_observed, log_density(self.base_dist, value), self.proposal.log_ratio(value))


def likely_value(proposal: Levels | SelfMasked) -> Tensor:
    """Any value that can be missing, without random numbers: the weight is the same whichever it is."""
    if isinstance(proposal, Levels):
        best = proposal.logits.detach().argmax(-1, keepdim=True)
        return proposal.points.expand(proposal.logits.shape).gather(-1, best).squeeze(-1)
    return proposal.likely()
