"""p(X|Z) from the decoder network's outputs: one small module a column kind, whose ``forward`` gives a distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pyro.distributions as dist
import torch
from jaxtyping import Bool, Float, Int
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor, nn
from torch.nn.functional import pad, softplus

from pyro_mnar import kinds
from pyro_mnar.distributions import Columns, Levels, OnLine, codes_of
from pyro_mnar.kinds import LEAST_NOISE
from pyro_mnar.schema import Column, Schema

PAPER_NOISE = math.exp(-2.0)  # B.1 fixes log σ = -2 on standardised columns


class GaussianNoise(nn.Module):
    """X_d|Z ~ N(f_d(z), σ_d²), σ_d fixed or learned, per column or shared, in standard deviations of the column.

    A column that also serves as U keeps its noise fixed: z can copy u, and a learned σ would then run to zero.

    Args:
        learned: Per column, whether σ_d is learned.
        noise: σ where fixed, and where learning starts; one number, or one a column.
        shared: Per column, whether a σ_d that is learned is one and the same for all such columns; none if None.
    """

    learned: Bool[Tensor, " columns"]
    fixed_log_noise: Float[Tensor, " columns"]
    source: Int[Tensor, " columns"]

    def __init__(
        self,
        learned: Sequence[bool],
        noise: float | Sequence[float] = PAPER_NOISE,
        *,
        shared: Sequence[bool] | None = None,
    ) -> None:
        super().__init__()
        start = torch.as_tensor(noise, dtype=torch.get_default_dtype()).expand(len(learned))
        if (start <= LEAST_NOISE).any():
            raise ValueError(f"noise: expected more than {LEAST_NOISE} standard deviations, got {start.min().item()}")
        of_all = list(shared or [False] * len(learned))
        # Columns that share a scale read the parameter of the first among them.
        source = [of_all.index(True) if is_shared else column for column, is_shared in enumerate(of_all)]
        self.register_buffer("learned", torch.tensor(list(learned)))
        self.register_buffer("fixed_log_noise", start.log())
        self.register_buffer("source", torch.tensor(source))
        self.log_noise = nn.Parameter(start.log().clone())

    @classmethod
    def of(cls, columns: Sequence[Column]) -> GaussianNoise:
        """The noise that the columns' kinds ask for."""
        asked = [getattr(column.kind, "noise", "learned") for column in columns]
        return cls(
            [isinstance(noise, str) and not column.is_auxiliary for noise, column in zip(asked, columns, strict=True)],
            [PAPER_NOISE if isinstance(noise, str) else noise for noise in asked],
            shared=[noise == "shared" for noise in asked],
        )

    def reset_parameters(self) -> None:
        """Draw learned scales anew around where learning starts, for restarts."""
        with torch.no_grad():
            self.log_noise.normal_(std=0.5).add_(self.fixed_log_noise)

    @property
    def noise(self) -> Float[Tensor, " columns"]:
        """σ per column, in standard deviations of the column."""
        log_noise = self.log_noise.index_select(0, self.source)
        return torch.where(self.learned, log_noise, self.fixed_log_noise).exp().clamp_min(LEAST_NOISE)

    def forward(self, mean: Float[Tensor, "*batch columns"]) -> TorchDistributionMixin:
        """A column-wise distribution of batch shape ``(..., rows, columns)``."""
        return dist.Normal(mean, self.noise)


class StudentNoise(GaussianNoise):
    """X_d|Z ~ f_d(z) + σ_d·t(ν_d), with ν_d > 2 learned, for columns with outliers.

    Args:
        learned: As for :class:`GaussianNoise`.
        noise: As for :class:`GaussianNoise`.
        shared: As for :class:`GaussianNoise`; of the scale, not of ν_d.
    """

    def __init__(
        self,
        learned: Sequence[bool],
        noise: float | Sequence[float] = PAPER_NOISE,
        *,
        shared: Sequence[bool] | None = None,
    ) -> None:
        super().__init__(learned, noise, shared=shared)
        self.raw_df = nn.Parameter(torch.full((len(self.learned),), 2.0))

    def forward(self, mean: Float[Tensor, "*batch columns"]) -> TorchDistributionMixin:
        """A column-wise distribution of batch shape ``(..., rows, columns)``."""
        return dist.StudentT(2 + softplus(self.raw_df), mean, self.noise)


class LevelLikelihood(nn.Module):
    """Binary, categorical and ordinal columns: the log-probability of each level.

    Binary: logit f_d(z).  Categorical: one output of the network for each level beyond the first, whose own is zero.
    Ordinal: P(X_d ≤ l | z) = σ(c_dl - f_d(z)), the cutpoints c_dl learned and kept in order (McCullagh 1980).

    Args:
        columns: The columns, all of one kind.
        straight_through: As for :class:`~pyro_mnar.distributions.Levels`.
    """

    points: Float[Tensor, "columns levels"]
    has_level: Bool[Tensor, "columns levels"]

    def __init__(self, columns: Sequence[Column], *, straight_through: bool = False) -> None:
        super().__init__()
        self.straight_through = straight_through
        self.is_ordinal = columns[0].kind.name == "ordinal"
        points, has_level = _padded_points(columns)
        self.register_buffer("points", points)
        self.register_buffer("has_level", has_level)
        # Outputs beyond a column's own levels are masked, so that all columns are one computation.
        self.outputs_per_column = 1 if self.is_ordinal else points.shape[1] - 1
        if self.is_ordinal:
            self.raw_cutpoints = nn.Parameter(torch.zeros(len(columns), points.shape[1] - 1))
            self.reset_parameters()

    @property
    def num_outputs(self) -> int:
        """Width of the network's output that this likelihood takes."""
        return len(self.points) * self.outputs_per_column

    def reset_parameters(self) -> None:
        """Put cutpoints where all levels are equally likely at f_d(z) = 0."""
        if self.is_ordinal:
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

    def forward(self, outputs: Float[Tensor, "*batch outputs"]) -> TorchDistributionMixin:
        """A column-wise distribution of batch shape ``(..., rows, columns)``."""
        outputs = outputs.unflatten(-1, (len(self.points), self.outputs_per_column))
        logits = self._cumulative(outputs) if self.is_ordinal else pad(outputs, (1, 0))
        logits = logits.masked_fill(~self.has_level, -torch.inf)
        return Levels(logits, self.points, straight_through=self.straight_through)

    def _cumulative(self, location: Float[Tensor, "*batch columns 1"]) -> Float[Tensor, "*batch columns levels"]:
        """log(σ(upper) - σ(lower)), without the cancellation of the difference."""
        cuts = self.cutpoints - location
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


