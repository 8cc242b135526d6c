"""A missingness graph as text and as Graphviz source."""

from __future__ import annotations

import json
from collections.abc import Hashable

import networkx as nx

from pyro_mnar.graphs.nodes import listed
from pyro_mnar.graphs.picture import COLOURS

SIGNS = {-1: "high → missing", 1: "low → missing"}
R_SIGNS = {-1: "observed → missing", 1: "missing → missing"}
MOST_LINES = 20


def describe(dag: nx.DiGraph, kind: str, letter: str | None) -> str:
    """What a notebook shows: the kind, then each R with its causes."""
    r_nodes = [name for name, role in dag.nodes(data="role") if role == "R"]
    width = max((len(str(r)) for r in r_nodes[:MOST_LINES]), default=0)
    lines = [f"MissingnessGraph: {kind}" + (f", Figure 1 ({letter})" if letter else "")]
    for r in r_nodes[:MOST_LINES]:
        causes = [_with_knowledge(dag, parent, r) for parent in dag.predecessors(r)]
        lines.append(f"  {r!s:{width}} ← {listed(causes, 12) if causes else 'nothing'}")
    if len(r_nodes) > MOST_LINES:
        lines.append(f"  ... and {len(r_nodes) - MOST_LINES} more")
    for title, role in (("complete", "X"), ("auxiliary", "U")):
        names = [name for name, data in dag.nodes(data=True) if data["role"] == role and data["given"]]
        if names:
            lines.append(f"  {title}: {listed(names, 12)}")
    among = [f"{a} → {b}" for a, b, data in dag.edges(data=True) if dag.nodes[b]["role"] == "X" and not data["implied"]]
    return "\n".join([*lines, *([f"  among columns: {listed(among, 12)}"] if among else [])])


def to_dot(dag: nx.DiGraph) -> str:
    """Graphviz source: U above Z above X above R."""
    lines = ["digraph missingness {"]
    for role in "UZXR":
        here = [name for name, its in dag.nodes(data="role") if its == role]
        if here:
            style = f'style=filled, fillcolor="{COLOURS[role]}"'
            lines.append(f"  {{ rank=same; {' '.join(f'{_quoted(name)} [{style}];' for name in here)} }}")
    for parent, child, data in dag.edges(data=True):
        label = _knowledge(dag, parent, child)
        style = ["color=gray"] if data["implied"] else []
        style += [f"label={_quoted(label)}"] if label else []
        lines.append(f"  {_quoted(parent)} -> {_quoted(child)}" + (f" [{', '.join(style)}];" if style else ";"))
    return "\n".join([*lines, "}"])


def _with_knowledge(dag: nx.DiGraph, parent: Hashable, child: Hashable) -> str:
    known = _knowledge(dag, parent, child)
    return f"{parent} ({known})" if known else str(parent)


def _knowledge(dag: nx.DiGraph, parent: Hashable, child: Hashable) -> str:
    data, signs = dag.edges[parent, child], R_SIGNS if dag.nodes[parent]["role"] == "R" else SIGNS
    slope = "" if data["slope"] is None else f"slope {data['slope']:g}"
    return ", ".join(text for text in (signs.get(data["sign"]), slope or data["form"]) if text)


def _quoted(name: Hashable) -> str:
    return json.dumps(str(name), ensure_ascii=False)
