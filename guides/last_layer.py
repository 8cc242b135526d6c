"""An encoder's last layer by ridge regression, so that its posterior begins at a given one.

The layers before stay as they were drawn: features that are random, but enough of them to follow a linear map of the
inputs closely.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pyro_mnar.infer.data_start import LatentStart
from pyro_mnar.nn.networks import unconstrained_positive

RIDGE = 1e-3  # of the features' mean variance; less would need weights so large that a step of training upsets them
LEAST = 1e-12  # mean variance, for rows that are all the same


def put_last_layer(layer: nn.Linear, features: Float[Tensor, "rows features"], start: LatentStart) -> None:
    """Let a layer give the mean and the unconstrained scale of each latent.

    What the features miss of the means is added to the scales.

    Args:
        layer: With two outputs a latent, all means first.
        features: What goes into it.
        start: Where the latents are.
    """
    phi = features.double()
    middle = phi.mean(0)
    centred = phi - middle
    gram = centred.T @ centred / len(phi)
    ridge = RIDGE * gram.diagonal().mean().clamp(min=LEAST)
    gram = gram + ridge * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)

    def regressed(target: Tensor) -> tuple[Tensor, Tensor]:
        weight = torch.linalg.solve(gram, centred.T @ (target - target.mean(0)) / len(phi))
        return weight, target.mean(0) - middle @ weight

    mean, scale = start.mean.double(), start.scale.double()
    of_mean = regressed(mean)
    missed = (mean - phi @ of_mean[0] - of_mean[1]).var(0, unbiased=False)
    of_scale = regressed(unconstrained_positive((scale.square() + missed).sqrt()))
    layer.weight.copy_(torch.cat([of_mean[0], of_scale[0]], dim=1).T)
    layer.bias.copy_(torch.cat([of_mean[1], of_scale[1]]))
