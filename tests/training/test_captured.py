"""A captured step is the model's own step: the same loss, gradient and training, or it is not used."""

from __future__ import annotations

import logging
import math
import re
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import scipy.sparse
import torch
from pyro.infer.autoguide import AutoNormal
from pyro.nn import PyroModule, PyroParam
from torch import nn
from torch.distributions import constraints

from checks import bounded_table, gina_pair, table_with_gaps
from pyro_mnar import Batch, Fit, ImportanceWeightedELBO, Table, fit, mechanisms, observe_mask, partially_observed, rows
from pyro_mnar.capture.gradient import capture, loss_and_gradient
from pyro_mnar.capture.internals import CannotCapture
from pyro_mnar.capture.tracing import flat
from pyro_mnar.guides import MeanField, ZeroImpute
from pyro_mnar.infer.parameters import trainable_parameters
from pyro_mnar.infer.session import Session
from pyro_mnar.models import GINA
from pyro_mnar.tables.batch import shuffled
from pyro_mnar.training import Trainer, TrainingError, TrainingRun
from pyro_mnar.training.captured_steps import STEPS_OF_A_REPLAY, in_turn
from pyro_mnar.training.plan import TrainingPlan
from pyro_mnar.training.restarts import Start
from pyro_mnar.training.stepper import Optimisation
from pyro_mnar.training.steps import Steps, Thresholds
from pyro_mnar.training.trainer import run_epochs

RUN = {"epochs": 6, "batch_size": 16, "progress": False, "compile": "graph"}


# Models of any making -----------------------------------------------------------------------------------------------


class Scaled(PyroModule):
    """Parameters as PyroParam."""

    def __init__(self):
        super().__init__()
        self.scale = PyroParam(torch.full((3,), 0.8), constraint=constraints.positive)

    def forward(self, batch: Batch):
        with rows(batch):
            z = pyro.sample("z", dist.Normal(batch.x.new_zeros(len(batch), 1), 1.0).to_event(1))
            partially_observed("x", dist.Normal(z.expand(*z.shape[:-1], 3), self.scale), batch)


def with_params(batch: Batch):
    """A plain function with its parameters in Pyro's store."""
    shift = pyro.param("shift", lambda: batch.x.new_full((3,), 0.1))
    scale = pyro.param("scale", lambda: batch.x.new_full((3,), 0.9), constraint=constraints.positive)
    with rows(batch):
        z = pyro.sample("z", dist.Normal(batch.x.new_zeros(len(batch), 1), 1.0).to_event(1))
        x = partially_observed("x", dist.Normal(shift + z, scale), batch)
        observe_mask("r", 0.5 * x + shift, batch)


def guide_of_functions(batch: Batch):
    encoder = pyro.module("encoder", ENCODER.to(batch.x.dtype))
    with rows(batch):
        mean, scale = encoder(batch.x).chunk(2, dim=-1)
        pyro.sample("z", dist.Normal(mean, scale.exp()).to_event(1))


ENCODER = nn.Linear(3, 2, dtype=torch.float64)


def of_functions(table):
    return with_params, guide_of_functions


def of_pyro_params(table):
    return Scaled(), guide_of_functions


def of_autoguide(table):
    return with_params, AutoNormal(pyro.poutine.block(with_params, hide=["x_missing"]), create_plates=rows)


def of_gina(table):
    return gina_pair(table)


def of_mean_field(table):
    return gina_pair(table)[0], MeanField(table, 2)


PAIRS = [of_gina, of_functions, of_pyro_params, of_autoguide, of_mean_field]


def mixed_table() -> Table:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "amount": random.lognormal(size=60),
            "visits": random.poisson(4.0, 60).astype(float),
            "level": pd.Categorical(random.choice(list("abc"), 60)),
        }
    )
    for column in frame:
        frame.loc[random.random(60) < 0.3, column] = None
    return Table.from_frame(frame, auxiliary=[], kinds={"amount": "positive", "visits": "count"})


def session_of(model, guide, batch: Batch, *, estimator="pathwise"):
    """A session in which the pair has run once, its loss, and its parameters."""
    objective = ImportanceWeightedELBO(4, estimator)
    session = Session(0)

    def loss(batch: Batch) -> torch.Tensor:
        return objective.differentiable_loss(model, guide, batch) / batch.size

    with session.running():
        loss(batch)
        return session, loss, trainable_parameters(model, guide)


