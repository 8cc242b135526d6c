"""Latents that all rows share: priors on parameters, effects of groups, whatever stands outside the row plate.

With θ for all of them, the objective of a minibatch of B of N rows is

    L = E_q(θ)[ (N / B) · Σ_rows log( (1/K) Σ_k w_k(θ) ) + log p(θ) - log q(θ) ]

A row's weight is one of its own latents given θ.  So θ is drawn once a run and shared by all K particles: draws of θ
are averaged outside the logarithm, where one a step leaves the estimate unbiased, as one minibatch does.  The terms of
θ count once, whatever share of the rows is there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pyro.poutine as poutine
import torch
from jaxtyping import Float
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.distributions.util import scale_and_mask
from pyro.infer.autoguide import AutoContinuous
from pyro.poutine import Trace
from torch import Tensor
from torch.distributions import biject_to

from pyro_mnar.distributions.densities import log_density
from pyro_mnar.infer.arguments import check_callable
from pyro_mnar.infer.session import random_numbers_kept
from pyro_mnar.infer.sites import Site, is_shared, sample_sites, stochastic_sites
from pyro_mnar.messages import check_is
from pyro_mnar.primitives import ROWS
from pyro_mnar.tables.batch import Batch


def shared_latents(model: Callable[..., Any], plate: str = ROWS) -> Callable[..., Any]:
    """A model without the latents of its rows, for guides of what all rows share.

    Pyro's automatic guides take it in the model's place; the rows' own latents are then proposed from the model:

        guide = AutoNormal(shared_latents(model))

    Beside a guide of the rows' latents it stands in a function or module that calls both.

    Args:
        model: Any callable of a batch.
        plate: Name of the row plate.
    """
    check_callable(model, "model")
    check_is("plate", plate, str)
    return poutine.block(model, hide_fn=lambda msg: _is_of_rows(msg, plate))


class OverParticles(pyro.plate):
    """The plate over particles, which holds what stands in the row plate; shared latents are drawn once.

    A shared latent then has the shape that the model gives it, so that ``F.linear`` and the like take it as they take
    a parameter.

    Args:
        name: Name of the plate.
        size: K.
        dim: Left of the model's own plates.
        plate: Name of the row plate.
    """

    def __init__(self, name: str, size: int, dim: int | None, plate: str) -> None:
        super().__init__(name, size, dim=dim)
        self.plate = plate

    def _process_message(self, msg: Any) -> None:
        is_site = msg["type"] == "sample" and isinstance(msg["fn"], TorchDistributionMixin)
        if not (is_site and is_shared(msg, self.plate)):
            super()._process_message(msg)


def shared_part(trace: Trace, plate: str = ROWS) -> Trace:
    """The shared latents of a trace, to replay; without sites if there are none."""
    part = Trace()
    for name, site in sample_sites(trace).items():
        if is_shared(site, plate) and not site["is_observed"]:
            part.add_node(name, **site)
    return part


def shared_density(sites: list[Site]) -> Float[Tensor, ""] | float:
    """Summed log-density of sites outside the row plate; 0.0 if there is none.

    Raises:
        ValueError: If a site's density has a dimension that no plate declares: then it depends on the rows' latents, or
            is one of a row itself.
    """
    total: Any = 0.0
    for site in sites:
        log_prob = log_density(site["fn"], site["value"], *site["args"], **site["kwargs"])
        plates = {frame.dim for frame in site["cond_indep_stack"]}
        loose = [dim for dim in range(-log_prob.dim(), 0) if log_prob.shape[dim] > 1 and dim not in plates]
        if loose:
            raise ValueError(
                f"site {site['name']!r}: stands outside the row plate, so all rows share it, but has"
                f" {tuple(log_prob.shape)} densities: if each row has one, or it depends on the rows' latents, move it"
                " inside `with rows(batch):`; if it is one latent of several numbers, write `.to_event(1)`"
            )
        total = total + scale_and_mask(log_prob, site["scale"], site["mask"]).sum()
    return total


def refuse_left_out(model_sites: list[Site], guide_names: set[str]) -> None:
    """Refuse a shared latent that the guide leaves out: proposed from its prior it would be no posterior."""
    left_out = [site["name"] for site in model_sites if not site["is_observed"] and site["name"] not in guide_names]
    if left_out:
        raise ValueError(
            f"site {left_out[0]!r}: stands outside the row plate, so all rows share it, and the guide leaves it out"
            f" (it leaves out {left_out}): add a sample statement of that name to the guide, or call"
            " `AutoNormal(shared_latents(model))` in it; or move the site inside `with rows(batch):` if each row has"
            " one, or make it a parameter"
        )


def refuse_joint(guide: Any, plate: str = ROWS) -> None:
    """Refuse a guide that holds latents of the rows in one vector for the whole table, which fits no other rows.

    Raises:
        ValueError: Names a latent and the guide that serves.
    """
    trace = getattr(guide, "prototype_trace", None)
    if not isinstance(guide, AutoContinuous) or trace is None:
        return
    sites = stochastic_sites(trace)
    of_rows = [name for name, site in sites.items() if not site["is_observed"] and not is_shared(site, plate)]
    if of_rows:
        kind = type(guide).__name__
        raise ValueError(
            f"site {of_rows[0]!r}: each row has one, and {kind} holds those of a whole table in one vector, which fits"
            f" no other rows: use {kind}(shared_latents(model)), or AutoNormal(model, create_plates=rows)"
        )


def covers(model_sites: list[Site], guide_sites: list[Site]) -> bool:
    """Whether the guide gives every shared latent a density; a point (``AutoDelta``) bounds no evidence."""
    free = sum(
        biject_to(site["fn"].support).inv(site["value"]).numel() for site in model_sites if not site["is_observed"]
    )
    return free <= sum(site["value"].numel() for site in guide_sites if not is_point(site["fn"]))


def is_point(fn: Any) -> bool:
    """Whether a distribution is a single point."""
    while isinstance(fn, dist.Independent | dist.MaskedDistribution):
        fn = fn.base_dist
    return isinstance(fn, dist.Delta)


def rows_are_given(model_trace: Trace, guide_trace: Trace, plate: str = ROWS) -> bool:
    """Whether a guide fixes every latent of the rows, so that all particles are one and the same."""
    of_model, of_guide = (
        {name: site for name, site in stochastic_sites(trace).items() if not is_shared(site, plate)}
        for trace in (model_trace, guide_trace)
    )
    all_held = all(site["is_observed"] or name in of_guide for name, site in of_model.items())
    return all_held and bool(of_guide) and all(is_point(site["fn"]) for site in of_guide.values())


def check_sizes(model: Callable[..., Any], batch: Batch, fewer: Batch, plate: str = ROWS) -> None:
    """Refuse a latent outside the row plate whose size follows the number of rows.

    Args:
        model: The model.
        batch: Some rows.
        fewer: Not as many of them.
        plate: Name of the row plate.

    Raises:
        ValueError: If a shared latent has another shape in each; its terms would count once for any minibatch.
    """
    with torch.no_grad(), random_numbers_kept():
        first = _shared_shapes(model, batch, plate)
        other = _shared_shapes(model, fewer, plate) if first else {}
    for name, shape in first.items():
        if other.get(name) != shape:
            raise ValueError(
                f"site {name!r}: stands outside the row plate, but its shape follows the number of rows, {shape} for"
                f" {len(batch)} and {other.get(name)} for {len(fewer)}: move it inside `with rows(batch):`"
            )


def _shared_shapes(model: Callable[..., Any], batch: Batch, plate: str) -> dict[str, tuple[int, ...]]:
    sites = stochastic_sites(poutine.trace(model).get_trace(batch))
    return {name: tuple(s["value"].shape) for name, s in sites.items() if is_shared(s, plate) and not s["is_observed"]}


def _is_of_rows(msg: Any, plate: str) -> bool:
    return msg["type"] == "sample" and (msg["name"] == plate or not is_shared(msg, plate))
