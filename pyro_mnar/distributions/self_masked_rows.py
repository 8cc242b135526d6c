"""Missing values of a normal row, or of a mixture of such, where their own sizes are among the reasons.

    q(x_u) = Σ_c q(c) Π_d p(x_d | c, x_o, x_<d, r_d = 0)

Column by column, a missing value is normal given those before it, so that its law given that it went missing, and the
probability of that, have closed forms under a probit mechanism: the simulator of Geweke, Hajivassiliou and Keane, with
soft borders.  The weight then holds Π_d p(r_d = 0 | x_o, x_<d): of a row that lacks one value it is exact, whichever is
drawn, and of one that lacks fifteen beyond sharp thresholds it varies little, where draws from p(x_u | x_o) would lie
beyond all of them once in thirty thousand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.special import log_ndtr

from pyro_mnar.distributions.links import LINKS, link_of
from pyro_mnar.distributions.missing_entries import placeholder
from pyro_mnar.distributions.own_value import OwnValueMechanism
from pyro_mnar.distributions.row_covariances import DenseCovariance, cholesky_or_nan, times
from pyro_mnar.distributions.row_laws import MixtureRows, NormalRows, RowLaw
from pyro_mnar.distributions.shapes import broadcast
from pyro_mnar.distributions.truncation.tails import normal_quantile
from pyro_mnar.distributions.whole_rows import MissingRow, WholeRow

Row = Float[Tensor, "... columns"]
LOG_TWO_PI = math.log(2 * math.pi)
LEAST_UNIFORM = 2.0**-25  # one of 2^24 numbers is zero in single precision


class Explained(NamedTuple):
    """A probit mechanism of single values, P(R_d = 1) = Φ(a_d + b_d x_d), at the rows of a batch.

    Attributes:
        intercept: a; ``(rows, columns)``.
        slope: b; ``(columns,)``.
        cells: Gaps that it explains; ``(rows, columns)``.
    """

    intercept: Float[Tensor, "rows columns"]
    slope: Float[Tensor, " columns"]
    cells: Bool[Tensor, "rows columns"]


def explained_gaps(
    law: RowLaw,
    mechanism: OwnValueMechanism | None,
    row: Float[Tensor, "rows width"],
    columns: Sequence[int],
    cells: Bool[Tensor, "rows columns"],
) -> Explained | None:
    """The mechanism of some columns, or None where values have to be drawn without it.

    Args:
        law: Of these columns.
        mechanism: What explains their gaps; its columns are those of the row.
        row: The rows, as the mechanism is to see them.
        columns: Positions in the row.
        cells: Gaps that it explains.
    """
    if (
        mechanism is None
        or mechanism.slope is None
        or link_of(mechanism.link) is not LINKS["probit"]
        or _classes(law) is None
    ):
        return None
    if mechanism.columns is not None and not mechanism.columns.issuperset(columns):
        return None
    at = torch.tensor(list(columns), device=row.device)
    intercept = mechanism(row.index_fill(-1, at, 0.0)).index_select(-1, at)
    return Explained(intercept.expand(cells.shape), mechanism.slope.index_select(-1, at), cells)


class SelfMaskedRow(MissingRow):
    """q(x_u) at missing entries, placeholders at observed ones.

    Args:
        whole: The law and the mask.
        observed: x_o; what stands at missing entries is not read.
        explained: The mechanism.
        shape: A larger batch shape.
    """

    def __init__(self, whole: WholeRow, observed: Row, explained: Explained, shape: torch.Size | None = None) -> None:
        super().__init__(whole, observed, shape)
        self.explained, self.steps = explained, _Steps(whole, observed, explained)

    def expand(self, batch_shape: Any, _instance: Any = None) -> SelfMaskedRow:
        """Expand to a larger batch shape."""
        larger = SelfMaskedRow(self.whole, self.observed, self.explained, torch.Size(batch_shape))
        larger.steps = self.steps
        return larger

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Draw, with gradients at missing entries where there is one class."""
        shape = torch.Size(sample_shape) + self.batch_shape
        if self.has_rsample:
            drawn = self.steps.draw(shape)
        else:
            with torch.no_grad():
                drawn = self.steps.draw(shape)
        return torch.where(self.mask_observed, placeholder(self.whole.law.support, drawn).sample(), drawn)

    def log_prob(self, value: Row) -> Float[Tensor, "... rows"]:
        """Per row: log q(x_u), and the placeholders' density."""
        of_placeholders = placeholder(self.whole.law.support, value).log_prob(value)
        log_q = self.steps.densities(torch.where(self.mask_observed, self.observed, value)).proposal
        return log_q + torch.where(self.mask_observed, of_placeholders, 0.0).sum(-1)

    def log_ratio(self, value: Row) -> Float[Tensor, "... rows"]:
        """Per row, log p(x_u | x_o) - log q(x_u)."""
        found = self.steps.densities(torch.where(self.mask_observed, self.observed, value))
        return found.conditional - found.proposal

    def density_at(self, value: Row, cells: Bool[Tensor, "rows columns"]) -> Float[Tensor, "... rows"]:
        """Refused: later values were drawn given the earlier ones.

        Raises:
            ValueError: Names the site, and the cure.
        """
        raise ValueError(
            f"site {self.whole.site!r}: a part of a sum follows from the others, as does an argument of a derived value"
            " that was seen, which needs missing values that are drawn without their mechanism: leave mechanism= out of"
            " partially_observed, or take SelfMasking instead of NormalMixture"
        )


