"""What is known of a gap beside that it is one: limits of detection, interval answers, the range of a quantity.

Two readings, and they differ in what the mechanism is told.  A bound for a whole *column* is knowledge about every
value of it: its gaps were withheld all the same, and the mechanism scores them as ever.  A bound for a single *cell* is
an answer ("below 0.5", "between 20 and 30"): the cell was observed, if roughly, and no mechanism scores its mask.
Either way the cell enters the likelihood with p(lower ≤ x ≤ upper | z) and is imputed inside.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pyro_mnar.kinds.reading import numbers_of, row_label
from pyro_mnar.messages import is_gap, is_one_of, shown
from pyro_mnar.tables.columns import Column
from pyro_mnar.tables.schema import Schema

CellBounds = Mapping[Hashable, Any]  # per column one bound for all its gaps, or one for each row, NaN where none
ENDS = ("lower", "upper")


@dataclass(frozen=True, eq=False)
class Bounds:
    """Least and greatest values that gaps can have, infinite where nothing is known.

    Attributes:
        lower: In the user's units, to the least value that the column's dtype can hold; ``(rows, columns)``.
        upper: The same of the greatest values.
        answered: Gaps of which a bound was given for the cell itself; ``(rows, columns)``.
        on_line: Both standardised, on the unconstrained scale; beside levels and whole numbers a bound stands halfway
            to the first one outside; ``(2, rows, columns)``.
    """

    lower: Float[NDArray, "rows columns"]
    upper: Float[NDArray, "rows columns"]
    answered: Bool[NDArray, "rows columns"]
    on_line: Float[Tensor, "2 rows columns"]

    @classmethod
    def of_frame(
        cls,
        frame: pd.DataFrame,
        numbers: Float[NDArray, "rows columns"],
        schema: Schema,
        lower: CellBounds | None,
        upper: CellBounds | None,
        dtype: torch.dtype,
    ) -> Bounds | None:
        """Bounds of a frame's gaps, those of the schema's columns included; None if there are none.

        Args:
            frame: The rows.
            numbers: Their cells as numbers in the user's units, NaN for gaps.
            schema: Columns, and bounds of whole columns.
            lower: As for :meth:`~pyro_mnar.Table.from_frame`.
            upper: The same.
            dtype: Floating type of the model.

        Raises:
            ValueError: If a bound is none, excludes an observed value or leaves no room; names column and row.
        """
        given = {end: _by_column(cells, end, schema) for end, cells in zip(ENDS, (lower, upper), strict=True)}
        if not (schema.bounds or given["lower"] or given["upper"]):
            return None
        limits = {"lower": np.full(numbers.shape, -np.inf), "upper": np.full(numbers.shape, np.inf)}
        for name, *both in schema.bounds:
            for end, value in zip(ENDS, both, strict=True):
                limits[end][:, schema.names.index(name)] = value
        gaps, answered = np.isnan(numbers), np.zeros(numbers.shape, dtype=bool)
        for end, cells in given.items():
            narrower = np.maximum if end == "lower" else np.minimum
            for name, entry in cells.items():
                at = schema.names.index(name)
                limit = _numbers_of(entry, end, frame[name], schema.columns[at])
                # A bound at an observed cell says nothing that its value does not, so only the check below needs it.
                limits[end][:, at] = narrower(limits[end][:, at], limit)
                if not pd.api.types.is_scalar(entry):
                    answered[:, at] |= gaps[:, at] & np.isfinite(limit)
        _check_observed(frame, numbers, schema, limits)
        for end, cells in given.items():
            for name, entry in cells.items():
                at = schema.names.index(name)
                if not pd.api.types.is_scalar(entry):
                    whole = schema.bounds_of(name)[0 if end == "lower" else 1]
                    limits[end][:, at] = np.where(gaps[:, at], limits[end][:, at], whole)
        on_line = np.empty((2, *numbers.shape))
        for at, column in enumerate(schema.columns):
            values = frame[column.name]
            is_whole = _is_whole(column, values.dtype)
            ends = _held(limits["lower"][:, at], limits["upper"][:, at], values.dtype, is_whole=is_whole)
            limits["lower"][:, at], limits["upper"][:, at] = ends
            on_line[:, :, at] = (column.kind.limits(np.stack(ends), is_whole=is_whole) - column.mean) / column.std
        line = torch.from_numpy(on_line).to(dtype)
        _check_room(frame, gaps & (line[0] >= line[1]).numpy(), schema, limits)
        return cls(limits["lower"], limits["upper"], answered, line)

    def take(self, rows: ArrayLike) -> Bounds:
        """Of some of the rows, by position."""
        at = np.asarray(rows)
        return Bounds(self.lower[at], self.upper[at], self.answered[at], self.on_line[:, torch.from_numpy(at)])

    def hold(self, values: Float[NDArray, "*draws cells"], cells: Int[NDArray, "2 cells"]) -> None:
        """Keep values of cells inside, whatever rounding did to them; in place, in the user's units."""
        rows, columns = cells
        np.clip(values, self.lower[rows, columns], self.upper[rows, columns], out=values)


