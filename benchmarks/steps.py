"""Time of one training step: captured and compiled, plain Pyro, hand-written PyTorch, JAX; one model in all.

    OMP_NUM_THREADS=1 python benchmarks/steps.py  # 100 rows x 3 columns, a small network
    OMP_NUM_THREADS=1 python benchmarks/steps.py --columns 1000 --latent-dim 32 --hidden 128 128 --rows 128 --steps 20
    OMP_NUM_THREADS=1 python benchmarks/steps.py --restarts 8

GINA with one auxiliary column, K = 5, Adam: encoder tanh network, linear decoder plus a correction, learned noise,
self-masking with missing numbers summed out; plain Pyro and one contender by hand draw them, which is less work a step
and a noisier bound.  All contenders run in one process, in turn, for several rounds; a ratio is the median over the
rounds of the ratios within a round, with quartiles.  With --cpu-time, processor time is counted in place of the
clock's, which other processes on the machine disturb less.  JAX is left out where it is not installed (pip install jax
optax).
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence

import pandas as pd
import torch
from contenders import ByHand, Captured, HandWrittenDrawing, PlainPyro, Run, restarts, whole
from contenders_jax import have_jax, jax_scan
from problem import PARTICLES, Problem
from report import Report, beside_targets, where_time_goes

PYRO, BY_HAND, JAX = "plain Pyro, RenyiELBO", "hand-written PyTorch, fused Adam", "JAX, jit over scan"
DRAWING = "hand-written PyTorch, numbers drawn"
MODES = ("inductor", "graph", "eager")
SMALL = {PYRO: 0.2, BY_HAND: 0.5, JAX: 1.0}
WIDE = {BY_HAND: 1.1}


def contenders(problem: Problem, modes: Sequence[str] = MODES) -> dict[str, Run]:
    """Every way to take a step on the whole table, the one that is compared with the others first."""
    runs: dict[str, Run] = {mode: whole(Captured(problem, mode), problem) for mode in modes}
    runs[PYRO], runs[BY_HAND] = whole(PlainPyro(problem), problem), whole(ByHand(problem), problem)
    runs[DRAWING] = whole(ByHand(problem, HandWrittenDrawing), problem)
    if have_jax():
        runs[JAX] = jax_scan(problem)
    else:
        print("JAX is not installed and is left out: pip install jax optax")
    return runs


def measure(runs: dict[str, Run], rounds: int, count: int, *, cpu_time: bool = False) -> pd.DataFrame:
    """Milliseconds a step; one row a round, one column a contender.  A first round, which compiles, is not counted."""
    clock = time.process_time if cpu_time else time.perf_counter
    measured = []
    for number in range(rounds + 1):
        row = {}
        for name, run in runs.items():
            start = clock()
            run(count)
            row[name] = (clock() - start) / count * 1e3
        if number:
            measured.append(row)
    return pd.DataFrame(measured)


def ratios(measured: pd.DataFrame, of: str, unit: str = "ms a step") -> pd.DataFrame:
    """Median and quartiles over the rounds of one contender's time over each other's."""
    quotients = measured[[of]].to_numpy() / measured
    table = quotients.quantile([0.5, 0.25, 0.75]).T
    table.columns = ["ratio", "lower quartile", "upper quartile"]
    return table.assign(**{unit: measured.median()}).rename_axis(f"{of} over").reset_index()


def small_steps(
    rows: int = 100, columns: int = 3, rounds: int = 9, count: int = 100, modes: Sequence[str] = MODES
) -> Report:
    """The paper's sizes, where a step is Python's time."""
    return _report(Problem.of(rows, columns), SMALL, rounds, count, modes)


def wide_steps(
    rows: int = 128, columns: int = 1_000, rounds: int = 5, count: int = 20, modes: Sequence[str] = MODES
) -> Report:
    """A thousand columns, where a step is matrix products."""
    return _report(Problem.of(rows, columns, 32, [128, 128]), WIDE, rounds, count, modes)


def restarts_at_once(members: int = 8, rounds: int = 9, count: int = 100, mode: str = "inductor") -> Report:
    """One step of all members in one graph, over one plain Pyro step and over as many captured steps in turn."""
    problem = Problem.of()
    runs = {
        f"{members} at once": restarts(problem, members, mode),
        PYRO: whole(PlainPyro(problem), problem),
        "one captured": whole(Captured(problem, mode), problem),
    }
    measured = measure(runs, rounds, count)
    in_turn = f"{members} captured in turn"
    measured[in_turn] = measured.pop("one captured") * members
    table = beside_targets(ratios(measured, f"{members} at once"), "ratio", {PYRO: 0.7, in_turn: 0.8})
    return Report(table, _note(problem, rounds, count), lambda: where_time_goes(lambda: runs[f"{members} at once"](50)))


def _report(problem: Problem, most: dict[str, float], rounds: int, count: int, modes: Sequence[str]) -> Report:
    runs = contenders(problem, modes)
    table = beside_targets(ratios(measure(runs, rounds, count), modes[0]), "ratio", most)
    return Report(table, _note(problem, rounds, count), lambda: where_time_goes(lambda: runs[modes[0]](count)))


def _note(problem: Problem, rounds: int, count: int) -> str:
    widths = " × ".join(map(str, problem.hidden))
    return (
        f"{len(problem.table)} rows × {problem.table.schema.num_columns} columns, H = {problem.latent_dim}, encoder"
        f" {widths}, K = {PARTICLES}, minibatch, noise and Adam included; medians of {rounds} rounds of {count} steps."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--columns", type=int, default=3)
    parser.add_argument("--latent-dim", type=int, default=2)
    parser.add_argument("--hidden", type=int, nargs="+", default=[10])
    parser.add_argument("--restarts", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--cpu-time", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    problem = Problem.of(options.rows, options.columns, options.latent_dim, options.hidden)
    runs = contenders(problem)
    for mode in MODES[:2] if options.restarts else ():
        runs[f"{options.restarts} restarts, {mode}"] = restarts(problem, options.restarts, mode)
    measured = measure(runs, options.rounds, options.steps, cpu_time=options.cpu_time)
    print(ratios(measured, MODES[0]).round(3).to_string(index=False))
    for mode in MODES[:2] if options.restarts else ():
        measured["in turn"] = measured[mode] * options.restarts
        print(f"\n{ratios(measured, f'{options.restarts} restarts, {mode}').round(3).to_string(index=False)}")


if __name__ == "__main__":
    main()
