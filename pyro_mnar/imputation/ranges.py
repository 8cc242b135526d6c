"""Draws outside the range that the training rows hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy.typing import NDArray

from pyro_mnar.kinds import Datetime
from pyro_mnar.tables.columns import Column

FAR_OF_ONE = 10.0  # widths of the range seen; of high values that are all missing single ones may well lie two outside


def beyond_seen(
    columns: Sequence[Column], cells: Int[NDArray, "2 cells"], draws: Float[NDArray, "draws cells"]
) -> pd.DataFrame:
    """Columns of which draws lie beyond what was seen, and what to say of each.

    Args:
        columns: Those of the schema.
        cells: Row and column position of each cell.
        draws: In the user's units.

    Returns:
        As :meth:`Imputations.out_of_range <pyro_mnar.Imputations.out_of_range>`.
    """
    rows = {}
    for position in np.unique(cells[1]).tolist():
        column = columns[position]
        if not _has_range(column):
            continue
        own = draws[:, cells[1] == position]
        slack = 1e-9 * max(abs(column.least), abs(column.greatest))
        below, above = (own < column.least - slack).mean(), (own > column.greatest + slack).mean()
        if below or above:
            said = _negative(column, own) or _far(column, own) or _said(column, below, above)
            rows[column.name] = (below, above, column.least, column.greatest, said)
    index = pd.Index(list(rows), name="column", tupleize_cols=False)
    return pd.DataFrame(
        list(rows.values()), index=index, columns=["below", "above", "least_seen", "greatest_seen", "said"]
    )


def negative_where_none_was(
    columns: Sequence[Column], cells: Int[NDArray, "2 cells"], draws: Float[NDArray, "draws cells"]
) -> list[str]:
    """Columns with negative draws though no negative value was seen, one sentence each with what keeps them away.

    Args:
        columns: Those of the schema.
        cells: Row and column position of each cell.
        draws: In the user's units.
    """
    return _said_by(_negative, columns, cells, draws)


def far_beyond_seen(
    columns: Sequence[Column], cells: Int[NDArray, "2 cells"], draws: Float[NDArray, "draws cells"]
) -> list[str]:
    """Columns of which imputed values lie farther outside the range seen than that is wide, or single ones ten times as
    far, one sentence each.

    Args:
        columns: Those of the schema.
        cells: Row and column position of each cell.
        draws: In the user's units.
    """
    return _said_by(_far, columns, cells, draws)


def _said_by(
    say: Callable[[Column, Float[NDArray, "draws cells"]], str],
    columns: Sequence[Column],
    cells: Int[NDArray, "2 cells"],
    draws: Float[NDArray, "draws cells"],
) -> list[str]:
    """What is to be said of each column that has cells, where there is something."""
    said = [say(columns[at], draws[:, cells[1] == at]) for at in np.unique(cells[1]).tolist()]
    return [one for one in said if one]


def _has_range(column: Column) -> bool:
    return not column.kind.has_levels and bool(np.isfinite([column.least, column.greatest]).all())


def _far(column: Column, draws: Float[NDArray, "draws cells"]) -> str:
    """Of a mean far outside the range seen, over all cells, or by far of one of them, in a sentence; else nothing."""
    draws = draws[:, ~np.isnan(draws).all(0)]
    if not _has_range(column) or column.greatest == column.least or not draws.size:
        return ""
    width, mean, of_cells = column.greatest - column.least, float(np.nanmean(draws)), np.nanmean(draws, axis=0)
    for end, side, most, sign in ((column.greatest, "above", "greatest", 1), (column.least, "below", "least", -1)):
        beyond = sign * (of_cells - end)
        far = int((beyond > FAR_OF_ONE * width).sum())
        if sign * (mean - end) > width:
            what, times = f"{column.name}'s imputations average {_told(column, mean)}", ""
        elif far:
            farthest = _told(column, of_cells[beyond.argmax()])
            what, times = f"{far} of {column.name}'s {len(beyond)} gaps are imputed as far as {farthest}", "ten times "
        else:
            continue
        return (
            f"{what}, {times}farther {side} {_told(column, end)}, the {most} value seen, than all values seen lie"
            " apart: nothing seen says how its law goes on out there, so declare what you know of it (bounds, another"
            " kind), or mechanism=Constant if its own values do not cause its gaps"
        )
    return ""


def _told(column: Column, value: float) -> str:
    return str(column.labelled(np.array([value]))[0]) if isinstance(column.kind, Datetime) else f"{value:.4g}"


def _negative(column: Column, draws: Float[NDArray, "draws cells"]) -> str:
    """Of a column's negative draws where a kind would keep them away, in a sentence; else nothing."""
    kind, share = column.kind, (draws < 0).mean()
    is_amount = not (kind.has_levels or isinstance(kind, Datetime)) and kind.scale.lower < 0
    if not share or not is_amount or not 0 <= column.least < np.inf:
        return ""
    better = "positive" if column.least > 0 else "zero_inflated" if not kind.is_whole else "count"
    part = f"{share:.0%}" if share >= 0.005 else "under 1%"
    return (
        f"{part} of {column.name}'s imputations are negative; nothing below {column.least:g} was seen:"
        f" kinds={{{column.name!r}: {better!r}}}"
    )


def _said(column: Column, below: float, above: float) -> str:
    """Of draws outside the range seen, in a sentence."""
    what = f"of {column.name}'s imputations are"
    end, side, most = (column.least, "below", "least") if below >= above else (column.greatest, "above", "greatest")
    return f"{max(below, above):.0%} {what} {side} {_told(column, end)}, the {most} value seen"
