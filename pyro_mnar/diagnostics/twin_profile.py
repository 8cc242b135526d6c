"""The bound profiled along imputed means, from where a search's starts ended: on, as long as it stays equal.

All ways are gone at once, a move of each at a time, since fits that are trained together cost far less than in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from pyro_mnar.diagnostics.spread import equal_bounds, imputed_means
from pyro_mnar.diagnostics.steering import Aimed, Steered, real_columns
from pyro_mnar.infer.session import Session
from pyro_mnar.tables.table import Table
from pyro_mnar.training.evidence import log_evidence, row_weights
from pyro_mnar.training.fitted import Fit
from pyro_mnar.training.plan import TrainingPlan
from pyro_mnar.training.restarts import Start, copied_pair

PARTICLES = 100  # of bounds and of imputed means
MOST_STEERED = 3  # columns, those with most gaps
# A profile goes wherever it may, so it gets less than starts that ran there by themselves: .002 nats per row, which at
# 1,000 rows are the two nats of a 95 % interval.
STEERED_SHARE = 0.4  # of the tolerance
VALLEY = 2.0  # tolerances by which a bound may fall on the way to somewhere else
FIRST_STEP = 0.3  # observed standard deviations by which an imputed mean is moved first, each time by as much more
MOST_MOVES = 5  # to each side: 4.5 standard deviations
LEAST_MOVED = 0.5  # standard deviations from where a fit is let go that was held


class Reached:
    """Fits by name, with their bounds on the rows and what they impute.

    Args:
        table: The rows.
        tolerance: Nats per row by which a bound may miss the best one and count as equal.
        seed: Of bounds and imputations.
    """

    def __init__(self, table: Table, tolerance: float, seed: int) -> None:
        self.table, self.tolerance, self.seed = table, tolerance, seed
        self.fits: dict[str, Fit] = {}
        self.steered: set[str] = set()
        self._log_p: list[NDArray[np.float64]] = []
        self._means: list[pd.Series] = []

    def add(self, name: str, one: Fit, *, steered: bool = False) -> None:
        """One more, and whether it is held where it is."""
        self.steered |= {name} if steered else set()
        self.fits[name] = one
        self._log_p.append(log_evidence(one, self.table, num_particles=PARTICLES, seed=self.seed).log_p)
        self._means.append(imputed_means(one, self.table, num_particles=PARTICLES, seed=self.seed))

    def bounds(self) -> pd.DataFrame:
        """As of :class:`~pyro_mnar.diagnostics.twins.TwinSearch`."""
        frame = equal_bounds(np.stack(self._log_p), self.tolerance, row_weights(self.table))
        frame = frame.set_axis(pd.Index(self.fits, name="start"))
        steered = frame.index.isin(list(self.steered))
        frame["equal"] &= ~steered | (frame["below_best"] <= STEERED_SHARE * self.tolerance)
        return frame

    def means(self) -> pd.DataFrame:
        """As of :class:`~pyro_mnar.diagnostics.twins.TwinSearch`."""
        return pd.DataFrame(self._means).set_axis(pd.Index(self.fits, name="start"))


@dataclass
class Way:
    """One column and one side, and how far along it the search has come.

    Attributes:
        column: Position of the column.
        sign: Towards less of it, -1, or more, 1.
        start: The fit that it began from.
        furthest: The last fit whose bound stayed.
        step: How far the next move goes, standardised.
        is_open: Whether there is a next move.
    """

    column: int
    sign: int
    start: str
    furthest: str
    step: float
    is_open: bool = True


Train = Callable[[TrainingPlan, Sequence[Start]], list[Fit]]


def go_on(reached: Reached, fit: Fit, short: TrainingPlan, plan: TrainingPlan, seed: int, train: Train) -> None:
    """Go from the equal fits that impute least and most of a column to fits that impute less or more, as long as bounds
    do not fall; then let go of the last ones, which may lie beyond a valley.

    Args:
        reached: What the starts reached; what is reached from there is added.
        fit: The fit that is searched from.
        short: How fits are trained that are held at a mean.
        plan: How those are trained that are let go.
        seed: Same seed, same search.
        train: Trains several fits.
    """
    table, names = reached.table, reached.table.schema.names
    ways = _ways(reached, fit, seed)
    short = replace(short, objective=Steered(short.objective.num_particles))
    for move in range(1, MOST_MOVES + 1):
        open_ways = [way for way in ways if way.is_open]
        if not open_ways:
            break
        fits = train(short, [_moved(reached.fits[way.furthest], way, table, seed) for way in open_ways])
        for way, one in zip(open_ways, fits, strict=True):
            aimed: Any = one.model
            reached.add(f"{_side(way, names)}, {move}", replace(one, model=aimed.model), steered=True)
        bounds = reached.bounds()["below_best"]
        for way in open_ways:
            name = f"{_side(way, names)}, {move}"
            if bounds.loc[name] > VALLEY * reached.tolerance:
                way.is_open = False
            else:
                way.furthest, way.step = name, way.step + FIRST_STEP * _unit(table, way.column)
    means = reached.means()
    far = [
        way
        for way in ways
        if abs(means.loc[way.furthest, names[way.column]] - means.loc[way.start, names[way.column]])
        > LEAST_MOVED * table.schema.columns[way.column].std_in_units
    ]
    starts = []
    for way in far:
        one = reached.fits[way.furthest]
        (model, guide), store = copied_pair(one.model, one.guide, table, one.store, seed)
        starts.append(Start(model, guide, seed, store, "let go"))
    for way, one in zip(far, train(plan, starts) if far else [], strict=True):
        reached.add(f"{_side(way, names)}, let go", one)


def _ways(reached: Reached, fit: Fit, seed: int) -> list[Way]:
    """To either side of the columns with most gaps that are filled with real numbers."""
    table = reached.table
    with Session(seed, fit.device, fit.store).running(), torch.no_grad():
        real = real_columns(fit.model, table.batch(fit.device))
    gaps = (~table.mask & table.mask_modelled).sum(0)
    columns = [d for d in gaps.argsort(descending=True, stable=True).tolist() if d in real and gaps[d] > 0]
    equal = reached.means()[reached.bounds()["equal"]]
    ways = []
    for d in columns[:MOST_STEERED]:
        for sign in (-1, 1):
            start = str((sign * equal[table.schema.names[d]]).idxmax())
            ways.append(Way(d, sign, start, start, FIRST_STEP * _unit(table, d)))
    return ways


def _moved(fit: Fit, way: Way, table: Table, seed: int) -> Start:
    """A copy of a fit that aims a step further."""
    (model, guide), store = copied_pair(fit.model, fit.guide, table, fit.store, seed)
    batch = table.batch(fit.device)
    aimed = Aimed(model, batch.x, batch.num_columns, way.column)
    with Session(seed, fit.device, store).running():
        here = Steered(50).mean(aimed, guide, batch)
    with torch.no_grad():
        aimed.target.fill_(here + way.sign * way.step)
    return Start(aimed, guide, seed, store, "held")


def _unit(table: Table, d: int) -> float:
    """An observed standard deviation of a column, standardised."""
    column = table.schema.columns[d]
    return column.std_in_units / column.std if column.kind.scale.is_linear else 1.0


def _side(way: Way, names: Sequence[object]) -> str:
    return f"{'less' if way.sign < 0 else 'more'} of {names[way.column]}"
