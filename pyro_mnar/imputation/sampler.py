"""Sampling-importance-resampling of missing entries: replay guide and model, weigh, resample.

No second copy of the posterior's mathematics: the particles and their weights are the objective's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple

import pyro.poutine as poutine
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pyro_mnar.imputation.averages import Averages, Weighted
from pyro_mnar.imputation.row_conditions import Conditions
from pyro_mnar.infer.objective import ImportanceWeightedELBO
from pyro_mnar.infer.session import Session
from pyro_mnar.infer.sites import (
    Site,
    columns_of,
    holds_columns,
    mechanism_weight,
    mechanism_weights,
    missing_sites,
    sample_sites,
    stochastic_sites,
)
from pyro_mnar.tables.batch import Batch
from pyro_mnar.training.fitted import Fit

MOST_TRIES = 50  # sets of particles for a draw, before its row's constraints are called unsatisfiable
# Particles × rows × columns in flight, 8 MB a tensor in float32: much smaller, Pyro's own time shows; larger, tensors
# leave the processor's caches.
ELEMENTS_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class Chunk:
    """What is imputed to some rows, standardised; observed entries hold placeholders.

    Attributes:
        draws: One completed set of rows a draw; ``(draws, rows, columns)``.
        mean: Weighted mean of all particles, in the features of :class:`~pyro_mnar.imputation.averages.Averages`;
            ``(rows, features)``.
        effective_sample_size: As in :class:`Imputations`; ``(rows,)``.
    """

    draws: Float[Tensor, "draws rows columns"]
    mean: Float[Tensor, "rows features"]
    effective_sample_size: Float[Tensor, " rows"]


class Run(NamedTuple):
    """Particles of some rows, and which of them were resampled.

    Attributes:
        log_weights: ``(particles, rows)``.
        x: Their missing entries, standardised; observed entries hold placeholders; ``(particles, rows, columns)``.
        chosen: Position of the particle that each draw of each row takes; ``(draws, rows)``.
    """

    log_weights: Float[Tensor, "particles rows"]
    x: Float[Tensor, "particles rows columns"]
    chosen: Int[Tensor, "draws rows"]

    @property
    def draws(self) -> Float[Tensor, "draws rows columns"]:
        """Missing entries of the particles that were resampled."""
        return self.x[self.chosen, torch.arange(self.x.shape[1], device=self.x.device)]

    def possible(self) -> Bool[Tensor, "draws rows"]:
        """Whether any particle of a draw has a weight that is not zero."""
        return self.log_weights.unflatten(0, (len(self.chosen), -1)).isfinite().any(1)


class Sampler:
    """Draws and weighs particles of a chunk of rows, as many draws at a time as fit into memory.

    Args:
        fit: A trained model and guide.
        num_draws: Draws of each row.
        num_particles: K, particles for each draw.
        use_mechanism: Whether p(R|X,Z) enters the weights; see :func:`impute`.
        session: Random numbers and parameter store to run in.
        keep_weight: Weigh the mask by β as in training, and not by 1.
    """

    def __init__(
        self,
        fit: Fit,
        num_draws: int,
        num_particles: int,
        use_mechanism: bool,
        session: Session,
        *,
        keep_weight: bool = False,
    ) -> None:
        self.model: Callable = fit.model
        if not use_mechanism:
            self.model = poutine.block(fit.model, hide_fn=_is_mechanism)
        elif not keep_weight:
            self.model = _Untempered()(fit.model)
        self.fit, self.session, self.use_mechanism = fit, session, use_mechanism
        self.num_draws, self.num_particles = num_draws, num_particles
        self.averages = Averages(fit.schema)
        self.conditions: Conditions | None = None
        self.max_plate_nesting = float("inf")

    def impute(self, batch: Batch) -> Chunk:
        """Resample every draw from its own particles; average over all of them."""
        keep_freed_memory()
        draws, parts = [], []
        for run in self.runs(batch, len(batch) * self.averages.num_features):
            parts.append(Weighted.of(run.log_weights, self.averages.features(run.x)))
            draws.append(run.draws)
        of_all = reduce(Weighted.joined, parts)
        return Chunk(torch.cat(draws), of_all.mean, of_all.effective_sample_size())

    def runs(self, batch: Batch, elements: int) -> Iterator[Run]:
        """All draws of some rows, as many at a time as fit into memory.

        Args:
            batch: The rows.
            elements: Numbers that are kept of a particle.

        Raises:
            ValueError: If a weight is not a number, or all of a row's are zero.
        """
        per_run = max(1, ELEMENTS_AT_ONCE // (self.num_particles * elements))
        for start in range(0, self.num_draws, per_run):
            with self.session.running():
                run = self.run(batch, min(per_run, self.num_draws - start))
            refuse_unusable(run.log_weights, run.possible())
            yield run

    def run(self, batch: Batch, num_draws: int) -> Run:
        """Some draws of some rows; within a running session.  Reads no values unless there are row constraints."""
        log_weights, x = self._particles(batch, num_draws * self.num_particles)
        if self.conditions is not None:
            self._redraw(batch, log_weights, x, self.conditions)
        chosen = _resampled(log_weights.unflatten(0, (num_draws, self.num_particles)))
        first = torch.arange(num_draws, device=x.device)[:, None] * self.num_particles
        return Run(log_weights, x, first + chosen)

    def settle(self, batch: Batch) -> None:
        """Find out once what does not depend on the rows, and refuse a model that cannot be imputed from."""
        if self.max_plate_nesting == float("inf"):
            self._particles(batch, 1)

    def _particles(self, batch: Batch, count: int) -> tuple[Tensor, Tensor]:
        objective = ImportanceWeightedELBO(count, max_plate_nesting=self.max_plate_nesting)
        rows = batch if self.use_mechanism else batch.without_mechanism()
        run = objective.particles(self.model, self.fit.guide, rows)
        if self.max_plate_nesting == float("inf"):
            self.max_plate_nesting = objective.max_plate_nesting
            self._check(batch)
        if not any(holds_columns(site) for site in sample_sites(run.model_trace).values()):
            raise ValueError(
                "the model has no site made by partially_observed, so nothing tells which values are missing ones"
            )
        x = _missing_entries(list(missing_sites(run.model_trace).values()), (count, len(batch)), batch)
        if self.conditions is not None:
            # It writes to what it is given, which may be the trace's own.
            return self.conditions.impose(objective, run, self.model, rows, x.clone())
        return run.log_weights, x

    def _redraw(self, batch: Batch, log_weights: Tensor, x: Tensor, conditions: Conditions) -> None:
        """Draw particles anew, in place, for draws of rows none of whose particles satisfies the conditions."""
        for _ in range(MOST_TRIES):
            dead = ~torch.isfinite(log_weights.unflatten(0, (-1, self.num_particles))).any(1)  # (draws, rows)
            if log_weights.isnan().any() or not dead.any():
                return
            rows = dead.any(0).nonzero().squeeze(-1)
            fresh_weights, fresh_x = self._particles(batch.take(rows), len(log_weights))
            again = dead[:, rows].repeat_interleave(self.num_particles, 0)
            log_weights[:, rows] = torch.where(again, fresh_weights, log_weights[:, rows])
            x[:, rows] = torch.where(again.unsqueeze(-1), fresh_x, x[:, rows])
        dead = ~torch.isfinite(log_weights.unflatten(0, (-1, self.num_particles))).any(1)
        if dead.any():
            conditions.refuse(batch.index[dead.any(0)].cpu().numpy(), MOST_TRIES * self.num_particles)

    def _check(self, batch: Batch) -> None:
        if self.use_mechanism:
            return
        trace = poutine.trace(self.fit.model).get_trace(batch)
        if not any(mechanism_weights(trace)) and _observes_more_than_x(trace):
            raise ValueError(
                "use_mechanism=False: the model has no site made by observe_mask, so nothing tells what to leave out"
            )


def _missing_entries(
    sites: list[Site], shape: tuple[int, int], batch: Batch
) -> Float[Tensor, "particles rows columns"]:
    """Values of the latent sites, each in its columns; the only one's own tensor, if one has them all."""
    drawn = [(columns_of(site), site["value"].to(batch.dtype)) for site in sites]
    if [columns for columns, _ in drawn] == [list(range(batch.num_columns))]:
        return drawn[0][1].reshape(*shape, batch.num_columns)
    x = batch.x.new_zeros(*shape, batch.num_columns)
    for columns, value in drawn:
        x.index_copy_(-1, torch.tensor(columns, device=x.device), value.reshape(*shape, len(columns)))
    return x


