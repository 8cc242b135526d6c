"""Whole trainings: a fit of 20,000 rows, and the time to reach a given bound on held-out rows."""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import torch
from apart import peak_memory
from contenders import ByHand, Captured, Contender, PlainPyro
from problem import Problem, survey, untrained
from report import Report, beside_targets, where_time_goes
from steps import BY_HAND, MODES, PYRO

from pyro_mnar import Fit, Table, fit
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.mechanisms import SelfMasking
from pyro_mnar.models import GINA
from pyro_mnar.training.evidence import log_evidence

CACHE = "TORCHINDUCTOR_CACHE_DIR"
RATE = 5e-3
BATCH = 128  # of `fit`, by default
OF_EAGER = "over eager"
FROM_DATA = "fit from the data, one epoch"
BOUND_PARTICLES = 50  # of log_evidence, which draws twice as many


@contextlib.contextmanager
def nothing_compiled_before() -> Iterator[None]:
    """Have inductor compile as if for the first time: its cache, kept on disk, is another folder."""
    before = os.environ.get(CACHE)
    with tempfile.TemporaryDirectory() as folder:
        os.environ[CACHE] = folder
        try:
            yield
        finally:
            os.environ.pop(CACHE)
            if before is not None:
                os.environ[CACHE] = before


def fit_of_20_000(rows: int = 20_000, epochs: int = 100, mode: str = "auto") -> Report:
    """``fit`` with its defaults, compilation included."""
    table, start = untrained(survey(rows))
    before = peak_memory()
    with nothing_compiled_before():
        begin, processor = time.perf_counter(), time.process_time()
        result = fit(start.model, start.guide, table, epochs=epochs, batch_size=256, compile=mode, progress=False)
        seconds = time.perf_counter() - begin
    figures = {
        "seconds": seconds,
        "of them before and after the epochs, with capture and compilation": seconds - result.history["seconds"].sum(),
        "processor seconds": time.process_time() - processor,
        "bound at the end, nats a row": result.history.iloc[-1, 1],
        "peak MB beyond the table": peak_memory() - before,
    }
    measured = pd.DataFrame({"figure": list(figures), "value": list(figures.values())})
    steps = epochs * math.ceil(rows / 256)
    note = f"{rows:,} rows × 20 columns, {epochs} epochs, {steps:,} steps, K = 5, minibatches of 256, compile={mode!r}."

    def some_epochs() -> None:
        fit(start.model, start.guide, table, epochs=30, batch_size=256, compile="graph", progress=False)

    return Report(beside_targets(measured, "value", {"seconds": 60}), note, lambda: where_time_goes(some_epochs))


def time_to_bound(
    rows: int = 2_000,
    held_out_rows: int = 500,
    repeats: int = 3,
    reference_steps: int = 2_000,
    chunk: int = 100,
    modes: tuple[str, ...] = MODES,
) -> Report:
    """Seconds of the processor until the bound of held-out rows is a given one, by
    :func:`~pyro_mnar.training.evidence.log_evidence`.

    The level is what a run of so many steps from another seed comes to, less a tenth of a nat.  Evaluating the bound
    is not counted.  Runs end after three times as many steps.  Beside the contenders, which start at random and share
    an encoder of width 10, stands what a user has: :func:`~pyro_mnar.fit` of the model and the guide with its own
    widths, from the data, one epoch long, all that the call does included.
    """
    table, held_out = masked_survey(rows, held_out_rows)
    problem = Problem(table, 2, (10,))
    makers: dict[str, Callable[[int], Contender]] = {
        mode: lambda seed, mode=mode: Captured(problem, mode, rate=RATE, seed=seed) for mode in modes
    }
    makers[PYRO] = lambda seed: PlainPyro(problem, rate=RATE, seed=seed)
    makers[BY_HAND] = lambda seed: ByHand(problem, rate=RATE, seed=seed)

    reference = Captured(problem, "graph", rate=RATE, seed=repeats)
    first = bound_of(reference, held_out)
    reference.train(minibatches(len(table), reference_steps, seed=repeats))
    level = bound_of(reference, held_out) - 0.1

    runs = []
    with nothing_compiled_before():  # so the first repeat shows what compiling costs
        for seed in range(repeats):
            orders = minibatches(len(table), 3 * reference_steps, seed).split(chunk)
            for name, make in makers.items():
                runs.append({"contender": name, **_until(level, make, seed, orders, held_out)})
            runs.append({"contender": FROM_DATA, **_from_data(level, table, seed, held_out)})
    note = (
        f"{len(table):,} rows × {table.schema.num_columns} columns, self-masked, {len(held_out)} rows held out, K = 5,"
        f" minibatches of 100, Adam at {RATE}, seconds of the processor; from {first:.2f} to {level:.3f}"
        f" nats a row; medians of {repeats} seeds."
    )
    found = _by_contender(pd.DataFrame(runs), [modes[0], "eager"])
    found = found.assign(**{OF_EAGER: 1 / found["eager over it"]}).drop(columns="eager over it")
    return Report(beside_targets(found, OF_EAGER, {FROM_DATA: 0.1}), note)


