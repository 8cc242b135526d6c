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
RIDGE = 1e-4  # of an approximate second derivative, which may be singular
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
    first: tuple[float, float] | None = None,
) -> OwnValueFit:
    """The maximum, the better of those that slopes of either sign lead to.

    Args:
        x: The column, of spread about one; any number in the gaps.
        seen: Where it is seen.
        told: t.
        variance: Of each cell given the rest of its row.
        sign: Of the slope, if it is known: -1 or 1.
        slope: The slope itself, if that is.
        first: Intercept and slope to start from, instead of several slopes.
    """
    law = _Law(x, seen, told, variance)
    if slope is not None:
        return law.maximum(slope)
    if first is None:
        sides = [[s * size for size in FIRST_SLOPES] for s in (-1, 1) if s * sign >= 0]
        begun = [max((law.looked_at(start) for start in side), key=law.log_likelihood) for side in sides]
    else:
        begun = [law.told_by(*first)]
    best = max((law.maximum_from(theta) for theta in begun), key=lambda found: found.log_likelihood)
    low, high = (-STEEPEST if sign <= 0 else LEAST_SLOPE), (STEEPEST if sign >= 0 else -LEAST_SLOPE)
    if low <= best.slope <= high:
        return best
    return law.maximum(float(np.clip(best.slope, low, high)))


class _Law:
    """The joint law of values and gaps; parameters α, β, log s, log-odds at the middle of the seen values, d."""

    def __init__(self, x: Vector, seen: Bool[NDArray, " rows"], told: Vector, variance: Vector) -> None:
        self.share, self.rows = seen.mean(), len(seen)
        self.log_scale, ratio = 0.5 * float(np.log(variance.mean())), variance / variance.mean()
        self.told, self.told_of_gaps = told[seen], told[~seen]
        self.ratio, self.ratio_of_gaps = ratio[seen], ratio[~seen]
        self.root = np.sqrt(self.ratio)
        self.x, self.middle = x[seen], float(x[seen].mean())
        self.away = self.x - self.middle
        design = np.stack([np.ones(len(self.x)), self.told])
        weighted = design / self.ratio
        ridge = np.eye(2) / SPREAD_OF_LAW**2
        self.prior = np.array([0.0, 1.0])
        self.regression = np.linalg.solve(weighted @ design.T + ridge, weighted @ self.x + ridge @ self.prior)
        rest = (self.x - self.regression @ design) / self.root
        self.log_spread = float(np.log(max(rest.std(), 0.05)))
        self.precision = 1 / np.array([*[SPREAD_OF_LAW] * 3, np.inf, SPREAD_OF_SLOPE]) ** 2

    def maximum(self, slope: float) -> OwnValueFit:
        """With so steep a slope, which is held."""
        return self._found(self._searched(self._start(slope), 4, STEPS))

    def maximum_from(self, theta: NDArray[np.float64]) -> OwnValueFit:
        """From all parameters."""
        return self._found(self._searched(theta, 5, STEPS))

    def looked_at(self, slope: float) -> NDArray[np.float64]:
        """Parameters a few steps from a slope on, enough to choose between the starts of a side."""
        return self._searched(self._start(slope), 5, LOOKS)

    def told_by(self, intercept: float, slope: float) -> NDArray[np.float64]:
        """Parameters where t and s² are right."""
        return np.array([*self.prior, self.log_scale, intercept + slope * self.middle, slope])

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
            return value / self.rows, gradient[:free] / self.rows

        options = {"gtol": PRECISION, "maxiter": steps, "hess_inv0": self.rows * self._covariance(start, free)}
        return np.append(minimize(loss, start[:free], jac=True, method="BFGS", options=options).x, start[free:])

    def _found(self, theta: NDArray[np.float64]) -> OwnValueFit:
        *_, level, d = theta
        return OwnValueFit(float(level - d * self.middle), float(d), self.log_likelihood(theta))

    def _level(self, slope: float) -> float:
        """Log-odds at the middle that give about as many gaps as there are."""
        share = np.clip(self.share, 0.02, 0.98)
        return float(np.log(share / (1 - share)) * np.sqrt(1 + (slope / 1.7) ** 2) + 0.5 * abs(slope))

    def loss(self, theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Negative log-likelihood, and its gradient."""
        total, *scores = self._scores(theta)
        away = np.array([*(theta[:2] - self.prior), theta[2] - self.log_spread, 0.0, theta[4]])
        gradient = sum(of_rows.sum(1) for of_rows in scores)
        return 0.5 * float(self.precision @ away**2) - total, self.precision * away - gradient

    def _covariance(self, theta: NDArray[np.float64], free: int) -> Float[NDArray, "free free"]:
        """About the inverse of the second derivatives, by the products of the first ones of rows (Berndt et al. 1974).

        It is positive definite whatever the scales of the derivatives are.
        """
        _, *scores = self._scores(theta)
        information = (sum(of_rows @ of_rows.T for of_rows in scores) + np.diag(self.precision + RIDGE))[:free, :free]
        spread = np.sqrt(information.diagonal())
        inverse = np.linalg.inv(information / np.outer(spread, spread) + RIDGE * np.eye(free))
        return (inverse + inverse.T) / 2 / np.outer(spread, spread)

    def _scores(
        self, theta: NDArray[np.float64]
    ) -> tuple[float, Float[NDArray, "5 seen"], Float[NDArray, "5 missing"]]:
        """Log-likelihood of values and gaps, and its derivatives row by row, of rows seen and of gaps."""
        from scipy.special import expit, log_expit

        alpha, beta, log_s, level, d = theta
        scale = np.exp(np.clip(log_s, -6, 6))
        error = (self.x - alpha - beta * self.told) / (scale * self.root)
        pull = error / (scale * self.root)
        squared = error**2
        log_odds = level + d * self.away
        unlikely = expit(-log_odds)
        total = -0.5 * squared.sum() - log_s * len(error) + log_expit(log_odds).sum()
        of_seen = np.stack([pull, pull * self.told, squared - 1, unlikely, unlikely * self.away])

        gap, variance = alpha + beta * self.told_of_gaps - self.middle, scale**2 * self.ratio_of_gaps
        missing = of_cells(torch.as_tensor(-(level + d * gap)), torch.as_tensor(d**2 * variance))
        log_missing, slope, by_variance = (part.numpy() for part in missing)
        moved, spread = -d * slope, 2 * d * variance * by_variance
        of_gaps = np.stack([moved, moved * self.told_of_gaps, d * spread, -slope, spread - slope * gap])
        return float(total + log_missing.sum()), of_seen, of_gaps
