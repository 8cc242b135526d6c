"""What the data say of one column's gaps: that nothing causes them, that complete columns do, or the values themselves.

Three laws of a column's values y and gaps, given complete columns w, compared by their likelihoods (Schwarz 1978):

    nothing            p(y | w) · σ(a)^r (1 - σ(a))^{1-r}
    complete columns   p(y | w) · σ(a + γᵀw)^r (1 - σ(a + γᵀw))^{1-r},   few γ other than zero
    its own value      p(y | w) · Φ(k (c - y)) where seen, ∫ p(y | w) Φ(k (y - c)) dy where not

with p(y | w) = Σ_j π_j N(y; βᵀw + m_j, s_j²), normal mixtures about a regression on w, its squares and the groups of
rows that w tells apart (:mod:`pyro_mnar.nn.row_groups`), so that a skewed column, which under a single normal law
looks like one whose high values are missing, is taken for what it is.  Under all three the mixture is the same, and
the first two may begin where the third ends, so that it cannot win by a better law of the values alone.

The third says how gaps depend on w as well: through βᵀw alone.  Where it explains them worse than the second or the
first does, whatever it gains comes from the shape of the values, and it is not believed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from pyro_mnar.graphs.gap_regressions import (
    RIDGE,
    Predictors,
    Vector,
    logistic_regression,
    ridge_regression,
    seen_causes,
)

HALF_LOG_TWO_PI = 0.5 * np.log(2 * np.pi)
STEEPNESS = (0.7, 4.0)  # k to start from, in standard deviations of the column
LOG_STEEPNESS = (-3.0, 5.0)
LEAST_SPREAD = 0.1  # of a component, over that of the seen values: narrower it would be an atom
HOPELESS = 0.7  # of the slope's price; if gaps follow neither complete columns nor the regression on them by as many
#                 nats, the own value is not looked at, which takes most of the time
PRECISION = 3e-8  # of log-likelihoods, over their size, by which a step has to raise them: 1e-4 nats of 2,000 rows
COMPONENTS = 2


class GapEvidence(NamedTuple):
    """What is said of a column's gaps.

    Attributes:
        causes: Positions of the predictors that explain the gaps best; empty where nothing does.
        given: Log-likelihood under these less that under no cause, in nats, less the price of the slopes.
        own: The same of the own value, less that of the better of the other two: above 0 it is the likeliest.  Where
            gaps do not follow the regression on the predictors, its part of the gaps alone.
        of_mask: Log-likelihood of the gaps alone given the predictors, less that of the better of the other two.
        of_side: Log-likelihood of the gaps alone, less that if values of the other side went missing.
        price: What ``own`` has paid for the slope, in nats; ``of_mask`` has not.
        slope: Change of the log-odds of being observed per unit of the column, if its own value is the cause.
        middle: Where in the column these log-odds are zero.
        of_level: Nats by which gaps follow, by a line, what the predictors expect of the column; above zero where high
            values are expected in the gaps, below zero where low ones are.
    """

    causes: tuple[int, ...]
    given: float
    own: float
    of_mask: float
    of_side: float
    price: float
    slope: float
    middle: float
    of_level: float


def gap_evidence(
    y: Vector,
    seen: Bool[NDArray, " rows"],
    predictors: Predictors,
    groups: Float[NDArray, "rows groups"] | None = None,
) -> GapEvidence:
    """Compare the three laws.

    Args:
        y: The column, of spread about one; any number in the gaps.
        seen: Where it is seen; at least two different values are.
        predictors: Complete columns, of spread about one.
        groups: How far each row belongs to groups (:class:`~pyro_mnar.nn.row_groups.RowGroups`).
    """
    r = seen.astype(np.float64)
    price = 0.5 * np.log(len(y))
    nothing = logistic_regression(r, predictors[:, :0]).log_likelihood
    causes, given = seen_causes(r, predictors, nothing)
    design = _with_squares(predictors)
    if groups is not None:
        design = np.concatenate([design, groups], axis=1)

    powers = _powers(ridge_regression(y, seen, design))
    followed, line = logistic_regression(r, powers).log_likelihood, logistic_regression(r, powers[:, :1])
    of_level = (line.log_likelihood - nothing) * float(-np.sign(line.slopes[0]))
    if max(followed, given) - nothing < HOPELESS * price:
        of_mask = line.log_likelihood - max(given, nothing)
        return GapEvidence(tuple(causes), given - nothing, of_mask - price, of_mask, 0.0, price, 0.0, 0.0, of_level)

    plain = _Law(np.where(seen, y, 0.0), seen, design, masks_itself=False)
    values = max(plain.maximum(start, 200)[1] for start in plain.starts())
    sides = {sign: _masking_itself(sign * np.where(seen, y, 0.0), seen, design) for sign in (1, -1)}
    sign = max(sides, key=lambda side: sides[side].log_likelihood)
    law, theta, both = sides[sign]
    values = max(values, plain.maximum(law.without_mask(theta, sign), 200)[1])
    mask = law.of_mask(theta)
    other = sides[-sign]
    steepness, middle = float(np.exp(theta[-2])), float(sign * theta[-1])
    return GapEvidence(
        tuple(causes),
        given - nothing,
        both - price - values - max(given, nothing),
        mask - max(given, nothing),
        mask - other.law.of_mask(other.theta),
        price,
        -sign * LOGIT_OF_PROBIT * steepness,
        middle,
        of_level,
    )


def nats_of_own_bend(y: Vector, seen: Bool[NDArray, " rows"], predictors: Predictors, slope: float) -> float:
    """By how much a column that causes its own gaps bends: how much likelier values and gaps are with the square of
    what a line in the predictors expects of it, less the price of a slope.

    All of the law is found anew with the square: where seen values flatten towards those that go missing, selection is
    the other explanation, and a slope that is held would take a bend for it.

    Args:
        y: The column, of spread about one; any number in the gaps.
        seen: Where it is seen.
        predictors: Complete columns, of spread about one.
        slope: Change of the log-odds of being observed per unit of the column; its sign alone matters.
    """
    y = np.where(seen, -np.sign(slope) * y, 0.0)
    straight, width = _masking_itself(y, seen, predictors), predictors.shape[1]
    square = _powers(predictors @ straight.theta[:width])[:, 1:]
    bent = _Law(y, seen, np.concatenate([predictors, square], axis=1), masks_itself=True)
    _, log_likelihood = bent.maximum(np.insert(straight.theta, width, 0.0), 200)
    return log_likelihood - straight.log_likelihood - 0.5 * float(np.log(len(y)))


class _Side(NamedTuple):
    """The law under which values of one side go missing, at its maximum."""

    law: _Law
    theta: NDArray[np.float64]
    log_likelihood: float


def _masking_itself(y: Vector, seen: Bool[NDArray, " rows"], design: Predictors) -> _Side:
    """High values of y go missing; the better of two beginnings, which a few steps tell apart."""
    law = _Law(y, seen, design, masks_itself=True)
    begun = max((law.maximum(start, 30) for start in law.starts()), key=lambda found: found[1])
    return _Side(law, *law.maximum(begun[0], 200))


LOGIT_OF_PROBIT = 1.702  # Φ(x) ≈ σ(1.702 x), to 0.01 (Haley 1952)


class _Law:
    """The joint law of a column and its gaps, high values missing; parameters β, m, log s, log-odds of π, log k, c."""

    def __init__(self, y: Vector, seen: Bool[NDArray, " rows"], design: Predictors, *, masks_itself: bool) -> None:
        self.y, self.seen, self.design, self.masks_itself = y[seen], seen, design, masks_itself
        self.of_seen, self.of_gaps = design[seen], design[~seen]
        self.spread = float(self.y.std()) or 1.0
        self.width = design.shape[1]

    def starts(self) -> list[NDArray[np.float64]]:
        """Least squares, its residuals split in a narrow and a wide component on either side."""
        ones = np.ones((len(self.y), 1))
        joined = np.concatenate([self.of_seen, ones], axis=1)
        ridge = np.diag([*[RIDGE] * self.width, 1e-6])
        *beta, level = np.linalg.solve(joined.T @ joined + ridge, joined.T @ self.y)
        rest = self.y - joined @ np.array([*beta, level])
        scale = float(rest.std()) + LEAST_SPREAD * self.spread
        side = 1.0 if (rest**3).mean() > 0 else -1.0  # where the tail is
        base = [
            *beta,
            level - 0.2 * side * scale,
            level + 0.8 * side * scale,
            np.log(0.75 * scale),
            np.log(1.2 * scale),
        ]
        base = [*base, -0.5]
        if not self.masks_itself:
            return [np.array(base)]
        return [np.array([*base, np.log(k / self.spread), np.quantile(self.y, 0.9)]) for k in STEEPNESS]

    def maximum(self, start: NDArray[np.float64], steps: int) -> tuple[NDArray[np.float64], float]:
        """Parameters and log-likelihood, with weak priors that keep them finite."""
        from scipy.optimize import minimize

        free = [(None, None)] * (self.width + COMPONENTS)
        bounds = [*free, *[(np.log(LEAST_SPREAD * self.spread), 3.0)] * COMPONENTS, (-3.0, 3.0)]
        if self.masks_itself:
            low, high = LOG_STEEPNESS
            bounds += [(low - np.log(self.spread), high - np.log(self.spread)), (None, None)]
        units, beta = self._units(), slice(self.width)

        def loss(scaled: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            value, gradient = self._loss(np.concatenate([units @ scaled[beta], scaled[self.width :]]))
            return value, np.concatenate([units.T @ gradient[beta], gradient[self.width :]])

        begin = np.concatenate([np.linalg.solve(units, start[beta]), start[self.width :]])
        found = minimize(
            loss, begin, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": steps, "ftol": PRECISION}
        )
        return np.concatenate([units @ found.x[beta], found.x[self.width :]]), -float(found.fun)

    def _units(self) -> NDArray[np.float64]:
        """β per unit of numbers whose second derivatives are alike; a search in these takes a fraction of the steps."""
        gram = self.of_seen.T @ self.of_seen + RIDGE * np.eye(self.width)
        return np.sqrt(len(self.y)) * np.linalg.inv(np.linalg.cholesky(gram)).T

    def without_mask(self, theta: NDArray[np.float64], sign: int) -> NDArray[np.float64]:
        """The parameters of the values' law alone, of a column that is sign times this one."""
        middles = self.width + COMPONENTS
        return np.concatenate([sign * theta[:middles], theta[middles:-2]])

    def of_mask(self, theta: NDArray[np.float64]) -> float:
        """Log-likelihood of which values are missing, given the predictors alone."""
        log_missing = np.minimum(self._log_missing(self._parts(theta), self.design)[1], -1e-9)
        return float(np.where(self.seen, np.log1p(-np.exp(log_missing)), log_missing).sum())

    def _parts(self, theta: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
        w, j = self.width, COMPONENTS
        beta, middle, log_scale = theta[:w], theta[w : w + j], theta[w + j : w + 2 * j]
        odds = np.array([0.0, theta[w + 2 * j]])
        return beta, middle, log_scale, odds - np.logaddexp(*odds), theta[w + 2 * j + 1 :]

    def _log_missing(
        self, parts: tuple[NDArray[np.float64], ...], design: Predictors
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Joint log p(missing, component | w) and log p(missing | w)."""
        from scipy.special import log_ndtr

        beta, middle, log_scale, log_share, (log_k, c) = parts
        k = np.exp(log_k)
        away = design @ beta + (middle - c)[:, None]
        joint = log_share[:, None] + log_ndtr((k / np.sqrt(1 + (k * np.exp(log_scale)) ** 2))[:, None] * away)
        return joint, np.logaddexp(*joint)

    def _loss(self, theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Negative log-likelihood with its priors, and its gradient."""
        from scipy.special import log_ndtr

        beta, middle, log_scale, log_share, of_mask = parts = self._parts(theta)
        scale, share = np.exp(log_scale), np.exp(log_share)
        error = (self.y - self.of_seen @ beta - middle[:, None]) / scale[:, None]
        squared = error**2
        joint = (log_share - log_scale - HALF_LOG_TWO_PI)[:, None] - 0.5 * squared
        each = np.logaddexp(*joint)
        weight = np.exp(joint - each)
        total, pull = each.sum(), weight * error / scale[:, None]
        in_second = weight[1].sum()
        d_beta, d_middle = self.of_seen.T @ pull.sum(0), pull.sum(1)
        d_scale = (weight * squared).sum(1) - np.array([len(self.y) - in_second, in_second])
        d_odds = in_second - len(self.y) * share[1]
        d_mask = np.zeros(0)
        if self.masks_itself:
            log_k, c = of_mask
            k = np.exp(log_k)
            below = k * (c - self.y)
            log_below = log_ndtr(below)
            mills = np.exp(-0.5 * below**2 - HALF_LOG_TWO_PI - log_below)
            joint, each = self._log_missing(parts, self.of_gaps)
            away = self.of_gaps @ beta + (middle - c)[:, None]
            root = np.sqrt(1 + (k * scale) ** 2)[:, None]
            # φ / Φ times the weight, whose Φ it has
            pull = np.exp(log_share[:, None] - 0.5 * (k * away / root) ** 2 - HALF_LOG_TWO_PI - each) * (k / root)
            moved = (pull * away).sum(1) / root[:, 0] ** 2
            total += log_below.sum() + each.sum()
            d_beta, d_middle = d_beta + self.of_gaps.T @ pull.sum(0), d_middle + pull.sum(1)
            d_scale = d_scale - moved * (k * scale) ** 2
            d_odds = d_odds + np.exp(joint[1] - each).sum() - each.size * share[1]
            d_mask = np.array([(mills * below).sum() + moved.sum(), k * mills.sum() - pull.sum() - c / 9])
            total -= c**2 / 18
        total -= (
            0.5 * RIDGE * beta @ beta + (middle @ middle + log_scale @ log_scale) / 8 + theta[self._odds_at] ** 2 / 4
        )
        gradient = np.concatenate(
            [
                d_beta - RIDGE * beta,
                d_middle - middle / 4,
                d_scale - log_scale / 4,
                [d_odds - theta[self._odds_at] / 2],
                d_mask,
            ]
        )
        return -float(total), -gradient

    @property
    def _odds_at(self) -> int:
        return self.width + 2 * COMPONENTS


def _powers(regression: Vector) -> Float[NDArray, "rows two"]:
    """The regression in its standard deviations, held within four, and its square: gaps of columns with two peaks
    may follow the regression, and not by a line.
    """
    steps = np.clip((regression - regression.mean()) / (regression.std() or 1.0), -4, 4)
    return np.stack([steps, steps**2 - 1], axis=1)


def _with_squares(predictors: Predictors) -> Float[NDArray, "rows twice"]:
    """Predictors and their squares, held within three standard deviations, so that regressions may bend."""
    squares = predictors**2
    squares = squares - squares.mean(0)
    spread = squares.std(0)
    bent = np.clip(squares[:, spread > 0] / spread[spread > 0], -3, 3)
    return np.concatenate([predictors, bent], axis=1)


def has_atom(seen: Float[NDArray, " values"]) -> bool:
    """Whether one value is more than half of those seen."""
    return bool(2 * np.unique(seen, return_counts=True)[1].max(initial=0) > seen.size)


def inverse_mills(x: Float[NDArray, " *shape"]) -> Float[NDArray, " *shape"]:
    """φ(x) / Φ(x), finite however low x is."""
    from scipy.special import log_ndtr

    return np.exp(-0.5 * x**2 - HALF_LOG_TWO_PI - log_ndtr(x))
