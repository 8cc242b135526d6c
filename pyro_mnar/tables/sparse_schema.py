"""The schema of a sparse table: what a frame says column by column, read off entries."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy.typing import NDArray

from pyro_mnar.kinds import Kind
from pyro_mnar.kinds.choice import Choice, choice_of
from pyro_mnar.kinds.numbers import told_whole
from pyro_mnar.messages import shown
from pyro_mnar.tables.columns import Auxiliary
from pyro_mnar.tables.moments import GroupedMoments, Moments
from pyro_mnar.tables.schema import Schema
from pyro_mnar.tables.summary import ColumnSummary, auxiliary_of, schema_of_columns

Kinds = str | Kind | Mapping[Hashable, str | Kind] | None
Units = Literal["columns", "table"]
STACKLEVEL = 5  # from schema_of_entries to who calls Table.from_long
SHOWN = 5  # column names in a message; a sparse table may have thousands


@dataclass(frozen=True, eq=False)
class RawEntries:
    """The observed entries of a table, in the user's own form.

    Attributes:
        rows: Position of each entry's row; ``(entries,)``.
        columns: Position of its column; ``(entries,)``.
        values: What stands in it, with the rows' labels; of ``(entries,)`` without gaps.
        num_rows: Number of rows.
        names: Of all columns.
    """

    rows: Int[NDArray, " entries"]
    columns: Int[NDArray, " entries"]
    values: pd.Series
    num_rows: int
    names: Sequence[Hashable]

    def at(self, chosen: NDArray[Any]) -> RawEntries:
        """Some of the entries, by position or by a boolean each."""
        return replace(self, rows=self.rows[chosen], columns=self.columns[chosen], values=self.values.iloc[chosen])

    def of_column(self, position: int) -> pd.Series:
        """The values of one column."""
        return self.values[self.columns == position]


def schema_of_entries(
    entries: RawEntries,
    *,
    auxiliaries: tuple[Auxiliary, ...] | Literal["mask"] | None,
    kinds: Kinds,
    units: Units,
) -> Schema:
    """Read the schema off the entries of a training table.

    Args:
        entries: What is observed.
        auxiliaries: U, if columns of their own were named; None if the complete columns serve as U.
        kinds: One kind for all columns, or kinds of single columns by name, the others' being inferred from their
            values together.
        units: Standardise each column by its own moments, or all columns of a kind by common ones.

    Raises:
        ValueError: If there is no entry, or values do not fit a kind.
    """
    if not len(entries.values):
        raise ValueError("expected at least one observed value, got none")
    choices = _choices(entries, kinds)
    if pd.api.types.is_numeric_dtype(entries.values.dtype):
        # All columns together: of a few values, those of one column may be whole by chance.
        seen = entries.values.to_numpy(dtype=np.float64, na_value=np.nan)
        choices = [choice._replace(kind=told_whole(choice.kind, seen)) for choice in choices]
    chosen = [choice.kind for choice in choices]
    on_line = encoded_numbers(entries, chosen)
    moments = _moments(on_line, entries.columns, chosen, units)
    in_units = _moments(_constrained(on_line, entries.columns, chosen), entries.columns, chosen, "columns")
    is_complete = np.bincount(entries.columns, minlength=len(entries.names)) == entries.num_rows
    # A column of few values often has equal ones, so none is called constant.
    columns = [
        ColumnSummary(name, choice, of_column, complete, of_user)
        for name, choice, of_column, complete, of_user in zip(
            entries.names, choices, moments, is_complete.tolist(), in_units, strict=True
        )
    ]
    if isinstance(auxiliaries, str):
        return schema_of_columns(columns, (), "mask", stacklevel=STACKLEVEL)
    if auxiliaries is not None:
        return schema_of_columns(columns, auxiliaries, "named" if auxiliaries else "none", stacklevel=STACKLEVEL)
    serving = tuple(
        auxiliary_of(entries.of_column(position), entries.names[position])
        for position in np.flatnonzero(is_complete).tolist()
    )
    return schema_of_columns(columns, serving, "complete", stacklevel=STACKLEVEL)


def standardised(entries: RawEntries, schema: Schema) -> Float[NDArray, " entries"]:
    """Values of the entries in standard deviations from their columns' means, on the unconstrained scale."""
    numbers = encoded_numbers(entries, [column.kind for column in schema.columns])
    means = np.array([column.mean for column in schema.columns])
    stds = np.array([column.std for column in schema.columns])
    return (numbers - means[entries.columns]) / stds[entries.columns]


