"""A folder of completed tables is of one run or of none: nothing torn, nothing overwritten that is somebody else's."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import random
import subprocess
import sys
import time

import pytest

from pyro_mnar.cli import main, training
from pyro_mnar.cli.output_folder import MANIFEST, OutputFolder
from pyro_mnar.training import trainer
from pyro_mnar.training.checkpoint import Checkpoint

CSV = "age,income\n20,1.5\n30,\n40,2.5\n50,3.25\n60,\n"
QUICK = ["--epochs", "2", "--draws", "2", "--quiet"]
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def survey(tmp_path):
    path = tmp_path / "survey.csv"
    path.write_text(CSV)
    return path


def run(*arguments):
    return main([str(argument) for argument in arguments])


def check_whole(out):
    """The manifest is there, says that the run is whole, and the files are those that it names."""
    manifest = json.loads((out / MANIFEST).read_text())
    assert manifest["complete"] is True
    assert {path.name for path in out.iterdir()} == {*manifest["files"], MANIFEST}
    for name, digests in manifest["files"].items():
        assert [hashlib.sha256((out / name).read_bytes()).hexdigest()] == digests
    return manifest


def test_a_run_leaves_its_files_and_a_manifest_that_knows_them(survey, tmp_path):
    for seed in (0, 1):  # the second run replaces the first one's
        assert run("impute", survey, "--out", tmp_path / "out", "--seed", seed, *QUICK) == 0
        manifest = check_whole(tmp_path / "out")
        assert (manifest["seed"], manifest["epochs"], manifest["interrupted"]) == (seed, 2, False)
        assert manifest["data_sha256"] == hashlib.sha256(CSV.encode()).hexdigest()


@pytest.mark.parametrize("name", ["mean.csv", "draw_01.csv", "history.csv"])
def test_the_input_and_what_is_not_the_run_s_own_are_not_overwritten(name, tmp_path, capsys):
    data = tmp_path / name
    data.write_text(CSV)
    assert run("impute", data, "--out", tmp_path, *QUICK) == 2
    assert "is the file to complete" in capsys.readouterr().err
    other = tmp_path / "other"
    other.mkdir()
    (other / name).write_text("mine")
    assert run("impute", data, "--out", other, *QUICK) == 2
    assert "not of an earlier run" in capsys.readouterr().err
    assert (data.read_text(), (other / name).read_text()) == (CSV, "mine")


def test_what_was_changed_after_a_run_is_not_overwritten(survey, tmp_path, capsys):
    assert run("impute", survey, "--out", tmp_path / "out", *QUICK) == 0
    (tmp_path / "out" / "draw_02.csv").write_text("with notes of mine")
    assert run("impute", survey, "--out", tmp_path / "out", *QUICK) == 2
    assert "draw_02.csv was changed" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["mean.csv", MANIFEST])
def test_no_link_is_followed(name, survey, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "precious.txt").write_text("precious")
    (tmp_path / "out" / name).symlink_to(tmp_path / "precious.txt")
    assert run("impute", survey, "--out", tmp_path / "out", *QUICK) == 2
    assert "is a link" in capsys.readouterr().err
    assert (tmp_path / "precious.txt").read_text() == "precious"


def test_a_failure_while_writing_leaves_the_files_as_they_were(tmp_path):
    data = tmp_path / "t.csv"
    data.write_text(CSV)
    OutputFolder(tmp_path / "out", ["a", "b"], data).write(iter([("a", b"1"), ("b", b"2")]), {})

    def full_disk():
        yield "a", b"3"
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        OutputFolder(tmp_path / "out", ["a", "b"], data).write(full_disk(), {})
    assert (tmp_path / "out" / "a").read_bytes() == b"1"
    check_whole(tmp_path / "out")


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_earlier_run_stays(survey, tmp_path):
    assert run("impute", survey, "--out", tmp_path / "out", *QUICK) == 0
    before = check_whole(tmp_path / "out")
    survey.write_text(CSV + "70,1.25\n" * 3000)
    # -B: Python would keep bytecode of which the disk took a part.
    command = f"ulimit -f 8; {sys.executable} -B -m pyro_mnar.cli impute {survey} --out {tmp_path / 'out'} --seed 1"
    done = subprocess.run(
        ["bash", "-c", f"trap '' XFSZ; {command} {' '.join(QUICK)}"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1 and "File too large" in done.stderr
    assert check_whole(tmp_path / "out") == before


@pytest.mark.filterwarnings("default:fit. its training was interrupted")
def test_ctrl_c_while_training_writes_nothing_and_ends_with_130(survey, tmp_path, monkeypatch, capsys):
    calls = []

    def interrupted(self):
        calls.append(0)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return epoch(self)

    epoch = trainer.Trainer.epoch
    monkeypatch.setattr(trainer.Trainer, "epoch", interrupted)
    assert run("impute", survey, "--out", tmp_path / "out", *QUICK) == 130
    assert "interrupted after 1 epochs; nothing was written" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []

    calls.clear()
    assert run("impute", survey, "--out", tmp_path / "out", "--keep-interrupted", *QUICK) == 0
    assert "warning: fit: its training was interrupted after 1 epochs" in capsys.readouterr().err
    manifest = check_whole(tmp_path / "out")
    assert (manifest["interrupted"], manifest["epochs"]) == (True, 1)


@pytest.mark.filterwarnings("error")
def test_the_same_command_goes_on_from_a_checkpoint_to_the_same_tables(survey, tmp_path, monkeypatch, capsys):
    quick = ["--epochs", "4", "--draws", "1", "--quiet"]
    assert run("impute", survey, "--out", tmp_path / "whole", *quick) == 0
    keep, left = Checkpoint.keep, [2]

    def counting(self, name, state):
        keep(self, name, state)
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "keep", counting)
    command = ["impute", survey, "--out", tmp_path / "out", "--checkpoint", tmp_path / "c", *quick]
    assert run(*command) == 130
    assert f"after 2 epochs; nothing was written but {tmp_path / 'c'}, from which" in capsys.readouterr().err
    assert run(*command, "--seed", 1) == 2
    assert "resume: seed: the checkpoint was made with 0, got 1" in capsys.readouterr().err
    assert run(*command) == 0
    check_whole(tmp_path / "out")
    for name in ("draw_01.csv", "mean.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_wrong_option_is_told_before_the_training(survey, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "fit", None)
    (tmp_path / "file").write_text("")
    assert run("impute", survey, "--out", tmp_path / "file", *QUICK) == 2


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_one_run_s_files_or_says_otherwise(survey, tmp_path):
    """SIGKILL at ten moments spread by a seed: whoever reads the manifest is never given a torn or mixed folder."""
    out, moments = tmp_path / "out", random.Random(0)
    command = ["impute", survey, "--out", out, *QUICK]
    start = time.monotonic()
    assert run(*command) == 0
    lasts = time.monotonic() - start
    killed = 0
    for seed in range(1, 11):
        process = FORK.Process(target=run, args=(*command, "--seed", seed))  # which need not import anything
        process.start()
        time.sleep(lasts * moments.uniform(0.0, 1.0))
        killed += process.is_alive()
        process.kill()
        process.join()
        manifest = json.loads((out / MANIFEST).read_text())
        for name, digests in manifest["files"].items():
            assert hashlib.sha256((out / name).read_bytes()).hexdigest() in digests
            assert len(digests) == 1 or not manifest["complete"]
    assert killed
    assert run(*command) == 0
    check_whole(out)
