"""The words a model is written in: a plate over rows, a row that is partly observed, a mask that is observed.

    with rows(batch):
        z = pyro.sample("z", prior(batch.aux))
        x = partially_observed("x", decoder(z), batch)
        observe_mask("r", mechanism(x, z), batch)

Each is a few Pyro statements, so that a model made of them runs under plain Pyro: trace, replay, condition,
``Predictive``, ``render_model``, NUTS on a small table.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import pyro
import pyro.distributions as dist
import pyro.poutine as poutine
import torch
from jaxtyping import Bool, Float
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.infer.util import is_validation_enabled
from torch import Tensor

from pyro_mnar.distributions import (
    Columns,
    ImportanceRatio,
    Levels,
    MissingEntries,
    OwnValueMechanism,
    SummedOut,
    joined,
)
from pyro_mnar.distributions.links import Link, link_of, log_odds_of
from pyro_mnar.distributions.observed_entries import ObservedMask, observed_entries
from pyro_mnar.distributions.own_value import can_be_summed_out, given_missing
from pyro_mnar.distributions.row_parts import MaskPart, MissingPart, ObservedPart, RowPart
from pyro_mnar.distributions.self_masked import SelfMasked
from pyro_mnar.distributions.self_masked_rows import SelfMaskedRow, explained_gaps
from pyro_mnar.distributions.supports import check_support
from pyro_mnar.distributions.truncation import PartlyCensored, Restricted, restricted_levels
from pyro_mnar.distributions.whole_rows import MissingRow, ObservedRow, WholeRow, check_rows, is_of_rows
from pyro_mnar.tables.batch import Batch, listed

ROWS = "rows"


def rows(batch: Batch) -> pyro.plate:
    """The plate over the rows of a minibatch: ``dim=-1``, scaled by N/B.

    The plate gets the batch's own indices, so Pyro draws no permutation of N on every step.

    Raises:
        ValueError: If an index lies outside the table (checked while Pyro's validation is enabled).
    """
    if is_validation_enabled() and batch.index.numel() and not batch.index.is_meta:
        low, high = batch.index.min().item(), batch.index.max().item()
        if low < 0 or high >= batch.size:
            raise ValueError(f"rows: expected indices from 0 to {batch.size - 1}, got {low} to {high}")
    return pyro.plate(ROWS, batch.size, subsample=batch.index, dim=-1)


def partially_observed(
    name: str,
    fn: TorchDistributionMixin,
    batch: Batch,
    *,
    columns: Hashable | Sequence[Hashable] | None = None,
    mechanism: OwnValueMechanism | Callable[[Tensor], Tensor] | None = None,
) -> Float[Tensor, "*particles rows columns"]:
    """Score X_o, let X_u be latent, return the completed row.

    Two sites, or two for each kind of column where ``fn`` is a :class:`~pyro_mnar.distributions.Columns` of several;
    these are called ``{name}_0_missing``, ``{name}_0_observed``, ``{name}_1_missing`` and so on, in the order of its
    parts.  ``{name}_missing`` is latent and covers the row: at missing entries it has the density of ``fn``, at
    observed entries that of a fixed placeholder (:class:`~pyro_mnar.distributions.MissingEntries`).
    ``{name}_observed`` is ``fn`` masked to the observed entries and observed there; at missing entries its value is
    the detached draw, which lies in the support whatever ``fn`` is.

    One call takes the whole row, or some columns of it: then the model has a call for each group of columns, and what
    one returns can stand in the distribution of the next, so that an edge X → X is plain Pyro:

        x = partially_observed("x", dist.Normal(mean, scale), batch, columns=["income"])
        y = partially_observed("y", dist.Normal(a + b * x, noise), batch, columns=["rent"])

    Every column with gaps belongs to exactly one call; a complete one may be left out, and then the model is
    conditional on it (``batch.x`` has its values).

    Where the batch has bounds for a gap, ``{name}_missing`` has the density of ``fn`` between them, and
    ``{name}_observed`` scores their probability, log p(lower ≤ x ≤ upper | z): the cell is a censored observation.

    Or ``fn`` is a distribution whose event is the row: ``MultivariateNormal``, ``LowRankMultivariateNormal``, or a
    ``MixtureSameFamily`` of these or of column-wise ones.  ``{name}_observed`` then has the density p(x_o), and
    ``{name}_missing`` is p(x_u | x_o), both exact; a row's missing values are drawn together.

    :class:`~pyro_mnar.ImportanceWeightedELBO` proposes ``{name}_missing`` from the model where the guide leaves it out.
    Pyro's own objectives do not: with these the guide has to propose it, by :func:`propose_missing`.

    Args:
        name: Name of the variable, such as ``"x"``.
        fn: Column-wise distribution p(X|Z) of batch shape ``(..., rows, columns)``; an ``Independent`` over the
            columns is unwrapped.  Or a distribution of whole rows, of batch shape ``(..., rows)``, or empty if all rows
            have the same, and event shape ``(columns,)``; its columns hold real numbers, or in a mixture of column-wise
            families what these can have.
        batch: The rows.
        columns: The columns that ``fn`` is over, by name or position, in its order; all of them if None.
        mechanism: Log-odds of being observed, as a function of these columns, ``(..., rows, columns)`` to the same, or
            an :class:`~pyro_mnar.OwnValueMechanism`, which also tells slopes and link.  Give it where nothing else
            depends on a missing value than the mask of its column, and as it is given to :func:`observe_mask`, with
            weight 1; where something does, the log says so.  Missing values are then drawn from p(x_d | z, r_d = 0), so
            that they are summed out of the weight exactly: it holds p(r_d = 0 | z) = ∫ p(x|z) p(r_d = 0 | x, z) dx,
            whichever value was drawn.  So it is for levels, counts, normal and Student's t values and functions of
            these, where gaps have no bounds; others are drawn as ever.  Missing values of normal rows and of mixtures
            of such are drawn one after the other, each from p(x_d | x_o, x_<d, r_d = 0), if the link is ``"probit"``
            and slopes are told: then the weight of a row that lacks one value does not depend on it, and that of others
            little (:mod:`pyro_mnar.distributions.self_masked_rows`).

    Returns:
        The value of ``{name}_observed`` where observed and of ``{name}_missing`` elsewhere; ``(..., rows, columns)``.

    Raises:
        ValueError: If ``fn`` is neither column-wise over the batch's columns nor a row of them whose marginals are
            known, or the batch has bounds and ``fn`` is of a family that cannot be held between some
            (:class:`~pyro_mnar.distributions.truncation.Restricted`), as no distribution of whole rows can.
    """
    own = None if mechanism is None else OwnValueMechanism.of(mechanism)
    call = _Call(name, batch.positions(columns, name), batch, own)
    fn = _fitting(call, fn)
    if is_validation_enabled():
        check_support(name, fn, batch, call.columns)
    if is_of_rows(fn):
        return _observe_whole_row(call, fn)
    groups = list(_groups(call, fn))
    return joined([group.within for group in groups], [_observe(call, group) for group in groups])


def propose_missing(
    name: str,
    fn: TorchDistributionMixin,
    batch: Batch,
    *,
    columns: Hashable | Sequence[Hashable] | None = None,
) -> Float[Tensor, "*particles rows columns"]:
    """For guides that propose X_u themselves: the latent site of :func:`partially_observed`.

    Arguments as there; the placeholders of model and guide cancel exactly, and bounds hold in both.  A guide that
    leaves the site out gets it proposed from the model.
    """
    call = _Call(name, batch.positions(columns, name), batch)
    fn = _fitting(call, fn)
    if is_of_rows(fn):
        whole = WholeRow.of(name, fn, batch, call.columns)
        return _sample_entries(call, name, call.columns, MissingRow(whole, call.at(batch.x)))
    groups = list(_groups(call, fn))
    drawn = [_sample_missing(call, group, _within_bounds(call, group, group.fn)) for group in groups]
    return joined([group.within for group in groups], drawn)


def observe_mask(
    name: str,
    logits: Float[Tensor, "*particles rows columns"] | TorchDistributionMixin,
    batch: Batch,
    *,
    columns: Hashable | Sequence[Hashable] | None = None,
    weight: float = 1.0,
    link: str | Callable[[Tensor], Tensor] | Link = "logit",
) -> None:
    """Score the mask: R_d ~ Bernoulli(logits_d), in the modelled cells of columns that can go missing.

    Args:
        name: Name of the site, such as ``"r"``.
        logits: Log-odds of being *observed*, or what another link turns into that probability;
            ``(..., rows, columns)``.  Or a Bernoulli of that batch shape, which needs no link.
        batch: The rows.
        columns: The columns that the logits are of, by name or position, in their order; all of them if None.
        weight: β, the power to which p(R|X,Z) enters the importance weight (B.3); 0 leaves the site without a density,
            and imputations then know nothing of the mask.
        link: ``"logit"``; ``"probit"``, Φ(η); ``"cloglog"``, 1 - exp(-exp(η)); ``"threshold"``, observed where η > 0;
            or a function from η to the probability of being observed.

    Raises:
        ValueError: If the logits are not over these columns, a column is not the batch's, the weight is negative, no
            link has this name, or a distribution is no Bernoulli or has a link too.
    """
    call = _Call(name, batch.positions(columns, name), batch)
    link = link_of(link)
    logits = log_odds_of(name, logits, link)
    if weight < 0:
        raise ValueError(f"weight of the mechanism: expected at least 0, got {weight}")
    if logits.shape[-1:] != (len(call.columns),):
        raise ValueError(
            f"site {name!r}: expected logits of shape (..., rows, {len(call.columns)}), one for each column of"
            f" {call.names}, got shape {tuple(logits.shape)}"
        )
    part, mask = MaskPart(call.columns, weight, link.name), call.at(batch.mask).to(logits.dtype)
    if weight == 0:  # what pyro.deterministic makes, with a mark
        infer: Any = {"_deterministic": True}  # Pyro's type lists other keys alone
        pyro.sample(name, RowPart(dist.Delta(mask).mask(False), part), obs=mask, infer=infer)
        return
    fn = ObservedMask(logits=logits).mask(call.at(batch.mask_modelled & batch.incomplete))
    with poutine.scale(scale=weight):
        pyro.sample(name, RowPart(fn, part), obs=mask)


def observe_events(name: str, log_odds: Float[Tensor, " events"], events: Bool[Tensor, "rows events"]) -> None:
    """Score events that a row has or has not, and that nothing in the row causes: each a Bernoulli of its own.

    Args:
        name: Name of the site.
        log_odds: Of each event.
        events: Which of them each row has.
    """
    pyro.sample(name, dist.Bernoulli(logits=log_odds).to_event(1), obs=events.to(log_odds.dtype))


@dataclass(frozen=True)
class _Call:
    """What a call of :func:`partially_observed` is about: some columns of a batch, and what explains their gaps."""

    name: str
    columns: tuple[int, ...]
    batch: Batch
    mechanism: OwnValueMechanism | None = None

    @property
    def names(self) -> str:
        return listed([self.batch.names[at] for at in self.columns])

    def at(self, values: Tensor, columns: tuple[int, ...] | None = None) -> Tensor:
        """Of values of the whole row those of some columns, of the call's own if not given."""
        columns = self.columns if columns is None else columns
        return values if columns == tuple(range(self.batch.num_columns)) else values[..., list(columns)]


class _Group(NamedTuple):
    """Columns of a call that one distribution is over.

    Attributes:
        name: Prefix of their sites.
        columns: Their positions in the row.
        within: Their positions among the columns of the call.
        fn: p(X|Z) of them.
    """

    name: str
    columns: tuple[int, ...]
    within: tuple[int, ...]
    fn: TorchDistributionMixin


def _groups(call: _Call, fn: TorchDistributionMixin) -> Iterator[_Group]:
    """The columns of a call, by kind."""
    if not isinstance(fn, Columns):
        yield _Group(call.name, call.columns, tuple(range(len(call.columns))), fn)
        return
    for number, (within, part) in enumerate(fn.parts):
        yield _Group(f"{call.name}_{number}", tuple(call.columns[at] for at in within), within, part)


def _observe(call: _Call, group: _Group) -> Float[Tensor, "*particles rows columns"]:
    """The two sites of a group of columns, and their completed values."""
    x, mask = call.at(call.batch.x, group.columns), call.at(call.batch.mask, group.columns)
    missing, scored = (_summed_out if _is_summed_out(call, group) else _drawn)(call, group, mask)
    filled = torch.where(mask, x, missing.detach())
    observed = pyro.sample(f"{group.name}_observed", RowPart(scored, ObservedPart(group.columns)), obs=filled)
    if observed is filled and not missing.requires_grad:
        return filled  # nothing intervened, so it is the completed row already
    return torch.where(mask, observed, missing)


def _observe_whole_row(call: _Call, fn: TorchDistributionMixin) -> Float[Tensor, "*particles rows columns"]:
    """The two sites of a joint law, X_o first, since X_u is drawn given it."""
    whole = WholeRow.of(call.name, fn, call.batch, call.columns)
    part = ObservedPart(call.columns)
    observed = pyro.sample(f"{call.name}_observed", RowPart(ObservedRow(whole), part), obs=call.at(call.batch.x))
    explained = call.at(~call.batch.mask & call.batch.mask_modelled & call.batch.incomplete)
    mechanism = explained_gaps(whole.law, call.mechanism, call.at(call.batch.x), range(len(call.columns)), explained)
    if mechanism is None:
        missing = _sample_entries(call, call.name, call.columns, MissingRow(whole, observed))
        return torch.where(whole.mask, observed, missing)
    entries = SelfMaskedRow(whole, observed, mechanism)
    missing = _sample_entries(call, call.name, call.columns, entries)
    pyro.factor(f"{call.name}_ratio", entries.log_ratio(missing))
    return torch.where(whole.mask, observed, missing)


def _drawn(call: _Call, group: _Group, mask: Tensor) -> tuple[Tensor, TorchDistributionMixin]:
    """Missing values from p(x|z), within their bounds, and what is scored of the row."""
    proposal = _within_bounds(call, group, group.fn)
    missing = _sample_missing(call, group, proposal)
    if isinstance(proposal, Restricted):
        return missing, PartlyCensored(proposal, mask)
    if proposal is group.fn:
        return missing, observed_entries(group.fn, mask, call.batch)
    return missing, ImportanceRatio(group.fn, proposal, mask)


def _is_summed_out(call: _Call, group: _Group) -> bool:
    if call.mechanism is None or not can_be_summed_out(group.fn, call.mechanism, group.within):
        return False
    return call.batch.bounds is None or isinstance(group.fn, Levels)


def _summed_out(call: _Call, group: _Group, mask: Tensor) -> tuple[Tensor, TorchDistributionMixin]:
    """Missing values from p(x_d | z, r_d = 0), so that the weight holds p(r_d = 0 | z) whichever was drawn."""
    batch, mechanism = call.batch, cast(OwnValueMechanism, call.mechanism)
    explained = call.at(~batch.mask & batch.mask_modelled & batch.incomplete, group.columns)
    found = given_missing(group.fn, mechanism, call.at(batch.x), group.within, explained)
    proposal = found if isinstance(found, SelfMasked) else _within_bounds(call, group, found)
    missing = _sample_missing(call, group, proposal, summed_out=True)
    if isinstance(proposal, SelfMasked):
        return missing, SummedOut(proposal, mask)
    return missing, ImportanceRatio(group.fn, proposal, mask)


def _within_bounds(call: _Call, group: _Group, fn: TorchDistributionMixin) -> TorchDistributionMixin:
    """``fn`` held between the bounds of the batch's gaps; ``fn`` itself where its columns have none."""
    if call.batch.bounds is None:
        return fn
    lower, upper = (call.at(bound, group.columns) for bound in call.batch.bounds)
    if isinstance(fn, Levels):
        return restricted_levels(fn, lower, upper)
    try:
        return Restricted(fn, lower, upper)
    except ValueError as error:
        bounded = [
            at for at, some in zip(group.columns, (lower.isfinite() | upper.isfinite()).any(0), strict=True) if some
        ]
        if not bounded:  # those of other columns do not concern it
            return fn
        names = listed([call.batch.names[at] for at in bounded])
        raise ValueError(f"site {call.name!r}, columns {names}: {error}") from None


def _sample_missing(
    call: _Call, group: _Group, fn: TorchDistributionMixin, *, summed_out: bool = False
) -> Float[Tensor, "*particles rows columns"]:
    entries = MissingEntries(fn, call.at(call.batch.mask, group.columns))
    return _sample_entries(call, group.name, group.columns, entries, summed_out=summed_out)


def _sample_entries(
    call: _Call,
    name: str,
    columns: tuple[int, ...],
    entries: MissingEntries | MissingRow,
    *,
    summed_out: bool = False,
) -> Float[Tensor, "*particles rows columns"]:
    site = f"{name}_missing"
    missing = pyro.sample(site, RowPart(entries, MissingPart(columns, summed_out)))
    if missing.shape[-2:] != entries.shape()[-2:]:
        expected = ", ".join(map(str, entries.shape()[-2:]))
        raise ValueError(
            f"site {site!r}: expected values of shape (..., {expected}), a number for each row and column of"
            f" {call.names}, got shape {tuple(missing.shape)}; a guide proposes them by propose_missing({call.name!r},"
            " fn, batch)"
        )
    return missing


def _fitting(call: _Call, fn: TorchDistributionMixin) -> TorchDistributionMixin:
    """A column-wise distribution, or one of whole rows, of the call's columns."""
    if not isinstance(fn, TorchDistributionMixin):
        raise TypeError(
            f"site {call.name!r}: expected a distribution of pyro.distributions, got"
            f" {type(fn).__module__}.{type(fn).__name__}"
        )
    if isinstance(fn, dist.Independent) and len(fn.event_shape) == 1:
        fn = fn.base_dist
    if is_of_rows(fn):
        check_rows(call.name, fn, call.batch, call.columns)
        return fn
    width = len(call.columns)
    if fn.event_shape or not fn.batch_shape or fn.batch_shape[-1] not in (1, width):
        raise ValueError(
            f"site {call.name!r}: expected a distribution of batch shape (..., rows, {width}), the columns"
            f" {call.names}, and no event shape, got batch shape {tuple(fn.batch_shape)} and event shape"
            f" {tuple(fn.event_shape)}; whole rows are MultivariateNormal, LowRankMultivariateNormal and"
            " MixtureSameFamily"
        )
    return fn
