"""Joint laws of a row, and what they say of its missing entries given the observed ones.

Of a normal row with mean μ and covariance Σ, entries o observed and u missing,

    x_o ~ N(μ_o, Σ_oo),        x_u | x_o ~ N(μ_u + Σ_uo Σ_oo⁻¹ (x_o - μ_o), Σ_uu - Σ_uo Σ_oo⁻¹ Σ_ou).

A draw is one of the whole row, whose error at the observed
entries is then taken out of the missing ones (Matheron's rule), so that no second matrix is factorised.  Of a mixture,
p(class | x_o) comes from the marginals of the classes.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributions import constraints

from pyro_mnar.distributions.row_covariances import DenseCovariance, LowRankCovariance, without_repeated_rows

Row = Float[Tensor, "... columns"]
Seen = Bool[Tensor, "... columns"]


class GivenSeen(ABC):
    """A law of rows, given which of their entries are seen."""

    @abstractmethod
    def log_prob(self, x: Row) -> Float[Tensor, "... rows"]:
        """Log p(x_o); what stands at missing entries is not read."""

    @abstractmethod
    def mean(self, x: Row) -> Row:
        """E[x | x_o]."""

    @abstractmethod
    def draw(self, x: Row, shape: torch.Size) -> Row:
        """A row from p(x | x_o), of a batch shape."""

    @abstractmethod
    def is_singular(self) -> bool:
        """Whether observed entries of a row determine each other; reads values."""


class RowLaw(ABC):
    """A joint law of the entries of a row.

    Attributes:
        support: Where each of its entries lies.
        has_rsample: Whether draws have a gradient.
        of_entries: The distribution of each entry by itself, in each class of a mixture; None where entries depend on
            each other there too.
    """

    support: Any = constraints.real
    has_rsample = True
    of_entries: Any = None

    @abstractmethod
    def given(self, seen: Seen) -> GivenSeen:
        """The law, given which entries are seen."""


def row_law(fn: Any) -> RowLaw | None:
    """The law of a distribution whose event is a row; None if its marginals are not known.

    Args:
        fn: ``MultivariateNormal``, ``LowRankMultivariateNormal``, an ``Independent`` over columns, or a
            ``MixtureSameFamily`` of any of these.
    """
    if len(fn.event_shape) != 1:
        return None
    if isinstance(fn, torch.distributions.MultivariateNormal):
        return NormalRows(fn.loc, DenseCovariance(fn.scale_tril))
    if isinstance(fn, torch.distributions.LowRankMultivariateNormal):
        return NormalRows(fn.loc, LowRankCovariance(fn.cov_factor, fn.cov_diag))
    if isinstance(fn, torch.distributions.MixtureSameFamily):
        part = row_law(fn.component_distribution)
        return None if part is None else MixtureRows(fn.mixture_distribution.logits, part)
    if isinstance(fn, torch.distributions.Independent) and not fn.base_dist.event_shape:
        return ColumnwiseRows(fn.base_dist)
    return None


class NormalRows(RowLaw):
    """N(μ, Σ)."""

    def __init__(self, loc: Tensor, covariance: DenseCovariance | LowRankCovariance) -> None:
        self.loc, self.covariance = without_repeated_rows(loc, 1), covariance

    def given(self, seen: Seen) -> GivenSeen:
        """Its marginal and its conditional."""
        return _NormalGiven(self, seen)


class _NormalGiven(GivenSeen):
    def __init__(self, law: NormalRows, seen: Seen) -> None:
        self.law, self.seen = law, seen
        self.factorised = law.covariance.given(seen)

    def log_prob(self, x: Row) -> Float[Tensor, "... rows"]:
        """Of x_o."""
        _, squared = self._solved(x, self.law.loc)
        return -0.5 * (squared + self.seen.sum(-1) * math.log(2 * math.pi)) - self.factorised.half_log_det

    def mean(self, x: Row) -> Row:
        """Of x given x_o."""
        return self._corrected(x, self.law.loc)

    def draw(self, x: Row, shape: torch.Size) -> Row:
        """From p(x | x_o), with its gradient."""
        return self._corrected(x, self.law.loc + self.law.covariance.noise(shape))

    def is_singular(self) -> bool:
        """Whether a covariance of observed entries has no inverse."""
        return bool(self.factorised.half_log_det.isnan().any())

    def _corrected(self, x: Row, row: Row) -> Row:
        """A row whose error at observed entries is taken out of the missing ones too."""
        weights, _ = self._solved(x, row)
        return torch.where(self.seen, x, row + self.law.covariance.times(weights))

    def _solved(self, x: Row, row: Row) -> tuple[Row, Float[Tensor, "... rows"]]:
        return self.factorised.solve(torch.where(self.seen, x - row, 0.0))


class ColumnwiseRows(RowLaw):
    """Independent entries: a class of a mixture.

    Args:
        base: Their distributions; batch shape ``(..., columns)``.
    """

    has_rsample = False  # it is drawn beside other classes, of which one is taken

    def __init__(self, base: Any) -> None:
        self.of_entries, self.support = base, _of_entries(base.support)

    def given(self, seen: Seen) -> GivenSeen:
        """Each entry by itself."""
        return _ColumnwiseGiven(self, seen)


class _ColumnwiseGiven(GivenSeen):
    def __init__(self, law: ColumnwiseRows, seen: Seen) -> None:
        self.base, self.support, self.seen = law.of_entries, law.support, seen

    def log_prob(self, x: Row) -> Float[Tensor, "... rows"]:
        """Of x_o."""
        return torch.where(self.seen, self.base.log_prob(self._in_support(x)), 0.0).sum(-1)

    def mean(self, x: Row) -> Row:
        """Of x given x_o."""
        return torch.where(self.seen, x, self.base.mean)

    def draw(self, x: Row, shape: torch.Size) -> Row:
        """From p(x | x_o), without gradient."""
        return torch.where(self.seen, x, self.base.expand((*shape, x.shape[-1])).sample())

    def is_singular(self) -> bool:
        """Never."""
        return False

    def _in_support(self, x: Row) -> Row:
        """Missing entries hold a number that the density is finite at, since its gradient is computed there too."""
        if self.support.is_discrete:
            inside = torch.full_like(x, float(getattr(self.support, "lower_bound", 0)))
        else:
            inside = torch.distributions.biject_to(self.support)(torch.zeros_like(x))
        return torch.where(self.seen, x, inside)


class MixtureRows(RowLaw):
    """Σ_c π_c p_c(x).

    Args:
        logits: Log π; ``(..., classes)``.
        part: The laws of the classes; batch shape ``(..., classes)``.
    """

    has_rsample = False

    def __init__(self, logits: Tensor, part: RowLaw) -> None:
        self.logits, self.part = logits, part
        self.support, self.of_entries = part.support, part.of_entries

    def given(self, seen: Seen) -> GivenSeen:
        """The marginals and conditionals of its classes."""
        return _MixtureGiven(self, seen)


class _MixtureGiven(GivenSeen):
    def __init__(self, law: MixtureRows, seen: Seen) -> None:
        self.logits, self.part = law.logits, law.part.given(seen.unsqueeze(-2))

    def log_prob(self, x: Row) -> Float[Tensor, "... rows"]:
        """Of x_o."""
        return self.log_joint(x).logsumexp(-1)

    def log_joint(self, x: Row) -> Float[Tensor, "... classes"]:
        """Log π_c p_c(x_o)."""
        return self.logits + self.part.log_prob(x.unsqueeze(-2))

    def mean(self, x: Row) -> Row:
        """Of x given x_o."""
        shares = self.log_joint(x).softmax(-1)
        return (shares.unsqueeze(-1) * self.part.mean(x.unsqueeze(-2))).sum(-2)

    def draw(self, x: Row, shape: torch.Size) -> Row:
        """A class from p(class | x_o), then a row from its conditional, without gradient."""
        reached = self.log_joint(x).softmax(-1).cumsum(-1)[..., :-1]
        uniform = torch.rand(*shape, 1, dtype=reached.dtype, device=reached.device)
        chosen = (reached <= uniform).sum(-1)
        rows = self.part.draw(x.unsqueeze(-2), torch.Size([*shape, self.logits.shape[-1]]))
        at = chosen[..., None, None].expand(*shape, 1, rows.shape[-1])
        return rows.expand(*shape, *rows.shape[-2:]).gather(-2, at).squeeze(-2)

    def is_singular(self) -> bool:
        """Whether a class is."""
        return self.part.is_singular()


def _of_entries(support: Any) -> Any:
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support
