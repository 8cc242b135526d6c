"""Which cells of a table are missing, and which columns go missing together."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyro_mnar.figures import axes_or_new
from pyro_mnar.messages import check_is
from pyro_mnar.plots.axes import IMPUTED, NOT_APPLICABLE, QUIET, SEEN
from pyro_mnar.tables.table import Table

MOST_PATTERNS = 20
MOST_LEVEL = 6  # columns whose names stand level
MOST_NUMBERED = 12  # columns whose pairs have their share written in
BLOCK_LINE = "#c03a2b"


def missingness_pattern(table: Table, ax: Any = None) -> Any:
    """Patterns of missing columns, the most frequent first, with the rows that have each; below each column, the share
    of its cells that are missing.  Cells that are not applicable are not missing; names of columns that go missing
    together (``table.schema.blocks``) are red.

    Args:
        table: Few enough cells to be shown at once.
        ax: Axes to draw on; by default a figure of its own.
    """
    check_is("table", table, Table)
    mask, applicable = table.mask.numpy(), table.applicable.numpy()
    patterns, counts = np.unique(np.where(mask, 2, np.where(applicable, 0, 1)), axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MOST_PATTERNS]
    shown, columns = patterns[order], len(table.schema.names)
    ax = axes_or_new(ax, (min(max(4.0, 0.5 * columns + 1.5), 10.0), max(2.4, 0.26 * len(shown) + 1.6)))
    from matplotlib.colors import ListedColormap

    colours = ListedColormap([IMPUTED, NOT_APPLICABLE, SEEN])
    lines = {"edgecolors": ax.get_facecolor(), "linewidth": 1 if columns <= 40 else 0}
    ax.pcolormesh(shown, cmap=colours, vmin=0, vmax=2, **lines)
    ax.invert_yaxis()
    missing, is_level = (~mask & applicable).mean(0), columns <= MOST_LEVEL
    names = [
        f"{name}{chr(10) if is_level else '  '}{share:.0%}"
        for name, share in zip(table.schema.names, missing, strict=True)
    ]
    ax.set_xticks(np.arange(len(names)) + 0.5, names, rotation=0 if is_level else 90)
    together = {name for block in table.schema.blocks for name in block}
    for label, name in zip(ax.get_xticklabels(), table.schema.names, strict=True):
        if columns > 40:
            label.set_fontsize("xx-small")
        if name in together:
            label.set_color(BLOCK_LINE)
    ax.set_yticks(np.arange(len(shown)) + 0.5, [f"{count:,}" for count in counts[order]])
    ax.set_ylabel("rows")
    rest = len(counts) - len(shown)
    title = "Gaps by pattern" + (f", {rest:,} rarer ones left out" if rest else "")
    key = "orange: missing" + ("" if applicable.all() else "; grey: not applicable")
    key += "; red names: missing together" if together else ""
    ax.set_title(f"{title}\n{key}", fontsize="medium")
    ax.tick_params(length=0)
    return ax


def co_missingness(table: Table, ax: Any = None) -> Any:
    """Of the rows that lack one column (left), the share that lack another one, too (below).

    Beside each name stands the share of all rows that lack it: a column of the picture with that share throughout says
    that its gaps have nothing to do with the others; a dark square, that columns go missing together.

    Args:
        table: Whose columns with gaps are shown.
        ax: Axes to draw on; by default a figure of its own.

    Raises:
        ValueError: If nothing is missing.
    """
    check_is("table", table, Table)
    gaps = (~table.mask & table.applicable).numpy()
    columns = np.flatnonzero(gaps.any(0))
    if not len(columns):
        raise ValueError("table: expected one with gaps, got a complete one")
    here = gaps[:, columns].astype(float)
    shares = (here.T @ here) / here.sum(0)[:, None]
    side = min(max(3.6, 0.42 * len(columns) + 1.8), 9.0)
    ax = axes_or_new(ax, (side + 0.2, side))
    mesh = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [str(table.schema.names[at]) for at in columns]
    ax.set_xticks(np.arange(len(names)), names, rotation=90 if len(names) > MOST_LEVEL else 0)
    ax.set_yticks(
        np.arange(len(names)),
        [f"{name}  {share:.0%}" for name, share in zip(names, gaps[:, columns].mean(0), strict=True)],
    )
    if len(names) <= MOST_NUMBERED:
        for row, column in np.ndindex(shares.shape):
            shade = "white" if shares[row, column] > 0.6 else "black"
            ax.text(column, row, f"{shares[row, column]:.0%}", ha="center", va="center", color=shade, fontsize="small")
    else:
        ax.figure.colorbar(mesh, ax=ax, label="share", shrink=0.8)
    ax.tick_params(length=0)
    ax.set_ylabel("of the rows that lack this")
    ax.set_xlabel("so many lack this, too")
    ax.set_title("Missing together")
    for spine in ax.spines.values():
        spine.set_color(QUIET)
    return ax
