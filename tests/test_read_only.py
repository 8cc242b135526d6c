"""A folder that nothing can be written to: one clear error that names the file, and what was there is as it was."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_mnar import Fit, Table, fit, impute
from pyro_mnar.cli import main
from pyro_mnar.experiments import Experiment, run_experiment
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.models import GINA

NOBODY = 65534
FRAME = pd.DataFrame({"a": [1.0, np.nan, 3.0, 4.5, 2.5, 7.0], "b": [2.0, 3.0, np.nan, 1.0, 4.0, 6.0]})
OPTIONS: dict[str, Any] = {"progress": False, "compile": "eager"}


class System:
    name = "one"


def pair(table: Table) -> tuple[GINA, ZeroImpute]:
    return GINA(table, latent_dim=1, seed=0), ZeroImpute(table, 1, hidden=[2], seed=0)


def table_of(folder: Path) -> Table:
    return Table.from_csv(folder / "t.csv", auxiliary=[])


def save(folder: Path, number: int) -> None:
    table = table_of(folder)
    Fit(*pair(table), table.schema).save(folder / "fit")


def train(folder: Path, number: int) -> None:
    table = table_of(folder)
    fit(*pair(table), table, epochs=2, checkpoint=folder / "checkpoint", every=1, resume=True, **OPTIONS)


def experiment(folder: Path, number: int) -> None:
    def run(task: Any) -> dict[str, float]:
        return {"m": float(task.seed)}

    made = Experiment("k", "", [System()], {"d": int}, run, {"m": ""})
    run_experiment(made, folder, seeds=range(number + 1), progress=False)


def write(folder: Path, number: int) -> None:
    table = table_of(folder)
    completed = impute(Fit(*pair(table), table.schema), table, num_draws=1, num_particles=2, compile="eager")
    table.write(next(completed.frames()), folder / f"done_{number}.csv")


def shell(*words: str) -> Callable[[Path, int], None]:
    """A command on ``t.csv``; OSError with what it says if it ends with status 2."""

    def call(folder: Path, number: int) -> None:
        given = [word.replace("FOLDER", str(folder)).replace("NUMBER", str(number)) for word in words]
        status = main([given[0], str(folder / "t.csv"), *given[1:]])
        if status:
            raise OSError(f"status {status}")

    return call


READ = ("--auxiliary", "")
QUICK = (*READ, "--mechanism", "self-masking", "--epochs", "1", "--quiet")
CALLS: dict[str, tuple[Callable[[Path, int], None], str]] = {
    "Fit.save": (save, "fit"),
    "a checkpoint": (train, "checkpoint"),
    "an experiment": (experiment, "runs.csv"),
    "Table.write": (write, "done_1.csv"),
    "pyro-mnar impute": (shell("impute", "--out", "FOLDER/out", *QUICK, "--draws", "1"), "out"),
    "pyro-mnar fit": (shell("fit", "--out", "FOLDER/shell.fit", "--force", *QUICK), "shell.fit"),
    "pyro-mnar describe --write": (shell("describe", "--write", "FOLDER/schema_NUMBER.toml", *READ), "schema_1.toml"),
}


@contextmanager
def nothing_can_be_written(folder: Path) -> Iterator[None]:
    """Files and folders without the permission to write; as nobody, since root does not ask for it."""
    places = [folder, *folder.rglob("*")]
    modes = {place: place.stat().st_mode for place in places}
    is_root = os.geteuid() == 0
    for place, mode in modes.items():
        place.chmod(mode & ~0o222 | 0o444 | (0o111 if place.is_dir() else 0))
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        for place, mode in modes.items():
            place.chmod(mode)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions of POSIX")
@pytest.mark.filterwarnings("ignore:no auxiliary columns were named", "ignore:--mechanism")
@pytest.mark.parametrize("what", CALLS)
def test_a_read_only_folder_is_one_clear_error_and_files_stay(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    call, name = CALLS[what]
    with tempfile.TemporaryDirectory() as made:  # pytest's own are closed to others
        folder = Path(made)
        folder.chmod(0o755)
        FRAME.to_csv(folder / "t.csv", index=False)
        torch.set_default_dtype(torch.float32)
        call(folder, 0)
        before = {place: place.read_bytes() for place in folder.rglob("*") if place.is_file()}
        capsys.readouterr()
        if what == "a checkpoint":  # of which a whole one is not written anew
            (folder / "checkpoint").unlink()
            del before[folder / "checkpoint"]
        with nothing_can_be_written(folder), pytest.raises(OSError, match=r"denied|status 2") as caught:
            call(folder, 1)
        after = {place: place.read_bytes() for place in folder.rglob("*") if place.is_file()}
    torch.set_default_dtype(torch.float64)
    said = [line for line in capsys.readouterr().err.splitlines() if "warning:" not in line]
    message = "\n".join(said) or str(caught.value)
    assert f"{folder / name}" in message and "denied" in message and "\n" not in message, message
    assert after == before
