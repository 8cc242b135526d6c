"""Draws that have their particles in common follow each row's law, and are as independent as Rubin's rules take them.

Each model has one column with gaps, whose law given the rest of its row is known by a grid.  With its mean m and its
variance v, of M independent draws of a row

    (mean of the draws - m) / √(v / M)     has mean 0 (no bias) and variance 1 (no dependence between draws),
    (variance between the draws) / v       has mean 1,

whatever the row.  With correlation ρ between draws of a row the last two become 1 + (M - 1) ρ and 1 - ρ.  Over 2,000
rows chance moves them by 0.03 and 0.01.  False alarms: FALSE_ALARM each.  Of two modes, one of which Newton's method
finds, the share is known from the guide's particles alone: there a ρ of 0.02 and a bias of 0.1 / √M are let pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from checks import FALSE_ALARM, check_mean, gina_pair, sampler_of, table_with_gaps, z_limit
from pyro_mnar import Batch, Fit, Table, impute, observe_mask, partially_observed, rows
from pyro_mnar.distributions import OwnValueMechanism
from pyro_mnar.imputation.common_particles import CommonParticles, first_size
from pyro_mnar.imputation.resampling import of_strata
from pyro_mnar.imputation.row_proposals import NearModes, RowNormals, row_normals, site_to_sharpen
from pyro_mnar.infer.session import Session
from pyro_mnar.mechanisms import SelfMasking

pytestmark = pytest.mark.usefixtures("own_store")

DRAWS, ROWS = 20, 2_000
GRID = np.linspace(-6, 6, 601)  # of the missing value
LATENT = np.linspace(-6, 6, 601)


class Case(NamedTuple):
    """A model with one column that goes missing, high values first where it masks itself.

    Attributes:
        seen: What z makes of the complete column.
        scales: Of the noise of both.
        odds: Intercept and slope of the log-odds of the first.
        centre: Of the guide, as a function of the complete column.
        width: Of the guide.
    """

    seen: Callable[[Tensor], Tensor]
    scales: tuple[float, float]
    odds: tuple[float, float]
    centre: Callable[[Tensor], Tensor]
    width: float

    def model(self, batch: Batch) -> None:
        intercept, slope = torch.tensor([self.odds[0], 0.0]), torch.tensor([self.odds[1], 0.0])
        own = OwnValueMechanism(lambda row: intercept + slope * row, slope)
        with rows(batch):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(batch), 1), 1.0).to_event(1))
            law = dist.Normal(torch.cat([z, self.seen(z)], -1), torch.tensor(self.scales))
            x = partially_observed("x", law, batch, mechanism=own)
            observe_mask("r", intercept + slope * x, batch)

    def guide(self, batch: Batch) -> None:
        with rows(batch):
            centre = self.centre(batch.x[:, 1:])
            pyro.sample("z", dist.Normal(centre, torch.full_like(centre, self.width)).to_event(1))

    def table(self, num_rows: int = ROWS) -> Table:
        """Rows whose first column is missing."""
        z = torch.randn(8 * num_rows, 1)
        x = torch.cat([z, self.seen(z)], -1) + torch.tensor(self.scales) * torch.randn(len(z), 2)
        is_gone = torch.rand(len(z)) > torch.sigmoid(self.odds[0] + self.odds[1] * x[:, 0])
        x[:, 0] = x[:, 0].masked_fill(is_gone, torch.nan)
        kept = torch.cat([is_gone.nonzero()[: num_rows - 2, 0], (~is_gone).nonzero()[:2, 0]])
        return Table.from_numpy(x[kept].numpy(), auxiliary=[], standardize=False)

    def moments(self, seen: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and variance of the missing value of each row."""
        at = self.seen(torch.from_numpy(LATENT)).numpy()
        prior = stats.norm.pdf(LATENT) * stats.norm.pdf(seen[:, None], at, self.scales[1])
        value = prior @ stats.norm.pdf(GRID, LATENT[:, None], self.scales[0])
        value /= 1 + np.exp(self.odds[0] + self.odds[1] * GRID)
        value /= value.sum(1, keepdims=True)
        mean = value @ GRID
        return mean, value @ GRID**2 - mean**2


