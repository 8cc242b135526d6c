"""Ignorable missingness: complete columns or nothing at all cause it (MAR and MCAR; Ma & Zhang 2021, Figure 1 a and b).

    U → Z → X        p(Z|U) · Π_d p(X_d|Z) · Π_d p(R_d|U)
    └─────────→ R

Imputations are what they would be without R.  R is modelled all the same, for then the bound is one of log p(x_o, r |
u) and compares with the bounds of models that do not ignore the missingness.
"""

from __future__ import annotations

import pyro
import torch
from jaxtyping import Float
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_mnar.infer.construction import remembered
from pyro_mnar.infer.session import seeded
from pyro_mnar.models.decoding import default_prior, given_or, latent_dim_of, linear_decoder
from pyro_mnar.primitives import observe_mask, partially_observed, rows
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.schema import Schema
from pyro_mnar.tables.table import Table, schema_of


@remembered
class Ignorable(PyroModule):
    """A linear-Gaussian model of X, with missingness that depends on U (MAR) or, where there is no U, on nothing
    (MCAR).

    Args:
        table: The table (or its schema) that the model is for.
        latent_dim: H, as for :class:`~pyro_mnar.models.GINA`.
        decoder: p(X|Z): a module from z to a column-wise distribution; by default linear with learned noise.
        seed: Of the initial parameters; None draws them from torch's global generator.

    Raises:
        ValueError: If U is the mask itself, which no mechanism can depend on.
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
        if schema.auxiliary_source == "mask":
            raise ValueError("auxiliary: expected complete columns or none as the causes of missingness, got 'mask'")
        self.latent_dim = latent_dim_of(schema, latent_dim)
        with seeded(seed):
            self.prior = default_prior(schema, self.latent_dim)
            self.decoder = given_or("decoder", decoder, lambda: linear_decoder(schema, self.latent_dim))
            self.mechanism = _OfAuxiliaries(schema)

    def forward(self, batch: Batch) -> Tensor:
        """Run the model on a batch; returns the completed rows, standardised, ``(..., rows, columns)``."""
        with rows(batch):
            z = pyro.sample("z", self.prior(batch.aux))
            x = partially_observed("x", self.decoder(z), batch)
            observe_mask("r", self.mechanism(batch.aux), batch)
        return x


class _OfAuxiliaries(nn.Module):
    """p(R|U): log-odds of being observed, linear in u, and independent of it to begin with."""

    def __init__(self, schema: Schema) -> None:
        super().__init__()
        self.intercept = nn.Parameter(torch.zeros(schema.num_columns))
        self.slopes = nn.Parameter(torch.zeros(schema.num_auxiliaries, schema.num_columns))

    def forward(self, aux: Float[Tensor, "rows auxiliaries"]) -> Float[Tensor, "rows columns"]:
        return self.intercept + aux @ self.slopes
