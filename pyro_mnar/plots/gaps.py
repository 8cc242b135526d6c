"""Which cells of a table are missing."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyro_mnar.plots.axes import IMPUTED, NOT_APPLICABLE, SEEN, axes_or_new
from pyro_mnar.tables.table import Table

MOST_PATTERNS = 20


def missingness_pattern(table: Table, ax: Any = None) -> Any:
    """Patterns of missing columns, the most frequent first, with the rows that have each; below each column, the share
    of its cells that are missing.  Cells that are not applicable are not missing.

    Args:
        table: Few enough cells to be shown at once.
        ax: Axes to draw on; by default a figure of its own.
    """
    mask, applicable = table.mask.numpy(), table.applicable.numpy()
    patterns, counts = np.unique(np.where(mask, 2, np.where(applicable, 0, 1)), axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MOST_PATTERNS]
    shown = patterns[order]
    ax = axes_or_new(ax, width=max(3.5, 0.5 * shown.shape[1] + 1.5), height=max(2.4, 0.3 * len(shown) + 1.4))
    from matplotlib.colors import ListedColormap

    colours = ListedColormap([IMPUTED, NOT_APPLICABLE, SEEN])
    ax.pcolormesh(shown, cmap=colours, vmin=0, vmax=2, edgecolors="white", linewidth=1)
    ax.invert_yaxis()
    missing = (~mask & applicable).mean(0)
    names = [f"{name}\n{share:.0%}" for name, share in zip(table.schema.names, missing, strict=True)]
    ax.set_xticks(np.arange(len(names)) + 0.5, names, rotation=90 if len(names) > 8 else 0)
    ax.set_yticks(np.arange(len(shown)) + 0.5, [f"{count:,}" for count in counts[order]])
    ax.set_ylabel("rows")
    rest = len(counts) - len(shown)
    title = "Gaps by pattern" + (f", {rest:,} rarer ones left out" if rest else "")
    key = "orange: missing" + ("" if applicable.all() else "; grey: not applicable")
    ax.set_title(f"{title}\n{key}", fontsize="medium")
    ax.tick_params(length=0)
    return ax
