"""Fits with priors on parameters: the posterior against quadrature, and every verb that takes a fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from numpy.typing import NDArray
from pyro.infer import SVI
from pyro.infer.autoguide import AutoDelta, AutoMultivariateNormal, AutoNormal
from pyro.nn import PyroModule
from torch import Tensor

from checks import sampler_of, z_limit
from pyro_mnar import (
    Batch,
    Fit,
    ImportanceWeightedELBO,
    Table,
    compare,
    fit,
    impute,
    observe_mask,
    partially_observed,
    rows,
    shared_latents,
)
from pyro_mnar.diagnostics.probe import ModelProbe
from pyro_mnar.imputation.generation import generate
from pyro_mnar.infer.session import Session
from pyro_mnar.training.evidence import log_evidence

GRID = np.linspace(-6, 6, 2_401)


def raw(frame: pd.DataFrame) -> Table:
    """A table whose models speak the frame's own units."""
    table = Table.from_frame(frame, auxiliary=[])
    columns = tuple(replace(column, mean=0.0, std=1.0) for column in table.schema.columns)
    return Table.from_frame(frame, schema=replace(table.schema, columns=columns))


def stans_example(batch: Batch) -> Tensor:
    """μ ~ N(0, 1), y ~ N(μ, 2), P(observed) = logit⁻¹(y)."""
    mean = pyro.sample("mean", dist.Normal(batch.x.new_zeros(()), 1.0))
    with rows(batch):
        y = partially_observed("y", dist.Normal(mean, 2.0).expand([len(batch), 1]), batch)
        observe_mask("r", y, batch)
    return y


def example(count: int = 300, seed: int = 1) -> Table:
    random = np.random.default_rng(seed)
    y = random.normal(1.0, 2.0, count)
    y[random.random(count) > 1 / (1 + np.exp(-y))] = np.nan
    return raw(pd.DataFrame({"y": y}))


