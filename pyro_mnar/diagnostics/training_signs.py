"""What the training itself says: whether the bound still rises, which latents are idle, what the mechanism moved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyro.poutine as poutine
import torch
from pyro.distributions import Normal
from torch import Tensor, nn

from pyro_mnar.capture.gradient import loss_and_gradient
from pyro_mnar.diagnostics.spread import means_by_column
from pyro_mnar.imputation import impute
from pyro_mnar.imputation.target import Target
from pyro_mnar.infer.objective import ImportanceWeightedELBO
from pyro_mnar.infer.parameters import trainable_parameters
from pyro_mnar.infer.session import Session
from pyro_mnar.infer.sites import column_distribution, holds_columns, is_shared, stochastic_sites
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.positions import spread_evenly
from pyro_mnar.tables.table import Table
from pyro_mnar.training.evidence import row_weights
from pyro_mnar.training.fitted import Fit
from pyro_mnar.training.plan import TrainingPlan
from pyro_mnar.training.restarts import Start, column_of, copied_pair

MOST_ROWS = 512


class WithoutMask(nn.Module):
    """A model with its mechanism left out: what an ignorable analysis fits."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.inner = model

    def forward(self, batch: Any) -> Any:
        """Run the model on a batch."""
        return Target.WITHOUT_MASK.model(self.inner)(batch)


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


def ignorable_fit(fit: Fit, table: Table, *, steps: int = 1000, batch_size: int = 128, seed: int = 0) -> Fit:
    """The same model and guide fitted anew without the mechanism, from where the fit ended."""
    (model, guide), store = copied_pair(fit.model, fit.guide, table, fit.store, seed)
    if not isinstance(model, nn.Module):
        raise TypeError(
            "model: expected a torch Module, whose copy can be fitted without its mechanism; give ignorable="
        )
    epochs = -(-steps * min(batch_size, len(table)) // len(table))
    objective = ImportanceWeightedELBO()
    plan = TrainingPlan(objective, table, None, epochs, batch_size, 1e-2, fit.device, progress=False)
    with plan.enough_threads():
        trained = plan.run(Start(WithoutMask(model), guide, seed, store))
    if trained.interrupted:
        raise KeyboardInterrupt
    return trained.fit


def distance_from_ignorable(fit: Fit, ignorable: Fit, table: Table, *, seed: int = 0) -> pd.DataFrame:
    """Imputed means by column of a fit and of an ignorable one, and their distance in observed standard deviations."""
    weight = row_weights(table)
    means = [
        means_by_column(impute(one, table, num_draws=1, num_particles=200, seed=seed), weight)
        for one in (fit.without_bootstrap(), ignorable)
    ]
    rows = {}
    for d in means[0]:
        column = table.schema.columns[d]
        if column.kind.holds_words:
            continue  # the mean of words' positions means nothing
        here = table.mask[:, d].numpy()
        seen = np.asarray(column.decode(table.x[here, d].double().numpy()), dtype=np.float64)
        own = None if weight is None else weight[here]
        spread = float(np.average((seen - np.average(seen, weights=own)) ** 2, weights=own)) ** 0.5 or 1.0
        mean, other = means[0][d], means[1][d]
        rows[column.name] = {"imputed": mean, "ignorable": other, "distance_in_sd": (mean - other) / spread}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["imputed", "ignorable", "distance_in_sd"])
