"""Where a picture goes, and the colours that all share: blue for what was seen, orange for what was imputed.

The two differ in lightness too, so they stay apart in grey, and all stand out on white and on black.
"""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from pyro_mnar.imputation import Imputations
from pyro_mnar.messages import check_is, is_one_of, shown

SEEN, IMPUTED, NOT_APPLICABLE = "#3274a1", "#f0a04b", "#d0d0d0"
OTHER = "#8c6bb1"  # of what is compared with: an ignorable fit, another start
QUIET = "#8a8a8a"  # lines to read the others by


def cells_of(imputations: Imputations, column: Hashable) -> tuple[int, Bool[NDArray, " cells"]]:
    """A column's position, and which of the imputed cells are its own.

    Raises:
        ValueError: If the column has no imputed cell.
    """
    check_is("imputations", imputations, Imputations)
    schema = imputations.table.schema
    position = schema.names.index(column) if is_one_of(column, schema.names) else -1
    here = imputations.cells[1] == position
    if not here.any():
        drawn = [schema.names[at] for at in np.unique(imputations.cells[1])]
        raise ValueError(f"column {shown(column)}: expected one with imputed cells, of {drawn!r}")
    return position, here


def seen_of(imputations: Imputations, position: int) -> Float[NDArray, " cells"]:
    """A column's observed values, in the user's units."""
    table = imputations.table
    return table.schema.columns[position].decode(table.x[table.mask[:, position], position].double().numpy())


def values_of(draws: Float[NDArray, "*draws cells"]) -> Float[NDArray, " values"]:
    """The values of draws, but for those that say that there is none."""
    return draws[~np.isnan(draws)]


def shares_of(values: Float[NDArray, " values"], points: Float[NDArray, " levels"]) -> Float[NDArray, " levels"]:
    """How often each level is among the values."""
    return (values[:, None] == points).mean(0) if len(values) else np.zeros(len(points))
