"""Imputation: rows a second and memory in one process, and a table of two million rows on a Dask cluster."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from apart import apart, peak_memory
from problem import survey, untrained
from report import Report, beside_targets, where_time_goes
from scipy import stats

from pyro_mnar import Fit, Table, fit, impute
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.mechanisms import SelfMasking
from pyro_mnar.models import GINA

COLUMNS, PARTITION = 5, 100_000
CHANCE = 1e-3  # of a z as large as the limit, in any of the comparisons, where nothing is wrong


def imputation(rows: int = 100_000, draws: int = 20) -> Report:
    """``impute`` of 20 columns, in a process of its own."""
    measured = apart(imputed, rows, draws)
    seconds, processor = measured.result
    figures = {
        "seconds": seconds,
        "rows a second": rows / seconds,
        "processor seconds": processor,
        "peak MB": measured.peak,
    }
    table = pd.DataFrame({"figure": list(figures), "value": list(figures.values())})
    note = (
        f"{rows:,} rows × 20 columns, three in ten values missing for their own size, {draws} draws by the defaults of"
        " `impute`, after those of `fit`."
    )
    some = min(rows, 20_000)
    return Report(
        beside_targets(table, "value", {"seconds": 60, "peak MB": 2_000}),
        note,
        lambda: where_time_goes(lambda: imputed(some, draws)),
    )


def imputed(rows: int, draws: int) -> tuple[float, float]:
    """Seconds, and processor seconds, of one call; a guide that is far off would have most particles drawn again."""
    table = Table.from_frame(survey(rows, masks_itself=True), auxiliary=[], dtype=torch.float32)
    model = GINA(table, mechanism=SelfMasking, seed=0)
    fitted = fit(model, ZeroImpute(table, model.latent_dim, seed=0), table, progress=False)
    start, processor = time.perf_counter(), time.process_time()
    impute(fitted, table, num_draws=draws)
    return time.perf_counter() - start, time.process_time() - processor


def partitions(rows: int = 2_000_000, fewer: int = 400_000, workers: int = 2, size: int = PARTITION) -> Report:
    """A Parquet table through a Dask cluster, Parquet out: one draw, five particles, five columns.

    All rows are then compared with what one process makes of the same partitions and seed, and with another seed's
    draws over partitions half as large.  Two draws of one law differ by zero on average, in value and in square.
    """
    import dask
    import dask.dataframe as dd

    from pyro_mnar.scale import impute_partitions

    _, fitted = untrained(survey(10_000, COLUMNS))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part, start in enumerate(range(0, rows, size)):
            survey(min(size, rows - start), COLUMNS, seed=part).to_parquet(folder / f"{part:05}.parquet")
        files = sorted(map(str, folder.glob("*.parquet")))
        small = _through_cluster(fitted, files[: fewer // size], folder / "small", workers)
        large = _through_cluster(fitted, files, folder / "large", workers)
        with dask.config.set(scheduler="synchronous"):
            read = dd.read_parquet(files)
            lazy = impute_partitions(fitted, read, num_particles=5)
            written = dd.read_parquet(folder / "large")
            differing = sum(_differing(*pair) for pair in zip(_parts(lazy), _parts(written), strict=True))
            halves = impute_partitions(fitted, _halved(read), num_particles=5, seed=1)
            distance, comparisons = _distance(_parts(written), _parts(halves), _parts(read))
    limit = float(stats.norm.isf(CHANCE / 2 / comparisons))
    figures = {
        "seconds": large["seconds"],
        "rows a second": rows / large["seconds"],
        "peak MB of a worker": large["peak"],
        f"the same, of {fewer:,} rows": small["peak"],
        "ratio of the two": large["peak"] / small["peak"],
        "rows that differ from one process's": differing,
        "rows compared": large["rows"],
        "other partitions and seed: largest z": distance,
    }
    table = pd.DataFrame({"figure": list(figures), "value": [float(value) for value in figures.values()]})
    most = {
        "ratio of the two": 1.1,
        "rows that differ from one process's": 0,
        "other partitions and seed: largest z": limit,
    }
    note = (
        f"{rows:,} rows × {COLUMNS} columns in {len(files)} Parquet files, {workers} workers of one thread, starting"
        f" values, K = 5, one draw; z of {comparisons} comparisons, limit for a false alarm in {1 / CHANCE:,.0f}."
    )
    return Report(beside_targets(table, "value", most), note)


def _through_cluster(fitted: Fit, files: list[str], folder: Path, workers: int) -> dict[str, float]:
    """Complete the files' rows; seconds, rows written and most memory of a worker, MB."""
    import dask.dataframe as dd
    from dask.distributed import Client, LocalCluster

    from pyro_mnar.scale import impute_partitions

    one_thread = {"n_workers": workers, "threads_per_worker": 1, "env": {"OMP_NUM_THREADS": "1"}}
    quiet = {"dashboard_address": None, "silence_logs": logging.CRITICAL}
    with LocalCluster(**one_thread, **quiet) as cluster, Client(cluster) as client:
        start = time.perf_counter()
        impute_partitions(fitted, dd.read_parquet(files), num_particles=5).to_parquet(folder)
        seconds = time.perf_counter() - start
        peak = max(client.run(peak_memory).values())
    return {"seconds": seconds, "rows": len(dd.read_parquet(folder)), "peak": peak}


def _parts(frame: Any) -> Iterator[pd.DataFrame]:
    """Partitions of a Dask frame, one at a time."""
    for part in frame.partitions:
        yield part.compute()


def _halved(frame: Any) -> Any:
    """The same rows in twice as many partitions."""
    import dask.dataframe as dd

    halves = []
    for part in frame.to_delayed():
        halves += [part.iloc[: PARTITION // 2], part.iloc[PARTITION // 2 :]]
    return dd.from_delayed(halves, meta=frame._meta)


def _differing(expected: pd.DataFrame, written: pd.DataFrame) -> int:
    """Rows that are not the same in every bit."""
    return int((expected.to_numpy() != written.to_numpy()).any(1).sum())


def _distance(
    first: Iterator[pd.DataFrame], second: Iterator[pd.DataFrame], gaps: Iterator[pd.DataFrame]
) -> tuple[float, int]:
    """Largest z, whatever its sign, and how many there are: of a column's imputed values, and of their squares, the
    mean difference in standard errors.

    ``second`` has two partitions for each of the others.
    """
    total, squares = np.zeros((2, COLUMNS)), np.zeros((2, COLUMNS))
    for one, with_gaps in zip(first, gaps, strict=True):
        other = pd.concat([next(second), next(second)])
        missing = with_gaps.isna().to_numpy()
        values = [frame[with_gaps.columns].to_numpy(np.float64) for frame in (one, other)]
        for row, power in enumerate((1, 2)):
            difference = np.where(missing, values[0] ** power - values[1] ** power, 0.0)
            total[row] += difference.sum(0)
            squares[row] += (difference**2).sum(0)
    z = total / np.sqrt(squares)
    return float(np.abs(z).max()), z.size
