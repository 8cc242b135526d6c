"""Missing values that are summed out: the weight holds p(r = 0 | z), draws nothing while training."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from torch import Tensor

from checks import FALSE_ALARM, gina_pair, table_with_gaps
from pyro_mnar import (
    Batch,
    Fit,
    ImportanceWeightedELBO,
    OwnValueMechanism,
    Table,
    impute,
    mechanisms,
    observe_mask,
    partially_observed,
    rows,
)
from pyro_mnar.models import GINA

pytestmark = pytest.mark.usefixtures("own_store")

INTERCEPT, SLOPE = 0.4, torch.tensor([-1.3])
BATCH = Batch.of(torch.tensor([[0.3], [torch.nan], [-1.2], [torch.nan], [0.9]], dtype=torch.float64))


def no_guide(batch: Batch) -> None:
    """Nothing is left to propose."""


def log_odds(row: Tensor) -> Tensor:
    return INTERCEPT + SLOPE.to(row) * row


OWN = OwnValueMechanism(log_odds, SLOPE)


def of(make: Callable[[Tensor], dist.Distribution], mechanism: object) -> Callable[[Batch], None]:
    """A model without a latent: one column, self-masked."""

    def model(batch: Batch) -> None:
        with rows(batch):
            x = partially_observed("x", make(batch.x), batch, mechanism=mechanism)
            observe_mask("r", log_odds(x), batch)

    return model


def evidence(fn: dist.Distribution) -> float:
    """log p(x_o, r) by the trapezoidal rule, which is exact to rounding here."""
    x = torch.linspace(-200, 200, 400_001)
    missing = (fn.log_prob(x).exp() * torch.sigmoid(-log_odds(x))).sum() * 1e-3
    seen = BATCH.x[BATCH.mask]
    return (fn.log_prob(seen).sum() + log_odds(seen).sigmoid().log().sum() + (~BATCH.mask).sum() * missing.log()).item()


@pytest.mark.parametrize(
    ("fn", "mechanism"),
    [
        (lambda x: dist.Normal(torch.full_like(x, 0.2), 1.1), OwnValueMechanism(log_odds, SLOPE)),
        (lambda x: dist.Normal(torch.full_like(x, 0.2), 1.1), log_odds),
        (lambda x: dist.StudentT(5.0, torch.full_like(x, 0.2), 1.1), OwnValueMechanism(log_odds, SLOPE)),
    ],
    ids=["closed form", "any mechanism", "student"],
)
def test_one_particle_has_the_evidence_where_no_latent_is_left(fn: Callable, mechanism: object) -> None:
    objective = ImportanceWeightedELBO(num_particles=1)
    objective.settle(of(fn, mechanism), no_guide, BATCH)
    before = torch.get_rng_state()
    loss = objective.loss(of(fn, mechanism), no_guide, BATCH)
    assert -loss == pytest.approx(evidence(fn(torch.zeros(()))), abs=1e-6)
    assert torch.equal(torch.get_rng_state(), before)  # nothing was drawn


def test_drawn_or_not_the_weight_is_the_same() -> None:
    """And so is a fit's, of a model with a latent, given its draws; and imputation does draw them."""
    model, guide = gina_pair(table_with_gaps(), mechanism=mechanisms.LatentDependent, numbers="summed")
    batch = table_with_gaps().batch()
    assert model.summed_columns == {0, 1, 2}
    objective = ImportanceWeightedELBO(num_particles=7)
    objective.settle(model, guide, batch)
    torch.manual_seed(0)
    undrawn = objective.loss(model, guide, batch)
    torch.manual_seed(0)
    run = objective.particles(model, guide, batch)
    drawn = (run.log_weights.logsumexp(0) - np.log(7)).sum()
    assert -undrawn == pytest.approx(drawn.item(), abs=1e-8)
    missing = run.model_trace.nodes["x_missing"]["value"][..., ~batch.mask]
    assert missing.std(0).min() > 0.01


def test_effective_sample_size_rises() -> None:
    """Without a latent to every particle that there is."""
    sizes = []
    for mechanism in (None, OwnValueMechanism(log_odds, SLOPE)):
        model = of(lambda x: dist.Normal(torch.full_like(x, 0.2), 1.1), mechanism)
        weights = ImportanceWeightedELBO(200).particles(model, no_guide, BATCH).log_weights.softmax(0)
        sizes.append((1 / weights.square().sum(0))[~BATCH.mask[:, 0]])
    assert (sizes[0] < 170).all() and (sizes[1] > 200 - 1e-6).all()


