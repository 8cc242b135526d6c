"""A missingness graph as text, as Graphviz source, and as a picture."""

from __future__ import annotations

import json
from collections.abc import Hashable
from typing import Any

import networkx as nx
import numpy as np

from pyro_mnar.graphs.nodes import listed

SIGNS = {-1: "high → missing", 1: "low → missing"}
R_SIGNS = {-1: "observed → missing", 1: "missing → missing"}
COLOURS = {"U": "#d9d9d9", "Z": "#ffffff", "X": "#9ecae1", "R": "#fdae6b"}
MOST_LINES = 20
NODE_SIZE = 1800
CLEARANCE = 0.4  # distance of an arrow from the middle of a node that it passes; columns are 1 apart
Point = tuple[float, float]


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


def plot(dag: nx.DiGraph, ax: Any = None) -> Any:
    """Draw with matplotlib: U above Z above X above R, each R below its column."""
    if ax is None:
        from matplotlib.figure import Figure

        columns = sum(role == "X" for _, role in dag.nodes(data="role"))
        ax = Figure(figsize=(max(4.0, 1.7 * columns), 5.0), layout="constrained").subplots()
    at = _positions(dag)
    for parent, child, data in dag.edges(data=True):
        bend = _bend(at[parent], at[child], [place for name, place in at.items() if name not in (parent, child)])
        colour, width = ("0.75", 1.0) if data["implied"] else ("0.1", 1.5)
        how = {"ax": ax, "node_size": NODE_SIZE, "connectionstyle": f"arc3,rad={bend}"}
        nx.draw_networkx_edges(dag, at, [(parent, child)], edge_color=colour, width=width, **how)
        label = _knowledge(dag, parent, child).replace(", ", "\n")
        if label:
            nx.draw_networkx_edge_labels(dag, at, {(parent, child): label}, font_size=7, rotate=False, **how)
    for role, colour in COLOURS.items():
        here = [name for name, its in dag.nodes(data="role") if its == role]
        nx.draw_networkx_nodes(dag, at, here, ax=ax, node_color=colour, edgecolors="0.1", node_size=NODE_SIZE)
    nx.draw_networkx_labels(dag, at, {name: str(name) for name in dag}, ax=ax, font_size=8)
    ax.margins(0.15)
    ax.set_axis_off()
    return ax


def _bend(start: Point, end: Point, others: list[Point]) -> float:
    """The slightest bend with which an arrow that leaps over a level, or stays on one, misses the nodes between."""
    (x0, y0), (x1, y1) = start, end
    if y0 == y1:
        return -0.3
    if abs(y0 - y1) == 1 or not others:
        return 0.0
    along = np.linspace(0.0, 1.0, 21)[:, None]

    def clearance(bend: float) -> float:
        middle = np.array([(x0 + x1) / 2 + bend * (y1 - y0), (y0 + y1) / 2 - bend * (x1 - x0)])  # as arc3 has it
        curve = (1 - along) ** 2 * np.array(start) + 2 * along * (1 - along) * middle + along**2 * np.array(end)
        nearest = np.linalg.norm(curve[:, None] - np.array(others), axis=-1).min()
        return min(float(nearest), CLEARANCE)

    return max((0.0, -0.2, 0.2, -0.4, 0.4, -0.6, 0.6), key=clearance)


def _positions(dag: nx.DiGraph) -> dict[Hashable, tuple[float, float]]:
    rows = {role: [name for name, its in dag.nodes(data="role") if its == role] for role in "UZX"}
    middle, at = (len(rows["X"]) - 1) / 2, {}
    for height, role in zip((3.0, 2.0, 1.0), "UZX", strict=True):
        for number, name in enumerate(rows[role]):
            at[name] = (middle + number - (len(rows[role]) - 1) / 2, height)
    for name, data in dag.nodes(data=True):
        if data["role"] == "R":
            at[name] = (at[data["of"]][0], 0.0)
    return at


def _with_knowledge(dag: nx.DiGraph, parent: Hashable, child: Hashable) -> str:
    known = _knowledge(dag, parent, child)
    return f"{parent} ({known})" if known else str(parent)


def _knowledge(dag: nx.DiGraph, parent: Hashable, child: Hashable) -> str:
    data, signs = dag.edges[parent, child], R_SIGNS if dag.nodes[parent]["role"] == "R" else SIGNS
    return ", ".join(text for text in (signs.get(data["sign"]), data["form"]) if text)


def _quoted(name: Hashable) -> str:
    return json.dumps(str(name), ensure_ascii=False)