CASES = {
    "linear, guide one standard deviation off": Case(
        lambda z: z, (0.2, 0.3), (0.0, 0.0), lambda seen: 0.9 * seen + 0.3, 0.3
    ),
    "masked steeply, guide far too wide": Case(lambda z: z, (0.3, 0.8), (2.0, -8.0), lambda seen: 0 * seen, 2.0),
    "masked, guide far too narrow": Case(lambda z: z, (0.5, 0.5), (1.0, -3.0), lambda seen: 0.8 * seen, 0.1),
    "two modes, guide that holds both": Case(lambda z: z**2, (0.1, 0.3), (0.0, 0.0), lambda seen: 0 * seen + 0.4, 1.5),
}


class Checked(NamedTuple):
    """Of each row: bias, variance of the mean less 1, variance between draws less 1.

    Attributes:
        mean: Over the rows.
        error: Of these means.
        effective: Effective sample size of each row.
    """

    mean: NDArray[np.float64]
    error: NDArray[np.float64]
    effective: NDArray[np.float64]


def checked(case: Case, **options: int) -> Checked:
    table = case.table()
    found = impute(Fit(case.model, case.guide, table.schema), table, num_draws=DRAWS, seed=0, **options)
    mean, variance = case.moments(table.x[found.cells[0], 1].double().numpy())
    distance = (found.draws.mean(0) - mean) / np.sqrt(variance / DRAWS)
    each = np.stack([distance, distance**2 - 1, found.draws.var(0, ddof=1) / variance - 1])
    effective = found.effective_sample_size[found.cells[0]]
    return Checked(each.mean(1), each.std(1) / np.sqrt(each.shape[1]), effective)


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if "modes" in n else n for n in CASES])
def test_draws_follow_the_law_and_are_independent(name: str) -> None:
    has_modes = "two modes" in name
    found, passed = checked(CASES[name]), np.array([0.1, 0.02 * (DRAWS - 1), 0.02]) * has_modes
    assert (np.abs(found.mean) < z_limit(3) * found.error + passed).all(), found
    again = (found.effective > first_size(DRAWS)).mean()  # rows that took a second set
    assert again > 0.5 if has_modes else again < 0.1  # a steep mask leaves laws that no normal one is close to


@pytest.mark.slow
def test_the_guide_alone_does_not() -> None:
    """What the test above finds is there to be found: 100 particles for each draw, from the same guide."""
    found = checked(CASES["masked, guide far too narrow"], num_particles=100)
    assert (np.abs(found.mean) > [0.5, 0.3, 0.2]).all()


def test_equal_weights_repeat_no_particle_and_none_of_no_weight_is_taken() -> None:
    chosen = of_strata(torch.zeros(200, 500), DRAWS)
    repeated = np.array([len(set(column)) for column in chosen.T.tolist()])
    assert (repeated >= DRAWS - 3).all() and repeated.mean() > DRAWS - 0.3  # neighbours share what straddles two strata
    weights = torch.tensor([0.0, 0.1, 0.0, 0.6, 0.3, 0.0])
    counts = torch.bincount(of_strata(weights.log()[:, None].expand(6, 4_000), 3)[1], minlength=6)
    assert counts[weights == 0].sum() == 0
    assert stats.chisquare(counts[weights > 0], 4_000 * weights[weights > 0]).pvalue > FALSE_ALARM


def test_newton_finds_mode_and_curvature() -> None:
    """Of a linear model they are those of the exact posterior."""
    case = CASES["linear, guide one standard deviation off"]
    batch = case.table(50).batch()
    with Session(0).running():
        assert site_to_sharpen(case.model, case.guide, batch) == "z"
        found = row_normals(case.model, case.guide, "z", batch)
    of_own = torch.where(batch.mask[:, 0], 1 / case.scales[0] ** 2, 0.0)
    precision = 1 + of_own + 1 / case.scales[1] ** 2
    torch.testing.assert_close(found.factor.flatten().square(), precision)
    seen = of_own * batch.x[:, 0].nan_to_num() + batch.x[:, 1] / case.scales[1] ** 2
    torch.testing.assert_close(found.loc.flatten(), seen / precision)


