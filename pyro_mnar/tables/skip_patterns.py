"""Skip patterns: which cells have no value to miss, as a condition on other columns of the row.

``not_applicable={"age_at_move": "moved == 0"}``: where the condition is known to hold, the cell is not imputed.  Where
it hangs on a value that is missing itself, each draw decides (:mod:`pyro_mnar.imputation.applicability`).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool
from numpy.typing import NDArray

from pyro_mnar.kinds.reading import cell, row_label
from pyro_mnar.tables.row_functions import RowFunction, is_condition


@dataclass(frozen=True)
class SkipPattern:
    """A column that has no value where a condition on others holds.

    Attributes:
        column: Its name.
        condition: Of the row.
    """

    column: Hashable
    condition: RowFunction

    @property
    def what(self) -> str:
        """What messages call it."""
        return f"not_applicable of column {self.column!r}"

    def holds(self, frame: pd.DataFrame) -> Bool[NDArray, " rows"]:
        """Whether there is no value, row by row; False where a gap leaves it open."""
        return self.condition.booleans(frame, self.what)

    def parents(self, names: Sequence[Hashable]) -> list[Hashable]:
        """Of these columns, those on which it may hang."""
        others = [name for name in names if name != self.column]
        return [name for name in others if not self.condition.names or name in self.condition.names]


class Status(NamedTuple):
    """What a skip pattern says of each row.

    Attributes:
        sure: There is no value; ``(rows,)``.
        open: A missing value decides whether there is one; ``(rows,)``.
    """

    sure: Bool[NDArray, " rows"]
    open: Bool[NDArray, " rows"]


def divided(given: Mapping[Hashable, Any], frame: pd.DataFrame) -> tuple[dict[Hashable, Any], tuple[SkipPattern, ...]]:
    """What was given of cells without a value, in codes and marks on one hand, conditions on the other."""
    cells, patterns = {}, []
    for name, entry in given.items():
        if callable(entry) or (isinstance(entry, str) and is_condition(entry)):
            if name not in frame.columns:
                raise ValueError(f"column {name!r}: expected one of {list(frame.columns)!r}")
            condition = RowFunction.of(entry, frame, f"not_applicable of column {name!r}")
            if name in condition.names:
                raise ValueError(f"not_applicable of column {name!r}: expected a condition on other columns")
            patterns.append(SkipPattern(name, condition))
        else:
            cells[name] = entry
    return cells, tuple(patterns)


def statuses(
    patterns: Sequence[SkipPattern], gaps: pd.DataFrame, imputed: Sequence[Hashable]
) -> dict[Hashable, Status]:
    """What skip patterns say of the rows of a frame in which missing values are gaps, in the order of the patterns.

    Args:
        patterns: Of one table.
        gaps: The frame.
        imputed: Columns whose gaps are imputed.

    Raises:
        ValueError: If a value stands where there is none; names the row.
    """
    found: dict[Hashable, Status] = {}
    missing = {name: gaps[name].isna().to_numpy() for name in imputed}
    for pattern in patterns:
        values = gaps[pattern.column]
        unknown = np.zeros(len(gaps), dtype=bool)
        for name in pattern.parents(imputed):
            unknown |= missing[name]
        holds = pattern.holds(gaps)
        sure = holds & ~unknown
        wrong = sure & values.notna().to_numpy()
        if wrong.any():
            at = int(wrong.argmax())
            raise ValueError(
                f"{pattern.what}: expected a gap in row {row_label(values, at)!r}, where {pattern.condition} holds, got"
                f" {cell(values, at)!r}"
            )
        found[pattern.column] = Status(sure, unknown)
        if pattern.column in missing:
            missing[pattern.column] = missing[pattern.column] & ~sure  # what is not there is no gap to be filled
    return found
