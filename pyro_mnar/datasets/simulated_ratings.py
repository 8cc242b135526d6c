"""A world of ratings with known truth, of the shape of Yahoo! R3 and Coat (the paper's Table 1): who likes a thing is
likelier to rate it.

    s_ij = c_j + b_i + v_j·z_i + ε_ij,   x_ij = 1 + number of cuts below s_ij, from 1 to 5
    P(r_ij = 1 | x_ij) = σ(a + strength·(x_ij - 3) + activity_i + popularity_j)

with z ~ N(0, I), v ~ N(0, I/H), c ~ N(0, 0.5²), b ~ N(0, 0.3²), ε ~ N(0, 0.6²), activity and popularity ~ N(0, 0.7²).
The cuts make half of all cells a 1 and about one in fifteen a 5, as randomly assigned songs are rated; ``a`` is solved
for the density.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int8
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import norm

from pyro_mnar.datasets.ratings import Ratings, cells, check_shape, check_share, check_slope
from pyro_mnar.memory import check_room
from pyro_mnar.messages import seed_of, whole_number

LEVELS = np.arange(1.0, 6.0)
SHARES_BELOW = (0.50, 0.68, 0.82, 0.93)  # of all cells, up to each cut
ITEM_SPREAD, USER_SPREAD, NOISE, MASK_SPREAD = 0.5, 0.3, 0.6, 0.7


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class SyntheticRatings(Ratings):
    """Self-selected ratings in ``train``, ratings of randomly assigned items in ``test``, and the truth behind both.

    No cell is in both.

    Attributes:
        complete: Every cell's rating; ``(rows, columns)``.
        expected: E[x_ij | user, item], the best prediction of all; its error is the noise of a rating.
        propensities: Probability that a cell is in ``train``, given its rating, its user and its item; ``(rows,
            columns)``.
    """

    complete: Int8[NDArray, "rows columns"]
    expected: Float[NDArray, "rows columns"]
    propensities: Float[NDArray, "rows columns"]


def synthetic_ratings(
    seed: int,
    *,
    shape: tuple[int, int] = (1000, 100),
    density: float = 0.1,
    strength: float = 0.6,
    test_per_row: int = 10,
    latent_dim: int = 3,
) -> SyntheticRatings:
    """Draw users, items, all ratings, and which of them are given.

    Args:
        seed: Same arguments, same world.
        shape: Number of users and of items; Yahoo! R3 has 15,400 × 1,000, Coat 290 × 300.
        density: Expected share of cells that users choose to rate (Yahoo! R3 0.02, Coat 0.08).
        strength: Change of the log-odds of being rated for one more star; 0 makes selection ignorable.
        test_per_row: Items assigned to each user at random (Yahoo! R3 10, Coat 16).  They are drawn before anything is
            rated and taken out of the training ratings, which thins these evenly.
        latent_dim: H, the number of factors.

    Raises:
        ValueError: If the density is not between 0 and 1, or there are fewer items than are assigned.
    """
    check_shape(shape)
    num_rows, num_columns = shape
    check_share("density", density)
    check_slope("strength", strength)
    check_room("latent_dim", whole_number("latent_dim", latent_dim, 0), 8 * (num_rows + num_columns), "latents")
    if not 1 <= whole_number("test_per_row", test_per_row) < num_columns:
        raise ValueError(f"test_per_row: expected from 1 to below {num_columns} items, got {test_per_row}")
    rng = np.random.default_rng(seed_of(seed))
    z = rng.normal(size=(num_rows, latent_dim))
    loadings = rng.normal(size=(num_columns, latent_dim)) / np.sqrt(max(latent_dim, 1))
    score = z @ loadings.T + ITEM_SPREAD * rng.normal(size=num_columns) + USER_SPREAD * rng.normal(size=(num_rows, 1))
    noisy = score + NOISE * rng.normal(size=shape)
    cuts = np.quantile(noisy, SHARES_BELOW)
    complete = 1 + np.sum([noisy > cut for cut in cuts], axis=0)
    expected = 1 + np.sum([norm.sf((cut - score) / NOISE) for cut in cuts], axis=0)

    activity = MASK_SPREAD * rng.normal(size=(num_rows, 1))
    popularity = MASK_SPREAD * rng.normal(size=num_columns)
    log_odds = strength * (complete - LEVELS.mean()) + activity + popularity
    ends = np.log(density / (1 - density)) - np.array([log_odds.max(), log_odds.min()])
    intercept = brentq(lambda a: float(expit(log_odds + a).mean()) - density, *ends, xtol=1e-6)
    chosen = expit(log_odds + intercept)

    assigned = np.zeros(shape, dtype=bool)
    np.put_along_axis(assigned, rng.random(shape).argpartition(test_per_row, axis=1)[:, :test_per_row], True, axis=1)
    rated = (rng.random(shape) < chosen) & ~assigned
    return SyntheticRatings(
        train=_given(complete, rated),
        test=_given(complete, assigned),
        shape=shape,
        row_labels=pd.RangeIndex(num_rows, name="user"),
        column_labels=pd.RangeIndex(num_columns, name="item"),
        complete=complete.astype(np.int8),
        expected=expected,
        propensities=chosen * (1 - test_per_row / num_columns),
    )


def _given(complete: NDArray[np.int_], mask: NDArray[np.bool_]) -> pd.DataFrame:
    rows, columns = np.nonzero(mask)
    return cells(rows, columns, complete[mask].astype(np.float64))