def encoded_numbers(entries: RawEntries, kinds: Sequence[Kind]) -> Float[NDArray, " entries"]:
    """Values of the entries on the unconstrained scale, one pass a kind; ValueError naming column, row and value."""
    numbers = np.empty(len(entries.values))
    for kind, at in _by_kind(entries.columns, kinds):
        part = entries.values if len(at) == len(numbers) else entries.values.iloc[at]
        try:
            numbers[at] = kind.scale.unconstrained(kind.read(part, "value"))
        except ValueError:
            _name_culprit(part, entries.columns[at], entries.names, kind)
            raise
    return numbers


def _constrained(
    numbers: Float[NDArray, " entries"], columns: Int[NDArray, " entries"], kinds: Sequence[Kind]
) -> Float[NDArray, " entries"]:
    """Numbers of the unconstrained scale in the user's units, one pass a kind."""
    constrained = numbers.copy()
    for kind, at in _by_kind(columns, kinds):
        if not kind.scale.is_linear:
            constrained[at] = kind.scale.constrained(numbers[at])
    return constrained


def _name_culprit(values: pd.Series, columns: NDArray[np.int64], names: Sequence[Hashable], kind: Kind) -> None:
    """Read again column by column, so that the error names the column."""
    for position in np.unique(columns).tolist():
        kind.read(values[columns == position], names[position])


def _choices(entries: RawEntries, given: Kinds) -> list[Choice]:
    if not isinstance(given, Mapping):
        return [_pooled(entries.values, given)] * len(entries.names)
    positions = {name: position for position, name in enumerate(entries.names)}
    for name in given:
        if name not in positions:
            raise ValueError(f"kinds: expected the name of a column, got {shown(name)}")
    own: dict[int, Choice] = {}
    order = np.argsort(entries.columns, kind="stable")
    bounds = np.searchsorted(entries.columns[order], np.arange(len(entries.names) + 1))
    for name, kind in given.items():
        position = positions[name]
        at = order[bounds[position] : bounds[position + 1]]
        own[position] = choice_of(entries.values.iloc[at], name, kind)
    others = ~np.isin(entries.columns, list(own))
    pooled = _pooled(entries.values[others], None) if others.any() else None
    pooled = pooled or _pooled(entries.values, None)
    return [own.get(position, pooled) for position in range(len(entries.names))]


def _pooled(values: pd.Series, given: str | Kind | None) -> Choice:
    return choice_of(values, values.name if values.name is not None else "value", given)


def _by_kind(columns: NDArray[np.int64], kinds: Sequence[Kind]) -> Iterator[tuple[Kind, NDArray[np.int64]]]:
    """Each kind with the positions of its entries."""
    codes: dict[Kind, int] = {}
    of_column = np.array([codes.setdefault(kind, len(codes)) for kind in kinds])
    of_entry = of_column[columns]
    order = np.argsort(of_entry, kind="stable")
    bounds = np.searchsorted(of_entry[order], np.arange(len(codes) + 1))
    for kind, code in codes.items():
        yield kind, order[bounds[code] : bounds[code + 1]]


def _moments(
    numbers: Float[NDArray, " entries"], columns: Int[NDArray, " entries"], kinds: Sequence[Kind], units: Units
) -> list[Moments]:
    """Units of each column; those of its kind for a column without values."""
    num_columns = len(kinds)
    codes: dict[Kind, int] = {}
    group = np.array([codes.setdefault(kind, len(codes)) for kind in kinds])
    means, stds = (moments[group] for moments in GroupedMoments.of(numbers, group[columns], len(codes)))
    if units == "columns":
        own = GroupedMoments.of(numbers, columns, num_columns)
        is_empty = np.bincount(columns, minlength=num_columns) == 0
        means, stds = np.where(is_empty, means, own.means), np.where(is_empty, stds, own.stds)
    return [Moments(*moments) for moments in zip(means.tolist(), stds.tolist(), strict=True)]
