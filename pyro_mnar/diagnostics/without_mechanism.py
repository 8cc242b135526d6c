"""A fit and its ignorable companion: the same model without its mechanism, trained as the fit was.

The companion is what an analysis imputes that takes gaps for ignorable, by the same reference model.  Only fits that
were trained alike compare: two that stop at different distances from the maximum differ by that distance, which over
many rows is many nats.  So where the fit started from the data, its companion does, and takes as many epochs.
Otherwise both go on from where the fit ended, over the same minibatches with the same noise.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import pyro.poutine as poutine
import torch
from torch import nn

from pyro_mnar.imputation.target import Target
from pyro_mnar.infer.data_start import LatentStart, StartsFromData
from pyro_mnar.infer.objective import ImportanceWeightedELBO
from pyro_mnar.infer.posterior import PosteriorDraws
from pyro_mnar.infer.session import Session
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.blocks import EVENTS
from pyro_mnar.tables.table import Table
from pyro_mnar.training.data_start import start_pair
from pyro_mnar.training.fitted import Fit
from pyro_mnar.training.plan import TrainingPlan
from pyro_mnar.training.restarts import Start, copied_pair
from pyro_mnar.training.schedule import default_rate, steps_per_epoch

STEPS, RATE = 500, 1e-2  # by which both go on
BATCH_SIZE = 128


class WithoutMechanism(nn.Module):
    """A model that scores no R, so that gaps say nothing of the values behind them."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.inner = model

    def forward(self, batch: Batch) -> Any:
        """Run the model on a batch."""
        model = poutine.block(Target.WITHOUT_MASK.model(self.inner), hide=[EVENTS])
        return model(batch.without_mechanism())

    def start_from(self, batch: Batch) -> LatentStart | None:
        """As the model starts from rows without a gap that a mechanism explains."""
        is_able = isinstance(self.inner, StartsFromData)
        return self.inner.start_from(batch.without_mechanism()) if is_able else None


class TrainedAlike(NamedTuple):
    """Two fits that compare.

    Attributes:
        fit: The fit, or what became of a copy of it that was trained on.
        ignorable: Its companion.
    """

    fit: Fit
    ignorable: Fit


def ignorable_companion(fit: Fit, table: Table, *, steps: int = STEPS, seed: int = 0) -> TrainedAlike:
    """Fit the same model and guide without the mechanism; the fit stays as it is.

    Args:
        fit: A fit by training.
        table: The rows that it was fitted to.
        steps: By which both go on, where the fit did not start from the data.
        seed: Of minibatches and noise.

    Raises:
        ValueError: If parameters cannot be copied or cannot be trained.
        KeyboardInterrupt: If Ctrl-C ended the training.
    """
    if isinstance(fit.guide, PosteriorDraws):
        raise ValueError("draws of a posterior are not fitted anew: give an ignorable fit")
    per_epoch = steps_per_epoch(len(table), BATCH_SIZE)
    if fit.from_data:
        (model, guide), store = copied_pair(fit.model, fit.guide, table, fit.store, seed)
        ignorable = WithoutMechanism(model)
        if start_pair(ignorable, guide, table, fit.device):
            epochs = max(1, fit.epochs_done)
            rate = default_rate(epochs * per_epoch, is_near=True)
            return TrainedAlike(fit, _trained(Start(ignorable, guide, seed, store), table, epochs, rate, fit))
    fits = []
    for make in (lambda model: model, WithoutMechanism):
        (model, guide), store = copied_pair(fit.model, fit.guide, table, fit.store, seed)
        fits.append(_trained(Start(make(model), guide, seed, store), table, math.ceil(steps / per_epoch), RATE, fit))
    return TrainedAlike(*fits)


def _trained(start: Start, table: Table, epochs: int, rate: float, fit: Fit) -> Fit:
    objective, few = ImportanceWeightedELBO(), table.source(fit.device).take(torch.arange(1, device=fit.device))
    with Session(start.seed, fit.device, start.store).running():
        is_learned = objective.differentiable_loss(start.model, start.guide, few).requires_grad
    if not is_learned:  # all parameters were those of the mechanism
        return replace(fit, model=start.model, guide=start.guide, store=start.store or fit.store)
    plan = TrainingPlan(objective, table, None, epochs, BATCH_SIZE, rate, fit.device, progress=False, keeps_best=False)
    with plan.enough_threads():
        trained = plan.run(start)
    if trained.interrupted:
        raise KeyboardInterrupt
    return trained.fit
