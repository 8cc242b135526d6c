"""Restarts: every member is a fit of its own, the best one's parameters go back, and a spread at equal bound is
seen.
"""

from __future__ import annotations

import copy

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from pyro.nn import PyroModule, PyroParam

from checks import gina_pair, table_with_gaps
from pyro_mnar import Batch, Fit, Table, fit, impute, mechanisms, partially_observed, restart_spread, rows
from pyro_mnar.datasets.anova import Parameters, anova
from pyro_mnar.guides import ANOVAConditional, ZeroImpute
from pyro_mnar.models import ANOVA, GINA, PartialVAE
from pyro_mnar.nn import ResidualMLP
from pyro_mnar.training import Trainer
from pyro_mnar.training.evidence import log_evidence
from pyro_mnar.training.restarts import member_seed, redraw

QUICK = {"epochs": 2, "batch_size": 16, "progress": False}


def parameters_of(*modules: torch.nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for module in modules for p in module.parameters()]


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_best_members_parameters_go_into_the_objects_that_were_passed(generators_untouched: None):
    table = table_with_gaps()
    model, guide = gina_pair(table)
    result = fit(model, guide, table, restarts=3, **QUICK)
    best = int(result.restarts["bound"].argmax())
    assert result.model is model and result.guide is guide
    assert result.restarts["kept"].tolist() == [member == best for member in range(3)]
    assert same(parameters_of(model, guide), parameters_of(result.members[best].model, result.members[best].guide))
    assert result.history.drop(columns="seconds").equals(result.members[best].history.drop(columns="seconds"))
    bounds = [log_evidence(member, table, num_particles=100).log_p.mean() for member in result.members]
    assert result.restarts["bound"].tolist() == pytest.approx(bounds)
    assert impute(result, table, num_draws=2).draws.shape[0] == 2


def test_the_first_member_is_the_fit_without_restarts_and_the_others_start_elsewhere():
    table = table_with_gaps()
    model, guide = gina_pair(table)
    alone = fit(*copy.deepcopy((model, guide)), table, seed=4, **QUICK)
    members = fit(model, guide, table, seed=4, restarts=3, **QUICK).members
    assert same(parameters_of(alone.model, alone.guide), parameters_of(members[0].model, members[0].guide))
    values = [parameters_of(member.model) for member in members]
    assert not same(values[0], values[1]) and not same(values[1], values[2])


def test_the_same_seed_gives_the_same_members():
    table = table_with_gaps()
    runs = [fit(*gina_pair(table), table, seed=1, restarts=2, **QUICK).restarts for _ in range(2)]
    assert runs[0].equals(runs[1])
    assert member_seed(1, 0) == 1 and member_seed(1, 1) != member_seed(1, 2)


def test_held_out_rows_choose_the_member():
    table = table_with_gaps(60)
    result = fit(*gina_pair(table), table, restarts=2, held_out=0.25, **QUICK)
    order = np.random.default_rng(0).permutation(60)
    judges = table.take(np.sort(order[:15]))
    bound = log_evidence(result.members[1], judges, num_particles=100).log_p.mean()
    assert result.restarts["bound"][1] == pytest.approx(bound)


def test_redrawing_takes_slopes_of_both_signs_and_keeps_what_is_declared_and_what_starts_at_zero():
    slopes = []
    for seed in range(20):
        mechanism = mechanisms.SelfMasking(3, sign=[0, 0, -1])
        redraw((mechanism,), {"params": {}}, seed)
        slopes.append(mechanism.slope.detach())
    stacked = torch.stack(slopes)
    assert all((stacked[:, d] > 0).any() and (stacked[:, d] < 0).any() for d in (0, 1))
    assert (stacked[:, 2] < 0).all()

    network = ResidualMLP([2, 5, 3])
    before = network.linear.weight.detach().clone()
    redraw((network,), {"params": {}}, 0)
    assert not torch.equal(network.linear.weight, before)
    assert not network.correction[-1].weight.any()


def test_parameters_without_a_reset_get_noise_on_the_unconstrained_scale():
    class Scaled(PyroModule):
        def __init__(self) -> None:
            super().__init__()
            self.scale = PyroParam(torch.ones(4), constraint=dist.constraints.positive)

    module = Scaled()
    redraw((module,), {"params": {}}, 0)
    assert (module.scale > 0).all()
    assert (module.scale != 1).all()


def test_what_is_frozen_is_not_redrawn():
    layer = torch.nn.Linear(2, 2).requires_grad_(False)
    before = parameters_of(layer)
    redraw((layer,), {"params": {}}, 0)
    assert same(parameters_of(layer), before)


def test_a_module_shared_by_model_and_guide_stays_shared_in_every_member():
    table = Table.from_frame(anova(0, rows=50).frame, auxiliary=[])
    model = ANOVA(table, noise=0.5)
    result = fit(model, ANOVAConditional(model), table, restarts=2, **QUICK)
    assert all(member.guide._of[0] is member.model for member in result.members)


