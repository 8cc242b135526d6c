"""Speed and memory, each figure a ratio or a growth measured side by side in one run: `make bench`.

    make bench                              # every section; results/speed/*.csv, one file a section
    make bench ARGS="imputation growth"     # some sections
    make bench ARGS="partitions --rows 2000000"

A runner of its own and not pytest-benchmark, which times one function after another: here the contenders of a ratio
take turns within each round, so that what else the machine does meets all of them.  Figures are medians over rounds.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer
from steps import Problem, contenders, measure, ratios

from pyro_mnar import Fit, Table, fit, impute
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.models import GINA

RESULTS = Path(__file__).parent / "results" / "speed"
GROWTH = {
    "rows": [1_000, 10_000, 100_000, 1_000_000],
    "columns": [10, 100, 1_000, 5_000],
    "particles": [1, 5, 50, 500],
}


def survey(num_rows: int, columns: int = 20, seed: int = 0) -> pd.DataFrame:
    """Five factors; three in ten values missing by chance, since time does not depend on why."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(num_rows, 5)) @ random.normal(size=(5, columns)) + random.normal(size=(num_rows, columns))
    x[random.random((num_rows, columns)) < 0.3] = np.nan
    return pd.DataFrame(x.astype(np.float32), columns=[f"x{d}" for d in range(columns)])


def untrained(frame: pd.DataFrame) -> tuple[Table, Fit]:
    """A fit of starting values: what an imputation costs does not depend on training."""
    table = Table.from_frame(frame, auxiliary=[], dtype=torch.float32)
    model = GINA(table, seed=0)
    return table, Fit(model, ZeroImpute(table, model.latent_dim, seed=0), table.schema)


def steps(options: argparse.Namespace) -> pd.DataFrame:
    """One training step: captured and compiled over every other way."""
    return ratios(measure(contenders(Problem.of()), options.rounds)).reset_index(names="contender")


def imputation(options: argparse.Namespace) -> pd.DataFrame:
    """100 particles, 20 draws of 20 columns; memory is the process's peak, so run this section alone to read it."""
    table, fitted = untrained(survey(options.rows))
    start, processor = time.perf_counter(), time.process_time()
    impute(fitted, table, num_draws=20, num_particles=100)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    row = {"rows": options.rows, "seconds": seconds, "rows a second": options.rows / seconds, "peak MB": peak}
    return pd.DataFrame([{**row, "processor seconds": time.process_time() - processor}])


def growth(options: argparse.Namespace) -> pd.DataFrame:
    """Seconds of a training epoch over rows, columns and K, with the exponent fitted to the upper half of the curve."""
    rows = []
    for axis, sizes in GROWTH.items():
        seconds = [_epoch(axis, size) for size in sizes]
        slope = np.polyfit(np.log(sizes[len(sizes) // 2 - 1 :]), np.log(seconds[len(sizes) // 2 - 1 :]), 1)[0]
        rows += [
            {"over": axis, "size": n, "seconds": s, "exponent": slope} for n, s in zip(sizes, seconds, strict=True)
        ]
        plt.loglog(sizes, seconds, "o-", label=f"{axis}, exponent {slope:.2f}")
    plt.xlabel("size")
    plt.ylabel("seconds an epoch")
    plt.legend()
    plt.savefig(RESULTS / "growth.png", dpi=120)
    return pd.DataFrame(rows)


def _epoch(axis: str, size: int) -> float:
    sizes = {"rows": 2_000, "columns": 10, "particles": 5, axis: size}
    table = Table.from_frame(survey(sizes["rows"], sizes["columns"]), auxiliary=[], dtype=torch.float32)
    model = GINA(table, latent_dim=5, seed=0)
    guide = ZeroImpute(table, 5, seed=0)
    result = fit(
        model,
        guide,
        table,
        epochs=3,
        batch_size=1_000,
        num_particles=sizes["particles"],
        compile="eager",
        progress=False,
    )
    return float(result.history["seconds"].median())


def peers(options: argparse.Namespace) -> pd.DataFrame:
    """One table completed: training with the defaults and imputation, over scikit-learn's IterativeImputer."""
    frame = survey(2_000)
    rows = []
    for number in range(3):
        start = time.perf_counter()
        IterativeImputer(random_state=number).fit_transform(frame)
        between = time.perf_counter()
        table, fitted = untrained(frame)
        impute(fit(fitted.model, fitted.guide, table, seed=number, progress=False), table)
        rows.append({"IterativeImputer": between - start, "pyro-mnar": time.perf_counter() - between})
    table = pd.DataFrame(rows)
    return (
        table.assign(ratio=table["pyro-mnar"] / table["IterativeImputer"])
        .median()
        .to_frame("median of 3")
        .reset_index()
    )


def partitions(options: argparse.Namespace) -> pd.DataFrame:
    """A Parquet table through a Dask cluster of two workers, Parquet out; five particles, one draw, five columns."""
    import dask.dataframe as dd
    from dask.distributed import Client, LocalCluster

    from pyro_mnar.scale import impute_partitions

    _, fitted = untrained(survey(10_000, 5))
    with tempfile.TemporaryDirectory() as folder:
        for part, start in enumerate(range(0, options.rows, 100_000)):
            rows = min(100_000, options.rows - start)
            survey(rows, 5, seed=part).to_parquet(f"{folder}/{part:05}.parquet")
        with (
            LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
            Client(cluster) as client,
        ):
            start = time.perf_counter()
            lazy = impute_partitions(fitted, dd.read_parquet(folder), num_particles=5)
            lazy.to_parquet(f"{folder}/completed")
            seconds = time.perf_counter() - start
            peaks = client.run(lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        written = len(dd.read_parquet(f"{folder}/completed"))
    return pd.DataFrame([{"rows": written, "seconds": seconds, "peak MB of a worker": max(peaks.values())}])


SECTIONS: dict[str, Callable[[argparse.Namespace], pd.DataFrame]] = {
    "steps": steps,
    "imputation": imputation,
    "growth": growth,
    "peers": peers,
    "partitions": partitions,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", default=[], help=f"of {', '.join(SECTIONS)}; all by default")
    parser.add_argument("--rows", type=int, default=100_000, help="of the sections imputation and partitions")
    parser.add_argument("--rounds", type=int, default=9, help="of ratios")
    options = parser.parse_args()
    unknown = sorted(set(options.sections) - set(SECTIONS))
    if unknown:
        parser.error(f"section {unknown[0]!r}: expected one of {list(SECTIONS)}")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in options.sections or SECTIONS:
        table = SECTIONS[name](options)
        table.to_csv(RESULTS / f"{name}.csv", index=False)
        print(f"{name}\n{table.round(3).to_string(index=False)}\n", flush=True)


if __name__ == "__main__":
    main()
