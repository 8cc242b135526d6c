"""Columns of levels: p(X|Z) of those with an order and those without, and what encoders see of the latter."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor, nn
from torch.nn.functional import pad, softplus

from pyro_mnar.distributions import Levels, codes_of
from pyro_mnar.tables.schema import Column, Schema


class LevelLikelihood(nn.Module):
    """Binary and categorical columns: the log-probability of each level.

    Binary: logit f_d(z).  Categorical: one output of the network for each level beyond the first, whose own is zero.

    Args:
        columns: The columns, all of one family.
        straight_through: As for :class:`~pyro_mnar.distributions.Levels`.
    """

    points: Float[Tensor, "columns levels"]
    has_level: Bool[Tensor, "columns levels"]

    def __init__(self, columns: Sequence[Column], *, straight_through: bool = False) -> None:
        super().__init__()
        self.straight_through = straight_through
        points, has_level = _padded_points(columns)
        self.register_buffer("points", points)
        self.register_buffer("has_level", has_level)
        # Outputs beyond a column's own levels are masked, so that all columns are one computation.
        self.outputs_per_column = points.shape[1] - 1

    @property
    def num_outputs(self) -> int:
        """Width of the network's output that this likelihood takes."""
        return len(self.points) * self.outputs_per_column

    def forward(self, outputs: Float[Tensor, "*batch outputs"]) -> TorchDistributionMixin:
        """A column-wise distribution of batch shape ``(..., rows, columns)``."""
        logits = self.logits(outputs.unflatten(-1, (len(self.points), self.outputs_per_column)))
        logits = logits.masked_fill(~self.has_level, -torch.inf)
        return Levels(logits, self.points, straight_through=self.straight_through)

    def logits(self, outputs: Float[Tensor, "*batch columns outputs"]) -> Float[Tensor, "*batch columns levels"]:
        """Unnormalised log-probabilities of levels, whatever of those that a column does not have."""
        return pad(outputs, (1, 0))


class OrdinalLikelihood(LevelLikelihood):
    """Ordinal columns: P(X_d ≤ l | z) = σ(c_dl - f_d(z)), cutpoints c_dl learned and kept in order (McCullagh 1980).

    Args:
        columns: The columns.
        straight_through: As for :class:`~pyro_mnar.distributions.Levels`.
    """

    def __init__(self, columns: Sequence[Column], *, straight_through: bool = False) -> None:
        super().__init__(columns, straight_through=straight_through)
        self.outputs_per_column = 1
        self.raw_cutpoints = nn.Parameter(torch.zeros(len(columns), self.points.shape[1] - 1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Put cutpoints where all levels are equally likely at f_d(z) = 0."""
        levels = self.has_level.sum(1, keepdim=True)
        share = torch.arange(1, self.points.shape[1]) / levels
        cut = torch.logit(share.clamp(max=0.99))
        gaps = cut.diff(dim=1).clamp_min(1e-3)
        with torch.no_grad():
            self.raw_cutpoints.copy_(torch.cat([cut[:, :1], gaps.expm1().log()], dim=1))

    @property
    def cutpoints(self) -> Float[Tensor, "columns cutpoints"]:
        """c_dl, ascending."""
        first, gaps = self.raw_cutpoints[:, :1], softplus(self.raw_cutpoints[:, 1:])
        return torch.cat([first, gaps], dim=1).cumsum(1)

    def logits(self, outputs: Float[Tensor, "*batch columns 1"]) -> Float[Tensor, "*batch columns levels"]:
        """log(σ(upper) - σ(lower)), without the cancellation of the difference."""
        cuts = self.cutpoints - outputs
        lower, upper = cuts[..., :-1], cuts[..., 1:]
        inner = (
            nn.functional.logsigmoid(upper) + nn.functional.logsigmoid(-lower) + torch.log(-torch.expm1(lower - upper))
        )
        first, last = nn.functional.logsigmoid(cuts[..., :1]), nn.functional.logsigmoid(-cuts)
        # A column of fewer levels ends earlier: its last level is everything above its last cutpoint.
        count = self.has_level.sum(1)
        position = torch.arange(self.points.shape[1], device=cuts.device)
        is_last = position == (count - 1).unsqueeze(-1)
        return torch.where(is_last, pad(last, (1, 0)), torch.cat([first, inner, last[..., -1:]], dim=-1))


class Indicators(nn.Module):
    """What networks see beside x of columns whose levels have no order: one indicator for each level beyond the first.

    Args:
        schema: The columns.

    Attributes:
        sources: Position of the column that each indicator is of.
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
        points, has_level = _padded_points([schema.columns[d] for d in positions])
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
        """x, zero in columns without an order, and their indicators."""
        return torch.cat([x * self.plain, self(x)], dim=-1) if self.positions else x

    def observed_features(
        self, x: Float[Tensor, "*batch columns"], mask: Bool[Tensor, "*batch columns"]
    ) -> Float[Tensor, "*batch features"]:
        """The same, zero for cells that are missing."""
        if not self.positions:
            return x
        return torch.cat([x * self.plain, self(x) * mask[..., self.sources]], dim=-1)


def _padded_points(columns: Sequence[Column]) -> tuple[Float[Tensor, "columns levels"], Bool[Tensor, "columns levels"]]:
    """Points of every column's levels, continued beyond a column's last one, and which of them are levels."""
    most = max((len(column.points) for column in columns), default=1)
    points = torch.zeros(len(columns), most)
    has_level = torch.zeros(len(columns), most, dtype=torch.bool)
    for row, column in enumerate(columns):
        own = torch.as_tensor(column.points, dtype=points.dtype)
        points[row, : len(own)] = own
        points[row, len(own) :] = own[-1] + 1e6 * torch.arange(1, most - len(own) + 1)
        has_level[row, : len(own)] = True
    return points, has_level
