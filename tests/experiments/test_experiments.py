"""Experiments: runs are kept, continued and reported, whatever ends them; and every experiment runs."""

from __future__ import annotations

import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyro
import pyro.poutine as poutine
import pytest
import torch
from sklearn.datasets import load_iris

from pyro_mnar import Table, baselines
from pyro_mnar.cli import main
from pyro_mnar.datasets.uci import (
    SelfMasked,
    breast_cancer,
    mask_above_mean,
    rmse,
    self_masked,
    standardised,
    uci_tables,
)
from pyro_mnar.experiments import (
    EXPERIMENTS,
    Experiment,
    Published,
    Task,
    ablation,
    paired,
    run_experiment,
    synthetic_experiment,
    uci,
)
from pyro_mnar.experiments.ablation_experiment import MeanInMechanism
from pyro_mnar.experiments.configuration import configuration_of
from pyro_mnar.experiments.runner import RUNS_FILE, TABLES_FILE
from pyro_mnar.experiments.runs import COLUMNS, Key, Runs
from pyro_mnar.experiments.synthetic import SIGNED, Declared
from pyro_mnar.experiments.uci_experiment import LowRankAsPublished, MiceAsPublished
from pyro_mnar.infer.sites import column_distribution
from pyro_mnar.mechanisms import SelfMasking
from pyro_mnar.training import Trainer


@dataclass
class Adder:
    """Adds a number to the data; counts how often."""

    name: str
    number: float

    def __post_init__(self) -> None:
        self.calls = 0

    def __call__(self, value: float) -> float:
        self.calls += 1
        return value + self.number


# An experiment whose runs are fits: the parent knows its numbers, each child goes on from what the last one left.
KILLS = """
import os, random, signal, sys, time
from pathlib import Path
import numpy as np, pandas as pd
from pyro_mnar import Table, fit, impute
from pyro_mnar.experiments import Experiment, run_experiment
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.models import GINA

class System:
    name = "one"

def run(task):
    frame = pd.DataFrame(np.random.default_rng(task.seed).normal(size=(30, 2)), columns=list("ab"))
    frame.loc[::4, "a"] = np.nan
    table = Table.from_frame(frame, auxiliary=[])
    pair = GINA(table, latent_dim=1, seed=0), ZeroImpute(table, 1, hidden=[2], seed=0)
    made = fit(*pair, table, epochs=2, progress=False, compile="eager", seed=task.seed)
    return {"m": impute(made, table, num_draws=1, num_particles=5).draws.sum(), "n": task.seed}

def all_runs(folder):
    experiment = Experiment("k", "", [System()], {"d": int}, run, {"m": "", "n": ""})
    found = run_experiment(experiment, folder, seeds=range(4), progress=False)
    return found[["seed", "metric", "value"]].to_csv(index=False), (folder / "tables.md").read_bytes()

def dies_at(name, call):
    own, left = getattr(os, name), [call]
    def counting(*arguments):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return own(*arguments)
    setattr(os, name, counting)

folder, numbers = Path(sys.argv[1]), random.Random(0)
start = time.monotonic()
whole = all_runs(folder / "whole")
lasts, killed, life = time.monotonic() - start, 0, 0
while killed < 10 and life < 60:
    path = folder / f"cut{killed // 3}"  # three kills in a row on the same folder
    child = os.fork()
    if not child:
        if life % 3 == 1:
            dies_at("fsync", numbers.randint(1, 5))
        elif life % 3 == 2:
            dies_at("replace", 1)
        os._exit(0 if all_runs(path) == whole else 1)
    if life % 3 == 0:
        time.sleep(lasts * numbers.uniform(0.05, 0.6))
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    killed += os.WIFSIGNALED(status)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "other numbers"
    numbers.random()
    life += 1
for path in folder.glob("cut*"):
    assert all_runs(path) == whole, path
    assert sorted(file.name for file in path.iterdir() if not file.name.startswith(".")) == ["runs.csv", "tables.md"]
print(killed)
"""


