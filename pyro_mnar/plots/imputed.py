"""What was imputed beside what was seen, and beside what an ignorable fit imputes."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from pyro_mnar.figures import axes_or_new
from pyro_mnar.imputation import Imputations
from pyro_mnar.plots.axes import IMPUTED, OTHER, SEEN, cells_of, seen_of, shares_of, values_of
from pyro_mnar.tables.columns import Column

BINS = 30
EXTREMES = 0.0005  # share of the values at each end that the bins may leave out: one of 1e6 would hide the others
MOST_LETTERS = 36  # of all levels together, to stand level


def imputed_against_observed(imputations: Imputations, column: Hashable, ax: Any = None) -> Any:
    """Distribution of a column's observed values and of its draws; of levels, the share of each.

    Where values go missing because of what they are, the two differ, and are meant to.

    Args:
        imputations: Of whole tables.
        column: A column with gaps.
        ax: Axes to draw on; by default a figure of its own.

    Raises:
        ValueError: If the column has no imputed cell.
    """
    position, here = cells_of(imputations, column)
    its, seen = imputations.table.schema.columns[position], seen_of(imputations, position)
    ax = axes_or_new(ax, (5.0, 3.2))
    _distributions(ax, its, {"observed": seen, "imputed": values_of(imputations.draws[:, here])})
    ax.set_title(f"{column}: {len(seen):,} observed, {int(here.sum()):,} imputed")
    return ax


def imputed_against_ignorable(
    imputations: Imputations, ignorable: Imputations, column: Hashable, ax: Any = None
) -> Any:
    """What rests on the mechanism: a column's draws beside those of a fit that ignores why values are missing.

    Args:
        imputations: Of the fit.
        ignorable: Of another one to the same table, such as of ``models.PartialVAE`` or ``models.Ignorable``.
        column: A column with gaps.
        ax: Axes to draw on; by default a figure of its own.

    Raises:
        ValueError: If the column has no imputed cell in one of them.
    """
    position, here = cells_of(imputations, column)
    other, there = cells_of(ignorable, column)
    its = imputations.table.schema.columns[position]
    if ignorable.table.schema.columns[other].kind != its.kind:
        raise ValueError(f"column {column!r}: expected the same kind in both imputations")
    drawn, without = values_of(imputations.draws[:, here]), values_of(ignorable.draws[:, there])
    ax = axes_or_new(ax, (5.0, 3.2))
    parts = {"observed": seen_of(imputations, position), "imputed": drawn, "imputed, cause ignored": without}
    _distributions(ax, its, parts)
    shift = "" if its.kind.holds_words else f": the cause moves the mean by {drawn.mean() - without.mean():+.3g}"
    ax.set_title(f"{column}{shift}")
    return ax


def _distributions(ax: Any, column: Column, parts: dict[str, Float[NDArray, " values"]]) -> None:
    """Histograms of numbers, or bars of levels, in the order of the parts."""
    colours = dict(zip(parts, (SEEN, IMPUTED, OTHER), strict=False))
    if column.kind.has_levels:
        points = np.asarray(column.kind.points, dtype=float)
        at, width = np.arange(len(points)), 0.8 / len(parts)
        for number, (label, values) in enumerate(parts.items()):
            shift = (number - (len(parts) - 1) / 2) * width
            ax.bar(at + shift, shares_of(values, points), width=width, color=colours[label], label=label)
        names = [str(level) for level in column.kind.levels]
        is_wide = max(map(len, names)) * len(names) > MOST_LETTERS
        ax.set_xticks(at, names, rotation=30 if is_wide else 0, ha="right" if is_wide else "center")
        ax.set_ylabel("share")
    else:
        whole = np.concatenate(list(parts.values()))
        low, high = np.quantile(whole, [EXTREMES, 1 - EXTREMES])
        edges = np.linspace(low, high if high > low else low + 1.0, BINS + 1)
        for number, (label, values) in enumerate(parts.items()):
            style: dict[str, Any] = {"alpha": 0.75} if number == 0 else {"histtype": "step", "linewidth": 2}
            if number == 2:
                style["linestyle"] = "--"
            ax.hist(np.clip(values, low, high), edges, density=True, color=colours[label], label=label, **style)
        ax.set_ylabel("density")
    ax.set_xlabel(str(column.name))
    ax.margins(y=0.12 * len(parts))  # room for the legend
    ax.legend(frameon=False)
