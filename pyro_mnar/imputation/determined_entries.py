"""Entries of a row that are not drawn but follow from the others, and what they do to the particles' weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pyro.distributions as dist
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from pyro_mnar.infer.objective import ImportanceWeightedELBO
from pyro_mnar.infer.particles import Particles
from pyro_mnar.infer.sites import columns_of, is_whole_row, missing_sites, sample_sites
from pyro_mnar.tables.batch import Batch


class Determined(NamedTuple):
    """What one column has to be in some rows, given the others.

    Attributes:
        at: Position of the column.
        here: Which of the rows; ``(here,)``.
        numbers: The values, in the user's units; ``(particles, here)``.
        log_slope: Log-derivative of the values on the line that the column is modelled on, by what they are determined
            by, up to a constant; ``(particles, here)``.
        is_found: Whether there is one; ``(particles, here)``.
        is_free: Whether any will do; ``(particles, here)``.
    """

    at: int
    here: Int[NDArray, " here"]
    numbers: Float[NDArray, "particles here"]
    log_slope: Float[NDArray, "particles here"]
    is_found: Bool[NDArray, "particles here"]
    is_free: Bool[NDArray, "particles here"]


class PutIn(NamedTuple):
    """What became of particles by putting determined entries in.

    Attributes:
        ok: Whether each can be had; ``(particles, rows)``.
        is_free: Whether nothing had to be put in: what is drawn gives what was seen; ``(particles, rows)``.
        log_slope: The sum of the determined entries' log-derivatives; ``(particles, rows)``.
        cells: Which entries are determined; ``(rows, columns)``.
    """

    ok: Bool[NDArray, "particles rows"]
    is_free: Bool[NDArray, "particles rows"]
    log_slope: Float[NDArray, "particles rows"]
    cells: Bool[NDArray, "rows columns"]


def weighed_anew(
    objective: ImportanceWeightedELBO,
    run: Particles,
    model: Callable,
    batch: Batch,
    x: Float[Tensor, "particles rows columns"],
    determined: Bool[Tensor, "rows columns"],
) -> Float[Tensor, "particles rows"]:
    """Weights with missing values moved to x, the densities of determined ones as factors: nothing proposed these."""
    missing = missing_sites(run.model_trace)
    columns = {name: columns_of(site) for name, site in missing.items()}
    values = {
        name: torch.where(
            determined[:, columns[name]], x[..., columns[name]].reshape(site["value"].shape), site["value"]
        )
        for name, site in missing.items()
    }
    moved = objective.moved(run, values, model, batch)
    log_weights = moved.log_weights
    guide_sites = sample_sites(run.guide_trace)
    for name in missing:
        # A proposal of the guide's own counted both densities; one from the model counted neither.
        site = guide_sites.get(name, sample_sites(moved.model_trace)[name])
        if not isinstance(site["fn"], dist.Independent):
            raise ValueError(
                f"site {name!r}: a part of a sum or an argument of a derived value that was seen follows from the"
                f" others, which needs a density for each column, got a proposal by {type(site['fn']).__name__}; leave"
                " the site out of the guide"
            )
        cells = determined[:, columns[name]]
        if is_whole_row(site):
            density = site["fn"].base_dist.density_at(site["value"], cells).detach()
        else:
            density = (site["fn"].base_dist.log_prob(site["value"]) * cells).sum(-1)
        log_weights = log_weights + density.reshape(log_weights.shape)
    return log_weights
