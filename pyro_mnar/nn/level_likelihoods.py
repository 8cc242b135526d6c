"""p(X|Z) of binary, categorical and ordinal columns."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor, nn
from torch.nn.functional import pad, softplus

from pyro_mnar.distributions import Levels
from pyro_mnar.distributions.levels import padded_points
from pyro_mnar.nn.networks import inverse_softplus
from pyro_mnar.tables.columns import Column


class LevelLikelihood(nn.Module):
    """Binary and categorical columns: log-odds of each level against the first.

    The network has one output for each level beyond the first; a binary column's is its logit f_d(z).

    Args:
        columns: The columns, all of one family.
        straight_through: As for :class:`~pyro_mnar.distributions.Levels`.
    """

    points: Float[Tensor, "columns levels"]
    has_level: Bool[Tensor, "columns levels"]

    def __init__(self, columns: Sequence[Column], *, straight_through: bool = False) -> None:
        super().__init__()
        self.straight_through = straight_through
        points, has_level = padded_points([column.points for column in columns])
        self.register_buffer("points", points)
        self.register_buffer("has_level", has_level)
        # As many outputs for every column, so that all are one computation; those beyond a column's levels are masked.
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
        """Unnormalised log-probabilities of the levels; arbitrary at levels that a column does not have."""
        return pad(outputs, (1, 0))


class OrdinalLikelihood(LevelLikelihood):
    """Ordinal columns: P(X_d ≤ l | z) = σ(c_dl - f_d(z)), the cutpoints c_dl learned, ascending (McCullagh 1980).

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
        """Set the cutpoints so that all levels are equally likely at f_d(z) = 0."""
        levels = self.has_level.sum(1, keepdim=True)
        share = torch.arange(1, self.points.shape[1]) / levels
        cut = torch.logit(share.clamp(max=0.99))
        gaps = cut.diff(dim=1).clamp_min(1e-3)
        with torch.no_grad():
            self.raw_cutpoints.copy_(torch.cat([cut[:, :1], inverse_softplus(gaps)], dim=1))

    @property
    def cutpoints(self) -> Float[Tensor, "columns cutpoints"]:
        """The cutpoints c_dl, ascending."""
        first, gaps = self.raw_cutpoints[:, :1], softplus(self.raw_cutpoints[:, 1:])
        return torch.cat([first, gaps], dim=1).cumsum(1)

    def logits(self, outputs: Float[Tensor, "*batch columns 1"]) -> Float[Tensor, "*batch columns levels"]:
        """log(σ(upper) - σ(lower)), computed without cancellation."""
        cuts = self.cutpoints - outputs
        lower, upper = cuts[..., :-1], cuts[..., 1:]
        inner = (
            nn.functional.logsigmoid(upper) + nn.functional.logsigmoid(-lower) + torch.log(-torch.expm1(lower - upper))
        )
        first, last = nn.functional.logsigmoid(cuts[..., :1]), nn.functional.logsigmoid(-cuts)
        # A column with fewer levels ends earlier; its last level is everything above its last cutpoint.
        count = self.has_level.sum(1)
        position = torch.arange(self.points.shape[1], device=cuts.device)
        is_last = position == (count - 1).unsqueeze(-1)
        return torch.where(is_last, pad(last, (1, 0)), torch.cat([first, inner, last[..., -1:]], dim=-1))
