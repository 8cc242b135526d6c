"""The prior p(Z|U), which identifies the latent if it depends on U (paper equation 3; Khemakhem et al. 2020)."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor, nn

from pyro_mnar.nn.forests import Forests
from pyro_mnar.nn.networks import positive
from pyro_mnar.nn.row_groups import RowGroups


class StandardNormal(nn.Module):
    """p(Z) = N(0, I), independent of U.

    Args:
        latent_dim: H.
    """

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim

    def forward(self, aux: Float[Tensor, "rows auxiliaries"]) -> TorchDistributionMixin:
        """A distribution of batch shape ``(rows,)`` and event shape ``(latent_dim,)``."""
        zeros = aux.new_zeros(len(aux), self.latent_dim)
        return dist.Normal(zeros, zeros + 1).to_event(1)


class LinearNormal(nn.Module):
    """p(Z|U) = Π_h N(z_h; m_h(u), s_h(u)²), where m and the unconstrained s are linear in u (B.1), or in u, in how
    far the row belongs to each of several groups, and in what forests expect of columns.

    It starts close to N(0, I).

    Args:
        num_auxiliaries: Width of u.
        latent_dim: H.
        groups: What tells groups by u; None if there are none.
        forests: What expects columns by u; None if nothing does.

    Attributes:
        num_beside: How many features there are beside u.
    """

    def __init__(
        self,
        num_auxiliaries: int,
        latent_dim: int,
        groups: RowGroups | None = None,
        forests: Forests | None = None,
    ) -> None:
        super().__init__()
        self.groups, self.forests = groups, forests
        self.num_beside = (groups.num_groups if groups else 0) + (forests.num_outputs if forests else 0)
        self.parameters_of_u = nn.Linear(num_auxiliaries + self.num_beside, 2 * latent_dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the linear map anew, such that the prior is close to N(0, I)."""
        nn.init.normal_(self.parameters_of_u.weight, std=0.01)
        nn.init.zeros_(self.parameters_of_u.bias)

    def forward(self, aux: Float[Tensor, "rows auxiliaries"]) -> TorchDistributionMixin:
        """A distribution of batch shape ``(rows,)`` and event shape ``(latent_dim,)``."""
        mean, scale = self.parameters_of_u(self.features(aux)).chunk(2, dim=-1)
        return dist.Normal(mean, positive(scale)).to_event(1)

    def features(self, aux: Float[Tensor, "rows auxiliaries"]) -> Float[Tensor, "rows features"]:
        """What the parameters are linear in: u, then groups, then what forests expect."""
        beside = [part(aux) for part in (self.groups, self.forests) if part is not None]
        return torch.cat([aux, *beside], dim=-1) if beside else aux
