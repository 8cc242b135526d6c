"""Maximum likelihood of a linear-Gaussian model of a table whose values may mask themselves, by EM.

    x_d = β_dᵀu + b_d + λ_dᵀf + √ψ_d e_d,    f ~ N(0, I),    P(R_d = 0 | x_d) = σ(-(a_d + s_d x_d))

Factor analysis with covariates, of rows with gaps.  Gaps that nothing in their own value causes are left out of a row;
those that it does cause have a factor σ in the posterior of f, which expectation propagation replaces by a normal one
(Minka 2001), so that no round draws anything.  Its moments are those of a mixture of probits
(:mod:`pyro_mnar.distributions.logistic_means`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from pyro_mnar.distributions.logistic_means import of_cells
from pyro_mnar.models.factor_law import Cells, Factors, Posterior, posterior, weights

DAMPING = 0.7  # share of the new approximation in each round
LEAST_VARIANCE = 2.5e-3  # of a column's noise: 0.05 standard deviations
REGRESSIONS = 8  # of a column on u: each is held by what the last one found; from the freest on


class OwnLogOdds(NamedTuple):
    """How a column's own value decides on its gaps: P(R_d = 1 | x_d) = σ(a_d + s_d x_d); no part where s_d is zero.

    Attributes:
        intercept: a; ``(columns,)``.
        slope: s; ``(columns,)``.
    """

    intercept: Float[NDArray, " columns"]
    slope: Float[NDArray, " columns"]


def fit_factors(
    x: Float[NDArray, "rows columns"],
    seen: Bool[NDArray, "rows columns"],
    covariates: Float[NDArray, "rows covariates"],
    num_factors: int,
    *,
    variance: Float[NDArray, " columns"],
    of_own: OwnLogOdds,
    masked: Bool[NDArray, "rows columns"],
    shrinkage: float = 0.0,
    rounds: int = 30,
    first: tuple[Factors, Cells] | None = None,
) -> tuple[Factors, Cells]:
    """Estimate the factors, by default from where the principal components of the seen values put them.

    Args:
        x: Standardised values, any number in the gaps.
        seen: Where there are values.
        covariates: u, complete; of spread about one.
        num_factors: Width of f.
        variance: ψ where it is fixed, NaN where it is estimated.
        of_own: Mechanisms of columns that mask themselves; held.
        masked: Gaps that these mechanisms explain.
        shrinkage: Precision of a prior on λ and β (:func:`shrinkage_at`).
        rounds: Of EM.
        first: What an earlier call gave, to go on from.

    Returns:
        The parameters, and what the last round knew of each cell.
    """
    x = np.where(seen, x, 0.0)
    masked = masked & (of_own.slope != 0)
    if first is None:
        factors = _first_factors(x, seen, covariates, num_factors, variance, shrinkage)
        cells = Cells(x, np.where(seen, np.inf, 0.0))
    else:
        factors, cells = first
    site_precision = np.where(seen, 0.0, cells.precision)
    site_value = site_precision * cells.value
    ones = np.ones((len(x), 1))
    for _ in range(rounds):
        level = covariates @ factors.of_covariates.T + factors.offset
        found = posterior(factors.loadings, level, factors.variance, cells)
        if masked.any():
            new = _sites(factors, level, found, cells, masked, of_own)
            site_precision = np.where(masked, (1 - DAMPING) * site_precision + DAMPING * new[1], 0.0)
            site_value = np.where(masked, (1 - DAMPING) * site_value + DAMPING * new[0], 0.0)
            safe = np.where(site_precision > 0, site_precision, 1.0)
            cells = Cells(
                np.where(seen, x, np.where(site_precision > 0, site_value / safe, 0.0)),
                np.where(seen, np.inf, site_precision),
            )
            found = posterior(factors.loadings, level, factors.variance, cells)
        known = np.concatenate([covariates, ones], axis=1)
        factors = _maximised(factors, found, known, cells, variance, shrinkage)
    return factors, cells


def regressed(
    x: Float[NDArray, "rows columns"],
    seen: Bool[NDArray, "rows columns"],
    covariates: Float[NDArray, "rows covariates"],
    shrinkage: float = 0.0,
) -> tuple[Float[NDArray, "columns covariates"], Float[NDArray, " columns"]]:
    """β and b by least squares on the seen values, what they leave taken for noise.

    Args:
        x: Values, zero in the gaps.
        seen: Where there are values.
        covariates: u, complete.
        shrinkage: Precision of a prior on β (:func:`shrinkage_at`); a weak one is taken at least.
    """
    offset = x.sum(0) / np.maximum(seen.sum(0), 1)
    of_covariates = np.zeros((x.shape[1], covariates.shape[1]))
    if covariates.shape[1]:
        known = np.concatenate([covariates, np.ones((len(x), 1))], axis=1)
        for column in range(x.shape[1]):
            own, values = known[seen[:, column]], x[seen[:, column], column]
            gram, product, precision = own.T @ own, own.T @ values, 0.0
            for _ in range(REGRESSIONS if shrinkage else 1):
                ridge = np.diag([max(precision, 1e-3)] * covariates.shape[1] + [1e-6])
                solved = np.linalg.solve(gram + ridge, product)
                variance = np.square(values - own @ solved).sum() / max(len(values), 1)
                precision = float(variance * shrinkage_at(shrinkage, solved[None, :-1])[0])
            of_covariates[column], offset[column] = solved[:-1], solved[-1]
    return of_covariates, offset


def shrinkage_at(shrinkage: float, maps: Float[NDArray, "columns latents"]) -> Float[NDArray, " columns"]:
    """Precision of the normal prior that has the slope there of the one on the maps of each column.

    This is normal as long as a column's squares sum to one at most, and has a power for a tail beyond.
    """
    return shrinkage / np.maximum((maps**2).sum(-1), 1.0)


def _first_factors(
    x: Float[NDArray, "rows columns"],
    seen: Bool[NDArray, "rows columns"],
    covariates: Float[NDArray, "rows covariates"],
    num_factors: int,
    variance: Float[NDArray, " columns"],
    shrinkage: float,
) -> Factors:
    """Least squares on the covariates, principal components of what is left."""
    of_covariates, offset = regressed(x, seen, covariates, shrinkage)
    rest = np.where(seen, x - covariates @ of_covariates.T - offset, 0.0)
    together = np.maximum(seen.T.astype(np.float64) @ seen, 1)
    scatter = rest.T @ rest / together
    values, vectors = np.linalg.eigh(scatter)
    values, vectors = values[::-1], vectors[:, ::-1]
    noise = max(values[num_factors:].mean() if num_factors < len(values) else 0.0, LEAST_VARIANCE)
    size = np.zeros(num_factors)
    used = min(num_factors, len(values))
    size[:used] = np.sqrt(np.maximum(values[:used] - noise, 1e-4))
    loadings = np.zeros((x.shape[1], num_factors))
    loadings[:, :used] = vectors[:, :used] * size[:used]
    left = np.maximum(np.diag(scatter) - (loadings**2).sum(1), LEAST_VARIANCE)
    return Factors(loadings, of_covariates, offset, np.where(np.isnan(variance), left, variance))


def _sites(
    factors: Factors,
    level: Float[NDArray, "rows columns"],
    found: Posterior,
    cells: Cells,
    masked: Bool[NDArray, "rows columns"],
    of_own: OwnLogOdds,
) -> tuple[Float[NDArray, "rows columns"], Float[NDArray, "rows columns"]]:
    """Precision times mean, and precision, of the normal that stands for each gap's σ."""
    value, precision = np.zeros_like(level), np.zeros_like(level)
    weight = weights(factors.variance, cells)
    for column in np.flatnonzero(masked.any(0)):
        rows = masked[:, column]
        loading, psi, slope = factors.loadings[column], factors.variance[column], of_own.slope[column]
        mean = level[rows, column] + found.mean[rows] @ loading
        spread = np.einsum("nij,i,j->n", found.covariance[rows], loading, loading)
        own = weight[rows, column]
        without = np.maximum(1 - own * spread, 1e-6)
        cavity = spread / without
        mean = (mean - own * spread * cells.value[rows, column]) / without
        total = cavity + psi
        predictor = torch.as_tensor(-(of_own.intercept[column] + slope * mean))
        _, by_mean, by_variance = (part.numpy() for part in of_cells(predictor, torch.as_tensor(slope**2 * total)))
        curvature = 2 * by_variance - by_mean**2  # of the logarithm; ∂/∂s² is half the second derivative by m
        new_mean = mean - total * slope * by_mean
        shrunk = np.clip(1 + total * slope**2 * curvature, 1e-4, 1 - 1e-9)
        precision[rows, column] = (1 / shrunk - 1) / total
        value[rows, column] = (new_mean / shrunk - mean) / total
    return value, precision