def normal(mean: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp(-0.5 * ((y - mean) / 2) ** 2) / np.sqrt(8 * np.pi)


def posterior(table: Table) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """At the grid of means: posterior probabilities, P(missing | μ), and E[y | μ, missing]."""
    y = np.linspace(-20, 20, 4_001)
    density = normal(GRID[:, None], y) / (1 + np.exp(y))
    missing, gap = density.sum(1) * 0.01, (density * y).sum(1) * 0.01
    seen = table.frame["y"].dropna().to_numpy()
    log_p = np.log(normal(GRID[:, None], seen)).sum(1) + (len(table) - len(seen)) * np.log(missing) - GRID**2 / 2
    probabilities = np.exp(log_p - log_p.max())
    return probabilities / probabilities.sum(), missing, gap / missing


def moments(table: Table) -> tuple[float, float]:
    probabilities, *_ = posterior(table)
    mean = probabilities @ GRID
    return mean, np.sqrt(probabilities @ (GRID - mean) ** 2)


def trained(table: Table, make: Callable = AutoNormal, **options: object) -> Fit:
    guide = make(shared_latents(stans_example))
    settings = {"epochs": 150, "batch_size": 100, "num_particles": 20, "progress": False, "learning_rate": 0.05}
    return fit(stans_example, guide, table, **{**settings, **options})


@pytest.fixture(scope="module")
def table() -> Table:
    torch.set_default_dtype(torch.float64)
    try:
        return example()
    finally:
        torch.set_default_dtype(torch.float32)


def exact_fit(table: Table) -> Fit:
    """The posterior itself as the guide, but for its shape, which is normal to 1e-2 at 300 rows."""
    mean, deviation = moments(table)

    def guide(batch: Batch) -> None:
        pyro.sample("mean", dist.Normal(batch.x.new_tensor(mean), deviation))

    return Fit(stans_example, guide, table.schema)


@pytest.mark.slow
def test_fit_finds_the_posterior_of_stans_example(table: Table) -> None:
    """In captured minibatches of a third.  Adam's last steps leave 0.02 of noise; K = 20 has 1% of a gap's bound."""
    found = trained(table, compile="graph")
    mean, deviation = moments(table)
    assert found.guide.locs.mean.item() == pytest.approx(mean, abs=0.4 * deviation)
    assert found.guide.scales.mean.item() == pytest.approx(deviation, rel=0.2)
    assert "bound" in found.history


def test_a_point_guide_finds_the_mode_and_its_objective_is_called_no_bound(table: Table) -> None:
    found = trained(table, AutoDelta, epochs=80, batch_size=300, learning_rate=0.1)
    mode = GRID[posterior(table)[0].argmax()]
    assert found.guide.mean.item() == pytest.approx(mode, abs=0.5 * moments(table)[1])
    assert "objective" in found.history and "bound" not in found.history


@pytest.mark.slow
def test_imputations_carry_the_parameters_uncertainty_and_share_it_among_rows(table: Table) -> None:
    """The mean of all gaps by draw: Var(E[y|μ]) over the posterior and Var(y|μ)/gaps within it, in chunks of rows.

    400 draws give a variance to 7%; with one μ for all draws, or one for each chunk, it would be 35% too small.
    """
    draws = 400
    sampler = sampler_of(exact_fit(table), draws, 30)
    gaps = (~table.mask[:, 0]).nonzero().squeeze(-1)
    chunks = [sampler.impute(table.batch().take(part)) for part in gaps.split(20)]
    of_gaps = torch.cat([chunk.draws for chunk in chunks], 1)[..., 0]
    by_draw = of_gaps.mean(1)
    probabilities, _, gap = posterior(table)
    mean = probabilities @ gap
    expected = probabilities @ (gap - mean) ** 2 + of_gaps.var(1).mean().item() / len(gaps)
    assert by_draw.mean().item() == pytest.approx(mean, abs=z_limit() * np.sqrt(expected / draws) + 0.02)
    assert by_draw.var().item() == pytest.approx(expected, rel=z_limit() * np.sqrt(2 / draws))
    of_means = torch.cat([chunk.mean for chunk in chunks])[:, 0].mean().item()
    assert of_means == pytest.approx(mean, abs=z_limit() * np.sqrt(expected / draws) + 0.02)


def test_a_mean_counts_every_draw_of_the_parameters_alike() -> None:
    """Not by what the draw makes of the row, which its posterior knows already; false alarm 1e-5."""
    table = raw(pd.DataFrame({"y": [0.0, 1.0, np.nan]}))

    def guide(batch: Batch) -> None:
        pyro.sample("mean", dist.Normal(batch.x.new_zeros(()), 1.5))

    _, missing, given = posterior(table)
    share = np.exp(-0.5 * (GRID / 1.5) ** 2)
    exact, by_evidence = np.average(given, weights=share), np.average(given, weights=share * missing)
    draws = 800
    limit = z_limit() * np.sqrt(np.average((given - exact) ** 2, weights=share) / draws)
    found = impute(Fit(stans_example, guide, table.schema), table, num_draws=draws, num_particles=200).means[0]
    assert abs(found - exact) < limit < abs(exact - by_evidence) / 2


def test_log_evidence_averages_the_posterior_inside_the_logarithm(table: Table) -> None:
    """100 draws of μ move a row's number by 0.03 at most, that of the tail's."""
    new = table.new_rows(pd.DataFrame({"y": [np.nan, -3.0, 9.0]}))
    found = log_evidence(exact_fit(table), new, num_particles=2_000)
    probabilities, missing, _ = posterior(table)
    y = np.array([-3.0, 9.0])
    seen = probabilities @ normal(GRID[:, None], y) / (1 + np.exp(-y))
    np.testing.assert_allclose(found.log_p, np.log([probabilities @ missing, *seen]), atol=0.06)


def test_compare_takes_fits_with_priors_and_points(table: Table) -> None:
    mode = GRID[posterior(table)[0].argmax()]

    def point(batch: Batch) -> None:
        pyro.sample("mean", dist.Delta(batch.x.new_tensor(mode)))

    def wrong(batch: Batch) -> None:
        pyro.sample("mean", dist.Delta(batch.x.new_tensor(mode - 2)))

    guides = {"point": point, "wrong": wrong}
    fits = {name: Fit(stans_example, guide, table.schema) for name, guide in guides.items()}
    ranked = compare({"posterior": exact_fit(table), **fits}, table.new_rows(example(50, seed=2).frame)).bounds
    assert (
        ranked.index[-1] == "wrong"
        and abs(ranked["difference"]["point" if ranked.index[0] != "point" else "posterior"]) < 0.02
    )


def test_a_saved_fit_imputes_the_same_draws(table: Table, tmp_path: Path) -> None:
    found = trained(table, epochs=2)
    found.save(tmp_path / "fit.pt")
    loaded = Fit.load(tmp_path / "fit.pt", stans_example, AutoNormal(shared_latents(stans_example)))
    first, second = (impute(f, table, num_draws=3, num_particles=5).draws for f in (found, loaded))
    np.testing.assert_array_equal(first, second)
    assert len(np.unique(first[:, 0])) == 3


def test_pooling_says_whose_uncertainty_the_draws_hold(table: Table) -> None:
    def point(batch: Batch) -> None:
        pyro.sample("mean", dist.Delta(batch.x.new_tensor(0.7)))

    fits = {
        "draw of its own of the latents": exact_fit(table),
        "same parameters": Fit(stans_example, point, table.schema),
    }
    for said, of_guide in fits.items():
        pooled = impute(of_guide, table, num_draws=3, num_particles=5).pool(lambda frame: (frame["y"].mean(), 0.01))
        assert said in repr(pooled)


def test_what_svi_trained_is_imputed_too(table: Table, own_store: None) -> None:
    guide, batch = AutoNormal(shared_latents(stans_example)), table.batch()
    svi = SVI(stans_example, guide, pyro.optim.Adam({"lr": 0.05}), loss=ImportanceWeightedELBO(5))
    losses = [svi.step(batch) for _ in range(30)]
    assert losses[-1] < losses[0]
    assert np.isfinite(impute(Fit.from_svi(stans_example, guide, table), table, num_draws=2).draws).all()


def test_generated_tables_differ_by_their_draw_of_the_parameters(table: Table) -> None:
    """Means of 300 rows: 0.115 of their deviation are the rows', 0.13 the posterior's; 30 seeds give 13% of it."""
    found = exact_fit(table)
    means = [generate(found, table, seed=seed)["y"].mean() for seed in range(30)]
    mean, deviation = moments(table)
    expected = np.hypot(deviation, 2 / np.sqrt(300))
    assert np.mean(means) == pytest.approx(mean, abs=z_limit() * expected / np.sqrt(30))
    assert np.std(means) == pytest.approx(expected, rel=z_limit() / np.sqrt(60))


@pytest.mark.slow
def test_restarts_and_held_out_rows_work_with_automatic_guides(table: Table) -> None:
    found = trained(table, epochs=170, restarts=2, held_out=0.2, compile="graph")
    assert found.guide.locs.mean.item() == pytest.approx(moments(table)[0], abs=0.25)  # of other rows by a fifth
    assert len(found.members) == 2 and found.history["held_out_bound"].notna().all()


def test_a_latent_whose_size_follows_the_rows_is_refused(table: Table) -> None:
    def model(batch: Batch) -> None:
        z = pyro.sample("z", dist.Normal(batch.x.new_zeros(len(batch)), 1.0).to_event(1))
        with rows(batch):
            partially_observed("y", dist.Normal(z[:, None], 1.0), batch)

    def guide(batch: Batch) -> None:
        scale = pyro.param("scale", torch.tensor(1.0))
        pyro.sample("z", dist.Normal(batch.x.new_zeros(len(batch)), scale).to_event(1))

    with pytest.raises(ValueError, match=r"site 'z': stands outside .*follows the number of rows, \(8,\) for 8"):
        fit(model, guide, table, epochs=1, progress=False)


def test_a_joint_guide_of_rows_latents_is_refused_with_the_guide_that_serves(table: Table, own_store: None) -> None:
    message = r"site 'y_missing': each row has one, and AutoMultivariateNormal .*\(shared_latents\(model\)\)"
    with pytest.raises(ValueError, match=message):
        fit(stans_example, AutoMultivariateNormal(stans_example), table, epochs=1, progress=False)
    guide = AutoMultivariateNormal(stans_example)
    guide(table.batch())
    with pytest.raises(ValueError, match=message):
        impute(Fit.from_svi(stans_example, guide, table), table, num_draws=2)


@pytest.mark.slow
def test_without_a_prior_the_fit_is_maximum_likelihood(table: Table) -> None:
    """The same model with its mean a parameter: its maximum by quadrature."""

    def model(batch: Batch) -> None:
        mean = pyro.param("mean", torch.tensor(0.0))
        with rows(batch):
            y = partially_observed("y", dist.Normal(mean, 2.0).expand([len(batch), 1]), batch)
            observe_mask("r", y, batch)

    found = fit(
        model,
        lambda batch: None,
        table,
        epochs=200,
        batch_size=300,
        num_particles=50,
        learning_rate=0.05,
        progress=False,
        compile="graph",
    )
    probabilities, *_ = posterior(table)
    exact = GRID[(np.log(np.maximum(probabilities, 1e-300)) + GRID**2 / 2).argmax()]
    assert found.store["params"]["mean"].item() == pytest.approx(exact, abs=0.3 * moments(table)[1])


def test_probes_look_at_rows_latents_alone(table: Table) -> None:
    class Factor(PyroModule):
        def forward(self, batch: Batch) -> None:
            with pyro.plate("loadings", 1):
                loading = pyro.sample("loading", dist.Normal(batch.x.new_zeros(()), 1.0))
            with rows(batch):
                z = pyro.sample("z", dist.Normal(batch.x.new_zeros(len(batch)), 1.0))
                y = partially_observed("y", dist.Normal(z[..., None] * loading, 1.0), batch)
                observe_mask("r", y, batch)

    model = Factor()
    found = fit(model, AutoNormal(shared_latents(model)), table, epochs=1, progress=False)
    probe = ModelProbe.of(model, found.guide, table, Session(0))
    assert probe.latent_dim == 1 and probe.jacobian.shape == (300, 1, 1)
