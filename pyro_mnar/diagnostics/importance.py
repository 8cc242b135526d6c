"""How far the importance weights of single rows can be trusted: effective sample size and Pareto k-hat.

A row whose weights have a heavy tail is represented by a few particles, and its draws repeat these.  k-hat is the shape
of the tail (Vehtari et al., 2024, JMLR 25): below 0.7 averages converge at a practical rate, above they do not.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from pyro_mnar.imputation.sampler import Sampler
from pyro_mnar.imputation.target import Target
from pyro_mnar.infer.session import Session
from pyro_mnar.memory import COPIES_OF_A_DRAW, check_room
from pyro_mnar.messages import whole_number
from pyro_mnar.tables.positions import spread_evenly
from pyro_mnar.tables.table import Table
from pyro_mnar.training.fitted import Fit

LEAST_PARTICLES = 500
TRUSTED = 0.7  # k-hat up to which averages are


def pareto_k(log_weights: Float[NDArray, "particles rows"]) -> Float[NDArray, " rows"]:
    """k-hat of each row's weights, by ArviZ; -inf where all weights are equal, which have no tail."""
    by_row = np.ascontiguousarray(log_weights.T.astype(np.float64))
    found = np.full(len(by_row), -np.inf)
    varied = np.ptp(by_row, axis=1) > 1e-9
    if varied.any():
        found[varied] = _psis(by_row[varied])
    return found


def row_weights(
    fit: Fit, table: Table, *, num_particles: int = 1000, most_rows: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Weigh many particles of the rows with gaps, or of some of them spread evenly over the table.

    Args:
        fit: A trained model and guide.
        table: Rows in its units.
        num_particles: K, at least 500.
        most_rows: How many rows at most.
        seed: Same seed, same numbers.

    Returns:
        One row a row, by position: ``effective_sample_size``, its share of K, and ``pareto_k``.

    Raises:
        ValueError: If there are fewer than 500 particles, whose tail says nothing.
    """
    num_particles = whole_number("num_particles", num_particles, LEAST_PARTICLES)
    size = COPIES_OF_A_DRAW * table.schema.num_columns * table.dtype.itemsize
    check_room("num_particles", num_particles, size, "particles of one row")
    gaps = (~table.mask & table.applicable).numpy()
    rows = np.flatnonzero(gaps.any(1))
    rows = rows[spread_evenly(len(rows), most_rows)]
    session = Session(seed, fit.device, fit.store)
    with_gaps = np.flatnonzero(gaps.any(0)).tolist()
    sampler = Sampler(fit, 1, num_particles, Target.GIVEN_MASK, session, with_gaps=with_gaps)
    sizes, tails = [np.empty(0)], [np.empty(0)]
    at_once = max(1, sampler.limits.elements // (num_particles * table.schema.num_columns))
    for start in range(0, len(rows), at_once):
        batch = table.source().take(torch.from_numpy(rows[start : start + at_once])).to(fit.device)
        for particles in sampler.particle_sets(batch, len(batch) * table.schema.num_columns):
            log_weights = particles.log_weights
            sizes.append((2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)).exp().cpu().double().numpy())
            tails.append(pareto_k(log_weights.cpu().double().numpy()))
    size = np.concatenate(sizes)
    columns = {"effective_sample_size": size, "share": size / num_particles, "pareto_k": np.concatenate(tails)}
    return pd.DataFrame(columns, index=pd.Index(rows, name="position"))


def _psis(log_weights: Float[NDArray, "rows particles"]) -> Float[NDArray, " rows"]:
    try:
        from arviz_stats.base import array_stats  # pyright: ignore[reportMissingImports]
    except ImportError:
        import arviz

        return np.atleast_1d(arviz.psislw(log_weights)[1])
    return np.atleast_1d(array_stats.psislw(-log_weights)[1])  # it takes log-likelihoods, so it negates
