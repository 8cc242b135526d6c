"""Samples of NUTS: enumerated levels, completed tables and predictions, against quadrature on a tiny table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import MCMC, NUTS, Predictive, config_enumerate
from pyro.infer.mcmc.util import initialize_model
from torch import Tensor
from torch.nn.functional import logsigmoid

from checks import z_limit
from pyro_mnar import Batch, Fit, Table, impute, observe_mask, partially_observed, rows

FRAME = pd.DataFrame({"y": [1.0, 0.0, None, 1.0, None, None, 0.0]})
GRID = torch.linspace(-6, 6, 2_001, dtype=torch.float64)


def model(batch: Batch) -> Tensor:
    """A propensity with a prior; ones are withheld more often: log-odds 0.5 - 1.2·y of being seen."""
    propensity = pyro.sample("propensity", dist.Normal(batch.x.new_zeros(()), 1.5))
    with rows(batch):
        fn = dist.Bernoulli(logits=propensity.expand(len(batch), 1))
        y = partially_observed("y", fn, batch)
        observe_mask("r", 0.5 - 1.2 * y, batch)
    return y


def batch_of(frame: pd.DataFrame = FRAME) -> Batch:
    return Batch.of(torch.tensor(frame.to_numpy(dtype=float)))


def log_joint(propensity: Tensor) -> Tensor:
    """log p(propensity, y_o, r) with gaps summed by hand."""
    one, zero = logsigmoid(propensity), logsigmoid(-propensity)
    seen = lambda y: logsigmoid(torch.tensor(0.5 - 1.2 * y))  # noqa: E731
    gone = lambda y: logsigmoid(-torch.tensor(0.5 - 1.2 * y))  # noqa: E731
    gap = torch.logaddexp(one + gone(1.0), zero + gone(0.0))
    return dist.Normal(0.0, 1.5).log_prob(propensity) + 2 * (one + seen(1.0)) + 2 * (zero + seen(0.0)) + 3 * gap


def posterior() -> tuple[Tensor, Tensor]:
    """At the grid: probabilities, and P(y = 1 | gap, propensity)."""
    weights = log_joint(GRID).softmax(0)
    one = logsigmoid(GRID) + logsigmoid(torch.tensor(0.7))
    zero = logsigmoid(-GRID) + logsigmoid(torch.tensor(-0.5))
    return weights, (one - torch.logaddexp(one, zero)).exp()


@pytest.mark.parametrize("enumerated", [model, config_enumerate(model)])
def test_nuts_sums_missing_levels_out(enumerated: object) -> None:
    """Its potential is minus the log-joint, up to a constant."""
    _, potential, _, _ = initialize_model(enumerated, (batch_of(),), max_plate_nesting=1)
    at = torch.tensor([-2.0, -0.3, 0.0, 1.7])
    found = torch.stack([potential({"propensity": value}) for value in at])
    expected = -log_joint(at)
    torch.testing.assert_close(found - found[0], expected - expected[0], rtol=0, atol=1e-8)


def table_in_its_own_units() -> Table:
    """With the mean 0 and the deviation 1 in the schema, so that the models speak the frame's units."""
    table = Table.from_frame(FRAME, auxiliary=[], kinds={"y": "continuous"})
    columns = tuple(replace(column, mean=0.0, std=1.0) for column in table.schema.columns)
    return Table.from_frame(FRAME, schema=replace(table.schema, columns=columns))


def exact_samples(count: int) -> dict[str, Tensor]:
    weights, _ = posterior()
    return {"propensity": GRID[torch.multinomial(weights, count, replacement=True)]}


def test_imputations_of_samples_are_those_of_the_quadrature() -> None:
    weights, gap = posterior()
    expected = (weights * gap).sum().item()
    fit = Fit.from_posterior(model, exact_samples(2_000), table_in_its_own_units())
    draws = impute(fit, table_in_its_own_units(), num_draws=150, num_particles=40).draws
    error = draws.mean(1).std() / np.sqrt(150)
    assert draws.mean() == pytest.approx(expected, abs=z_limit() * error)
    assert set(np.unique(draws)) == {0.0, 1.0}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.trace:DeprecationWarning")  # Pyro's way to sample faster
