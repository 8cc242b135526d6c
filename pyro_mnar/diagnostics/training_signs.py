"""What the training itself says: whether the bound still rises, which latents are idle."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyro.poutine as poutine
import torch
from pyro.distributions import Normal
from torch import Tensor

from pyro_mnar.capture.gradient import loss_and_gradient
from pyro_mnar.infer.objective import ImportanceWeightedELBO
from pyro_mnar.infer.parameters import trainable_parameters
from pyro_mnar.infer.session import Session
from pyro_mnar.infer.sites import column_distribution, holds_columns, is_shared, stochastic_sites
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.positions import spread_evenly
from pyro_mnar.tables.table import Table
from pyro_mnar.training.fitted import Fit
from pyro_mnar.training.restarts import column_of

MOST_ROWS = 512


def rise(fit: Fit) -> tuple[float, float]:
    """By how much the bound rose over the last tenth of the epochs, in nats a row, and its standard error.

    NaN if fewer than ten epochs are known.
    """
    if len(fit.history) < 10:
        return np.nan, np.nan
    values = fit.history[column_of(fit)].to_numpy(dtype=np.float64)
    length = max(2, len(values) // 10)
    last, before = values[-length:], values[-2 * length : -length]
    # Noise from epoch to epoch, without the trend.
    noise = np.diff(values[-2 * length :]).std() / 2**0.5
    return float(last.mean() - before.mean()), float(noise * (2 / length) ** 0.5)


def gradient_norm(fit: Fit, table: Table, *, draws: int = 20, seed: int = 0) -> tuple[float, float]:
    """Norm of the gradient of the bound, per row, and the norm that noise of the particles alone would give it.

    Of rows spread evenly over the table, the mean of several draws.  NaN where there is nothing to train.
    """
    batch = table.source().take(torch.from_numpy(spread_evenly(len(table), MOST_ROWS))).to(fit.device)
    objective = ImportanceWeightedELBO(5)
    with Session(seed, fit.device, fit.store).running():
        objective.particles(fit.model, fit.guide, batch)  # guides may make their parameters when first called
        parameters = trainable_parameters(fit.model, fit.guide)
        if not parameters:
            return np.nan, np.nan

        def loss(batch: Batch) -> Tensor:
            return objective.differentiable_loss(fit.model, fit.guide, batch) / batch.size

        found = torch.stack([loss_and_gradient(loss, parameters, batch)[1] for _ in range(draws)]).double()
    return float(found.mean(0).norm()), float((found.var(0).sum() / draws).sqrt())


def still_rises(gained: float, error: float, least: float = 0.005) -> bool:
    """Whether a :func:`rise` is more than noise, and more than so many nats a row; False where none is known."""
    return gained > max(least, 3 * error)


def kl_by_dimension(fit: Fit, table: Table, *, seed: int = 0) -> pd.Series:
    """KL(q(z_h | x_o, r) ‖ p(z_h | u)), mean over rows, of each dimension of a latent with normal guide and prior."""
    batch = table.source().take(torch.from_numpy(spread_evenly(len(table), MOST_ROWS))).to(fit.device)
    with Session(seed, fit.device, fit.store).running(), torch.no_grad():
        guide_trace = poutine.trace(fit.guide).get_trace(batch)
        model_trace = poutine.trace(poutine.replay(fit.model, trace=guide_trace)).get_trace(batch)
        found = {}
        for name, site in stochastic_sites(guide_trace).items():
            if holds_columns(site) or is_shared(site) or name not in model_trace:
                continue
            q, p = column_distribution(site["fn"]), column_distribution(model_trace.nodes[name]["fn"])
            if isinstance(q, Normal) and isinstance(p, Normal):
                kl = torch.distributions.kl_divergence(q, p)
                kl = kl.reshape(len(batch), -1) if kl.dim() else kl.expand(len(batch), 1)
                counts = kl.new_ones(len(batch)) if batch.weight is None else batch.weight
                mean = (counts[:, None] * kl).sum(0) / counts.sum()
                found |= {f"{name}[{h}]": value for h, value in enumerate(mean.tolist())}
    return pd.Series(found, dtype=np.float64, name="kl")
