"""Whether columns bend: whether the square of what a linear model expects of a cell says more of it than that model.

For each column with gaps, the seen values' distances from what the rest of their row says of them, less what selection
by the own value makes of these, are regressed on that expectation and on its square.  Where seen values flatten towards
those that go missing, this takes a bend for selection; :func:`pyro_mnar.graphs.gap_evidence.nats_of_own_bend` does not.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from pyro_mnar.distributions.probit_mixtures import PROBITS, mixed
from pyro_mnar.models.factor_em import OwnLogOdds
from pyro_mnar.models.factor_law import Expected

LEAST_SEEN = 10


def nats_of_bends(
    x: Float[NDArray, "rows columns"],
    seen: Bool[NDArray, "rows columns"],
    expected: Expected,
    of_own: OwnLogOdds,
) -> float:
    """Nats by which squares make seen values likelier, each column that they do counted, less the price of a slope.

    Args:
        x: Any number in the gaps.
        seen: Where there are values.
        expected: The law of each cell given the rest of its row under a linear model.
        of_own: How own values decide on gaps under that model.
    """
    return sum(
        _nats(
            x[seen[:, at], at],
            expected.mean[seen[:, at], at],
            expected.variance[seen[:, at], at],
            float(of_own.intercept[at]),
            float(of_own.slope[at]),
        )
        for at in np.flatnonzero(~seen.all(0)).tolist()
    )


Values = Float[NDArray, " seen"]


def _nats(x: Values, mean: Values, variance: Values, intercept: float, slope: float) -> float:
    if len(x) < LEAST_SEEN:
        return 0.0
    drawn_to = mean + variance * slope * _slope_of_log_chance(intercept + slope * mean, slope**2 * variance)
    rest = (x - drawn_to) / np.sqrt(variance)
    design = np.stack([np.ones(len(x)), mean, mean**2], axis=1) / np.sqrt(variance)[:, None]
    straight, bent = (_squares_left(design[:, :width], rest) for width in (2, 3))
    gain = 0.5 * len(x) * np.log(max(straight, 1e-12) / max(bent, 1e-12))
    return max(float(gain) - 0.5 * np.log(len(x)), 0.0)


def _slope_of_log_chance(log_odds: Values, variance: Values) -> Values:
    """∂/∂m log E σ(m + √V ε)."""
    return mixed(torch.as_tensor(log_odds), torch.as_tensor(variance), PROBITS["logit"]).slope().numpy()


def _squares_left(design: Float[NDArray, "seen width"], rest: Values) -> float:
    beta = np.linalg.lstsq(design, rest, rcond=None)[0]
    return float(((rest - design @ beta) ** 2).sum())
