"""A linear-Gaussian law of a table given covariates, and what it says of latents and cells of rows with gaps.

    x_d = β_dᵀu + b_d + λ_dᵀf + √ψ_d e_d,    f ~ N(0, I)

:mod:`pyro_mnar.models.factor_em` finds it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray


class Factors(NamedTuple):
    """Parameters of the law of x given u.

    Attributes:
        loadings: λ; ``(columns, factors)``.
        of_covariates: β; ``(columns, covariates)``.
        offset: b; ``(columns,)``.
        variance: ψ; ``(columns,)``.
    """

    loadings: Float[NDArray, "columns factors"]
    of_covariates: Float[NDArray, "columns covariates"]
    offset: Float[NDArray, " columns"]
    variance: Float[NDArray, " columns"]


class Cells(NamedTuple):
    """What is known of each cell: a value with a precision of its own, on top of the column's noise.

    Attributes:
        value: ``(rows, columns)``.
        precision: Infinite where the cell is seen, zero where nothing is known.
    """

    value: Float[NDArray, "rows columns"]
    precision: Float[NDArray, "rows columns"]


class Expected(NamedTuple):
    """The law of each cell given the rest of its row, normal.

    Attributes:
        mean: ``(rows, columns)``.
        variance: ``(rows, columns)``.
    """

    mean: Float[NDArray, "rows columns"]
    variance: Float[NDArray, "rows columns"]


class Posterior(NamedTuple):
    """Normal posterior of latents.

    Attributes:
        mean: ``(rows, latents)``.
        covariance: ``(rows, latents, latents)``.
    """

    mean: Float[NDArray, "rows latents"]
    covariance: Float[NDArray, "rows latents latents"]


def posterior(
    loadings: Float[NDArray, "columns latents"],
    level: Float[NDArray, "rows columns"],
    variance: Float[NDArray, " columns"],
    cells: Cells,
    prior_variance: Float[NDArray, " latents"] | None = None,
) -> Posterior:
    """Of latents that are normal around zero beforehand.

    Args:
        loadings: λ.
        level: What the cells are expected to be where the latents are zero.
        variance: ψ.
        cells: What is known of them.
        prior_variance: Of the latents; one, if not given.
    """
    rows, latents = len(level), loadings.shape[1]
    weight = weights(variance, cells)
    outer = (loadings[:, :, None] * loadings[:, None, :]).reshape(len(loadings), latents**2)
    precision = (weight @ outer).reshape(rows, latents, latents)
    at = np.arange(latents)
    precision[:, at, at] += 1.0 if prior_variance is None else 1 / prior_variance
    covariance = torch.linalg.inv_ex(torch.from_numpy(precision))[0].numpy()  # of few latents a third of NumPy's time
    mean = np.einsum("nij,nj->ni", covariance, (weight * (cells.value - level)) @ loadings)
    return Posterior(mean, covariance)


def canonical(factors: Factors) -> Factors:
    """The same law with factors turned so that they are independent given a complete row."""
    scaled = factors.loadings / np.sqrt(factors.variance)[:, None]
    _, _, turn = np.linalg.svd(scaled, full_matrices=False)
    if len(turn) < scaled.shape[1]:
        turn = np.linalg.svd(scaled)[2]
    return factors._replace(loadings=factors.loadings @ turn.T)


def log_likelihood(
    factors: Factors,
    x: Float[NDArray, "rows columns"],
    seen: Bool[NDArray, "rows columns"],
    covariates: Float[NDArray, "rows covariates"],
) -> float:
    """Of the seen values, in nats up to a constant; gaps say nothing."""
    level = covariates @ factors.of_covariates.T + factors.offset
    cells = Cells(np.where(seen, x, 0.0), np.where(seen, np.inf, 0.0))
    found = posterior(factors.loadings, level, factors.variance, cells)
    weight = weights(factors.variance, cells)
    rest = weight * (cells.value - level)
    told = np.einsum("ni,ni->", found.mean, rest @ factors.loadings)
    _, log_determinant = np.linalg.slogdet(found.covariance)
    squares = (rest * (cells.value - level)).sum() - told
    return 0.5 * float(log_determinant.sum() - squares - (seen * np.log(factors.variance)).sum())


def expected_without_own(factors: Factors, covariates: Float[NDArray, "rows covariates"], cells: Cells) -> Expected:
    """What the rest of its row makes one expect of each cell."""
    level = covariates @ factors.of_covariates.T + factors.offset
    found = posterior(factors.loadings, level, factors.variance, cells)
    mean = found.mean @ factors.loadings.T
    spread = np.einsum("nij,di,dj->nd", found.covariance, factors.loadings, factors.loadings, optimize=True)
    weight = weights(factors.variance, cells)
    own = np.minimum(weight * spread, 1 - 1e-6)
    return Expected(level + (mean - own * (cells.value - level)) / (1 - own), spread / (1 - own) + factors.variance)


def weights(variance: Float[NDArray, " columns"], cells: Cells) -> Float[NDArray, "rows columns"]:
    """Precision of each cell about its level."""
    seen = np.isinf(cells.precision)
    finite = np.where(seen, 0.0, cells.precision)
    return np.where(seen, 1 / variance, finite / (finite * variance + 1))
