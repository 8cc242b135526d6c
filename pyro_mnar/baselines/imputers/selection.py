"""Where a column's values begin to go missing, and how sharply: normal regression with probit self-masking.

    y = βᵀw + σε,    P(missing | y) = Φ((y - b) / τ)

A selection model (Diggle & Kenward 1994) of one column, given complete ones.  The missing value is summed out exactly,

    p(observed, y | w) = N(y; βᵀw, σ²) Φ((b - y) / τ),    p(missing | w) = Φ((βᵀw - b) / √(σ² + τ²)),

so that a threshold (τ = 0, the Tobit model with its limit unknown) is found as readily as a slope: with draws of the
missing value, weights of zero and one hide it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_ndtr

from pyro_mnar.graphs.gap_evidence import HALF_LOG_TWO_PI, has_atom, inverse_mills

STARTS = (0.5, 2.0, 8.0)  # steepness 1/τ, in standard deviations of what is observed
LOG_STEEPNESS = (-4.0, 7.0)
LOG_NOISE = (-5.0, 3.0)
SHARP = 0.01  # narrower than this, every value beyond the threshold is missing
EDGE = 0.5  # of the seen values' upper spread; a threshold leaves less of it beyond their ninth decile
WEIGHT_PRECISION = 1e-3  # of a normal prior on β, so that collinear predictors have an estimate


class Selection(NamedTuple):
    """Which values of a column go missing: the high ones, with probability Φ((y - threshold) / width).

    Attributes:
        threshold: b.
        width: τ; 0 if everything above the threshold is missing and nothing below.
        log_likelihood: Of the column's values and gaps given the predictors.
    """

    threshold: float
    width: float
    log_likelihood: float


def fit_selection(y: Float[NDArray, " rows"], predictors: Float[NDArray, "rows predictors"]) -> Selection:
    """Maximise the likelihood of what is seen of a column, and of where it is not.

    Args:
        y: The column, of spread about one, NaN in the gaps; high values are taken to be missing.
        predictors: Complete columns, of spread about one.

    Raises:
        ValueError: If there is no gap, or fewer than two different values are observed.
    """
    missing = np.isnan(y)
    seen = y[~missing]
    if not missing.any():
        raise ValueError("selection: expected a column with gaps, got none")
    if seen.size < 2 or seen.min() == seen.max():
        raise ValueError("selection: expected at least two different observed values, got fewer")
    design = np.concatenate([np.ones((len(y), 1)), predictors], axis=1)
    weights = np.linalg.lstsq(design[~missing], seen, rcond=None)[0]
    free = [(None, None)] * design.shape[1]
    found = [
        minimize(
            negative_log_likelihood,
            np.concatenate([weights, [0.0, np.quantile(seen, 0.9), np.log(steepness)]]),
            args=(y, design),
            jac=True,
            method="L-BFGS-B",
            bounds=[*free, LOG_NOISE, (None, None), LOG_STEEPNESS],
        )
        for steepness in STARTS
    ]
    best = min(found, key=lambda result: result.fun)
    width = float(np.exp(-best.x[-1]))
    if width < SHARP:
        return Selection(float(seen.max()), 0.0, -float(best.fun))
    return Selection(float(best.x[-2]), width, -float(best.fun))


def negative_log_likelihood(
    parameters: Float[NDArray, " parameters"],
    y: Float[NDArray, " rows"],
    design: Float[NDArray, "rows predictors"],
) -> tuple[float, Float[NDArray, " parameters"]]:
    """-log p(y_observed, r | w) less the log prior of β, and its gradient.

    Args:
        parameters: β, log σ, b, -log τ.
        y: NaN where missing.
        design: w.
    """
    beta, (log_noise, threshold, log_steepness) = parameters[:-3], parameters[-3:]
    noise, steepness = np.exp(log_noise), np.exp(log_steepness)
    missing = np.isnan(y)
    seen, of_seen, of_gaps = y[~missing], design[~missing], design[missing]
    spread = np.hypot(noise, 1 / steepness)

    error = (seen - of_seen @ beta) / noise
    below = steepness * (threshold - seen)
    above = (of_gaps @ beta - threshold) / spread
    log_likelihood = (
        -0.5 * error @ error
        - error.size * (log_noise + HALF_LOG_TWO_PI)
        + log_ndtr(below).sum()
        + log_ndtr(above).sum()
        - 0.5 * WEIGHT_PRECISION * beta @ beta
    )
    d_below, d_above = inverse_mills(below), inverse_mills(above)
    slope = np.concatenate(
        [
            of_seen.T @ error / noise + of_gaps.T @ d_above / spread - WEIGHT_PRECISION * beta,
            [
                error @ error - error.size - (d_above @ above) * (noise / spread) ** 2,
                steepness * d_below.sum() - d_above.sum() / spread,
                d_below @ below + (d_above @ above) / (spread * steepness) ** 2,
            ],
        ]
    )
    return -float(log_likelihood), -slope


def common_direction(
    x: Float[NDArray, "rows columns"],
    predictors: Float[NDArray, "rows predictors"],
    hidden: Bool[NDArray, "rows columns"],
) -> int:
    """-1 if high values go missing in all columns, +1 if low ones do: the sign under which the data are likelier.

    Columns in which one value is more than half of what is seen, such as amounts that are mostly zero, have no say: to
    a density, an atom at the edge is a threshold there, and as much evidence for it as one likes.  -1 if none has.

    Arguments as for :func:`selections`.
    """
    spread = np.array([not has_atom(column[~np.isnan(column)]) for column in x.T])
    x, hidden = x[:, spread], hidden[:, spread]
    likelihood = {
        sign: sum(found.log_likelihood for found in selections(-sign * x, predictors, hidden) if found is not None)
        for sign in (-1, 1)
    }
    return max(likelihood, key=lambda sign: likelihood[sign])


def selections(
    x: Float[NDArray, "rows columns"],
    predictors: Float[NDArray, "rows predictors"],
    hidden: Bool[NDArray, "rows columns"],
) -> Sequence[Selection | None]:
    """Of each column, given complete ones; None for columns without hidden values or without spread.

    Args:
        x: Values, of spread about one, NaN in the gaps; high ones are taken to be missing.
        predictors: Complete columns.
        hidden: Gaps that their values caused; rows with another gap in a column are left out for it.
    """
    found: list[Selection | None] = []
    for column, gaps in zip(x.T, hidden.T, strict=True):
        used = gaps | ~np.isnan(column)
        has_spread = np.unique(column[used & ~gaps]).size > 1
        found.append(fit_selection(column[used], predictors[used]) if gaps.any() and has_spread else None)
    return found


def has_threshold(seen: Float[NDArray, " values"], found: Selection | None) -> bool:
    """Whether everything above the highest seen value may be taken to be missing, and nothing below.

    It may if the likelihood says so, or if it finds a slope less than one standard deviation wide and the seen values
    break off: a skewed column bends before its threshold, which to a normal law is a gentle slope, but under a slope
    seen values thin out, so that the highest lies far from the ninth decile.

    Args:
        seen: Observed values of the column.
        found: What :func:`selections` found; None is no threshold.
    """
    if found is None or found.width == 0:
        return found is not None
    middle, ninth = np.quantile(seen, [0.5, 0.9])
    return bool(found.width < 1 and seen.max() - ninth < EDGE * (ninth - middle))
