"""How observed values end: fading out, or abruptly, as where everything beyond a threshold goes missing.

A fit may stand on either side of a threshold beyond which nothing is ever observed, so its own imputations cannot tell.
The values that were observed can.  Of excesses over a high quantile, the ratio mean² / variance is 1 - 2ξ, with ξ the
shape of a generalised Pareto law (Hosking & Wallis 1987): about 1.3 for a normal or logistic tail, 3 where a density
stops at a height.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from pyro_mnar.tables.table import Table

SHARE = 0.1  # of the values, at each end
FEWEST, MOST = 50, 200  # of excesses: with fewer, chance looks like a threshold once in twenty tables
LEAST_RATIO = 2.2  # normal values reach it once in a hundred columns of 500, never in thousands of 1,000
LEAST_DISTINCT = 10


class AbruptEnd(NamedTuple):
    """An end at which the observed values of a column stop.

    Attributes:
        column: The column's name.
        is_upper: Whether it is the upper end.
        at: The last value, in the user's units.
    """

    column: str
    is_upper: bool
    at: float

    def __str__(self) -> str:
        return f"{self.column} {'above' if self.is_upper else 'below'} {self.at:.4g}"


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
        for sign in (-1.0, 1.0):
            if is_abrupt(sign * values):
                end = np.array([(sign * values).max() * sign])
                found.append(AbruptEnd(str(column.name), sign > 0, float(column.decode(end)[0])))
    return found


def is_abrupt(values: Float[NDArray, " values"]) -> bool:
    """Whether values stop abruptly at their upper end."""
    count = min(int(SHARE * len(values)), MOST)
    if count < FEWEST:
        return False
    largest = np.sort(values)[-count - 1 :]
    excess = largest[1:] - largest[0]
    if len(np.unique(excess)) < LEAST_DISTINCT:
        return False
    return bool(excess.mean() ** 2 > LEAST_RATIO * excess.var(ddof=1))
