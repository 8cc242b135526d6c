"""The kinds by their names: how a word, or what a file holds, becomes a kind, and how a new one joins them.

A kind of your own is a frozen dataclass, most easily a subclass of one that there is::

    @register
    @dataclass(frozen=True)
    class Percent(Bounded):
        upper: float = 100.0
        name: ClassVar[str] = "percent"

Register it before a file that holds it is loaded.  If p(X_d|Z) is to be a new family too, its ``likelihood`` names an
entry that you add to ``pyro_mnar.nn.likelihoods.LIKELIHOODS``.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import asdict
from typing import Any, TypeVar

import numpy as np

from pyro_mnar.kinds.counts import Count
from pyro_mnar.kinds.dates import Datetime
from pyro_mnar.kinds.kind import Kind
from pyro_mnar.kinds.levels import Binary, Categorical, Ordinal
from pyro_mnar.kinds.numbers import Bounded, Continuous, HeavyTailed, Positive
from pyro_mnar.kinds.zero_inflated import ZeroInflated
from pyro_mnar.messages import check_is, is_one_of, shown

KINDS: dict[str, type[Any]] = {
    kind.name: kind
    for kind in (
        Continuous,
        HeavyTailed,
        Positive,
        ZeroInflated,
        Bounded,
        Count,
        Binary,
        Categorical,
        Ordinal,
        Datetime,
    )
}

AnyKind = TypeVar("AnyKind", bound=type[Any])


def register(kind: AnyKind) -> AnyKind:
    """Add a kind to those that a name stands for; a class decorator.

    Raises:
        ValueError: If the name stands for another kind.
    """
    if not isinstance(kind, type) or not isinstance(getattr(kind, "name", None), str):
        raise TypeError(f"kind: expected a class with a name, got {shown(kind)}")
    known = KINDS.setdefault(kind.name, kind)
    if (known.__module__, known.__qualname__) != (kind.__module__, kind.__qualname__):
        raise ValueError(f"kind {kind.name!r}: expected a name of its own, got that of {known.__name__}")
    KINDS[kind.name] = kind  # a notebook's cell, run again, brings its newest version
    return kind


def named(given: str | Kind, column: Hashable) -> Kind:
    """The kind that was given, or whose name was.

    Raises:
        ValueError: If no kind has the name.
        TypeError: If it is neither a kind nor a name.
    """
    if isinstance(given, str):
        if given not in KINDS:
            raise ValueError(f"column {column!r}: expected a kind among {sorted(KINDS)}, got {shown(given)}")
        return KINDS[given]()
    if isinstance(given, type):
        raise TypeError(
            f"column {column!r}: expected a kind, got the class {given.__name__}: make one, as in {given.__name__}()"
        )
    if not isinstance(given, Kind):
        raise TypeError(f"column {column!r}: expected a kind or its name, got {shown(given)}")
    return given


def to_plain(kind: Kind) -> dict[str, Any]:
    """A kind as plain data."""
    check_is("kind", kind, Kind)
    fields = asdict(kind)  # pyright: ignore[reportArgumentType]
    return {
        "name": kind.name,
        **{key: value.item() if isinstance(value, np.generic) else value for key, value in fields.items()},
    }


def from_plain(data: dict[str, Any]) -> Kind:
    """The inverse of :func:`to_plain`; ValueError if no kind has the name."""
    check_is("data", data, Mapping, ", as to_plain gives it")
    if not is_one_of(data.get("name"), KINDS):
        raise ValueError(
            f"kind {shown(data.get('name'))}: expected one of {sorted(KINDS)}; register it before loading, with"
            " pyro_mnar.kinds.register"
        )
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items() if key != "name"}
    return KINDS[data["name"]](**fields)
