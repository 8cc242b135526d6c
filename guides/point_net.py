"""The paper's set encoder (B.2; Ma et al. 2019, EDDI): q(Z | observed entries, u), whatever their number and order.

    q(z) = N(m, s²),   (m, s) from Σ_{d observed} h([e_d, x_d]) and u

Every column has a vector e_d of its own, h is one layer, and the sum runs over the observed entries: for tables of many
columns and few entries, where zeros for gaps would be nearly all of a zero-imputing encoder's input.
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float, Int
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_mnar.infer.construction import remembered
from pyro_mnar.infer.session import seeded
from pyro_mnar.memory import check_room
from pyro_mnar.messages import whole_number
from pyro_mnar.nn import positive
from pyro_mnar.nn.indicators import Indicators
from pyro_mnar.primitives import rows
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.schema import Schema
from pyro_mnar.tables.table import Table, schema_of

FEW_COLUMNS = 64  # up to which masking all cells is cheaper than gathering the observed ones


@remembered
class PointNet(PyroModule):
    """Amortised posterior of z from a sum over observed entries.

    Args:
        table: The table (or its schema) that the guide is for.
        latent_dim: H of the model, ``model.latent_dim``.
        embedding_dim: Width of e_d (B.2: 20; B.3: 10).  Levels without an order have a vector each.
        features: Width of h (B.2: 20; B.3: 50).
        by_entry: Compute h of observed entries only, at a cost that grows with their number and not with the columns';
            False computes it of all cells and drops the missing ones, the same numbers.  None takes entries for more
            than 64 columns.
        seed: Of the initial parameters; None draws them from torch's global generator.

    Raises:
        ValueError: If a width is below one, or more than memory holds.
    """

    starts: Int[Tensor, " nominal"]  # of each column without an order, its first level's vector
    nominal: Int[Tensor, " columns"]  # which of these a column is, -1 if it is none

    def __init__(
        self,
        table: Table | Schema,
        latent_dim: int,
        *,
        embedding_dim: int = 20,
        features: int = 20,
        by_entry: bool | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        for name, width in (("latent_dim", latent_dim), ("embedding_dim", embedding_dim), ("features", features)):
            whole_number(name, width)
        self.schema = schema = schema_of(table)
        check_room("embedding_dim", embedding_dim, 4 * schema.num_columns, "embeddings of columns")
        check_room("features", features, 4 * embedding_dim, "parameters of the encoder")
        check_room("the square of features", features**2, 4, "parameters of the encoder")
        check_room("latent_dim", latent_dim, 8 * features, "parameters of the encoder")
        self.by_entry = schema.num_columns > FEW_COLUMNS if by_entry is None else by_entry
        with seeded(seed):
            self.indicators = Indicators(schema)
            num_vectors = schema.num_columns + len(self.indicators)
            self.of_column = nn.Embedding(num_vectors, embedding_dim)
            # h([e, x]) = relu(A e + b + w x): A e + b once a vector, not once an entry.
            self.of_vector = nn.Linear(embedding_dim, features)
            self.of_value = nn.Parameter(torch.randn(features) / (embedding_dim + 1) ** 0.5)
            self.head = nn.Sequential(
                nn.Linear(features + schema.num_auxiliaries, features), nn.Tanh(), nn.Linear(features, 2 * latent_dim)
            )
        starts, start = [], schema.num_columns
        nominal = torch.full((schema.num_columns,), -1)
        for number, position in enumerate(self.indicators.positions):
            starts.append(start)
            start += len(schema.columns[position].kind.levels) - 1
            nominal[position] = number
        self.register_buffer("starts", torch.tensor(starts, dtype=torch.long))
        self.register_buffer("nominal", nominal, persistent=False)

    def forward(self, batch: Batch) -> Tensor:
        """Draw z; ``(..., rows, latent_dim)``."""
        pooled = self._of_entries(batch) if self.by_entry else self._of_cells(batch)
        with rows(batch):
            mean, scale = self.head(torch.cat([pooled, batch.aux], dim=-1)).chunk(2, dim=-1)
            return pyro.sample("z", dist.Normal(mean, positive(scale)).to_event(1))

    def _of_entries(self, batch: Batch) -> Float[Tensor, "rows features"]:
        row, column, _ = batch.observed_entries()
        x = batch.x[row, column]
        entry = self._feature(self._vector_of(column, x), x)
        return entry.new_zeros(len(batch), entry.shape[-1]).index_add(0, row, entry)

    def _of_cells(self, batch: Batch) -> Float[Tensor, "rows features"]:
        columns = torch.arange(batch.num_columns, device=batch.device).expand_as(batch.x)
        return (self._feature(self._vector_of(columns, batch.x), batch.x) * batch.mask.unsqueeze(-1)).sum(-2)

    def _feature(
        self, vector: Int[Tensor, "*entries"], x: Float[Tensor, "*entries"]
    ) -> Float[Tensor, "*entries features"]:
        # A e + b once a vector, or once an entry where these are fewer.
        if vector.numel() < self.of_column.num_embeddings:
            of_entries = self.of_vector(self.of_column(vector))
        else:
            of_entries = self.of_vector(self.of_column.weight)[vector]
        return torch.relu(of_entries + x.unsqueeze(-1) * self.of_value)

    def _vector_of(self, column: Int[Tensor, "*entries"], x: Float[Tensor, "*entries"]) -> Int[Tensor, "*entries"]:
        """Which vector stands for each entry: its column's, or beyond the first level without an order, the level's."""
        if not self.indicators.positions:
            return column
        nominal = self.nominal[column]
        points = self.indicators.points[nominal]
        codes = (x.unsqueeze(-1) > (points[..., 1:] + points[..., :-1]) / 2).sum(-1)
        return torch.where((nominal >= 0) & (codes > 0), self.starts[nominal] + codes - 1, column)
