"""The search for twins: parameters that explain what is observed as well and impute something else.

Proposition 1 does not rule them out.  For the ANOVA example (Appendix C),

    N(z; μ, ζ²) · σ(λ_0 + λ_1 z) = c · N(z; μ + λ_1 ζ², ζ²) · σ(−λ_0 − λ_1 z),   log c = λ_0 + λ_1 μ + λ_1² ζ² / 2,

so where c = 1 two parameters give one law of (X_o, R), although A1 to A3 hold.  No finite search proves that there is
none; one that is found proves that the data do not decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from pyro_mnar.diagnostics.other_sides import SIDES, Completed, distances
from pyro_mnar.diagnostics.spread import spread_of
from pyro_mnar.diagnostics.twin_profile import MOST_MOVES, Reached, go_on
from pyro_mnar.infer.objective import ImportanceWeightedELBO
from pyro_mnar.messages import check_boolean, number_from_zero, positive_number, seed_of, whole_number
from pyro_mnar.tables.table import Table
from pyro_mnar.training.fitted import Fit, check_fit
from pyro_mnar.training.plan import TrainingPlan
from pyro_mnar.training.progress import progress_of
from pyro_mnar.training.restarts import Start, copied_pair, member_seed, redraw
from pyro_mnar.training.schedule import steps_per_epoch

STEPS = 600  # of each refit, where no epochs are given
SHORT_STEPS = 250  # of each refit on completed rows, or from the last one along a column's imputed mean

MOST_PARTICLES, PARTICLES = 20, 10  # of refits: as the fit had, up to so many; and where nobody noted how many


@dataclass(frozen=True)
class TwinSearch:
    """What refits from other starts reached.

    Attributes:
        bounds: As of :class:`~pyro_mnar.diagnostics.spread.RestartSpread`, one row a start.
        means: Imputed means by start and column, in the user's units.
        spread: Their range over the starts with an equal bound, per column.
        found: Whether two starts with an equal bound impute means that lie ``least_difference`` apart.
        is_best: Whether the fit itself is among those with an equal bound; if not, it had not converged.
    """

    bounds: pd.DataFrame
    means: pd.DataFrame
    spread: pd.DataFrame
    found: bool
    is_best: bool


def search_twins(
    fit: Fit,
    table: Table | pd.DataFrame,
    *,
    fresh: int = 1,
    profile: bool = True,
    epochs: int | None = None,
    batch_size: int = 128,
    num_particles: int | None = None,
    learning_rate: float = 2e-2,
    tolerance: float = 0.005,
    least_difference: float = 0.25,
    seed: int = 0,
    progress: bool = False,
) -> TwinSearch:
    """Refit from starts on the other side, and compare bounds and imputed means.

    The starts: the fit trained on; ``reversed``, where what was imputed above its prediction from the rest of the row
    is now below and the other way round, which reverses slopes and shifts means in any model; ``shifted``, where it
    lies twice as far out; and ``fresh`` redrawn parameters.  The second and third are reached by training on the
    completed rows first (:mod:`pyro_mnar.diagnostics.other_sides`).  From the equal ones that lie furthest out, the
    bound is then profiled along the imputed mean (:mod:`pyro_mnar.diagnostics.twin_profile`), of up to three columns,
    for as long as it stays equal.

    Args:
        fit: A trained model and guide; neither is changed.
        table: The rows it was trained on.
        fresh: Number of redrawn starts.
        profile: Whether to profile the bound along imputed means, from where the starts have ended.
        epochs: Of each refit; by default enough for 600 steps.
        batch_size: Rows of a minibatch.
        num_particles: K of the refits, by default the fit's, at most 20; all bounds are taken with 100.
        learning_rate: Adam's, at the start.
        tolerance: Nats per row by which a bound may miss the best one and count as equal, as for
            :func:`~pyro_mnar.diagnostics.spread`.
        least_difference: Observed standard deviations by which imputed means must differ to be other ones.
        seed: Same seed, same search.
        progress: Show a bar, of rounds of refits.

    Raises:
        ValueError: If the table has no cell to impute, or the model is a function whose parameters cannot be copied.
        KeyboardInterrupt: After Ctrl-C.
    """
    check_fit(fit)
    table = fit.encoded(table)
    fresh, seed = whole_number("fresh", fresh, 0), seed_of(seed)
    batch_size, learning_rate = whole_number("batch_size", batch_size), positive_number("learning_rate", learning_rate)
    batch_size = min(batch_size, len(table))
    for name, value in (("tolerance", tolerance), ("least_difference", least_difference)):
        number_from_zero(name, value)
    for name, value in (("profile", profile), ("progress", progress)):
        check_boolean(name, value)
    per_epoch = steps_per_epoch(len(table), batch_size)
    epochs = whole_number("epochs", epochs) if epochs is not None else max(10, -(-STEPS // per_epoch))
    if num_particles is None:
        num_particles = min(MOST_PARTICLES, fit.particle_gain.num_particles) if fit.particle_gain else PARTICLES
    plan = TrainingPlan(
        ImportanceWeightedELBO(num_particles),
        table,
        None,
        epochs,
        batch_size,
        learning_rate,
        fit.device,
        progress=False,
    )
    short = replace(plan, epochs=min(epochs, max(10, -(-SHORT_STEPS // per_epoch))), keeps_best=False)
    rounds = _Rounds(2 + (MOST_MOVES + 1 if profile else 0), shown=progress)
    try:
        with plan.enough_threads():
            reached = Reached(table, tolerance, seed)
            reached.add("the fit", fit)
            for name, one in _from_starts(fit, plan, short, fresh, seed, rounds).items():
                reached.add(name, one)
            if profile:
                go_on(reached, fit, short, plan, seed, rounds.train)
        rounds.end()
    finally:
        rounds.close()
    bounds, means = reached.bounds(), reached.means()
    spread = spread_of(means, bounds["equal"], table)
    found = bool((spread["range_in_sd"] > least_difference).any())
    return TwinSearch(bounds, means, spread, found, bool(bounds["equal"].iloc[0]))


def _from_starts(
    fit: Fit, plan: TrainingPlan, short: TrainingPlan, fresh: int, seed: int, rounds: _Rounds
) -> dict[str, Fit]:
    """Refits by the name of their start."""
    table = plan.table
    expected, distance = distances(fit, table, seed)
    sides = []
    for side in SIDES.values():
        (model, guide), store = copied_pair(fit.model, fit.guide, table, fit.store, seed)
        sides.append(Start(Completed(model, table, expected, distance, side), guide, seed, store, "rows completed"))
    placed = rounds.train(short, sides)
    (model, guide), store = copied_pair(fit.model, fit.guide, table, fit.store, seed)
    starts = {"as fitted": Start(model, guide, seed, store, "refit")}
    for name, one in zip(SIDES, placed, strict=True):
        completed: Any = one.model
        starts[name] = Start(completed.model, one.guide, seed, one.store, "refit")
    for member in range(1, fresh + 1):
        own = member_seed(seed, member)
        pair, store = copied_pair(fit.model, fit.guide, table, fit.store, own)
        redraw(pair, store, own)
        starts[f"fresh {member}"] = Start(*pair, own, store, "refit")
    return dict(zip(starts, rounds.train(plan, list(starts.values())), strict=True))


class _Rounds:
    """Trains refits together, under one bar for the whole search."""

    def __init__(self, most: int, *, shown: bool) -> None:
        self.bar = progress_of(most, "search for twins", shown=shown, unit="round")
        self.left, self.refits = most, 0

    def train(self, plan: TrainingPlan, starts: Sequence[Start]) -> list[Fit]:
        """The fits of some starts; after Ctrl-C, none."""
        done = plan.run_all(starts)
        if len(done) < len(starts) or any(trained.interrupted for trained in done):
            raise KeyboardInterrupt
        self.refits, self.left = self.refits + len(starts), self.left - 1
        self.bar.set_postfix_str(f"{self.refits} refits")
        self.bar.update()
        return [trained.fit for trained in done]

    def end(self) -> None:
        """Rounds that were not needed are done."""
        self.bar.update(self.left)

    def close(self) -> None:
        """No more rounds come."""
        self.bar.close()
