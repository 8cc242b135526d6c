"""Comparisons with chance in them, and the small models that several test files share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from scipy import stats
from torch import Tensor

from pyro_mnar import Batch, Fit, Table, mechanisms, observe_mask, partially_observed, rows
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.imputation.sampler import Sampler
from pyro_mnar.imputation.target import Target
from pyro_mnar.infer.session import Session
from pyro_mnar.models import GINA

# Chance that a right implementation fails one check_mean; the seed is fixed, so it fails always or never.
FALSE_ALARM = 1e-5


def check_mean(samples: Tensor, expected: Tensor | float) -> None:
    """Two-sided z-test of the mean over the first dimension, Bonferroni-corrected over the other ones."""
    expected = torch.as_tensor(expected, dtype=samples.dtype)
    error = samples.std(0) / len(samples) ** 0.5
    distance = (samples.mean(0) - expected).abs()
    limit = z_limit(distance.numel())
    assert (distance <= limit * error + 1e-12).all(), (
        f"{samples.mean(0)} is more than {limit:.1f} errors of {error} from {expected}"
    )


def check_same_mean(first: Tensor, second: Tensor) -> None:
    """The same for two independent samples of equal size."""
    check_mean(first - second, 0.0)


def z_limit(comparisons: int = 1) -> float:
    """Standard errors that chance exceeds in one of so many comparisons with probability FALSE_ALARM."""
    return float(stats.norm.isf(FALSE_ALARM / 2 / comparisons))


def table_with_gaps(num_rows: int = 40, num_columns: int = 3, num_auxiliaries: int = 1) -> Table:
    """Normal columns, of which about a third is missing, and complete auxiliary ones."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(num_rows, num_columns + num_auxiliaries, generator=generator)
    gaps = torch.rand(num_rows, num_columns, generator=generator) < 0.3
    gaps[0] = False
    values[:, :num_columns] = values[:, :num_columns].masked_fill(gaps, torch.nan)
    names = [f"x{d}" for d in range(num_columns)] + [f"u{d}" for d in range(num_auxiliaries)]
    return Table.from_numpy(values.numpy(), columns=names, auxiliary=names[num_columns:])


def bounded_table(kinds: dict[str, str]) -> Table:
    """Gaps with an upper bound, a lower one, both or none, and columns without."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"score": random.poisson(5.0, 60), "amount": 1.0, "share": 0.5, "age": random.normal(size=60)})
    frame["amount"], frame["share"] = random.lognormal(size=60), random.uniform(0.1, 0.9, 60)
    frame["score"] = frame["score"].astype(float)
    truth = frame.copy()
    lower, upper = {}, {}
    for column in ("score", "amount", "share"):
        gaps = random.random(60) < 0.5
        frame.loc[gaps, column] = None
        lower[column], upper[column] = (
            np.where(gaps & (random.random(60) < 0.5), truth[column] + shift, np.nan) for shift in (-0.05, 0.05)
        )
        if column == "score":
            lower[column], upper[column] = np.floor(lower[column]), np.ceil(upper[column])
    return Table.from_frame(frame, auxiliary=[], kinds=kinds, lower=lower, upper=upper)


def gina_pair(table: Table, mechanism: Callable = mechanisms.General, **options: object) -> tuple[GINA, ZeroImpute]:
    """GINA and its guide, small, with no parameter at zero, where half of the gradients would vanish."""
    model = GINA(table, latent_dim=2, mechanism=mechanism, seed=1, **options)
    guide = ZeroImpute(table, model.latent_dim, hidden=[5], seed=2)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in [*model.parameters(), *guide.parameters()]:
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model, guide


def own_store() -> AbstractContextManager:
    """A parameter store for the length of a with block."""
    return pyro.get_param_store().scope()


class NormalGuide(PyroModule):
    """q(z|x_o) = N(slope·x, scale²) for models with one latent and one column."""

    def __init__(self, slope: float, scale: float) -> None:
        super().__init__()
        self.slope = torch.nn.Parameter(torch.tensor(slope))
        self.scale = torch.nn.Parameter(torch.tensor(scale))

    def forward(self, batch: Batch) -> None:
        with rows(batch):
            pyro.sample("z", dist.Normal(self.slope * batch.x[:, 0], self.scale))


def sampler_of(
    fit: Fit, num_draws: int = 4, num_particles: int = 6, target: Target = Target.GIVEN_MASK, **options
) -> Sampler:
    """A sampler as ``impute`` makes it."""
    return Sampler(fit, num_draws, num_particles, target, Session(0, fit.device, fit.store), **options)


class Independent:
    """Columns N(mean, scale²) on the standardised line, with log-odds a + b·x of being observed if given."""

    def __init__(self, mean: list[float], scale: list[float], odds: tuple[float, float] | None = None) -> None:
        self.mean, self.scale, self.odds = torch.tensor(mean) * 1.0, torch.tensor(scale) * 1.0, odds

    def __call__(self, batch: Batch) -> None:
        with rows(batch):
            x = partially_observed("x", dist.Normal(self.mean.expand(len(batch), -1), self.scale), batch)
            if self.odds is not None:
                observe_mask("r", self.odds[0] + self.odds[1] * x, batch)


def no_latents(batch: Batch) -> None:
    """A guide that leaves everything to the model."""
