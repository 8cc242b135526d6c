"""Which of several missing arguments follows from a derived value that was seen, once the others are drawn.

Of d = g(a, b), seen where a and b are missing, imputation draws b and solves for a
(:mod:`pyro_mnar.imputation.row_conditions`).  The argument that is solved for has a density, and g is monotone in it
over all that it can be expected to be, whatever the others are: one value and no other gives d.  Of several such it is
the one over whose values d changes most: the others then say the least about it, and few draws are wasted.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from pyro_mnar.kinds.dtypes import plain
from pyro_mnar.kinds.reading import holds_code, numbers_of, row_label
from pyro_mnar.tables.columns import Column
from pyro_mnar.tables.constraints import RowConstraint, SumsTo
from pyro_mnar.tables.derived import BISECTIONS, Derived
from pyro_mnar.tables.schema import Schema

BEYOND = 1.0  # times the range of the values seen: how far beyond them an argument is sought; of 30 normal ones 6 sd
NEAR = 1e-6  # share of what d changes by over the values seen, within which two numbers are the same
EXACT = 1e-13  # the same, within which they differ by rounding
STEP = 1e-5  # of the range of the values seen, for slopes
POINTS = 33  # below, among and above the values seen, at which it is tried whether a formula is monotone
CONTEXTS = 32  # values of the other arguments at which it is


class Following(NamedTuple):
    """A derived column, and what follows from it in which rows.

    Attributes:
        derived: The derived column.
        seen: Its values, NaN where there is none; ``(rows,)``.
        at: Position of the argument that follows from the others, -1 where none does; ``(rows,)``.
        unused: Rows in which a value was seen, arguments are missing, and none of them follows; ``(rows,)``.
    """

    derived: Derived
    seen: Float[NDArray, " rows"]
    at: Int[NDArray, " rows"]
    unused: Bool[NDArray, " rows"]


class Solution(NamedTuple):
    """Values of an argument by which a formula gives what was seen.

    Attributes:
        point: On the line that the column is modelled on; ``(rows,)``.
        log_slope: Log-derivative of the point by the derived value; ``(rows,)``.
        is_found: Whether there is one; ``(rows,)``.
        is_free: Whether the formula gives what was seen whatever the argument is, as 0 · a gives 0; ``(rows,)``.
    """

    point: Float[NDArray, " rows"]
    log_slope: Float[NDArray, " rows"]
    is_found: Bool[NDArray, " rows"]
    is_free: Bool[NDArray, " rows"]


@dataclass(frozen=True)
class OneArgument:
    """A formula as a function of one argument, which runs over the line that its column is modelled on.

    Attributes:
        derived: The derived column.
        column: The argument.
        others: Values of the other arguments, one a row.
    """

    derived: Derived
    column: Column
    others: pd.DataFrame

    def __call__(self, points: Float[NDArray, "points rows"]) -> Float[NDArray, "points rows"]:
        """What the formula gives, NaN where it is not defined."""
        frame = self.others
        if len(points) > 1:
            frame = frame.iloc[np.tile(np.arange(len(frame)), len(points))]
        frame = frame.copy(deep=False)
        frame[self.column.name] = self.column.decode_mean(points.ravel())
        return self.derived.formula.numbers(frame, self.derived.what).reshape(points.shape)

    @cached_property
    def ends(self) -> Float[NDArray, " 2"]:
        """The least and the greatest value seen."""
        ends = np.array([self.column.least, self.column.greatest])
        return self.column.encode(ends) if np.isfinite(ends).all() else np.array([-3.0, 3.0])

    @property
    def reach(self) -> Float[NDArray, " 2"]:
        """The ends of where values are sought."""
        return self.ends + BEYOND * np.ptp(self.ends) * np.array([-1.0, 1.0])

    def solve(self, seen: Float[NDArray, " rows"]) -> Solution:
        """The argument by what was seen, where the formula is monotone in it."""
        of_ends = self(np.repeat(self.ends[:, None], len(seen), 1))
        change = of_ends[1] - of_ends[0]
        size = np.maximum(np.abs(seen), np.abs(change))
        with np.errstate(all="ignore"):  # a straight line through both ends, as sums and products are
            values = self.column.decode_mean(self.ends)
            point = self.column.encode(values[0] + np.ptp(values) * (seen - of_ends[0]) / change)
            is_exact = np.abs(self(point[None])[0] - seen) <= EXACT * size
            beyond = (self(np.repeat(self.reach[:, None], len(seen), 1)) - seen).prod(0) > 0
            rest = np.flatnonzero(~is_exact & ~beyond)
        if len(rest):
            part = OneArgument(self.derived, self.column, self.others.iloc[rest])
            point[rest] = part._bisected(seen[rest], np.sign(change[rest]))
        step = STEP * np.ptp(self.ends)
        before, given, after = self(np.stack([point - step, point, point + step]))
        with np.errstate(divide="ignore"):
            log_slope = np.log(2 * step) - np.log(np.abs(after - before))
        is_given = np.abs(given - seen) <= NEAR * size
        return Solution(point, log_slope, (change != 0) & is_given & np.isfinite(log_slope), (change == 0) & is_given)

    def _bisected(self, seen: Float[NDArray, " rows"], rising: Float[NDArray, " rows"]) -> Float[NDArray, " rows"]:
        """Where the formula crosses what was seen, if it does."""
        (low, high), middle = np.repeat(self.reach[:, None], len(seen), 1), self.ends.mean()
        for _ in range(BISECTIONS):
            point = (low + high) / 2
            excess = (self(point[None])[0] - seen) * rising
            # Where the formula is not defined, the point is beyond the end on whose side it lies.
            is_below = np.where(np.isnan(excess), point < middle, excess < 0)
            low, high = np.where(is_below, point, low), np.where(is_below, high, point)
        return (low + high) / 2

    def change(self) -> float:
        """By how much d changes over the values seen, the median over the other arguments; 0 unless it is monotone."""
        ends = [self.reach[0], *self.ends, self.reach[1]]
        grid = np.concatenate([np.linspace(*pair, POINTS) for pair in pairwise(ends)])
        found = self(np.repeat(grid[:, None], len(self.others), 1))
        inner = grid[POINTS : 2 * POINTS, None] + np.zeros(len(self.others))
        step = STEP * np.ptp(self.ends)
        slopes = self(inner + step) - self(inner - step)
        over = np.abs(found[2 * POINTS - 1] - found[POINTS])
        varies = over > 0
        known, steps = np.isfinite(found), np.diff(found, axis=0)
        slack = 1e-12 * np.abs(found[1:])
        pieces = (known[1:] & ~known[:-1]).sum(0) + known[0]
        turns = ((steps > slack).any(0) & (steps < -slack).any(0)) | (pieces > 1) | (slopes == 0).any(0)
        return float(np.median(over[varies])) if varies.any() and not turns[varies].any() else 0.0


def following(
    schema: Schema,
    frame: pd.DataFrame,
    mask: Bool[NDArray, "rows columns"],
    wanted: Bool[NDArray, "rows columns"],
    constraints: Sequence[RowConstraint],
) -> list[Following]:
    """What follows from the derived values seen in some rows, in the order in which it can be put in.

    A later one may determine only what no earlier one, and no sum, has used.

    Args:
        schema: The columns.
        frame: The user's frame.
        mask: True where observed.
        wanted: True where imputed.
        constraints: What else holds of the rows.
    """
    formulas, names = [one for one in schema.derived if one.column in frame.columns], schema.names
    if not formulas:
        return []
    taken = np.zeros_like(wanted)
    for constraint in constraints:
        if isinstance(constraint, SumsTo):
            taken[:, [names.index(name) for name in constraint.columns if name in names]] = True
    seen = np.stack([numbers_of(_uncoded(one.column, schema, frame), one.column) for one in formulas], axis=1)
    members = [[names.index(name) for name in one.formula.names if name in names] for one in formulas]
    counts = np.stack([wanted[:, at].sum(1) for at in members], axis=1)
    told = ~np.isnan(seen) & (counts > 0)
    preferred = [_preferred(one, schema, frame) for one in formulas]
    usable = np.stack([_usable(one, schema, frame, mask | wanted, wanted) for one in formulas], axis=1)
    usable &= told & (counts > 1)  # of one alone it was sought before
    # Who has the fewest missing arguments leaves the most to the others.
    order = np.where(told, counts, len(names) + 1).argsort(1, kind="stable")
    found = []
    for rank in range(len(formulas)):
        for number, one in enumerate(formulas):
            here, at = (order[:, rank] == number) & told[:, number], np.full(len(frame), -1)
            for position in preferred[number]:
                at[here & usable[:, number] & wanted[:, position] & ~taken[:, position]] = position
            taken[np.ix_(here, members[number])] = True
            if here.any():
                found.append(Following(one, np.where(here, seen[:, number], np.nan), at, here & (at < 0)))
    return found


def warn_of_unused(found: Sequence[Following], frame: pd.DataFrame, *, stacklevel: int) -> None:
    """Count the rows in which nothing is made of a derived value that was seen."""
    for one in {each.derived: None for each in found}:
        rows = np.flatnonzero(np.any([each.unused for each in found if each.derived is one], axis=0))
        if len(rows):
            warnings.warn(
                f"{one.what}: in {len(rows)} rows, the first of them {row_label(frame, int(rows[0]))!r}, it was seen"
                " and no single argument follows from it, so these are imputed without it and need not give it",
                stacklevel=stacklevel + 1,
            )


def _uncoded(name: Hashable, schema: Schema, frame: pd.DataFrame) -> pd.Series:
    """A column in plain dtypes, codes that stand for no number as gaps."""
    values = plain(frame[name])
    codes = [code for reason in ("na_values", "not_applicable") for code in schema.codes_of(reason).get(name, ())]
    return values.mask(holds_code(values, codes)) if codes else values


def _usable(
    one: Derived,
    schema: Schema,
    frame: pd.DataFrame,
    has_value: Bool[NDArray, "rows columns"],
    wanted: Bool[NDArray, "rows columns"],
) -> Bool[NDArray, " rows"]:
    """Rows whose draws have all arguments: none that is not applicable, or of which each draw decides whether it is."""
    usable = np.ones(len(frame), dtype=bool)
    for name in one.formula.names:
        if name not in schema.names:
            usable &= _uncoded(name, schema, frame).notna().to_numpy()
            continue
        at = schema.names.index(name)
        usable &= has_value[:, at]
        if any(skip.column == name for skip in schema.skips):
            usable &= ~wanted[:, at]
    return usable


def _preferred(one: Derived, schema: Schema, frame: pd.DataFrame) -> list[int]:
    """Positions of the arguments that can follow from the others, the best last; whole ones first."""
    random, others = np.random.default_rng(0), {}
    for name in one.formula.names:
        if name in schema.names:
            column = schema.columns[schema.names.index(name)]
            others[name] = column.labelled(column.decode(random.standard_normal(CONTEXTS)))
        else:
            values = _uncoded(name, schema, frame).dropna()
            if not len(values):
                return []
            others[name] = values.iloc[np.linspace(0, len(values) - 1, CONTEXTS).astype(int)].array
    context, found = pd.DataFrame(others), []
    for at, column in enumerate(schema.columns):
        dtype = frame[column.name].dtype
        is_number = pd.api.types.is_numeric_dtype(plain(frame[column.name]).dtype)
        if column.name in others and is_number and not column.kind.is_discrete and not column.is_constant:
            change = OneArgument(one, column, context).change()
            is_whole = column.kind.is_whole or pd.api.types.is_integer_dtype(dtype)
            found += [(not is_whole, change, at)] if change else []
    return [at for *_, at in sorted(found)]
