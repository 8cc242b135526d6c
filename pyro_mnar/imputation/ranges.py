"""Draws outside the range that the training rows hold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy.typing import NDArray

from pyro_mnar.kinds import Datetime
from pyro_mnar.tables.columns import Column


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
        if column.kind.has_levels or not np.isfinite([column.least, column.greatest]).all():
            continue
        own = draws[:, cells[1] == position]
        slack = 1e-9 * max(abs(column.least), abs(column.greatest))
        below, above = (own < column.least - slack).mean(), (own > column.greatest + slack).mean()
        if below or above:
            said = _said(column, (own < 0).mean(), below, above)
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
    found = beyond_seen(columns, cells, draws)
    least = {column.name: column.least for column in columns}
    negative = {columns[at].name: bool((draws[:, cells[1] == at] < 0).any()) for at in np.unique(cells[1]).tolist()}
    return [said for name, said in found["said"].items() if negative[name] and least[name] >= 0]


def _said(column: Column, negative: float, below: float, above: float) -> str:
    """The same in a sentence."""
    least, greatest = (str(column.labelled(np.array([end]))[0]) for end in (column.least, column.greatest))
    if column.kind.name != "datetime":
        least, greatest = f"{column.least:g}", f"{column.greatest:g}"
    what = f"of {column.name}'s imputations are"
    if negative and not isinstance(column.kind, Datetime) and column.least >= 0 and column.kind.scale.lower < 0:
        kind = "positive" if column.least > 0 else "zero_inflated" if not column.kind.is_whole else "count"
        share = f"{negative:.0%}" if negative >= 0.005 else "under 1%"
        return f"{share} {what} negative; nothing below {least} was seen: kinds={{{column.name!r}: {kind!r}}}"
    if below >= above:
        return f"{below:.0%} {what} below {least}, the least value seen"
    return f"{above:.0%} {what} above {greatest}, the greatest value seen"
