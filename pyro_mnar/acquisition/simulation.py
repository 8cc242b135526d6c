"""Questions asked one by one and answered from complete rows: how fast does the target's error fall?

The evaluation of active acquisition in EDDI (Ma et al. 2019, section 4) and in the paper's section 6.3.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from pyro_mnar.acquisition.reward import Predictive, highest, information_reward, target_columns
from pyro_mnar.figures import axes_or_new
from pyro_mnar.messages import check_one_of, whole_number
from pyro_mnar.tables.table import Table
from pyro_mnar.training.fitted import Fit, check_fit


@dataclass(frozen=True)
class InformationCurve:
    """What a policy asked, and what the answers were worth.

    Attributes:
        frame: One row a step: ``policy``, ``step`` (questions asked of a row, from 0), ``error`` (RMSE of the target's
            predictive means, in the training columns' standard deviations; of words the most probable one counts),
            ``answered`` (answers so far, a row's mean: rows can run out of questions).
        questions: The columns asked, in order, None where a row had none left; rows × steps, counted from 1.
    """

    frame: pd.DataFrame
    questions: pd.DataFrame

    @property
    def area(self) -> float:
        """Area under the curve by the trapezoid rule, over the number of steps; a mean error in standard deviations,
        low is good.
        """
        error = self.frame["error"].to_numpy()
        return float((error[1:] + error[:-1]).mean() / 2)

    def plot(self, ax: Any = None, **options: Any) -> Any:
        """Draw the curve with matplotlib on ``ax``, or on a figure of its own; returns the Axes.

        Curves of several policies go onto one ``ax``.
        """
        ax = axes_or_new(ax)
        options = {"label": self.frame["policy"].iloc[0], "marker": ".", **options}
        ax.plot(self.frame["step"], self.frame["error"], **options)
        ax.set(xlabel="questions asked", ylabel="error of the target, in standard deviations")
        ax.legend()
        return ax


def simulate_acquisition(
    fit: Fit,
    table: Table | pd.DataFrame,
    policy: str = "information",
    steps: int | None = None,
    target: Hashable | Collection[Hashable] | None = None,
    *,
    num_particles: int = 50,
    num_samples: int = 50,
    seed: int = 0,
    device: torch.device | str | None = None,
) -> InformationCurve:
    """Hide the answers of some rows, ask for them one by one, and follow the error of the target.

    Every row starts with nothing but U.  A step asks one question of each row, which the row's own value answers; cells
    that are gaps in ``table`` cannot be answered and are not asked.  The guide meets rows with few values here: train
    it on such rows (see ``docs/acquisition.md``).

    Args:
        fit: A trained model and guide, as for :func:`~pyro_mnar.information_reward`.
        table: Rows with their answers, best not the training rows; a frame is encoded with the training rows' units.
        policy: ``"information"`` asks for the highest information reward, ``"variance"`` for the answer of which
            p(x_i|x_o) is widest (in standard deviations of the column), ``"random"`` for any.
        steps: Questions to ask of each row; by default all.
        target: Column or columns to learn about, which are not asked; None: all that can be asked.  Their errors are
            averaged over cells, and an answered cell's error is zero.
        num_particles: K, particles from which each sample is resampled.
        num_samples: Samples for rewards and variances; predictive means use ``num_samples * num_particles`` particles.
        seed: Same seed, same curve.
        device: Where to compute; by default where the parameters are.

    Returns:
        The curve, of ``steps + 1`` points, and the questions.

    Raises:
        ValueError: If the policy is unknown, a number is out of range, no target has a value to compare with or there
            is nothing to ask; otherwise as for :func:`~pyro_mnar.information_reward`.
        TypeError: If ``table`` is neither a Table nor a DataFrame.
    """
    check_fit(fit)
    check_one_of("policy", policy, sorted(_POLICIES))
    table = fit.encoded(table)
    in_target = target_columns(table.schema, target)
    in_u = np.array([column.is_auxiliary for column in table.schema.columns])
    values = table.mask.numpy() & ~in_u
    open_ = values & ~in_target
    scored = open_.copy() if target is None else values & in_target
    if not open_.any():
        raise ValueError("expected rows with a value to ask for, got none beside U and the target")
    if not scored.any():
        raise ValueError(f"target {target!r}: expected a value to compare with in some row, got none")
    most = int(open_.sum(1).max())
    steps = most if steps is None else whole_number("steps", steps)
    if not 1 <= steps <= most:
        raise ValueError(f"steps: expected from 1 to {most}, the most that can be asked of a row, got {steps}")

    simulation = _Simulation(fit, target, num_particles, num_samples, seed, device)
    num_askable = open_.sum()
    points, questions = [], np.full((len(table), steps), None, dtype=object)
    for step in range(steps + 1):
        simulation.step = step
        now = _hidden(table, values & (open_ | in_target))
        points.append((policy, step, simulation.error(table, now, scored), (num_askable - open_.sum()) / len(table)))
        if step < steps:
            scores = _POLICIES[policy](simulation, now)
            chosen = highest(np.where(open_, scores, np.nan))
            asked = np.flatnonzero(chosen >= 0)
            questions[asked, step] = [table.schema.names[at] for at in chosen[asked]]
            open_[asked, chosen[asked]] = False
    frame = pd.DataFrame(points, columns=["policy", "step", "error", "answered"])
    asked_in_order = pd.DataFrame(questions, index=table.row_labels, columns=range(1, steps + 1), dtype=object)
    return InformationCurve(frame, asked_in_order)


class _Outlook(NamedTuple):
    """Moments of p(x_i | x_o), standardised; ``(rows, columns)``, zero where nothing is missing."""

    mean: Float[NDArray, "rows columns"]
    variance: Float[NDArray, "rows columns"]


@dataclass
class _Simulation:
    """What all steps share; arguments as for :func:`simulate_acquisition`."""

    fit: Fit
    target: Any
    num_particles: int
    num_samples: int
    seed: int
    device: torch.device | str | None
    step: int = 0

    def error(self, table: Table, now: Table, scored: Bool[NDArray, "rows columns"]) -> float:
        """RMSE over the scored cells, of which those answered count as known."""
        missing = scored & ~now.mask.numpy()
        difference = np.where(missing, self._outlook(now).mean - table.x.double().numpy(), 0.0)
        return float(np.sqrt(np.square(difference).sum() / scored.sum()))

    def information(self, now: Table) -> NDArray[np.float64]:
        """Information reward of each open cell."""
        options = {"num_particles": self.num_particles, "num_samples": self.num_samples, "device": self.device}
        return information_reward(self.fit, now, self.target, seed=self.seed, **options).to_numpy()

    def variance(self, now: Table) -> NDArray[np.float64]:
        """Variance of p(x_i | x_o)."""
        return self._outlook(now).variance

    def random(self, now: Table) -> NDArray[np.float64]:
        """The same chance for each cell."""
        return np.random.default_rng([self.seed, self.step]).random(tuple(now.mask.shape))

    def _outlook(self, now: Table) -> _Outlook:
        predictive = Predictive(self.fit, now, self.num_samples, self.num_particles, self.seed, self.device)
        mean, variance = np.zeros(now.mask.shape), np.zeros(now.mask.shape)
        for rows, _, chunk in predictive.chunks(np.flatnonzero((~now.mask).any(1))):
            decoded, _ = predictive.sampler.averages.decode(chunk.mean.double().cpu().numpy())
            for at, column in enumerate(now.schema.columns):
                mean[rows, at] = column.encode(decoded[:, at])
            variance[rows] = chunk.draws.double().var(0, correction=0).cpu().numpy()
        return _Outlook(mean, variance)


def _hidden(table: Table, cells: Bool[NDArray, "rows columns"]) -> Table:
    """The table without some answers, gaps of any origin being nobody's choice: they were not asked."""
    return table.hold_out(cells).gaps_by_design()


_POLICIES: dict[str, Callable[[_Simulation, Table], NDArray[np.float64]]] = {
    "information": _Simulation.information,
    "variance": _Simulation.variance,
    "random": _Simulation.random,
}
