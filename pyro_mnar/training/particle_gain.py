"""What more particles would add to the bound: how far it is from log p(x_o, r), as far as that can be seen.

With K particles the bound lies below by about Var(w) / (2K E(w)²) per row, and most where a row's missing values and
its mask pull apart.  Training raises the bound and not the evidence, so it shrinks what makes that gap: slopes of
mechanisms towards zero, as if the values were missing at random (Rainforth et al. 2018; Burda et al. 2016).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pyro_mnar.infer.objective import ImportanceWeightedELBO
from pyro_mnar.infer.parameters import buffers_kept
from pyro_mnar.infer.session import Session
from pyro_mnar.tables.batch import Batch, RowSource

GROUPS = 20  # of K particles each: two of 10K, ten of 2K
LEAST_ROWS, MOST_ROWS = 8, 256
SHARE_OF_TRAINING = 0.02  # of its particles × rows, of which one that is trained costs as much as three that are not
ELEMENTS_AT_ONCE = 2_000_000
# Nats per row.  Bounds that lie closer than 0.005 count as equal wherever fits are compared, so what ten times the
# particles add may decide a comparison from there on.  docs/own_model.md has what it did to slopes of mechanisms.
TOO_MUCH = 0.005

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ParticleGain:
    """What more particles would add to the bound after training, in nats per row.

    Attributes:
        num_particles: K.
        twice: What 2K particles would add.
        ten_times: What 10K particles would add.
        standard_error: Of ``ten_times``.
        num_rows: Rows that were looked at, spread evenly over the table.
    """

    num_particles: int
    twice: float
    ten_times: float
    standard_error: float
    num_rows: int

    @property
    def is_large(self) -> bool:
        """Whether mechanisms may have been pulled towards ignorable ones, beyond chance."""
        return self.ten_times - 2 * self.standard_error > TOO_MUCH


def particle_gain(
    model: Callable[[Batch], Any],
    guide: Callable[[Batch], Any],
    source: RowSource,
    session: Session,
    *,
    num_particles: int,
    row_steps: int,
) -> ParticleGain:
    """Estimate it on some rows, at a few per cent of the cost of training; moves no generator.

    Args:
        model: The model.
        guide: Its guide.
        source: The rows.
        session: The parameter store to run in.
        num_particles: K of the training.
        row_steps: Steps of the training times rows of each.
    """
    affordable = int(3 * SHARE_OF_TRAINING * row_steps / GROUPS)
    count = min(len(source), max(LEAST_ROWS, min(MOST_ROWS, affordable)))
    at = torch.from_numpy(np.linspace(0, len(source) - 1, count).round().astype(np.int64)).to(source.device)
    objective, gains = ImportanceWeightedELBO(GROUPS * num_particles), []
    with buffers_kept(model, guide), session.rewinding():
        width = source.take(at[:1]).num_columns
        at_once = max(1, ELEMENTS_AT_ONCE // (GROUPS * num_particles * width))
        for rows in at.tensor_split(-(-count // at_once)):
            log_weights = objective.log_weights(model, guide, source.take(rows))
            gains.append(_gains(log_weights, num_particles))
    twice, ten_times = torch.cat(gains, dim=-1).double().cpu()
    spread = float(ten_times.std()) if count > 1 else math.inf
    return ParticleGain(num_particles, float(twice.mean()), float(ten_times.mean()), spread / count**0.5, count)


def say(gain: ParticleGain) -> None:
    """One line of the log; a warning with the cure where the gain is large."""
    told = (
        f"more particles: twice as many would add {gain.twice:.4f}, ten times as many {gain.ten_times:.4f} nats per row"
        f" to the bound (K = {gain.num_particles})"
    )
    if gain.is_large:
        more = 10 * gain.num_particles
        log.warning(
            "%s; few particles pull mechanisms towards ignorable ones: fit(..., num_particles=%d), or a guide that"
            " proposes closer to the posterior",
            told,
            more,
        )
    else:
        log.info("%s", told)


def _gains(log_weights: Float[Tensor, "particles rows"], count: int) -> Float[Tensor, "2 rows"]:
    """Per row, the mean bound of groups of 2K and 10K particles less that of groups of K."""

    def bound(size: int) -> Float[Tensor, " rows"]:
        groups = log_weights.unflatten(0, (-1, size))
        return (groups.logsumexp(1) - math.log(size)).mean(0)

    least = bound(count)
    return torch.stack([bound(2 * count) - least, bound(10 * count) - least])
