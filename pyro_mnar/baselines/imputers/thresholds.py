"""Thresholds that are found in the data and told to any model as bounds of the gaps.

Beyond a threshold everything is missing, and a gap says so as "above b" would.  Cells with bounds are summed out,

    p(missing | z) = P(X_d > b_d | z),

where models with a mechanism draw the missing value, and the draws hide how steep the mechanism is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from pyro_mnar.baselines.imputers.selection import common_direction, has_threshold, selections
from pyro_mnar.baselines.imputers.self_masked_mixture import check_can_mask, signs_of
from pyro_mnar.baselines.protocol import predictors_of
from pyro_mnar.tables.table import Table


def bounded_by_thresholds(table: Table, sign: int | Sequence[int] | None = None) -> Table:
    """The table, with the outermost seen value as a bound of the gaps of every column that has a threshold.

    What has one, :func:`~pyro_mnar.baselines.imputers.selection.has_threshold` says of each column given the complete
    ones.  Where a slope is likelier, or there is nothing to tell it by, gaps stay as they are.

    Args:
        table: Numbers, or levels that count.
        sign: -1 if high values go missing, +1 if low ones do; one number or one per column.  None: the same in all
            columns, found by :func:`~pyro_mnar.baselines.imputers.selection.common_direction`.

    Raises:
        ValueError: If a column holds words or levels without an order, gaps have bounds, or there are not as many
            signs as columns.
    """
    check_can_mask(table)
    schema, mask = table.schema, table.mask.numpy()
    hidden = ~mask & table.mask_modelled.numpy()
    both = predictors_of(table)
    predictors = both[:, ~np.isnan(both).any(axis=0)]
    x = both[:, : schema.num_columns]
    side = -signs_of(common_direction(x, predictors, hidden) if sign is None else sign, schema.num_columns)
    x = x * side
    bounds: dict[str, dict[Any, pd.Series]] = {"lower": {}, "upper": {}}
    for at, found in enumerate(selections(x, predictors, hidden)):
        if not has_threshold(x[mask[:, at], at], found):
            continue
        column = schema.columns[at]
        seen = table.frame[column.name].where(mask[:, at])
        edge = seen.max() if side[at] > 0 else seen.min()
        if edge in (column.kind.scale.lower, column.kind.scale.upper):
            continue  # the end of the range, beyond which no value is
        bound = pd.Series(edge, index=table.frame.index).where(hidden[:, at])
        bounds["lower" if side[at] > 0 else "upper"][column.name] = bound
    return table.bounded(**bounds)
