"""Propensities of ratings: the probability that a cell is rated (Schnabel et al. 2016, section 4)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from pyro_mnar.baselines.protocol import check_ratings, check_values
from pyro_mnar.memory import check_room

Propensities = Callable[[pd.DataFrame, tuple[int, int]], NDArray[np.float64]]

RIDGE = 0.01


def logistic_propensities(train: pd.DataFrame, shape: tuple[int, int]) -> NDArray[np.float64]:
    """sigmoid(a + b_i + c_j) at the rated cells, from who rates how much and what is rated how often.

    With no features of rows and columns given, the logistic regression is on their identities.

    Args:
        train: Ratings, as :class:`~pyro_mnar.baselines.RatingPredictor` takes them.
        shape: Number of rows and of columns.
    """
    check_ratings(train, shape)
    check_room("shape", shape[0] * shape[1], 3 * 8.0, "all cells, rated or not")
    rows, columns = train["row"].to_numpy(), train["column"].to_numpy()
    totals = [np.bincount(rows, minlength=shape[0]), np.bincount(columns, minlength=shape[1])]
    rate = np.clip(len(train) / (shape[0] * shape[1]), 1e-6, 1 - 1e-6)
    intercept = np.log(rate / (1 - rate))

    def loss(both: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits = intercept + both[: shape[0], None] + both[None, shape[0] :]
        value = np.logaddexp(0.0, logits).sum() - (logits[rows, columns]).sum() + 0.5 * RIDGE * both @ both
        probability = expit(logits)
        slope = np.concatenate([probability.sum(1) - totals[0], probability.sum(0) - totals[1]]) + RIDGE * both
        return float(value), slope

    both = minimize(loss, np.zeros(sum(shape)), jac=True, method="L-BFGS-B").x
    return expit(intercept + both[: shape[0]][rows] + both[shape[0] :][columns])


def naive_bayes_propensities(random_ratings: pd.DataFrame) -> Propensities:
    """P(rated | x) = P(x | rated) P(rated) / P(x), with P(x) from ratings of randomly chosen cells.

    Args:
        random_ratings: Such ratings, set aside for this alone: they cannot serve to test too.

    Returns:
        A function of training ratings and shape.
    """
    check_values(random_ratings)

    def propensities(train: pd.DataFrame, shape: tuple[int, int]) -> NDArray[np.float64]:
        check_ratings(train, shape)
        levels = np.union1d(train["value"], random_ratings["value"])
        # One more of each level, so that none is impossible.
        counts = [
            np.bincount(np.searchsorted(levels, ratings["value"]), minlength=len(levels)) + 1.0
            for ratings in (train, random_ratings)
        ]
        rated, anywhere = (count / count.sum() for count in counts)
        by_level = np.minimum(rated / anywhere * len(train) / (shape[0] * shape[1]), 1.0)
        return by_level[np.searchsorted(levels, train["value"])]

    return propensities
