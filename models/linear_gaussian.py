"""Linear-Gaussian columns with a logistic mechanism: what the self-masking models share.

    U → Z → X → R        p(Z|U) · Π_d p(X_d|Z) · Π_d p(R_d|X, Z)
        └───────↗

Which of X and Z reach R_d, a subclass says: it names a mechanism.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

import pyro
import torch
from pyro.nn import PyroModule
from torch import nn

from pyro_mnar.infer.data_start import LatentStart
from pyro_mnar.infer.session import seeded
from pyro_mnar.mechanisms import SelfMasking
from pyro_mnar.mechanisms.declared import KnownSlopes
from pyro_mnar.models.data_start import start_from_data
from pyro_mnar.models.decoding import (
    check_discrete,
    default_mechanism,
    default_prior,
    given_or,
    latent_dim_of,
    linear_decoder,
    own_value_mechanism,
    score_prior,
    summed_columns,
    telling_columns,
    weight_of,
)
from pyro_mnar.models.shared_slopes import share_slopes_of_atoms
from pyro_mnar.primitives import observe_mask, partially_observed, rows
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.schema import Schema
from pyro_mnar.tables.table import Table, schema_of


class LinearGaussian(PyroModule):
    """A linear-Gaussian model of X whose R_d depends on X_d, and on what else its mechanism sees, logistically.

    Arguments are those of :class:`~pyro_mnar.models.SelfMasking`.
    """

    mechanism_class: ClassVar[type[SelfMasking]]  # p(R|X,Z)

    def __init__(
        self,
        table: Table | Schema,
        *,
        latent_dim: int | None = None,
        sign: int | Sequence[int] = 0,
        slope: KnownSlopes = None,
        decoder: nn.Module | None = None,
        mechanism_weight: float = 1.0,
        discrete: str = "summed",
        numbers: str = "closed-form",
        seed: int | None = None,
    ) -> None:
        super().__init__()
        check_discrete(discrete, decoder, numbers)
        self.schema = schema = schema_of(table)
        self.latent_dim = latent_dim_of(schema, latent_dim)
        self.mechanism_weight = mechanism_weight = weight_of(mechanism_weight)
        with seeded(seed):
            self.prior = default_prior(schema, self.latent_dim)
            self.decoder = given_or(
                "decoder", decoder, lambda: linear_decoder(schema, self.latent_dim, discrete=discrete)
            )
            mechanism = partial(self.mechanism_class, sign=sign, slope=slope)
            self.mechanism = default_mechanism(schema, self.latent_dim, mechanism, None)
        share_slopes_of_atoms(self.mechanism, table)
        # The weight of R is part of what is integrated, so a tempered one is drawn for.
        summed = summed_columns(schema, self.mechanism, discrete, numbers) if mechanism_weight == 1 else frozenset()
        self.summed_columns, self.numbers = summed, numbers
        self.telling_columns = telling_columns(schema, self.mechanism, summed)
        self.starts_from_data = decoder is None and schema.auxiliary_source != "mask"

    def forward(self, batch: Batch) -> torch.Tensor:
        """Run the model on a batch; returns the completed rows, standardised, ``(..., rows, columns)``."""
        score_prior(self.mechanism)
        with rows(batch):
            z = pyro.sample("z", self.prior(batch.aux))
            r_given = partial(self.mechanism, z=z)
            own = own_value_mechanism(self.mechanism, self.summed_columns, self.telling_columns, r_given, self.numbers)
            x = partially_observed("x", self.decoder(z), batch, mechanism=own)
            observe_mask("r", r_given(x), batch, weight=self.mechanism_weight)
        return x

    def start_from(self, batch: Batch) -> LatentStart | None:
        """Start from rows of the table, as :meth:`pyro_mnar.models.GINA.start_from` does."""
        if not self.starts_from_data:
            return None
        return start_from_data(batch, self.prior, self.decoder, self.mechanism)
