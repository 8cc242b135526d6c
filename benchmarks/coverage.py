"""How often pooled 95 % intervals hold the truth under a correct model, with and without the parameters' uncertainty.

    x = 1 + 0.8 u + e,   e ~ N(0, 0.8²),   log-odds of being observed: 1.8 - x    (logistic self-masking, 31 % missing)

of 500 rows with u always seen: the mean of x, its slope on u, and the share of x above 1.5.  The model is the true one,
and its missing values are summed out, so that its bound is the evidence and what is judged are the intervals alone:
with 20 draws from bootstrap fits, and with 20 from the point fit.

A table holds 50 replications side by side, pairs (u, x) that have nothing to do with each other but the weights of the
bootstrap, so that one fit serves them all.

    python benchmarks/coverage.py --tables 20

writes results/coverage/runs.csv (tables that stand there are not run again) and prints the summary.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from scipy import stats
from torch import Tensor

from pyro_mnar import OwnValueMechanism, Table, fit, impute, observe_mask, partially_observed, rows

RUNS = Path(__file__).parent / "results" / "coverage" / "runs.csv"
ROWS, COLUMNS, DRAWS, EPOCHS, ABOVE = 500, 50, 20, 150, 1.5
TRUTH = {"mean": 1.0, "slope": 0.8, "share above": stats.norm.sf(ABOVE, 1.0, (0.8**2 + 0.8**2) ** 0.5)}


class SelfMaskedRegressions(PyroModule):
    """x_d ~ N(a_d + b_d u_d, s_d²), log-odds of being observed c_d + d_d x_d; all standardised."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.level, self.slope, self.log_scale, self.intercept, self.change = (
            torch.nn.Parameter(torch.zeros(columns)) for _ in range(5)
        )

    def forward(self, batch):
        with rows(batch):
            mean = self.level + self.slope * batch.aux
            own = OwnValueMechanism(self.log_odds, slope=self.change)
            x = partially_observed("x", dist.Normal(mean, self.log_scale.exp()), batch, mechanism=own)
            observe_mask("r", self.log_odds(x), batch)

    def log_odds(self, x: Tensor) -> Tensor:
        """Log-odds of being observed."""
        return self.intercept + self.change * x


def no_guide(batch):
    """Nothing is proposed but by the model."""


def sample(seed: int, rows: int = ROWS, columns: int = COLUMNS) -> pd.DataFrame:
    """Columns u0, u1, ... and x0, x1, ... of independent replications."""
    random = np.random.default_rng([seed, 20])
    u = random.normal(size=(rows, columns))
    x = 1 + 0.8 * u + 0.8 * random.normal(size=u.shape)
    seen = random.random(u.shape) < 1 / (1 + np.exp(x - 1.8))
    pairs = {"u": u, "x": np.where(seen, x, np.nan)}
    return pd.DataFrame({f"{name}{d}": values[:, d] for name, values in pairs.items() for d in range(columns)})


def estimates(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The three of every replication, and their standard errors in a complete table; ``(3 replications,)``."""
    columns = len(frame.columns) // 2
    u, x = frame.to_numpy()[:, :columns], frame.to_numpy()[:, columns:]
    above = (x > ABOVE).mean(axis=0)
    slopes = [stats.linregress(u[:, d], x[:, d]) for d in range(columns)]
    found = [x.mean(axis=0), [slope.slope for slope in slopes], above]
    errors = [stats.sem(x), [slope.stderr for slope in slopes], (above * (1 - above) / len(x)) ** 0.5]
    return np.concatenate(found), np.concatenate(errors)


def replications(
    seed: int, columns: int = COLUMNS, rows: int = ROWS, draws: int = DRAWS, epochs: int = EPOCHS
) -> pd.DataFrame:
    """What the replications of one table come to: a row a way of drawing and estimand."""
    frame = sample(seed, rows, columns)
    table = Table.from_frame(frame, auxiliary=[f"u{d}" for d in range(columns)])
    result = fit(
        SelfMaskedRegressions(columns),
        no_guide,
        table,
        epochs=epochs,
        learning_rate=0.05,
        batch_size=rows,
        num_particles=1,
        bootstrap=draws,
        seed=seed,
        progress=False,
    )
    found = []
    for way, source in (("bootstrap fits", result), ("point fit", result.without_bootstrap())):
        pooled = impute(source, table, num_draws=draws, num_particles=1, seed=seed).pool(estimates, dfcom=rows - 2)
        for at, (estimand, truth) in enumerate(TRUTH.items()):
            own = slice(at * columns, (at + 1) * columns)
            lower, upper = pooled.interval[own].T
            found.append(
                {
                    "table": seed,
                    "draws from": way,
                    "estimand": estimand,
                    "replications": columns,
                    "covered": int(((lower <= truth) & (truth <= upper)).sum()),
                    "mean estimate": pooled.estimates[own].mean(),
                    "variance of estimates": pooled.estimates[own].var(ddof=1),
                    "mean standard error": pooled.standard_errors[own].mean(),
                }
            )
    return pd.DataFrame(found)


def summary(runs: pd.DataFrame) -> pd.DataFrame:
    """Over all tables: coverage and its standard error, bias and spread of the estimates, their mean standard error."""
    groups = runs.groupby(["draws from", "estimand"], sort=False)
    count = groups["replications"].sum()
    coverage = groups["covered"].sum() / count
    return pd.DataFrame(
        {
            "replications": count,
            "coverage": coverage,
            "error": (coverage * (1 - coverage) / count) ** 0.5,
            "bias": groups["mean estimate"].mean() - [TRUTH[estimand] for _, estimand in coverage.index],
            "spread": groups["variance of estimates"].mean() ** 0.5,
            "mean_standard_error": groups["mean standard error"].mean(),
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tables", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    done = set(pd.read_csv(RUNS).table) if RUNS.exists() else set()
    RUNS.parent.mkdir(parents=True, exist_ok=True)
    for seed in range(options.tables):
        if seed not in done:
            replications(seed).to_csv(RUNS, mode="a", header=not RUNS.exists(), index=False, float_format="%.6g")
    print(summary(pd.read_csv(RUNS)).round(4).to_string())


if __name__ == "__main__":
    main()
