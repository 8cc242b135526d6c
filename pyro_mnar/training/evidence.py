"""How probable a fit holds what is observed: log p(x_o, r | u) per row, by importance sampling, and the part of it
outside U.

Where complete columns serve as U, they stay columns of X too, and p(x_o, r | u) holds the density of a value given
itself. That term says how well the decoder copies u, not how well the model explains the rest, and it outweighs all
others.  It can be left out, which gives log p(x_o outside U, r | u): the mechanism still sees these values, for they
are known; the guide still sees them, for any proposal leaves the estimate a lower bound.

Where all rows share latents, the density is that of a row on its own given the training rows,
log E_q(θ)[p(x_o, r | u, θ)]: the mean over draws of θ stands inside the logarithm, with some of the particles each.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyro.poutine as poutine
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from pyro.poutine.messenger import Messenger
from torch import Tensor

from pyro_mnar.infer.objective import ImportanceWeightedELBO
from pyro_mnar.infer.session import Session
from pyro_mnar.infer.shared import shared_part
from pyro_mnar.infer.sites import holds_columns, scored_in
from pyro_mnar.messages import whole_number
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.survey import has_design
from pyro_mnar.tables.table import Table
from pyro_mnar.training.fitted import Fit, check_fit

SHARED_DRAWS = 50  # draws of latents that all rows share, at least, where there are as many particles


class Evidence(NamedTuple):
    """Estimates per row, in nats, of densities in standardised units; both are lower bounds in expectation.

    Attributes:
        log_p: At K particles, the mean of two independent estimates; ``(rows,)``.
        gain: What 2K particles add to it, never negative; where it is small, the bounds are tight; ``(rows,)``.
    """

    log_p: Float[NDArray, " rows"]
    gain: Float[NDArray, " rows"]


def log_evidence(
    fit: Fit,
    table: Table | pd.DataFrame,
    *,
    num_particles: int = 1000,
    outside_u: bool = False,
    seed: int = 0,
    device: torch.device | str | None = None,
    elements_at_once: int = 2_000_000,
) -> Evidence:
    """Estimate log p(x_o, r | u) of each row.

    Where β ≠ 1 the mechanism's weight is as in training, and the number is an objective and no evidence.

    Args:
        fit: A trained model and guide.
        table: The rows; a frame is encoded with the training rows' units.
        num_particles: K; 2K particles are drawn.
        outside_u: Leave out p(x_o|z) of the columns that serve as U.
        seed: Same seed, same numbers; the caller's generators stay as they are.
        device: Where to compute; by default where the parameters are.
        elements_at_once: Particles × rows × columns in memory at once; other numbers are drawn for another one.

    Raises:
        ValueError: If ``num_particles`` is below 1, the table has other columns, or terms are to be left out of a model
            that has no site made by ``partially_observed``.
    """
    check_fit(fit)
    num_particles = whole_number("num_particles", num_particles)
    table = fit.encoded(table)
    fit = fit.on(device)
    device = fit.device
    session = Session(seed, device, fit.store)
    in_u = torch.tensor([column.is_auxiliary for column in table.schema.columns], device=device)
    model = _OutsideU(in_u)(fit.model) if outside_u and bool(in_u.any()) else fit.model

    with session.rewinding(), torch.no_grad():
        few = next(table.batches(2, device=device))
        is_shared = len(shared_part(poutine.trace(fit.guide).get_trace(few))) > 0
    most = math.ceil(num_particles / SHARED_DRAWS) if is_shared else num_particles
    rows_at_once = max(1, min(len(table), elements_at_once // (min(num_particles, 200) * table.schema.num_columns)))
    chunks, objectives = [], {}
    for batch in table.batches(rows_at_once, device=device):
        with session.running():
            first, second = (
                _log_mean_weight(model, fit.guide, batch, num_particles, elements_at_once, most, objectives)
                for _ in range(2)
            )
        both = torch.logaddexp(first, second) - np.log(2)
        single = (first + second) / 2
        chunks.append(torch.stack([single, both - single]).double().cpu())
    log_p, gain = torch.cat(chunks, dim=-1).numpy()
    return Evidence(log_p, gain)


def row_weights(table: Table) -> Float[NDArray, " rows"] | None:
    """How often each row counts, 1 on average; None where every row counts once."""
    if not has_design(table.schema):
        return None
    weight = table.source().take(torch.arange(len(table))).weight
    return None if weight is None else weight.double().numpy()


def mean_and_error(
    per_row: Float[NDArray, " rows"], name: str = "bound", weight: Float[NDArray, " rows"] | None = None
) -> dict[str, float]:
    """The mean over rows, under a name, and its ``standard_error``; weighted where rows have weights."""
    mean = float(np.average(per_row, weights=weight))
    return {name: mean, "standard_error": float(standard_errors(per_row, weight))}


def standard_errors(per_row: Float[NDArray, "*fits rows"], weight: Float[NDArray, " rows"] | None = None) -> Any:
    """Standard error of the mean over rows, the last dimension; of a weighted one by its linearisation."""
    count = per_row.shape[-1]
    if count < 2:
        return np.full(per_row.shape[:-1], np.inf)
    if weight is None:
        return per_row.std(-1, ddof=1) / np.sqrt(count)
    apart = weight * (per_row - np.average(per_row, axis=-1, weights=weight)[..., None])
    return np.sqrt(count / (count - 1) * (apart**2).sum(-1)) / weight.sum()


def _log_mean_weight(
    model: Callable,
    guide: Callable,
    batch: Batch,
    num_particles: int,
    elements_at_once: int,
    most: int,
    objectives: dict[int, ImportanceWeightedELBO],
) -> Float[Tensor, " rows"]:
    """Per row, log (1/K) Σ_k w_k, as many particles at a time as fit into memory, and at most so many.

    Objectives are kept by their number of particles: each finds out once what does not depend on the rows.
    """
    at_once = max(1, min(most, elements_at_once // (len(batch) * batch.num_columns)))
    total = batch.x.new_full((len(batch),), -torch.inf)
    for start in range(0, num_particles, at_once):
        count = min(at_once, num_particles - start)
        objective = objectives.setdefault(count, ImportanceWeightedELBO(count))
        total = torch.logaddexp(total, objective.log_weights(model, guide, batch).logsumexp(0))
    return total - np.log(num_particles)


class _OutsideU(Messenger):
    """Leave the density of the observed columns that serve as U out of the weights; everything sees their values as
    before.
    """

    def __init__(self, in_u: Tensor) -> None:
        super().__init__()
        self.in_u = in_u

    def __enter__(self) -> Any:
        self.was_met = False
        return super().__enter__()

    def __exit__(self, *exc: Any) -> Any:
        if exc[0] is None and not self.was_met:
            raise ValueError(
                "the model has no site made by partially_observed, so nothing tells which terms belong to the columns"
                " that serve as U: name auxiliary columns in Table.from_frame(auxiliary=[...])"
            )
        return super().__exit__(*exc)

    def _pyro_sample(self, msg: Any) -> None:
        if not (holds_columns(msg) and msg["is_observed"]):
            return
        self.was_met = True
        msg["fn"] = scored_in(msg["fn"], ~self.in_u)
