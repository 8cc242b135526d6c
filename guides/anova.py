"""The ANOVA example's own posterior: conjugate given x, then Laplace's approximation of the mask's factor.

    p(z_d | x_d, r_d) ∝ N(z_d; m, s²) · sigmoid(±(λ_0 + λ_1 z_d))

with (m, s²) the conjugate posterior where x_d is observed (sign +) and the prior where it is missing (sign −).  The density
is log-concave, so a few Newton steps reach its mode, and the normal there is so close that few particles make the bound tight.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_mnar.batch import Batch
from pyro_mnar.primitives import rows

if TYPE_CHECKING:
    from pyro_mnar.models.anova import ANOVA

NEWTON_STEPS = 4  # at slopes up to 3 and a prior sd of 1 the last step moves the mode by less than 1e-6


class ANOVAConditional(nn.Module):
    """q(z | x_o, r) of the :class:`~pyro_mnar.models.ANOVA` example, by Laplace's method; it has no parameters of its own.

    Args:
        model: The model whose posterior this is; gradients flow to its parameters through the guide too.
    """

    def __init__(self, model: ANOVA) -> None:
        super().__init__()
        # In a tuple: as a submodule it would pass its parameters off as the guide's, under a second name.
        self._of = (model,)

    def forward(self, batch: Batch) -> Tensor:
        """Draw z, standardised; ``(..., rows, columns)``."""
        (model,) = self._of
        prior_precision, data_precision = (model.zeta / model.unit) ** -2, (model.noise / model.unit) ** -2
        precision = prior_precision + data_precision * batch.mask
        mean = (prior_precision * model.shift + data_precision * batch.x) / precision

        slope = model.slope * model.unit  # of the log-odds, by standardised z
        seen = batch.mask.to(mean.dtype)
        scored = (batch.mask_modelled & batch.incomplete).to(mean.dtype)
        mode = mean
        for _ in range(NEWTON_STEPS):
            observed = model.mechanism(mode).sigmoid()
            curvature = precision + scored * slope**2 * observed * (1 - observed)
            mode = mode + (precision * (mean - mode) + scored * slope * (seen - observed)) / curvature
        with rows(batch):
            return pyro.sample("z", dist.Normal(mode, curvature.rsqrt()).to_event(1))
