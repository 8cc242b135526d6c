"""How far must the missing values lie from what the fit says for a conclusion to change?"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from pyro_mnar.figures import axes_or_new
from pyro_mnar.imputation.analyses import Analysis, reader
from pyro_mnar.imputation.deltas import DeltaScale
from pyro_mnar.imputation.imputations import Imputations
from pyro_mnar.imputation.pooled import Pooled
from pyro_mnar.imputation.pooling import combined
from pyro_mnar.messages import check_is, has_parts, is_finite, share_of, shown, whole_number
from pyro_mnar.scenarios.pooled_scenarios import Drawn, moved_by, only_coefficient
from pyro_mnar.scenarios.trial_imputations import TrialImputations
from pyro_mnar.tables.survey import design_of, has_design

Conclusion: TypeAlias = "str | float | Callable[[Pooled], float]"
SIDES = 0.02  # of the range searched, to each side of the tipping point: where the slope there is measured


@dataclass(frozen=True, eq=False)
class TippingPoint:
    """The delta at which a conclusion changes; printed, a sentence.

    Attributes:
        delta: Where it changes first, seen from the start of the search; NaN if it does not.
        monte_carlo_error: By how much ``delta`` would differ with other draws; NaN where there is none.
        conclusion: What changes, in words.
        start: The analysis at the first delta of the search.
        at: The analysis at the tipping point, or at the last delta of the search.
        curve: One row a delta that was tried: ``delta``, ``estimate``, ``lower``, ``upper``, ``p``, and ``distance``,
            the number that crosses zero where the conclusion changes.
        coefficient: Whose.
    """

    delta: float
    monte_carlo_error: float
    conclusion: str
    start: Pooled
    at: Pooled
    curve: pd.DataFrame
    coefficient: Hashable

    @property
    def found(self) -> bool:
        """Whether the conclusion changes between the deltas searched."""
        return not math.isnan(self.delta)

    def __repr__(self) -> str:
        if not self.found:
            least, most = self.curve["delta"].min(), self.curve["delta"].max()
            return f"{self.conclusion} of {self.coefficient!r} does not change between deltas of {least:g} and {most:g}"
        row = self.curve.iloc[(self.curve["delta"] - self.delta).abs().argmin()]
        start = self.curve["delta"].iloc[0]
        return (
            f"{self.conclusion} of {self.coefficient!r} changes at a delta of {self.delta:.4g} (Monte Carlo error"
            f" {self.monte_carlo_error:.2g}), searched from {start:g}: there the estimate is {row['estimate']:.4g},"
            f" from {row['lower']:.4g} to {row['upper']:.4g}, p = {row['p']:.3g}"
        )

    def plot(self, *, ax: Any = None) -> Any:
        """Draw estimate and interval against the delta, the tipping point marked, on ``ax`` or a figure of its own."""
        ax = axes_or_new(ax, (5.6, 3.6))
        curve = self.curve.sort_values("delta")
        ax.fill_between(curve["delta"], curve["lower"], curve["upper"], color="C0", alpha=0.2, linewidth=0)
        ax.plot(curve["delta"], curve["estimate"], color="C0")
        if curve["lower"].min() <= 0 <= curve["upper"].max():
            ax.axhline(0.0, color="0.6", linewidth=0.8, zorder=0)
        if self.found:
            error = self.monte_carlo_error
            ax.axvline(self.delta, color="C3", label=f"{self.conclusion} changes at {self.delta:.3g} ± {error:.1g}")
            ax.legend(frameon=False)
        ax.set_title(f"{self.coefficient}, the missing values moved")
        ax.set(xlabel="delta", ylabel=f"{self.coefficient} ({self.at.confidence:.0%} interval)")
        return ax


def tipping_point(
    analysis: Analysis,
    imputations: Drawn,
    delta: Hashable | Mapping[Any, Any] | Callable[[float], Any],
    conclusion: Conclusion = "significance",
    *,
    between: tuple[float, float],
    delta_scale: DeltaScale = "sd",
    coefficient: Hashable | None = None,
    num_steps: int = 8,
    tolerance: float = 1e-3,
    seed: int = 0,
    outcome: Hashable | None = None,
    dfcom: float | None = None,
    rule: str = "barnard-rubin",
    confidence: float = 0.95,
) -> TippingPoint:
    """Find the delta at which a conclusion changes first, by bisection over pooled results of the same draws.

    Every delta moves the same draws with the same random numbers, so that the pooled results change smoothly.

    Args:
        analysis: As for :func:`pyro_mnar.pool_frames`.
        imputations: Of a table or a trial, as the fit has them.
        delta: What is moved, by how much a unit: a column of the table, or an arm of the trial; several with weights,
            ``{"income": 1.0, "wealth": 0.5}``; or a function of the number that is searched to a delta as for
            :meth:`pyro_mnar.Imputations.shifted` or :func:`pyro_mnar.impute_trial`.
        conclusion: What is to change: ``"significance"``, p against 1 - ``confidence``; ``"sign"``, of the estimate; a
            number, whether the estimate is above it (a clinical margin); or a function of the pooled analysis to a
            number that crosses zero there, such as ``lambda pooled: pooled.interval[0, 1] - 2.0``.
        between: Where to search: from the first number, usually 0, towards the second.
        delta_scale: What a number means, of tables.
        coefficient: Whose conclusion; by default the only one's.
        num_steps: Into how many steps the range is cut; a conclusion that changes twice within one is not seen.
        tolerance: How near the bisection comes, as a share of the range.
        seed: Of the random numbers that move levels and whole numbers.
        outcome: As for :func:`pyro_mnar.pool_frames`, as are the arguments that follow.
        dfcom: Degrees of freedom that a complete table would have.
        rule: Whose degrees of freedom.
        confidence: Of the intervals, and of significance.

    Returns:
        The tipping point, with its Monte Carlo error: that of the conclusion's number there, by the jackknife over
        draws, divided by its slope.

    Raises:
        ValueError: If the range is empty, a coefficient or a delta is none, or a delta of the range leads out of a
            column's kind or bounds (search in a narrower one).
        TypeError: If a conclusion's function returns no number, such as True.
    """
    is_pair = isinstance(between, Sequence | np.ndarray) and has_parts(between) and len(between) == 2
    if not is_pair or not all(map(is_finite, between)) or between[0] == between[1]:
        raise ValueError(f"between: expected two different finite deltas, got {shown(between)}")
    first, last = map(float, between)
    num_steps, tolerance = whole_number("num_steps", num_steps), share_of("tolerance", tolerance)
    check_is("imputations", imputations, (Imputations, TrialImputations))
    options: dict[str, Any] = {"outcome": outcome, "dfcom": dfcom, "rule": rule, "confidence": confidence}
    direction = delta if callable(delta) else _direction(delta)

    def drawn_at(number: float) -> Drawn:
        return moved_by(imputations, direction(number), delta_scale, seed)

    start = drawn_at(first).pool(analysis, **options)
    coefficient = only_coefficient(start, coefficient)
    words, distance = _distance(conclusion, coefficient)
    tried: dict[float, tuple[Pooled, float]] = {first: (start, distance(start))}

    def at(number: float) -> float:
        if number not in tried:
            pooled = drawn_at(number).pool(analysis, **options)
            tried[number] = pooled, distance(pooled)
        return tried[number][1]

    here = last
    for low, high in _steps(first, last, num_steps):
        if (at(low) > 0) != (at(high) > 0):
            here = _bisected(at, low, high, tolerance * abs(last - first))
            break
    else:
        return TippingPoint(math.nan, math.nan, words, start, tried[last][0], _curve(tried, coefficient), coefficient)
    at(here)
    side = SIDES * abs(last - first)
    below, above = (min(max(here + way * side, min(first, last)), max(first, last)) for way in (-1, 1))
    slope = (at(above) - at(below)) / (above - below)
    spread = _jackknifed(drawn_at(here), analysis, tried[here][0], distance, outcome)
    error = spread / abs(slope) if slope else math.inf
    return TippingPoint(here, error, words, start, tried[here][0], _curve(tried, coefficient), coefficient)


def _direction(delta: Hashable | Mapping[Any, Any]) -> Callable[[float], dict[Any, Any]]:
    """Deltas as multiples of weights."""
    weights: Mapping[Any, Any] = delta if isinstance(delta, Mapping) else {delta: 1.0}

    def scaled(weight: Any, number: float) -> Any:
        if isinstance(weight, Mapping):
            return {level: scaled(of_level, number) for level, of_level in weight.items()}
        if callable(weight):
            by_row: Callable[[pd.DataFrame], Any] = weight
            return lambda frame: number * by_row(frame)
        return number * (weight if isinstance(weight, pd.Series) else np.asarray(weight, dtype=np.float64))

    return lambda number: {name: scaled(weight, number) for name, weight in weights.items()}


def _distance(conclusion: Conclusion, coefficient: Hashable) -> tuple[str, Callable[[Pooled], float]]:
    """The conclusion in words, and the number that crosses zero where it changes."""

    def of(values: Callable[[Pooled], Any]) -> Callable[[Pooled], float]:
        return lambda pooled: float(values(pooled)[pooled.names.index(coefficient)])

    if isinstance(conclusion, str) and conclusion == "sign":
        return "the sign", of(lambda pooled: pooled.estimates)
    if isinstance(conclusion, str) and conclusion == "significance":
        # Of the statistic and not of p, which is flat far from its level.
        def beyond(pooled: Pooled) -> Any:
            from scipy import stats

            return np.abs(pooled.t) - stats.t.ppf(0.5 + pooled.confidence / 2, pooled.df)

        return "the significance", of(beyond)
    if not callable(conclusion) and not is_finite(conclusion):
        raise ValueError(
            f"conclusion: expected 'significance', 'sign', a margin or a function, got {shown(conclusion)}"
        )
    if callable(conclusion):
        given = conclusion

        def told(pooled: Pooled) -> float:
            number = np.asarray(given(pooled))
            if number.dtype == bool or number.size != 1 or not np.isfinite(number.astype(np.float64)).all():
                raise TypeError(
                    "conclusion: expected a function to a finite number that crosses zero where the conclusion changes,"
                    f" got {given(pooled)!r}"
                )
            return float(number.reshape(()))

        return getattr(given, "__name__", "the conclusion").replace("<lambda>", "the conclusion"), told
    margin = float(conclusion)
    return f"the side of {margin:g}", of(lambda pooled: pooled.estimates - margin)


def _steps(first: float, last: float, num_steps: int) -> list[tuple[float, float]]:
    ends = [float(end) for end in np.linspace(first, last, num_steps + 1)]
    return list(pairwise(ends))


def _bisected(at: Callable[[float], float], low: float, high: float, width: float) -> float:
    """Where a number crosses zero, by bisection and, within the last bracket, a straight line."""
    while abs(high - low) > width:
        middle = (low + high) / 2
        if (at(middle) > 0) == (at(low) > 0):
            low = middle
        else:
            high = middle
    return low + (high - low) * at(low) / (at(low) - at(high))


def _jackknifed(
    drawn: Drawn, analysis: Analysis, pooled: Pooled, distance: Callable[[Pooled], float], outcome: Hashable | None
) -> float:
    """Monte Carlo error of a number of a pooled analysis: leave out one draw after the other."""
    design = None
    if isinstance(drawn, Imputations) and has_design(drawn.table.schema):
        design = design_of(drawn.table.frame, drawn.table.schema)  # as pool has it
    if isinstance(drawn, Imputations):
        analysis = drawn.of_own_frames(analysis)
    run = reader(analysis, outcome, design)
    results = [run(frame) for frame in (drawn.analysed_frames() if isinstance(drawn, Imputations) else drawn.frames())]
    values, covariances = np.stack([r.values for r in results]), np.stack([r.covariance for r in results])
    if len(results) < 3:
        return math.inf
    without = [np.arange(len(results)) != left_out for left_out in range(len(results))]
    numbers = np.array([distance(replace(pooled, parts=combined(values[w], covariances[w]))) for w in without])
    return float(np.sqrt((len(numbers) - 1) * numbers.var()))


def _curve(tried: Mapping[float, tuple[Pooled, float]], coefficient: Hashable) -> pd.DataFrame:
    """In the order tried."""
    rows = []
    for number, (pooled, distance) in tried.items():
        row = pooled.to_frame().iloc[pooled.names.index(coefficient)][["estimate", "lower", "upper", "p"]]
        rows.append({"delta": number, **row.to_dict(), "distance": distance})
    return pd.DataFrame(rows)
