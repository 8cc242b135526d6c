"""A normal of its own for every row: q(z) = Π_n N(z_n; m_n, s_n²), nothing amortised.

The slow and sure yardstick beside an encoder: no network stands between a row and its posterior, but the parameters
grow with the rows, and new rows have none.
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import nn

from pyro_mnar.infer.construction import remember
from pyro_mnar.infer.data_start import LatentStart
from pyro_mnar.memory import check_room
from pyro_mnar.messages import whole_number
from pyro_mnar.nn import positive
from pyro_mnar.nn.networks import unconstrained_positive
from pyro_mnar.primitives import rows
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.table import Table


class MeanField(PyroModule):
    """A diagonal normal per row, looked up by the row's position in the table.

    Args:
        table: The table that the guide is for, or its number of rows.
        latent_dim: H of the model, ``model.latent_dim``.
    """

    def __init__(self, table: Table | int, latent_dim: int) -> None:
        super().__init__()
        latent_dim = whole_number("latent_dim", latent_dim)
        size = len(table) if isinstance(table, Table) else whole_number("table (or its number of rows)", table)
        check_room("latent_dim", latent_dim, 8 * size, "a mean and a scale for each row")
        self.mean = nn.Parameter(torch.zeros(size, latent_dim))
        self.raw_scale = nn.Parameter(torch.zeros(size, latent_dim))
        remember(self, MeanField, {"table": size, "latent_dim": latent_dim})  # a schema does not tell the rows

    def forward(self, batch: Batch) -> torch.Tensor:
        """Draw z; ``(..., rows, latent_dim)``.

        Raises:
            ValueError: If the batch is of a table with another number of rows.
        """
        if batch.size != len(self.mean):
            raise ValueError(f"MeanField: made for a table of {len(self.mean)} rows, got one of {batch.size}")
        with rows(batch):
            fn = dist.Normal(self.mean[batch.index], positive(self.raw_scale[batch.index]))
            return pyro.sample("z", fn.to_event(1))

    def learn_latents(self, batch: Batch, start: LatentStart) -> bool:
        """Let rows begin where a model puts their posteriors; False, and nothing is set, unless these are all rows."""
        if self.mean.shape != (batch.size, start.mean.shape[1]) or len(batch) != batch.size:
            return False
        with torch.no_grad():
            self.mean[batch.index] = start.mean
            self.raw_scale[batch.index] = unconstrained_positive(start.scale)
        return True
