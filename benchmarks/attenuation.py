"""Are slopes of self-masking pulled towards zero? Many small tables, the default fit against exact maximum likelihood.

    python benchmarks/attenuation.py --tables 100 --steps 3000 300

Each table has 300 rows of u ~ N(0, 1) and y = 1 + 0.6 u + e, of which a third is missing with log-odds of being
observed 2 - 1.2 y.  Under y | u ~ N(a + b u, s²) the exact likelihood of (y, r) is an integral over one dimension.

The fits are those of `fit` at its defaults (start from the data, K = 5, three minibatches a pass, Adam at 0.02 for
3,000 steps and 0.00034 for 300) but for what lets all be one computation: the tables stand below each other,
standardised together, and each member starts from, and takes its minibatches from, its own.  `--start random` starts
at random, `--drawn` draws the missing values instead of summing them out.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_expit, logsumexp
from torch import Tensor

from pyro_mnar import Fit, ImportanceWeightedELBO, Table
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.infer.session import Session
from pyro_mnar.mechanisms import SelfMasking
from pyro_mnar.models import GINA
from pyro_mnar.tables.batch import shuffled
from pyro_mnar.training.data_start import begin
from pyro_mnar.training.run import TrainingRun
from pyro_mnar.training.schedule import default_rate
from pyro_mnar.training.vectorised import VectorisedTrainer

ROWS, SLOPE = 300, -1.2
RESULTS = Path(__file__).parent / "results" / "attenuation.csv"
POINTS, WEIGHTS = np.polynomial.hermite_e.hermegauss(60)


class OwnRows(TrainingRun):
    """A run whose minibatches come from some rows of the table."""

    first = 0

    def shuffled(self) -> Tensor:
        """Rows of the minibatches of the next pass."""
        return self.first + shuffled(ROWS, self.batch_size, self.session.generator)


def tables(count: int) -> pd.DataFrame:
    """All tables, one below the other."""
    random = np.random.default_rng(2021)
    u = random.normal(size=count * ROWS)
    y = 1 + 0.6 * u + random.normal(size=len(u))
    seen = random.random(len(u)) < 1 / (1 + np.exp(-(2.0 + SLOPE * y)))
    return pd.DataFrame({"u": u, "y": np.where(seen, y, np.nan)})


def maximum_likelihood(frame: pd.DataFrame) -> float:
    """The slope of log p(r = 1 | y), all parameters estimated together."""
    u, y = frame["u"].to_numpy(), frame["y"].to_numpy()
    seen = ~np.isnan(y)

    def loss(theta: NDArray[np.float64]) -> float:
        a, b, log_s, c, d = theta
        mean, s = a + b * u, np.exp(log_s)
        log_seen = -0.5 * ((y - mean) / s)[seen] ** 2 - log_s + log_expit(c + d * y[seen])
        values = mean[~seen, None] + s * POINTS
        log_missing = logsumexp(log_expit(-(c + d * values)), axis=1, b=WEIGHTS / WEIGHTS.sum())
        return -(log_seen.sum() + log_missing.sum()) / len(u)

    start = np.array([np.nanmean(y), 0.5, np.log(np.nanstd(y)), 1.0, -0.5])
    return float(minimize(loss, start, method="BFGS").x[-1])


def fitted_slopes(frame: pd.DataFrame, steps: int, *, drawn: bool, at_random: bool) -> NDArray[np.float64]:
    """The slopes that GINA finds in each table, per unit of y."""
    table, count = Table.from_frame(frame), len(frame) // ROWS
    objective, source, runs = ImportanceWeightedELBO(num_particles=5), table.source(), []
    for member in range(count):
        model = GINA(table, mechanism=SelfMasking, numbers="sampled" if drawn else "closed-form", seed=member)
        guide = ZeroImpute(table, model.latent_dim, seed=member)
        own = table.take(np.arange(member * ROWS, (member + 1) * ROWS))
        is_near = begin(model, guide, own, torch.device("cpu"), "random" if at_random else None)
        rate = default_rate(steps, is_near=is_near)
        fit = Fit(model, guide, table.schema)
        run = OwnRows(
            fit, objective, source, None, Session(member), learning_rate=rate, num_steps=steps, batch_size=ROWS // 3
        )
        run.first = member * ROWS
        runs.append(run)
    trainer = VectorisedTrainer(runs, "graph")
    for _ in range(steps // len(runs[0].shuffled())):
        trainer.epoch()
    trainer.finish()
    column = table.schema.columns[1]
    return np.array([run.fit.model.mechanism.slope[1].item() / column.std for run in runs])


def main() -> None:
    """Print one line a length of training, and write them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=100)
    parser.add_argument("--steps", type=int, nargs="+", default=[3000, 300])
    parser.add_argument("--start", choices=["data", "random"], default="data")
    parser.add_argument("--drawn", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    frame = tables(options.tables)
    exact = np.array([maximum_likelihood(part) for _, part in frame.groupby(np.arange(len(frame)) // ROWS)])
    lines = []
    for steps in options.steps:
        start = time.perf_counter()
        found = fitted_slopes(frame, steps, drawn=options.drawn, at_random=options.start == "random")
        seconds, difference = time.perf_counter() - start, found - exact
        lines.append(
            {
                "missing values": "drawn" if options.drawn else "summed out",
                "start": options.start,
                "steps": steps,
                "tables": options.tables,
                "slope": found.mean(),
                "maximum likelihood": exact.mean(),
                "ratio": found.mean() / exact.mean(),
                "standard error": difference.std(ddof=1) / len(exact) ** 0.5 / abs(exact.mean()),
                "seconds": seconds,
            }
        )
        print(pd.DataFrame(lines[-1:]).to_string(index=False), flush=True)
    before = pd.read_csv(options.out) if options.out.exists() else pd.DataFrame()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    pd.concat([before, pd.DataFrame(lines)]).to_csv(options.out, index=False, float_format="%.4g")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