def toy(*systems: Adder, **changes: object) -> Experiment:
    experiment = Experiment(
        name="toy",
        title="Sums.",
        systems=systems,
        data={"tens": lambda seed: 10.0 * seed, "ones": lambda seed: 1.0 * seed},
        run=lambda task: {"sum": task.system(task.data), "seed_again": task.seed},
        metrics={"sum": "a sum", "seed_again": "the seed"},
        published=[
            Published("one", "tens", "sum", 11.5, "A (2001), table 1", error=0.25),
            Published("theirs", "tens", "sum", 99, "B (2002), table 2"),
        ],
    )
    return replace(experiment, **changes)  # type: ignore[arg-type]


@pytest.fixture
def heeding_ctrl_c() -> Iterator[None]:
    """Python's own handler: a shell that starts a job in the background has it ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class TestRunning:
    def test_a_tidy_file_and_a_table_beside_the_published_figures(self, tmp_path: Path) -> None:
        one, two = Adder("one", 1), Adder("two", 2)
        found = run_experiment(toy(one, two), tmp_path, seeds=range(3), progress=False)
        assert tuple(found.columns) == COLUMNS and len(found) == 2 * 2 * 3 * 2
        pd.testing.assert_frame_equal(found, pd.read_csv(tmp_path / RUNS_FILE, keep_default_na=False))
        text = (tmp_path / TABLES_FILE).read_text()
        error = np.std([1, 11, 21], ddof=1) / np.sqrt(3)
        assert f"| one | {11:.3f} ± {error:.3f} | 11.5 ± 0.25 |" in text
        assert "| theirs |  | 99 |" in text
        assert "Published: A (2001), table 1; B (2002), table 2." in text
        assert "over 3 seeds" in text

    def test_a_rerun_resumes(self, tmp_path: Path) -> None:
        system = Adder("one", 1)
        run_experiment(toy(system), tmp_path, seeds=range(2), progress=False)
        assert system.calls == 4
        found = run_experiment(toy(system), tmp_path, seeds=range(3), progress=False)
        assert system.calls == 6 and found["seed"].nunique() == 3

    def test_another_configuration_is_another_run(self, tmp_path: Path) -> None:
        run_experiment(toy(Adder("one", 1)), tmp_path, seeds=[0], progress=False)
        other, longer = Adder("one", 5), Adder("one", 1)
        found = run_experiment(toy(other), tmp_path, seeds=[0], progress=False)
        run_experiment(toy(longer, settings={"epochs": 3}), tmp_path, seeds=[0], progress=False)
        assert other.calls == longer.calls == 2
        assert set(found.loc[found["metric"] == "sum", "value"]) == {5}  # those of before are none of this experiment's
        assert len(Runs(tmp_path / RUNS_FILE).read()) == 3 * 4

    def test_a_failure_is_recorded_and_tried_again(self, tmp_path: Path) -> None:
        def broken(task: Task) -> dict[str, float]:
            if task.system.name == "bad":
                raise RuntimeError("no\nluck")
            return {"sum": 1.0, "seed_again": 0.0}

        good, bad = Adder("good", 0), Adder("bad", 0)
        found = run_experiment(toy(bad, good, run=broken), tmp_path, seeds=[0], progress=False)
        assert found.loc[found["metric"] == "failure", "error"].tolist() == ["RuntimeError: no luck"] * 2
        assert "- bad on tens, seed 0: RuntimeError: no luck" in (tmp_path / TABLES_FILE).read_text()
        mended = run_experiment(toy(bad, good), tmp_path, seeds=[0], progress=False)
        assert bad.calls == 2 and good.calls == 0
        assert "Failures" not in (tmp_path / TABLES_FILE).read_text()
        assert len(mended[mended["metric"] == "sum"]) == 4

    @pytest.mark.usefixtures("heeding_ctrl_c")
    def test_ctrl_c_in_a_fit_ends_the_experiment_and_its_run_is_done_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A fit returns its best parameters on Ctrl-C: half a training must not pass for a finished run."""
        epoch, pressed = Trainer.epoch, []

        def interrupted(trainer: Trainer) -> float:
            if len(trainer.run.history) == 2 and not pressed:
                pressed.append(True)
                signal.raise_signal(signal.SIGINT)
            return epoch(trainer)

        monkeypatch.setattr(Trainer, "epoch", interrupted)
        systems = [baselines.mean(), baselines.pvae(epochs=5)]
        experiment = replace(on_iris(uci(quick=True)), systems=systems)
        handler = signal.getsignal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            run_experiment(experiment, tmp_path / "stopped", seeds=[0], progress=False)
        assert signal.getsignal(signal.SIGINT) is handler
        assert Runs(tmp_path / "stopped" / RUNS_FILE).read()["system"].tolist() == ["mean"]
        resumed, whole = (
            run_experiment(experiment, tmp_path / folder, seeds=[0], progress=False) for folder in ("stopped", "whole")
        )
        assert resumed["value"].tolist() == whole["value"].tolist()

    def test_a_run_gives_every_metric(self, tmp_path: Path) -> None:
        found = run_experiment(toy(Adder("a", 0), run=lambda task: {"sum": 1.0}), tmp_path, seeds=[0], progress=False)
        assert found["error"].str.contains(r"metrics: expected \['seed_again', 'sum'\], got \['sum'\]").all()

    def test_systems_of_ones_own_parts_and_pairs_left_out(self, tmp_path: Path) -> None:
        one, mine = Adder("one", 1), Adder("mine", 3)
        experiment = replace(toy(one), left_out=[("mine", "ones")]).adding(mine)
        found = run_experiment(experiment, tmp_path, seeds=[0], progress=False)
        assert set(zip(found["system"], found["data"], strict=True)) == {
            ("one", "tens"),
            ("one", "ones"),
            ("mine", "tens"),
        }
        assert list(experiment.only(data=["ones"]).data) == ["ones"]
        with pytest.raises(ValueError, match="system 'two': expected one of \\['one', 'mine'\\]"):
            experiment.only(systems=["two"])
        with pytest.raises(ValueError, match="system 'one': expected one of this name, got 2"):
            experiment.adding(Adder("one", 2))

        class Named:
            name = "named"

        with pytest.raises(TypeError, match="system: expected an object, got the class Named: make one of it"):
            experiment.adding(Named)
        assert [system.name for system in experiment.only(systems="mine").systems] == ["mine"]

    def test_paired_differences(self, tmp_path: Path) -> None:
        found = run_experiment(toy(Adder("one", 1), Adder("two", 2)), tmp_path, seeds=range(4), progress=False)
        less = paired(found, "sum", "one")
        assert less.loc[("tens", "two"), "mean"] == 1
        assert less.loc[("tens", "two"), "sem"] == 0
        with pytest.raises(ValueError, match="reference 'three'"):
            paired(found, "sum", "three")


