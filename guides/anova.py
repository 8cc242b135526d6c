"""The ANOVA example's own posterior: conjugate given x, then Laplace's approximation of the mask's factor.

    p(z_d | x_d, r_d) ∝ N(z_d; m, s²) · sigmoid(±(λ_0 + λ_1 z_d))

with (m, s²) the conjugate posterior where x_d is observed (sign +) and the prior where it is missing (sign −).  The
density is log-concave, so a few safe steps and a few of Newton's reach its mode, and the normal there is so close
that few particles make the bound tight.
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_mnar.infer.construction import remembered
from pyro_mnar.models.anova import ANOVA
from pyro_mnar.primitives import rows
from pyro_mnar.tables.batch import Batch

SAFE_STEPS = 8  # with the curvature's upper bound, which cannot overshoot where the sigmoid is flat
NEWTON_STEPS = 5


@remembered
class ANOVAConditional(nn.Module):
    """q(z | x_o, r) of the :class:`~pyro_mnar.models.ANOVA` example, by Laplace's method; it has no parameters of its
    own.

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
        scored = (batch.mask_modelled & batch.incomplete).to(mean.dtype)

        def step(z: Tensor, curvature: Tensor) -> Tensor:
            residual = batch.mask.to(z.dtype) - model.mechanism(z).sigmoid()
            return z + (precision * (mean - z) + scored * slope * residual) / curvature

        def curvature(z: Tensor) -> Tensor:
            observed = model.mechanism(z).sigmoid()
            return precision + scored * slope**2 * observed * (1 - observed)

        with torch.no_grad():
            mode, bound = mean, precision + scored * slope**2 / 4
            for _ in range(SAFE_STEPS):
                mode = step(mode, bound)
            for _ in range(NEWTON_STEPS):
                mode = step(mode, curvature(mode))
        mode = step(mode, curvature(mode).detach())  # one step with gradients, which at the mode are the mode's own
        scale = curvature(mode).rsqrt()
        with rows(batch):
            return pyro.sample("z", dist.Normal(mode, scale).to_event(1))
