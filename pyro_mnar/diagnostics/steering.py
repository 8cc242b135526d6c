"""Fits whose imputed mean of a column is held near a number: points of the bound's profile along that mean.

    L(θ) - N κ (m(θ) - m*)²

with m the mean over the column's gaps of what is imputed.  Where the bound of such a fit is as high as the best one,
the data do not decide against m*.  A search from a few starts stops wherever these run to; a profile goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro.poutine as poutine
import torch
from jaxtyping import Bool, Float
from pyro.distributions import constraints
from torch import Tensor

from pyro_mnar.infer.estimators import ESTIMATORS
from pyro_mnar.infer.objective import ImportanceWeightedELBO
from pyro_mnar.infer.sites import columns_of, is_summed_out, missing_sites
from pyro_mnar.infer.weights import TracePair
from pyro_mnar.tables.batch import Batch

STRENGTH = 5.0  # κ, nats per row and squared unit: at a distance of 0.02 units it weighs 0.002 nats


class Steered(ImportanceWeightedELBO):
    """The objective less a penalty on the distance of a column's imputed mean from a target.

    Args:
        num_particles: K.
        column: Position of the column, whose values are numbers.
        target: The mean to be near, standardised.
    """

    def __init__(self, num_particles: int, column: int, target: float) -> None:
        super().__init__(num_particles)
        self.column, self.target = column, target

    def differentiable_loss(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> Tensor:
        """-L and the penalty, a scalar."""
        runs = self._runs(model, guide, args, kwargs, draws_all=True)
        (batch,) = args
        distance = self._mean(runs[0], batch) - self.target
        has_gaps = self._gaps(batch).any()
        penalty = torch.where(has_gaps, batch.size * STRENGTH * distance.square(), 0.0)
        return penalty - ESTIMATORS[self.estimator].bound(runs)

    def mean(self, model: Callable, guide: Callable, batch: Batch) -> float:
        """The imputed mean of some rows, standardised; within a session."""
        with torch.no_grad():
            (run,) = self._runs(model, guide, (batch,), {}, draws_all=True)
            return float(self._mean(run, batch))

    def _gaps(self, batch: Batch) -> Bool[Tensor, " rows"]:
        return ~batch.mask[:, self.column] & batch.mask_modelled[:, self.column]

    def _mean(self, run: TracePair, batch: Batch) -> Float[Tensor, ""]:
        """Over the gaps of the column, of the posterior means."""
        gaps = self._gaps(batch).to(batch.dtype)
        site = next(s for s in missing_sites(run.model_trace).values() if self.column in columns_of(s))
        value = site["value"]
        if is_summed_out(site):
            value = site["fn"].base_dist.fn.mean.expand_as(value)  # of draws that the weight does not depend on
        imputed = value[..., columns_of(site).index(self.column)]
        means = (run.log_weights().softmax(0) * imputed.reshape(-1, len(batch))).sum(0)
        return (gaps * means).sum() / gaps.sum().clamp_min(1.0)


def real_columns(model: Callable[[Batch], Any], batch: Batch) -> set[int]:
    """Columns whose gaps a model fills with numbers that have no limits, by position; within a session."""
    found: set[int] = set()
    for site in missing_sites(poutine.trace(model).get_trace(batch)).values():
        support = site["fn"].support
        while isinstance(support, constraints.independent):
            support = support.base_constraint
        found |= set(columns_of(site)) if support is constraints.real else set()
    return found
