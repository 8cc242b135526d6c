"""Which systems extrapolate, judged without the truth: hide more of a table the way it hides values, and restore that.

What lies beyond the seen values no bound and no held-out row judges.  So of every incomplete column the outer part of
its seen values, on the side on which values go missing, is hidden too; systems complete what is left and are compared
on cells whose values are known.  A system that does well there has continued the column beyond an edge, though a
nearer edge than the one that matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from pyro_mnar.baselines.imputers.self_masked_mixture import signs_of
from pyro_mnar.baselines.protocol import Imputer, check_systems, check_table
from pyro_mnar.messages import seed_of, share_of
from pyro_mnar.tables.table import Table


class FurtherHidden(NamedTuple):
    """A table with more gaps than it came with.

    Attributes:
        table: The table; columns, kinds, units and reasons for gaps are those of the one given.
        cells: Where values were hidden that are known; ``(rows, columns)``.
    """

    table: Table
    cells: Bool[NDArray, "rows columns"]


def hide_further(table: Table, sign: int | Sequence[int] = -1, *, share: float = 0.5) -> FurtherHidden:
    """Hide the outer part of what is seen of each incomplete column of numbers.

    Args:
        table: The table.
        sign: -1 if high values go missing, +1 if low ones do; one number or one per column.
        share: How much of a column's seen values to hide, at most: of equal values all are hidden or none.

    Raises:
        ValueError: If an argument is out of range, or no incomplete column has seen values that can be hidden.
    """
    check_table(table)
    columns = table.schema.columns
    signs = signs_of(sign, len(columns))
    share = share_of("share", share)
    frame, values = table.frame.copy(), _numbers_of(table)
    cells = np.zeros(values.shape, dtype=bool)
    for at, column in enumerate(columns):
        if not column.incomplete or column.kind.holds_words:
            continue
        outward = -signs[at] * values[:, at]
        with np.errstate(invalid="ignore"):  # gaps are beyond no edge
            cells[:, at] = outward > np.nanquantile(outward, 1 - share)
        frame[column.name] = frame[column.name].mask(cells[:, at])
    if not cells.any():
        raise ValueError("table: expected an incomplete column with different seen values, got none")
    missing = ~table.mask.numpy()
    marks = {
        "not_applicable": ~table.applicable.numpy(),
        "by_design": missing & table.applicable.numpy() & ~table.mask_modelled.numpy(),
    }
    reasons = {
        reason: {name: marked[:, at] for at, name in enumerate(table.schema.names) if marked[:, at].any()}
        for reason, marked in marks.items()
    }
    return FurtherHidden(table.new_rows(frame, **reasons), cells)


def extrapolation_errors(
    systems: Sequence[Imputer], table: Table, sign: int | Sequence[int] = -1, *, share: float = 0.5, seed: int = 0
) -> pd.DataFrame:
    """How well systems restore values beyond an edge that is nearer than the table's own.

    Args:
        systems: What to compare.
        table: The table; nothing of its missing values is used.
        sign: As for :func:`hide_further`.
        share: As there.
        seed: Of the systems.

    Returns:
        Root mean squared errors in standard deviations of what is seen of a column: a row a system in the order given,
        a column each column of which values were hidden, and ``all``, over all cells.

    Raises:
        ValueError: As :func:`hide_further`, or if a system leaves a gap that it was to fill.
    """
    check_systems(systems)
    seed = seed_of(seed)
    further = hide_further(table, sign, share=share)
    truth, units = _numbers_of(table), np.array([column.std for column in table.schema.columns])
    hidden = np.flatnonzero(further.cells.any(axis=0))
    names, cells = [table.schema.names[at] for at in hidden], further.cells[:, hidden]
    rows = {}
    for system in systems:
        completed = system.complete(further.table, seed=seed)[names].to_numpy(dtype=np.float64, na_value=np.nan)
        squares = ((completed - truth[:, hidden]) / units[hidden]) ** 2
        if gaps := int(np.isnan(squares[cells]).sum()):
            raise ValueError(f"system {system.name!r}: expected every gap filled, got {gaps} of the hidden cells left")
        errors = {name: np.sqrt(squares[cells[:, at], at].mean()) for at, name in enumerate(names)}
        rows[system.name] = {**errors, "all": np.sqrt(squares[cells].mean())}
    return pd.DataFrame.from_dict(rows, orient="index")


def _numbers_of(table: Table) -> Float[NDArray, "rows columns"]:
    """What is seen, in the user's units; NaN in gaps and in columns of words."""
    x, mask = table.x.numpy().astype(np.float64), table.mask.numpy()
    numbers = np.full(x.shape, np.nan)
    for at, column in enumerate(table.schema.columns):
        if not column.kind.holds_words:
            numbers[mask[:, at], at] = column.decode(x[mask[:, at], at])
    return numbers
