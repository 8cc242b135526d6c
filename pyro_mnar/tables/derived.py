"""Derived columns: formulas of others, which no model sees a second time, such as ``{"bmi": "weight / height**2"}``.

A derived value that was seen tells of its arguments: where one of them alone is missing it follows, if one value and no
other gives what was seen; where several are, imputation draws from those that give it
(:mod:`pyro_mnar.tables.derived_arguments`).  Gaps in the derived column are computed in every completed frame.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy.typing import NDArray

from pyro_mnar.kinds.dtypes import plain
from pyro_mnar.kinds.reading import numbers_of
from pyro_mnar.tables.columns import Column
from pyro_mnar.tables.row_functions import RowFunction

GRID = 400  # intervals in which an argument is sought
BISECTIONS = 60
BEYOND = 10.0  # times the greatest argument seen, or the range beyond its ends


@dataclass(frozen=True)
class Derived:
    """A column and its formula.

    Attributes:
        column: Its name.
        formula: Of the row.
    """

    column: Hashable
    formula: RowFunction

    @property
    def what(self) -> str:
        """What messages call it."""
        return f"derived column {self.column!r}"


def derived_of(given: Mapping[Hashable, Any] | None, frame: pd.DataFrame) -> tuple[Derived, ...]:
    """The derived columns that were declared.

    Raises:
        ValueError: If a column is not in the frame, or a formula reads none, itself, or another derived column.
        TypeError: If it is no mapping.
    """
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"derived: expected a mapping from columns to formulas, got {type(given).__name__}")
    found = []
    for name, source in (given or {}).items():
        if name not in frame.columns:
            raise ValueError(f"derived column {name!r}: expected one of {list(frame.columns)!r}")
        one = Derived(name, RowFunction.of(source, frame, f"derived column {name!r}"))
        if not one.formula.names:
            raise ValueError(f"{one.what}: expected a formula of columns read by name, such as f['weight'], got none")
        again = [column for column in one.formula.names if column in (given or {})]
        if again:
            raise ValueError(f"{one.what}: expected a formula of columns that are not derived, got {again[0]!r}")
        found.append(one)
    return tuple(found)


def solved(
    derived: Sequence[Derived], gaps: pd.DataFrame, wanted: Sequence[Hashable], known: Mapping[Hashable, Column]
) -> dict[Hashable, Float[NDArray, " rows"]]:
    """Arguments that follow from derived values, each the only one missing, by column; NaN where none does.

    Args:
        derived: The derived columns.
        gaps: The rows, in plain dtypes, missing values as gaps.
        wanted: The columns whose gaps may be filled.
        known: Columns of the training table, by name, if these are new rows.
    """
    found: dict[Hashable, NDArray[np.float64]] = {}
    gaps = gaps.copy(deep=False)
    formulas = [one for one in derived if one.column in gaps.columns]
    while True:  # what one formula tells may leave another with a single unknown
        before = sum(int((~np.isnan(values)).sum()) for values in found.values())
        for one in formulas:
            target = numbers_of(plain(gaps[one.column]), one.column)
            names = [name for name in one.formula.names if name in wanted]
            missing = np.array([gaps[name].isna() for name in names], dtype=bool).reshape(len(names), len(gaps))
            for name, is_gap in zip(names, missing, strict=True):
                rows = np.flatnonzero(~np.isnan(target) & is_gap & (missing.sum(0) == 1))
                if len(rows) and pd.api.types.is_numeric_dtype(gaps[name].dtype):
                    values = found.setdefault(name, np.full(len(gaps), np.nan))
                    values[rows] = _arguments(one, gaps, rows, name, target[rows], known.get(name))
                    gaps[name] = gaps[name].astype(np.float64).where(np.isnan(values), values)
        if sum(int((~np.isnan(values)).sum()) for values in found.values()) == before:
            return found


def computed(derived: Sequence[Derived], completed: pd.DataFrame) -> dict[Hashable, Float[NDArray, " rows"]]:
    """What formulas give in the rows of a completed frame, by column."""
    found = {}
    for one in derived:
        if one.column in completed.columns:
            arguments = pd.DataFrame({name: plain(completed[name]) for name in one.formula.names})
            found[one.column] = one.formula.numbers(arguments, one.what)
    return found


def _arguments(
    one: Derived,
    gaps: pd.DataFrame,
    rows: Int[NDArray, " rows"],
    name: Hashable,
    target: Float[NDArray, " rows"],
    column: Column | None,
) -> Float[NDArray, " rows"]:
    """The only value of an argument, near those seen, by which the formula gives a number; NaN if there is none."""
    seen = gaps[name].dropna().to_numpy(dtype=np.float64)
    is_whole = (seen == np.rint(seen)).all()
    if column is not None:  # what training rows say counts, however few the new ones
        is_whole = column.kind.holds_integers or column.kind.is_whole
        ends = np.array([column.least, column.greatest])
        seen = np.concatenate([seen, ends[np.isfinite(ends)]])
    if not len(seen):
        return np.full(len(rows), np.nan)
    least, greatest = float(seen.min()), float(seen.max())
    reach = BEYOND * max(greatest - least, 1e-6 * abs(greatest))
    grid = np.linspace(least - reach, greatest + reach, GRID + 1)
    if least > 0:
        grid = np.geomspace(least / BEYOND, greatest * BEYOND, GRID + 1)
    context = gaps.iloc[rows][list(one.formula.names)]

    def excess(values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of values, (points, rows), what the formula gives beyond the target."""
        frame = context.iloc[np.tile(np.arange(len(rows)), len(values))].copy()
        frame[name] = values.ravel()
        return one.formula.numbers(frame, one.what).reshape(values.shape) - target

    found = excess(np.broadcast_to(grid[:, None], (len(grid), len(rows))))
    with np.errstate(invalid="ignore"):
        crosses = (np.sign(found[:-1]) * np.sign(found[1:]) < 0) | (found[:-1] == 0)
    crosses[-1] |= found[-1] == 0
    at = crosses.argmax(0)
    low, high = grid[at], grid[np.minimum(at + 1, GRID)]
    rising = np.sign(np.take_along_axis(found, at[None], 0)[0])
    low_is_root = rising == 0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        same = np.sign(excess(middle[None])[0]) == rising
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    root = np.where(low_is_root, grid[at], (low + high) / 2)
    change = np.abs(np.diff(excess(np.array([[least], [greatest]]) + np.zeros(len(rows))), axis=0)[0])
    is_found = (crosses.sum(0) == 1) & (np.abs(excess(root[None])[0]) <= 1e-6 * np.fmax(np.abs(target), change))
    if is_whole:
        root = np.rint(root)
    return np.where(is_found, root, np.nan)