class _Densities(NamedTuple):
    """Of missing entries.

    Attributes:
        conditional: Log p(x_u | x_o); ``(..., rows)``.
        proposal: Log q(x_u); ``(..., rows)``.
    """

    conditional: Float[Tensor, "... rows"]
    proposal: Float[Tensor, "... rows"]


class _Steps:
    """A row's entries in an order of its own, observed ones first, by class: each normal given those before it.

    Tensors end in ``(rows, classes, columns)``, columns in that order.
    """

    def __init__(self, whole: WholeRow, observed: Row, explained: Explained) -> None:
        self.whole, self.observed, self.explained = whole, observed, explained
        classes = _classes(whole.law)
        if classes is None:
            raise ValueError(f"expected normal rows or a mixture of such, got {whole.fn}")
        self.logits, loc, covariance = classes
        self.order = torch.argsort(whole.mask.int(), dim=-1, descending=True, stable=True)
        order = self.order.unsqueeze(-2)
        num_classes, columns = loc.shape[-2:]
        rows = broadcast(loc.shape[:-2], covariance.shape[:-3], whole.mask.shape[:-1])
        self.loc = torch.take_along_dim(loc.expand(*rows, num_classes, columns), order, -1)
        full = covariance.expand(*rows, num_classes, columns, columns)
        full = torch.take_along_dim(full, order.unsqueeze(-1), -2)
        self.factor = cholesky_or_nan(torch.take_along_dim(full, order.unsqueeze(-2), -1))
        self.scale = self.factor.diagonal(dim1=-2, dim2=-1)
        self.seen, self.masked = self._in_order(whole.mask), self._in_order(explained.cells)
        self.intercept = self._in_order(explained.intercept)
        self.slope = self._in_order(explained.slope.expand(whole.mask.shape))
        eye = torch.eye(columns, dtype=loc.dtype, device=loc.device)
        self.inverse = torch.linalg.solve_triangular(self.factor, eye.expand(self.factor.shape), upper=False)

    def _in_order(self, values: Tensor) -> Tensor:
        """Values of each row and column, with a dimension of classes."""
        return _reordered(values, self.order).unsqueeze(-2)

    @cached_property
    def given_seen(self) -> tuple[Tensor, Tensor]:
        """Means of entries given the observed ones, and log q(c)."""
        residual = torch.where(self.seen, self._in_order(self.observed) - self.loc, 0.0)
        noise = torch.where(self.seen, times(self.inverse, residual), 0.0)
        mean = self.loc + times(self.factor, noise)
        log_seen = torch.where(self.seen, -0.5 * (noise.square() + LOG_TWO_PI) - self.scale.log(), 0.0).sum(-1)
        variance = times(self.factor.square(), (~self.seen).to(mean.dtype))
        missing = torch.where(self.masked, self._log_missing(mean, variance), 0.0).sum(-1)
        return mean, (self.logits + log_seen + missing).log_softmax(-1)

    def _log_missing(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Log P(R_d = 0) of normal values."""
        return log_ndtr(-(self.intercept + self.slope * mean) / (1 + self.slope.square() * variance).sqrt())

    def draw(self, shape: torch.Size) -> Row:
        """Rows from q, with what was observed in them."""
        mean, log_shares = self.given_seen
        num_classes, columns = self.loc.shape[-2:]
        options: Any = {"dtype": mean.dtype, "device": mean.device}
        uniform = torch.rand(*shape, num_classes, columns, **options).clamp_min(LEAST_UNIFORM).log()
        normal = torch.randn(*shape, num_classes, columns, **options)
        mean = mean.expand(*shape, num_classes, columns)
        values = []
        for at in range(columns):  # of what is left, the first is drawn and moves the means of the others
            scale, slope = self.scale[..., at], self.slope[..., at]
            width = (1 + (slope * scale).square()).sqrt()
            above = -(self.intercept[..., at] + slope * mean[..., 0]) / width
            beyond = -_quantile(uniform[..., at] + log_ndtr(above))  # of x's part and the link's noise, standardised
            noise = (normal[..., at] - slope * scale * beyond) / width
            noise = torch.where(self.masked[..., at], noise, normal[..., at])
            noise = torch.where(self.seen[..., at], 0.0, noise)
            values.append(mean[..., 0] + scale * noise)
            mean = mean[..., 1:] + self.factor[..., at + 1 :, at] * noise.unsqueeze(-1)
        drawn = torch.stack(values, -1)
        if num_classes > 1:
            reached = log_shares.softmax(-1).cumsum(-1)[..., :-1]
            chosen = (reached <= torch.rand(*shape, 1, **options)).sum(-1)
            at = chosen[..., None, None].expand(*shape, 1, columns)
            drawn = drawn.gather(-2, at)
        back = torch.argsort(self.order, dim=-1)
        return torch.where(self.whole.mask, self.observed, _reordered(drawn.squeeze(-2), back))

    def densities(self, row: Row) -> _Densities:
        """Of the missing entries of complete rows."""
        value = self._in_order(row)
        noise = times(self.inverse, value - self.loc)
        log_p = -0.5 * (noise.square() + LOG_TWO_PI) - self.scale.log()
        mean = value - self.scale * noise
        at_value = log_ndtr(-(self.intercept + self.slope * value))
        tilt = torch.where(self.masked, at_value - self._log_missing(mean, self.scale.square()), 0.0).sum(-1)
        log_seen = torch.where(self.seen, log_p, 0.0).sum(-1)
        log_unseen = torch.where(self.seen, 0.0, log_p).sum(-1)
        joint = self.logits + log_seen
        _, log_shares = self.given_seen
        conditional = (joint + log_unseen).logsumexp(-1) - joint.logsumexp(-1)
        return _Densities(conditional, (log_shares + log_unseen + tilt).logsumexp(-1))


def _classes(law: RowLaw) -> tuple[Tensor, Tensor, Tensor] | None:
    """Log-shares, means and covariances of normal classes, one if it is no mixture; None of another law."""
    part = law.part if isinstance(law, MixtureRows) else law
    if not isinstance(part, NormalRows) or not isinstance(part.covariance, DenseCovariance):
        return None
    loc, covariance = part.loc, part.covariance.covariance
    if isinstance(law, MixtureRows):
        count = law.logits.shape[-1]
        return (
            law.logits,
            loc.expand(*loc.shape[:-2], count, loc.shape[-1]),
            covariance.expand(*covariance.shape[:-3], count, *covariance.shape[-2:]),
        )
    return loc.new_zeros(1), loc.unsqueeze(-2), covariance.unsqueeze(-3)


def _reordered(values: Tensor, order: Tensor) -> Tensor:
    """Values of rows in an order of each row; both of shape ``(..., rows, columns)``."""
    shape = broadcast(values.shape, order.shape)
    return values.expand(shape).gather(-1, order.expand(shape))


def _quantile(log_p: Tensor) -> Tensor:
    """The standard normal's, in double precision and with its gradient; where p is one, far out and flat."""
    exact = log_p.detach().double().clamp_max(-1e-16)
    z = normal_quantile(exact)
    slope = (log_ndtr(z) + 0.5 * (z.square() + LOG_TWO_PI)).exp()
    return z.to(log_p.dtype) + slope.to(log_p.dtype) * (log_p - log_p.detach())
