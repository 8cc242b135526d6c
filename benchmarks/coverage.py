"""How often pooled 95 % intervals hold the truth under a correct model, with and without the parameters' uncertainty.

    x = 1 + 0.8 u + e,   e ~ N(0, 0.8²),   log-odds of being observed: 1.8 - x    (logistic self-masking, 31 % missing)

of 500 rows with u always seen: the mean of x, its slope on u, and the share of x above 1.5.  The model is the true one,
and its missing values are summed out, so that its bound is the evidence and what is judged are the intervals alone:
with 20 draws from bootstrap fits, and with 20 from the point fit.

    python benchmarks/coverage.py --replications 1000

appends to results/coverage/runs.csv (replications that stand there are not run again) and prints the table.
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
ROWS, DRAWS, EPOCHS, ABOVE = 500, 20, 150, 1.5
TRUTH = {"mean": 1.0, "slope": 0.8, "share above": stats.norm.sf(ABOVE, 1.0, (0.8**2 + 0.8**2) ** 0.5)}


class SelfMaskedRegression(PyroModule):
    """x ~ N(a + b u, s²), log-odds of being observed c + d x; all standardised."""

    def __init__(self) -> None:
        super().__init__()
        self.level, self.slope, self.log_scale, self.intercept, self.change = (
            torch.nn.Parameter(torch.zeros(1)) for _ in range(5)
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


def sample(seed: int, rows: int = ROWS) -> pd.DataFrame:
    random = np.random.default_rng([seed, 20])
    u = random.normal(size=rows)
    x = 1 + 0.8 * u + 0.8 * random.normal(size=rows)
    return pd.DataFrame({"u": u, "x": np.where(random.random(rows) < 1 / (1 + np.exp(x - 1.8)), x, np.nan)})


def estimates(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The three, and their standard errors in a complete table."""
    above = (frame.x > ABOVE).mean()
    slope = stats.linregress(frame.u, frame.x)
    return (
        np.array([frame.x.mean(), slope.slope, above]),
        np.array([frame.x.sem(), slope.stderr, (above * (1 - above) / len(frame)) ** 0.5]),
    )


def replication(seed: int, rows: int = ROWS, draws: int = DRAWS, epochs: int = EPOCHS) -> pd.DataFrame:
    """One row an estimand and way of drawing."""
    table = Table.from_frame(sample(seed, rows), auxiliary=["u"])
    result = fit(
        SelfMaskedRegression(),
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
            lower, upper = pooled.interval[at]
            found.append(
                {
                    "replication": seed,
                    "estimand": estimand,
                    "draws from": way,
                    "estimate": pooled.estimates[at],
                    "standard_error": pooled.standard_errors[at],
                    "lower": lower,
                    "upper": upper,
                    "covers": bool(lower <= truth <= upper),
                }
            )
    return pd.DataFrame(found)


def summary(runs: pd.DataFrame) -> pd.DataFrame:
    """Coverage with its standard error, the spread of the estimates, and their mean standard error."""
    groups = runs.groupby(["draws from", "estimand"], sort=False)
    coverage, count = groups.covers.mean(), groups.covers.size()
    return pd.DataFrame(
        {
            "replications": count,
            "coverage": coverage,
            "error": (coverage * (1 - coverage) / count) ** 0.5,
            "bias": groups.estimate.mean() - [TRUTH[estimand] for _, estimand in coverage.index],
            "spread": groups.estimate.std(),
            "mean_standard_error": groups.standard_error.mean(),
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--replications", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="seed to begin with, to share the work among processes")
    parser.add_argument("--out", type=Path, default=RUNS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    out = options.out
    done = set(pd.read_csv(out).replication) if out.exists() else set()
    out.parent.mkdir(parents=True, exist_ok=True)
    for seed in range(options.first, options.first + options.replications):
        if seed not in done:
            replication(seed).to_csv(out, mode="a", header=not out.exists(), index=False, float_format="%.6g")
    print(summary(pd.read_csv(out)).round(4).to_string())


if __name__ == "__main__":
    main()
