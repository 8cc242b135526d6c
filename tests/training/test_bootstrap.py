"""Row weights and bootstrap fits against closed forms."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule

from checks import gina_pair, table_with_gaps
from pyro_mnar import Fit, ImportanceWeightedELBO, Table, fit, impute, partially_observed, rows
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.mechanisms import SelfMasking
from pyro_mnar.models import GINA
from pyro_mnar.training.bootstrap import bootstrap_weights
from pyro_mnar.training.restarts import member_seed
from pyro_mnar.training.reweighted import Reweighted
from pyro_mnar.training.trainer import Trainer


class Normal(PyroModule):
    """One column, x ~ N(mean, std²): whatever is missing at random, the best parameters are the observed moments."""

    def __init__(self):
        super().__init__()
        self.mean = torch.nn.Parameter(torch.zeros(1))
        self.log_std = torch.nn.Parameter(torch.zeros(1))

    def forward(self, batch):
        with rows(batch):
            mean, std = self.mean.expand(len(batch), 1), self.log_std.exp()
            return partially_observed("x", dist.Normal(mean, std), batch)


def no_guide(batch):
    pass


def column(num_rows=400, share=0.3, seed=0):
    """A normal column, some of it missing completely at random, and its observed values."""
    random = np.random.default_rng(seed)
    x = random.normal(10, 3, num_rows)
    x[random.random(num_rows) < share] = np.nan
    table = Table.from_frame(pd.DataFrame({"x": x}), auxiliary=[])
    return table, x[~np.isnan(x)]


def mean_of(result):
    (units,) = result.schema.columns
    return result.model.mean.item() * units.std + units.mean


# Weights in the objective -----------------------------------------------------------------------------------------


def loss_and_gradient(model, guide, batch, **options):
    """On the same random numbers for every batch of as many rows."""
    torch.manual_seed(0)
    loss = ImportanceWeightedELBO(5, **options).differentiable_loss(model, guide, batch)
    parameters = [p for module in (model, guide) if isinstance(module, torch.nn.Module) for p in module.parameters()]
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    return torch.cat([loss.detach().view(1), *(g.reshape(-1) for g in gradients if g is not None)])


def weighted(batch, weight):
    return Reweighted(batch, torch.as_tensor(weight)).take(torch.arange(len(batch)))


def test_a_row_of_weight_two_is_the_row_twice(own_store):
    """Of a model whose bound has no noise; the factor N/B stands before the sum over rows."""
    table, _ = column(6)
    batch, counts = table.batch(), torch.tensor([2, 1, 1, 3, 1, 1])
    doubled = batch.take(torch.arange(6).repeat_interleave(counts))
    model = Normal()
    one = loss_and_gradient(model, no_guide, weighted(batch, counts.double()))
    torch.testing.assert_close(one, loss_and_gradient(model, no_guide, doubled) * 9 / 6)


@pytest.mark.parametrize("estimator", ["pathwise", "doubly-reparameterized"])
def test_loss_and_gradient_are_sums_over_rows_times_their_weights(estimator, own_store):
    table = table_with_gaps(4)
    model, guide = gina_pair(table)
    batch, weight = table.batch(), torch.tensor([2.0, 0.0, 0.3, 1.0])
    parts = [loss_and_gradient(model, guide, weighted(batch, row), estimator=estimator) for row in torch.eye(4)]
    together = loss_and_gradient(model, guide, weighted(batch, weight), estimator=estimator)
    torch.testing.assert_close(together, sum(w * part for w, part in zip(weight, parts, strict=True)))
    torch.testing.assert_close(loss_and_gradient(model, guide, batch, estimator=estimator), sum(parts))


def test_score_function_terms_are_weighted_too(own_store):
    table = Table.from_frame(
        pd.DataFrame({"a": pd.Categorical([None, "x", "y", None, "z", "x"]), "b": [1.0, None, 0.2, 0.1, None, 2.0]}),
        auxiliary=[],
    )
    model = GINA(table, latent_dim=1, mechanism=SelfMasking, discrete="sampled", seed=0)  # the default has a prior
    guide = ZeroImpute(table, 1, seed=0)
    batch, weight = table.batch(), torch.linspace(0, 2, 6)
    parts = [loss_and_gradient(model, guide, weighted(batch, row)) for row in torch.eye(6)]
    together = loss_and_gradient(model, guide, weighted(batch, weight))
    torch.testing.assert_close(together, sum(w * part for w, part in zip(weight, parts, strict=True)))


def test_the_weight_stands_outside_the_logarithm(own_store):
    table = table_with_gaps(5)
    model, guide = gina_pair(table)
    weight = torch.tensor([1.0, 0.0, 2.5, 1.0, 0.5])
    batch = Reweighted(table.batch(), weight).take(torch.arange(5))
    torch.manual_seed(0)
    run = ImportanceWeightedELBO(7).particles(model, guide, batch)
    per_row = run.log_weights.logsumexp(0) - np.log(7)
    torch.manual_seed(0)
    loss = ImportanceWeightedELBO(7).loss(model, guide, batch)
    assert loss == pytest.approx(-(weight * per_row).sum().item())


# Bootstrap weights ------------------------------------------------------------------------------------------------


def test_weights_give_a_mean_the_variance_of_textbooks():
    """s²/n over 10,000 bootstraps; the standard error of a variance is 1.4 % of it, so five of them fail by chance in
    6e-7.
    """
    random = np.random.default_rng(0)
    x, units = random.normal(size=12), np.arange(12)
    means = [np.average(x, weights=bootstrap_weights(units, np.zeros(12, int), random)) for _ in range(10_000)]
    assert np.var(means) == pytest.approx(x.var(ddof=1) / 12, rel=0.07)


def test_clusters_stay_whole_and_strata_keep_their_size():
    random = np.random.default_rng(0)
    clusters = np.array([0, 0, 1, 1, 1, 2, 3, 3, 4, 5])
    strata = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1])
    for _ in range(50):
        weight = bootstrap_weights(clusters, strata, random)
        assert all(len(np.unique(weight[clusters == cluster])) == 1 for cluster in range(6))
        first = np.unique(clusters, return_index=True)[1]
        for stratum, count in ((0, 3), (1, 3)):
            assert weight[first][strata[first] == stratum].sum() == pytest.approx(count)


def test_a_mean_over_clusters_in_strata_has_the_variance_of_textbooks():
    """Σ_h (1/H)² s_h²/n_h of the clusters' means, over 4,000 bootstraps: the standard error of a variance is 2.2 % of
    it.
    """
    random = np.random.default_rng(0)
    clusters, strata = np.arange(48) // 3, np.arange(48) // 24
    x = random.normal(size=16)[clusters] + strata + 0.3 * random.normal(size=48)
    means = [np.average(x, weights=bootstrap_weights(clusters, strata, random)) for _ in range(4_000)]
    of_clusters = x.reshape(2, 8, 3).mean(axis=2)
    assert np.var(means) == pytest.approx((of_clusters.var(axis=1, ddof=1) / 8).sum() / 4, rel=0.1)


def test_two_units_count_twice_or_not_at_all_and_one_is_refused():
    weights = {tuple(bootstrap_weights(np.arange(2), np.zeros(2, int), np.random.default_rng(s))) for s in range(20)}
    assert weights == {(0.0, 2.0), (2.0, 0.0)}
    with pytest.raises(ValueError, match="at least two sampling units, got 1"):
        bootstrap_weights(np.array([0, 0]), np.zeros(2, int), np.random.default_rng(0))


# Bootstrap fits ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_each_fit_is_the_best_for_its_weights(mode):
    table, _ = column(60)
    result = fit(Normal(), no_guide, table, epochs=150, batch_size=60, num_particles=1, bootstrap=3, compile=mode)
    seen = table.mask[:, 0].numpy()
    x = table.frame.x.to_numpy()[seen]
    assert len(result.bootstrap) == 3
    for member, own in enumerate(result.bootstrap):
        random = np.random.default_rng(member_seed(0, member + 1))
        weight = bootstrap_weights(np.arange(60), np.zeros(60, int), random)[seen]
        assert mean_of(own) == pytest.approx(np.average(x, weights=weight), abs=0.02)
    assert mean_of(result) == pytest.approx(x.mean(), abs=0.02)


@pytest.mark.slow
def test_the_pooled_error_of_a_mean_missing_completely_at_random_is_exact():
    """s/√(observed rows) within 3 %: with 250 draws the Monte Carlo error of the pooled error is 1.3 %, so it fails by
    chance at 2 % of seeds.
    """
    table, observed = column()
    result = fit(Normal(), no_guide, table, epochs=100, batch_size=400, num_particles=1, bootstrap=250, compile="graph")
    pooled = impute(result, table, num_particles=1).pool(lambda frame: (frame.x.mean(), frame.x.sem()))
    assert pooled.standard_errors[0] == pytest.approx(observed.std(ddof=1) / len(observed) ** 0.5, rel=0.03)
    fixed = impute(result.without_bootstrap(), table, num_particles=1, num_draws=100)
    assert fixed.pool(lambda frame: (frame.x.mean(), frame.x.sem())).standard_errors < 0.98 * pooled.standard_errors


def small_bootstrap(**options):
    table = table_with_gaps()
    model, guide = gina_pair(table)
    options = {"epochs": 2, "num_particles": 2, "bootstrap": 3, "progress": False, **options}
    return fit(model, guide, table, **options), table


def test_draw_m_comes_from_fit_m():
    result, table = small_bootstrap()
    imputations = impute(result, table, num_particles=10)
    assert imputations.num_draws == 3 and imputations.from_bootstrap
    alone = impute(result.bootstrap[0], table, num_draws=1, num_particles=10)
    np.testing.assert_array_equal(imputations.draws[0], alone.draws[0])
    assert "a fit of its own" in repr(imputations.pool("x0 ~ u0"))
    assert not impute(result.without_bootstrap(), table, num_draws=2).from_bootstrap
    assert impute(result, table, num_draws=2, num_particles=10).num_draws == 2
    with pytest.raises(ValueError, match=r"num_draws: expected at most 3.*bootstrap=4"):
        impute(result, table, num_draws=4)


def test_means_and_sample_sizes_are_those_of_all_fits():
    result, table = small_bootstrap()
    together = impute(result, table, num_particles=10)
    cells = together.cells[0], together.cells[1]
    of_cells = impute(result, table, cells=cells, num_particles=10)
    parts = [
        impute(own, table, num_draws=1, num_particles=10, seed=seed)
        for own, seed in zip(result.bootstrap, [member_seed(0, member) for member in range(3)], strict=True)
    ]
    np.testing.assert_allclose(together.means, np.mean([part.means for part in parts], axis=0))
    with np.errstate(divide="ignore"):
        inverse = np.sum([1 / part.effective_sample_size for part in parts], axis=0)
    with_gaps = np.unique(cells[0])
    np.testing.assert_allclose(together.effective_sample_size[with_gaps], 9 / inverse[with_gaps])
    assert of_cells.num_draws == 3


def test_bootstrap_fits_are_saved(tmp_path):
    result, table = small_bootstrap()
    result.save(tmp_path / "fit.pt")
    loaded = Fit.load(tmp_path / "fit.pt", *gina_pair(table))
    draws = (impute(one, table, num_particles=10).draws for one in (result, loaded))
    np.testing.assert_array_equal(*draws)
    assert "3 bootstrap fits" in repr(loaded)


def test_one_fit_is_no_bootstrap():
    with pytest.raises(ValueError, match="bootstrap: expected 0 or at least 2, got 1"):
        small_bootstrap(bootstrap=1)


def test_an_interrupted_bootstrap_is_not_kept(monkeypatch):
    epoch, calls = Trainer.epoch, []

    def interrupted(self):
        calls.append(1)
        if len(calls) > 4:
            raise KeyboardInterrupt
        return epoch(self)

    monkeypatch.setattr(Trainer, "epoch", interrupted)
    with pytest.warns(UserWarning, match="bootstrap: interrupted"):
        result, _ = small_bootstrap()
    assert result.bootstrap == []
