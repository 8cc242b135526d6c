"""Time of one training step of a wide, mostly empty table, and where it goes.

    python benchmarks/wide.py                                  # 15,400 rows x 1,000 columns, 2 % observed, 2 threads
    python benchmarks/wide.py --threads 1 --cpu-time           # processor time, which other processes disturb less
    python benchmarks/wide.py --columns 1000 2000 4000 --entries 20 --phases   # growth with columns, entries fixed

The shape of Yahoo! R3 and the networks of B.2: GINA with U = R, decoder 20-10-D with tanh, noise variance 0.02, encoder
a sum over the observed entries, log-odds of each R linear in all of x; K = 5, batches of 100, float32.  All ways of
running the step are timed in one process, in turn, for several rounds; "products alone" is the least that any way has
to compute: the decoder's and the mechanism's matrix products and their gradients, one after another.  Phases are those
of the step run by Python.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse
import torch

from pyro_mnar import ImportanceWeightedELBO, Table
from pyro_mnar.baselines.ratings.rating_networks import LATENT_DIM, linear_in_x, tanh_decoder
from pyro_mnar.guides import PointNet
from pyro_mnar.infer.parameters import trainable_parameters
from pyro_mnar.infer.session import Session, threads
from pyro_mnar.models import GINA
from pyro_mnar.training.stepper import Optimisation
from pyro_mnar.training.steps import Steps

PARTICLES, BATCH, RATE = 5, 100, 1e-3
Clock = Callable[[], float]


def table_of(rows: int, columns: int, entries: int, seed: int = 0) -> Table:
    """Ratings from 1 to 5, so many a row on average, in columns that are rated equally often."""
    rng = np.random.default_rng(seed)
    cells = np.unique(rng.integers(0, rows * columns, rows * entries))
    stars = rng.integers(1, 6, len(cells)).astype(np.float64)
    matrix = scipy.sparse.coo_array((stars, np.divmod(cells, columns)), shape=(rows, columns))
    return Table.from_sparse(matrix, auxiliary="mask", units="table", dtype=torch.float32)


class Contender:
    """One way of running the step.

    Args:
        table: What to train on.
        mode: As for ``fit(compile=...)``.
        by_entry: As for :class:`~pyro_mnar.guides.PointNet`.
    """

    def __init__(self, table: Table, mode: str, *, by_entry: bool = True) -> None:
        self.model = GINA(
            table,
            latent_dim=LATENT_DIM,
            decoder=tanh_decoder(table.schema),
            mechanism=linear_in_x,
            mechanism_weight=0.5,
            seed=0,
        ).to(torch.float32)
        self.guide = PointNet(table, LATENT_DIM, by_entry=by_entry, seed=0).to(torch.float32)
        self.session = Session(0)
        self.source = table.source()
        self.objective = ImportanceWeightedELBO(PARTICLES)
        with self.session.running():
            self.objective.loss(self.model, self.guide, self.source.take(torch.arange(8)))
            parameters = trainable_parameters(self.model, self.guide)
        buffers = [buffer for module in (self.model, self.guide) for buffer in module.buffers()]
        rates = torch.full((1_000_000,), RATE, dtype=torch.float64)
        with self.session.running():
            self.steps = Steps(Optimisation(self.loss, parameters, self.source, BATCH, rates, buffers), mode)
        self.parameters = parameters

    def loss(self, batch: Any) -> torch.Tensor:
        """-L / N."""
        return self.objective.differentiable_loss(self.model, self.guide, batch) / batch.size

    def run(self, count: int) -> None:
        """So many steps."""
        with self.session.running():
            order = torch.randint(len(self.source), (count, BATCH), generator=self.session.generator)
            for _ in self.steps.run(order):
                pass
            self.steps.synchronise()


def products_alone(columns: int) -> Callable[[int], None]:
    """The two large products forward and backward: h A (K B x 10 x D) and x W (K B x D x D)."""
    hidden, rows = 10, PARTICLES * BATCH
    h, a = torch.randn(rows, hidden), torch.randn(hidden, columns)
    w, out = torch.randn(columns, columns), torch.randn(rows, columns)

    def run(count: int) -> None:
        for _ in range(count):
            x = h @ a
            _ = x @ w
            of_x = out @ w.T
            _ = x.T @ out
            _ = h.T @ of_x, of_x @ a.T

    return run


def phases(contender: Contender, count: int, clock: Clock) -> pd.Series:
    """Milliseconds of each part of the step run by Python, medians over steps."""
    spent: dict[str, float] = defaultdict(float)

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            start = clock()
            result = function(*arguments, **options)
            spent[name] += clock() - start
            return result

        return run

    model = contender.model
    inner = {"decoder": model.decoder, "mechanism": model.mechanism, "prior": model.prior}
    for name, module in inner.items():
        module.forward = timed(name, module.forward)
    guide = timed("encoder", contender.guide)
    optimiser = torch.optim.Adam(contender.parameters, lr=RATE, fused=True)
    rows = []
    with contender.session.running():
        for _ in range(count):
            spent.clear()
            at = torch.randint(len(contender.source), (BATCH,), generator=contender.session.generator)
            batch = timed("batch", contender.source.take)(at)
            objective = partial(contender.objective.differentiable_loss, model, guide, batch)
            loss = timed("forward", objective)() / batch.size
            optimiser.zero_grad()
            timed("backward", loss.backward)()
            timed("Adam", optimiser.step)()
            spent["draws and weights"] = spent.pop("forward") - sum(spent[name] for name in (*inner, "encoder"))
            rows.append(dict(spent))
    for module in inner.values():
        del module.forward
    return pd.DataFrame(rows).median() * 1e3


def compared(contenders: dict[str, Callable[[int], None]], steps: int, rounds: int, clock: Clock) -> pd.DataFrame:
    """Milliseconds a step: least, median and quartiles over the rounds, the contenders taking turns."""
    for run in contenders.values():
        run(2)
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            start = clock()
            run(steps)
            taken[name].append((clock() - start) / steps * 1e3)
    return pd.DataFrame(taken).describe().loc[["min", "25%", "50%", "75%"]].T


def main() -> None:
    """Print the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=15_400)
    parser.add_argument("--columns", type=int, nargs="+", default=[1_000])
    parser.add_argument("--entries", type=int, default=20, help="a row, on average")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--phases", action="store_true", help="only where the step run by Python spends its time")
    arguments = parser.parse_args()
    clock: Clock = time.process_time if arguments.cpu_time else time.perf_counter
    with threads(arguments.threads):
        by_columns = {}
        for columns in arguments.columns:
            table = table_of(arguments.rows, columns, arguments.entries)
            eager = Contender(table, "eager")
            by_columns[columns] = phases(eager, arguments.steps * arguments.rounds, clock)
            if not arguments.phases:
                contenders = {
                    "products alone": products_alone(columns),
                    "eager": eager.run,
                    "graph": Contender(table, "graph", by_entry=False).run,
                    "inductor": Contender(table, "inductor", by_entry=False).run,
                }
                times = compared(contenders, arguments.steps, arguments.rounds, clock)
                print(f"{columns} columns, {arguments.threads} threads, milliseconds a step\n{times.round(1)}\n")
    table = pd.DataFrame(by_columns).rename_axis(columns="columns")
    table.loc["sum"] = table.sum()
    print(f"parts of a step run by Python, milliseconds\n{table.round(1)}")


if __name__ == "__main__":
    main()
