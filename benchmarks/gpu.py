"""Speed on a CUDA card, each figure a ratio measured side by side on it: training steps, restarts, a table completed.

    python benchmarks/gpu.py                     # every section, some five minutes
    python benchmarks/gpu.py restarts completion # some sections
    python benchmarks/gpu.py --docs              # then put the tables into docs/speed.md

Contenders take turns within each round, as in ``run.py``; every time ends when the card has done its work.  JAX
computes matrix products in full float32, as torch does.  Results go to results/gpu: a csv file a section, and tables.md
with the card's name.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from datetime import date
from functools import partial
from pathlib import Path

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX would take most of the card's memory

import pandas as pd
import torch
from contenders import ByHand, Captured, Run, restarts, whole
from contenders_jax import have_jax, jax_scan
from problem import PARTICLES, Problem, survey, untrained
from report import Report, markdown, options_of, put_tables
from steps import BY_HAND, JAX, measure, ratios

import pyro_mnar
from pyro_mnar import impute
from pyro_mnar.infer.session import threads

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "gpu"
PAGE = ROOT / "docs" / "speed.md"
CUDA = "cuda"
SIZES = {"small": (100, 3, 2, [10]), "twenty": (256, 20, 19, [128, 128]), "wide": (128, 1_000, 32, [128, 128])}


def finished(run: Run) -> Run:
    """Steps that have been taken when it returns, and not only been asked for."""

    def run_all(count: int) -> None:
        run(count)
        torch.cuda.synchronize()

    return run_all


def steps(size: str, rounds: int = 5, count: int = 112, *, card_only: bool = False) -> Report:
    """One step of GINA: by ``fit``'s modes, by hand and in JAX on the card; compiled on one core of the processor."""
    rows, columns, latent_dim, hidden = SIZES[size]
    problem = Problem.of(rows, columns, latent_dim, hidden, CUDA)
    runs = {mode: finished(whole(Captured(problem, mode), problem)) for mode in ("inductor", "graph", "eager")}
    runs[BY_HAND] = finished(whole(ByHand(problem), problem))
    if have_jax():
        import jax

        jax.config.update("jax_default_matmul_precision", "highest")
        runs[JAX] = jax_scan(problem)
    if not card_only:
        here = Problem.of(rows, columns, latent_dim, hidden)
        runs["inductor on one core"] = whole(Captured(here, "inductor"), here)
    first = {name: _seconds(partial(run, 1)) for name, run in runs.items()}
    table = ratios(measure(runs, rounds, count), "inductor")
    table["steps a second"] = 1e3 / table["ms a step"]
    table["seconds of the first"] = table.iloc[:, 0].map(first)
    widths = " × ".join(map(str, hidden))
    note = (
        f"{rows} rows × {columns:,} columns, H = {latent_dim}, encoder {widths}, K = {PARTICLES}, minibatch, noise and"
        f" Adam included; medians of {rounds} rounds of {count} steps."
    )
    return Report(table, note)


def restarts_at_once(members: int = 64, rounds: int = 5, count: int = 112, *, card_only: bool = False) -> Report:
    """A step of many initialisations in one graph, over one step of one."""
    problem = Problem.of(device=CUDA)
    at_once = f"{members} at once, "
    runs = {at_once + mode: finished(restarts(problem, members, mode)) for mode in ("inductor", "graph")}
    runs |= {f"one, {mode}": finished(whole(Captured(problem, mode), problem)) for mode in ("inductor", "graph")}
    table = ratios(measure(runs, rounds, count), f"{at_once}inductor")
    return Report(table, f"The small model; medians of {rounds} rounds of {count} steps.")


def completion(
    rows: int = 1_000_000, draws: int = 20, particles: int = 100, rows_here: int = 20_000, *, card_only: bool = False
) -> Report:
    """``impute`` of 20 columns, a mode after the other; and on the processor, of fewer rows."""
    table, fitted = untrained(survey(rows))
    options = {"num_draws": draws, "num_particles": particles}
    there, measured = fitted.on(CUDA), []
    for mode in ("graph", "inductor"):
        torch.cuda.reset_peak_memory_stats()
        seconds = _seconds(partial(impute, there, table, compile=mode, **options))
        peak = torch.cuda.max_memory_allocated() / 2**30
        measured.append({"completed": mode, "rows": rows, "seconds": seconds, "GiB on the card": peak})
        print(measured[-1], flush=True)
    if not card_only:
        few, cores = table.take(range(rows_here)), min(os.cpu_count() or 1, 16)
        with threads(cores):
            seconds = _seconds(partial(impute, fitted, few, compile="inductor", **options))
        measured.append({"completed": f"inductor on {cores} cores", "rows": rows_here, "seconds": seconds})
    frame = pd.DataFrame(measured)
    frame.insert(3, "rows a second", frame["rows"] / frame["seconds"])
    note = f"20 columns, three in ten values missing, {draws} draws of {particles} particles, compilation included."
    return Report(frame, note)


SECTIONS: dict[str, tuple[str, Callable[..., Report]]] = {
    "gpu_small": ("A training step of a small model.", partial(steps, "small")),
    "gpu_twenty": ("A training step at 20 columns.", partial(steps, "twenty")),
    "gpu_wide": ("A training step at 1,000 columns.", partial(steps, "wide")),
    "gpu_restarts": ("A step of 64 restarts at once.", restarts_at_once),
    "gpu_completion": ("A table of a million rows completed.", completion),
}


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def main(arguments: Sequence[str] | None = None, folder: Path = RESULTS) -> None:
    """Measure the sections that are asked for."""
    flag = {"--card-only": "leave out what the processor makes of the same"}
    options = options_of(__doc__, SECTIONS, arguments, flag)
    if not torch.cuda.is_available():
        print("gpu.py: torch sees no CUDA card here", file=sys.stderr)
        sys.exit(2)
    folder.mkdir(parents=True, exist_ok=True)
    card = torch.cuda.get_device_name()
    parts = ["# Speed on a CUDA card, as measured", f"{card}, torch {torch.__version__}, pyro-mnar"
             f" {pyro_mnar.__version__}, {date.today()}. Made by `python benchmarks/gpu.py`."]  # fmt: skip
    with threads(1):
        for name in options.sections:
            title, made = SECTIONS[name]
            report = made(card_only=options.card_only)
            report.table.to_csv(folder / f"{name}.csv", index=False)
            parts += [f"## {name}", f"{title} {report.note}", markdown(report.table)]
            print("\n\n".join(parts[-3:]), flush=True)
    (folder / "tables.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    if options.docs:
        put_tables(PAGE, folder)


if __name__ == "__main__":
    main()
