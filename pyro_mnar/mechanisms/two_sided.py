"""Both ends of a column go missing: log-odds of being observed a_d - b_d (x_d - c_d)², with b_d above zero.

    X_d → R_d        very low and very high values are withheld, those about c_d are seen

Incomes that are embarrassing on either side, instruments with a range, trimmed outliers.  The parameters are those of a
line (:mod:`pyro_mnar.mechanisms.steepness`): b may become a sharp border, and the half-width √(a/b) of what is seen
does not move with it.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from pyro_mnar.mechanisms.parents import Mechanism, Parents
from pyro_mnar.mechanisms.steepness import scale_of, steep
from pyro_mnar.nn.networks import checked_width

HALF_WIDTH = 2.0  # of what is seen at the start, standard deviations


class TwoSided(Mechanism):
    """Values far from a middle go missing, on either side.

    It is no line, so that the integral over a missing value has no closed form: ``numbers="summed"`` sums it out by
    quadrature, and by default it is drawn.  Levels without an order have no ends, and models refuse it for them.

    Args:
        num_columns: D.
        latent_dim: Not used; every mechanism is made with the same arguments.

    Attributes:
        middle: c_d; ``(columns,)``.
    """

    parents = Parents(own=True)

    def __init__(self, num_columns: int, latent_dim: int = 0) -> None:
        super().__init__()
        num_columns = checked_width("num_columns", num_columns)
        self.raw_level = nn.Parameter(torch.ones(num_columns))
        self.raw_curvature = nn.Parameter(torch.full((num_columns,), -1.0))
        self.middle = nn.Parameter(torch.zeros(num_columns))
        self._put_width()

    def reset_parameters(self) -> None:
        """Draw middles and curvatures anew, for restarts."""
        with torch.no_grad():
            self.raw_curvature.normal_().sub_(1.0)
            self.middle.normal_(std=0.5)
            self._put_width()

    def _put_width(self) -> None:
        with torch.no_grad():
            self.raw_level.copy_(HALF_WIDTH**2 * self.curvature / scale_of(self.curvature))

    @property
    def curvature(self) -> Float[Tensor, " columns"]:
        """b_d."""
        return steep(softplus(self.raw_curvature))

    @property
    def level(self) -> Float[Tensor, " columns"]:
        """a_d, the log-odds of being observed in the middle."""
        return self.raw_level * scale_of(self.curvature)

    def forward(
        self, x: Float[Tensor, "*batch columns"], z: Float[Tensor, "*batch latent_dim"]
    ) -> Float[Tensor, "*batch columns"]:
        """Log-odds of being observed."""
        return self.level - self.curvature * (x - self.middle).square()
