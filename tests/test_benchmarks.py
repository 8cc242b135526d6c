"""The benchmarks still run, at sizes that say nothing about speed; contenders compute the bounds that they say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from checks import own_store
from pyro_mnar import ImportanceWeightedELBO

PARTICLES = 5
MODES = ("graph", "eager")  # inductor's compilation takes longer than all of these tests


@pytest.fixture(autouse=True)
def as_measured(float64: None) -> Iterator[None]:
    """float32, as all figures are."""
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


@pytest.fixture
def problem(script: Callable[[str], Any]) -> Any:
    return script("problem").Problem.of(20, 4)


@pytest.fixture
def pair(problem: Any) -> Any:
    """Whose columns mask themselves: at the slopes of zero that it starts with, a bound says nothing of them."""
    model, guide = problem.pair()
    with torch.no_grad():
        model.mechanism.raw_slope.copy_(torch.tensor([-2.0, -0.5, 0.7, 1.5]))
    return model, guide


def bound_and_gradient(bound: torch.Tensor, pair: Any) -> list[torch.Tensor]:
    return [bound, *torch.autograd.grad(bound, [p for module in pair for p in module.parameters()])]


def of_model(problem: Any, pair: Any) -> torch.Tensor:
    """The negative bound per row that ``fit`` minimises."""
    batch = problem.batch()
    objective = ImportanceWeightedELBO(PARTICLES, max_plate_nesting=1)
    with own_store():
        return objective.differentiable_loss(*pair, batch) / len(batch)


def test_hand_written_is_the_same_bound(script: Callable[[str], Any], problem: Any, pair: Any) -> None:
    """Of the same noise, with its gradient."""
    batch = problem.batch()
    torch.manual_seed(0)
    by_hand = script("contenders").HandWritten(*pair)(batch.x, batch.mask, batch.aux)
    torch.manual_seed(0)
    expected = bound_and_gradient(of_model(problem, pair), pair)
    for one, other in zip(bound_and_gradient(by_hand, pair), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_drawn_by_hand_is_the_same_in_the_mean(script: Callable[[str], Any], problem: Any, pair: Any) -> None:
    """Of a missing cell, p(r = 0 | x) over draws of x has the mean that is summed out; 5 standard errors, 22 cells."""
    contenders, batch, draws = script("contenders"), problem.batch(), 4_000
    torch.manual_seed(0)
    given = batch.x, batch.mask, torch.randn(1, *batch.x.shape).expand(draws, -1, -1), torch.tensor([0.5, 1, 1.5, 2])
    with torch.no_grad():
        summed_out, drawn = (
            written(*pair).log_cells(*given).exp()
            for written in (contenders.HandWritten, contenders.HandWrittenDrawing)
        )
    torch.testing.assert_close(drawn[:, batch.mask], summed_out[:, batch.mask])
    apart = (drawn - summed_out).mean(0)[~batch.mask] / (drawn.std(0)[~batch.mask] / draws**0.5)
    assert apart.abs().max() < 5
    assert (drawn.std(0)[~batch.mask] > 0).all()


def test_jax_is_the_same_bound(script: Callable[[str], Any], problem: Any, pair: Any) -> None:
    pytest.importorskip("jax")
    contenders_jax, batch = script("contenders_jax"), problem.batch()
    torch.manual_seed(0)
    noise = torch.randn(PARTICLES, len(batch), problem.latent_dim)
    given = (tensor.numpy() for tensor in (batch.x, batch.mask, batch.aux, noise))
    found = contenders_jax.negative_bound(contenders_jax.parameters_of(*pair), *given)
    torch.manual_seed(0)
    assert float(found) == pytest.approx(float(of_model(problem, pair).detach()), rel=1e-5)


def test_plain_pyro_trains_every_parameter_as_by_hand(script: Callable[[str], Any]) -> None:
    """From the same noise: RenyiELBO is the same bound where a minibatch passes for the whole and numbers are drawn."""
    contenders, problem = script("contenders"), script("problem").Problem.of(30, 2)
    order = torch.randint(30, (3, 10))
    trained = []
    for contender in (contenders.PlainPyro(problem), contenders.ByHand(problem, contenders.HandWrittenDrawing)):
        contender.train(order)
        trained.append([parameter for module in contender.pair() for parameter in module.parameters()])
    for plain, by_hand, start in zip(*trained, [p for m in problem.pair() for p in m.parameters()], strict=True):
        torch.testing.assert_close(plain, by_hand, rtol=1e-3, atol=1e-5)
        assert (plain != start).any()


@pytest.mark.slow
def test_a_choice_by_the_other_seeds_is_no_better_than_the_best(script: Callable[[str], Any]) -> None:
    """Of two systems a is the better one of seeds 1 and 2 together, b of the other pairs and of all three."""
    errors = {"a": [3.0, 1.0, 2.0], "b": [1.0, 2.5, 1.0]}
    runs = pd.DataFrame(
        [
            {"table": "t", "cause": "mar", "seed": seed, "system": system, "rmse": rmse}
            for system, of_seeds in errors.items()
            for seed, rmse in enumerate(of_seeds)
        ]
    )
    found = script("regret").chosen_by_other_seeds(runs, ["a", "b"])
    assert found["t", "mar"] == pytest.approx((3.0 + 2.5 + 1.0) / 4.5)
    assert script("regret").chosen_by_other_seeds(runs, ["a", "c"]).empty  # c has no runs


def test_steps(script: Callable[[str], Any]) -> None:
    steps = script("steps")
    report = steps.small_steps(rows=20, columns=2, rounds=2, count=3, modes=MODES)
    table = report.table.set_index("graph over")
    assert {*MODES, steps.PYRO, steps.BY_HAND, steps.DRAWING} <= set(table.index)
    assert table.loc["graph", "ratio"] == 1
    assert table.loc[[steps.BY_HAND, steps.DRAWING], "target"].tolist() == ["≤ 0.5", ""]
    assert set(table["met"]) <= {"", "yes", "no"}
    assert report.missed is not None
    assert report.missed()["share"].sum() == pytest.approx(1)

    table = steps.restarts_at_once(members=2, rounds=2, count=3, mode="graph").table
    assert [*table["target"]] == ["", "≤ 0.7", "≤ 0.8"]


@pytest.mark.slow
def test_trainings(script: Callable[[str], Any], tmp_path: Path) -> None:
    training = script("training")
    table = training.fit_of_20_000(rows=100, epochs=2, mode="eager").table
    assert table.loc[0, "met"] == "yes"
    table = training.time_to_bound(100, 20, repeats=1, reference_steps=20, chunk=10, modes=MODES).table
    table = table.set_index("contender")
    assert (table["reached"].drop(training.FROM_DATA) == "1 of 1").all()
    assert table.loc[training.FROM_DATA, "target"] == "≤ 0.1"
    assert (table["seconds to train"] > 0).all()

    growth = script("growth")
    table = growth.growth(tmp_path, {"rows": (50, 100, 200)}, epochs=1, point=growth.trained).table
    assert (tmp_path / "growth.png").exists()
    assert table["time exponent"].notna().tolist() == [False, False, True]
    assert growth.exponent([1.0, 10.0, 100.0, 1000.0], [5.0, 3.0, 9.0, 27.0]) == pytest.approx(0.477, abs=1e-3)


@pytest.mark.slow
def test_completions(script: Callable[[str], Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert min(script("completion").imputed(rows=50, draws=2)) > 0
    peers = script("peers")
    table = peers.completed_tables(num_rows=60, rounds=1, draws=2, epochs=1).table
    assert [*table["target"]] == ["", "≤ 0.5", "≤ 3"]
    table = peers.epoch_of_peer(num_rows=100, particles=2, rounds=1, mode="graph").table
    if peers.have_notmiwae():
        assert peers.PEER in [*table["fit, graph over"]]
    else:
        assert "is left out" in capsys.readouterr().out


@pytest.mark.slow
def test_partitions(script: Callable[[str], Any]) -> None:
    pytest.importorskip("dask.distributed")
    table = script("completion").partitions(rows=900, fewer=300, workers=1, size=300).table.set_index("figure")
    assert table.loc["rows compared", "value"] == 900
    assert table.loc["rows that differ from one process's", "met"] == "yes"
    assert table.loc["other partitions and seed: largest z", "met"] == "yes"


@pytest.mark.slow
def test_pooled_intervals_hold_the_truth(script: Callable[[str], Any]) -> None:
    """1,000 larger replications are in docs/pooling.md.

    Of 60 intervals that are right, fewer than 52 hold the truth once in 350 times.  Standard errors that are right lie
    a fifth below the spread of 60 estimates once in 240 times.
    """
    coverage = script("coverage")
    runs = pd.concat([coverage.replications(seed, columns=20, rows=200, draws=10, epochs=80) for seed in range(3)])
    found = coverage.summary(runs).loc["bootstrap fits"]
    assert (found["replications"] == 60).all()
    assert (found["coverage"] * 60 > 51.5).all(), found
    assert (found["mean_standard_error"] > 0.8 * found["spread"]).all(), found
    held_fixed = coverage.summary(runs).loc["point fit"]
    assert held_fixed.loc["mean", "mean_standard_error"] < 0.95 * found.loc["mean", "mean_standard_error"]


@pytest.fixture
def run(script: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The runner, with its sections measured in this process."""
    module, apart = script("run"), script("apart")
    monkeypatch.setattr(
        module, "apart", lambda function, section, environment: apart.Apart(function(section), 0.0, 0.0)
    )
    return module