def test_nuts_and_its_imputations_agree_with_quadrature() -> None:
    """Errors by NUTS's own effective sample sizes."""
    table = table_in_its_own_units()
    kernel = NUTS(model, max_plate_nesting=1, jit_compile=True, ignore_jit_warnings=True)
    mcmc = MCMC(kernel, num_samples=300, warmup_steps=100, disable_progbar=True)
    mcmc.run(table.batch())
    samples = mcmc.get_samples()
    assert set(samples) == {"propensity"}
    weights, gap = posterior()
    mean = (weights * GRID).sum()
    effective = mcmc.diagnostics()["propensity"]["n_eff"]
    assert abs(samples["propensity"].mean() - mean) < z_limit() * samples["propensity"].std() / effective.sqrt()
    draws = impute(Fit.from_posterior(model, samples, table), table, num_draws=200, num_particles=40).draws
    error = draws.mean(1).std() * np.sqrt(1 / 200 + 1 / effective.item())
    assert draws.mean() == pytest.approx((weights * gap).sum().item(), abs=z_limit() * error)


def linear(batch: Batch) -> Tensor:
    """A latent of the rows and a gap with a density: samples of both are replayed."""
    slope = pyro.sample("slope", dist.Normal(batch.x.new_zeros(()), 1.0))
    with rows(batch):
        z = pyro.sample("z", dist.Normal(batch.x.new_zeros(len(batch)), 1.0))
        return partially_observed("y", dist.Normal(slope * z[..., None], 0.5), batch)


def samples_of_rows(count: int = 50) -> dict[str, Tensor]:
    return {"slope": torch.randn(count), "z": torch.randn(count, 7), "y_missing": torch.randn(count, 7, 1)}


def test_rows_that_were_sampled_get_the_samples_themselves() -> None:
    samples, table = samples_of_rows(), table_in_its_own_units()
    fit = Fit.from_posterior(linear, samples, table)
    imputed = impute(fit, table, num_draws=30, num_particles=5)
    kept = samples["y_missing"][:, [2, 4, 5], 0].numpy()
    for draw in imputed.draws:
        assert (np.isclose(kept, draw, rtol=1e-12).all(1)).any()  # three gaps of one and the same sample
    assert (imputed.effective_sample_size[[2, 4, 5]] <= 30 + 1e-9).all()  # copies of one particle count as one
    gaps = ~torch.tensor(FRAME["y"].notna().to_numpy())
    assert (fit.guide.samples["y_missing"][:, :, 0].isnan() == ~gaps).all()


def test_new_rows_with_the_same_number_of_rows_do_not_get_them() -> None:
    samples, table = samples_of_rows(), table_in_its_own_units()
    fit = Fit.from_posterior(linear, samples, table)
    new = table.new_rows(FRAME.iloc[::-1].reset_index(drop=True))
    draws = impute(fit, new, num_draws=5, num_particles=5).draws
    assert not np.isin(draws, samples["y_missing"].numpy()).any()
    without = impute(fit, table, num_draws=5, num_particles=5, use_mechanism=True).draws
    assert np.isin(np.round(without, 9), np.round(samples["y_missing"].numpy(), 9)).all()


def test_samples_are_saved_with_the_fit(tmp_path: Path) -> None:
    table = table_in_its_own_units()
    fit = Fit.from_posterior(linear, samples_of_rows(), table)
    fit.save(tmp_path / "fit.pt")
    loaded = Fit.load(tmp_path / "fit.pt", linear)
    np.testing.assert_array_equal(*(impute(f, table, num_draws=4, num_particles=3).draws for f in (fit, loaded)))


def test_predictive_draws_new_rows_from_samples_of_what_rows_share() -> None:
    """y given nothing has variance slope² + 0.25, whose mean over the samples is known; 4,000 draws in 40 rows."""
    samples = {"slope": torch.linspace(-1, 1, 100)}
    new = Batch.of(torch.full((40, 1), torch.nan))
    drawn = Predictive(linear, posterior_samples=samples)(new)["y_missing"]
    assert drawn.shape == (100, 40, 1)
    expected = samples["slope"].square().mean() + 0.25
    by_sample = drawn.square().mean((1, 2)) - samples["slope"].square() - 0.25
    assert abs(by_sample.mean()) < z_limit() * by_sample.std() / 10
    assert drawn.square().mean() == pytest.approx(expected.item(), abs=0.15)


def refused(samples: dict[str, Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Fit.from_posterior(linear, samples, table_in_its_own_units())


def test_samples_of_another_model_are_refused_by_name() -> None:
    good = samples_of_rows()
    refused({**good, "intercept": torch.zeros(50)}, "site 'intercept' is no latent of the model")
    refused({**good, "z": torch.zeros(50, 6)}, r"site 'z': expected \(samples, 7\) for this table, got \(50, 6\)")
    refused({"z": good["z"]}, "site 'slope' stands outside the row plate and has no samples")
    refused({**good, "slope": torch.zeros(49)}, r"expected as many of each site, and at least one, got \[49, 50\]")
