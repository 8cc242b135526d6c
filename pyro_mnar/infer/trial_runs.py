"""What runs that look at a pair share: rows with gaps opened, and whether two results differ."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor

from pyro_mnar.tables.batch import Batch


def opened(batch: Batch, columns: Iterable[int], *, every: int = 1) -> Batch:
    """The same rows with gaps in some columns: the first rows of a table may have none.

    Args:
        batch: The rows.
        columns: Positions of the columns.
        every: 1 for a gap in each row, 2 for one in every other row, from the first.
    """
    mask = batch.mask.clone()
    mask[::every, list(columns)] = False
    return replace(batch, x=batch.x.masked_fill(~mask, 0.0), mask=mask, entries=None, lower=None, upper=None)


def differ(one: Tensor, other: Tensor) -> bool:
    """Whether two results differ by more than rounding; NaN is NaN."""
    rounding = torch.finfo(one.dtype).eps ** 0.5  # matrices of other sizes are multiplied in another order
    return not bool(torch.isclose(one, other, rtol=rounding, atol=rounding, equal_nan=True).all())
