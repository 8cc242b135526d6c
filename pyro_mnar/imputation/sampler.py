"""Sampling-importance-resampling of missing entries: replay guide and model, weigh, resample.

Where all rows share latents (priors on parameters), each draw has one draw of these for all rows, and K particles given
it: completed tables then carry the parameters' uncertainty, and hang together from row to row.

No second copy of the posterior's mathematics: the particles and their weights are the objective's own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import reduce

import pyro.poutine as poutine
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from pyro_mnar.capture.row_noise import RowNoise, rows_at
from pyro_mnar.distributions.self_masked import SelfMaskedNormal
from pyro_mnar.imputation.applicability import Applicability
from pyro_mnar.imputation.averages import Averages, Given, Weighted
from pyro_mnar.imputation.limits import Limits, limits_on
from pyro_mnar.imputation.particle_sets import ParticleSet, Weighed, given_moments, missing_entries
from pyro_mnar.imputation.reach import Reach
from pyro_mnar.imputation.resampling import of_own_sets
from pyro_mnar.imputation.row_conditions import Conditions
from pyro_mnar.imputation.target import Target
from pyro_mnar.infer.coverage import check_drawn
from pyro_mnar.infer.level_dependence import rows_that_nothing_sees, sites_that_move_weights
from pyro_mnar.infer.objective import ImportanceWeightedELBO
from pyro_mnar.infer.session import Session, random_numbers_kept
from pyro_mnar.infer.shared import is_point, refuse_joint, rows_are_given, shared_part
from pyro_mnar.infer.sites import columns_of, is_summed_out, is_whole_row, missing_sites, sample_sites
from pyro_mnar.memory import keep_freed_memory
from pyro_mnar.tables.batch import Batch
from pyro_mnar.training.fitted import Fit
from pyro_mnar.training.row_kinds import check_row_kinds

MOST_TRIES = 50  # sets of particles for a draw, before its row's constraints are called unsatisfiable


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


class Sampler:
    """Draws and weighs particles of a chunk of rows, as many draws at a time as fit into memory.

    Args:
        fit: A trained model and guide.
        num_draws: Draws of each row.
        num_particles: K, particles for each draw.
        target: The law that the draws are to follow.
        session: Random numbers and parameter store to run in.
        conditions: Row constraints that every particle is to satisfy.
        applicability: Skip patterns that hang on missing values.
        with_gaps: Positions of columns that have gaps, beside those that had some in training: the model draws each.
        row_keys: A word for each row of the table, from which and the seed its random numbers come; ``(rows,)``.
        seed: Of these.
        limits: How much is in memory at once; by default what suits the device.
        reach: How far outside of what was seen particles count.
        is_free: Whether draws of a row may have particles in common instead, as many as it takes
            (:mod:`pyro_mnar.imputation.common_particles`).
        alike: The sampler of another fit of the same pair, which may have found out what does not depend on parameters.
    """

    def __init__(
        self,
        fit: Fit,
        num_draws: int,
        num_particles: int,
        target: Target,
        session: Session,
        *,
        conditions: Conditions | None = None,
        applicability: Applicability | None = None,
        with_gaps: Iterable[int] = (),
        row_keys: Int[NDArray, " rows"] | None = None,
        seed: int = 0,
        limits: Limits | None = None,
        reach: Reach | None = None,
        is_free: bool = False,
        alike: Sampler | None = None,
    ) -> None:
        self.fit, self.model, self.target, self.session = fit, target.model(fit.model), target, session
        self.num_draws, self.num_particles = num_draws, num_particles
        self.conditions, self.applicability, self.is_free = conditions, applicability, is_free
        self.reach = reach
        self.limits = limits or limits_on(session.device)
        self.row_keys, self.seed, self.alike = row_keys, seed, alike
        self.averages = Averages(fit.schema)
        incomplete = {at for at, column in enumerate(fit.schema.columns) if column.incomplete}
        self.with_gaps = sorted(incomplete.union(with_gaps))
        self.max_plate_nesting = float("inf")
        self.drawn: frozenset[str] = frozenset()  # sites of whose values draws are needed
        self.unseen_rows: frozenset[str] = frozenset()  # sites of whole rows that nothing else sees
        self.late: frozenset[str] = frozenset()  # sites that are drawn of the particles alone that are resampled
        self.shared: list[poutine.Trace] = []  # what all rows share, one trace for each draw; empty if they share none

    @property
    def has_posterior(self) -> bool:
        """Whether draws differ in what all rows share, as a posterior's do and a point's do not."""
        return any(not is_point(site["fn"]) for trace in self.shared[:1] for site in sample_sites(trace).values())

    def impute(self, batch: Batch) -> Chunk:
        """Resample every draw from its own particles; average over all of them."""
        keep_freed_memory()
        draws, parts = [], []
        for some in self.particle_sets(batch, len(batch) * self.averages.num_features):
            parts.append(Weighted.of(some.log_weights, self.averages.features(some.x, some.given)))
            draws.append(some.draws)
        of_all = reduce(Weighted.joined, parts)
        return Chunk(torch.cat(draws), of_all.mean, of_all.effective_sample_size())

    def particle_sets(self, batch: Batch, elements: int) -> Iterator[ParticleSet]:
        """All draws of some rows, as many at a time as fit into memory.

        Args:
            batch: The rows.
            elements: Numbers that are kept of a particle.

        Raises:
            ValueError: If a weight is not a number, or all of a row's are zero.
        """
        at_once = max(1, self.limits.elements // (self.num_particles * elements))
        if self.row_keys is not None:
            at_once = 1  # how many fit into memory depends on the rows, and a row's numbers must not
        for start in range(0, self.num_draws, at_once):
            with self.session.running():
                some = self.draw(batch, min(at_once, self.num_draws - start), start)
            refuse_unusable(some.log_weights, some.possible())
            yield some

    def draw(self, batch: Batch, num_draws: int, first: int = 0) -> ParticleSet:
        """Some draws of some rows; within a running session.  Reads no values unless there are row constraints.

        Args:
            batch: The rows.
            num_draws: How many draws.
            first: Number of the first of them.
        """
        numbers = range(first, first + num_draws)
        self.settle(batch)
        noise = self.noise(batch, self.num_particles, first)
        with noise:
            log_weights, x, given, late = self._weighed(batch, numbers)
        if self.conditions is not None or self.applicability is not None:
            self._redraw(batch, numbers, log_weights, x)
        if self.shared:
            # A posterior draw of θ counts as much as another, whatever θ says of this row: the row is known to it.
            of_draws = log_weights.unflatten(0, (num_draws, self.num_particles))
            total = of_draws.logsumexp(1, keepdim=True)
            log_weights = (of_draws - torch.where(total == -torch.inf, 0.0, total)).flatten(0, 1)
        of_draws = log_weights.unflatten(0, (num_draws, self.num_particles))
        with noise, rows_at(noise, 2):
            chosen = of_own_sets(of_draws)
        first_particles = torch.arange(num_draws, device=x.device)[:, None] * self.num_particles
        chosen = first_particles + chosen
        draws = self.resampled(Weighed(log_weights, x, given, late), chosen, noise)
        return ParticleSet(log_weights, x, given, draws)

    def settle(self, batch: Batch) -> None:
        """Find out once what does not depend on the rows, draw what all rows share, and refuse a model that cannot be
        imputed from.
        """
        if self.max_plate_nesting < float("inf"):
            return
        rows, alike = self.target.rows(batch), self.alike
        if alike is None or alike.max_plate_nesting == float("inf"):
            has_shared = self._look_at(rows, batch)
        else:
            has_shared = bool(alike.shared)
            self.drawn, self.unseen_rows, self.late = alike.drawn, alike.unseen_rows, alike.late
            self.max_plate_nesting = alike.max_plate_nesting
        if has_shared:
            with torch.no_grad():
                traces = (poutine.trace(self.fit.guide).get_trace(rows) for _ in range(self.num_draws))
                self.shared = [shared_part(trace) for trace in traces]
            self.late = frozenset()

    def _look_at(self, rows: Batch, batch: Batch) -> bool:
        """Run the pair once, and refuse what cannot be imputed from; whether all rows share latents.

        Args:
            rows: As model and guide see them.
            batch: As they are.
        """
        refuse_joint(self.fit.guide)
        objective = ImportanceWeightedELBO(1)
        with random_numbers_kept(), torch.no_grad():
            check_drawn(poutine.trace(self.fit.model).get_trace(rows), rows, self.with_gaps)
            run = objective.particles(self.model, self.fit.guide, rows)
            objective.check_rows(self.fit.model, self.fit.guide, rows)
            self.target.check(self.fit.model, batch)
            check_row_kinds(run.model_trace, self.fit.schema)
            # Where another site sees a missing value, or the guide proposes it, the weight belongs to the draw.
            moving = sites_that_move_weights(self.model, self.fit.guide, (rows,), {})
            self.drawn = moving | frozenset(run.guide_trace.nodes)
            self.late = self._late_sites(run.model_trace)
            if any(is_whole_row(site) for site in missing_sites(run.model_trace).values()):
                self.unseen_rows = rows_that_nothing_sees(self.model, self.fit.guide, (rows,), {}) - self.drawn
        self.max_plate_nesting = objective.max_plate_nesting
        return len(shared_part(run.guide_trace)) > 0

    def noise(self, batch: Batch, num_particles: int, *seed: int) -> RowNoise | contextlib.nullcontext[None]:
        """Where random numbers come from: of each row by itself if it has a key, else those of the session.

        Args:
            batch: The rows.
            num_particles: Of each row.
            *seed: Of these numbers, beside the sampler's.
        """
        if self.row_keys is None:
            return contextlib.nullcontext()
        keys = self.row_keys[batch.index.cpu().numpy()]
        return RowNoise(keys, (self.seed, *seed), int(self.max_plate_nesting), num_particles)

    def resampled(
        self, weighed: Weighed, chosen: Int[Tensor, "draws rows"], noise: RowNoise | contextlib.nullcontext[None]
    ) -> Float[Tensor, "draws rows columns"]:
        """Missing entries of the particles that are chosen of each row; late sites are drawn now.

        Args:
            weighed: All particles.
            chosen: Which of them.
            noise: As :meth:`noise` gives it.
        """
        x = weighed.x
        draws = x[chosen, torch.arange(x.shape[1], device=x.device)]
        if weighed.late:
            with noise, rows_at(noise, 1):
                for columns, law in weighed.late:
                    draws[..., columns] = law.taken(chosen).sample().to(draws.dtype)
        return draws

    def _late_sites(self, trace: poutine.Trace) -> frozenset[str]:
        """Sites of which neither weights nor averages need draws: normal values that are summed out."""
        if self.conditions is not None or self.applicability is not None:
            return frozenset()
        return frozenset(
            name
            for name, site in missing_sites(trace).items()
            if name not in self.drawn
            and is_summed_out(site)
            and isinstance(site["fn"].base_dist.fn, SelfMaskedNormal)
            and not set(self.averages.nonlinear).intersection(columns_of(site))
        )

    def _weighed(self, batch: Batch, numbers: range) -> Weighed:
        """Particles of some draws, one draw after the other."""
        self.settle(batch)
        if not self.shared:
            return self.particles(batch, len(numbers) * self.num_particles, self.fit.guide)
        guides = (poutine.replay(self.fit.guide, trace=self.shared[number]) for number in numbers)
        parts = (self.particles(batch, self.num_particles, guide) for guide in guides)
        log_weights, x, given, _ = zip(*parts, strict=True)
        return Weighed(torch.cat(log_weights), torch.cat(x), Given.joined(given))

    def particles(self, batch: Batch, count: int, guide: Callable) -> Weighed:
        """Draw and weigh particles of each row; within a running session.

        Args:
            batch: The rows.
            count: How many of each.
            guide: What proposes them.
        """
        objective = ImportanceWeightedELBO(count, max_plate_nesting=self.max_plate_nesting)
        rows = self.target.rows(batch)
        run = objective.particles(self.model, guide, rows, undrawn=self.late)
        if self.shared and rows_are_given(run.model_trace, run.guide_trace):
            only = torch.zeros_like(run.log_weights)
            only[1:] = -torch.inf  # copies of one particle count as one
            run = run._replace(log_weights=only)
        x = missing_entries(missing_sites(run.model_trace), (count, len(batch)), batch)
        if self.conditions is not None:
            # It writes to what it is given, which may be the trace's own.
            log_weights, x = self.conditions.impose(objective, run, self.model, rows, x.clone())
            run = run._replace(log_weights=log_weights)
        if self.applicability is not None:
            log_weights, x = self.applicability.impose(objective, run, self.model, rows, x)
            run = run._replace(log_weights=log_weights)
        if self.conditions is not None or self.applicability is not None:
            return Weighed(run.log_weights, x)
        unseen_rows = self.unseen_rows
        if self.reach is not None:
            x, penalty = self.reach.hold(x, batch)
            run = run._replace(log_weights=run.log_weights - penalty)
            unseen_rows = frozenset()  # their other columns know of what is held
        summed = {
            name: site
            for name, site in missing_sites(run.model_trace).items()
            if name in unseen_rows or (is_summed_out(site) and name not in self.drawn)
        }
        late = tuple((columns_of(site), site["fn"].base_dist.fn) for n, site in summed.items() if n in self.late)
        return Weighed(run.log_weights, x, given_moments(summed, x), late)

    def _redraw(self, batch: Batch, numbers: range, log_weights: Tensor, x: Tensor) -> None:
        """Draw particles anew, in place, for draws of rows none of whose particles satisfies the conditions."""
        for tried in range(MOST_TRIES):
            dead = ~torch.isfinite(log_weights.unflatten(0, (-1, self.num_particles))).any(1)  # (draws, rows)
            if log_weights.isnan().any() or not dead.any():
                return
            rows = dead.any(0).nonzero().squeeze(-1)
            again_rows = batch.take(rows)
            with self.noise(again_rows, self.num_particles, numbers.start, 1 + tried):
                fresh_weights, fresh_x, *_ = self._weighed(again_rows, numbers)
            again = dead[:, rows].repeat_interleave(self.num_particles, 0)
            log_weights[:, rows] = torch.where(again, fresh_weights, log_weights[:, rows])
            x[:, rows] = torch.where(again.unsqueeze(-1), fresh_x, x[:, rows])
        dead = ~torch.isfinite(log_weights.unflatten(0, (-1, self.num_particles))).any(1)
        if dead.any():
            law = self.conditions if self.conditions is not None else self.applicability
            if law is not None:
                law.refuse(batch.index[dead.any(0)].cpu().numpy(), MOST_TRIES * self.num_particles)


def refuse_unusable(log_weights: Float[Tensor, "*any"], possible: Bool[Tensor, "draws rows"]) -> None:
    """Say why nothing can be resampled: from weights, or sums of them, and whether a draw has any."""
    if log_weights.isnan().any():
        raise ValueError(
            "a particle's weight is not a number: the model or the guide has parameters that are not finite"
        )
    if not possible.all():
        raise ValueError("every particle of a row has weight zero: the model gives its observed values no probability")
