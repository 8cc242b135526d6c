"""Simulation-based calibration of `impute` (Talts et al., 2018): parameters, values and masks drawn from one law.

A table is drawn with its truth, its gaps are imputed by the very model that drew it, and of each missing value the rank
among its draws is noted.  Ranks are uniform if and only if draws follow the conditional law, whatever that law is: no
closed form is needed, and marginal and tail errors show alike.  Rows are independent, one rank is taken of each.

False alarms: a χ² test at FALSE_ALARM each.  Imputations that ignore the mechanism have to fail the same test.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from checks import FALSE_ALARM
from pyro_mnar import Batch, Fit, Table, impute, observe_mask, partially_observed, rows
from pyro_mnar.distributions import OwnValueMechanism

pytestmark = pytest.mark.usefixtures("own_store")

DRAWS = 19  # twenty ranks
LOADING, NOISE = torch.tensor([[0.9, 0.8], [0.5, 0.6]], dtype=torch.float64)
INTERCEPT, SLOPE = torch.tensor([[0.5, 0.3], [-1.0, -2.0]], dtype=torch.float64)  # high values go missing


def predictor(x: Tensor) -> Tensor:
    return INTERCEPT + SLOPE * x


def probit(batch: Batch) -> None:
    """Two correlated normals; what is missing is drawn exactly, as one mask after the other says."""
    law = dist.MultivariateNormal(torch.zeros(2), LOADING.outer(LOADING) + NOISE.square().diag())
    with rows(batch):
        own = OwnValueMechanism(predictor, slope=SLOPE, link="probit")
        x = partially_observed("x", law, batch, mechanism=own)
        observe_mask("r", predictor(x), batch, link="probit")


def nothing(batch: Batch) -> None:
    """There is no latent."""


def logistic(batch: Batch) -> None:
    """The same law with its cause as a latent, so that importance weights have all of the mask's work to do."""
    with rows(batch):
        z = pyro.sample("z", dist.Normal(torch.zeros(len(batch)), 1.0))
        x = partially_observed("x", dist.Normal(z[..., None] * LOADING, NOISE), batch)
        observe_mask("r", predictor(x), batch)


def latent_given_seen(batch: Batch) -> None:
    precision = LOADING / NOISE**2
    variance = 1 / (1 + (batch.mask * precision * LOADING).sum(-1))
    with rows(batch):
        pyro.sample("z", dist.Normal(variance * (batch.mask * precision * batch.x).sum(-1), variance.sqrt()))


CASES: dict[str, tuple[Callable, Callable, Callable, int, int]] = {
    "probit": (torch.special.ndtr, probit, nothing, 1_000, 20),
    "logistic": (torch.sigmoid, logistic, latent_given_seen, 1_000, 1_000),
}


def ranks(case: str, *, use_mechanism: bool) -> NDArray[np.int64]:
    """Of the last gap of each row with one, how many draws are below the truth."""
    chance, model, guide, num_rows, num_particles = CASES[case]
    truth = torch.randn(num_rows, 1) * LOADING + NOISE * torch.randn(num_rows, 2)
    seen = torch.rand(num_rows, 2) < chance(predictor(truth))
    kept = ~seen.all(1)
    table = Table.from_numpy(torch.where(seen, truth, torch.nan)[kept].numpy(), auxiliary=[], standardize=False)
    found = impute(
        Fit(model, guide, table.schema),
        table,
        num_draws=DRAWS,
        num_particles=num_particles,
        use_mechanism=use_mechanism,
        seed=0,
    )
    in_rows, in_columns = found.cells
    below = (found.draws < truth[kept].numpy()[in_rows, in_columns]).sum(0)
    of_last = np.append(np.diff(in_rows) > 0, True)
    return below[of_last]


def p_value(ranks: NDArray[np.int64]) -> float:
    """Of a χ² test that all ranks are as frequent."""
    return float(stats.chisquare(np.bincount(ranks, minlength=DRAWS + 1)).pvalue)


@pytest.mark.parametrize("case", ["probit", pytest.param("logistic", marks=pytest.mark.slow)])
def test_ranks_of_the_truth_among_its_draws_are_uniform(case: str) -> None:
    assert p_value(ranks(case, use_mechanism=True)) > FALSE_ALARM
    assert p_value(ranks(case, use_mechanism=False)) < FALSE_ALARM