def check_same_step(model, guide, table: Table, **options):
    batch = table.batch()
    session, loss, parameters = session_of(model, guide, batch.take(torch.arange(9)), **options)
    with session.running():
        captured = capture(loss, parameters, batch.take(torch.arange(9)))
        for start in (0, 9, 18):  # on rows other than the example's, and on fresh numbers each time
            part = batch.take(torch.arange(start, start + 9))
            (normal,), (uniform,) = captured.noise(1, batch.x)
            state = torch.get_rng_state()
            got = captured(flat(parameters), normal, uniform, part)
            torch.set_rng_state(state)
            with captured.replayed(normal, uniform):
                expected = loss_and_gradient(loss, parameters, part)
            torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-11)
            assert expected[1].abs().max() > 1e-3
    return captured


@pytest.mark.parametrize("pair", PAIRS)
def test_loss_and_gradient_are_the_models_own_on_the_same_numbers(pair):
    table = table_with_gaps()
    check_same_step(*pair(table), table)


def test_so_they_are_with_doubly_reparameterised_gradients():
    table = table_with_gaps()
    check_same_step(*gina_pair(table), table, estimator="doubly-reparameterized")


@pytest.mark.slow
def test_so_they_are_with_columns_of_all_kinds_whose_samplers_stay_inside():
    table = mixed_table()
    model = GINA(table, latent_dim=2, mechanism=mechanisms.SelfMasking, seed=0)
    captured = check_same_step(model, ZeroImpute(table, 2, hidden=[4], seed=1), table)
    assert any("poisson" in name for name in captured.others)


@pytest.mark.slow
def test_so_they_are_with_bounds_at_other_cells_in_every_batch():
    table = bounded_table({"score": "continuous", "amount": "positive", "share": "bounded"})
    assert len({int(table.batch().take(rows).lower.isfinite().sum()) for rows in torch.arange(27).split(9)}) > 1
    check_same_step(*gina_pair(table), table)


@pytest.mark.parametrize(
    ("kinds", "reason"), [({"score": "heavy_tailed"}, "'index' reads"), ({"score": "count"}, "'index' reads")]
)
def test_families_whose_tails_are_iterated_are_computed_at_their_bounds_and_not_captured(kinds, reason):
    table = bounded_table(kinds)
    batch = table.batch().take(torch.arange(9))
    model, guide = gina_pair(table)
    session, loss, parameters = session_of(model, guide, batch)
    with session.running(), pytest.raises(CannotCapture, match=reason):
        capture(loss, parameters, batch)


def test_numbers_that_stand_in_for_observed_values_are_not_drawn():
    table = table_with_gaps()
    captured = check_same_step(*gina_pair(table), table)
    drawn = sum(stop - start for start, stop in captured.normal)
    # z and x_missing, of which one number each serves as a draw or as the placeholder of an observed entry
    assert captured.counts[0] == drawn == 4 * 9 * (2 + 3)


class Dropping(ZeroImpute):
    """A guide with dropout between encoder and posterior."""

    def forward(self, batch: Batch):
        dropped = nn.functional.dropout(batch.x, 0.4, training=self.training)
        return super().forward(replace(batch, x=dropped))


def test_dropout_is_captured_and_fresh_on_every_step():
    table = table_with_gaps()
    model, guide = gina_pair(table)[0], Dropping(table, 2, hidden=[5], seed=2)
    captured = check_same_step(model, guide, table)
    assert captured.counts[1] == 9 * 3
    with Session(0).running():
        numbers = captured.noise(2, table.x)[1]
    assert not torch.equal(numbers[0], numbers[1])


# Training -----------------------------------------------------------------------------------------------------------


def steps_of(model, guide, table: Table, mode: str, count: int = 12):
    batch = table.batch()
    session, loss, parameters = session_of(model, guide, batch)
    rates = torch.linspace(0.05, 0.01, count, dtype=torch.float64)
    with session.running():
        return Steps(Optimisation(loss, parameters, batch, ROWS.shape[1], rates), mode)


