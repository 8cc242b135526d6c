"""Regressions of a column's values, and of where it has gaps, on complete columns."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

RIDGE = 1.0  # precision of a normal prior on slopes
MOST_CAUSES = 8  # complete columns that explain one column's gaps

Vector = Float[NDArray, " rows"]
Predictors = Float[NDArray, "rows predictors"]


def ridge_regression(y: Vector, seen: Bool[NDArray, " rows"], design: Float[NDArray, "rows twice"]) -> Vector:
    """What the predictors say of the column, less its mean, by ridge regression on the seen values."""
    middle, of_seen = design[seen].mean(0), design[seen] - design[seen].mean(0)
    beta = np.linalg.solve(
        of_seen.T @ of_seen + RIDGE * np.eye(design.shape[1]), of_seen.T @ (y[seen] - y[seen].mean())
    )
    return (design - middle) @ beta


def nats_beside(y: Vector, seen: Bool[NDArray, " rows"], known: Predictors, more: Predictors) -> float:
    """By how much more predictors make the seen values likelier than known ones alone, less the price of their slopes
    (Schwarz 1978); below zero where they do not help.
    """
    both = np.concatenate([known, more], axis=1)
    without, within = (
        max(float((y - ridge_regression(y, seen, design))[seen].var()), 1e-12) for design in (known, both)
    )
    count = int(seen.sum())
    return 0.5 * count * float(np.log(without / within)) - 0.5 * float(np.log(count)) * more.shape[1]


def seen_causes(r: Vector, predictors: Predictors, nothing: float) -> tuple[list[int], float]:
    """Predictors taken in one after the other as long as they pay, and the log-likelihood less their price.

    The price of one is that of a slope and of the choice among all (the extended criterion of Chen & Chen 2008).
    """
    rows, width = predictors.shape
    price = 0.5 * np.log(rows) + np.log(max(width, 1))
    chosen: list[int] = []
    found, best = logistic_regression(r, predictors[:, :0]), nothing
    while len(chosen) < min(width, MOST_CAUSES):
        tried = [*chosen, _likeliest_cause(r, predictors, chosen, found)]
        found = logistic_regression(r, predictors[:, tried])
        score = found.log_likelihood - price * len(tried)
        if score <= best:
            break
        chosen, best = tried, score
    return chosen, best


def _likeliest_cause(r: Vector, predictors: Predictors, chosen: list[int], found: LogisticRegression) -> int:
    """Of the predictors that are not chosen yet that of the greatest score statistic (Rao 1948), beside those that are.

    It is what the logistic regression with it gains over the one that was found with those, to second order, and takes
    none for each of them.
    """
    from scipy.special import expit

    chance = expit(predictors[:, chosen] @ found.slopes + found.intercept)
    root = np.sqrt(chance * (1 - chance) + 1e-9)[:, None]
    known, _ = np.linalg.qr(root * np.concatenate([predictors[:, chosen], np.ones((len(r), 1))], axis=1))
    others = root * predictors
    rest = np.maximum((others**2).sum(0) - ((known.T @ others) ** 2).sum(0), 0.0)
    is_new = rest > 1e-9 * (others**2).sum(0)
    is_new[chosen] = False
    gain = np.where(is_new, ((r - chance) @ predictors) ** 2 / np.where(is_new, rest, 1.0), -1.0)
    gain[chosen] = -2.0
    return int(gain.argmax())


class LogisticRegression(NamedTuple):
    """The maximum of a logistic regression.

    Attributes:
        slopes: ``(predictors,)``.
        intercept: Log-odds where the predictors are zero.
        log_likelihood: In nats, less half the square of the slopes under their prior.
    """

    slopes: Float[NDArray, " predictors"]
    intercept: float
    log_likelihood: float


def logistic_regression(r: Vector, predictors: Predictors) -> LogisticRegression:
    """Regress zeros and ones on predictors, by Newton's method; a weak prior keeps slopes finite."""
    from scipy.special import expit, log_expit

    design = np.concatenate([predictors, np.ones((len(r), 1))], axis=1)
    precision = np.diag([*[0.1] * predictors.shape[1], 1e-6])
    beta = np.zeros(design.shape[1])
    for _ in range(25):
        chance = expit(design @ beta)
        curvature = design.T @ (design * (chance * (1 - chance) + 1e-9)[:, None]) + precision
        step = np.linalg.solve(curvature, design.T @ (r - chance) - precision @ beta)
        beta = beta + step
        if np.abs(step).max() < 1e-7:
            break
    log_odds = design @ beta
    likelihood = (r * log_expit(log_odds) + (1 - r) * log_expit(-log_odds)).sum() - 0.5 * beta @ precision @ beta
    return LogisticRegression(beta[:-1], float(beta[-1]), float(likelihood))
