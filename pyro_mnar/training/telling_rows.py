"""The rows on which a model is tried before training: those that hold the extremes of each column.

A likelihood whose support a column leaves trains to nonsense without a word once validation is off, and the first rows
of a table need not show it: a column's gaps may come first, or its first values may all be alike.
"""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from pyro_mnar.tables.batch import RowSource

ROWS_AT_ONCE = 4096
MOST_ROWS = 200_000  # that are looked at, once every column has shown a value


def telling_rows(source: RowSource) -> Int[Tensor, " rows"]:
    """Positions of rows that hold the least and the greatest observed value of every column, in order.

    Of a long source the first rows stand for all, as soon as they show every column.
    """
    low = high = at_low = at_high = None
    start = 0
    for batch in source.minibatches(ROWS_AT_ONCE):
        least, row_of_least = batch.x.masked_fill(~batch.mask, torch.inf).min(0)
        greatest, row_of_greatest = batch.x.masked_fill(~batch.mask, -torch.inf).max(0)
        if low is None or high is None or at_low is None or at_high is None:
            low, high, at_low, at_high = least, greatest, row_of_least, row_of_greatest
        else:
            at_low = torch.where(least < low, row_of_least + start, at_low)
            at_high = torch.where(greatest > high, row_of_greatest + start, at_high)
            low, high = torch.minimum(low, least), torch.maximum(high, greatest)
        start += len(batch)
        if start >= MOST_ROWS and bool(low.isfinite().all()):
            break
    if low is None or at_low is None or at_high is None:
        return torch.zeros(0, dtype=torch.long)
    seen = low.isfinite()
    return torch.cat([at_low[seen], at_high[seen]]).unique()
