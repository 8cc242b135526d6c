"""p(X|Z) from the decoder network's outputs: one small module per family, whose ``forward`` gives a distribution.

A column's kind names its family, and :data:`LIKELIHOODS` says what makes a likelihood of the family's columns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, cast

import numpy as np
import pyro.distributions as dist
import torch
from jaxtyping import Bool, Float, Int
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor, nn
from torch.nn.functional import softplus

from pyro_mnar.distributions import Columns, PointOrDensity, StandardizedCounts
from pyro_mnar.kinds import LEAST_NOISE
from pyro_mnar.kinds.zero_inflated import NEAR
from pyro_mnar.messages import shown
from pyro_mnar.nn.level_likelihoods import LevelLikelihood, OrdinalLikelihood
from pyro_mnar.tables.columns import Column
from pyro_mnar.tables.schema import Schema

LARGE_MEAN = 1_000.0  # of counts whose relative spread may be small
PAPER_NOISE = math.exp(-2.0)  # B.1 fixes log σ = -2 on standardised columns


class GaussianNoise(nn.Module):
    """X_d|Z ~ N(f_d(z), σ_d²), with σ_d fixed or learned, per column or shared.

    σ_d is in standard deviations of the column.

    A column that also serves as U keeps its noise fixed: z can copy u, and a learned σ_d would go to zero.

    Args:
        learned: Per column, whether σ_d is learned.
        noise: σ_d where fixed, the initial value where learned; one number, or one per column.
        shared: Per column, whether it has the one learned σ that all such columns share; none if None.
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
    def of(cls, columns: Sequence[Column], *, straight_through: bool = False) -> GaussianNoise:
        """The noise of the columns' kinds; learned where a kind sets none.

        Args:
            columns: The columns.
            straight_through: Without effect, since draws of numbers are reparameterised.
        """
        asked = [getattr(column.kind, "noise", "learned") for column in columns]
        return cls(
            [isinstance(noise, str) and not column.is_auxiliary for noise, column in zip(asked, columns, strict=True)],
            [PAPER_NOISE if isinstance(noise, str) else noise for noise in asked],
            shared=[noise == "shared" for noise in asked],
        )

    @property
    def num_outputs(self) -> int:
        """Width of the network's output that this likelihood takes."""
        return len(self.learned)

    def reset_parameters(self) -> None:
        """Draw learned scales anew around their initial values, for restarts."""
        with torch.no_grad():
            self.log_noise.normal_(std=0.5).add_(self.fixed_log_noise)

    @property
    def noise(self) -> Float[Tensor, " columns"]:
        """σ_d per column, in standard deviations of the column."""
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
        shared: As for :class:`GaussianNoise`; ν_d is never shared.
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


class CountLikelihood(nn.Module):
    """Counts: negative binomial with mean exp(f_d(z))·m_d and a dispersion learned per column, or Poisson.

    Of a column with a mean above a thousand, f_d is in standard deviations relative to the mean, the dispersion starts
    where the moments put it, and densities are computed in float64: counts near a million differ by a thousandth, which
    neither noise in f_d nor float32 would let through.

    Args:
        columns: The columns, all of kind ``"count"``, all overdispersed or none.
        straight_through: Without effect, since draws of counts have no gradient.
    """

    offset: Float[Tensor, " columns"]
    unit: Float[Tensor, " columns"]
    relative: Float[Tensor, " columns"]
    most_log_mean: Float[Tensor, " columns"]
    most_log_total: Float[Tensor, " columns"]

    def __init__(self, columns: Sequence[Column], *, straight_through: bool = False) -> None:
        super().__init__()
        self.register_buffer("offset", torch.tensor([column.mean for column in columns]))
        self.register_buffer("unit", torch.tensor([column.std for column in columns]))
        self.overdispersed = columns[0].kind.likelihood == "negative binomial"
        mean, std = (np.array([getattr(column, name) for column in columns]) for name in ("mean", "std"))
        is_large, log = mean > LARGE_MEAN, np.log(np.maximum(mean, 1.0))
        self.has_large = bool(is_large.any())
        limits = {
            "relative": np.where(is_large, np.minimum(std / np.maximum(mean, 1.0), 1.0), 1.0),
            "most_log_mean": np.where(is_large, np.maximum(log + 5.0, 15.0), 15.0),
            "most_log_total": np.where(is_large, log + 7.0, 10.0),  # there, all but a Poisson
        }
        for name, values in limits.items():
            self.register_buffer(name, torch.tensor(values.tolist()), persistent=False)
        if self.overdispersed:
            excess = np.maximum(std**2 - mean, 1e-3 * np.maximum(mean, 1.0))
            by_moments = np.clip(2 * np.log(np.maximum(mean, 1.0)) - np.log(excess), 3.0, limits["most_log_total"])
            self.log_total = nn.Parameter(torch.tensor(np.where(is_large, by_moments, 3.0).tolist()))

    @property
    def num_outputs(self) -> int:
        """Width of the network's output that this likelihood takes."""
        return len(self.offset)

    def forward(self, outputs: Float[Tensor, "*batch columns"]) -> TorchDistributionMixin:
        """A column-wise distribution of batch shape ``(..., rows, columns)``."""
        outputs = outputs.double() if self.has_large else outputs
        log_mean = outputs * self.relative + self.offset.clamp_min(0.1).log()
        log_mean = torch.minimum(log_mean, self.most_log_mean)
        if not self.overdispersed:
            return StandardizedCounts(dist.Poisson(log_mean.exp()), self.offset, self.unit)
        log_total = torch.minimum(self.log_total.clamp_min(-5.0), self.most_log_total)
        total = (log_total.double() if self.has_large else log_total).exp()
        return StandardizedCounts(dist.NegativeBinomial(total, logits=log_mean - total.log()), self.offset, self.unit)


