"""Pooled results under several scenarios, and what a model generates against the truth."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from pyro_mnar.figures import axes_or_new
from pyro_mnar.imputation import Pooled
from pyro_mnar.messages import check_is, names_of, shown
from pyro_mnar.plots.axes import QUIET, SEEN
from pyro_mnar.scenarios import Sensitivity
from pyro_mnar.scenarios.pooled_scenarios import Scenario

GRID, MOST_POINTS = 80, 2000
LEVELS = (0.05, 0.2, 0.4, 0.6, 0.8)  # of the greatest density


def forest(results: Sensitivity | Mapping[str, Pooled], coefficient: Hashable | None = None, ax: Any = None) -> Any:
    """Estimates and intervals of one coefficient, a line a scenario.

    Args:
        results: Of :func:`pyro_mnar.sensitivity`, or pooled analyses by name.
        coefficient: Which; by default the only one.
        ax: Axes to draw on; by default a figure of its own.

    Raises:
        ValueError: If there are several coefficients and none is named, or there are no results.
    """
    if not isinstance(results, Sensitivity):
        check_is("results", results, Mapping, ", from names to pooled analyses, or a Sensitivity")
        for pooled in results.values():
            check_is("results", pooled, Pooled)
        if not results:
            raise ValueError("results: expected at least one pooled analysis, got none")
        named = [Scenario(name, "", pooled, math.nan, math.nan) for name, pooled in results.items()]
        results = Sensitivity(tuple(named))
    return results.plot(coefficient, ax=ax)


def contours(generated: pd.DataFrame, truth: pd.DataFrame, columns: tuple[Hashable, Hashable], ax: Any = None) -> Any:
    """Rows that a model generates over contours of the true density of two columns, as in Figure 3 of the paper.

    Args:
        generated: Of :func:`~pyro_mnar.imputation.generation.generate`.
        truth: Complete rows, such as a simulation's.
        columns: Two columns of numbers.
        ax: Axes to draw on; by default a figure of its own.

    Raises:
        ValueError: If a column is not there.
    """
    if len(list(names_of("columns", columns))) != 2:
        raise ValueError(f"columns: expected two, got {shown(columns)}")
    for frame, what in ((generated, "generated"), (truth, "truth")):
        check_is(what, frame, pd.DataFrame)
        if absent := [name for name in columns if name not in frame]:
            raise ValueError(f"{what}: expected the column {absent[0]!r}, got {list(frame)!r}")
    from scipy.stats import gaussian_kde

    points, true = (frame[list(columns)].dropna().to_numpy(dtype=float) for frame in (generated, truth))
    low, high = np.quantile(true, [0.001, 0.999], axis=0)
    low, high = low - 0.15 * (high - low), high + 0.15 * (high - low)
    axes = [np.linspace(start, end, GRID) for start, end in zip(low, high, strict=True)]
    mesh = np.meshgrid(*axes)
    density = gaussian_kde(true.T)(np.stack([m.ravel() for m in mesh])).reshape(GRID, GRID)
    ax = axes_or_new(ax, (4.4, 4.0))
    chosen = np.random.default_rng(0).permutation(len(points))[:MOST_POINTS]
    ax.scatter(*points[chosen].T, s=4, color=SEEN, alpha=0.5, linewidths=0, label="generated")
    ax.contour(*axes, density, levels=density.max() * np.array(LEVELS), colors=QUIET, linewidths=1.1)
    ax.plot([], [], color=QUIET, linewidth=1.1, label="true density")
    ax.set(xlim=axes[0][[0, -1]], ylim=axes[1][[0, -1]], xlabel=str(columns[0]), ylabel=str(columns[1]))
    ax.set_title("Generated rows and the truth")
    ax.legend(frameon=False, loc="upper right")
    return ax
