"""Single cells: their draws side by side, means along the draws, and intervals where the truth is known."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd

from pyro_mnar.figures import axes_or_new
from pyro_mnar.imputation import Imputations
from pyro_mnar.messages import check_is, share_of
from pyro_mnar.plots.axes import IMPUTED, QUIET, SEEN, cells_of, seen_of, values_of

MOST_CELLS = 40
SEED = 0  # of which cells are shown, and of where points stand within a column of the strip


def draws_strip(imputations: Imputations, column: Hashable, ax: Any = None) -> Any:
    """Observed values, then the values of each draw: whether draws differ from each other more than by chance.

    Args:
        imputations: Of whole tables.
        column: A column with gaps; of words, their levels' positions.
        ax: Axes to draw on; by default a figure of its own.

    Raises:
        ValueError: If the column has no imputed cell.
    """
    position, here = cells_of(imputations, column)
    random = np.random.default_rng(SEED)
    ax = axes_or_new(ax, (6.4, 3.2))
    parts = [seen_of(imputations, position), *map(values_of, imputations.draws[:, here])]
    for at, values in enumerate(parts):
        shown = values if len(values) <= 400 else random.choice(values, 400, replace=False)
        colour = SEEN if at == 0 else IMPUTED
        ax.scatter(at + random.uniform(-0.3, 0.3, len(shown)), shown, s=5, color=colour, alpha=0.5, linewidths=0)
    if not imputations.table.schema.columns[position].kind.holds_words:
        means = [values.mean() for values in parts]
        ink = ax.xaxis.label.get_color()
        ax.plot(range(1, len(parts)), means[1:], "_", color=ink, markersize=11, markeredgewidth=2, label="mean")
        ax.axhline(means[0], color=SEEN, linewidth=0.8, linestyle=":")
        ax.legend(frameon=False, loc="upper right")
    else:
        levels = imputations.table.schema.columns[position].kind.levels
        ax.set_yticks(range(len(levels)), list(map(str, levels)))
    step = max(1, (len(parts) - 1) // 10)
    ticks = [0, *range(step, len(parts), step)]
    ax.set_xticks(ticks, ["seen", *map(str, ticks[1:])])
    ax.set(xlabel="draw", ylabel=str(column), title=f"{column}: observed, and {imputations.num_draws} draws")
    return ax


def draws_trace(imputations: Imputations, column: Hashable, ax: Any = None) -> Any:
    """Mean of a column's imputed values over the draws made so far, with its Monte Carlo error: do more draws change
    it?

    Args:
        imputations: Of whole tables, at least two draws.
        column: A column of numbers with gaps.
        ax: Axes to draw on; by default a figure of its own.

    Raises:
        ValueError: If the column has no imputed cell, holds words, or there is one draw alone.
    """
    position, here = cells_of(imputations, column)
    if imputations.table.schema.columns[position].kind.holds_words:
        raise ValueError(f"column {column!r}: expected numbers, got words, whose mean means nothing")
    if imputations.num_draws < 2:
        raise ValueError(f"imputations: expected at least 2 draws, got {imputations.num_draws}")
    means = np.array([values_of(draw).mean() for draw in imputations.draws[:, here]])
    number = np.arange(1, len(means) + 1)
    running = means.cumsum() / number
    error = means.std(ddof=1) / np.sqrt(number)
    ax = axes_or_new(ax, (5.0, 3.2))
    ax.fill_between(
        number,
        running - 2 * error,
        running + 2 * error,
        color=IMPUTED,
        alpha=0.25,
        linewidth=0,
        label="± 2 Monte Carlo errors",
    )
    ax.plot(number, running, color=IMPUTED, label="mean so far")
    ax.plot(number, means, color=QUIET, marker=".", linewidth=0, label="of each draw")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(xlabel="draws", ylabel=f"mean of imputed {column}", title=f"{column}: mean along the draws")
    ax.legend(frameon=False)
    return ax


def intervals_against_truth(
    imputations: Imputations, truth: pd.DataFrame, column: Hashable, *, confidence: float = 0.9, ax: Any = None
) -> Any:
    """Intervals of single cells where the truth is known, as after a simulation; those that miss it stand out.

    Args:
        imputations: Of whole tables.
        truth: The complete frame, on the table's index.
        column: A column of numbers with gaps.
        confidence: Of the intervals, between quantiles of the draws.
        ax: Axes to draw on; by default a figure of its own.

    Raises:
        ValueError: If the column has no imputed cell or holds words, or the truth has other rows.
    """
    position, here = cells_of(imputations, column)
    confidence = share_of("confidence", confidence)
    check_is("truth", truth, pd.DataFrame)
    its = imputations.table.schema.columns[position]
    if its.kind.holds_words:
        raise ValueError(f"column {column!r}: expected numbers, got words")
    if len(truth) != len(imputations.table):
        raise ValueError(f"truth: expected {len(imputations.table)} rows, as in the table, got {len(truth)}")
    true = its.read(truth[column])[imputations.cells[0][here]]
    draws = imputations.draws[:, here]
    low, high = np.nanquantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    holds = (low <= true) & (true <= high)
    chosen = np.random.default_rng(SEED).permutation(len(true))[:MOST_CELLS]
    chosen = chosen[np.argsort(true[chosen])]
    ax = axes_or_new(ax, (6.4, 3.2))
    at = np.arange(len(chosen))
    for hit, colour in ((True, IMPUTED), (False, "#c03a2b")):
        which = holds[chosen] == hit
        label = "holds the truth" if hit else "misses it"
        ax.vlines(at[which], low[chosen][which], high[chosen][which], color=colour, linewidth=2.5, label=label)
    ax.plot(at, true[chosen], color=SEEN, marker=".", linewidth=0, label="truth")
    ax.set_xticks([])
    ax.set(xlabel=f"{len(chosen)} of {len(true):,} missing cells, by their truth", ylabel=str(column))
    ax.set_title(f"{column}: {holds.mean():.0%} of the {confidence:.0%} intervals hold the truth")
    ax.legend(frameon=False)
    return ax