class TestCommandLine:
    def test_runs_seeds_into_a_folder_and_prints_the_table(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = []

        def make(*, folder: Path | None, quick: bool) -> Experiment:
            asked.append((folder, quick))
            return toy(Adder("one", 1))

        monkeypatch.setitem(EXPERIMENTS, "uci", make)
        monkeypatch.chdir(tmp_path)
        assert main(["experiment", "uci", "--seeds", "2", "--data", "mine", "--out", "there"]) == 0
        assert main(["experiment", "uci", "--quick", "--seeds", "1"]) == 0
        assert asked == [(Path("mine"), False), (None, True)]
        assert Runs(tmp_path / "there" / RUNS_FILE).read()["seed"].nunique() == 2
        assert (tmp_path / "experiments" / "uci-quick" / TABLES_FILE).exists()
        assert "| one | 6.000 ± 5.000 | 11.5 ± 0.25 |" in capsys.readouterr().out

    def test_errors_are_one_line(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["experiment", "uci", "--seeds", "0", "--out", str(tmp_path)]) == 2
        assert capsys.readouterr().err == "pyro-mnar: --seeds: expected at least 1, got 0\n"
        assert main(["experiment", "uci", "--data", str(tmp_path / "none"), "--out", str(tmp_path)]) == 2
        assert "expected a folder with the UCI tables" in capsys.readouterr().err

    def test_ctrl_c_is_one_line_that_says_how_to_go_on(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def run(task: Task) -> dict[str, float]:
            raise KeyboardInterrupt

        monkeypatch.setitem(EXPERIMENTS, "uci", lambda **options: toy(Adder("one", 1), run=run))
        assert main(["experiment", "uci", "--out", str(tmp_path)]) == 130
        assert f"pyro-mnar: interrupted; {tmp_path} keeps what is finished" in capsys.readouterr().err


class TestFileOfRuns:
    KEY = Key("a, or b", "tens", 3, '{"x":"é"}')

    def test_a_torn_last_line_is_dropped_and_its_run_done_again(self, tmp_path: Path) -> None:
        system, path = Adder("one", 1), tmp_path / RUNS_FILE
        run_experiment(toy(system), tmp_path, seeds=[0], progress=False)
        whole = path.read_bytes()
        for cut in range(1, len(whole.splitlines()[-1]) + 2):
            path.write_bytes(whole[:-cut])
            assert len(Runs(path).read()) == 3
        system.calls = 0
        found = run_experiment(toy(system), tmp_path, seeds=[0], progress=False)
        assert system.calls == 1
        assert len(found.drop_duplicates(["data", "metric"])) == 4

    @pytest.mark.slow
    def test_ten_kills_lose_nothing_but_the_run_that_they_meet(self, tmp_path: Path) -> None:
        """SIGKILL at ten moments: by the clock, and before and after what a run writes reaches the disk."""
        done = subprocess.run(
            [sys.executable, "-c", KILLS, str(tmp_path)], capture_output=True, text=True, check=False, timeout=200
        )
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) == 10

    def test_a_full_disk_is_one_error_and_the_finished_runs_stay(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "dont_write_bytecode", True)  # of which the disk would take a part
        run_experiment(toy(Adder("one", 1)), tmp_path, seeds=[0], progress=False)
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before[RUNS_FILE]) + 20, limits[1]))
        try:
            with pytest.raises(OSError, match=rf"cannot write .*{RUNS_FILE}: File too large"):
                run_experiment(toy(Adder("one", 1)), tmp_path, seeds=[1], progress=False)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    def test_round_trip(self, tmp_path: Path) -> None:
        runs = Runs(tmp_path / "new" / "runs.csv")
        assert runs.read().empty and runs.finished(["m"]) == set()
        runs.add(self.KEY, {"m": 1 / 3, "n": float("nan")}, 1.0)
        assert runs.read()["value"].tolist()[0] == 1 / 3
        assert runs.finished(["m", "n"]) == {self.KEY}
        assert runs.finished(["m", "n", "new"]) == set()

    def test_another_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "other.csv").write_text("a,b\n1,2\n")
        with pytest.raises(ValueError, match="expected the columns system, data"):
            Runs(tmp_path / "other.csv").read()


