"""How time and memory grow with rows, columns and K: training of each size in a process of its own.

The exponent is the slope of log seconds, or of log MB, over log size.  It is fitted to the last three sizes of a curve:
below them, what does not depend on the size weighs as much as the rest and would lower it.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from apart import apart, peak_memory
from problem import survey, untrained
from report import Report, where_time_goes

from pyro_mnar import fit

SIZES = {
    "rows": (1_000, 10_000, 100_000, 300_000, 1_000_000),
    "columns": (10, 100, 1_000, 2_000, 5_000),
    "K": (1, 5, 50, 150, 500),
}
# What stays as it is along an axis: few columns under many rows, few rows beside many columns.
OTHERS = {
    "rows": {"columns": 10, "K": 5, "batch": 1_000},
    "columns": {"rows": 1_000, "K": 5, "batch": 100},
    "K": {"rows": 1_000, "columns": 10, "batch": 100},
}
LATENT_DIM = 5
LARGEST = 3  # so many sizes of a curve show its exponent
LINEAR = 1.05
PAGE = 2**-8  # MB; less memory than a page is none, which has no logarithm
SECONDS, MEMORY = "seconds an epoch", "peak MB"


def trained_apart(axis: str, size: int, epochs: int) -> tuple[float, float]:
    """As :func:`trained`, in a process of its own, which need not import everything again where it can be forked."""
    start = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    return apart(trained, axis, size, epochs, start=start).result


def growth(
    folder: Path,
    sizes: Mapping[str, Sequence[int]] = SIZES,
    epochs: int = 3,
    point: Callable[[str, int, int], tuple[float, float]] = trained_apart,
) -> Report:
    """The curves; their plot goes into the folder as ``growth.png``."""
    points = []
    for axis, values in sizes.items():
        for size in values:
            seconds, memory = point(axis, size, epochs)
            points.append({"over": axis, "size": size, SECONDS: seconds, MEMORY: memory})
    table = pd.DataFrame(points)
    table[["time exponent", "memory exponent", "target", "met"]] = [np.nan, np.nan, "", ""]
    for axis in sizes:
        curve = table[table["over"] == axis]
        exponents = [exponent(curve["size"], curve[name]) for name in (SECONDS, MEMORY)]
        table.loc[curve.index[-1], ["time exponent", "memory exponent"]] = exponents
        if axis == "rows":
            table.loc[curve.index[-1], ["target", "met"]] = [f"≤ {LINEAR}", "yes" if max(exponents) <= LINEAR else "no"]
    _plot(table, folder / "growth.png")
    note = (
        f"GINA and a zero-imputing guide, H = {LATENT_DIM}, compile='eager'; median of {epochs} epochs; memory with the"
        " table's own, beyond what the process held after training on 100 rows. Rows are measured at 10 columns, K = 5"
        " and minibatches of 1,000; columns at 1,000 rows, K = 5 and minibatches of 100; K at 1,000 rows × 10 columns"
        f" and minibatches of 100. Exponents are of the {LARGEST} largest sizes."
    )
    few = min(100_000, max(sizes["rows"]))
    return Report(table, note, lambda: where_time_goes(lambda: trained("rows", few, 1)))


def trained(axis: str, size: int, epochs: int) -> tuple[float, float]:
    """Median seconds of an epoch, and the MB that making the table and training took."""
    chosen = {**OTHERS[axis], axis: size}
    _fit(100, 10, 1, 100, 1)  # what the first training loads is not the table's
    before = peak_memory()
    seconds = _fit(chosen["rows"], chosen["columns"], chosen["K"], chosen["batch"], epochs)
    return float(np.median(seconds)), max(peak_memory() - before, PAGE)


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Slope of log values over log sizes, by least squares over the largest sizes."""
    return float(np.polyfit(np.log(sizes[-LARGEST:]), np.log(values[-LARGEST:]), 1)[0])


def _fit(rows: int, columns: int, particles: int, batch_size: int, epochs: int) -> pd.Series:
    table, start = untrained(survey(rows, columns), LATENT_DIM)
    options = {"num_particles": particles, "batch_size": batch_size, "epochs": epochs}
    return fit(start.model, start.guide, table, compile="eager", progress=False, **options).history["seconds"]


def _plot(table: pd.DataFrame, path: Path) -> None:
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    exponents = {SECONDS: "time exponent", MEMORY: "memory exponent"}
    for panel, (quantity, slope) in zip(panels, exponents.items(), strict=True):
        for axis, curve in table.groupby("over", sort=False):
            panel.loglog(curve["size"], curve[quantity], "o-", label=f"{axis}, exponent {curve[slope].iloc[-1]:.2f}")
        panel.set(xlabel="size", ylabel=quantity)
        panel.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)
