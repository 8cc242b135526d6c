"""How many factors a table speaks for."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from pyro_mnar.models.factor_em import regressed

LEAST_UNIQUE = 0.02  # share of a column's variance that is its own


def number_of_factors(
    x: Float[NDArray, "rows columns"],
    seen: Bool[NDArray, "rows columns"],
    covariates: Float[NDArray, "rows covariates"],
    most: int,
) -> int:
    """How many factors the correlations of what the covariates leave speak for (Schwarz 1978).

    Correlations are those of the rows that show both columns; they are made positive definite, so that likelihoods of
    factor analysis can be compared.  Columns that the covariates explain wholly have no say.
    """
    rest = np.where(seen, x, 0.0)
    if covariates.shape[1]:
        of_covariates, offset = regressed(rest, seen, covariates)
        rest = np.where(seen, x - covariates @ of_covariates.T - offset, 0.0)
    has_spread = rest.std(0) > 0.05
    rest, seen = rest[:, has_spread], seen[:, has_spread]
    width = rest.shape[1]
    if width < 2 or most < 1:
        return 0
    together = np.maximum(seen.T.astype(np.float64) @ seen, 1)
    count = float(together.min())
    correlation = _correlation(rest.T @ rest / together)
    best, found, without = -np.inf, 0, 0
    for factors in range(min(most, width - 1) + 1):
        likelihood = _likelihood_of_correlation(correlation, factors)
        free = width * factors - factors * (factors - 1) / 2
        score = count * likelihood - 0.5 * free * np.log(count)
        best, found, without = (score, factors, 0) if score > best else (best, found, without + 1)
        if without == 2:
            break
    return found


def _correlation(covariance: Float[NDArray, "columns columns"]) -> Float[NDArray, "columns columns"]:
    """Of a covariance that need not be positive definite."""
    scale = np.sqrt(np.maximum(covariance.diagonal(), 1e-6))
    values, vectors = np.linalg.eigh(covariance / scale[:, None] / scale)
    raised = (vectors * np.maximum(values, LEAST_UNIQUE)) @ vectors.T
    scale = np.sqrt(raised.diagonal())
    return raised / scale[:, None] / scale


def _likelihood_of_correlation(correlation: Float[NDArray, "columns columns"], factors: int) -> float:
    """Nats a row under so many factors, up to a constant: iterated principal factors (Joreskog 1967)."""
    unique = np.maximum(1 / np.linalg.inv(correlation).diagonal(), LEAST_UNIQUE)
    loadings = np.zeros((len(correlation), factors))
    for _ in range(20 if factors else 0):
        root = np.sqrt(unique)
        values, vectors = np.linalg.eigh(correlation / root[:, None] / root)
        largest, turned = values[::-1][:factors], vectors[:, ::-1][:, :factors]
        loadings = turned * np.sqrt(np.maximum(largest - 1, 0.0)) * root[:, None]
        unique = np.maximum(correlation.diagonal() - (loadings**2).sum(1), LEAST_UNIQUE)
    implied = loadings @ loadings.T + np.diag(unique if factors else correlation.diagonal())
    return -0.5 * float(np.linalg.slogdet(implied)[1] + np.trace(np.linalg.solve(implied, correlation)))
