"""Training that was interrupted goes on to the same numbers, bit for bit, from a whole file or from none."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from pyro.nn import PyroModule
from torch import nn

from checks import table_with_gaps
from pyro_mnar import Batch, Fit, Table, fit, partially_observed, rows, shared_latents
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.models import GINA
from pyro_mnar.training.checkpoint import Checkpoint

TABLE = Table.from_frame(table_with_gaps().frame, auxiliary=["u0"], dtype=torch.float64)


class Killed(BaseException):
    """As SIGKILL is, for this process: nothing is written any more."""


def ours(seed: int) -> tuple[Any, Any]:
    return GINA(TABLE, latent_dim=1, seed=seed), ZeroImpute(TABLE, 1, hidden=[3], seed=seed)


def of_functions(seed: int) -> tuple[Any, Any]:
    """Parameters in Pyro's store."""

    def model(batch: Batch) -> None:
        shift = pyro.param("shift", lambda: batch.x.new_full((3,), 0.1 * seed))
        with rows(batch):
            partially_observed("x", dist.Normal(shift, 1.0).expand((len(batch), 3)), batch)

    return model, lambda batch: None


class Normalised(PyroModule):
    """Has buffers that training moves, so that it is not captured."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.norm, self.weight = nn.BatchNorm1d(1), nn.Parameter(torch.full((3,), 0.1 * seed))

    def forward(self, batch: Batch) -> None:
        self.norm(batch.aux)
        with rows(batch):
            z = pyro.sample("z", dist.Normal(batch.x.new_zeros(len(batch), 1), 1.0).to_event(1))
            mean = z * self.weight + self.norm.running_mean
            partially_observed("x", dist.Normal(mean, 1.0), batch)


def with_buffers(seed: int) -> tuple[Any, Any]:
    return Normalised(seed), ZeroImpute(TABLE, 1, hidden=[2], seed=seed)


def with_automatic_guide(seed: int) -> tuple[Any, Any]:
    def model(batch: Batch) -> None:
        shift = pyro.sample("shift", dist.Normal(batch.x.new_zeros(3), 1.0).to_event(1))
        with rows(batch):
            partially_observed("x", dist.Normal(shift, 1.0).expand((len(batch), 3)), batch)

    return model, AutoNormal(shared_latents(model))


class Case(NamedTuple):
    """A pair by its seed, options of ``fit``, and after how many epochs of each of its lives training is killed."""

    make: Callable[[int], tuple[Any, Any]]
    options: dict[str, Any]
    lives: tuple[int, ...] = (3, 1)


HELD_OUT = {"held_out": 0.2, "patience": 2}
CASES = {
    "by Python": Case(ours, {"compile": "eager", **HELD_OUT}),
    "captured": Case(of_functions, {"compile": "graph", **HELD_OUT}),
    "compiled": Case(of_functions, {"compile": "inductor"}, (2,)),
    "restarts in turn": Case(ours, {"compile": "eager", "restarts": 3, **HELD_OUT}, (3, 5)),
    "bootstrap in turn": Case(of_functions, {"compile": "eager", "bootstrap": 2}, (3, 5)),
    "at once": Case(of_functions, {"compile": "graph", "restarts": 2, "bootstrap": 2, **HELD_OUT}, (3, 5)),
    "buffers": Case(with_buffers, {"compile": "eager"}),
    "from the data": Case(ours, {"compile": "eager", "start": "data"}),
    "an automatic guide": Case(with_automatic_guide, {"compile": "eager", "restarts": 2}),
}


@pytest.fixture
def kill(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let a training end after so many epochs, as a kill ends it or as another exception does."""
    keep = Checkpoint.keep

    def set_up(after: int | None, error: type[BaseException] = Killed) -> None:
        left = [after]

        def counting(self: Checkpoint, name: str, state: dict[str, Any]) -> None:
            keep(self, name, state)
            if left[0] is not None:
                left[0] -= 1
                if left[0] == 0:
                    raise error

        monkeypatch.setattr(Checkpoint, "keep", counting)

    return set_up


def tensors_of(result: Fit) -> list[torch.Tensor]:
    modules = [module for module in (result.model, result.guide) if isinstance(module, nn.Module)]
    of_modules = [value for module in modules for value in (*module.parameters(), *module.buffers())]
    return [*of_modules, *result.store["params"].values()]