def test_means_of_imputations_are_averages_of_conditional_means() -> None:
    """Without a latent there is nothing to average: one particle has the exact posterior mean."""
    table = Table.from_numpy(np.array([[0.3], [np.nan], [-1.2], [np.nan], [0.9]]), columns=["a"], auxiliary=[])
    fitted = Fit(
        of(lambda x: dist.Normal(torch.full_like(x, 0.2), 1.1), OwnValueMechanism(log_odds, SLOPE)),
        no_guide,
        table.schema,
    )
    found = impute(fitted, table, num_draws=1, num_particles=1)
    x = torch.linspace(-20, 20, 40_001)
    density = dist.Normal(0.2, 1.1).log_prob(x).exp() * torch.sigmoid(-log_odds(x))
    mean = ((density * x).sum() / density.sum()).item() * table.schema.columns[0].std + table.schema.columns[0].mean
    np.testing.assert_allclose(found.mean()["a"].to_numpy()[[1, 3]], mean, atol=1e-6)
    assert len(set(found.draws[0])) == 2


def test_a_value_that_something_else_depends_on_is_drawn(caplog: pytest.LogCaptureFixture) -> None:
    """A regression on the value: its weight is then that of a value drawn from p(x | z, r = 0), which is unbiased."""

    def model(batch: Batch) -> None:
        with rows(batch):
            x = partially_observed("x", dist.Normal(torch.zeros_like(batch.x), 1.0), batch, mechanism=OWN)
            observe_mask("r", log_odds(x), batch)
            pyro.sample("y", dist.Normal(2 * x[..., 0], 1.0), obs=torch.ones(len(batch)))

    objective = ImportanceWeightedELBO(num_particles=5_000)
    objective.settle(model, no_guide, BATCH)
    assert "'x_missing': its missing values are sampled" in caplog.text and "'y'" in caplog.text
    x = torch.linspace(-20, 20, 40_001)
    joint = dist.Normal(0.0, 1.0).log_prob(x) + torch.nn.functional.logsigmoid(-log_odds(x))
    missing = (joint + dist.Normal(2 * x, 1.0).log_prob(torch.tensor(1.0))).exp().sum() * 1e-3
    log_weights = objective.particles(model, no_guide, BATCH).log_weights[:, ~BATCH.mask[:, 0]]
    found = log_weights.logsumexp(0) - np.log(5_000)
    torch.testing.assert_close(found, missing.log().expand_as(found), rtol=0, atol=0.1)
    assert objective.loss(model, no_guide, BATCH) != objective.loss(model, no_guide, BATCH)


def test_means_of_a_value_that_something_else_depends_on_are_of_draws() -> None:
    """Its expected value given the latent alone would leave out what the other site tells; 4,000 particles a row."""

    def model(batch: Batch) -> None:
        with rows(batch):
            x = partially_observed("x", dist.Normal(torch.zeros_like(batch.x), 1.0), batch, mechanism=OWN)
            observe_mask("r", log_odds(x), batch)
            pyro.sample("y", dist.Normal(2 * x[..., 0], 1.0), obs=batch.x.new_full((len(batch),), 3.0))

    table = Table.from_numpy(np.array([[0.3], [np.nan], [-1.2], [np.nan], [0.9]]), columns=["a"], auxiliary=[])
    found = impute(Fit(model, no_guide, table.schema), table, num_draws=4, num_particles=1000).mean()["a"].to_numpy()
    x = torch.linspace(-20, 20, 40_001)
    joint = dist.Normal(0.0, 1.0).log_prob(x) + torch.nn.functional.logsigmoid(-log_odds(x))
    density = (joint + dist.Normal(2 * x, 1.0).log_prob(torch.tensor(3.0))).softmax(0)
    column = table.schema.columns[0]
    np.testing.assert_allclose((found[[1, 3]] - column.mean) / column.std, (density * x).sum().item(), atol=0.1)


def test_draws_of_resampled_particles_follow_the_law_of_what_is_missing() -> None:
    """Normal values are drawn once a particle is resampled; by the test of Kolmogorov and Smirnov."""
    table = Table.from_numpy(np.array([[0.3], [np.nan], [-1.2], [np.nan], [0.9]]), columns=["a"], auxiliary=[])
    fitted = Fit(of(lambda x: dist.Normal(torch.full_like(x, 0.2), 1.1), OWN), no_guide, table.schema)
    x = torch.linspace(-20, 20, 40_001)
    mass = (dist.Normal(0.2, 1.1).log_prob(x) + torch.nn.functional.logsigmoid(-log_odds(x))).softmax(0)
    column = table.schema.columns[0]
    draws = impute(fitted, table, num_draws=400, num_particles=2, seed=1).draws[:, 0]
    reached = np.interp((draws - column.mean) / column.std, x, mass.cumsum(0) - mass / 2)
    assert stats.kstest(reached, "uniform").pvalue > FALSE_ALARM


def test_columns_whose_values_cause_another_mask_are_drawn() -> None:
    class Across(mechanisms.Mechanism):
        """The first column's value causes the second's R; the others cause none."""

        parents = mechanisms.Parents(own=True, others=True)

        def causes_only_own(self, columns: list[int]) -> bool:
            return 0 not in columns

        def forward(self, x: Tensor, z: Tensor) -> Tensor:
            return torch.stack([x[..., 0], x[..., 0] + x[..., 1], -x[..., 2]], dim=-1)

    model = GINA(table_with_gaps(), mechanism=Across(), numbers="summed", seed=0)
    assert model.summed_columns == {1, 2}