def replayed_by_python(model, guide, table: Table, count: int = 12):
    """The same steps by Python and torch's own Adam, given the numbers that the captured ones take."""
    batch = table.batch()
    session, loss, parameters = session_of(model, guide, batch)
    with session.running():
        captured = capture(loss, parameters, batch.take(ROWS[0]))
    optimiser = torch.optim.Adam(parameters, lr=0.05)
    losses = []
    with Session(1).running():
        normal, uniform = captured.noise(count, batch.x)
        for step, rate in enumerate(torch.linspace(0.05, 0.01, count).tolist()):
            optimiser.param_groups[0]["lr"] = rate
            with captured.replayed(normal[step], uniform[step]):
                value = loss(batch.take(ROWS[step]))
                optimiser.zero_grad()
                value.backward()
            optimiser.step()
            losses.append(value.item())
    return losses, parameters


def parameters_of(*modules: nn.Module) -> torch.Tensor:
    return flat([parameter for module in modules for parameter in module.parameters()])


ROWS = torch.stack([torch.randperm(40, generator=torch.Generator().manual_seed(i))[:10] for i in range(12)])


def test_captured_steps_are_torchs_adam_on_the_models_own_gradients():
    table = table_with_gaps()
    model, guide = gina_pair(table)
    steps = steps_of(model, guide, table, "graph")
    with Session(1).running():
        losses = [loss.item() for loss in steps.run(ROWS)]
        steps.synchronise()
    expected, parameters = replayed_by_python(*gina_pair(table), table)
    assert steps.mode == "graph"
    assert losses == pytest.approx(expected, rel=1e-9)
    torch.testing.assert_close(parameters_of(model, guide), flat(parameters), rtol=1e-8, atol=1e-9)


def test_several_steps_at_a_time_are_the_steps_one_by_one():
    """As a CUDA graph holds them, here without a GPU; the step that Python checks, and those left over, are single."""
    table, order = table_with_gaps(), ROWS.repeat(4, 1)
    got = []
    for at_once in (False, True):
        model, guide = gina_pair(table)
        steps = steps_of(model, guide, table, "graph", len(order))
        adam, calls = steps.stepper.adam, []
        if at_once:
            several = in_turn(adam.step, 3, len(adam._inputs(order[:1], adam.captured.noise(1, table.x))))
            adam.several = lambda inputs, several=several, calls=calls: calls.append(1) or several(inputs)
        with Session(1).running():
            losses = torch.stack(list(steps.run(order)))
            steps.synchronise()
        got.append((losses, parameters_of(model, guide)))
        assert len(calls) == at_once * (len(order) - 1) // STEPS_OF_A_REPLAY
    torch.testing.assert_close(*got, rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="inductor needs a C++ compiler")
