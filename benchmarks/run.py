"""Speed and memory, each figure a ratio or a growth measured side by side in one run: `make bench`.

    make bench                              # every section, under ten minutes on two cores
    make bench ARGS="imputation growth"     # some sections
    make bench ARGS="--again"               # from the start, where a run was interrupted
    make bench ARGS="--docs"                # then put the tables into docs/speed.md

A runner of its own and not pytest-benchmark, which times one function after another: here the contenders of a ratio
take turns within each round, so that what else the machine does meets all of them.  Every section has a process of its
own.  It leaves a csv file in results/speed; tables.md there puts all of them on one page.  A run that was interrupted
goes on with the sections it has not finished, as long as the sources, torch and the sections asked for are the same.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

import completion
import growth
import pandas as pd
import peers
import steps
import torch
from apart import apart
from report import Report, as_text, options_of, put_tables, write_tables

import pyro_mnar
import training
from pyro_mnar.infer.session import threads

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "speed"
PAGE = ROOT / "docs" / "speed.md"
UNFINISHED = "unfinished.json"


class Section(NamedTuple):
    """A part of the run.

    Attributes:
        title: What it shows.
        measure: Makes its report.
        threads: That torch computes with.
    """

    title: str
    measure: Callable[[], Report]
    threads: int = 1


SECTIONS: dict[str, Section] = {
    "steps": Section("A training step of a small model, captured and compiled, over other ways.", steps.small_steps),
    "wide_steps": Section("A training step at 1,000 columns, over the same.", steps.wide_steps),
    "restarts": Section("A step of eight restarts in one graph, over other ways.", steps.restarts_at_once),
    "bound": Section("Time to reach a given bound on held-out rows.", training.time_to_bound),
    "fit": Section("A whole training.", training.fit_of_20_000, threads=2),
    "imputation": Section("A table completed.", completion.imputation, threads=2),
    "growth": Section(
        "Growth with rows, columns and K ([plot](growth.png)).", functools.partial(growth.growth, RESULTS)
    ),
    "peers": Section("An epoch, over notmiwae-pytorch.", peers.epoch_of_peer),
    "completion": Section("A table completed, over scikit-learn's IterativeImputer.", peers.completed_tables),
    "partitions": Section("A Parquet table completed on a Dask cluster.", completion.partitions),
}


def main(
    arguments: Sequence[str] | None = None, sections: dict[str, Section] = SECTIONS, folder: Path = RESULTS
) -> None:
    """Measure the sections that are asked for."""
    flag = {"--again": "measure anew what an interrupted run has finished"}
    options = options_of(__doc__, sections, arguments, flag)
    names = options.sections
    folder.mkdir(parents=True, exist_ok=True)
    start, state = time.perf_counter(), folder / UNFINISHED
    key = fingerprint(names)
    done = [] if options.again else _finished(state, key)
    missed: list[str] = []
    for name in names:
        if name in done:
            print(f"{name}: finished before the interruption; --again measures it anew\n")
            continue
        missed += _run(name, sections, folder)
        done.append(name)
        state.write_text(json.dumps({"key": key, "done": done}))
    state.unlink(missing_ok=True)
    if options.docs:
        put_tables(PAGE, folder)
    print(f"{time.perf_counter() - start:.0f} seconds; {folder / 'tables.md'}")
    print(f"targets missed: {', '.join(missed) or 'none'}")


def fingerprint(names: Sequence[str]) -> str:
    """What the results of a run depend on: its sections, every source file, torch."""
    digest = hashlib.sha256(f"{list(names)} {torch.__version__}".encode())
    for source in ("pyro_mnar", "models", "guides", "benchmarks"):
        for path in sorted((ROOT / source).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _finished(state: Path, key: str) -> list[str]:
    """Sections that an interrupted run of the same kind has finished."""
    content = json.loads(state.read_text()) if state.exists() else {}
    return content["done"] if content.get("key") == key else []


def _run(name: str, sections: dict[str, Section], folder: Path) -> list[str]:
    """Measure a section, keep and print its results; names of the figures that miss their target."""
    section, start = sections[name], time.perf_counter()
    table, note, profile = apart(_measured, section, environment={"OMP_NUM_THREADS": str(section.threads)}).result
    seconds = time.perf_counter() - start
    if table.empty:  # what the section needs is not installed, as it has said; earlier results stay
        print(f"{name}: left out\n", flush=True)
        return []
    table.to_csv(folder / f"{name}.csv", index=False)
    profiled = folder / f"{name}_profile.csv"
    profiled.unlink(missing_ok=True)
    print(f"{name}: {section.title}\n{note}\n{as_text(table)}")
    if profile is not None:
        profile.to_csv(profiled, index=False)
        print(f"where the time goes:\n{as_text(profile)}")
    print(f"({seconds:.0f} seconds)\n", flush=True)
    row = {
        "section": name,
        "seconds": round(seconds),
        "version": f"{pyro_mnar.__version__} ({_commit()})",
        "torch": torch.__version__,
        "threads": section.threads,
        "processors": os.cpu_count(),
        "date": date.today().isoformat(),
        "note": note,
    }
    path = folder / "runs.csv"
    others = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=list(row))
    runs = pd.concat([others[others["section"] != name], pd.DataFrame([row])], ignore_index=True)
    order = {known: at for at, known in enumerate(sections)}
    runs = runs[runs["section"].isin(order)].sort_values("section", key=lambda names: names.map(order))
    runs.to_csv(path, index=False)
    write_tables(folder, {known: sections[known].title for known in sections}, runs)
    failed = table[table["met"] == "no"] if "met" in table else table[:0]
    return [f"{name}: {figure}" for figure in failed.iloc[:, 0]]


def _measured(section: Section) -> tuple[pd.DataFrame, str, pd.DataFrame | None]:
    with threads(section.threads):
        report = section.measure()
        return report.table, report.note, report.profile()


def _commit() -> str:
    """Of the checkout, and whether the package differs from it."""
    git = functools.partial(subprocess.run, cwd=ROOT, capture_output=True, text=True, check=False)
    commit = git(["git", "rev-parse", "--short", "HEAD"]).stdout.strip() or "no checkout"
    differs = git(["git", "diff", "--quiet", "HEAD", "--", "pyro_mnar", "models", "guides"]).returncode == 1
    return commit + " with changes" * differs


if __name__ == "__main__":
    main()
