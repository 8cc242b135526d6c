"""p(X|Z) from the decoder network's outputs: one small module a column kind, whose ``forward`` gives a distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pyro.distributions as dist
import torch
from jaxtyping import Bool, Float
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor, nn

PAPER_NOISE = math.exp(-2.0)  # B.1 fixes log σ = -2 on standardised columns
LEAST_NOISE = 1e-3  # of a column's standard deviation; keeps a perfect fit from an unbounded likelihood


class GaussianNoise(nn.Module):
    """X_d|Z ~ N(f_d(z), σ_d²), σ_d fixed or learned, per column, in standard deviations of the column.

    A column that also serves as U keeps its noise fixed: z can copy u, and a learned σ would then run to zero.

    Args:
        learned: Per column, whether σ_d is learned.
        noise: σ where fixed, and where learning starts.
    """

    learned: Bool[Tensor, " columns"]
    fixed_log_noise: Float[Tensor, ""]

    def __init__(self, learned: Sequence[bool], noise: float = PAPER_NOISE) -> None:
        super().__init__()
        if noise <= LEAST_NOISE:
            raise ValueError(f"noise: expected more than {LEAST_NOISE} standard deviations, got {noise}")
        self.register_buffer("learned", torch.tensor(list(learned)))
        self.register_buffer("fixed_log_noise", torch.tensor(math.log(noise)))
        self.log_noise = nn.Parameter(torch.full((len(self.learned),), math.log(noise)))

    def reset_parameters(self) -> None:
        """Draw learned scales anew around where learning starts, for restarts."""
        with torch.no_grad():
            self.log_noise.normal_(std=0.5).add_(self.fixed_log_noise)

    @property
    def noise(self) -> Float[Tensor, " columns"]:
        """σ per column, in standard deviations of the column."""
        return torch.where(self.learned, self.log_noise, self.fixed_log_noise).exp().clamp_min(LEAST_NOISE)

    def forward(self, mean: Float[Tensor, "*batch columns"]) -> TorchDistributionMixin:
        """A column-wise distribution of batch shape ``(..., rows, columns)``."""
        return dist.Normal(mean, self.noise)


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
