"""Training reaches the evidence, can be stopped, kept and repeated, for models of any making."""

from __future__ import annotations

import math
import threading

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI
from pyro.nn import PyroModule
from torch.distributions import constraints

from checks import z_limit
from pyro_mnar import Fit, ImportanceWeightedELBO, Table, fit, impute, observe_mask, partially_observed, rows
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.mechanisms import SelfMasking
from pyro_mnar.models import GINA


class Factor(PyroModule):
    """A user's own model: one factor behind all columns.  With two columns it can reach any covariance."""

    def __init__(self, num_columns=2):
        super().__init__()
        self.location = torch.nn.Parameter(torch.zeros(num_columns))
        self.loading = torch.nn.Parameter(torch.full((num_columns,), 0.3))
        self.log_noise = torch.nn.Parameter(torch.zeros(num_columns))

    def forward(self, batch):
        with rows(batch):
            z = pyro.sample("z", dist.Normal(batch.x.new_zeros(len(batch)), 1.0))
            x = dist.Normal(self.location + z[..., None] * self.loading, self.log_noise.exp())
            return partially_observed("x", x, batch)

    def evidence(self, x):
        """Exact log-density per row of complete rows."""
        covariance = self.loading.outer(self.loading) + (2 * self.log_noise).exp().diag()
        return torch.distributions.MultivariateNormal(self.location, covariance).log_prob(x).mean().item()


class Line(PyroModule):
    """q(z|x), linear in x: the exact posterior of Factor for complete rows is one of these."""

    def __init__(self, num_columns=2):
        super().__init__()
        self.slope = torch.nn.Parameter(torch.zeros(num_columns))
        self.intercept = torch.nn.Parameter(torch.zeros(()))
        self.log_scale = torch.nn.Parameter(torch.zeros(()))

    def forward(self, batch):
        with rows(batch):
            pyro.sample("z", dist.Normal(batch.x @ self.slope + self.intercept, self.log_scale.exp()))


def correlated(num_rows=200, correlation=0.8, seed=0):
    random = np.random.default_rng(seed)
    values = random.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]], size=num_rows)
    return pd.DataFrame(values * [2.0, 5.0] + [1.0, -3.0], columns=["a", "b"])


def complete_table():
    return Table.from_frame(correlated(), auxiliary=[])


def table_with_gaps():
    """High values of b go missing."""
    frame = correlated()
    random = np.random.default_rng(1)
    frame.loc[random.random(200) < 1 / (1 + np.exp(-0.7 * (frame["b"] + 3))), "b"] = np.nan
    return Table.from_frame(frame)


def gina(table, seed=0, **options):
    model = GINA(table, latent_dim=1, seed=seed, **options)
    return model, ZeroImpute(table, 1, hidden=(16,), seed=seed + 1)


def parameters_of(result):
    return [parameter.detach().clone() for module in (result.model, result.guide) for parameter in module.parameters()]


# It trains ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_bound_reaches_the_exact_evidence_of_the_best_normal():
    table = complete_table()
    result = fit(Factor(), Line(), table, epochs=80, batch_size=40, learning_rate=0.03, progress=False)
    # The best density of the family is the normal with the sample's own moments: log-density -½ log det(2πe Σ) per row.
    best = -0.5 * np.linalg.slogdet(2 * math.pi * math.e * np.cov(table.x.numpy().T, bias=True))[1]
    evidence = result.model.evidence(table.x)
    bound = result.history["bound"]
    assert best - 0.01 < evidence < best + 1e-9
    assert abs(bound.iloc[-10:].mean() - evidence) < 0.01
    assert bound.iloc[0] < best - 0.2


def test_the_bound_of_gina_rises_above_where_it_started():
    table = table_with_gaps()
    result = fit(*gina(table), table, epochs=25, batch_size=50, start="random", progress=False)
    bound = result.history["bound"]
    assert bound.iloc[-5:].mean() > bound.iloc[0] + 0.3


def test_two_models_of_one_class_both_train():
    table = complete_table()
    for _ in range(2):
        model = Factor()
        fit(model, Line(), table, epochs=3, batch_size=50, progress=False)
        assert (model.loading > 0.301).all()


