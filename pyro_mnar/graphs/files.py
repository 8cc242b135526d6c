"""A missingness graph as plain data, as it stands in a JSON file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pyro_mnar.graphs.edges import Edge
from pyro_mnar.graphs.nodes import Nodes
from pyro_mnar.messages import check_is

ENTRIES = {"columns", "named", "incomplete", "auxiliaries", "latent", "edges", "preset"}


def to_dict(nodes: Nodes, edges: Iterable[Edge]) -> dict[str, Any]:
    """Nodes and edges as plain data.

    Raises:
        TypeError: If a column's label is neither text nor a number.
    """
    declared = []
    for edge in edges:
        known: dict[str, Any] = {"slope": edge.slope}  # which says sign and form too
        if edge.slope is None:
            known = {name: value for name, value in (("sign", edge.sign), ("form", edge.form)) if value}
        declared.append([edge.parent, edge.child, *([known] if known else [])])
    return {**nodes.to_dict(), "edges": declared}


def options_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """``incomplete``, ``latent`` and ``auxiliaries`` as the graph's constructors take them.

    Raises:
        ValueError: If an entry is unknown, or there are not either edges or a preset.
    """
    check_is("data", data, Mapping)
    if set(data) - ENTRIES or ("preset" in data) == ("edges" in data):
        raise ValueError(
            f"graph: expected 'edges' or 'preset' (and 'columns', 'incomplete', ...), got {sorted(data)!r}"
        )
    options = {name: data[name] for name in ("incomplete", "latent") if data.get(name) is not None}
    for name in ("edges", "columns", "incomplete", "auxiliaries"):
        if data.get(name) is not None and not isinstance(data[name], (list, tuple)):
            raise TypeError(f"graph, {name}: expected a list, got {data[name]!r}")
    if data.get("auxiliaries"):
        pairs: list[Any] = [a if isinstance(a, list) else (a, 1) for a in data["auxiliaries"]]
        options["auxiliaries"] = dict(pairs)
    return options


def parsed(text: str) -> dict[str, Any]:
    """The data of a JSON file's text; runs no code.

    Raises:
        ValueError: If the text is no JSON object.
    """
    if not isinstance(text, (str, bytes)):
        raise TypeError(f"graph: expected the text of a JSON file, got {type(text).__name__} (from_dict takes a dict)")
    try:
        data = json.loads(text)
    except RecursionError:
        raise ValueError("graph: expected a JSON object, got one nested too deeply to read") from None
    except ValueError as error:
        raise ValueError(f"graph: expected JSON, got text that is none: {error}") from None
    if not isinstance(data, dict):
        raise ValueError(f"graph: expected a JSON object with 'edges' or 'preset', got {type(data).__name__}")
    return data