def test_the_mixture_has_the_density_that_it_draws_from() -> None:
    """By the mean over draws of another density over its own, which is one; of three latents that hang together."""
    generator = torch.Generator().manual_seed(0)
    factor = torch.randn(4, 3, 3, generator=generator).tril(-1) + 1.5 * torch.eye(3)
    guide = dist.Normal(torch.zeros(4, 3), torch.tensor([0.5, 1.0, 2.0])).to_event(1)
    mixture = NearModes(guide, RowNormals(torch.randn(4, 3, generator=generator), factor), 0.3).expand((20_000, 4))
    value = mixture.sample()
    normals = dist.MultivariateNormal(mixture.normals.loc, precision_matrix=factor @ factor.mT)
    for part, share in ((guide, 0.3), (normals, 0.7)):
        ratio = (part.log_prob(value) - mixture.log_prob(value)).exp()
        assert ratio.max() <= 1 / share + 1e-6
        check_mean(ratio, 1.0)


def test_draws_come_in_twins_so_that_means_hardly_err() -> None:
    """The mean of a normal law is met exactly by an even number of draws, and that of the table's rows nearly."""
    normals = RowNormals(torch.tensor([[1.0, -2.0]]), 2 * torch.eye(2).unsqueeze(0))
    of_normals = NearModes(dist.Normal(torch.zeros(1, 2), 1.0).to_event(1), normals, 1e-9).expand((10, 1))
    torch.testing.assert_close(of_normals.sample().mean(0), normals.loc)
    assert of_normals.expand((7, 1)).sample().shape == (7, 1, 2)
    case = CASES["linear, guide one standard deviation off"]
    table = case.table(200)
    found = impute(Fit(case.model, case.guide, table.schema), table, num_draws=DRAWS, seed=0)
    mean, variance = case.moments(table.x[found.cells[0], 1].double().numpy())
    error = (found.means - mean) / np.sqrt(variance / found.effective_sample_size[found.cells[0]])
    assert np.sqrt((error**2).mean()) < 0.5  # one, if draws were independent


def test_only_pairs_that_allow_it_have_particles_in_common() -> None:
    """Others impute as ever; one latent of the guide alone, normal and independent, and no other draw that weighs."""
    table = table_with_gaps()
    batch, schema = table.batch(), table.schema

    def drawn(batch: Batch) -> None:
        with rows(batch):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(batch), 2), 1.0).to_event(1))
            law = dist.Normal(torch.cat([z, z[..., :1]], -1), 1.0)
            observe_mask("r", -partially_observed("x", law, batch), batch)

    def heavy(batch: Batch) -> None:
        with rows(batch):
            pyro.sample("z", dist.StudentT(3.0, torch.zeros(len(batch), 2)).to_event(1))

    def in_place(batch: Batch) -> None:
        with rows(batch):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(batch), 2), 1.0).to_event(1)).mul_(1.0)
            partially_observed("x", dist.Normal(torch.cat([z, z[..., :1]], -1), 1.0), batch)

    model, guide = gina_pair(table, SelfMasking)
    pairs = {(model, guide): True, (drawn, guide): False, (model, heavy): False, (in_place, guide): False}
    for pair, is_free in pairs.items():
        assert (CommonParticles.of(sampler_of(Fit(*pair, schema)), batch) is not None) == is_free


def test_a_row_with_a_key_has_its_draws_whatever_stands_beside_it() -> None:
    case = CASES["two modes, guide that holds both"]
    table = case.table(40)
    frame, fit = table.frame.assign(), Fit(case.model, case.guide, table.schema)
    whole = impute(fit, frame, key=True, seed=3)
    part = impute(fit, frame.iloc[30:5:-1], key=True, seed=3)
    assert (whole.effective_sample_size[6:31] > first_size(DRAWS)).any()  # so that second sets were taken, too
    of_part = np.isin(whole.cells[0], np.arange(6, 31))
    np.testing.assert_allclose(part.draws[:, ::-1], whole.draws[:, of_part], atol=1e-4)
