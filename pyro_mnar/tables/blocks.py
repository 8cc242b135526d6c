"""Columns that go missing together: a skipped page, a panel of laboratory values, one side of a merged table.

Such gaps have one cause.  Explained column by column, each by its own value, the one event would count as often as
there are columns, and the only way to make all of them probable at once is to take the unseen values to be extreme.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

LEAST_ROWS = 10  # in which columns are missing together
LEAST_SHARE = 0.02  # of all rows
LEAST_RATIO = 4.0  # rows that lack all of the columns, over those that lack half of them or more, but not all;
#                    and of the latter, those that there would be were the gaps independent, over those that there are
MOST_PATTERNS = 30  # of the most frequent ones, whose intersections are looked at
EVENTS = "r_blocks"  # name of the site that scores whether a row lacks all of a block
SAME = 0.9  # correlation from which two columns say the same, and are missing together whatever the cause

Missing = Bool[NDArray, "rows columns"]


def blocks_of(missing: Missing, values: Float[NDArray, "rows columns"]) -> tuple[tuple[int, ...], ...]:
    """Sets of columns that are missing together, by position, each in rows of its own; the largest first.

    A set counts if enough rows lack all of it and few lack much of it but not all.  So columns whose values go missing
    one by one are no block, however strongly their values, and thereby their gaps, depend on each other.  Nor are
    columns whose values are nearly copies of each other: these are missing together whatever the cause.

    Args:
        missing: True at gaps that a mechanism is to explain.
        values: Standardised, NaN where there is none.
    """
    left, found = missing.copy(), []
    while (block := _largest(left, values)) is not None:
        found.append(tuple(block.tolist()))
        left = left[~left[:, block].all(1)]
    return tuple(found)


def members_of(blocks: Sequence[Sequence[Hashable]], names: Sequence[Hashable]) -> Bool[Tensor, "blocks columns"]:
    """Which of the columns called ``names`` are in each block."""
    members = [[name in block for name in names] for block in blocks]
    return torch.tensor(members, dtype=torch.bool).reshape(len(blocks), len(names))


def events(
    members: Bool[Tensor, "blocks columns"],
    mask: Bool[Tensor, "rows columns"],
    mask_modelled: Bool[Tensor, "rows columns"],
) -> Bool[Tensor, "rows blocks"]:
    """Whether a row lacks all columns of a block, for reasons that are the mechanism's; each block in its own rows.

    A row that lacks several blocks which share columns counts for the first of them.
    """
    gaps = ~mask & mask_modelled
    lacks_all = (gaps.unsqueeze(-2) | ~members).all(-1)
    shares = (members.unsqueeze(0) & members.unsqueeze(1)).any(-1)  # (blocks, blocks)
    earlier = torch.tril(shares, diagonal=-1).to(mask.device)
    taken = torch.zeros_like(lacks_all)
    for at in range(len(members)):
        taken[:, at] = lacks_all[:, at] & ~(taken & earlier[at]).any(-1)
    return taken


def _largest(missing: Missing, values: NDArray[np.float64]) -> NDArray[np.int_] | None:
    best, most = None, 0
    for block in _candidates(missing):
        lacking = missing[:, block].sum(1)
        whole = int((lacking == len(block)).sum())
        partly = int(((lacking < len(block)) & (2 * lacking >= len(block))).sum())
        enough = whole >= max(LEAST_ROWS, LEAST_SHARE * len(values)) and whole >= LEAST_RATIO * partly
        enough = enough and _expected_partly(missing[:, block]) >= LEAST_RATIO * partly
        if enough and whole * (len(block) - 1) > most and not _say_the_same(values[:, block]):
            best, most = block, whole * (len(block) - 1)
    return best


def _candidates(missing: Missing) -> Iterator[NDArray[np.int_]]:
    """Frequent patterns of two columns or more, and what two of them share."""
    patterns, counts = np.unique(missing[missing.sum(1) > 1], axis=0, return_counts=True)
    frequent = patterns[np.argsort(-counts, kind="stable")[:MOST_PATTERNS]]
    shared = (frequent[:, None] & frequent[None]).reshape(-1, missing.shape[1])
    for pattern in np.unique(shared, axis=0):
        if pattern.sum() > 1:
            yield np.flatnonzero(pattern)


def _expected_partly(missing: Missing) -> float:
    """Rows that would lack half of the columns or more, but not all, were the gaps independent."""
    chances = np.ones(1)
    for share in missing.mean(0):
        chances = np.convolve(chances, [1 - share, share])  # of so many gaps, by their number
    return float(chances[(missing.shape[1] + 1) // 2 : -1].sum() * len(missing))


def _say_the_same(values: NDArray[np.float64]) -> bool:
    """Whether every column is nearly a copy of the first one, as far as they are seen together."""
    correlations = pd.DataFrame(values).corr(min_periods=LEAST_ROWS)[0].to_numpy()
    return bool((np.abs(correlations[1:]) >= SAME).all())