def of_columns(
    lower: CellBounds | None, upper: CellBounds | None, schema: Schema
) -> tuple[tuple[Hashable, float, float], ...]:
    """The bounds of whole columns among those given, as a schema keeps them."""
    wide: dict[Hashable, list[float]] = {}
    for position, (end, cells) in enumerate(zip(ENDS, (lower, upper), strict=True)):
        for name, entry in _by_column(cells, end, schema).items():
            if pd.api.types.is_scalar(entry):
                column = schema.columns[schema.names.index(name)]
                number = float(_numbers_of(entry, end, pd.Series([entry]), column)[0])
                wide.setdefault(name, [-np.inf, np.inf])[position] = number
    return tuple((name, least, most) for name, (least, most) in wide.items())


def check_bounds(end: str, cells: Any) -> None:
    """TypeError unless bounds are a mapping from columns; ValueError for one number that is none."""
    if cells is not None and not isinstance(cells, Mapping):
        raise TypeError(f"{end}: expected a mapping from columns to bounds, got {shown(cells)}")
    for name, entry in ({} if cells is None else cells).items():
        if is_gap(entry):
            raise ValueError(f"{end} of column {name!r}: expected a bound, got {shown(entry)}")


def _by_column(cells: CellBounds | None, end: str, schema: Schema) -> Mapping[Hashable, Any]:
    check_bounds(end, cells)
    for name in cells or {}:
        if not is_one_of(name, schema.names):
            raise ValueError(f"{end} of column {name!r}: expected one of the modelled columns {schema.names!r}")
        kind = schema.columns[schema.names.index(name)].kind
        if not kind.has_order:
            raise ValueError(
                f"{end} of column {name!r}: expected a column whose values have an order, got kind {kind.name!r} (make"
                " it 'ordinal' if its levels have one)"
            )
    return cells or {}


def _numbers_of(entry: Any, end: str, values: pd.Series, column: Column) -> NDArray[np.float64]:
    """One bound a row as numbers in the user's units, infinite where there is none."""
    what = f"{end} of column {column.name!r}"
    if pd.api.types.is_scalar(entry):
        given = pd.Series([entry] * len(values), index=values.index)
    else:
        if len(entry) != len(values):
            raise ValueError(f"{what}: expected {len(values)} bounds, one a row, got {len(entry)}")
        if isinstance(entry, pd.Series) and not entry.index.equals(values.index):
            raise ValueError(f"{what}: expected the frame's own index, got another (an array is taken by position)")
        given = entry if isinstance(entry, pd.Series) else pd.Series(list(entry), index=values.index)
    none = -np.inf if end == "lower" else np.inf
    given = given.astype(object).where(~given.isin([none]), None)  # an infinite bound is none
    try:
        numbers = column.read(given) if column.kind.holds_words else numbers_of(given.infer_objects(), column.name)
    except ValueError as error:
        raise ValueError(f"{end} of {error}") from None
    return np.where(np.isnan(numbers), none, numbers)


def _check_observed(
    frame: pd.DataFrame, numbers: NDArray[np.float64], schema: Schema, limits: Mapping[str, NDArray[np.float64]]
) -> None:
    for end, beyond in (("lower", numbers < limits["lower"]), ("upper", numbers > limits["upper"])):
        if beyond.any():
            row, at = map(int, np.argwhere(beyond)[0])
            name, more = schema.names[at], int(beyond[:, at].sum()) - 1
            others = f" (and in {more} other rows)" if more else ""
            raise ValueError(
                f"column {name!r}: expected values {'from' if end == 'lower' else 'up to'} the {end} bound"
                f" {limits[end][row, at]:g}, got {numbers[row, at]:g} in row {row_label(frame, row)!r}{others}"
            )


def _check_room(
    frame: pd.DataFrame, empty: NDArray[np.bool_], schema: Schema, limits: Mapping[str, NDArray[np.float64]]
) -> None:
    if empty.any():
        row, at = map(int, np.argwhere(empty)[0])
        raise ValueError(
            f"column {schema.names[at]!r}: expected bounds with room for a value between them, got"
            f" {limits['lower'][row, at]:g} and {limits['upper'][row, at]:g} in row {row_label(frame, row)!r} (one"
            " possible value is the value itself)"
        )


def _is_whole(column: Column, dtype: Any) -> bool:
    """Whether only whole numbers come out, whatever the model holds."""
    return column.kind.is_whole or pd.api.types.is_integer_dtype(dtype)


def _held(
    lower: NDArray[np.float64], upper: NDArray[np.float64], dtype: Any, *, is_whole: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The same bounds at values that the frame's dtype can hold: rounding to it then leads to none outside."""
    dtype = getattr(dtype, "numpy_dtype", dtype)
    if is_whole:
        return np.ceil(lower), np.floor(upper)
    if not (isinstance(dtype, np.dtype) and dtype.kind == "f" and dtype.itemsize < 8):
        return lower, upper
    low, high = lower.astype(dtype), upper.astype(dtype)
    low = np.where(low < lower, np.nextafter(low, dtype.type(np.inf)), low)
    high = np.where(high > upper, np.nextafter(high, dtype.type(-np.inf)), high)
    return low.astype(np.float64), high.astype(np.float64)
