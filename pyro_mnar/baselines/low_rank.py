"""A low-rank model of data and mask together (Sportisse, Boyer & Josse 2020, section 3.2), the implicit MNAR method.

    [X | R] ~ [N(μ + M, 1) | Bernoulli(sigmoid(ν + L))],   [M | L] of low rank

The mask beside the data is more columns of one matrix, so what causes gaps may inform the values. Fitted by maximum
likelihood with the nuclear norm ‖[M | L]‖_* as the penalty: accelerated proximal gradient with soft-thresholded
singular values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from scipy.special import expit

from pyro_mnar.baselines.protocol import completed
from pyro_mnar.table import Table

HELD_OUT = 0.1
PATH = 12  # penalties tried, from the one that leaves no rank down to a thousandth of it


class LowRankFit(NamedTuple):
    """A joint low-rank fit.

    Attributes:
        offset: μ and ν; ``(2 * columns,)``.
        interaction: [M | L]; ``(rows, 2 * columns)``.
        rank: Number of singular values that the penalty left.
    """

    offset: Float[NDArray, " both"]
    interaction: Float[NDArray, "rows both"]
    rank: int


def fit_low_rank(
    x: Float[NDArray, "rows columns"],
    mask: Bool[NDArray, "rows columns"],
    penalty: float,
    *,
    start: LowRankFit | None = None,
    scored: Bool[NDArray, "rows columns"] | None = None,
    max_iterations: int = 500,
    tolerance: float = 1e-6,
) -> LowRankFit:
    """Minimise ½ Σ_observed (x - μ - M)² - log p(R | ν + L) + penalty · ‖[M | L]‖_*.

    Args:
        x: Standardised values; whatever stands in the gaps is not read.
        mask: True where observed.
        penalty: λ; more makes the rank less.
        start: A fit to start from.
        scored: Cells whose R counts; all of them by default.
        max_iterations: Stop after so many steps.
        tolerance: Stop when a step moves no entry by more, on average of squares.
    """
    seen = np.concatenate([mask, np.ones_like(mask) if scored is None else scored], axis=1)
    target = np.concatenate([np.where(mask, x, 0.0), mask.astype(np.float64)], axis=1)
    columns = x.shape[1]

    def slope(fitted: NDArray[np.float64]) -> NDArray[np.float64]:
        means = np.concatenate([fitted[:, :columns], expit(fitted[:, columns:])], axis=1)
        return np.where(seen, means - target, 0.0)

    # A step of 1/2: the losses' curvature is 1 at most, and offset and interaction move at once.
    counts = np.maximum(seen.sum(axis=0), 1)
    offset = np.zeros(2 * columns) if start is None else start.offset
    interaction = np.zeros((len(x), 2 * columns)) if start is None else start.interaction
    rank, momentum = 0, 1.0
    ahead_offset, ahead = offset, interaction
    for _ in range(max_iterations):
        gradient = slope(ahead_offset + ahead)
        new_offset = ahead_offset - 0.5 * gradient.sum(axis=0) / counts
        new, rank = _shrunk(ahead - 0.5 * gradient, 0.5 * penalty)
        moved = np.sqrt(np.mean((new - interaction) ** 2) + np.mean((new_offset - offset) ** 2))
        # Momentum that leads uphill is dropped (O'Donoghue & Candès 2015).
        along = ((ahead - new) * (new - interaction)).sum()
        uphill = along + counts * (ahead_offset - new_offset) @ (new_offset - offset) > 0
        before, momentum = (1.0, 1.0) if uphill else (momentum, (1 + np.sqrt(1 + 4 * momentum**2)) / 2)
        pace = (before - 1) / momentum
        ahead_offset, ahead = new_offset + pace * (new_offset - offset), new + pace * (new - interaction)
        offset, interaction = new_offset, new
        if moved < tolerance:
            break
    return LowRankFit(offset, interaction, rank)


@dataclass(frozen=True)
class LowRankJoint:
    """Imputation by the joint low-rank model, its penalty chosen on held-out observed cells.

    Complete columns stand in the data part, and their constant masks carry nothing.

    Attributes:
        name: What tables and figures call it.
        penalty: λ; None chooses it among a path of values, by the squared error on a tenth of the observed cells.
    """

    name: str = "low-rank joint model"
    penalty: float | None = None

    def complete(self, table: Table, *, seed: int) -> pd.DataFrame:
        """Fill the gaps by μ + M."""
        x, mask = table.x.numpy().astype(np.float64), table.mask.numpy()
        varying = table.mask_modelled.numpy() & (mask.any(axis=0) & ~mask.all(axis=0))
        penalty = self.penalty if self.penalty is not None else self._chosen(x, mask, varying, seed)
        fitted = fit_low_rank(x, mask, penalty, scored=varying)
        return completed(table, (fitted.offset + fitted.interaction)[:, : x.shape[1]])

    def _chosen(self, x: NDArray[np.float64], mask: NDArray[np.bool_], varying: NDArray[np.bool_], seed: int) -> float:
        hidden = mask & (np.random.default_rng(seed).random(mask.shape) < HELD_OUT)
        known = mask & ~hidden
        fitted, errors = None, {}
        for penalty in _path(x, known):
            # The held-out cells were observed, so their R counts neither as seen nor as missing.
            fitted = fit_low_rank(x, known, penalty, start=fitted, scored=varying & ~hidden, tolerance=1e-4)
            predicted = (fitted.offset + fitted.interaction)[:, : x.shape[1]]
            errors[penalty] = float(((predicted - x)[hidden] ** 2).sum())
        return min(errors, key=errors.__getitem__)


def _path(x: NDArray[np.float64], mask: NDArray[np.bool_]) -> list[float]:
    most = np.linalg.norm(np.concatenate([np.where(mask, x, 0.0), mask - mask.mean(axis=0)], axis=1), ord=2)
    return np.geomspace(most, 1e-3 * most, PATH).tolist()


def _shrunk(matrix: NDArray[np.float64], threshold: float) -> tuple[NDArray[np.float64], int]:
    left, singular, right = np.linalg.svd(matrix, full_matrices=False)
    kept = np.maximum(singular - threshold, 0.0)
    return (left * kept) @ right, int((kept > 0).sum())
