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
from jaxtyping import Float
from pyro.distributions import constraints
from torch import Tensor, nn

from pyro_mnar.infer.estimators import ESTIMATORS
from pyro_mnar.infer.objective import ImportanceWeightedELBO
from pyro_mnar.infer.sites import columns_of, is_summed_out, missing_sites
from pyro_mnar.infer.weights import TracePair
from pyro_mnar.tables.batch import Batch

STRENGTH = 5.0  # κ, nats per row and squared unit: at a distance of 0.02 units it weighs 0.002 nats


class Aimed(nn.Module):
    """A model, and where the imputed mean of one of its columns is to be.

    Args:
        model: The model.
        like: A tensor of the model's type and device.
        num_columns: Columns of the table.
        column: Position of the column, whose values are numbers.
        target: The mean to be near, standardised.

    Attributes:
        column: One at the column's position; ``(columns,)``.
        target: The mean.  Both are parameters without a gradient, so that models with other aims can be trained as
            members of one computation.
    """

    def __init__(self, model: Any, like: Tensor, num_columns: int, column: int, target: float = 0.0) -> None:
        super().__init__()
        self.model = model
        at = torch.arange(num_columns, device=like.device)
        self.column = nn.Parameter((at == column).to(like.dtype))
        self.target = nn.Parameter(like.new_tensor(target))

    def forward(self, batch: Batch) -> Any:
        """Run the model."""
        return self.model(batch)


class Steered(ImportanceWeightedELBO):
    """The objective of an :class:`Aimed` model less a penalty on the distance of its imputed mean from its target."""

    def differentiable_loss(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> Tensor:
        """-L and the penalty, a scalar."""
        runs = self._runs(model, guide, args, kwargs, draws_all=True)
        (batch,) = args
        aimed = _aim(model)
        column = aimed.column.detach()
        mean, gaps = _mean(runs[0], batch, column)
        distance = torch.where(gaps > 0, mean - aimed.target.detach(), 0.0)
        return batch.size * STRENGTH * distance.square() - ESTIMATORS[self.estimator].bound(runs)

    def mean(self, model: Callable, guide: Callable, batch: Batch) -> float:
        """The imputed mean of some rows, standardised; within a session."""
        with torch.no_grad():
            (run,) = self._runs(model, guide, (batch,), {}, draws_all=True)
            return float(_mean(run, batch, _aim(model).column)[0])


def _aim(model: Any) -> Aimed:
    if not isinstance(model, Aimed):
        raise TypeError(f"model: expected an Aimed one, got {type(model).__name__}")
    return model


def _mean(run: TracePair, batch: Batch, column: Float[Tensor, " columns"]) -> tuple[Tensor, Tensor]:
    """Over the gaps of the column, of the posterior means; and how many gaps there are."""
    imputed = batch.x.new_zeros(())
    weights = run.log_weights().softmax(0)
    for site in missing_sites(run.model_trace).values():
        value = site["value"]
        if is_summed_out(site):
            value = site["fn"].base_dist.fn.mean.expand_as(value)  # of draws that the weight does not depend on
        chosen = column[list(columns_of(site))]
        own = torch.where(chosen > 0, value, 0.0).sum(-1)  # others may have no mean
        imputed = imputed + (weights * own.reshape(-1, len(batch))).sum(0)
    gaps = ((~batch.mask & batch.mask_modelled).to(batch.dtype) * column).sum(-1)
    return (gaps * imputed).sum() / gaps.sum().clamp_min(1.0), gaps.sum()


def real_columns(model: Callable[[Batch], Any], batch: Batch) -> set[int]:
    """Columns whose gaps a model fills with numbers that have no limits, by position; within a session."""
    found: set[int] = set()
    for site in missing_sites(poutine.trace(model).get_trace(batch)).values():
        support = site["fn"].support
        while isinstance(support, constraints.independent):
            support = support.base_constraint
        found |= set(columns_of(site)) if support is constraints.real else set()
    return found
