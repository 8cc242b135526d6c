"""Checking observed values against declared row constraints, and naming the rows that break one."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import NDArray

from pyro_mnar.kinds.dtypes import plain
from pyro_mnar.kinds.reading import numbers_of, row_label
from pyro_mnar.messages import shown
from pyro_mnar.tables.constraints import RowConstraint, described
from pyro_mnar.tables.schema import Schema


def check_rows(
    constraints: Sequence[RowConstraint], frame: pd.DataFrame, numbers: Float[NDArray, "rows columns"], schema: Schema
) -> None:
    """Refuse rows whose observed values break a constraint, and constraints of columns that have none.

    Raises:
        ValueError: Names the constraint and the rows.
    """
    for constraint in constraints:
        values = {name: numbers_in(name, constraint, frame, numbers, schema) for name in constraint.columns}
        broken = ~constraint.holds(values)
        if broken.any():
            rows = np.flatnonzero(broken)
            raise ValueError(f"{described(constraint)}: broken by the observed values of {labelled(rows, frame)}")


def numbers_in(
    name: Hashable,
    constraint: RowConstraint,
    frame: pd.DataFrame,
    numbers: Float[NDArray, "rows columns"],
    schema: Schema,
) -> Float[NDArray, " rows"]:
    """A column as numbers in the user's units, NaN for gaps, be it modelled or auxiliary."""
    if name in schema.names:
        at = schema.names.index(name)
        if not schema.columns[at].kind.has_order:
            raise ValueError(f"{described(constraint)}: column {name!r} has values without an order")
        return numbers[:, at]
    if name not in frame.columns:
        raise ValueError(f"{described(constraint)}: expected columns among {list(frame.columns)!r}, got {shown(name)}")
    return numbers_of(plain(frame[name]), name)


def labelled(rows: NDArray[np.int_], frame: pd.DataFrame) -> str:
    """Rows by their labels, the first ten of them."""
    labels = [row_label(frame, int(row)) for row in rows[:10]]
    more = f" and {len(rows) - 10} more" if len(rows) > 10 else ""
    return f"{'row' if len(rows) == 1 else 'rows'} {', '.join(map(repr, labels))}{more}"