def test_models_of_pyro_params_and_autoguides_restart_too():
    def model(batch: Batch) -> None:
        shift = pyro.param("shift", lambda: torch.zeros(batch.num_columns))
        with rows(batch):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(batch), 1), 1.0).to_event(1))
            partially_observed("x", dist.Normal(shift + z, 1.0), batch)

    table = table_with_gaps()
    guide = AutoNormal(pyro.poutine.block(model, hide=["x_missing"]), create_plates=lambda batch: rows(batch))
    result = fit(model, guide, table, restarts=2, **QUICK)
    first, second = (member.store["params"]["shift"] for member in result.members)
    assert not torch.equal(first, second)
    best = result.members[int(result.restarts["kept"].argmax())]
    assert torch.equal(result.store["params"]["shift"], best.store["params"]["shift"])
    assert np.isfinite(log_evidence(result, table, num_particles=10).log_p).all()


def test_a_module_hidden_in_a_function_is_refused_with_the_cure():
    table = table_with_gaps()
    inner, guide = gina_pair(table)

    def model(batch: Batch) -> torch.Tensor:
        pyro.module("inner", inner.decoder)
        return inner(batch)

    with pytest.raises(ValueError, match="belongs to a module inside a function"):
        fit(model, guide, table, restarts=2, **QUICK)


def test_restarts_survive_a_file_but_members_do_not(tmp_path):
    table = table_with_gaps()
    result = fit(*gina_pair(table), table, restarts=2, **QUICK)
    result.save(tmp_path / "fit.pt")
    loaded = Fit.load(tmp_path / "fit.pt", *gina_pair(table))
    assert loaded.restarts.equals(result.restarts)
    with pytest.raises(ValueError, match="without members"):
        restart_spread(loaded, table)


def test_ctrl_c_ends_the_restarts(monkeypatch):
    table = table_with_gaps()
    model, guide = gina_pair(table)
    calls = []

    def interrupted(self):
        calls.append(self)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return epoch(self)

    epoch = Trainer.epoch
    monkeypatch.setattr(Trainer, "epoch", interrupted)
    assert len(fit(model, guide, table, restarts=5, **QUICK).members) == 2


def test_a_wrong_number_of_restarts_is_refused():
    table = table_with_gaps()
    with pytest.raises(ValueError, match="restarts: expected at least 1, got 0"):
        fit(*gina_pair(table), table, restarts=0)


def test_the_spread_is_in_the_users_units_and_in_observed_standard_deviations():
    table = table_with_gaps()
    scaled = Table.from_frame(100 * table.frame, auxiliary=table.frame.columns[-1:])
    result = fit(*gina_pair(scaled), scaled, restarts=2, **QUICK)
    spread = restart_spread(result, scaled, num_particles=50, tolerance=1e6)
    assert spread.bounds["equal"].all()
    expected = spread.means.max() - spread.means.min()
    units = [column.std for column in scaled.schema.columns]
    np.testing.assert_allclose(spread.spread["range"], expected)
    np.testing.assert_allclose(spread.spread["range_in_sd"], expected / units)
    one = restart_spread(result, scaled, num_particles=50, tolerance=0.0).bounds
    assert one["below_best"].min() == 0.0
    assert "a narrow one proves nothing" in repr(spread)


def test_a_fit_without_mechanism_restarts():
    table = table_with_gaps()
    model = PartialVAE(table, latent_dim=1, seed=0)
    guide = ZeroImpute(table, 1, hidden=[4], seed=0)
    assert len(fit(model, guide, table, restarts=2, **QUICK).members) == 2


def test_a_tempered_fit_reports_an_objective():
    table = table_with_gaps()
    model = GINA(table, latent_dim=1, mechanism_weight=0.5, seed=0)
    result = fit(model, ZeroImpute(table, 1, hidden=[4], seed=0), table, restarts=2, **QUICK)
    assert "objective" in result.restarts and "bound" not in result.restarts


@pytest.mark.slow
def test_restarts_of_the_anova_example_spread_at_equal_bound():
    """At c = 1 the two signs explain what is observed equally well (docs/identifiability.md)."""
    truth = Parameters(mu=np.zeros(3), zeta=1.0, intercept=-2.0, slope=-2.0)
    table = Table.from_frame(anova(0, rows=1500, truth=truth).frame, auxiliary=[])
    model = ANOVA(table, noise=0.5)
    result = fit(model, ANOVAConditional(model), table, restarts=3, epochs=35, seed=0, progress=False)
    slopes = [member.model.slope.item() for member in result.members]
    assert min(slopes) < 0 < max(slopes)
    spread = restart_spread(result, table)
    assert spread.bounds["equal"].all()
    assert (spread.spread["range_in_sd"] > 1).all()