class ZeroInflatedLikelihood(nn.Module):
    """Zero with log-odds f_d0(z), else log-normal about f_d1(z) with σ_d learned (two-part model).

    The network has two outputs a column: all log-odds first, then the means of the logarithms, standardised.

    Args:
        columns: The columns, all of kind ``"zero_inflated"``.
        straight_through: Without effect, since draws that may be zero have no gradient.
    """

    points: Float[Tensor, " columns"]
    near: Float[Tensor, " columns"]

    def __init__(self, columns: Sequence[Column], *, straight_through: bool = False) -> None:
        super().__init__()
        zeros = [float(column.encode(np.zeros(1))[0]) for column in columns]
        self.register_buffer("points", torch.tensor(zeros))
        self.register_buffer("near", torch.tensor([NEAR / column.std for column in columns]))
        self.noise = GaussianNoise([True] * len(columns))

    @property
    def num_outputs(self) -> int:
        """Width of the network's output that this likelihood takes."""
        return 2 * len(self.points)

    def reset_parameters(self) -> None:
        """Draw learned scales anew, for restarts."""
        self.noise.reset_parameters()

    def forward(self, outputs: Float[Tensor, "*batch outputs"]) -> TorchDistributionMixin:
        """A column-wise distribution of batch shape ``(..., rows, columns)``."""
        logits, mean = outputs.chunk(2, dim=-1)
        return PointOrDensity(logits, self.noise(mean), self.points, self.near)


class LikelihoodFactory(Protocol):
    """What makes p(X|Z) of the columns of one family: a module's class, or a function that returns one.

    The module has ``num_outputs``, the width of the network's output that it takes, and its ``forward`` maps such an
    output to a column-wise distribution of standardised values.
    """

    def __call__(self, columns: Sequence[Column], *, straight_through: bool) -> nn.Module:
        """The module of some columns; ``straight_through`` as for :class:`MixedLikelihood`."""
        ...


LIKELIHOODS: dict[str, LikelihoodFactory] = {
    "normal": GaussianNoise.of,
    "student": StudentNoise.of,
    "negative binomial": CountLikelihood,
    "poisson": CountLikelihood,
    "zero or normal": ZeroInflatedLikelihood,
    "binary": LevelLikelihood,
    "categorical": LevelLikelihood,
    "ordinal": OrdinalLikelihood,
}  # by the ``likelihood`` of a kind; a kind of one's own may bring an entry of its own


class MixedLikelihood(nn.Module):
    """Columns of any kinds: one pass per family, however many columns it has.

    A column that also serves as U keeps its noise fixed, as for :class:`GaussianNoise`.

    Args:
        schema: The columns.
        straight_through: For discrete columns, as for :class:`~pyro_mnar.distributions.Levels`.

    Raises:
        ValueError: If a kind names a family that :data:`LIKELIHOODS` does not hold.
    """

    def __init__(self, schema: Schema, *, straight_through: bool = False) -> None:
        super().__init__()
        grouped: dict[str, list[int]] = {}
        for position, column in enumerate(schema.columns):
            family = column.kind.likelihood
            if family not in LIKELIHOODS:
                raise ValueError(
                    f"column {column.name!r} of kind {column.kind.name!r}: expected a likelihood among"
                    f" {sorted(LIKELIHOODS)}, got {shown(family)} (add it to pyro_mnar.nn.likelihoods.LIKELIHOODS)"
                )
            grouped.setdefault(family, []).append(position)
        self.positions = [tuple(positions) for positions in grouped.values()]
        self.parts = nn.ModuleList(
            LIKELIHOODS[family]([schema.columns[at] for at in positions], straight_through=straight_through)
            for family, positions in grouped.items()
        )
        self.widths = [cast(int, part.num_outputs) for part in self.parts]

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
    if {column.kind.likelihood for column in schema.columns} == {"normal"}:
        return GaussianNoise.of(schema.columns), schema.num_columns
    mixed = MixedLikelihood(schema, straight_through=straight_through)
    return mixed, mixed.num_outputs


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