def _maximised(
    factors: Factors,
    found: Posterior,
    known: Float[NDArray, "rows known"],
    cells: Cells,
    fixed: Float[NDArray, " columns"],
    shrinkage: float,
) -> Factors:
    """The expected log-likelihood at its maximum."""
    rows, latents = found.mean.shape
    width = latents + known.shape[1]
    joint = np.concatenate([found.mean, known], axis=1)
    moments = joint[:, :, None] * joint[:, None, :]
    moments[:, :latents, :latents] += found.covariance
    flat = moments.reshape(rows, width**2)
    seen = np.isinf(cells.precision)
    finite = np.where(seen, 0.0, cells.precision)
    is_site = finite > 0
    psi = factors.variance
    total = 1 + finite * psi  # x | f is N((f + λ ψ y) / total, ψ / total)
    keep = np.where(is_site, 1 / total, 0.0)
    add = np.where(is_site, finite * psi / total * cells.value, 0.0)
    theta = np.concatenate([factors.loadings, factors.of_covariates, factors.offset[:, None]], axis=1)
    used = seen | is_site
    s = (used.T.astype(np.float64) @ flat).reshape(-1, width, width)
    t = np.where(seen, cells.value, add).T @ joint
    if is_site.any():
        of_sites = (keep.T @ flat).reshape(-1, width, width)
        t = t + np.einsum("dij,dj->di", of_sites, theta)
    precision = shrinkage_at(shrinkage, theta[:, :-1])
    ridge = np.diag([*[1.0] * (width - 1), 0.0])
    scaled = (psi * precision)[:, None, None] * ridge + 1e-9 * psi[:, None, None] * np.eye(width)
    new = np.linalg.solve(s + scaled, t[:, :, None])[:, :, 0]
    squares = np.where(seen, cells.value**2, 0.0).sum(0)
    if is_site.any():
        before = joint @ theta.T
        of_square = np.einsum("dij,di,dj->d", (np.square(keep).T @ flat).reshape(-1, width, width), theta, theta)
        squares = squares + of_square + (2 * keep * add * before + add**2 + np.where(is_site, psi / total, 0.0)).sum(0)
    error = squares - 2 * (new * t).sum(1) + np.einsum("dij,di,dj->d", s, new, new)
    variance = error / np.maximum(used.sum(0), 1)
    variance = np.where(np.isnan(fixed), np.maximum(variance, LEAST_VARIANCE), fixed)
    return Factors(new[:, :latents], new[:, latents:-1], new[:, -1], variance)
