"""By what experiments judge: distances between samples (section 6.1), and how well imputations meet the truth.

Columns are brought to one unit before, since distances and errors add up over them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist

ROWS_AT_ONCE = 512


def energy_distance(x: ArrayLike, y: ArrayLike) -> float:
    """2E‖X−Y‖ − E‖X−X'‖ − E‖Y−Y'‖, zero exactly where both have one law.

    The estimate is unbiased (pairs of a row with itself are left out), so equal laws give values around zero, below it
    too.

    Args:
        x: One sample, ``(rows, columns)``; bring columns to one unit first (the truth's standard deviations in the
            paper's experiments), since distances add up over columns.
        y: The other one, ``(other_rows, columns)``.

    Returns:
        The distance, in the units of the columns.  Memory grows with ``rows``, not with ``rows * other_rows``.

    Raises:
        ValueError: If a sample is no matrix of at least two rows, holds a gap, or the two have different columns.

    References:
        Székely & Rizzo (2013), Energy statistics: a class of statistics based on distances.
    """
    first, second = _samples(x, y)
    between = _total(first, second) / (len(first) * len(second))
    within = sum(_total(sample, sample) / (len(sample) * (len(sample) - 1)) for sample in (first, second))
    return 2 * between - within


def debiased_mse(truth: ArrayLike, predicted: ArrayLike, columns: ArrayLike) -> float:
    """Mean over columns of each column's mean squared error, so that one that is often answered weighs no more (Table
    2; Wang et al. 2018).

    Args:
        truth: Values of some cells, ``(cells,)``.
        predicted: What was predicted of them, ``(cells,)``.
        columns: The column of each cell; those without a cell do not count; ``(cells,)``.

    Raises:
        ValueError: If there is no cell, or the three have different lengths.
    """
    true, guess, column = np.asarray(truth, dtype=np.float64), np.asarray(predicted, np.float64), np.asarray(columns)
    if not (true.ndim == 1 and len(true) and true.shape == guess.shape == column.shape):
        raise ValueError(f"expected cells of one number, got shapes {true.shape}, {guess.shape} and {column.shape}")
    _, codes = np.unique(column, return_inverse=True)
    return float((np.bincount(codes, (true - guess) ** 2) / np.bincount(codes)).mean())


def sliced_wasserstein(x: ArrayLike, y: ArrayLike, *, projections: int = 200, seed: int = 0) -> float:
    """Root mean square over random directions of the projections' Wasserstein-2 distance.

    Args:
        x: One sample, ``(rows, columns)``.
        y: The other one, ``(other_rows, columns)``.
        projections: Number of directions, uniform on the sphere.
        seed: Of the directions.

    Returns:
        The distance, in the units of the columns; zero only where both samples are one.

    Raises:
        ValueError: As for :func:`energy_distance`.

    References:
        Bonneel et al. (2015), Sliced and Radon Wasserstein barycenters of measures.
    """
    first, second = _samples(x, y)
    directions = np.random.default_rng(seed).normal(size=(first.shape[1], projections))
    directions /= np.linalg.norm(directions, axis=0)
    one, other = np.sort(first @ directions, axis=0), np.sort(second @ directions, axis=0)
    # Both quantile functions are constant between the steps of the two samples.
    steps = np.union1d(np.arange(1, len(one) + 1) / len(one), np.arange(1, len(other) + 1) / len(other))
    widths = np.diff(steps, prepend=0.0)
    middles = steps - widths / 2
    gaps = one[(middles * len(one)).astype(int)] - other[(middles * len(other)).astype(int)]
    return float(np.sqrt(widths @ (gaps**2).mean(axis=1)))


def crps(draws: ArrayLike, truth: ArrayLike) -> NDArray[np.float64]:
    """Continuous ranked probability score, E|X−t| − E|X−X'|/2: how far a predictive law stands from what was true.

    Args:
        draws: Draws from the predictive law of each cell, ``(draws, cells)``, at least two.
        truth: What was true, ``(cells,)``.

    Returns:
        The score of each cell, in its unit, unbiased in the number of draws; ``(cells,)``.

    Raises:
        ValueError: If there are fewer than two draws, or shapes do not fit.

    References:
        Gneiting & Raftery (2007), Strictly proper scoring rules; the estimator without pairs of a draw with itself is
        Ferro's (2014).
    """
    drawn, true = _draws(draws, truth)
    ordered, count = np.sort(drawn, axis=0), len(drawn)
    # Σ_ij |x_i − x_j| / 2 = Σ_i (2i − n − 1) x_(i) over the ordered draws.
    weights = 2 * np.arange(1, count + 1) - count - 1
    return np.abs(drawn - true).mean(axis=0) - weights @ ordered / (count * (count - 1))


def coverage(draws: ArrayLike, truth: ArrayLike, level: float) -> float:
    """Share of cells whose truth lies in the central interval of its draws.

    Args:
        draws: Draws from the predictive law of each cell, ``(draws, cells)``.
        truth: What was true, ``(cells,)``.
        level: Probability that the interval is meant to hold, between 0 and 1.

    Raises:
        ValueError: If the level is out of range, or shapes do not fit.
    """
    if not 0 < level < 1:
        raise ValueError(f"level: expected a probability between 0 and 1, got {level}")
    drawn, true = _draws(draws, truth)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return float(np.mean((low <= true) & (true <= high)))


def _samples(x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first, second = _sample(x, "x"), _sample(y, "y")
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"expected samples of the same columns, got {first.shape[1]} and {second.shape[1]} of them")
    return first, second


def _draws(draws: ArrayLike, truth: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    drawn, true = np.asarray(draws, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if drawn.ndim != 2 or len(drawn) < 2 or true.shape != drawn.shape[1:]:
        raise ValueError(
            "draws, truth: expected shapes (draws, cells) with at least 2 draws and (cells,), got"
            f" {drawn.shape} and {true.shape}"
        )
    return drawn, true


def _sample(given: ArrayLike, name: str) -> NDArray[np.float64]:
    sample = np.asarray(given, dtype=np.float64)
    if sample.ndim != 2 or len(sample) < 2:
        raise ValueError(f"{name}: expected shape (rows, columns) with at least 2 rows, got shape {sample.shape}")
    if not np.isfinite(sample).all():
        raise ValueError(f"{name}: expected finite numbers, got {sample[~np.isfinite(sample)][0]}")
    return sample


def _total(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    starts = range(0, len(first), ROWS_AT_ONCE)
    return float(sum(cdist(first[start : start + ROWS_AT_ONCE], second).sum() for start in starts))
