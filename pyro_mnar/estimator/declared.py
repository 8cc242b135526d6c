"""What the imputer's arguments may be given as, and what they mean for the rows to fit."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from pyro_mnar.graphs.graph import MissingnessGraph
from pyro_mnar.messages import has_parts, shown
from pyro_mnar.tables.table import Table

GraphLike = MissingnessGraph | str | Sequence[Any] | Mapping[Any, Any]
LARGEST_SEED = np.iinfo(np.int32).max


def graph_of(given: GraphLike | None, table: Table) -> MissingnessGraph | None:
    """A graph from itself, the name of a preset, its edges, the causes of each column, or what a graph's file holds."""
    if given is None or isinstance(given, MissingnessGraph):
        return given
    if isinstance(given, str):
        return MissingnessGraph.preset(given, table)
    if isinstance(given, Mapping):
        is_file = "edges" in given or "preset" in given
        return MissingnessGraph.from_dict(given, table) if is_file else MissingnessGraph.from_parents(given, table)
    return MissingnessGraph(given, table)


def named(given: Collection[Hashable], labels: list[Hashable], argument: str) -> list[Hashable]:
    """Labels of columns that may be given by position.

    Raises:
        TypeError: If they are one text.
        ValueError: If one is neither a label nor a position.
    """
    if isinstance(given, str) or not has_parts(given):
        raise TypeError(f"{argument}: expected a list of columns, got {shown(given)}")
    return [_label(entry, labels, argument) for entry in given]


def by_name(given: Any, labels: list[Hashable], argument: str) -> Any:
    """The same of a mapping's keys; anything else as it is."""
    if not isinstance(given, Mapping):
        return given
    return {_label(entry, labels, argument): value for entry, value in given.items()}


def seed_of(random_state: Any) -> int:
    """A seed from what scikit-learn takes for one: an int, a generator of NumPy's, or None.

    Raises:
        ValueError: If it is none of these.
    """
    try:
        return int(check_random_state(random_state).randint(LARGEST_SEED))
    except (ValueError, TypeError):
        raise ValueError(
            f"random_state: expected a seed or a generator of NumPy's, got {shown(random_state)}"
        ) from None


def _label(entry: Hashable, labels: list[Hashable], argument: str) -> Hashable:
    if entry in labels:
        return entry
    if isinstance(entry, (int, np.integer)) and -len(labels) <= entry < len(labels):
        return labels[int(entry)]
    raise ValueError(f"{argument}: column {entry!r}: expected one of {labels!r}")
