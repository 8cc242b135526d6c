"""Fits to reweighted rows, one for each draw: what the uncertainty of the parameters is to imputations.

Draws that all come from one fit take its parameters for known, and intervals of what is computed from them are too
narrow.  The spread of fits to bootstrap weights of the rows is that of the parameters over samples (Rubin, 1981, The
Bayesian bootstrap; Little and Rubin, 2019, section 10.2.3, for draws of parameters by bootstrap).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import pyro.poutine as poutine
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray

from pyro_mnar.infer.session import Session
from pyro_mnar.infer.shared import is_point, shared_part
from pyro_mnar.infer.sites import sample_sites
from pyro_mnar.tables.survey import design_of, has_design
from pyro_mnar.tables.table import Table
from pyro_mnar.training.fitted import Fit
from pyro_mnar.training.restarts import Start, Trained, copied_pair, member_seed

SHARE_OF_EPOCHS = 0.25  # of the point fit's: its parameters are where the members start
SHARE_OF_RATE = 0.5
LEAST_STEPS = 400  # at half of a usual rate, enough for parameters to move by two of their units


def bootstrap_weights(
    units: Int[NDArray, " rows"],
    strata: Int[NDArray, " rows"],
    random: np.random.Generator,
    labels: Sequence[Hashable] | None = None,
) -> Float[NDArray, " rows"]:
    """How often each row counts in one bootstrap sample, 1 on average.

    Within a stratum of n sampling units the weights are n times a draw from a symmetric Dirichlet distribution of
    concentration (n - 2) / n, so that a mean has the variance s²/n; Rubin's own Bayesian bootstrap, of concentration 1,
    has (n - 1) / (n + 1) of it, which is little where a stratum has few units.  Of two units one counts twice, the
    other not at all.  Unlike a bootstrap by drawing rows, no row of a larger stratum is ever left out, so that no level
    of a column disappears.

    Args:
        units: Code of the unit, from 0, that each row belongs to: a cluster, which stays whole, or the row itself.
        strata: Code of each row's stratum.
        random: Where the numbers come from.
        labels: What the strata are called, in messages; their codes by default.

    Raises:
        ValueError: If a stratum has a single unit, from which no variance can be had.
    """
    of_units = np.empty(int(units.max()) + 1)
    _, first = np.unique(units, return_index=True)
    stratum_of_unit = strata[first]
    for stratum in np.unique(strata):
        here = np.flatnonzero(stratum_of_unit == stratum)
        count = len(here)
        if count < 2:
            name = int(stratum) if labels is None else labels[stratum]
            raise ValueError(f"stratum {name!r}: expected at least two sampling units, got {count}: join it to another")
        if count == 2:
            of_units[here] = random.permutation([0.0, 2.0])
        else:
            of_units[here] = count * random.dirichlet(np.full(count, (count - 2) / count))
    return of_units[units]


def refuse_posterior(guide: Callable, table: Table, device: torch.device, seed: int) -> None:
    """Refuse a guide with a posterior of parameters: drawn from in every member, it would count their spread twice.

    Raises:
        ValueError: Names a latent that all rows share.
    """
    few = table.source(device).take(torch.arange(min(len(table), 8), device=device))
    with Session(seed, device).running(), torch.no_grad():
        shared = sample_sites(shared_part(poutine.trace(guide).get_trace(few)))
    if any(not is_point(site["fn"]) for site in shared.values()):
        own = [name for name, site in shared.items() if not site["infer"].get("is_auxiliary")]
        name = (own or list(shared))[0]
        raise ValueError(
            f"bootstrap: the guide has a posterior of {name!r}, which all rows share, so imputations draw from it"
            " already and a bootstrap would count that uncertainty twice: leave bootstrap out, or hold what is shared"
            " at a point, AutoDelta(shared_latents(model))"
        )


def bootstrap_epochs(epochs: int, steps_per_epoch: int) -> int:
    """How many epochs a member takes: a quarter of the point fit's, no more than these and at least enough to move."""
    return min(epochs, max(math.ceil(SHARE_OF_EPOCHS * epochs), math.ceil(LEAST_STEPS / steps_per_epoch)))


def bootstrapped(
    count: int,
    train: Callable[[list[Start]], list[Trained]],
    point: Fit,
    table: Table,
    seed: int,
) -> list[Fit]:
    """Fits to bootstrap weights of the rows, each started from the point fit.

    Args:
        count: M.
        train: Trains members in place; returns fewer if it was interrupted.
        point: The fit to all rows.
        table: The rows.
        seed: Root of the members' seeds.

    Raises:
        ValueError: If parameters belong to a module inside a plain function, which cannot be copied, or a stratum has a
            single sampling unit.
    """
    units, strata, labels = _sampling_units(table)
    starts = []
    for member in range(count):
        own = member_seed(seed, member + 1)
        weight = bootstrap_weights(units, strata, np.random.default_rng(own), labels)
        copied, store = copied_pair(point.model, point.guide, table, point.store, own)
        starts.append(Start(*copied, own, store, f"bootstrap fit {member + 1} of {count}", _weights(table, weight)))
    done = train(starts)
    if any(trained.interrupted for trained in done):
        warnings.warn(
            "bootstrap: interrupted; fits that are not trained to the end lie too close to where they started, so none"
            " is kept, and imputations hold the parameters fixed",
            stacklevel=3,
        )
        return []
    return [trained.fit for trained in done]


def _sampling_units(
    table: Table,
) -> tuple[Int[NDArray, " rows"], Int[NDArray, " rows"], Sequence[Hashable]]:
    """Of each row, the codes of its sampling unit and of its stratum, and the strata's labels."""
    if not has_design(table.schema):
        return np.arange(len(table)), np.zeros(len(table), dtype=np.int64), ("all rows",)
    design = design_of(table.frame, table.schema)
    return design.unit, design.stratum, design.strata


def _weights(table: Table, bootstrap: Float[NDArray, " rows"]) -> Any:
    """Times what the rows count for in the table itself."""
    own = table.source().take(torch.arange(len(table))).weight
    weight = torch.as_tensor(bootstrap, dtype=table.dtype)
    return weight if own is None else weight * own.cpu()
