"""Indicators of unordered levels, which networks see in place of such a column's standardised values."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pyro_mnar.distributions import codes_of
from pyro_mnar.distributions.levels import padded_points
from pyro_mnar.tables.schema import Schema


class Indicators(nn.Module):
    """One indicator for each level beyond the first of every column whose levels have no order.

    Args:
        schema: The columns.

    Attributes:
        sources: Position of each indicator's column.
    """

    points: Float[Tensor, "columns levels"]
    wanted: Int[Tensor, " indicators"]
    plain: Bool[Tensor, " columns"]

    def __init__(self, schema: Schema) -> None:
        super().__init__()
        positions = [d for d, column in enumerate(schema.columns) if column.is_nominal]
        self.positions = positions
        counts = [len(schema.columns[d].kind.levels) for d in positions]
        self.sources = [d for d, count in zip(positions, counts, strict=True) for _ in range(count - 1)]
        points, has_level = padded_points([schema.columns[d].points for d in positions])
        self.register_buffer("points", points)
        self.register_buffer("wanted", has_level[:, 1:].flatten().nonzero().squeeze(-1))
        self.register_buffer("plain", torch.tensor([not column.is_nominal for column in schema.columns]))

    def __len__(self) -> int:
        return len(self.sources)

    def forward(self, x: Float[Tensor, "*batch columns"]) -> Float[Tensor, "*batch indicators"]:
        """Indicators of x; ``(..., indicators)``."""
        if not self.positions:
            return x[..., :0]
        codes = codes_of(x[..., self.positions], self.points).unsqueeze(-1)
        levels = torch.arange(1, self.points.shape[1], device=x.device)
        return (codes == levels).flatten(-2).index_select(-1, self.wanted).to(x.dtype)

    def features(self, x: Float[Tensor, "*batch columns"]) -> Float[Tensor, "*batch features"]:
        """X and the indicators; x is zero in the columns that have indicators."""
        return torch.cat([x * self.plain, self(x)], dim=-1) if self.positions else x

    def observed_features(
        self, x: Float[Tensor, "*batch columns"], mask: Bool[Tensor, "*batch columns"]
    ) -> Float[Tensor, "*batch features"]:
        """The same for partly observed rows: the indicators of missing cells are zero."""
        if not self.positions:
            return x
        return torch.cat([x * self.plain, self(x) * mask[..., self.sources]], dim=-1)
