"""The search for twins: parameters that explain what is observed as well and impute something else.

Proposition 1 does not rule them out.  For the ANOVA example (Appendix C),

    N(z; μ, ζ²) · σ(λ_0 + λ_1 z) = c · N(z; μ + λ_1 ζ², ζ²) · σ(−λ_0 − λ_1 z),   log c = λ_0 + λ_1 μ + λ_1² ζ² / 2,

so where c = 1 two parameters give one law of (X_o, R), although A1 to A3 hold.  No finite search proves that there is
none; one that is found proves that the data do not decide.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pyro.poutine as poutine
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from pyro.distributions import constraints
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from pyro_mnar.diagnostics.spread import equal_bounds, imputed_means, spread_of
from pyro_mnar.diagnostics.steering import Steered, real_columns
from pyro_mnar.imputation import impute
from pyro_mnar.infer.objective import ImportanceWeightedELBO
from pyro_mnar.infer.session import Session
from pyro_mnar.infer.sites import columns_of, missing_sites
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.table import Table
from pyro_mnar.training.evidence import log_evidence, row_weights
from pyro_mnar.training.fitted import Fit
from pyro_mnar.training.plan import TrainingPlan
from pyro_mnar.training.restarts import Start, copied_pair, member_seed, redraw

STEPS = 2000  # of each refit, where no epochs are given
STEERED_STEPS = 400  # of each refit from the last one along a column's imputed mean
MOST_STEERED = 3  # columns, those with most gaps
# A profile goes wherever it may, so it gets less than starts that ran there by themselves: .002 nats per row, which at
# 1,000 rows are the two nats of a 95 % interval.
STEERED_SHARE = 0.4  # of the tolerance
VALLEY = 2.0  # tolerances by which a bound may fall on the way to somewhere else
FIRST_STEP = 0.3  # observed standard deviations by which an imputed mean is moved first, each time by as much more
MOST_MOVES = 5  # to each side: 4.5 standard deviations
LEAST_MOVED = 0.5  # standard deviations from where a fit is let go that was held
RIDGE = 1e-2  # per row, in standardised units


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
    num_particles: int = 20,
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
    completed rows first.  From the equal ones that lie furthest out, the bound is then profiled along the imputed mean
    (:mod:`pyro_mnar.diagnostics.steering`), of up to three columns, for as long as it stays equal.

    Args:
        fit: A trained model and guide; neither is changed.
        table: The rows it was trained on.
        fresh: Number of redrawn starts.
        profile: Whether to profile the bound along imputed means, from where the starts have ended.
        epochs: Of each refit; by default enough for 2,000 steps.
        batch_size: Rows of a minibatch.
        num_particles: K of the refits.
        learning_rate: Adam's, at the start.
        tolerance: Nats per row by which a bound may miss the best one and count as equal, as for
            :func:`~pyro_mnar.diagnostics.spread`.
        least_difference: Observed standard deviations by which imputed means must differ to be other ones.
        seed: Same seed, same search.
        progress: Show a bar.

    Raises:
        ValueError: If the table has no cell to impute, or the model is a function whose parameters cannot be copied.
    """
    table = fit.encoded(table)
    batch = table.batch()
    epochs = epochs or max(10, -(-STEPS * batch_size // len(table)))
    plan = TrainingPlan(
        ImportanceWeightedELBO(num_particles),
        table,
        None,
        epochs,
        batch_size,
        learning_rate,
        fit.device,
        progress=progress,
    )
    drawn = impute(fit, table, num_draws=1, num_particles=100, seed=seed)
    completed = batch.x.clone()
    for position, column in enumerate(table.schema.columns):
        here = drawn.cells[1] == position
        completed[drawn.cells[0][here], position] = _or_mean(batch.x.new_tensor(column.encode(drawn.draws[0, here])))
    expected = predicted(batch)
    sides = {"reversed": 2 * expected - completed, "shifted": 2 * completed - expected}

    starts = {"as fitted": _refit(fit, plan, None, seed)}
    for name, values in sides.items():
        starts[name] = _refit(fit, plan, values, seed)
    for member in range(1, fresh + 1):
        starts[f"fresh {member}"] = _refit(fit, plan, None, member_seed(seed, member), fresh=True)

    reached = _Reached({"the fit": fit, **starts}, table, tolerance, seed)
    if profile:
        steps = max(10, -(-STEERED_STEPS * batch_size // len(table)))
        short = replace(plan, epochs=min(epochs, steps), keeps_best=False)
        for column, sign in _ways(fit, table, seed):
            _go_on(reached, column, sign, short, plan, seed)
    bounds, means = reached.bounds(), reached.means()
    spread = spread_of(means, bounds["equal"], table)
    found = bool((spread["range_in_sd"] > least_difference).any())
    return TwinSearch(bounds, means, spread, found, bool(bounds["equal"].iloc[0]))


class _Reached:
    """Fits by name, with their bounds on the rows and what they impute."""

    def __init__(self, fits: dict[str, Fit], table: Table, tolerance: float, seed: int) -> None:
        self.table, self.tolerance, self.seed = table, tolerance, seed
        self.fits: dict[str, Fit] = {}
        self.steered: set[str] = set()
        self._log_p: list[NDArray[np.float64]] = []
        self._means: list[pd.Series] = []
        for name, one in fits.items():
            self.add(name, one)

    def add(self, name: str, one: Fit, *, steered: bool = False) -> None:
        """One more, and whether it is held where it is."""
        self.steered |= {name} if steered else set()
        self.fits[name] = one
        self._log_p.append(log_evidence(one, self.table, num_particles=200, seed=self.seed).log_p)
        self._means.append(imputed_means(one, self.table, seed=self.seed))

    def bounds(self) -> pd.DataFrame:
        """As of :class:`TwinSearch`."""
        frame = equal_bounds(np.stack(self._log_p), self.tolerance, row_weights(self.table))
        frame = frame.set_axis(pd.Index(self.fits, name="start"))
        steered = frame.index.isin(list(self.steered))
        frame["equal"] &= ~steered | (frame["below_best"] <= STEERED_SHARE * self.tolerance)
        return frame

    def means(self) -> pd.DataFrame:
        """As of :class:`TwinSearch`."""
        return pd.DataFrame(self._means).set_axis(pd.Index(self.fits, name="start"))


def _ways(fit: Fit, table: Table, seed: int) -> Iterator[tuple[int, int]]:
    """Columns along whose imputed mean to profile the bound, those with most gaps, and to which side."""
    with Session(seed, fit.device, fit.store).running(), torch.no_grad():
        real = real_columns(fit.model, table.batch(fit.device))
    gaps = (~table.mask & table.mask_modelled).sum(0)
    columns = [d for d in gaps.argsort(descending=True, stable=True).tolist() if d in real and gaps[d] > 0]
    yield from ((d, sign) for d in columns[:MOST_STEERED] for sign in (-1, 1))


def _go_on(reached: _Reached, d: int, sign: int, short: TrainingPlan, plan: TrainingPlan, seed: int) -> None:
    """From the equal fit that imputes least or most of a column to fits that impute less or more, as long as bounds do
    not fall; then let go of the last one, which may lie beyond a valley.
    """
    table = reached.table
    column = table.schema.columns[d]
    unit = column.std_in_units / column.std if column.kind.scale.is_linear else 1.0
    side = f"{'less' if sign < 0 else 'more'} of {column.name}"
    furthest = start = str((sign * reached.means()[column.name][reached.bounds()["equal"]]).idxmax())
    step = FIRST_STEP * unit
    for move in range(1, MOST_MOVES + 1):
        one, name = reached.fits[furthest], f"{side}, {move}"
        with Session(seed, one.device, one.store).running():
            here = Steered(50, d, 0.0).mean(one.model, one.guide, table.batch(one.device))
        steered = Steered(plan.objective.num_particles, d, here + sign * step)
        reached.add(name, _refit(one, replace(short, objective=steered), None, seed), steered=True)
        if reached.bounds()["below_best"].loc[name] > VALLEY * reached.tolerance:
            break
        furthest, step = name, step + FIRST_STEP * unit
    means = reached.means()[column.name]
    if abs(means[furthest] - means[start]) > LEAST_MOVED * column.std_in_units:
        reached.add(f"{side}, let go", _refit(reached.fits[furthest], plan, None, seed))


def predicted(batch: Batch) -> Float[Tensor, "rows columns"]:
    """Each cell from the rest of its row and u, by ridge regression where the column is observed; standardised
    units.
    """
    others = torch.cat([batch.x, batch.aux, batch.mask.to(batch.x.dtype), torch.ones_like(batch.x[:, :1])], dim=-1)
    result = torch.empty_like(batch.x)
    columns = batch.num_columns
    for d in range(columns):
        inputs = others.clone()
        inputs[:, [d, columns + batch.aux.shape[-1] + d]] = 0.0
        seen = inputs[batch.mask[:, d]]
        gram = seen.T @ seen + RIDGE * len(seen) * torch.eye(inputs.shape[-1], dtype=seen.dtype, device=seen.device)
        result[:, d] = inputs @ torch.linalg.solve(gram, seen.T @ batch.x[batch.mask[:, d], d])
    return result


def _refit(fit: Fit, plan: TrainingPlan, completion: Tensor | None, seed: int, *, fresh: bool = False) -> Fit:
    (model, guide), store = copied_pair(fit.model, fit.guide, plan.table, fit.store, seed)
    if fresh:
        redraw((model, guide), store, seed)
    if completion is not None:
        completed = _Completed(model, completion, plan.table)
        store = plan.run(Start(completed, guide, seed, store, "rows completed")).fit.store
    return plan.run(Start(model, guide, seed, store, "refit")).fit


class _Completed(nn.Module):
    """A model conditioned on values for its gaps; the mask stays what it was."""

    def __init__(self, model: Any, completion: Float[Tensor, "rows columns"], table: Table) -> None:
        super().__init__()
        self.model = model
        batch = table.batch()
        with Session(0).running(), torch.no_grad():
            trace = poutine.trace(model).get_trace(batch)
        self.values: dict[str, Tensor] = {}
        for name, site in missing_sites(trace).items():
            columns = columns_of(site)
            self.values[name] = _filled(site, completion[:, columns], batch.mask[:, columns])

    def forward(self, batch: Batch) -> Any:
        with _Conditioned({name: values.to(batch.x.device)[batch.index] for name, values in self.values.items()}):
            return self.model(batch)


def _or_mean(values: Float[Tensor, " cells"]) -> Float[Tensor, " cells"]:
    """Standardised values, the column's mean where a draw says that there is none."""
    return values.nan_to_num(nan=0.0)


class _Conditioned(Messenger):
    """Conditions as ``poutine.condition`` does, with values repeated over particles, whose shape models rely on."""

    def __init__(self, values: dict[str, Tensor]) -> None:
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.values:
            value = self.values[msg["name"]]
            msg["value"] = value.expand(torch.broadcast_shapes(value.shape, msg["fn"].shape()))
            msg["is_observed"] = True


def _filled(site: Any, completion: Float[Tensor, "rows columns"], mask: Bool[Tensor, "rows columns"]) -> Tensor:
    """The completion in the gaps, where every number is possible; the model's own draw elsewhere."""
    support = site["fn"].support
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    value = site["value"].detach()
    return torch.where(mask, value, completion) if support is constraints.real else value
