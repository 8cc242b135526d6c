"""Partial VAE: ignores why values are missing (Ma et al. 2018), right only where that is ignorable (MCAR, MAR).

    Z → X        p(Z) · Π_d p(X_d|Z)

K = 5 particles is the paper's PVAE, K = 1 its "w/o IW"; K > 1 with the zero-imputing guide is MIWAE (Mattei &
Frellsen 2019).
"""

from __future__ import annotations

import pyro
import torch
from pyro.nn import PyroModule
from torch import nn

from pyro_mnar.infer.construction import remembered
from pyro_mnar.infer.data_start import LatentStart
from pyro_mnar.infer.session import seeded
from pyro_mnar.models.data_start import start_from_data
from pyro_mnar.models.decoding import default_decoder, given_or, latent_dim_of
from pyro_mnar.nn import priors
from pyro_mnar.primitives import partially_observed, rows
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.schema import Schema
from pyro_mnar.tables.table import Table, schema_of


@remembered
class PartialVAE(PyroModule):
    """A VAE of the observed values alone.

    Args:
        table: The table (or its schema) that the model is for.
        latent_dim: H, as for :class:`~pyro_mnar.models.GINA`.
        decoder: p(X|Z), as for GINA.
        seed: Of the initial parameters.
    """

    def __init__(
        self,
        table: Table | Schema,
        *,
        latent_dim: int | None = None,
        decoder: nn.Module | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.schema = schema = schema_of(table)
        self.latent_dim = latent_dim_of(schema, latent_dim)
        with seeded(seed):
            self.prior = priors.StandardNormal(self.latent_dim)
            self.decoder = given_or("decoder", decoder, lambda: default_decoder(schema, self.latent_dim))
        self.starts_from_data = decoder is None

    def forward(self, batch: Batch) -> torch.Tensor:
        """Run the model on a batch; returns the completed rows, standardised, ``(..., rows, columns)``."""
        with rows(batch):
            z = pyro.sample("z", self.prior(batch.aux))
            return partially_observed("x", self.decoder(z), batch)

    def start_from(self, batch: Batch) -> LatentStart | None:
        """Start from rows of the table, as :meth:`pyro_mnar.models.GINA.start_from` does."""
        if not self.starts_from_data:
            return None
        return start_from_data(batch, self.prior, self.decoder, None)