class TestConfiguration:
    def test_tells_settings_apart_and_not_objects(self) -> None:
        same = [configuration_of(baselines.gina(epochs=3)) for _ in range(2)]
        assert same[0] == same[1] and '"epochs":3' in same[0] and "General" in same[0]
        others = [baselines.gina(), baselines.pvae(), baselines.mice(), baselines.mice(rounds=3), baselines.knn(2)]
        assert len({configuration_of(system) for system in others}) == len(others)
        assert configuration_of(baselines.mice()) == configuration_of(baselines.mice())

    @pytest.mark.slow
    def test_is_the_same_in_another_process(self) -> None:
        program = (
            "from pyro_mnar import baselines; from pyro_mnar.experiments.configuration import configuration_of;"
            "print(configuration_of(baselines.gina(), {'a': {1, 2}, 'b': baselines.mice()}), end='')"
        )
        told = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True
        )
        assert told.stdout == configuration_of(baselines.gina(), {"a": {1, 2}, "b": baselines.mice()})

    def test_shapes_of_things(self) -> None:
        made = partial(Adder, "a", number=2)
        assert configuration_of(made) == '{"Adder":{"0":"a","number":2}}'
        assert configuration_of(made, Path("x"), [np.float64(1.5)]) == ('[{"Adder":{"0":"a","number":2}},"x",[1.5]]')


