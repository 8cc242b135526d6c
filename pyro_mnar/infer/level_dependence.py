"""Whether the weight is the same whichever missing values are drawn, as it is where they are summed out.

Values drawn from p(x_d | z, r_d = 0) leave the weight with p(r_d = 0 | z) alone, provided that nothing but the row's
own density and its mask sees them.  An outcome that depends on the value sees it too, and so may another column's mask,
or a latent.  Then a value's draw moves the weight, and its gradient needs a score-function term.  What a model does is
looked at, not asserted: its parameters are moved (slopes often start at zero), every cell of the columns is opened, and
each value is exchanged for another.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import pyro.poutine as poutine
import torch
from jaxtyping import Float
from pyro.poutine import Trace
from torch import Tensor

from pyro_mnar.distributions import Levels
from pyro_mnar.distributions.densities import log_density
from pyro_mnar.infer.parameters import buffers_kept, perturbed, trainable_parameters
from pyro_mnar.infer.session import random_numbers_kept
from pyro_mnar.infer.sites import (
    Site,
    columns_of,
    holds_observed,
    is_summed_out,
    is_whole_row,
    mechanism_weight,
    sample_sites,
    stochastic_sites,
)
from pyro_mnar.infer.trial_runs import differ, opened
from pyro_mnar.tables.batch import Batch

PERTURBATION = 0.3

log = logging.getLogger(__name__)


def sites_that_move_weights(
    model: Callable, guide: Callable, args: Any, kwargs: Mapping[str, Any], *, quiet: bool = False
) -> frozenset[str]:
    """Sites whose values were to be summed out, and whose draws move the weight all the same; the log names why.

    Draws no random numbers of the caller's, and leaves parameters as they are.

    Args:
        model: The model.
        guide: Its guide.
        args: Arguments of both, among them a batch.
        kwargs: The same.
        quiet: Whether the log is left alone.
    """
    moved = _moved(model, guide, args, kwargs, is_summed_out)
    for name, others in moved.items():
        if others and not quiet:
            log.warning(
                "site %r: its missing values are sampled, with a score-function term, and not summed out, since %s"
                " depends on them beside their own mask",
                name,
                " and ".join(map(repr, others)),
            )
    return frozenset(name for name, others in moved.items() if others)


def rows_that_nothing_sees(model: Callable, guide: Callable, args: Any, kwargs: Mapping[str, Any]) -> frozenset[str]:
    """Sites of whole rows whose missing values move no other site's density, so that their means given x_o are exact.

    Args:
        model: The model.
        guide: Its guide.
        args: Arguments of both, among them a batch.
        kwargs: The same.
    """
    moved = _moved(model, guide, args, kwargs, is_whole_row)
    return frozenset(name for name, others in moved.items() if not others)


def _moved(
    model: Callable, guide: Callable, args: Any, kwargs: Mapping[str, Any], is_meant: Callable[[Site], bool]
) -> dict[str, list[str]]:
    """Of sites of missing values, by name, which others depend on their draws."""
    if any(isinstance(value, Batch) and value.x.is_meta for value in (*args, *kwargs.values())):
        return {}  # there is nothing to look at

    def meant(trace: Trace) -> dict[str, Site]:
        return {name: site for name, site in sample_sites(trace).items() if is_meant(site)}

    with torch.no_grad(), random_numbers_kept(), poutine.block(), buffers_kept(model, guide):
        sites = meant(_trace(model, guide, args, kwargs))
        if not sites:
            return {}
        columns = [column for site in sites.values() for column in columns_of(site)]

        def with_gaps(value: Any) -> Any:
            return opened(value, columns) if isinstance(value, Batch) else value

        args = tuple(with_gaps(value) for value in args)
        kwargs = {name: with_gaps(value) for name, value in kwargs.items()}
        with perturbed(trainable_parameters(model, guide), PERTURBATION):
            trace = _trace(model, guide, args, kwargs)
            return {name: _moved_by(model, trace, site, args, kwargs) for name, site in meant(trace).items()}


def _trace(model: Callable, guide: Callable, args: Any, kwargs: Mapping[str, Any]) -> Trace:
    drawn = poutine.trace(guide).get_trace(*args, **kwargs)
    return poutine.trace(poutine.replay(model, trace=drawn)).get_trace(*args, **kwargs)


def _moved_by(model: Callable, trace: Trace, site: Site, args: Any, kwargs: Mapping[str, Any]) -> list[str]:
    """Sites whose log-probability is another one when each value of a site is another one."""
    changed = trace.copy()  # shallow: the site is replaced, not written to
    nodes: Any = changed.nodes
    nodes[site["name"]] = {**site, "value": _another_value(site)}
    there = poutine.trace(poutine.replay(model, trace=changed)).get_trace(*args, **kwargs)
    before, after = _log_probs(trace, site), _log_probs(there, site)
    return [name for name in before if differ(before[name], after[name])]


def _another_value(site: Site) -> Tensor:
    if is_whole_row(site):
        return site["fn"].sample()
    levels = site["fn"].base_dist.fn
    if not isinstance(levels, Levels):
        return levels.sample()
    count = torch.isfinite(levels.logits).sum(-1).clamp_min(1)  # of logits that are none, the objective tells
    codes = (levels.codes(site["value"]) + 1) % count
    points = levels.points.expand(*codes.shape, levels.points.shape[-1])
    return points.gather(-1, codes.unsqueeze(-1)).squeeze(-1)


def _log_probs(trace: Trace, site: Site) -> dict[str, Float[Tensor, "*densities"]]:
    """Of every other site, those that all rows share among them.

    The row's own density and the masks, whose sum does not move, count as one.
    """
    own: Any = 0.0
    own_name, found = "", dict[str, Tensor]()
    partner = site["name"].removesuffix("_missing") + "_observed"
    for name, other in stochastic_sites(trace).items():
        if name == site["name"]:
            continue
        log_prob = other["scale"] * log_density(other["fn"], other["value"], *other["args"], **other["kwargs"])
        is_mask = mechanism_weight(other) is not None
        if is_mask or (name == partner and holds_observed(other)):
            own = own + log_prob
            own_name = name if is_mask else own_name
        else:
            found[name] = log_prob
    return found if isinstance(own, float) else {**found, own_name or partner: own}
