"""Gradient estimators of the bound: pathwise with leave-one-out terms (VIMCO), and doubly reparameterised.

Mnih & Rezende (2016), Variational inference for Monte Carlo objectives; Tucker et al. (2018), Doubly reparameterized
gradient estimators for Monte Carlo objectives.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from pyro.poutine import Trace
from torch import Tensor

from pyro_mnar.infer.sites import Site, is_shared, is_summed_out, sample_sites, stochastic_sites
from pyro_mnar.infer.weights import TracePair, bound_of


def _pathwise(runs: list[TracePair]) -> Tensor:
    """Gradients through the draws; leave-one-out score-function terms where there is no such way."""
    log_weights = torch.cat([run.log_weights() for run in runs])
    bound = bound_of(runs, log_weights) + _shared(runs)
    if not _unreparameterised(runs[0]):
        return bound
    scores = torch.cat([run.total(_unreparameterised(run)) for run in runs])
    signal = _leave_one_out_signal(log_weights.detach())
    surrogate = runs[0].over_rows(signal * scores)
    return bound + surrogate - surrogate.detach()


def _shared(runs: list[TracePair]) -> Tensor | float:
    """The terms of latents that all rows share, with pathwise gradients; runs share their draws too.

    Raises:
        ValueError: If such a latent cannot be reparameterised: one draw of it moves all rows' weights at once, and a
            score-function term would be all noise.
    """
    for site in runs[0].shared_guide_sites:
        if not site["fn"].has_rsample:
            raise ValueError(
                f"site {site['name']!r}: all rows share it and it cannot be reparameterised: sum it out in the model,"
                " or move it inside `with rows(batch):` if each row has one"
            )
    return runs[0].shared()


def _unreparameterised(run: TracePair) -> list[Site]:
    """Sites whose draws need a score-function term; one that the weight does not depend on has none."""
    sites = [*run.guide_sites, *run.from_model]
    return [s for s in sites if not (s["fn"].has_rsample or (is_summed_out(s) and s["name"] not in run.moving))]


def _leave_one_out_signal(log_weights: Float[Tensor, "particles rows"]) -> Float[Tensor, "particles rows"]:
    """L minus what L would be with w_k replaced by the geometric mean of the others (VIMCO, equation 7)."""
    count = len(log_weights)
    bound = log_weights.logsumexp(0) - math.log(count)
    if count == 1:
        return bound.expand_as(log_weights)
    others = (log_weights.sum(0) - log_weights) / (count - 1)
    swapped = log_weights.expand(count, *log_weights.shape).clone()  # [k, j, row]: weights with the k-th one replaced
    swapped.diagonal(dim1=0, dim2=1).copy_(others.T)
    return bound - (swapped.logsumexp(1) - math.log(count))


def _doubly_reparameterised(runs: list[TracePair]) -> Tensor:
    """With draws z_k as leaves, Σ ŵ_k ∂log p(·, z_k) for the model and Σ ŵ_k² ∂log w_k/∂z_k · ∂z_k for the guide.

    Replaying the guide on the leaves keeps how one latent's density depends on another's value, which detaching the
    distributions' parameters would lose.  Latents that all rows share keep their own gradients: to a row's weight they
    are parameters.  Noise of sites proposed from the model counts as part of the model.
    """
    for site in (site for run in runs for site in _unreparameterised(run)):
        raise ValueError(f"site {site['name']!r} cannot be reparameterised: use estimator='pathwise'")
    log_p = torch.cat([run.total(run.model_sites) for run in runs])
    has_guide = bool(runs[0].guide_sites)
    log_weights = log_p - torch.cat([run.total(run.guide_sites) for run in runs]) if has_guide else log_p
    normalised = log_weights.detach().softmax(0)

    surrogate = runs[0].over_rows(normalised * log_p)
    drawn = [sample_sites(run.drawn) for run in runs]
    leaves = [
        (s["value"], of[s["name"]]["value"]) for run, of in zip(runs, drawn, strict=True) for s in run.guide_sites
    ]
    if leaves and torch.is_grad_enabled():
        squared = runs[0].over_rows(normalised.square() * log_weights)
        slopes = torch.autograd.grad(squared, [leaf for leaf, _ in leaves], retain_graph=True)
        surrogate = surrogate + sum((slope * value).sum() for slope, (_, value) in zip(slopes, leaves, strict=True))
    bound = bound_of(runs, log_weights.detach())
    return bound + surrogate - surrogate.detach() + _shared(runs)


def with_leaves(trace: Trace, plate: str) -> Trace:
    """The same trace with every draw in the row plate a leaf that asks for a gradient."""
    leaves = trace.copy()  # shallow: the sites are still the other trace's, so they are replaced, not written to
    for name, site in stochastic_sites(trace).items():
        if site["value"].is_floating_point() and not is_shared(site, plate):
            leaf = leaves.nodes[name].copy()
            leaf["value"] = site["value"].detach().requires_grad_()
            leaves.nodes[name] = leaf
    return leaves


class Estimator(NamedTuple):
    """How a gradient of the bound is estimated.

    Attributes:
        bound: The bound of some runs, as a scalar with that gradient.
        needs_leaves: Whether the guide is to be replayed on its draws as leaves.
    """

    bound: Callable[[list[TracePair]], Tensor]
    needs_leaves: bool


ESTIMATORS = {
    "pathwise": Estimator(_pathwise, needs_leaves=False),
    "doubly-reparameterized": Estimator(_doubly_reparameterised, needs_leaves=True),
}