class TestUCI:
    def test_values_above_the_mean_go_missing_in_the_given_columns_only(self) -> None:
        truth = standardised(pd.DataFrame({"a": [1.0, 2.0, 6.0], "b": [3.0, 1.0, 2.0]}))
        masked = mask_above_mean(truth, pd.Index(["a"]))
        assert masked["a"].isna().tolist() == [False, False, True]
        pd.testing.assert_series_equal(masked["b"], truth["b"])

    def test_rmse_is_over_the_missing_entries(self) -> None:
        masked = self_masked(pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0], "b": [1.0, 2.0, 3.0, 5.0]}))
        completed = masked.truth + pd.DataFrame({"a": [9.0, 9.0, 3.0, 4.0], "b": [7.0] * 4})
        assert rmse(completed, masked) == pytest.approx(np.sqrt((9 + 16) / 2))

    def test_files_with_and_without_header_and_words(self, tmp_path: Path) -> None:
        values = np.random.default_rng(0).normal(size=(6, 12)).round(3)
        head = ";".join(f'"column {i}"' for i in range(12))
        (tmp_path / "winequality-white.csv").write_text(
            "\n".join([head, *(";".join(map(str, row)) for row in values)]) + "\n"
        )
        (tmp_path / "yeast.data").write_text(
            "".join(f"NAME_{i}  {'  '.join(map(str, row[:8]))}  MIT\n" for i, row in enumerate(values))
        )
        (tmp_path / "banknote_authentication.csv").write_text("1,2,3,4\n5,6,7,8\n")
        tables = uci_tables(tmp_path)
        assert list(tables) == ["banknote", "white wine", "yeast", "breast cancer"]
        np.testing.assert_array_equal(tables["white wine"](), values[:, :11])
        np.testing.assert_array_equal(tables["yeast"](), values[:, :8])
        with pytest.raises(ValueError, match=r"banknote_authentication.csv: expected 4 columns, got 3"):
            tables["banknote"]()
        with pytest.raises(FileNotFoundError, match="expected a folder with the UCI tables, found none"):
            uci_tables(tmp_path / "nowhere")
        (tmp_path / "empty").mkdir()
        with pytest.raises(FileNotFoundError, match=r"empty: expected some of .*concrete.txt.* in it, found none"):
            uci_tables(str(tmp_path / "empty"))

    @pytest.mark.parametrize(
        ("make", "reason"),
        [
            (lambda frame: frame, "ValueError: completed table: expected every gap filled, got [0-9]+ left"),
            (lambda frame: frame.iloc[1:], r"ValueError: completed table: expected shape .*, got \(149, 4\)"),
        ],
    )
    def test_a_system_that_completes_nothing_has_failed(
        self, make: Callable[[pd.DataFrame], object], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        class Mine:
            name = "mine"

            def complete(self, table: Table, *, seed: int) -> object:
                return make(table.frame)

        experiment = replace(on_iris(uci(quick=True)), systems=[]).adding(Mine())
        found = run_experiment(experiment, str(tmp_path), seeds=[0])
        assert re.fullmatch(reason, found["error"].item())
        assert re.search(f"failure: {reason}", capsys.readouterr().out)

    def test_mean_and_mice_reproduce_the_published_figures(self) -> None:
        """1.82 and 1.17 in table 1 of Ipsen et al.; the order of the columns is what the second hangs on."""
        masked = self_masked(breast_cancer())
        table = Table.from_frame(masked.observed)
        assert rmse(baselines.mean().complete(table, seed=0), masked) == pytest.approx(1.82, abs=0.005)
        assert rmse(MiceAsPublished().complete(table, seed=0), masked) == pytest.approx(1.17, abs=0.005)

    def test_low_rank_model_without_offset_lives_on_where_zero_lies(self) -> None:
        """Complete means at zero give it the border; with observed means there it is as far off as the mean is."""
        masked = self_masked(load_iris(as_frame=True).data)
        shift = masked.observed.mean()
        moved = SelfMasked(masked.observed - shift, masked.truth - shift)
        told, untold = (
            rmse(LowRankAsPublished().complete(Table.from_frame(given.observed), seed=0), given)
            for given in (masked, moved)
        )
        assert told < 0.8 and untold > 1.5  # 0.66 and 1.74; the mean has 1.75

    @pytest.mark.slow
    def test_runs_and_says_what_is_published(self, tmp_path: Path) -> None:
        experiment = uci(quick=True).only(systems=["mean", "not-MIWAE PPCA"])
        brief = replace(experiment, systems=[baselines.mean(), baselines.not_miwae_ppca(epochs=1)])
        found = run_experiment(brief, tmp_path, seeds=[0], progress=False)
        assert found["error"].eq("").all() and np.isfinite(found["value"]).all()
        text = (tmp_path / TABLES_FILE).read_text()
        assert "| mean | 1.820 | 1.82 |" in text
        assert "| not-MIWAE, self-masking |  | 0.74 |" in text

    @pytest.mark.slow
    def test_every_system_runs(self, tmp_path: Path) -> None:
        experiment = brief(on_iris(uci(quick=True)))
        found = run_experiment(experiment, tmp_path, seeds=[0], progress=False)
        assert found["error"].eq("").all() and found["value"].between(0.1, 3).all()
        assert found["system"].tolist() == [system.name for system in experiment.systems]


def on_iris(experiment: Experiment) -> Experiment:
    """A table of 150 rows, at hand everywhere, in place of the experiment's."""
    return replace(experiment, data={"iris": lambda seed: self_masked(load_iris(as_frame=True).data)})


def brief(experiment: Experiment) -> Experiment:
    """One epoch for every system: enough to see it run."""
    systems = [
        replace(system, fit_options={**system.fit_options, "epochs": 1})
        if isinstance(system, (baselines.Fitted, Declared))
        else system
        for system in experiment.systems
    ]
    return replace(experiment, systems=systems)


class TestSynthetic:
    @pytest.mark.slow
    def test_runs_draws_its_figures_and_resumes(self, tmp_path: Path) -> None:
        experiment = brief(synthetic_experiment(quick=True, rows=60))
        found = run_experiment(experiment, tmp_path, seeds=[0], progress=False)
        assert found["error"].eq("").all() and np.isfinite(found["value"]).all()
        assert len(found) == (3 * 5 + 1) * len(experiment.metrics)
        assert set(found.loc[found["system"] == SIGNED, "data"]) == {"A"}  # the others' signs are not declared
        shares = found[found["metric"].str.startswith("coverage")]["value"]
        assert shares.between(0, 1).all()
        for name in ("figure3.png", "figure4.png"):
            assert (tmp_path / name).stat().st_size > 20_000
        lines = (tmp_path / RUNS_FILE).read_bytes()
        run_experiment(experiment, tmp_path, seeds=[0], progress=False)
        assert (tmp_path / RUNS_FILE).read_bytes() == lines

    def test_a_system_of_ones_own(self, tmp_path: Path) -> None:
        mine = baselines.gina(epochs=1)
        experiment = replace(synthetic_experiment(quick=True, rows=40), systems=[mine]).only(data=["B"])
        found = run_experiment(experiment, tmp_path, seeds=[3], progress=False)
        assert set(found["system"]) == {"GINA"} and set(found["metric"]) == set(experiment.metrics)

    def test_results_in_the_repository_are_of_the_present_configuration(self) -> None:
        folder = Path(__file__).parents[2] / "benchmarks" / "results" / "synthetic"
        runs = Runs(folder / RUNS_FILE).read()
        own = synthetic_experiment().own(runs)
        assert len(own) == len(runs)
        assert set(own["system"]) == {system.name for system in synthetic_experiment().systems}


class TestAblation:
    @pytest.mark.slow
    def test_runs(self, tmp_path: Path) -> None:
        experiment = brief(ablation(quick=True, rows=60))
        assert list(experiment.data) == ["A", "B", "C", "breast cancer"]
        found = run_experiment(experiment.only(data=["A", "C"]), tmp_path, seeds=[0], progress=False)
        assert found["error"].eq("").all() and np.isfinite(found["value"]).all()
        assert len(found) == 10 * 2 * 2

    def test_the_mechanism_sees_the_mean(self) -> None:
        """With a decoder whose noise is huge the draws move from call to call, the mechanism's log-odds do not."""
        frame = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0], "b": [1.0, np.nan, 2.0, np.nan]})
        table = Table.from_frame(frame)
        model = MeanInMechanism(table, mechanism=SelfMasking, seed=0)
        with torch.no_grad():
            model.decoder.likelihood.log_noise.fill_(3.0)
        model.mechanism.put_lines(slope=torch.ones(2))
        z = torch.zeros(4, 1)
        with pyro.get_param_store().scope():
            traces = [
                poutine.trace(poutine.condition(model, {"z": z})).get_trace(table.batch()).nodes for _ in range(2)
            ]
        gaps = ~table.mask
        assert (traces[0]["x_missing"]["value"][gaps] != traces[1]["x_missing"]["value"][gaps]).all()
        assert torch.equal(
            column_distribution(traces[0]["r"]["fn"]).logits, column_distribution(traces[1]["r"]["fn"]).logits
        )
        expected = (model.mechanism.slope * model.decoder(z).mean)[gaps]
        assert torch.equal(column_distribution(traces[0]["r"]["fn"]).logits[gaps], expected)