def masked_survey(num_rows: int, num_held_out: int, columns: int = 5, seed: int = 0) -> tuple[Table, Table]:
    """One factor that u tells of; the higher a value, the likelier it is missing."""
    random = np.random.default_rng(seed)
    count = num_rows + num_held_out
    u = random.normal(size=(count, 1))
    x = (u + random.normal(size=(count, 1))) @ random.uniform(0.5, 1.5, (1, columns))
    x += 0.5 * random.normal(size=x.shape)
    x[random.random(x.shape) < 1 / (1 + np.exp(1 - 2 * x))] = np.nan
    frame = pd.DataFrame(np.hstack([x, u]), columns=[*(f"x{d}" for d in range(columns)), "u"])
    table = Table.from_frame(frame[:num_rows], auxiliary=["u"], dtype=torch.float32)
    return table, table.new_rows(frame[num_rows:])


def minibatches(num_rows: int, steps: int, seed: int, size: int = 100) -> torch.Tensor:
    """Rows of each step, drawn with replacement; ``(steps, size)``."""
    return torch.randint(num_rows, (steps, size), generator=torch.Generator().manual_seed(seed))


def bound_of(contender: Contender, held_out: Table) -> float:
    """Nats a row of the held-out rows."""
    pair = Fit(*contender.pair(), held_out.schema)
    return float(log_evidence(pair, held_out, num_particles=BOUND_PARTICLES).log_p.mean())


def _by_contender(runs: pd.DataFrame, of: list[str]) -> pd.DataFrame:
    """Medians and quartiles over the repeats, and the median quotients of some contenders' times over each other's."""
    lines = []
    for name, own in runs.groupby("contender", sort=False):
        seconds = own["seconds"]
        times = {one: runs.loc[runs["contender"] == one, "seconds"].to_numpy() for one in of}
        lines.append({
            "contender": name,
            "seconds to train": seconds.median(),
            "lower quartile": seconds.quantile(0.25),
            "upper quartile": seconds.quantile(0.75),
            **{f"{one} over it": np.median(time / seconds.to_numpy()) for one, time in times.items()},
            "seconds before, the first time": own["before"].iloc[0],
            "steps": own["steps"].median(),
            "reached": f"{own['reached'].sum()} of {len(own)}",
        })  # fmt: skip
    return pd.DataFrame(lines)


def _from_data(level: float, table: Table, seed: int, held_out: Table) -> dict[str, float]:
    """Seconds of one call of ``fit``, model and guide made, and whether it reaches the level."""
    begin = time.process_time()
    model = GINA(table, latent_dim=2, mechanism=SelfMasking, seed=seed)
    guide = ZeroImpute(table, 2, seed=seed)
    result = fit(model, guide, table, epochs=1, batch_size=BATCH, seed=seed, progress=False)
    seconds = time.process_time() - begin
    bound = float(log_evidence(result, held_out, num_particles=BOUND_PARTICLES).log_p.mean())
    steps = math.ceil(len(table) / BATCH)
    return {"seconds": seconds, "before": 0.0, "steps": steps, "reached": bound >= level}


def _until(
    level: float, make: Callable[[int], Contender], seed: int, orders: tuple[torch.Tensor, ...], held_out: Table
) -> dict[str, float]:
    """Seconds of the processor and steps to the level; what the first chunk took longer than the others goes before
    them, by the clock, as a compiler is another process.
    """
    contender, times, bound = None, [], -math.inf
    for order in orders:
        begin = np.array([time.process_time(), time.perf_counter()])
        contender = contender or make(seed)
        contender.train(order)
        times.append(np.array([time.process_time(), time.perf_counter()]) - begin)
        bound = bound_of(contender, held_out)
        if bound >= level:
            break
    usual = np.median(times[1:], axis=0) if len(times) > 1 else times[0]
    before = np.maximum(0.0, times[0] - usual)
    seconds = sum(of_processor for of_processor, _ in times) - before[0]
    return {"seconds": seconds, "before": before[1], "steps": len(times) * len(orders[0]), "reached": bound >= level}
