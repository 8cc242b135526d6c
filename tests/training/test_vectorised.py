"""Restarts at once: every member is what it would be alone, with random numbers of its own."""

from __future__ import annotations

import logging
import shutil

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule
from torch import nn

from checks import gina_pair, table_with_gaps
from pyro_mnar import Batch, Fit, ImportanceWeightedELBO, Table, fit, partially_observed, rows
from pyro_mnar.capture.tracing import flat
from pyro_mnar.infer.session import Session
from pyro_mnar.training import TrainingError, TrainingRun
from pyro_mnar.training.plan import TrainingPlan
from pyro_mnar.training.restarts import Start, best_of
from pyro_mnar.training.steps import Thresholds
from pyro_mnar.training.vectorised import VectorisedTrainer

RUN = {"epochs": 4, "batch_size": 16, "restarts": 3, "progress": False, "compile": "graph"}


class Factor(PyroModule):
    """A user's own model."""

    def __init__(self):
        super().__init__()
        self.location = nn.Parameter(torch.full((3,), 0.1))
        self.log_noise = nn.Parameter(torch.zeros(3))

    def forward(self, batch: Batch):
        with rows(batch):
            z = pyro.sample("z", dist.Normal(batch.x.new_zeros(len(batch), 1), 1.0).to_event(1))
            return partially_observed("x", dist.Normal(self.location + z, self.log_noise.exp()), batch)


class Encoder(PyroModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, batch: Batch):
        mean, scale = self.layer(batch.x).chunk(2, dim=-1)
        with rows(batch):
            pyro.sample("z", dist.Normal(mean, scale.exp()).to_event(1))


def pair():
    torch.manual_seed(0)
    return Factor(), Encoder()


def parameters_of(fitted: Fit) -> torch.Tensor:
    return flat([*fitted.model.parameters(), *fitted.guide.parameters()])


def lines(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("pyro_mnar")]