class CountLikelihood(nn.Module):
    """Counts: negative binomial with mean exp(f_d(z))·m_d and a dispersion learned per column, or Poisson.

    Args:
        columns: The columns, all of kind ``"count"``.
    """

    offset: Float[Tensor, " columns"]
    unit: Float[Tensor, " columns"]

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__()
        self.register_buffer("offset", torch.tensor([column.mean for column in columns]))
        self.register_buffer("unit", torch.tensor([column.std for column in columns]))
        self.overdispersed = all(getattr(column.kind, "overdispersed", False) for column in columns)
        if self.overdispersed:
            self.log_total = nn.Parameter(torch.full((len(columns),), 3.0))

    @property
    def num_outputs(self) -> int:
        """Width of the network's output that this likelihood takes."""
        return len(self.offset)

    def forward(self, outputs: Float[Tensor, "*batch columns"]) -> TorchDistributionMixin:
        """A column-wise distribution of batch shape ``(..., rows, columns)``."""
        log_mean = (outputs + self.offset.clamp_min(0.1).log()).clamp(max=15.0)
        if not self.overdispersed:
            return OnLine(dist.Poisson(log_mean.exp()), self.offset, self.unit)
        total = self.log_total.clamp(-5.0, 10.0).exp()  # at the upper end a Poisson's
        return OnLine(dist.NegativeBinomial(total, logits=log_mean - total.log()), self.offset, self.unit)


class MixedLikelihood(nn.Module):
    """Columns of any kinds: one pass a kind, however many columns.

    A column that also serves as U keeps its noise fixed, as for :class:`GaussianNoise`.

    Args:
        schema: The columns.
        straight_through: For discrete columns, as for :class:`~pyro_mnar.distributions.Levels`.
    """

    def __init__(self, schema: Schema, *, straight_through: bool = False) -> None:
        super().__init__()
        grouped: dict[str, list[int]] = {}
        for position, column in enumerate(schema.columns):
            grouped.setdefault(_family(column), []).append(position)
        self.positions = [tuple(positions) for positions in grouped.values()]
        self.widths: list[int] = []
        self.parts = nn.ModuleList()
        for family, positions in grouped.items():
            columns = [schema.columns[position] for position in positions]
            part: nn.Module
            if family in NOISES:
                part, width = NOISES[family].of(columns), len(columns)
            elif family.startswith("count"):
                counts = CountLikelihood(columns)
                part, width = counts, counts.num_outputs
            else:
                levels = LevelLikelihood(columns, straight_through=straight_through)
                part, width = levels, levels.num_outputs
            self.parts.append(part)
            self.widths.append(width)

    @property
    def num_outputs(self) -> int:
        """Width of the network's output."""
        return sum(self.widths)

    def forward(self, outputs: Float[Tensor, "*batch outputs"]) -> TorchDistributionMixin:
        """A column-wise distribution of batch shape ``(..., rows, columns)``."""
        pieces = outputs.split(self.widths, dim=-1)
        fns = [part(piece) for part, piece in zip(self.parts, pieces, strict=True)]
        return fns[0] if len(fns) == 1 else Columns(list(zip(self.positions, fns, strict=True)))


def likelihood_of(schema: Schema, *, straight_through: bool = False) -> tuple[nn.Module, int]:
    """The likelihood of a table's columns, and the width of the network before it."""
    if {_family(column) for column in schema.columns} == {"normal"}:
        return GaussianNoise.of(schema.columns), schema.num_columns
    mixed = MixedLikelihood(schema, straight_through=straight_through)
    return mixed, mixed.num_outputs


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


class Decoder(nn.Module):
    """p(X|Z): a network, then a likelihood.

    Args:
        network: Maps z ``(..., latent_dim)`` to the likelihood's parameters.
        likelihood: Maps these to a column-wise distribution.
    """

    def __init__(self, network: nn.Module, likelihood: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.likelihood = likelihood

    def forward(self, z: Float[Tensor, "*batch latent_dim"]) -> TorchDistributionMixin:
        """A column-wise distribution of batch shape ``(..., rows, columns)``."""
        return self.likelihood(self.network(z))


NOISES: dict[str, type[GaussianNoise]] = {"normal": GaussianNoise, "student": StudentNoise}


def _family(column: Column) -> str:
    """Columns of one family are one computation; logarithms and logits of a column are as normal as numbers are."""
    if isinstance(column.kind, kinds.Categorical):
        return column.kind.name
    if isinstance(column.kind, kinds.Count):
        return "count" if column.kind.overdispersed else "count, Poisson"
    return "student" if isinstance(column.kind, kinds.HeavyTailed) else "normal"


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