def test_runner_writes_tables_and_names_missed_targets(
    run: Any, script: Any, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = script("report")
    table = pd.DataFrame({"figure": ["a", "b", "c"], "value": [1.0, 2.0, 1234.5]})
    table = report.beside_targets(table, "value", {"a": 1.5, "b": 1.5})
    profile = pd.DataFrame({"operation": ["addmm"], "share": [1.0]})
    sections = {"one": run.Section("A title.", lambda: report.Report(table, "A note.", lambda: profile))}
    run.main([], sections, tmp_path)
    page = (tmp_path / "tables.md").read_text(encoding="utf-8")
    assert "| a | 1 | ≤ 1.5 | yes |" in page and "| b | 2 | ≤ 1.5 | no |" in page and "| c | 1,234 |  |  |" in page
    assert "A title. A note." in page and "| addmm | 1 |" in page
    assert "targets missed: one: b" in capsys.readouterr().out
    assert not (tmp_path / run.UNFINISHED).exists()

    run.main([], {"one": run.Section("A title.", lambda: report.Report(table[:0], ""))}, tmp_path)
    assert "one: left out" in capsys.readouterr().out
    assert (tmp_path / "tables.md").read_text(encoding="utf-8") == page

    monkeypatch.setattr(run, "PAGE", tmp_path / "page.md")
    run.PAGE.write_text(
        "before\n<!-- table: one -->\nold\n<!-- end -->\nafter <!-- table: other -->\n<!-- end -->", "utf-8"
    )
    run.main(["--docs"], sections, tmp_path)
    shown = run.PAGE.read_text("utf-8")
    assert "| a | 1 | ≤ 1.5 | yes |" in shown and "old" not in shown
    assert shown.startswith("before\n") and shown.endswith("after <!-- table: other -->\n<!-- end -->")


def test_an_interrupted_run_goes_on(run: Any, script: Any, tmp_path: Path, capsys: Any) -> None:
    measured = []

    def section(name: str, *, fails: bool = False) -> Any:
        def measure() -> Any:
            measured.append(name)
            if fails and measured.count(name) == 1:
                raise KeyboardInterrupt
            return script("report").Report(pd.DataFrame({"figure": [name], "value": [1.0]}), "")

        return run.Section(name, measure)

    sections = {"one": section("one"), "two": section("two", fails=True)}
    for arguments in (["two", "one"], []):  # what another set of sections left is not taken for this one's
        measured.clear()
        with pytest.raises(KeyboardInterrupt):
            run.main(arguments, sections, tmp_path)
    assert measured == ["one", "two"]
    run.main([], sections, tmp_path)
    assert measured == ["one", "two", "two"]
    run.main([], sections, tmp_path)  # one that is finished starts anew
    assert measured == ["one", "two", "two", "one", "two"]
    with pytest.raises(SystemExit):
        run.main(["three"], sections, tmp_path)
    assert "section 'three': expected one of ['one', 'two']" in capsys.readouterr().err


def test_sizes_of_the_gpus_tables_are_named_before_anything_runs(script: Any, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        script("gpu").main(["gpu_tiny"])
    assert "section 'gpu_tiny': expected one of ['gpu_small'," in capsys.readouterr().err
    if not torch.cuda.is_available():
        with pytest.raises(SystemExit):
            script("gpu").main([])
        assert "torch sees no CUDA card here" in capsys.readouterr().err
