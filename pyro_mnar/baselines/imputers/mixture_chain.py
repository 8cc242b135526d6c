"""Stochastic EM for a normal mixture whose values mask themselves (Celeux & Diebolt 1985; Nielsen 2000).

Complete the rows by a Gibbs draw given where they have gaps, then maximise the likelihood of the completed rows.  With
v_d = x_d + τ_d ε, a gap says v_d > b_d and no more, so every draw is one of a truncated normal, and every conditional
mean has a closed form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from pyro_mnar.baselines.imputers.selection import inverse_mills, selections
from pyro_mnar.messages import whole_number

JITTER = 1e-6  # of a standardised column's variance
PRIOR_ROWS = 0.5
SINGLE = 50  # rounds with one component, whose completed rows are then split
STEPS = 2  # Newton's, of a mechanism in a round
SMALLEST_WIDTH = 1e-3
SMALLEST_SLOPE = 1e-2
LARGEST_STEP = 2.0


class Mechanism(NamedTuple):
    """P(missing | x) = Φ((x - threshold) / width), by column.

    Attributes:
        threshold: b; ``(columns,)``.
        width: τ, zero where everything above the threshold is missing; ``(columns,)``.
    """

    threshold: Float[NDArray, " columns"]
    width: Float[NDArray, " columns"]


class Component(NamedTuple):
    """One normal law of the mixture.

    Attributes:
        share: p(c).
        mean: μ; ``(columns,)``.
        precision: Σ⁻¹; ``(columns, columns)``.
    """

    share: float
    mean: Float[NDArray, " columns"]
    precision: Float[NDArray, "columns columns"]


class Estimate(NamedTuple):
    """What a chain leaves, on average over its rounds after the burn-in.

    Attributes:
        completed: Rows, with conditional means in their gaps; ``(rows, columns)``.
        shares: p(c); ``(components,)``.
        means: μ; ``(components, columns)``.
        covariances: Σ; ``(components, columns, columns)``.
        mechanism: The mechanism.
    """

    completed: Float[NDArray, "rows columns"]
    shares: Float[NDArray, " components"]
    means: Float[NDArray, "components columns"]
    covariances: Float[NDArray, "components columns columns"]
    mechanism: Mechanism


def check_rounds(rounds: int, burn_in: int) -> None:
    """Raise ValueError or TypeError unless the burn-in ends after the split of the first component, and before all."""
    if not SINGLE < whole_number("burn_in", burn_in) < whole_number("rounds", rounds):
        raise ValueError(f"rounds, burn_in: expected {SINGLE} < burn_in < rounds, got {burn_in} and {rounds}")


@dataclass
class Chain:
    """Stochastic EM with one number of components; high values go missing.

    Attributes:
        x: Values, NaN in the gaps; ``(rows, columns)``.
        hidden: Gaps that their values caused; ``(rows, columns)``.
        mechanism: Where to start.
        num_components: C.
        generator: Of its draws.
    """

    x: Float[NDArray, "rows columns"]
    hidden: Bool[NDArray, "rows columns"]
    mechanism: Mechanism
    num_components: int
    generator: np.random.Generator
    gaps: Bool[NDArray, "rows columns"] = field(init=False)
    label: Int[NDArray, " rows"] = field(init=False)

    def __post_init__(self) -> None:
        self.gaps = np.isnan(self.x)
        self.x = np.where(self.gaps, np.where(self.hidden, self.mechanism.threshold + 0.3, 0.0), self.x)
        self.mechanism = Mechanism(*(part.copy() for part in self.mechanism))
        self.label = np.zeros(len(self.x), dtype=np.int64)

    def run(self, rounds: int, burn_in: int) -> Estimate:
        """Complete the rows and estimate in turn; averages over the rounds after the burn-in."""
        total, kept = np.zeros_like(self.x), self.x.copy()
        estimates: list[tuple[NDArray[np.float64], ...]] = []
        for at in range(rounds):
            if at == SINGLE and self.num_components > 1:
                self._split()
            components = fit_components(self.x, self.label, self.num_components if at >= SINGLE else 1)
            self._draw_labels(components)
            for column in np.flatnonzero(self.gaps.any(axis=0)).tolist():
                expected = self._draw_column(column, components)
                if at >= burn_in:
                    total[self.gaps[:, column], column] += expected
                if at >= SINGLE:
                    self._update_mechanism(column)
            if at >= burn_in:
                shares, means, precisions = (np.array(part) for part in zip(*components, strict=True))
                estimates.append((shares, means, np.linalg.inv(precisions), *(p.copy() for p in self.mechanism)))
        kept[self.gaps] = total[self.gaps] / (rounds - burn_in)
        shares, means, covariances, *mechanism = (np.mean(part, axis=0) for part in zip(*estimates, strict=True))
        return Estimate(kept, shares, means, covariances, Mechanism(*mechanism))

    def _split(self) -> None:
        from sklearn.cluster import KMeans

        scaled = (self.x - self.x.mean(axis=0)) / (self.x.std(axis=0) + JITTER)
        count = min(self.num_components, len(np.unique(scaled, axis=0)))
        means = KMeans(count, n_init=3, random_state=int(self.generator.integers(2**31)))
        self.label = means.fit_predict(scaled).astype(np.int64)

    def _draw_labels(self, components: Sequence[Component]) -> None:
        """p(c | x); the largest of log p + Gumbel noise is a draw."""
        if len(components) == 1:
            return
        log_p = np.empty((len(self.x), len(components)))
        for at, (share, mean, precision) in enumerate(components):
            centred = self.x - mean
            distance = ((centred @ precision) * centred).sum(axis=1)
            log_p[:, at] = np.log(share) + 0.5 * np.linalg.slogdet(precision)[1] - 0.5 * distance
        self.label = (log_p + self.generator.gumbel(size=log_p.shape)).argmax(axis=1)

    def _draw_column(self, column: int, components: Sequence[Component]) -> Float[NDArray, " gaps"]:
        """Draw a column's gaps given the rest of their rows; returns E[x_d | the rest, r_d = 0]."""
        gaps = self.gaps[:, column]
        rows, label = self.x[gaps], self.label[gaps]
        mean, scale = np.empty(len(rows)), np.empty(len(rows))
        for at, (_, centre, precision) in enumerate(components):
            own, variance = label == at, 1 / precision[column, column]
            mean[own] = rows[own, column] - (rows[own] - centre) @ precision[:, column] * variance
            scale[own] = np.sqrt(variance)
        hidden = self.hidden[gaps, column]
        expected, drawn = mean.copy(), mean + scale * self.generator.standard_normal(len(rows))
        expected[hidden], drawn[hidden] = draw_beyond(
            mean[hidden],
            scale[hidden],
            float(self.mechanism.threshold[column]),
            float(self.mechanism.width[column]),
            self.generator,
        )
        self.x[gaps, column] = drawn
        return expected

    def _update_mechanism(self, column: int) -> None:
        """Probit regression of the gaps on the completed column; a threshold stays one."""
        threshold, width = self.mechanism.threshold[column], self.mechanism.width[column]
        if width == 0:
            return
        used = self.hidden[:, column] | ~self.gaps[:, column]
        x, missing = self.x[used, column], self.hidden[used, column]
        intercept, slope = _probit(x, missing, np.array([-threshold / width, 1 / width]))
        width = max(1 / max(slope, SMALLEST_SLOPE), SMALLEST_WIDTH)
        self.mechanism.threshold[column], self.mechanism.width[column] = -intercept * width, width