def test_compiled_steps_are_the_captured_ones():
    frame = table_with_gaps().frame
    table = Table.from_frame(frame, auxiliary=["u0"], dtype=torch.float32)
    got = {}
    for mode in ("graph", "inductor"):
        model, guide = gina_pair(table_with_gaps())
        steps = steps_of(model.float(), guide.float(), table, mode)
        with Session(1).running():
            losses = [loss.item() for loss in steps.run(ROWS)]
            steps.synchronise()
        got[mode] = losses, parameters_of(model, guide)
        assert steps.mode == mode
    assert got["inductor"][0] == pytest.approx(got["graph"][0], rel=1e-5)
    torch.testing.assert_close(got["inductor"][1], got["graph"][1], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_captured_fit_and_the_caller_notices_nothing(generators_untouched: None):
    table = table_with_gaps()
    runs = [fit(*gina_pair(table), table, seed=seed, held_out=0.2, **RUN) for seed in (5, 5, 6)]
    values = [run.history["bound"].tolist() for run in runs]
    assert values[0] == values[1] != values[2]
    assert flat(list(runs[0].model.parameters())).equal(flat(list(runs[1].model.parameters())))


@pytest.mark.slow
def test_captured_training_reaches_the_same_bound():
    """Bounds of the last epochs by both ways differ by no more than their own noise explains."""
    table = table_with_gaps(200)
    options = {"epochs": 60, "batch_size": 50, "progress": False}
    last = {
        mode: fit(*gina_pair(table), table, compile=mode, **options).history["bound"][-20:]
        for mode in ("eager", "graph")
    }
    error = math.sqrt(sum(values.var() / len(values) for values in last.values()))
    assert abs(last["eager"].mean() - last["graph"].mean()) < 5 * error
    assert error < 0.05


class Shifted(PyroModule):
    """x ~ N(location, 1): nothing of its bound is left to chance."""

    def __init__(self):
        super().__init__()
        self.location = nn.Parameter(torch.ones(3))

    def forward(self, batch: Batch):
        with rows(batch):
            partially_observed("x", dist.Normal(self.location.expand(batch.x.shape), 1.0), batch)

    def bound(self, table: Table) -> float:
        log_p = dist.Normal(self.location, 1.0).log_prob(table.x) * table.mask
        return log_p.sum(-1).mean().item()


def no_latents(batch: Batch):
    return None


def test_the_best_parameters_by_the_held_out_bound_are_kept_and_patience_ends_training():
    table = table_with_gaps()
    above = table.new_rows(table.frame + 5)
    model = Shifted()  # training goes down to zero, away from the held-out rows
    result = fit(model, no_latents, table, held_out=above, patience=3, **{**RUN, "epochs": 40})
    history = result.history["held_out_bound"]
    assert len(history) == 4 and history.is_monotonic_decreasing
    assert model.bound(above) == pytest.approx(history[0], abs=1e-10)


def test_the_learning_rate_falls_to_zero():
    model = Shifted()
    steps = steps_of(model, no_latents, table_with_gaps(), "graph")
    moves = []
    with Session(0).running():
        for chosen in ROWS:
            before = model.location.detach().clone()
            list(steps.run(chosen[None]))
            steps.synchronise()
            moves.append((model.location - before).abs().max().item())
    # Adam's first steps are of the size of the learning rate, which falls from 0.05 to 0.01.
    assert moves[0] == pytest.approx(0.05, rel=1e-6)
    assert moves[-1] < 0.011


def test_a_sparse_table_is_captured_too(caplog):
    table = table_with_gaps()
    row, column = table.mask.nonzero(as_tuple=True)
    entries = scipy.sparse.csr_matrix((table.x[row, column].numpy(), (row, column)), shape=table.x.shape)
    runs = [fit(Shifted(), no_latents, t, **RUN) for t in (Table.from_sparse(entries, auxiliary=[]), table)]
    assert not any(record.levelno >= logging.WARNING for record in caplog.records)
    # The same rows in the same order, up to how columns are standardised.
    np.testing.assert_allclose(runs[0].history["bound"], runs[1].history["bound"], rtol=1e-6)


def test_rows_that_a_model_keeps_for_itself_are_found_out_at_the_first_step(caplog):
    table = table_with_gaps()
    mine = iter(table.x.split(14) * 100)

    class Keeping(Shifted):
        def forward(self, batch: Batch):
            return super().forward(replace(batch, x=next(mine)[: len(batch)].repeat(2, 1)[: len(batch)]))

    fit(Keeping(), no_latents, table, **RUN)
    assert "training steps: eager from step 1 on" in caplog.text


# What cannot be captured --------------------------------------------------------------------------------------------


class Branching(Scaled):
    def forward(self, batch: Batch):
        if batch.x.mean().item() > 0:
            return super().forward(batch)
        return super().forward(batch)


class Looking(Scaled):
    def forward(self, batch: Batch):
        self.found = batch.mask.nonzero()
        return super().forward(batch)


class Choosing(Scaled):
    def forward(self, batch: Batch):
        self.found = batch.x[batch.mask]
        return super().forward(batch)


class Normalised(Scaled):
    def __init__(self):
        super().__init__()
        self.normalise = nn.BatchNorm1d(3)

    def forward(self, batch: Batch):
        return super().forward(replace(batch, x=self.normalise(batch.x)))


class OwnGenerator(Scaled):
    def forward(self, batch: Batch):
        torch.randn(3, generator=torch.Generator().manual_seed(1))
        return super().forward(batch)


class Clamping(Scaled):
    def forward(self, batch: Batch):
        with torch.no_grad():
            self.scale_unconstrained.clamp_(max=1.0)
        return super().forward(batch)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Branching, r"'.item\(\)', 'if' or the like reads values of a tensor \(test_captured.py, line \d+\)"),
        (Looking, "'nonzero' reads values"),
        (Choosing, "'index' reads values"),
        (Normalised, "changes a buffer, parameter or row"),
        (OwnGenerator, "'randn' draws from a generator of its own"),
        (Clamping, r"changes a buffer, parameter or row as it runs \('clamp_'\)"),
    ],
)
def test_what_cannot_be_captured_is_run_by_python_and_trains(model, reason, caplog):
    table = table_with_gaps()
    pair = model(), guide_of_functions
    before = pair[0].scale.detach().clone()
    result = fit(*pair, table, **{**RUN, "epochs": 2})
    assert (result.model.scale != before).all()
    (record,) = (record for record in caplog.records if record.name == "pyro_mnar.training.steps")
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("training steps: eager (not captured: ")
    assert record.message and re.search(reason, record.message)


