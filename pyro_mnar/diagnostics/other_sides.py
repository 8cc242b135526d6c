"""Starts on the other side: a model trained on its own table completed as the fit would not have it.

What was imputed above its prediction from the rest of the row is put below it and the other way round (reversed), or
twice as far out (shifted), with the mask as it is.  Slopes reverse and means shift by themselves, in any model and
whatever its parameters are called, since ``x_missing`` is a site that can be conditioned on.
"""

from __future__ import annotations

from typing import Any

import pyro.poutine as poutine
import torch
from jaxtyping import Bool, Float
from pyro.distributions import constraints
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from pyro_mnar.imputation import impute
from pyro_mnar.infer.session import Session
from pyro_mnar.infer.sites import columns_of, missing_sites
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.table import Table
from pyro_mnar.training.fitted import Fit

SIDES = {"reversed": -1.0, "shifted": 2.0}  # times the distance of what was imputed from its prediction
RIDGE = 1e-2  # per row, in standardised units


def distances(fit: Fit, table: Table, seed: int) -> tuple[Float[Tensor, "rows columns"], Float[Tensor, "rows columns"]]:
    """Predictions of all cells, and how far from these one draw of the gaps lies; standardised units."""
    batch = table.batch()
    drawn = impute(fit, table, num_draws=1, num_particles=100, seed=seed)
    completed = batch.x.clone()
    for position, column in enumerate(table.schema.columns):
        here = drawn.cells[1] == position
        values = batch.x.new_tensor(column.encode(drawn.draws[0, here]))
        completed[drawn.cells[0][here], position] = values.nan_to_num(nan=0.0)  # the mean, where there is no value
    expected = predicted(batch)
    return expected, completed - expected


def predicted(batch: Batch) -> Float[Tensor, "rows columns"]:
    """Each cell from the rest of its row and u, by ridge regression where the column is observed; standardised
    units.
    """
    others = torch.cat([batch.x, batch.aux, batch.mask.to(batch.x.dtype), torch.ones_like(batch.x[:, :1])], dim=-1)
    result = torch.empty_like(batch.x)
    columns = batch.num_columns
    for d in range(columns):
        inputs = others.clone()
        inputs[:, [d, columns + batch.aux.shape[-1] + d]] = 0.0
        seen = inputs[batch.mask[:, d]]
        gram = seen.T @ seen + RIDGE * len(seen) * torch.eye(inputs.shape[-1], dtype=seen.dtype, device=seen.device)
        result[:, d] = inputs @ torch.linalg.solve(gram, seen.T @ batch.x[batch.mask[:, d], d])
    return result


class Completed(nn.Module):
    """A model conditioned on values for its gaps; the mask stays what it was.

    Args:
        model: The model.
        table: Its rows.
        expected: Predictions of the cells, as of :func:`distances`.
        distance: How far from these a draw lies.
        side: Times that distance the values lie from the predictions.

    Attributes:
        side: A parameter without a gradient, so that several sides can be trained as members of one computation.
    """

    def __init__(
        self,
        model: Any,
        table: Table,
        expected: Float[Tensor, "rows columns"],
        distance: Float[Tensor, "rows columns"],
        side: float,
    ) -> None:
        super().__init__()
        self.model = model
        self.side = nn.Parameter(expected.new_tensor(side))
        batch = table.batch()
        with Session(0).running(), torch.no_grad():
            trace = poutine.trace(model).get_trace(batch)
        self.values: dict[str, tuple[Tensor, Tensor]] = {}
        for name, site in missing_sites(trace).items():
            columns = columns_of(site)
            self.values[name] = _filled(site, expected[:, columns], distance[:, columns], batch.mask[:, columns])

    def forward(self, batch: Batch) -> Any:
        """Run the model with its gaps filled."""
        rows, side = batch.index, self.side.detach()
        values = {}
        for name, parts in self.values.items():
            center, distance = (part.to(batch.x.device)[rows] for part in parts)
            values[name] = center + side * distance
        with _Conditioned(values):
            return self.model(batch)


class _Conditioned(Messenger):
    """Conditions as ``poutine.condition`` does, with values repeated over particles, whose shape models rely on."""

    def __init__(self, values: dict[str, Tensor]) -> None:
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.values:
            value = self.values[msg["name"]]
            msg["value"] = value.expand(torch.broadcast_shapes(value.shape, msg["fn"].shape()))
            msg["is_observed"] = True


def _filled(
    site: Any,
    expected: Float[Tensor, "rows columns"],
    distance: Float[Tensor, "rows columns"],
    mask: Bool[Tensor, "rows columns"],
) -> tuple[Tensor, Tensor]:
    """Center and distance in the gaps, where every number is possible; elsewhere the model's own draw, at none."""
    support = site["fn"].support
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    value = site["value"].detach()
    if support is not constraints.real:
        return value, torch.zeros_like(value)
    return torch.where(mask, value, expected), torch.where(mask, 0.0, distance)
