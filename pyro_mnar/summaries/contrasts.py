"""What is changed to see how an R depends on a cause: a number by a standard deviation, a level against the first one.

A cause may enter a model at several places: a complete column that also serves as U stands in x and in u, and both are
changed together.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pyro_mnar.graphs.points import Cause, Point
from pyro_mnar.tables.columns import Auxiliary, Column
from pyro_mnar.tables.table import Table

MOST_LEVELS = 12  # of a column, beyond which its levels go by their number


@dataclass(frozen=True, eq=False)
class Contrast:
    """Two values of a cause, all else held.

    Attributes:
        cause: The node that is changed.
        per: ``"sd"``; ``"sd of logarithm"`` for amounts above zero; ``"sd of logit"`` for bounded numbers; ``"level"``;
            ``"seen"`` for another R.
        level: The level whose difference from ``reference`` it is, if it is one of levels.
        reference: The first level.
        low: What makes the lower value of a point.
        high: What makes the higher one.
        steps: By how many units the two differ.
    """

    cause: Hashable
    per: str
    low: _Change
    high: _Change
    steps: float = 1.0
    level: Any = None
    reference: Any = None


@dataclass(frozen=True, eq=False)
class _Change:
    """New values at each of the places where a cause enters: ``(field, columns, values, added)``."""

    places: tuple[tuple[str, list[int], Tensor, bool], ...]

    def __call__(self, point: Point) -> Point:
        for field, columns, values, added in self.places:
            whole = getattr(point, field).clone()
            new = values.to(whole.device)
            whole[:, columns] = whole[:, columns] + new.to(whole.dtype) if added else new.to(whole.dtype)
            point = replace(point, **{field: whole})
        return point


def contrasts_of(node: Hashable, places: list[Cause], table: Table) -> Iterator[Contrast]:
    """The contrasts of one node.

    Args:
        node: A column, an auxiliary or an R; the latent has none.
        places: Where it enters.
        table: The rows, for the names and units of columns.
    """
    schema = table.schema
    columns = {column.name: (at, column) for at, column in enumerate(schema.columns)}
    auxiliaries = {auxiliary.name: auxiliary for auxiliary in schema.auxiliaries}
    if all(place.field == "mask" or (place.field == "aux" and node not in auxiliaries) for place in places):
        low, high = (_change((place, torch.full((len(place.columns),), value)) for place in places) for value in (0, 1))
        yield Contrast(node, "seen", low, high)
    elif node in columns and _goes_by_level(columns[node][1]):
        yield from _of_levels(node, places, columns[node][1], auxiliaries.get(node))
    elif node not in columns and auxiliaries[node].levels:
        yield from _of_auxiliary(node, places, auxiliaries[node])
    else:
        step = _deviation(columns[node], table) if node in columns else 1.0
        steps = [(place, torch.full((1,), step if place.field == "x" else 1.0)) for place in places]
        down = _change(((place, -by) for place, by in steps), added=True)
        yield Contrast(node, _unit(columns.get(node)), down, _change(steps, added=True), steps=2.0)


def _of_levels(node: Hashable, places: list[Cause], column: Column, auxiliary: Auxiliary | None) -> Iterator[Contrast]:
    """Each level against the first; u may hold a copy, standardised likewise or as indicators."""
    levels = column.kind.levels
    points = torch.from_numpy(column.points)

    def at(number: int) -> _Change:
        chosen = []
        for place in places:
            if place.field == "x":
                values = points[[number]]
            elif auxiliary is not None and auxiliary.levels:
                values = (torch.arange(len(place.columns)) == auxiliary.levels.index(levels[number]) - 1).double()
            else:
                values = points[[number]]
            chosen.append((place, values))
        return _change(chosen)

    for number in range(1, len(levels)):
        yield Contrast(node, "level", at(0), at(number), level=levels[number], reference=levels[0])


def _of_auxiliary(node: Hashable, places: list[Cause], auxiliary: Auxiliary) -> Iterator[Contrast]:
    def at(number: int) -> _Change:
        return _change((place, (torch.arange(len(place.columns)) == number - 1).double()) for place in places)

    for number in range(1, len(auxiliary.levels)):
        yield Contrast(node, "level", at(0), at(number), level=auxiliary.levels[number], reference=auxiliary.levels[0])


def _change(values: Any, *, added: bool = False) -> _Change:
    return _Change(tuple((place.field, place.columns, value, added) for place, value in values))


def _goes_by_level(column: Column) -> bool:
    return column.kind.has_levels and (len(column.kind.levels) <= MOST_LEVELS or not column.kind.has_order)


def _deviation(found: tuple[int, Column], table: Table) -> float:
    """One standard deviation of the observed values, in the model's units."""
    at, column = found
    if column.kind.scale.is_linear:
        return column.std_in_units / column.std
    if (column.mean, column.std) != (0.0, 1.0):
        return 1.0
    seen = table.x[table.mask[:, at], at].double()  # kept in its own units, so that nobody noted it
    return float(seen.std(correction=0)) if len(seen) > 1 and seen.std() > 0 else 1.0


def _unit(found: tuple[int, Column] | None) -> str:
    if found is None or found[1].kind.scale.is_linear:
        return "sd"
    return "sd of logit" if found[1].kind.scale.upper < float("inf") else "sd of logarithm"
