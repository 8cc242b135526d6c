"""Whether observed values lie where a distribution can have them, and what to do where they do not.

A model sees values in standardised units, so that a Poisson put on a column of counts meets numbers such as -0.3.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor
from torch.distributions import constraints

from pyro_mnar.distributions.columns import Columns
from pyro_mnar.distributions.counts import StandardizedCounts
from pyro_mnar.distributions.levels import Levels
from pyro_mnar.distributions.row_laws import row_law
from pyro_mnar.tables.batch import Batch

ROUNDING = 1e-2  # of a count, or of the distance between two levels, in float32


def check_support(name: str, fn: TorchDistributionMixin, batch: Batch, columns: tuple[int, ...]) -> None:
    """Refuse observed values that lie outside the support; reads values.

    Args:
        name: Of the variable, such as ``"x"``.
        fn: Column-wise distribution; batch shape ``(..., rows, columns)``.
        batch: The rows.
        columns: Positions of its columns.

    Raises:
        ValueError: Names site and column, the value, and the cure.
    """
    if batch.x.is_meta:
        return
    parts = fn.parts if isinstance(fn, Columns) else ((tuple(range(len(columns))), fn),)
    for within, part in parts:
        at = [columns[position] for position in within]
        x, mask = batch.x[:, at], batch.mask[:, at]
        outside = ~_holds_rows(part, x) & mask
        outside = outside.reshape(-1, *mask.shape).any(0)
        if outside.any():
            row, column = (int(where[0]) for where in outside.nonzero(as_tuple=True))
            got, of = x[row, column].item(), batch.names[at[column]]
            raise ValueError(
                f"site {name!r}, column {of!r}: expected observed values within the support of"
                f" {type(part).__name__}, got {got:.6g}; models see standardised values: make the distribution by"
                f" pyro_mnar.distributions.distribution_for(table, {of!r}, ...), or keep the column's own units,"
                f" Table.from_frame(..., standardize={{{of!r}: False}})"
            )


def _holds_rows(fn: TorchDistributionMixin, x: Tensor) -> Bool[Tensor, "*batch columns"]:
    """The same of a distribution that may be one of whole rows."""
    law = row_law(fn)
    if law is None:
        return _holds(fn, x)
    return law.support.check(x) if law.of_entries is None else _holds(law.of_entries, x.unsqueeze(-2)).all(-2)


def _holds(fn: TorchDistributionMixin, x: Tensor) -> Bool[Tensor, "*batch columns"]:
    """Whether values lie in the support; entry by entry."""
    if isinstance(fn, Levels):
        distance = (x.unsqueeze(-1) - fn.points).abs().amin(-1)
        gaps = fn.points.diff(dim=-1).nan_to_num(nan=torch.inf, posinf=torch.inf)
        apart = gaps.amin(-1) if gaps.shape[-1] else torch.ones_like(fn.points[..., 0])
        return distance <= ROUNDING * apart
    if isinstance(fn, StandardizedCounts):
        counts = x * fn.unit + fn.offset
        return (counts - counts.round()).abs().le(ROUNDING) & (counts > -0.5)
    support: Any = fn.support
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support.check(x) if support is not None else torch.ones_like(x, dtype=torch.bool)
