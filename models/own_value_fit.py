"""Maximum likelihood of one column whose values mask themselves, given what the others say of it.

    x_n ~ N(α + β t_n, s² w_n),    P(R_n = 0 | x_n) = σ(-(c + d x_n))

with t_n, s² w_n mean and variance of the cell given the rest of its row, so that α = 0, β = 1 where that is right.  A
missing value is summed out (:mod:`pyro_mnar.distributions.logistic_means`).  Where t says nothing of the column, slope
and law are told apart by the form of the law alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from pyro_mnar.distributions.logistic_means import of_cells

FIRST_SLOPES = (1.0, 4.0)  # log-odds per standard deviation, of either sign
LOOKS, STEPS = 10, 1_000  # of a search: to choose between starts, and to the end
PRECISION = 1e-5  # of the gradient a row, which moves a slope by a thousandth of its standard error
SPREAD_OF_SLOPE = 10.0  # standard deviation of a normal prior on d: weak, it keeps the slope of a threshold finite
SPREAD_OF_LAW = 2.0  # of those on α, β and log s about what the seen values say, so that thin data stay near
LEAST_SLOPE, STEEPEST = 0.1, 60.0  # of a known sign; of all

Vector = Float[NDArray, " rows"]


class OwnValueFit(NamedTuple):
    """Log-odds of being observed, c + d x.

    Attributes:
        intercept: c.
        slope: d.
        log_likelihood: Of values and gaps given the others, less the priors, up to a constant.
    """

    intercept: float
    slope: float
    log_likelihood: float


def fit_own_value(
    x: Vector,
    seen: Bool[NDArray, " rows"],
    told: Vector,
    variance: Vector,
    *,
    sign: int = 0,
    slope: float | None = None,
    first: float | None = None,
) -> OwnValueFit:
    """The maximum, the better of those that slopes of either sign lead to.

    Args:
        x: The column, of spread about one; any number in the gaps.
        seen: Where it is seen.
        told: t.
        variance: Of each cell given the rest of its row.
        sign: Of the slope, if it is known: -1 or 1.
        slope: The slope itself, if that is.
        first: A slope to start from, instead of several.
    """
    law = _Law(x, seen, told, variance)
    if slope is not None:
        return law.maximum(slope)
    sides = [[s * size for size in FIRST_SLOPES] for s in (-1, 1) if s * sign >= 0] if first is None else [[first]]
    begun = [max((law.looked_at(start) for start in side), key=law.log_likelihood) for side in sides]
    best = max((law.maximum_from(theta) for theta in begun), key=lambda found: found.log_likelihood)
    low, high = (-STEEPEST if sign <= 0 else LEAST_SLOPE), (STEEPEST if sign >= 0 else -LEAST_SLOPE)
    if low <= best.slope <= high:
        return best
    return law.maximum(float(np.clip(best.slope, low, high)))


class _Law:
    """The joint law of values and gaps; parameters α, β, log s, log-odds at the middle of the seen values, d."""

    def __init__(self, x: Vector, seen: Bool[NDArray, " rows"], told: Vector, variance: Vector) -> None:
        self.seen, self.told, self.ratio = seen, told, variance / variance.mean()
        self.middle = float(x[seen].mean())
        self.x = np.where(seen, x, self.middle)[seen]
        design = np.stack([np.ones(seen.sum()), told[seen]])
        weighted = design / self.ratio[seen]
        ridge = np.eye(2) / SPREAD_OF_LAW**2
        self.prior = np.array([0.0, 1.0])
        self.regression = np.linalg.solve(weighted @ design.T + ridge, weighted @ self.x + ridge @ self.prior)
        rest = (self.x - self.regression @ design) / np.sqrt(self.ratio[seen])
        self.log_spread = float(np.log(max(rest.std(), 0.05)))

    def maximum(self, slope: float) -> OwnValueFit:
        """With so steep a slope, which is held."""
        return self._found(self._searched(self._start(slope), 4, STEPS))

    def maximum_from(self, theta: NDArray[np.float64]) -> OwnValueFit:
        """From all parameters."""
        return self._found(self._searched(theta, 5, STEPS))

    def looked_at(self, slope: float) -> NDArray[np.float64]:
        """Parameters a few steps from a slope on, enough to choose between the starts of a side."""
        return self._searched(self._start(slope), 5, LOOKS)

    def log_likelihood(self, theta: NDArray[np.float64]) -> float:
        """Of values and gaps, less the priors."""
        return -self.loss(theta)[0]

    def _start(self, slope: float) -> NDArray[np.float64]:
        return np.array([*self.regression, self.log_spread, self._level(slope), slope])

    def _searched(self, start: NDArray[np.float64], free: int, steps: int) -> NDArray[np.float64]:
        """The first parameters searched, the others held."""
        from scipy.optimize import minimize  # BFGS, as it alone waits for no thread of BLAS with five numbers

        def loss(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            value, gradient = self.loss(np.append(theta, start[free:]))
            return value / len(self.seen), gradient[:free] / len(self.seen)

        options = {"gtol": PRECISION, "maxiter": steps}
        return np.append(minimize(loss, start[:free], jac=True, method="BFGS", options=options).x, start[free:])

    def _found(self, theta: NDArray[np.float64]) -> OwnValueFit:
        *_, level, d = theta
        return OwnValueFit(float(level - d * self.middle), float(d), self.log_likelihood(theta))

    def _level(self, slope: float) -> float:
        """Log-odds at the middle that give about as many gaps as there are."""
        share = np.clip(self.seen.mean(), 0.02, 0.98)
        return float(np.log(share / (1 - share)) * np.sqrt(1 + (slope / 1.7) ** 2) + 0.5 * abs(slope))

    def loss(self, theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Negative log-likelihood, and its gradient."""
        from scipy.special import expit, log_expit

        alpha, beta, log_s, level, d = theta
        variance = np.exp(2 * np.clip(log_s, -6, 6)) * self.ratio
        mean = alpha + beta * self.told
        error = (self.x - mean[self.seen]) / np.sqrt(variance[self.seen])
        pull = error / np.sqrt(variance[self.seen])
        away = self.x - self.middle
        log_odds, unlikely = level + d * away, expit(-(level + d * away))
        total = (-0.5 * error**2 - log_s + log_expit(log_odds)).sum()
        gradient = np.array(
            [pull.sum(), pull @ self.told[self.seen], (error**2 - 1).sum(), unlikely.sum(), unlikely @ away]
        )

        gap, of_gap = mean[~self.seen] - self.middle, variance[~self.seen]
        missing = of_cells(torch.as_tensor(-(level + d * gap)), torch.as_tensor(d**2 * of_gap))
        log_missing, slope, by_variance = (part.numpy() for part in missing)
        total += log_missing.sum()
        gradient += [
            -d * slope.sum(),
            -d * slope @ self.told[~self.seen],
            2 * d**2 * of_gap @ by_variance,
            -slope.sum(),
            -slope @ gap + 2 * d * of_gap @ by_variance,
        ]
        away_from_prior = np.array([*(theta[:2] - self.prior), log_s - self.log_spread, 0.0, d])
        precision = 1 / np.array([*[SPREAD_OF_LAW] * 3, 1.0, SPREAD_OF_SLOPE]) ** 2
        total -= 0.5 * precision @ away_from_prior**2
        return -float(total), precision * away_from_prior - gradient