def check_same(one: Fit, two: Fit) -> None:
    """To the last bit, but for what a clock says."""
    pairs = list(zip([one, *one.bootstrap, *one.members], [two, *two.bootstrap, *two.members], strict=True))
    for first, second in pairs:
        pd.testing.assert_frame_equal(
            first.history.drop(columns="seconds"), second.history.drop(columns="seconds"), check_exact=True
        )
        tensors = list(zip(tensors_of(first), tensors_of(second), strict=True))
        assert tensors
        for own, other in tensors:
            torch.testing.assert_close(own, other, rtol=0, atol=0, equal_nan=True)
    pd.testing.assert_frame_equal(one.restarts, two.restarts, check_exact=True)
    assert one.particle_gain == two.particle_gain and one.interrupted == two.interrupted


MARKS: dict[str, Any] = {
    "compiled": [pytest.mark.slow, pytest.mark.skipif(not shutil.which("g++"), reason="inductor needs a C++ compiler")],
    "at once": pytest.mark.slow,
    "an automatic guide": pytest.mark.slow,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(name, marks=MARKS.get(name, ())) for name in CASES])
def test_the_same_numbers_come_whenever_training_was_killed(
    name: str, kill: Callable[..., None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "pyro_mnar")
    make, options, lives = CASES[name]
    options = {"epochs": 4, "batch_size": 16, "progress": False, **options}
    whole = fit(*make(1), TABLE, **options)
    if name == "compiled":
        assert "training steps: inductor" in caplog.text
    options |= {"checkpoint": tmp_path / "fit.checkpoint", "every": 2, "resume": True}
    for seed, epochs in enumerate(lives, 1):
        kill(epochs)
        with pytest.raises(Killed):
            fit(*make(seed), TABLE, **options)
    kill(None)
    before = torch.get_rng_state()
    resumed = fit(*make(6), TABLE, **options)  # what it was made with before any training is in the file
    assert torch.equal(torch.get_rng_state(), before)
    check_same(whole, resumed)
    check_same(whole, fit(*make(7), TABLE, **options))  # of a finished one: nothing is trained


OPTIONS: dict[str, Any] = {"epochs": 3, "batch_size": 40, "progress": False, "compile": "eager"}


def interrupted_at(path: Path, kill: Callable[..., None], epochs: int = 2, **options: Any) -> Path:
    """A checkpoint of training that was killed after so many epochs, of which one was written each."""
    kill(epochs)
    with pytest.raises(Killed):
        fit(*of_functions(1), TABLE, checkpoint=path, every=1, **{**OPTIONS, **options})
    kill(None)
    return path


def test_ctrl_c_loses_no_finished_epoch(kill: Callable[..., None], tmp_path: Path) -> None:
    whole = fit(*of_functions(1), TABLE, **OPTIONS)
    kill(2, KeyboardInterrupt)
    options = {**OPTIONS, "checkpoint": tmp_path / "c"}  # by the clock, nothing would be due yet
    assert fit(*of_functions(1), TABLE, **options).interrupted
    kill(1)
    with pytest.raises(Killed):
        fit(*of_functions(1), TABLE, resume=True, **options)  # began with the last epoch
    kill(None)
    check_same(whole, fit(*of_functions(1), TABLE, resume=True, **options))


def test_another_start_s_history_goes_on_too(kill: Callable[..., None], tmp_path: Path) -> None:
    start = fit(*of_functions(2), TABLE, **OPTIONS)
    whole = fit(*of_functions(1), TABLE, start=start, **OPTIONS)
    assert len(whole.history) == 6
    options = {**OPTIONS, "start": start, "checkpoint": interrupted_at(tmp_path / "c", kill, start=start)}
    check_same(whole, fit(*of_functions(1), TABLE, resume=True, **options))
    with pytest.raises(ValueError, match="resume: start's history: "):
        fit(*of_functions(1), TABLE, resume=True, **{**options, "start": None})


OTHER_CALLS: dict[str, dict[str, Any]] = {
    "epochs: the checkpoint was made with 3, got 4": {"epochs": 4},
    "batch_size: the checkpoint was made with 40, got 20": {"batch_size": 20},
    "num_particles: the checkpoint was made with 5, got 6": {"num_particles": 6},
    "learning_rate: the checkpoint was made with 0.0001, got 0.1": {"learning_rate": 0.1},
    "seed: the checkpoint was made with 0, got 3": {"seed": 3},
    "device: the checkpoint was made with 'cpu', got 'meta'": {"device": "meta"},
    "estimator: the checkpoint was made with 'pathwise', got 'doubly": {"estimator": "doubly-reparameterized"},
    "patience: the checkpoint was made with None, got 2": {"patience": 2},
    "restarts: the checkpoint was made with 1, got 2": {"restarts": 2},
    "bootstrap: the checkpoint was made with 0, got 2": {"bootstrap": 2},
    "compile: the checkpoint was made with 'eager', got 'graph'": {"compile": "graph"},
    "table's cells: is not what": {"table": TABLE.take(list(range(39, -1, -1)))},
    "held-out cells: is not what": {"held_out": TABLE.take([0, 1, 2])},
    "schema, columns: is not what": {"table": Table.from_frame(TABLE.frame, auxiliary="mask", dtype=torch.float64)},
    "model, options, latent_dim, value: the checkpoint was made with 1, got 2": {
        "pair": (GINA(TABLE, latent_dim=2), ZeroImpute(TABLE, 2))
    },
    r"model, options, mechanism_weight: the checkpoint was made with None, got {'value': 0.5}": {
        "pair": (GINA(TABLE, latent_dim=1, mechanism_weight=0.5), ZeroImpute(TABLE, 1, hidden=[3]))
    },
    "guide, options, hidden, ": {"pair": (GINA(TABLE, latent_dim=1), ZeroImpute(TABLE, 1, hidden=[2]))},
    "model, name: the checkpoint was made with 'GINA', got 'Normalised'": {"pair": with_buffers(0)},
}


@pytest.fixture(scope="module")
def ours_interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "ours"
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    fit(*ours(1), TABLE, checkpoint=path, **OPTIONS)
    torch.set_default_dtype(before)
    return path


@pytest.mark.parametrize("told", OTHER_CALLS)
def test_another_call_is_refused_by_name(told: str, ours_interrupted: Path) -> None:
    before = ours_interrupted.read_bytes()
    options = {**OPTIONS, **OTHER_CALLS[told]}
    model, guide = options.pop("pair", None) or ours(1)
    table = options.pop("table", TABLE)
    if table.schema != TABLE.schema:
        model, guide = GINA(table, latent_dim=1), ZeroImpute(table, 1, hidden=[3])
    with pytest.raises(ValueError, match=f"^resume: {told}") as caught:
        fit(model, guide, table, checkpoint=ours_interrupted, resume=True, **options)
    assert "\n" not in str(caught.value)
    assert ours_interrupted.read_bytes() == before


def test_files_are_not_overwritten_and_damaged_ones_not_gone_on_from(
    kill: Callable[..., None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = fit(*of_functions(1), TABLE, **OPTIONS)
    path = interrupted_at(tmp_path / "c", kill)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["c", "c.previous"]
    with pytest.raises(ValueError, match=r"c is there already: go on from it with resume=True, or remove it"):
        fit(*of_functions(1), TABLE, checkpoint=path, **OPTIONS)
    path.write_bytes(path.read_bytes()[:-10])
    check_same(whole, fit(*of_functions(1), TABLE, checkpoint=path, resume=True, **OPTIONS))
    assert any("going on from" in line and "damaged or cut short" in line for line in caplog.messages)
    for file in (path, tmp_path / "c.previous"):
        file.write_bytes(b"pyro-mnar checkpoint 1 " + b"0" * 64 + b"\nPK")
    with pytest.raises(ValueError, match=r"c: is damaged or cut short.* nor can c\.previous be read"):
        fit(*of_functions(1), TABLE, checkpoint=path, resume=True, **OPTIONS)


def test_a_file_is_taken_for_what_it_is(ours_interrupted: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"expected a file that Fit\.save wrote, got a checkpoint: fit\(\.\.\., resume"
    ):
        Fit.load(ours_interrupted)
    Fit(*ours(1), TABLE.schema).save(tmp_path / "fit")
    with pytest.raises(ValueError, match=r"expected a file that fit\(.*\) wrote, got a fit: Fit\.load reads it"):
        fit(*ours(1), TABLE, checkpoint=tmp_path / "fit", resume=True, **OPTIONS)


def test_a_place_where_nothing_can_be_written_is_told_before_the_training(tmp_path: Path) -> None:
    for path, told in ((tmp_path / "absent" / "c", "No such file"), (tmp_path / "file" / "c", "Not a directory")):
        (tmp_path / "file").write_text("")
        with pytest.raises(OSError, match=f"checkpoint: cannot write {path}: {told}"):
            fit(*of_functions(1), TABLE, checkpoint=path, **OPTIONS)
    with pytest.raises(ValueError, match="checkpoint: expected a file beside resume=True, got none"):
        fit(*of_functions(1), TABLE, resume=True, **OPTIONS)
    with pytest.raises(ValueError, match="checkpoint: expected a file beside every=2, got none"):
        fit(*of_functions(1), TABLE, every=2, **OPTIONS)


def test_other_versions_are_warned_of(
    kill: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = interrupted_at(tmp_path / "c", kill)
    monkeypatch.setattr(platform, "machine", lambda: "abacus")
    with pytest.warns(UserWarning, match=r"made with machine \w+, this is machine abacus: numbers may differ"):
        fit(*of_functions(1), TABLE, checkpoint=path, resume=True, **OPTIONS)


# Kills --------------------------------------------------------------------------------------------------------------

KILLS = """
import os, random, resource, signal, sys, time, warnings
import numpy as np, pandas as pd, torch
from pathlib import Path
from pyro_mnar import Fit, Table, fit
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.models import GINA
from pyro_mnar.training import files

path, numbers = Path(sys.argv[1]), random.Random(0)
frame = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 3)), columns=list("abc"))
frame[frame > 0.8] = np.nan
table = Table.from_frame(frame, auxiliary=[])

def train(**options):
    pair = GINA(table, latent_dim=1, seed=0), ZeroImpute(table, 1, hidden=[2], seed=0)
    return fit(*pair, table, epochs=40, batch_size=20, bootstrap=2, progress=False, compile="eager", **options)

def result(fitted):
    told = [
        (one.history.drop(columns="seconds").to_json(), [p.tolist() for p in one.model.parameters()])
        for one in [fitted, *fitted.bootstrap]
    ]
    return told

def dies_at(name, call):
    own, left = getattr(os, name), [call]
    def counting(*arguments):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return own(*arguments)
    setattr(os, name, counting)

start = time.monotonic()
whole = result(train())
lasts = time.monotonic() - start
killed = finished = lost = 0
for life in range(20):
    before = [files.read(path, files.CHECKPOINT)] if path.exists() else []
    child = os.fork()
    if not child:
        if life % 4 == 1:
            dies_at("replace", numbers.randint(1, 12))  # a write is of two, so between them too
        elif life % 4 == 3:
            dies_at("fsync", numbers.randint(1, 12))  # written, and not in its place
        same = result(train(checkpoint=path, every=1, resume=True)) == whole
        os._exit(0 if same else 1)
    if life % 2 == 0:
        time.sleep(lasts * numbers.uniform(0.1, 0.5))
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        killed += 1
    else:
        assert os.WEXITSTATUS(status) == 0, "other numbers"
        finished += 1
        for file in path.parent.iterdir():
            file.unlink()
assert result(train(checkpoint=path, every=1, resume=True)) == whole
print(killed, finished, sorted(file.name for file in path.parent.iterdir()))
"""


@pytest.mark.slow
def test_sigkill_at_twenty_moments(tmp_path: Path) -> None:
    """By the clock and in the middle of writes; children are forked so that one import serves all."""
    done = subprocess.run(
        [sys.executable, "-c", KILLS, str(tmp_path / "c")], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    killed = int(done.stdout.split()[0])
    assert killed >= 15, done.stdout
    assert "['c', 'c.previous']" in done.stdout  # what kills left beside them is gone


@pytest.mark.slow
def test_a_full_disk_is_one_clear_error_and_the_file_stays(kill: Callable[..., None], tmp_path: Path) -> None:
    path = interrupted_at(tmp_path / "c", kill)
    before = path.read_bytes()
    code = """
        import resource, signal, sys, torch
        sys.path.insert(0, "tests")
        from training.test_checkpoint import OPTIONS, TABLE, fit, of_functions
        torch.set_default_dtype(torch.float64)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        fit(*of_functions(1), TABLE, checkpoint=sys.argv[1], resume=True, **OPTIONS)
    """
    done = subprocess.run(  # -B: Python would keep bytecode of which the disk took a part
        [sys.executable, "-B", "-c", textwrap.dedent(code), str(path)], capture_output=True, text=True, timeout=120
    )
    assert f"OSError: [Errno 27] checkpoint: cannot write {path}: File too large" in done.stderr.splitlines()[-1]
    assert path.read_bytes() == before and sorted(file.name for file in tmp_path.iterdir()) == ["c", "c.previous"]