def refuse_unusable(log_weights: Float[Tensor, "*any"], possible: Bool[Tensor, "draws rows"]) -> None:
    """Say why nothing can be resampled: from weights, or sums of them, and whether a draw has any."""
    if log_weights.isnan().any():
        raise ValueError(
            "a particle's weight is not a number: the model or the guide has parameters that are not finite"
        )
    if not possible.all():
        raise ValueError("every particle of a row has weight zero: the model gives its observed values no probability")


def keep_freed_memory() -> None:
    """Let glibc keep the memory of one run of particles for the next.

    It gives back to the system what is free at the end of the heap and more than twice the largest block that was ever
    freed, and getting that back, page by page, took a quarter of the time of an imputation.  One block of nearly 32 MB,
    the largest that counts, raises the mark; where the C library is another, nothing happens.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)


def _resampled(log_weights: Float[Tensor, "draws particles rows"]) -> Int[Tensor, "draws rows"]:
    """One particle for each draw of each row, with probability as its weight: the inverse of the distribution function.

    ``Categorical`` draws an exponential number for every particle instead, at four times the cost of the rest.
    """
    reached = log_weights.softmax(1).cumsum(1)
    total = reached[:, -1:]
    # Below the total even after rounding, so that what is chosen has a weight.
    at = torch.minimum(torch.rand_like(total) * total, total.nextafter(torch.zeros_like(total)))
    return (reached <= at).sum(1)


class _Untempered(poutine.messenger.Messenger):
    """Score the mask at full weight: β belongs to training, not to the posterior."""

    def _pyro_sample(self, msg: Any) -> None:
        if weight := mechanism_weight(msg):
            msg["scale"] = msg["scale"] / weight


def _is_mechanism(site: Any) -> bool:
    return site["type"] == "sample" and mechanism_weight(site) is not None


def _observes_more_than_x(trace: poutine.Trace) -> bool:
    observed = [site for site in stochastic_sites(trace).values() if site["is_observed"] and site["cond_indep_stack"]]
    return not all(holds_columns(site) for site in observed)
