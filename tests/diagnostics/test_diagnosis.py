"""The diagnosis finds what is wrong, and is silent where nothing is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule

from checks import gina_pair, table_with_gaps
from pyro_mnar import Fit, Table, compare, diagnose, fit, impute, observe_mask, partially_observed, rows
from pyro_mnar.diagnostics.importance import pareto_k, row_weights
from pyro_mnar.diagnostics.replicates import predictive_checks, replicated
from pyro_mnar.diagnostics.training_signs import gradient_norm, kl_by_dimension, rise
from pyro_mnar.diagnostics.without_mechanism import ignorable_companion
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.models import GINA


class Regression(PyroModule):
    """y ~ N(a + b u, s²); R at random, by u or by nothing."""

    def __init__(self, by_u):
        super().__init__()
        self.by_u = by_u
        self.level, self.slope, self.log_scale, self.intercept, self.change = (
            torch.nn.Parameter(torch.zeros(1)) for _ in range(5)
        )

    def forward(self, batch):
        with rows(batch):
            mean = self.level + self.slope * batch.aux
            y = partially_observed("x", dist.Normal(mean, self.log_scale.exp()), batch)
            logits = self.intercept + self.change * batch.aux * self.by_u
            observe_mask("r", logits.expand_as(y), batch)


def no_guide(batch):
    pass


def fitted(by_u, seed, num_rows=300):
    """R depends on u; the mechanism that is fitted knows it or not."""
    random = np.random.default_rng(seed)
    u = random.normal(size=num_rows)
    y = np.where(random.random(num_rows) < 1 / (1 + np.exp(-0.7 - u)), u + random.normal(size=num_rows), np.nan)
    table = Table.from_frame(pd.DataFrame({"u": u, "y": y}), auxiliary=["u"])
    options = {"epochs": 80, "batch_size": num_rows, "num_particles": 1, "learning_rate": 0.1, "progress": False}
    return fit(Regression(by_u), no_guide, table, seed=seed, compile="eager", **options), table


def checks_of(by_u, seed):
    return predictive_checks(replicated(*fitted(by_u, seed)))


def of_missingness(checks):
    return checks[checks.check != "observed values"]


def test_k_hat_is_the_shape_of_known_tails():
    """Of Pareto weights of shape k; the standard error of its estimate from 10,000 is near 0.04, so five of them."""
    random = np.random.default_rng(0)
    shapes = np.array([0.2, 0.5, 1.0])
    log_weights = random.exponential(size=(10_000, 3)) * shapes
    np.testing.assert_allclose(pareto_k(log_weights), shapes, atol=0.2)
    assert pareto_k(np.zeros((600, 1)))[0] == -np.inf


def test_every_row_with_gaps_is_weighed():
    table = table_with_gaps()
    result = Fit(*gina_pair(table), table.schema)
    found = row_weights(result, table, num_particles=500)
    assert list(found.index) == np.flatnonzero((~table.mask).any(1)).tolist()
    assert found.effective_sample_size.between(1, 500).all()
    with pytest.raises(ValueError, match="num_particles: expected at least 500, got 100"):
        row_weights(result, table, num_particles=100)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_graph_without_an_edge_that_is_there_is_flagged(seed):
    checks = of_missingness(checks_of(False, seed))
    assert checks.flagged.any()
    assert checks.iloc[0].of == "U[0] | y"


def test_the_true_graph_is_not_flagged():
    """A check is flagged by chance with probability 0.01 for each of its kinds, here three."""
    assert not checks_of(True, 0).flagged.any()


@pytest.mark.slow
def test_missingness_is_judged_right_over_many_seeds():
    """Flagged in 5 of 5 seeds where the edge lacks, in at most 1 of 20 where it is there."""
    assert all(of_missingness(checks_of(False, seed)).flagged.any() for seed in range(5))
    assert sum(of_missingness(checks_of(True, seed)).flagged.any() for seed in range(20)) <= 1


def test_a_bound_that_rises_is_seen():
    noise = np.random.default_rng(0).normal(scale=0.01, size=200)

    def with_bounds(values):
        return Fit(no_guide, no_guide, table_with_gaps().schema, pd.DataFrame({"bound": values}))

    gained, error = rise(with_bounds(np.linspace(0, 1, 200) + noise))
    assert gained == pytest.approx(0.1, abs=0.02) and gained > 3 * error
    gained, error = rise(with_bounds(noise))
    assert abs(gained) < 4 * error
    assert np.isnan(rise(with_bounds(noise[:9]))[0])


def test_kl_is_that_of_the_normals():
    table = table_with_gaps()
    model, guide = gina_pair(table)
    found = kl_by_dimension(Fit(model, guide, table.schema), table)
    assert list(found.index) == ["z[0]", "z[1]"] and (found > 0).all()


@pytest.fixture(scope="module")
def found():
    """Of a fit whose mechanism lacks an edge."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        result, table = fitted(False, 0)
        ignorable = ignorable_companion(result, table, steps=100).ignorable
        return diagnose(result, impute(result, table), num_particles=500, replicates=50, ignorable=ignorable)
    finally:
        torch.set_default_dtype(before)


