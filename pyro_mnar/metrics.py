"""How far one sample stands from another: the energy distance by which generated rows are judged (section 6.1)."""

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
    first, second = _sample(x, "x"), _sample(y, "y")
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"expected samples of the same columns, got {first.shape[1]} and {second.shape[1]} of them")
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
