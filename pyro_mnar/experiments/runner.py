"""Carry an experiment out: run what is not finished yet, then write tables and figures."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from types import FrameType

import pandas as pd

from pyro_mnar.experiments.experiment import Experiment, Task
from pyro_mnar.experiments.report import write_tables
from pyro_mnar.experiments.runs import FAILURE, Key, Runs

RUNS_FILE = "runs.csv"
TABLES_FILE = "tables.md"


def run_experiment(
    experiment: Experiment, out: str | PathLike[str], *, seeds: Iterable[int] = range(5), progress: bool = True
) -> pd.DataFrame:
    """Run what is not finished yet, then write tables and figures.

    A run that fails is written down with its error, and tried again by the next call; the others go on.  Ctrl-C ends
    the experiment, and the run that it meets is not written down: what `fit` then returns was trained for a part of its
    epochs.

    Args:
        experiment: What to run.
        out: Folder for ``runs.csv``, ``tables.md`` and the figures; runs that it holds are not run again.
        seeds: Seeds to run; tables cover all seeds in the file.
        progress: Print a line a run, and the tables.

    Returns:
        One line a run and metric: ``system``, ``data``, ``seed``, ``metric``, ``value``, ``seconds`` of the whole run,
        ``configuration``, ``error``.

    Raises:
        KeyboardInterrupt: On Ctrl-C; what was finished before is in ``runs.csv``.
    """
    out = Path(out)
    runs = Runs(out / RUNS_FILE)
    finished = runs.finished(experiment.metrics)
    for seed in seeds:
        for data_name, make in experiment.data.items():
            keys = {
                experiment.key(system, data_name, seed): system
                for system in experiment.systems
                if (system.name, data_name) not in experiment.left_out
            }
            data = make(seed) if any(key not in finished for key in keys) else None
            for key, system in keys.items():
                if key not in finished:
                    outcome = _run(experiment, Task(system, data_name, data, seed, out), key, runs)
                    if progress:
                        print(f"{data_name:<12} seed {seed:<3} {system.name:<32} {outcome}", flush=True)
    found = experiment.own(runs.read())
    text = write_tables(experiment, found, out / TABLES_FILE)
    if progress:
        print(f"\n{text}")
    if experiment.draw is not None:
        experiment.draw(found, out)
    return found


def _run(experiment: Experiment, task: Task, key: Key, runs: Runs) -> str:
    """One run into the file; returns a line on it."""
    start = time.perf_counter()
    try:
        with _no_partial_result():
            results = experiment.run(task)
        if set(results) != set(experiment.metrics):
            raise ValueError(f"metrics: expected {sorted(experiment.metrics)}, got {sorted(results)}")
    except Exception as error:  # one system's failure is a result, not the end of the table
        runs.add_failure(key, error, time.perf_counter() - start)
        return f"{FAILURE}: {type(error).__name__}: {error}"
    seconds = time.perf_counter() - start
    runs.add(key, results, seconds)
    values = "  ".join(f"{metric} {value:.3f}" for metric, value in results.items())
    return f"{values}  ({seconds:.0f} s)"


@contextmanager
def _no_partial_result() -> Iterator[None]:
    """Raise KeyboardInterrupt at the end if Ctrl-C was pressed within, also where somebody caught it, as `fit` does."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield  # Python delivers Ctrl-C to the main thread alone, and nowhere if it is ignored
        return
    pressed = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        pressed.set()
        before(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if pressed.is_set():
            raise KeyboardInterrupt