def test_a_diagnosis_says_worst_first_what_to_do(found):
    frame = found.to_frame()
    assert frame.verdict.tolist() == sorted(frame.verdict, key=["problem", "look", "nothing seen"].index)
    assert frame.iloc[0].subject == "missingness that the model makes"
    assert "let R depend on these columns" in repr(found) and "agree on the law of what is observed" in repr(found)
    # The mechanism knows nothing of y, so an ignorable fit imputes the same.
    assert abs(found.against_ignorable.columns.loc["y", "distance_in_sd"]) < 0.1


def test_a_diagnosis_lands_in_one_object_of_arviz(found):
    data, table = found.to_inference_data(), found.imputations.table
    assert data["posterior"]["x_missing"].shape == (1, found.imputations.num_draws, int((~table.mask).sum()))
    made = data["posterior_predictive"]
    assert made["x"].dims == made["r"].dims == ("chain", "draw", "row", "column")
    np.testing.assert_array_equal(made["r"][0], found.replicates.mask)
    missing = found.checks[found.checks.check == "missing"]
    assert float(1 - made["r"].mean()) == pytest.approx(missing.replicated.item())
    of_y = table.schema.columns[0]
    np.testing.assert_allclose(made["x"][0, :, :, 0], of_y.mean + of_y.std * found.replicates.x[..., 0], rtol=1e-6)
    assert set(data["sample_stats"]) == {"effective_sample_size", "pareto_k"}


def test_rows_count_as_often_as_their_weights_say():
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"u": random.normal(size=60), "w": random.choice([1.0, 2.0], 60)})
    frame["y"] = frame.u.where(random.random(60) < 0.6)
    table = Table.from_frame(frame, auxiliary=["u"], weights="w")
    doubled = table.new_rows(frame.loc[frame.index.repeat(frame.w.astype(int))].reset_index(drop=True).assign(w=1.0))
    fits = {}
    for by_u in (True, False):  # masks do not depend on what is missing: their weights have no noise
        model = Regression(by_u)
        torch.nn.init.constant_(model.slope, 0.7), torch.nn.init.constant_(model.change, 0.4)
        fits[str(by_u)] = Fit(model, no_guide, table.schema)
    weighted, repeated = (compare(fits, rows_).bounds for rows_ in (table, doubled))
    means = ["log_evidence", "difference"]
    pd.testing.assert_frame_equal(weighted[means], repeated[means], rtol=1e-9)
    checks = [predictive_checks(replicated(fits["True"], rows_, 3)) for rows_ in (table, doubled)]
    checks = [found.set_index(["check", "of"]).observed.sort_index() for found in checks]
    pd.testing.assert_series_equal(*checks, rtol=1e-9)
    assert not np.isclose(checks[0]["missing", "y"], frame.y.isna().mean(), atol=1e-3)


def test_the_gradient_of_a_trained_fit_is_noise_and_of_an_untrained_one_is_not():
    result, table = fitted(True, 0)
    norm, noise = gradient_norm(result, table)
    untrained, _ = gradient_norm(Fit(Regression(True), no_guide, table.schema), table)
    assert norm < 0.05 * untrained
    assert noise < untrained


def test_columns_that_go_missing_together_do_so_in_replicates():
    """Of 400 rows 80 lack a page of three: replicates lack it as often, not three times a third."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.normal(size=(400, 4)), columns=list("abcd"))
    frame.loc[:79, ["a", "b", "c"]] = np.nan
    table = Table.from_frame(frame, auxiliary=[])
    with pytest.warns(UserWarning, match="go missing together"):
        model = GINA(table, latent_dim=1, seed=0)
    with torch.no_grad():
        model.blocks.log_odds.fill_(np.log(0.2 / 0.8))
        for name, parameter in model.mechanism.named_parameters():
            parameter.fill_(9.0 if "intercept" in name else 0.0)  # no other gaps
    checks = predictive_checks(replicated(Fit(model, ZeroImpute(table, 1, seed=0), table.schema), table, 50))
    pattern = checks[checks.of == "missing: a, b, c"].iloc[0]
    assert pattern.observed == 0.2 and abs(pattern.replicated - 0.2) < 4 * 0.02 / 50**0.5