def plan_of(table: Table, validation: Table | None = None, **options) -> TrainingPlan:
    options = {"epochs": 4, "mode": "graph", **options}
    return TrainingPlan(
        ImportanceWeightedELBO(5), table, validation, batch_size=16, learning_rate=2e-2, device=torch.device("cpu"),
        progress=False, **options,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("holds_out", [False, True])
def test_members_trained_at_once_are_those_trained_in_turn(holds_out, caplog):
    table = table_with_gaps()
    validation = table.take(np.arange(8)) if holds_out else None
    plan = plan_of(table, validation)

    def each_by_itself(starts):
        return [plan.run(start) for start in starts]

    with caplog.at_level(logging.INFO, logger="pyro_mnar"):
        at_once, in_turn = (
            best_of(3, train, *gina_pair(table), table, validation or table, 3).fit
            for train in (plan.run_all, each_by_itself)
        )
    assert lines(caplog)[0] == "starts: 3 at once (graph)"
    assert lines(caplog)[-1] == "training steps: graph (as asked for)"
    for one, other in zip(at_once.members, in_turn.members, strict=True):
        torch.testing.assert_close(parameters_of(one), parameters_of(other), rtol=1e-8, atol=1e-9)
        for column in one.history.columns.drop("seconds"):
            assert one.history[column].tolist() == pytest.approx(other.history[column].tolist(), rel=1e-9)
    values = [parameters_of(member) for member in at_once.members]
    assert not torch.allclose(values[0], values[1], atol=0.1) and not torch.allclose(values[1], values[2], atol=0.1)
    assert at_once.restarts["kept"].tolist() == in_turn.restarts["kept"].tolist()
    assert torch.equal(parameters_of(at_once), values[int(at_once.restarts["kept"].argmax())])


def test_members_draw_noise_and_rows_of_their_own():
    table, seen = table_with_gaps(), []
    runs = [
        TrainingRun(
            Fit(*pair(), table.schema),
            ImportanceWeightedELBO(5),
            table.source(),
            None,
            Session(seed),
            learning_rate=2e-2,
            num_steps=12,
            batch_size=16,
        )
        for seed in range(3)
    ]
    trainer = VectorisedTrainer(runs, "graph")
    step = trainer.steps.adam.step
    trainer.steps.adam.step = lambda inputs: seen.append([tensor.clone() for tensor in inputs[4:11]]) or step(inputs)
    for _ in range(4):
        trainer.epoch()
    assert len(seen) == 4 * 3
    for normal, _, x, *_ in seen:
        assert normal.shape[0] == x.shape[0] == 3
        for one, other in ((0, 1), (0, 2), (1, 2)):
            assert not torch.isclose(normal[one], normal[other]).any()
            assert not torch.equal(x[one], x[other])
    steps = torch.stack([step[0] for step in seen]).flatten(0, 1)  # every draw of every member at every step
    correlation = torch.corrcoef(steps)
    assert (correlation - torch.eye(len(steps))).abs().max() < 0.6
    assert abs(steps.mean()) < 0.05 and abs(steps.std() - 1) < 0.05


@pytest.mark.slow
def test_samplers_that_stay_inside_a_graph_send_members_in_turn(caplog):
    class WithGamma(Factor):
        def forward(self, batch: Batch):
            with rows(batch):
                g = pyro.sample("g", dist.Gamma(2.0 * batch.x.new_ones(len(batch), 1), 1.0).to_event(1))
                z = pyro.sample("z", dist.Normal(batch.x.new_zeros(len(batch), 1), 1.0).to_event(1))
                return partially_observed("x", dist.Normal(self.location + g * z, 1.0), batch)

    table = table_with_gaps()
    guide = Encoder()
    with caplog.at_level(logging.INFO, logger="pyro_mnar"):
        result = fit(WithGamma(), guide, table, **RUN)
    assert "starts: in turn (all members would draw the same numbers in aten._standard_gamma.default)" in lines(caplog)
    assert len(result.members) == 3


@pytest.mark.slow
def test_auto_trains_them_at_once_where_a_capture_pays(caplog):
    table = table_with_gaps()
    with caplog.at_level(logging.INFO, logger="pyro_mnar"):
        for limits in (Thresholds(), Thresholds(steps_to_capture=1)):
            plan = plan_of(table, epochs=1, mode="auto", thresholds=limits)
            plan.run_all([Start(*gina_pair(table), seed) for seed in range(3)])
    said = [line for line in lines(caplog) if line.startswith("starts")]
    assert said[0].startswith("starts: in turn (9 steps are too few")
    assert said[1] == "starts: 3 at once (graph)"


def test_a_model_that_changes_in_python_goes_on_in_turn(caplog):
    class Counting(Factor):
        calls = 0

        def forward(self, batch: Batch):
            self.calls += torch.is_grad_enabled()
            with pyro.poutine.scale(scale=1.0 if self.calls < 7 else 3.0):
                return super().forward(batch)

    table = table_with_gaps()
    plan = plan_of(table, epochs=8, thresholds=Thresholds(steps_between_checks=1))
    result = best_of(3, plan.run_all, Counting(), Encoder(), table, table, 0).fit
    assert any(line.startswith("starts: in turn from epoch") for line in lines(caplog))
    assert [len(member.history) for member in result.members] == [8, 8, 8]


def test_ctrl_c_returns_all_members(monkeypatch):
    epoch = VectorisedTrainer.epoch

    def interrupted(self):
        if len(self.runs[0].history) == 2:
            raise KeyboardInterrupt
        return epoch(self)

    monkeypatch.setattr(VectorisedTrainer, "epoch", interrupted)
    result = fit(*pair(), table_with_gaps(), **RUN)
    assert [len(member.history) for member in result.members] == [2, 2, 2]


def test_a_member_whose_loss_is_not_finite_is_named():
    class Failing(Factor):
        def forward(self, batch: Batch):
            bad = torch.where(batch.index == 17, torch.nan, 0.0)[:, None]
            with rows(batch):
                z = pyro.sample("z", dist.Normal(batch.x.new_zeros(len(batch), 1), 1.0).to_event(1))
                return partially_observed("x", dist.Normal(self.location + z + bad, 1.0), batch)

    with pytest.raises(TrainingError, match=r"epoch 1, batch .*: the objective is nan; offending site: 'x_"):
        fit(Failing(), Encoder(), table_with_gaps(), **RUN)


def test_patience_waits_for_the_last_member():
    table = table_with_gaps()
    above = table.new_rows(table.frame + 5)
    result = fit(*pair(), table, held_out=above, patience=2, **{**RUN, "epochs": 30})
    lengths = {len(member.history) for member in result.members}
    assert len(lengths) == 1
    best = max(member.history["held_out_bound"].idxmax() for member in result.members)
    assert lengths == {min(30, best + 1 + 2)}


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="inductor needs a C++ compiler")
def test_members_compiled_at_once_are_the_captured_ones(caplog):
    table = table_with_gaps()
    results = [fit(*pair(), table, **{**RUN, "compile": mode}) for mode in ("inductor", "graph")]
    assert not [line for line in lines(caplog) if not line.startswith("more particles:")]
    for one, other in zip(*(result.members for result in results), strict=True):
        torch.testing.assert_close(parameters_of(one), parameters_of(other), rtol=1e-7, atol=1e-8)
