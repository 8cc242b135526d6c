"""What rows that show a derived column and all columns of its formula say of the formula.

Single rows that contradict it are typing errors, and are named in a warning: what was seen stays.  A formula that many
contradict, as one of kilograms does a column computed from pounds, would make wrong arguments of all derived values, so
it is refused.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from pyro_mnar.kinds.dtypes import plain
from pyro_mnar.kinds.reading import numbers_of, row_label
from pyro_mnar.tables.derived import Derived

TOLERANCE = 0.01  # share by which a derived value may differ from its formula: people round
GROSS = 0.25  # standard deviations of the derived column beyond which a difference is no rounding
SHARE = 0.2  # of the rows, above which those that differ so are more than typing errors
FEW = 2  # rows that may be typing errors whatever their share


class Evidence(NamedTuple):
    """A derived column beside its formula.

    Attributes:
        seen: The derived values, NaN where there is none; ``(rows,)``.
        given: What the formula gives, NaN where a column of it is missing; ``(rows,)``.
        shown: Rows with both; ``(rows,)``.
        differs: Of these, those that differ by more than rounding; ``(rows,)``.
        contradicts: Of these, those that differ by a good part of the column's spread; ``(rows,)``.
    """

    seen: Float[NDArray, " rows"]
    given: Float[NDArray, " rows"]
    shown: Bool[NDArray, " rows"]
    differs: Bool[NDArray, " rows"]
    contradicts: Bool[NDArray, " rows"]

    @classmethod
    def of(cls, one: Derived, gaps: pd.DataFrame) -> Evidence:
        """Of a frame's rows, in plain dtypes, missing values as gaps."""
        seen, given = numbers_of(plain(gaps[one.column]), one.column), one.formula.numbers(gaps, one.what)
        shown = ~np.isnan(seen) & ~np.isnan(given)
        largest = np.max(np.abs(seen[shown]), initial=0.0)
        # What is small is rounded to the digits that the largest have.
        slack = TOLERANCE * np.maximum(np.maximum(np.abs(given), np.abs(seen)), TOLERANCE * largest)
        spread = 1.4826 * np.median(np.abs(seen[shown] - np.median(seen[shown]))) if shown.any() else 0.0
        with np.errstate(invalid="ignore", over="ignore"):
            away = np.abs(given - seen)
            return cls(seen, given, shown, shown & (away > slack), shown & (away > np.maximum(slack, GROSS * spread)))

    @property
    def offset(self) -> str:
        """How seen values and the formula's differ, as a unit does: by a factor, or by an amount."""
        with np.errstate(all="ignore"):
            seen, given = self.seen[self.contradicts], self.given[self.contradicts]
            ratio, difference = np.median(seen / given), np.median(seen - given)
            by_factor = np.median(np.abs(seen - ratio * given))
        if np.isfinite(by_factor) and by_factor <= np.median(np.abs(seen - given - difference)):
            return f"the median is {ratio:.4g} times what it gives"
        return f"the median is {abs(difference):.4g} {'more' if difference > 0 else 'less'} than what it gives"


def check_formula(one: Derived, gaps: pd.DataFrame, *, is_training: bool, stacklevel: int) -> None:
    """Refuse a formula that rows contradict, and name those that do where they are few.

    Args:
        one: The derived column.
        gaps: The rows, in plain dtypes, missing values as gaps.
        is_training: Whether the formula is declared for these rows, and not for those that a fit has seen.
        stacklevel: Of warnings, as seen from the caller.

    Raises:
        ValueError: If more than a fifth of the rows that show it contradict it, and not only two of new rows.
    """
    found = Evidence.of(one, gaps)
    shown, against = int(found.shown.sum()), int(found.contradicts.sum())
    enough = against > FEW or (is_training and 2 * against > shown)
    if enough and against > SHARE * shown:
        at = int(found.contradicts.argmax())
        raise ValueError(
            f"{one.what}: expected what {one.formula} gives, got something else in {against} of {shown} rows that show"
            f" all of it, the first of them {row_label(gaps, at)!r} ({found.seen[at]:g}, the formula gives"
            f" {found.given[at]:g}; {found.offset}): is it in another unit? Mend the formula or the column, or"
            f" carry=[{one.column!r}] without a formula"
        )
    if found.differs.any():
        at = int(found.differs.argmax())
        warnings.warn(
            f"{one.what}: {one.formula} gives {found.given[at]:g} in row {row_label(gaps, at)!r}, where"
            f" {found.seen[at]:g} stands ({int(found.differs.sum())} such rows of {shown}); what was seen stays",
            stacklevel=stacklevel + 1,
        )
    if not shown and is_training:
        _warn_of_apart(one, found, stacklevel=stacklevel + 1)


def _warn_of_apart(one: Derived, found: Evidence, *, stacklevel: int) -> None:
    """Where no row shows both, and what was seen is nothing like what the formula gives in other rows, say so."""
    seen, given = found.seen[~np.isnan(found.seen)], found.given[~np.isnan(found.given)]
    if not (len(seen) and len(given)):
        return
    median_seen, median_given = float(np.median(seen)), float(np.median(given))
    if not (given.min() <= median_seen <= given.max() and seen.min() <= median_given <= seen.max()):
        warnings.warn(
            f"{one.what}: no row shows both it and all that {one.formula} reads; the median is {median_seen:g} where it"
            f" was seen, and the formula gives {median_given:g} elsewhere: is it in another unit?",
            stacklevel=stacklevel + 1,
        )
