"""What a user knows of whole rows: an order of columns, parts that sum to a total.

Declared with a table, they are plain data, kept with the fit and checked on the observed values of every row;
imputation draws from what satisfies them (:mod:`pyro_mnar.imputation.row_conditions`).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from pyro_mnar.messages import check_boolean, has_parts, is_finite, is_gap, is_hashable, is_real, shown

Values = Mapping[Hashable, Float[NDArray, "*rows"]]  # numbers in the user's units, by column; NaN where missing


@dataclass(frozen=True)
class InOrder:
    """Values that never fall from one column to the next: ``InOrder("start", "end")``.

    Args:
        *columns: Names, at least two; missing values among them are passed over.
        strict: Whether equal values are excluded.
    """

    columns: tuple[Hashable, ...]
    strict: bool
    name: ClassVar[str] = "in_order"

    def __init__(self, *columns: Hashable, strict: bool = False) -> None:
        if len(columns) < 2:
            raise ValueError(f"InOrder: expected at least two columns, got {list(columns)!r}")
        _refuse_twice("InOrder", columns)
        check_boolean("InOrder, strict", strict)
        object.__setattr__(self, "columns", columns)
        object.__setattr__(self, "strict", strict)

    def holds(self, values: Values) -> Bool[NDArray, "*rows"]:
        """Row by row."""
        least, ok = np.array(-np.inf), np.array(True)
        for column in self.columns:
            value = values[column]
            ok = ok & ((value > least if self.strict else value >= least) | np.isnan(value))
            least = np.fmax(least, value)
        return np.asarray(ok)


@dataclass(frozen=True)
class SumsTo:
    """Parts that sum to a total: ``SumsTo(["rent", "food", "rest"], "spent")``, ``SumsTo(shares, 100)``.

    Args:
        parts: Names of the columns.
        total: A number, or the name of a column.
        tolerance: Largest error that counts as none, as a share of the total or of the largest part.
    """

    parts: tuple[Hashable, ...]
    total: Any
    tolerance: float
    name: ClassVar[str] = "sums_to"

    def __init__(self, parts: Sequence[Hashable], total: Any, *, tolerance: float = 1e-6) -> None:
        if isinstance(parts, str) or not has_parts(parts):
            raise TypeError(f"SumsTo: expected a list of at least two parts, got {shown(parts)}")
        parts = tuple(parts)
        if len(parts) < 2:
            raise ValueError(f"SumsTo: expected at least two parts, got {list(parts)!r}")
        is_number = is_real(total)
        if is_number and not is_finite(total):
            raise ValueError(f"SumsTo: expected a finite total, got {shown(total)}")
        _refuse_twice("SumsTo", parts if is_number else (*parts, total))
        if not (is_real(tolerance) and tolerance >= 0):
            raise ValueError(f"SumsTo: expected a tolerance of at least 0, got {shown(tolerance)}")
        object.__setattr__(self, "parts", parts)
        object.__setattr__(self, "total", total)
        object.__setattr__(self, "tolerance", tolerance)

    @property
    def is_number(self) -> bool:
        """Whether the total is a number, and no column."""
        return is_real(self.total)

    @property
    def columns(self) -> tuple[Hashable, ...]:
        """All columns in it, the total last if it is one."""
        return self.parts if self.is_number else (*self.parts, self.total)

    def rest(self, values: Values, column: Hashable) -> Float[NDArray, "*rows"]:
        """What one column has to be, given the others."""
        sign = -1.0 if not self.is_number and column == self.total else 1.0
        gap = np.asarray(float(self.total) if self.is_number else 0.0)
        for name in self.columns:
            if name != column:
                gap = gap - (-values[name] if not self.is_number and name == self.total else values[name])
        return sign * gap

    def holds(self, values: Values) -> Bool[NDArray, "*rows"]:
        """Row by row; rows in which a value is missing are passed over."""
        total = np.asarray(float(self.total)) if self.is_number else values[self.total]
        parts = [values[name] for name in self.parts]
        size = np.maximum(np.abs(total), np.max([np.abs(part) for part in parts], axis=0))
        error = np.abs(sum(parts) - total)
        return ~(error > self.tolerance * size)


RowConstraint = InOrder | SumsTo
ROW_CONSTRAINTS = (InOrder, SumsTo)


def checked(constraints: Any) -> tuple[RowConstraint, ...]:
    """Constraints as a tuple; TypeError for anything else, naming it."""
    if isinstance(constraints, (str, *ROW_CONSTRAINTS)) or not has_parts(constraints):
        raise TypeError(f"constraints: expected a list, such as [InOrder('start', 'end')], got {shown(constraints)}")
    for one in (found := tuple(constraints)):
        if not isinstance(one, ROW_CONSTRAINTS):
            raise TypeError(
                f"constraints: expected InOrder and SumsTo, got {shown(one)} (a function of rows goes to impute(...,"
                " constraints=))"
            )
    return found


CONSTRAINTS: dict[str, Any] = {kind.name: kind for kind in (InOrder, SumsTo)}


def _refuse_twice(name: str, columns: tuple[Hashable, ...]) -> None:
    for column in columns:
        if not is_hashable(column) or is_gap(column):
            raise TypeError(f"{name}: expected names of columns, got {shown(column)}")
    for column in columns:
        if columns.count(column) > 1:
            raise ValueError(f"{name}: expected each column once, got {shown(column)} {columns.count(column)} times")


def to_plain(constraint: RowConstraint) -> dict[str, Any]:
    """A constraint as plain data."""
    return {"name": constraint.name, **vars(constraint)}


def from_plain(data: Mapping[str, Any]) -> RowConstraint:
    """The inverse of :func:`to_plain`."""
    if data["name"] == InOrder.name:
        return InOrder(*data["columns"], strict=data["strict"])
    return SumsTo(tuple(data["parts"]), data["total"], tolerance=data["tolerance"])


def described(constraint: RowConstraint) -> str:
    """As the user wrote it."""
    if isinstance(constraint, InOrder):
        return f"InOrder({', '.join(map(repr, constraint.columns))})"
    return f"SumsTo({list(constraint.parts)!r}, {constraint.total!r})"
