"""The words a model is written in: a plate over rows, a row that is partly observed, a mask that is observed.

    with rows(batch):
        z = pyro.sample("z", prior(batch.aux))
        x = partially_observed("x", decoder(z), batch)
        observe_mask("r", mechanism(x, z), batch)

Each is a few Pyro statements, so that a model made of them runs under plain Pyro: trace, replay, condition,
``Predictive``, ``render_model``, NUTS on a small table.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import pyro
import pyro.distributions as dist
import pyro.poutine as poutine
from jaxtyping import Bool, Float
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.infer.util import is_validation_enabled
from torch import Tensor

from pyro_mnar.distributions import OwnValueMechanism, joined
from pyro_mnar.distributions.links import Link, link_of, log_odds_of
from pyro_mnar.distributions.observed_entries import ObservedMask
from pyro_mnar.distributions.row_parts import MaskPart, RowPart
from pyro_mnar.distributions.supports import check_support
from pyro_mnar.distributions.whole_rows import MissingRow, WholeRow, is_of_rows
from pyro_mnar.messages import check_is, is_finite, shown
from pyro_mnar.primitives.site_pairs import (
    Call,
    fitting,
    groups_of,
    observe_group,
    observe_whole_row,
    sample_entries,
    sample_missing,
    within_bounds,
)
from pyro_mnar.tables.batch import Batch

ROWS = "rows"


def rows(batch: Batch) -> pyro.plate:
    """The plate over the rows of a minibatch: ``dim=-1``, scaled by N/B.

    The plate gets the batch's own indices, so Pyro draws no permutation of N on every step.

    Raises:
        ValueError: If an index lies outside the table (checked while Pyro's validation is enabled).
    """
    check_is("batch", batch, Batch, ", as table.batch() gives one")
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
    call = _call(name, batch, columns, own)
    if own is not None and own.slope is not None and own.slope.shape[-1:] != (len(call.columns),):
        raise ValueError(
            f"site {name!r}: expected a slope for each column of {call.names}, got shape {tuple(own.slope.shape)}"
        )
    fn = fitting(call, fn)
    if is_validation_enabled():
        check_support(name, fn, batch, call.columns)
    if is_of_rows(fn):
        return observe_whole_row(call, fn)
    groups = list(groups_of(call, fn))
    return joined([group.within for group in groups], [observe_group(call, group) for group in groups])


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
    call = _call(name, batch, columns)
    fn = fitting(call, fn)
    if is_of_rows(fn):
        whole = WholeRow.of(name, fn, batch, call.columns)
        return sample_entries(call, name, call.columns, MissingRow(whole, call.at(batch.x)))
    groups = list(groups_of(call, fn))
    drawn = [sample_missing(call, group, within_bounds(call, group, group.fn)) for group in groups]
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
    call = _call(name, batch, columns)
    link = link_of(link)
    logits = log_odds_of(name, logits, link)
    if not is_finite(weight) or weight < 0:
        raise ValueError(f"weight of the mechanism: expected at least 0, got {shown(weight)}")
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
    check_is("name", name, str)
    check_is("log_odds", log_odds, Tensor)
    check_is("events", events, Tensor)
    if not log_odds.dim():
        raise ValueError(f"site {name!r}: expected log-odds of each event, got one number")
    pyro.sample(name, dist.Bernoulli(logits=log_odds).to_event(1), obs=events.to(log_odds.dtype))


def _call(
    name: str,
    batch: Batch,
    columns: Hashable | Sequence[Hashable] | None,
    mechanism: OwnValueMechanism | None = None,
) -> Call:
    check_is("name", name, str)
    check_is("batch", batch, Batch, ", as table.batch() gives one")
    return Call(name, batch.positions(columns, name), batch, mechanism)
