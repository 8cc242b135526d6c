"""Scales inside the row plate that are neither β nor annealing.

They stand within the logarithm: a row's term is log (1/K) Σ_k w_k with w_k a product of powers, and no weighted sum of
log-densities.  With survey weights given so, −773.4 came out where Σ w log p is −836.3.
"""

from __future__ import annotations

import warnings

import torch
from pyro.poutine import Trace

from pyro_mnar.infer.sites import is_shared, mechanism_weight, stochastic_sites


def warn_of_row_scales(trace: Trace, scale: float, plate: str) -> None:
    """Name observed sites with a scale of the user's own, and latents whose scale differs from row to row.

    One number on a latent is annealing, and that of a mask its β; both are parts of the weight on purpose.

    Args:
        trace: Of the model.
        scale: The minibatch factor N/B.
        plate: Name of the row plate.
    """
    found = []
    for name, site in stochastic_sites(trace).items():
        own = torch.as_tensor(site["scale"]) / scale
        if is_shared(site, plate) or own.is_meta:
            continue
        beta = mechanism_weight(site)
        expected = 1.0 if beta is None else beta
        is_annealing = not site["is_observed"] and own.numel() == 1
        if not is_annealing and not bool(torch.isclose(own, torch.as_tensor(expected, dtype=own.dtype)).all()):
            found.append(name)
    if found:
        warnings.warn(
            f"sites {', '.join(map(repr, found))}: a scale inside the row plate (poutine.scale) stands within the"
            " logarithm of the row's weights, so it is no weight of rows.  Take it off: rows count equally in a model,"
            " a mask's part is set by observe_mask(weight=...), and one number on a latent anneals",
            stacklevel=2,
        )
