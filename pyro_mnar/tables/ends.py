"""How observed values end: fading out, or abruptly, as where everything beyond a threshold goes missing.

A fit may stand on either side of a threshold beyond which nothing is ever observed, so its own imputations cannot tell.
The values that were observed can.  Of excesses over a high quantile, the ratio mean² / variance is 1 - 2ξ, with ξ the
shape of a generalised Pareto law (Hosking & Wallis 1987): about 1.3 for a normal or logistic tail, 3 where a density
stops at a height.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from pyro_mnar.tables.columns import Column
from pyro_mnar.tables.table import Table

SHARE = 0.1  # of the values, at each end
FEWEST, MOST = 50, 200  # of excesses
LEAST_RATIO = 2.2  # normal values of 1,000 never reach it
LEAST_DISTINCT = 10


class AbruptEnd(NamedTuple):
    """An end at which the observed values of a column stop.

    Attributes:
        column: The column's name.
        is_upper: Whether it is the upper end.
        at: The last value, in the user's units.
    """

    column: Hashable
    is_upper: bool
    at: float

    @classmethod
    def of(cls, column: Column, values: Float[NDArray, " values"], is_upper: bool) -> AbruptEnd:
        """The upper or the lower end of a column's observed values, which are given as the table holds them."""
        last = values.max(keepdims=True) if is_upper else values.min(keepdims=True)
        return cls(column.name, is_upper, float(column.decode(last)[0]))

    @property
    def beyond(self) -> str:
        """Where nothing is observed: ``above 1.5``."""
        return f"{'above' if self.is_upper else 'below'} {self.at:.4g}"

    def __str__(self) -> str:
        return f"{self.column} {self.beyond}"


def abrupt_ends(table: Table) -> list[AbruptEnd]:
    """Ends of numeric columns with gaps at which observed values stop instead of fading out.

    Args:
        table: The rows; columns of fewer than 500 observed values are not judged.
    """
    found = []
    for d, column in enumerate(table.schema.columns):
        mask = table.mask[:, d]
        if column.kind.is_discrete or bool(mask.all()):
            continue
        values = table.x[mask, d].double().numpy()
        found += [AbruptEnd.of(column, values, up) for up in (False, True) if is_abrupt(values if up else -values)]
    return found


def is_abrupt(values: Float[NDArray, " values"], *, share: float = SHARE, fewest: int = FEWEST) -> bool:
    """Whether values stop abruptly at their upper end.

    Normal values are said to once in a hundred columns, whatever their number, or less often: the limit to the ratio
    falls from 3.4 at 20 excesses to 2.2 at 75, by simulation.

    Args:
        values: What was observed.
        share: Of the values, whose excesses over the others are looked at.
        fewest: Excesses; of fewer nothing is said.
    """
    count = min(int(share * len(values)), MOST)
    if count < fewest:
        return False
    largest = np.sort(values)[-count - 1 :]
    excess = largest[1:] - largest[0]
    if len(np.unique(excess)) < LEAST_DISTINCT:
        return False
    limit = max(LEAST_RATIO, 1.45 + 5 / count**0.5 + 16 / count)
    return bool(excess.mean() ** 2 > limit * excess.var(ddof=1))