def test_training_leaves_the_callers_generator_and_parameter_store_alone():
    table = complete_table()
    pyro_store, state = list(pyro.get_param_store().keys()), torch.get_rng_state()
    fit(Factor(), Line(), table, epochs=1, progress=False)
    assert list(pyro.get_param_store().keys()) == pyro_store
    assert torch.equal(torch.get_rng_state(), state)


def test_the_same_seed_gives_the_same_fit_and_another_seed_another():
    table = table_with_gaps()

    def run(seed):
        torch.randn(3)  # whatever the caller draws in between
        return fit(*gina(table), table, epochs=2, batch_size=50, held_out=0.2, seed=seed, progress=False)

    first, again, other = run(5), run(5), run(6)
    for one, two in zip(parameters_of(first), parameters_of(again), strict=True):
        assert torch.equal(one, two)
    pd.testing.assert_frame_equal(first.history.drop(columns="seconds"), again.history.drop(columns="seconds"))
    assert first.history["bound"].tolist() != other.history["bound"].tolist()


def test_fits_in_two_threads_are_what_they_are_alone():
    table = table_with_gaps()
    alone = [fit(*gina(table), table, epochs=3, batch_size=50, seed=seed, progress=False) for seed in (1, 2)]
    together = {}

    def run(seed):
        together[seed] = fit(*pairs[seed], table, epochs=3, batch_size=50, seed=seed, progress=False)

    pairs = {seed: gina(table) for seed in (1, 2)}
    threads = [threading.Thread(target=run, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, expected in zip((1, 2), alone, strict=True):
        assert together[seed].history["bound"].tolist() == expected.history["bound"].tolist()


# History ------------------------------------------------------------------------------------------------------------


def test_history_has_one_row_an_epoch():
    table = complete_table()
    history = fit(Factor(), Line(), table, epochs=4, batch_size=64, progress=False).history
    assert list(history.columns) == ["epoch", "bound", "seconds"]
    assert history["epoch"].tolist() == [1, 2, 3, 4]
    assert (history["seconds"] > 0).all()


@pytest.mark.parametrize(("options", "weight"), [({}, 0.5), ({}, 0.0), ({"auxiliary": "mask"}, 1.0)])
def test_what_bounds_nothing_is_called_an_objective(options, weight):
    table = Table.from_frame(table_with_gaps().frame, **options)
    pair = gina(table, mechanism_weight=weight)
    history = fit(*pair, table, epochs=1, held_out=0.2, progress=False).history
    assert list(history.columns) == ["epoch", "objective", "held_out_objective", "seconds"]


def test_a_users_own_weight_on_the_mask_is_noticed():
    table = table_with_gaps()

    def tempered(batch, weight=0.5):
        location = pyro.param("location", batch.x.new_zeros(2))
        with rows(batch):
            x = partially_observed("x", dist.Normal(location.expand(batch.x.shape), 1.0), batch)
            observe_mask("r", -x, batch, weight=weight)

    assert "objective" in fit(tempered, no_latents, table, epochs=1, progress=False).history
    assert "bound" in fit(lambda batch: tempered(batch, 1.0), no_latents, table, epochs=1, progress=False).history


def test_a_share_of_the_rows_is_held_out():
    table = complete_table()
    seen = []

    class Watched(Factor):
        def forward(self, batch):
            seen.append((torch.is_grad_enabled(), batch.size, batch.x.clone()))
            return super().forward(batch)

    history = fit(Watched(), Line(), table, epochs=1, batch_size=500, held_out=0.25, progress=False).history
    assert list(history.columns) == ["epoch", "bound", "held_out_bound", "seconds"]
    trained = [x for training, size, x in seen if training and size == 150]
    held_out = [x for training, size, x in seen if not training and size == 50]
    everything = torch.cat([trained[-1], held_out[-1]])
    assert sorted(everything[:, 0].tolist()) == sorted(table.x[:, 0].tolist())


class Shifted(PyroModule):
    """x ~ N(location, 1): no latent at complete rows, so its bound is a plain log-density without noise."""

    def __init__(self, start=0.0):
        super().__init__()
        self.location = torch.nn.Parameter(torch.full((2,), start))

    def forward(self, batch):
        with rows(batch):
            return partially_observed("x", dist.Normal(self.location.expand(batch.x.shape), 1.0), batch)

    def evidence(self, x):
        return dist.Normal(self.location, 1.0).log_prob(x).sum(-1).mean().item()


def no_latents(batch):
    return None


def test_a_held_out_tables_bound_is_its_log_density():
    table = complete_table()
    other = table.new_rows(correlated(37, seed=3))
    model = Shifted(start=1.0)
    history = fit(model, no_latents, table, epochs=3, batch_size=10, held_out=other, progress=False).history
    assert history["held_out_bound"].max() == pytest.approx(model.evidence(other.x), abs=1e-10)


# Stopping -----------------------------------------------------------------------------------------------------------


def test_the_best_parameters_by_the_held_out_bound_are_kept():
    table = complete_table()
    far = table.new_rows(correlated(20, seed=3) + 10 * np.array([2.0, 5.0]))  # ten standard deviations up
    model = Shifted(start=1.0)  # training goes down to zero, away from the held-out rows
    history = fit(model, no_latents, table, epochs=10, batch_size=50, held_out=far, progress=False).history
    assert history["held_out_bound"].is_monotonic_decreasing
    assert model.evidence(far.x) == pytest.approx(history["held_out_bound"].iloc[0], abs=1e-10)


def test_patience_ends_training_that_does_not_improve():
    table = complete_table()
    far = table.new_rows(correlated(20, seed=3) + 10 * np.array([2.0, 5.0]))
    result = fit(
        Shifted(start=1.0), no_latents, table, epochs=50, batch_size=50, held_out=far, patience=3, progress=False
    )
    assert len(result.history) == 4  # the first epoch is the best, and three more do not improve on it


def test_patience_lets_training_that_improves_go_on():
    table = complete_table()
    result = fit(Shifted(start=3.0), no_latents, table, epochs=12, batch_size=50, patience=3, progress=False)
    assert len(result.history) == 12


class Interrupted(Factor):
    def __init__(self, at_step):
        super().__init__()
        self.at_step, self.step = at_step, 0

    def forward(self, batch):
        self.step += torch.is_grad_enabled()
        if self.step == self.at_step:
            raise KeyboardInterrupt
        return super().forward(batch)


@pytest.mark.filterwarnings("ignore:fit. its training was interrupted")
@pytest.mark.parametrize(("at_step", "epochs"), [(3, 0), (14, 3)])
def test_an_interrupt_returns_what_was_fitted_so_far(at_step, epochs):
    table = complete_table()
    model = Interrupted(at_step)  # four steps an epoch
    result = fit(model, Line(), table, epochs=50, batch_size=50, progress=False)
    assert result.model is model
    assert len(result.history) == epochs
    assert (model.loading != 0.3).all()
    model.at_step = -1
    assert impute(result, table.new_rows(pd.DataFrame({"a": [1.0], "b": [np.nan]}))).mean().notna().all(axis=None)


# Files --------------------------------------------------------------------------------------------------------------


def test_a_saved_fit_comes_back_from_tensors_and_plain_data(tmp_path):
    table = table_with_gaps()
    result = fit(*gina(table), table, epochs=2, held_out=0.2, progress=False)
    result.save(tmp_path / "fit")
    back = Fit.load(tmp_path / "fit", *gina(table, seed=7))
    assert back.schema == result.schema
    pd.testing.assert_frame_equal(back.history, result.history)
    for one, two in zip(parameters_of(result), parameters_of(back), strict=True):
        assert torch.equal(one, two)
    np.testing.assert_array_equal(impute(back, table.frame).draws, impute(result, table).draws)


def test_a_saved_fit_can_be_made_anew_from_its_schema_alone(tmp_path):
    table = table_with_gaps()
    result = fit(*gina(table, mechanism=SelfMasking), table, epochs=1, progress=False)
    result.save(tmp_path / "fit")
    back = Fit.load(tmp_path / "fit", *gina(result.schema, mechanism=SelfMasking))
    np.testing.assert_array_equal(impute(back, table).means, impute(result, table).means)


def test_a_file_does_not_fit_another_model(tmp_path):
    table = table_with_gaps()
    Fit(*gina(table), table.schema).save(tmp_path / "fit")
    with pytest.raises(ValueError, match=r"the model given does not fit: its parameter 'prior.*' has shape"):
        Fit.load(tmp_path / "fit", GINA(table, latent_dim=3), ZeroImpute(table, 3))


# Models of any making -----------------------------------------------------------------------------------------------


def with_params(batch):
    """A plain function with its parameters in Pyro's store."""
    location = pyro.param("location", batch.x.new_zeros(2))
    scale = pyro.param("scale", batch.x.new_ones(2), constraint=constraints.positive)
    slope = pyro.param("slope", batch.x.new_zeros(2))
    with rows(batch):
        x = partially_observed("x", dist.Normal(location.expand(batch.x.shape), scale), batch)
        observe_mask("r", slope * x, batch)


def of_store(result, name):
    with pyro.get_param_store().scope(result.store):
        return pyro.param(name).detach().clone()


def test_a_module_of_the_users_own_is_fitted_and_imputed():
    table = table_with_gaps()
    imputations = impute(fit(Factor(), Line(), table, epochs=30, batch_size=50, progress=False), table)
    # b follows a: without a mechanism, an imputed b is the regression of b on a.
    completed = imputations.mean()
    gaps = table.frame["b"].isna()
    assert np.corrcoef(completed["a"][gaps], completed["b"][gaps])[0, 1] > 0.9


def test_a_function_with_pyro_params_is_fitted_imputed_and_saved(tmp_path):
    table = complete_table()
    result = fit(with_params, no_latents, table, epochs=30, batch_size=50, learning_rate=0.05, progress=False)
    scale = of_store(result, "scale")
    assert ((scale - 1).abs() < 0.1).all()
    new = pd.DataFrame({"a": [np.nan, 1.0], "b": [2.0, np.nan]})
    imputations = impute(result, new)
    result.save(tmp_path / "fit")
    back = Fit.load(tmp_path / "fit", with_params, no_latents)
    assert torch.equal(of_store(back, "scale"), scale)
    np.testing.assert_array_equal(impute(back, new).draws, imputations.draws)
    assert not list(pyro.get_param_store().keys())


def test_a_function_with_pyro_params_may_be_interrupted():
    table = complete_table()
    steps = []

    def interrupted(batch):
        steps.append(1)
        if len(steps) == 20:
            raise KeyboardInterrupt
        with_params(batch)

    def start(batch):
        pyro.param("location", batch.x.new_ones(2))
        interrupted(batch)

    result = fit(start, no_latents, table, epochs=50, batch_size=50, learning_rate=0.05, progress=False)
    assert 1 <= len(result.history) < 20
    assert (of_store(result, "location") < 0.9).all()


def test_what_plain_svi_trained_is_imputed():
    table = complete_table()
    new = pd.DataFrame({"a": [np.nan] * 50, "b": [2.0] * 50})
    with pyro.get_param_store().scope():
        svi = SVI(with_params, no_latents, pyro.optim.Adam({"lr": 0.05}), ImportanceWeightedELBO(num_particles=2))
        pyro.param("location", torch.ones(2))
        for _ in range(60):
            svi.step(table.batch())
        result = Fit.from_svi(with_params, no_latents, table)
    draws = impute(result, new, num_draws=100).draws
    column = table.schema.columns[0]
    location, scale = of_store(result, "location")[0].item(), of_store(result, "scale")[0].item()
    assert abs(location) < 0.2
    # b is complete and a is, so the mask says nothing: draws are N(location, scale) in the user's units, 5,000 of them.
    error = scale * column.std / 5_000**0.5
    assert abs(draws.mean() - (location * column.std + column.mean)) < z_limit() * error


def test_a_module_that_plain_svi_trained_is_imputed():
    table = complete_table()
    model, guide = Factor(), Line()
    with pyro.get_param_store().scope():
        svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), ImportanceWeightedELBO(num_particles=2))
        for _ in range(20):
            svi.step(table.batch())
        result = Fit.from_svi(model, guide, table)
    assert (model.loading > 0.4).all()
    assert impute(result, pd.DataFrame({"a": [1.0], "b": [np.nan]})).mean().notna().all(axis=None)


def test_float32_is_float32_throughout():
    table = Table.from_frame(table_with_gaps().frame, dtype=torch.float32)
    model, guide = gina(table)
    result = fit(model.float(), guide.float(), table, epochs=2, progress=False)
    assert result.dtype == torch.float32
    assert impute(result, table.frame).mean().notna().all(axis=None)