def draw_beyond(
    mean: Float[NDArray, " cells"],
    scale: Float[NDArray, " cells"],
    threshold: float,
    width: float,
    generator: np.random.Generator,
) -> tuple[Float[NDArray, " cells"], Float[NDArray, " cells"]]:
    """Mean and a draw of x ~ N(mean, scale²) given that it went missing, with probability Φ((x - threshold) / width).

    Args:
        mean: Of each cell, before its gap is known of.
        scale: Standard deviation, likewise.
        threshold: b.
        width: τ, zero or more.
        generator: Of the draws.
    """
    spread = np.hypot(scale, width)
    above = (mean - threshold) / spread
    uniform = np.maximum(generator.random(len(mean)) * ndtr(above), np.finfo(np.float64).tiny)
    selector = np.maximum(mean - spread * ndtri(uniform), threshold)  # v = x + τε, given v > b
    share = (scale / spread) ** 2
    noise = scale * width / spread * generator.standard_normal(len(mean))
    return mean + scale * (scale / spread) * inverse_mills(above), mean + share * (selector - mean) + noise


def fit_components(
    x: Float[NDArray, "rows columns"], label: Int[NDArray, " rows"], num_components: int
) -> list[Component]:
    """The normal law of the rows of every label, as of these rows and some more whose covariance is shared.

    The covariance within labels is shrunk towards independence by as much as half a row would, for tables with no more
    rows than columns; and that of each of several labels towards it, by as many rows as a covariance needs.

    Args:
        x: Complete rows.
        label: Component of each row, from 0.
        num_components: C; one that has no rows has the law of all.
    """
    num_rows, num_columns = x.shape
    overall = x.mean(axis=0)
    count = np.bincount(label, minlength=num_components)
    means = [(x[label == at].sum(axis=0) + 0.01 * overall) / (count[at] + 0.01) for at in range(num_components)]
    scatters = [(x[label == at] - mean).T @ (x[label == at] - mean) for at, mean in enumerate(means)]
    pooled = np.sum(scatters, axis=0)
    independent = np.diag(np.diag(pooled)) / num_rows
    within = (pooled + PRIOR_ROWS * independent) / (num_rows + PRIOR_ROWS) + JITTER * np.eye(num_columns)
    if num_components == 1:
        return [Component(1.0, means[0], np.linalg.inv(within))]
    prior = num_columns + 2
    return [
        Component(
            (count[at] + 1) / (num_rows + num_components),
            mean,
            np.linalg.inv((scatter + prior * within) / (count[at] + prior)),
        )
        for at, (mean, scatter) in enumerate(zip(means, scatters, strict=True))
    ]