def test_running_statistics_are_what_python_alone_makes_of_them():
    table = table_with_gaps()
    models = Normalised(), Normalised()
    for model, mode in zip(models, ("eager", "graph"), strict=True):
        fit(model, guide_of_functions, table, **{**RUN, "epochs": 1, "compile": mode})
    assert models[0].normalise.num_batches_tracked == models[1].normalise.num_batches_tracked
    torch.testing.assert_close(models[0].normalise.running_mean, models[1].normalise.running_mean)


class Counting(Scaled):
    """Changes its mind in Python, which no graph can see."""

    calls = 0

    def forward(self, batch: Batch):
        self.calls += 1
        factor = 1.0 if self.calls < self.turn else 2.0
        with pyro.poutine.scale(scale=factor):
            return super().forward(batch)


def test_a_model_that_changes_in_python_is_found_out_and_run_by_python_from_there(caplog):
    table = table_with_gaps()
    model = Counting()
    model.turn = 12  # before training it runs a few times to be checked and traced, then once an epoch
    plan = TrainingPlan(
        ImportanceWeightedELBO(5), table, None, 12, 16, 2e-2, torch.device("cpu"), progress=False, mode="graph",
        thresholds=Thresholds(steps_between_checks=1),
    )  # fmt: skip
    result = plan.run(Start(model, guide_of_functions, 0)).fit
    changed = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(changed) == 1
    assert "loss and gradient is not the model's own any more" in changed[0]
    assert model.calls > 12 and len(result.history) == 12


def test_the_hand_over_to_python_keeps_adams_memory():
    table = table_with_gaps()
    model, guide = gina_pair(table)
    captured = steps_of(model, guide, table, "graph").stepper
    with Session(1).running():
        list(captured.run(ROWS[:6]))
        theta, first, second = captured.adam.state
        eager = captured.by_python()
        parameters = eager.optimisation.parameters
        memory = [eager.memory[parameter] for parameter in parameters]
        assert torch.equal(flat(parameters), theta)
        assert torch.equal(flat([m["exp_avg"] for m in memory]), first)
        assert torch.equal(flat([m["exp_avg_sq"] for m in memory]), second)
        list(eager.run(ROWS[6:]))
    assert {eager.memory[parameter]["step"].item() for parameter in parameters} == {12.0}
    assert eager.done == 12


def test_a_loss_that_is_not_finite_names_the_site_and_keeps_the_last_good_fit():
    table = table_with_gaps()

    class Failing(Scaled):
        def __init__(self):
            super().__init__()
            self.register_buffer("location", torch.zeros(3))

        def forward(self, batch: Batch):
            with rows(batch):
                z = pyro.sample("z", dist.Normal(batch.x.new_zeros(len(batch), 1), 1.0).to_event(1))
                bad = torch.where(batch.index == 17, torch.nan, 0.0)[:, None]
                partially_observed("x", dist.Normal(z.expand(*z.shape[:-1], 3) + bad, self.scale), batch)

    model = Failing()
    with pytest.raises(TrainingError, match=r"epoch 1, batch .*: the objective is nan; offending site: 'x_") as caught:
        fit(model, guide_of_functions, table, **RUN)
    assert caught.value.fit.model is model
    assert model.scale.isfinite().all()


class Interrupted:
    """Ctrl-C at a step, counted from one."""

    def __init__(self, steps, at):
        self.steps, self.left, self.mode = steps, at, steps.mode

    def run(self, chosen):
        for loss in self.steps.run(chosen):
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
            yield loss

    def synchronise(self):
        self.steps.synchronise()

    def state(self):
        return self.steps.state()


