"""Self-masking one-way ANOVA (Ma & Zhang 2021, Appendix C): the paper's example for Proposition 1.

    μ_d, ζ → Z_d → X_d        Π_d N(Z_d; μ_d, ζ²) · Π_d N(X_d; Z_d, σ²) · Π_d Bernoulli(R_d; sigmoid(λ_1 Z_d + λ_0))
              └──→ R_d

One latent a column; ζ², λ_0 and λ_1 are shared by all columns; σ² is known.  Everything is stated in the user's units,
in which the columns share a scale, while the site ``z`` stands in the table's standardised units, column by column,
like x.
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_mnar.infer.construction import remembered
from pyro_mnar.messages import positive_number
from pyro_mnar.nn import positive
from pyro_mnar.primitives import observe_mask, partially_observed, rows
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.schema import Schema
from pyro_mnar.tables.table import Table, schema_of


@remembered
class ANOVA(PyroModule):
    """Columns with a mean each and one variance, masked by what they measure.

    The parameters are not always determined by the law of what is observed, although assumptions A1 to A3 hold: see
    :func:`pyro_mnar.datasets.anova.twin`.

    Args:
        table: The table (or its schema) that the model is for; its columns share one unit of measurement.
        noise: σ, known, in the user's units.

    Raises:
        ValueError: If the noise is not positive.
        TypeError: If it is no number.
    """

    def __init__(self, table: Table | Schema, *, noise: float) -> None:
        super().__init__()
        noise = positive_number("noise", noise)
        self.schema = schema = schema_of(table)
        self.latent_dim = schema.num_columns
        self.register_buffer("center", torch.tensor([column.mean for column in schema.columns]))
        self.register_buffer("unit", torch.tensor([column.std for column in schema.columns]))
        self.register_buffer("noise", torch.tensor(noise))
        self.shift = nn.Parameter(torch.zeros(schema.num_columns))  # μ, in standard deviations from the observed mean
        self.raw_spread = nn.Parameter(torch.zeros(()))  # ζ, in typical standard deviations
        self.raw_intercept = nn.Parameter(torch.zeros(()))  # log-odds at the typical mean
        self.raw_slope = nn.Parameter(torch.zeros(()))  # per typical standard deviation

    @property
    def mu(self) -> Float[Tensor, " columns"]:
        """μ per column, in the user's units."""
        return self.center + self.unit * self.shift

    @property
    def zeta(self) -> Float[Tensor, ""]:
        """ζ, in the user's units."""
        return self.unit.mean() * positive(self.raw_spread)

    @property
    def slope(self) -> Float[Tensor, ""]:
        """λ_1: log-odds of being observed per unit of z, in the user's units."""
        return self.raw_slope / self.unit.mean()

    @property
    def intercept(self) -> Float[Tensor, ""]:
        """λ_0: log-odds of being observed at z = 0 in the user's units."""
        return self.raw_intercept - self.slope * self.center.mean()

    def mechanism(self, z: Float[Tensor, "*batch columns"]) -> Float[Tensor, "*batch columns"]:
        """Log-odds of being observed, from standardised z."""
        return self.intercept + self.slope * (self.center + self.unit * z)

    def forward(self, batch: Batch) -> Tensor:
        """Run the model on a batch; returns the completed rows, standardised, ``(..., rows, columns)``."""
        with rows(batch):
            mean = self.shift.expand(len(batch), -1)
            z = pyro.sample("z", dist.Normal(mean, self.zeta / self.unit).to_event(1))
            x = partially_observed("x", dist.Normal(z, self.noise / self.unit), batch)
            observe_mask("r", self.mechanism(z), batch)
        return x
