"""What was imputed beside what was seen."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np

from pyro_mnar.imputation import Imputations
from pyro_mnar.plots.axes import IMPUTED, SEEN, axes_or_new

BINS = 30


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
    schema = imputations.table.schema
    position = schema.names.index(column) if column in schema.names else -1
    here = imputations.cells[1] == position
    if not here.any():
        drawn = [schema.names[at] for at in np.unique(imputations.cells[1])]
        raise ValueError(f"column {column!r}: expected one with imputed cells, of {drawn!r}")
    ax, its = axes_or_new(ax), schema.columns[position]
    seen = its.read(imputations.table.frame[column])[imputations.table.mask[:, position].numpy()]
    drawn = imputations.draws[:, here].ravel()
    if its.kind.has_levels:
        points = np.asarray(its.kind.points, dtype=float)
        at = np.arange(len(points))
        for shift, values, colour, label in ((-0.2, seen, SEEN, "observed"), (0.2, drawn, IMPUTED, "imputed")):
            share = (values[:, None] == points).mean(0)
            ax.bar(at + shift, share, width=0.4, color=colour, label=label)
        ax.set_xticks(at, [str(level) for level in its.kind.levels])
        ax.set_ylabel("share")
    else:
        edges = np.histogram_bin_edges(np.concatenate([seen, drawn]), BINS)
        ax.hist(seen, edges, density=True, color=SEEN, alpha=0.8, label="observed")
        ax.hist(drawn, edges, density=True, histtype="step", linewidth=2, color=IMPUTED, label="imputed")
        ax.set_ylabel("density")
    ax.set_xlabel(str(column))
    ax.set_title(f"{column}: {len(seen):,} observed, {int(here.sum()):,} imputed")
    ax.legend(frameon=False)
    return ax