@pytest.mark.parametrize(("at", "epochs"), [(2, 0), (8, 2)])
def test_an_interrupt_between_captured_steps_keeps_what_was_trained(at, epochs):
    table = table_with_gaps()
    model, session = Scaled(), Session(0)
    before = model.scale.detach().clone()
    run = TrainingRun(
        Fit(model, guide_of_functions, table.schema), ImportanceWeightedELBO(5), table.source(), None, session,
        learning_rate=2e-2, num_steps=18, batch_size=16,
    )  # fmt: skip
    with session.running():
        steps = Steps(run.optimisation, "graph")
    assert run_epochs(Trainer(run, Interrupted(steps, at)), 6, progress=False)
    assert len(run.result().history) == epochs
    assert (model.scale != before).all()


def test_ctrl_c_during_a_capture_returns_the_pair_as_it_was(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pyro_mnar.training.steps.capture", interrupted)
    model = Scaled()
    before = model.scale.detach().clone()
    result = fit(model, guide_of_functions, table_with_gaps(), **RUN)
    assert result.history.empty and result.model is model and torch.equal(model.scale, before)


# Choosing -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_auto_counts_the_steps_ahead_and_the_numbers_of_one(monkeypatch):
    cpu, limits = torch.device("cpu"), Thresholds()
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/g++")
    assert limits.before_capture(limits.steps_to_capture - 1, cpu).mode == "eager"
    assert limits.before_capture(limits.steps_to_capture, cpu).mode == "graph"
    assert limits.before_capture(limits.steps_to_capture, torch.device("meta")).mode == "eager"
    there = torch.device("cuda")
    assert limits.before_capture(limits.steps_to_capture_on_a_gpu - 1, there).mode == "eager"
    assert limits.before_capture(limits.steps_to_capture_on_a_gpu, there).mode == "graph"
    table = table_with_gaps()
    pair = gina_pair(table)
    with Session(0).running():
        few, many = (_captured_numbers(pair, table, count) for count in (1, 3_000))
    assert many.num_results > 1_000 * few.num_results
    assert limits.after_capture(limits.steps_to_compile, cpu, few).mode == "inductor"
    assert limits.after_capture(limits.steps_to_compile // 2, cpu, few).mode == "graph"
    assert limits.after_capture(limits.steps_to_compile // 2, cpu, many).mode == "inductor"
    assert limits.after_capture(limits.steps_to_compile_on_a_gpu - 1, there, many).mode == "graph"
    assert limits.after_capture(limits.steps_to_compile_on_a_gpu, there, few).mode == "inductor"
    monkeypatch.setattr(shutil, "which", lambda name: None)
    mode, reason = limits.after_capture(limits.steps_to_compile, cpu, many)
    assert mode == "graph" and reason.startswith("no C++ compiler")


def _captured_numbers(pair, table, particles):
    objective = ImportanceWeightedELBO(particles)
    loss = partial(objective.differentiable_loss, *pair)
    return capture(loss, [p for module in pair for p in module.parameters()], table.batch())


def test_without_a_compiler_the_graph_is_run_and_the_log_says_why(monkeypatch, caplog):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    table = table_with_gaps()
    fit(*gina_pair(table), table, **{**RUN, "epochs": 1, "compile": "inductor"})
    assert "training steps: graph (not compiled: no C++ compiler" in caplog.text


def test_a_choice_is_one_line_in_the_log(caplog):
    table = table_with_gaps()
    with caplog.at_level(logging.INFO, logger="pyro_mnar"):
        fit(*gina_pair(table), table, epochs=2, batch_size=16, progress=False)
    assert [r.getMessage() for r in caplog.records if r.name.endswith("steps")] == [
        "training steps: eager (6 steps are too few to pay for a capture)"
    ]


def test_an_unknown_mode_is_refused():
    table = table_with_gaps()
    with pytest.raises(ValueError, match=r"compile: expected one of \['auto', .*\], got 'fast'"):
        fit(*gina_pair(table), table, compile="fast")


# Rows ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "shape"), [(10, (4, 10)), (16, (3, 14)), (27, (2, 20)), (100, (1, 40))])
def test_minibatches_of_training_have_one_size_and_hold_every_row(size, shape):
    order = shuffled(40, size, torch.Generator().manual_seed(0))
    assert order.shape == shape
    counts = order.flatten().bincount(minlength=40)
    assert (counts >= 1).all() and counts.sum() == order.numel()
    assert all(len(set(row.tolist())) == len(row) for row in order)