def first_mechanism(
    x: Float[NDArray, "rows columns"],
    predictors: Float[NDArray, "rows predictors"],
    hidden: Bool[NDArray, "rows columns"],
) -> Mechanism:
    """Of each column, given complete ones; where nothing is known of the spread, a threshold at the highest value."""
    highest = np.nanmax(x, axis=0)
    found = selections(x, predictors, hidden)
    return Mechanism(
        np.array([top if one is None else one.threshold for top, one in zip(highest, found, strict=True)]),
        np.array([0.0 if one is None else one.width for one in found]),
    )


def _probit(
    x: Float[NDArray, " cells"], missing: Bool[NDArray, " cells"], weights: Float[NDArray, " 2"]
) -> Float[NDArray, " 2"]:
    """A few steps of Newton's method towards P(missing) = Φ(weights · (1, x)), from weights near the maximum."""
    design = np.stack([np.ones_like(x), x], axis=1)
    side = np.where(missing, 1.0, -1.0)
    for _ in range(STEPS):
        score = side * (design @ weights)
        ratio = inverse_mills(score)
        curvature = (design * (ratio * (score + ratio))[:, None]).T @ design + 1e-3 * np.eye(2)
        step = np.linalg.solve(curvature, design.T @ (side * ratio) - 1e-3 * weights)
        weights = weights + step * min(1.0, LARGEST_STEP / np.abs(step).max())
    return weights
