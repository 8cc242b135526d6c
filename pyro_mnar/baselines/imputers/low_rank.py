"""A low-rank model of data and mask together (Sportisse, Boyer & Josse 2020, section 3.2), the implicit MNAR method.

    [X | R] ~ [N(μ + M, 1) | Bernoulli(sigmoid(ν + L))],   [M | L] of low rank

The mask beside the data is more columns of one matrix, so what causes gaps may inform the values. Fitted by maximum
likelihood with the nuclear norm ‖[M | L]‖_* as the penalty: accelerated proximal gradient with soft-thresholded
singular values.

The offsets make the answer free of where a column's zero lies.  The authors' own code has none: what is missing then
shrinks towards zero in whatever units the table comes, and R is even where M is zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from scipy.special import expit

from pyro_mnar.baselines.protocol import check_table, completed
from pyro_mnar.messages import number_from_zero, seed_of
from pyro_mnar.tables.table import Table

HELD_OUT = 0.1
PATH = 12  # penalties tried


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
    has_offset: bool = True,
    start: LowRankFit | None = None,
    scored: Bool[NDArray, "rows both"] | None = None,
    max_iterations: int = 500,
    tolerance: float = 1e-6,
) -> LowRankFit:
    """Minimise ½ Σ_observed (x - μ - M)² - log p(R | ν + L) + penalty · ‖[M | L]‖_*.

    Args:
        x: Values, standardised where there is an offset; whatever stands in the gaps is not read.
        mask: True where observed.
        penalty: λ; more makes the rank less.
        has_offset: Whether μ and ν are fitted; else they are zero.
        start: A fit to start from.
        scored: Entries of [X | R] that count; by default all that are known.
        max_iterations: Stop after so many steps.
        tolerance: Stop when a step moves no entry by more, on average of squares.
    """
    seen = np.concatenate([mask, np.ones_like(mask)], axis=1) if scored is None else scored
    target = np.concatenate([np.where(mask, x, 0.0), mask.astype(np.float64)], axis=1)
    columns = x.shape[1]

    def slope(fitted: NDArray[np.float64]) -> NDArray[np.float64]:
        means = np.concatenate([fitted[:, :columns], expit(fitted[:, columns:])], axis=1)
        return np.where(seen, means - target, 0.0)

    # A step of 1/2: the losses' curvature is 1 at most, and offset and interaction move at once.
    counts = np.maximum(seen.sum(axis=0), 1)
    offset_step = 0.5 / counts if has_offset else np.zeros(2 * columns)
    offset = np.zeros(2 * columns) if start is None else start.offset
    interaction = np.zeros((len(x), 2 * columns)) if start is None else start.interaction
    rank, momentum = 0, 1.0
    ahead_offset, ahead = offset, interaction
    for _ in range(max_iterations):
        gradient = slope(ahead_offset + ahead)
        new_offset = ahead_offset - offset_step * gradient.sum(axis=0)
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


def choose_penalty(
    x: Float[NDArray, "rows columns"],
    mask: Bool[NDArray, "rows columns"],
    *,
    scored: Bool[NDArray, "rows both"],
    held_out: Bool[NDArray, "rows both"],
    has_offset: bool = True,
) -> float:
    """The penalty of a path, from no rank down to a thousandth of that, with least squared error where held out.

    Args:
        x: As for :func:`fit_low_rank`.
        mask: True where observed, held out or not.
        scored: Entries of [X | R] to fit to.
        held_out: Entries to compare with.
        has_offset: As for :func:`fit_low_rank`.
    """
    target = np.concatenate([np.where(mask, x, 0.0), mask], axis=1)
    middle = np.where(scored, target, 0.0).sum(axis=0) / np.maximum(scored.sum(axis=0), 1) if has_offset else 0.0
    most = np.linalg.norm(np.where(scored, target - middle, 0.0), ord=2)
    fitted, errors = None, {}
    for penalty in np.geomspace(most, 1e-3 * most, PATH).tolist():
        fitted = fit_low_rank(x, mask, penalty, has_offset=has_offset, start=fitted, scored=scored, tolerance=1e-4)
        predicted = fitted.offset + fitted.interaction
        predicted[:, x.shape[1] :] = expit(predicted[:, x.shape[1] :])
        errors[penalty] = float(((predicted - target)[held_out] ** 2).sum())
    return min(errors, key=errors.__getitem__)


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

    def __post_init__(self) -> None:
        if self.penalty is not None:
            number_from_zero("penalty", self.penalty)

    def complete(self, table: Table, *, seed: int) -> pd.DataFrame:
        """Fill the gaps by μ + M."""
        check_table(table)
        seed = seed_of(seed)
        x, mask = table.x.numpy().astype(np.float64), table.mask.numpy()
        varying = table.mask_modelled.numpy() & (mask.any(axis=0) & ~mask.all(axis=0))
        scored = np.concatenate([mask, varying], axis=1)
        penalty = self.penalty if self.penalty is not None else _chosen(x, mask, scored, seed)
        fitted = fit_low_rank(x, mask, penalty, scored=scored)
        return completed(table, (fitted.offset + fitted.interaction)[:, : x.shape[1]])


def _chosen(x: NDArray[np.float64], mask: NDArray[np.bool_], scored: NDArray[np.bool_], seed: int) -> float:
    hidden = mask & (np.random.default_rng(seed).random(mask.shape) < HELD_OUT)
    # The held-out cells were observed, so their R counts neither as seen nor as missing.
    return choose_penalty(
        x,
        mask,
        scored=scored & ~np.concatenate([hidden, hidden], axis=1),
        held_out=np.concatenate([hidden, np.zeros_like(hidden)], axis=1),
    )


def _shrunk(matrix: NDArray[np.float64], threshold: float) -> tuple[NDArray[np.float64], int]:
    """Soft-thresholded singular values, by the eigenvectors of MᵀM, which has no rows; and how many are left."""
    squares, right = np.linalg.eigh(matrix.T @ matrix)
    singular = np.sqrt(np.maximum(squares, 0.0))
    kept = singular > threshold
    right = right[:, kept]
    return matrix @ (right * (1 - threshold / singular[kept])) @ right.T, int(kept.sum())
