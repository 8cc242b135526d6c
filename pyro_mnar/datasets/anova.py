"""The ANOVA example (Appendix C) without variational inference: its rows, its exact evidence, its maximum likelihood,
its twin.

With Z_d ~ N(μ_d, ζ²), X_d|Z_d ~ N(Z_d, σ²) and P(R_d = 1|Z_d) = sigmoid(λ_0 + λ_1 Z_d), a cell contributes

    observed:  N(x; μ, ζ² + σ²) · E[sigmoid(λ_0 + λ_1 z)]  over  z ~ N(z; m(x), s²), the conjugate posterior
    missing:   E[sigmoid(−λ_0 − λ_1 z)]                    over  z ~ N(z; μ, ζ²)

and each expectation is one-dimensional: Gauss-Hermite quadrature.  Written in NumPy, apart from the model it is to
judge.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit

from pyro_mnar.datasets.amputation import Amputed
from pyro_mnar.datasets.complete import latent_frame
from pyro_mnar.memory import check_room
from pyro_mnar.messages import check_is, positive_number, seed_of, whole_number

QUADRATURE_NODES = 40


class Parameters(NamedTuple):
    """θ and λ, in the user's units.

    Attributes:
        mu: μ per column; ``(columns,)``.
        zeta: ζ, the standard deviation of every latent.
        intercept: λ_0.
        slope: λ_1, log-odds of being observed per unit of z.
    """

    mu: NDArray[np.float64]
    zeta: float
    intercept: float
    slope: float

    def vector(self) -> NDArray[np.float64]:
        """(μ_1, ..., μ_D, ζ², λ_0, λ_1)."""
        return np.array([*self.mu, self.zeta**2, self.intercept, self.slope])


class MaximumLikelihood(NamedTuple):
    """The exact estimate.

    Attributes:
        parameters: Where the evidence is greatest.
        standard_errors: From the observed information, in the order of :meth:`Parameters.vector`; ``(columns + 3,)``.
        log_evidence: Summed over rows, in nats, for x in the user's units.
    """

    parameters: Parameters
    standard_errors: NDArray[np.float64]
    log_evidence: float


class Twin(NamedTuple):
    """The other parameters.

    Attributes:
        parameters: θ and λ of the twin.
        log_factor: log c per column; the two are equivalent where it is zero throughout; ``(columns,)``.
    """

    parameters: Parameters
    log_factor: NDArray[np.float64]


TRUTH = Parameters(mu=np.array([-1.0, -0.5, 0.0, 0.5, 1.0]), zeta=1.0, intercept=1.0, slope=-1.0)
NOISE = 0.5


def anova(seed: int, *, rows: int = 5000, truth: Parameters = TRUTH, noise: float = NOISE) -> Amputed:
    """Draw a table from the example; columns ``X1``, ``X2``, ....

    Args:
        seed: Same seed, same table.
        rows: N.
        truth: θ and λ.
        noise: σ, in the user's units.
    """
    check_is("truth", truth, Parameters)
    rows, noise = whole_number("rows", rows), positive_number("noise", noise)
    check_room("rows", rows, 8 * len(truth.mu), "numbers of every cell")
    rng = np.random.default_rng(seed_of(seed))
    z = truth.mu + truth.zeta * rng.normal(size=(rows, len(truth.mu)))
    x = z + noise * rng.normal(size=z.shape)
    observed = expit(truth.intercept + truth.slope * z)
    columns = [f"X{d + 1}" for d in range(z.shape[1])]
    complete = pd.DataFrame(x, columns=columns)
    return Amputed(
        frame=complete.where(rng.uniform(size=z.shape) < observed),
        complete=complete,
        latents=latent_frame(z),
        probabilities=pd.DataFrame(observed, columns=columns),
    )


def log_evidence(
    x: ArrayLike, parameters: Parameters, noise: float = NOISE, nodes: int = QUADRATURE_NODES
) -> NDArray[np.float64]:
    """Log p(x_o, r) per cell, in nats; ``(rows, columns)``.

    Args:
        x: Values in the user's units, NaN where missing; ``(rows, columns)``.  Standardised columns add
            ``log(std)`` to every observed cell.
        parameters: θ and λ.
        noise: σ.
        nodes: Of the quadrature.
    """
    x = np.asarray(x, dtype=np.float64)
    at, weights = np.polynomial.hermite_e.hermegauss(nodes)
    weights = weights / weights.sum()
    mu, zeta, intercept, slope = parameters
    variance = zeta**2 + noise**2
    seen = np.broadcast_to(mu, x.shape)[~np.isnan(x)]
    values = x[~np.isnan(x)]

    log_p = np.empty(x.shape)
    given_x = seen + zeta**2 / variance * (values - seen)
    spread = zeta * noise / np.sqrt(variance)
    odds = intercept + slope * (given_x[:, None] + spread * at)
    normal = -0.5 * (np.log(2 * np.pi * variance) + (values - seen) ** 2 / variance)
    log_p[~np.isnan(x)] = normal + np.log(expit(odds) @ weights)
    unseen = np.log(expit(-intercept - slope * (np.asarray(mu)[:, None] + zeta * at)) @ weights)
    log_p[np.isnan(x)] = np.broadcast_to(unseen, x.shape)[np.isnan(x)]
    return log_p


def maximum_likelihood(x: ArrayLike, noise: float = NOISE) -> MaximumLikelihood:
    """Maximise the exact evidence, from starts with slopes of both signs.

    Args:
        x: Values in the user's units, NaN where missing; ``(rows, columns)``.
        noise: σ, known.

    Raises:
        RuntimeError: If the optimiser finds no maximum.
    """
    x = np.asarray(x, dtype=np.float64)
    columns = x.shape[1]

    def parameters_of(free: NDArray[np.float64]) -> Parameters:
        return Parameters(free[:columns], float(np.exp(free[columns] / 2)), float(free[-2]), float(free[-1]))

    def loss(free: NDArray[np.float64]) -> float:
        return -float(log_evidence(x, parameters_of(free), noise).sum()) / len(x)

    seen, spread = np.nanmean(x, axis=0), float(np.nanvar(x, axis=0).mean())
    starts = [np.array([*seen, np.log(spread), logit(1 - np.isnan(x).mean()), slope]) for slope in (-0.5, 0.5)]
    found = [minimize(loss, start, method="BFGS", options={"gtol": 1e-5}) for start in starts]
    best = min(found, key=lambda result: result.fun)
    if not best.success and np.abs(best.jac).max() > 1e-3:
        raise RuntimeError(f"maximum likelihood: {best.message}")

    covariance = np.linalg.inv(_hessian(loss, best.x) * len(x))
    by_free = np.ones(columns + 3)
    by_free[columns] = np.exp(best.x[columns])  # ζ² from log ζ²
    errors = np.sqrt(np.diag(covariance)) * by_free
    return MaximumLikelihood(parameters_of(best.x), errors, -best.fun * len(x))


def twin(parameters: Parameters) -> Twin:
    """Parameters of reversed mechanism and shifted means that may give all that is observed the same law.

    N(z; μ, ζ²) · sigmoid(λ_0 + λ_1 z) = c · N(z; μ + λ_1 ζ², ζ²) · sigmoid(−λ_0 − λ_1 z),  log c = λ_0 + λ_1 μ + λ_1²
    ζ²/2.

    Where log c = 0 in every column, both give what is observed the same law: p(X_o, R) does not determine p(X_o),
    although A1 to A3 hold (μ = 0, ζ² = 1, λ = (−2, −2) and its twin μ = −2, λ = (2, 2) are such a pair).
    """
    mu, zeta, intercept, slope = parameters
    log_c = intercept + slope * np.asarray(mu) + slope**2 * zeta**2 / 2
    return Twin(Parameters(np.asarray(mu) + slope * zeta**2, zeta, -intercept, -slope), log_c)


def _hessian(
    function: Callable[[NDArray[np.float64]], float], at: NDArray[np.float64], step: float = 1e-3
) -> NDArray[np.float64]:
    """Central differences."""
    moves = np.eye(len(at)) * step
    return np.array(
        [
            [function(at + a + b) - function(at + a - b) - function(at - a + b) + function(at - a - b) for b in moves]
            for a in moves
        ]
    ) / (4 * step**2)
