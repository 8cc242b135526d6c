"""A missingness graph as a picture: boxes as wide as their names, arrows that bend around boxes, signs beside arrows.

Few columns stand side by side, causes above effects; many stand below each other, causes left of effects, so that their
names can be read.
"""

from __future__ import annotations

import textwrap
from collections.abc import Hashable
from typing import Any, NamedTuple

import networkx as nx
import numpy as np

from pyro_mnar.figures import axes_or_new

COLOURS = {"U": "#d9d9d9", "Z": "#ffffff", "X": "#9ecae1", "R": "#fdae6b"}
MEANINGS = {"U": "auxiliary, always observed", "Z": "latent", "X": "column", "R": "is it observed?"}
SIDE_BY_SIDE = 7  # columns at most; more stand below each other
WRAP, LONGEST = 15, 30  # characters of a name in a line, and of all of it
CLEARANCE = 0.4  # distance of an arrow from the middle of a box that it passes; columns are 1 apart
IMPLIED, DECLARED, SIGNED = "#a8a8a8", "#6b6b6b", "#c03a2b"
SHORT_SIGNS = {-1: "−", 1: "+"}
Point = tuple[float, float]


class _Layout(NamedTuple):
    """Where boxes stand: levels of causes and places within them, and whether levels go down or to the right."""

    at: dict[Hashable, Point]
    goes_right: bool
    width: float
    height: float


def plot(dag: nx.DiGraph, ax: Any = None) -> Any:
    """Draw with matplotlib: U, Z, X and R in four levels, each R beside its column."""
    layout = _layout(dag)
    ax = axes_or_new(ax, (layout.width, layout.height))
    size = _font_size(layout)
    across, down = zip(*layout.at.values(), strict=True)
    margin = (0.9, 0.5) if layout.goes_right else (0.6, 0.5)
    ax.set_xlim(min(across) - margin[0], max(across) + margin[0])
    ax.set_ylim(min(down) - margin[1], max(down) + margin[1])
    boxes = {}
    roles: dict[str, str] = dict(dag.nodes.data("role"))
    for name, role in roles.items():
        style = {"boxstyle": "round,pad=0.35", "facecolor": COLOURS[role], "edgecolor": "#333333", "linewidth": 1.0}
        shown = _shown(name, wrapped=not layout.goes_right)
        text = ax.text(*layout.at[name], shown, ha="center", va="center", fontsize=size, color="#111111", bbox=style)
        text.set_zorder(3)
        boxes[name] = text
    for parent, child, data in dag.edges(data=True):
        _arrow(ax, dag, layout, boxes, parent, child, data)
    _legend(ax, dag, goes_right=layout.goes_right)
    ax.set_axis_off()
    return ax


def _layout(dag: nx.DiGraph) -> _Layout:
    rows = {role: [name for name, its in dag.nodes(data="role") if its == role] for role in "UZX"}
    goes_right = len(rows["X"]) > SIDE_BY_SIDE
    middle, place = (len(rows["X"]) - 1) / 2, {}
    levels = [role for role in "UZX" if rows[role]] + ["R"]
    for role in "UZX":
        for number, name in enumerate(rows[role]):
            place[name] = (middle + number - (len(rows[role]) - 1) / 2, levels.index(role))
    for name, data in dag.nodes(data=True):
        if data["role"] == "R":
            place[name] = (place[data["of"]][0], levels.index("R"))
    count = max(map(len, rows.values()), default=1)
    if goes_right:
        at = {name: (2.2 * level, -float(number)) for name, (number, level) in place.items()}
        return _Layout(at, goes_right, 2.1 * len(levels), 0.8 + 0.26 * count)
    at = {name: (float(number), -float(level)) for name, (number, level) in place.items()}
    return _Layout(at, goes_right, max(4.2, 1.25 * count + 0.6), 0.7 + 1.05 * len(levels))


def _font_size(layout: _Layout) -> float:
    return 7.5 if layout.goes_right else 8.5


def _shown(name: Hashable, *, wrapped: bool) -> str:
    text = str(name)
    text = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    return "\n".join(textwrap.wrap(text, WRAP)) if wrapped and len(text) > WRAP else text


def _arrow(ax: Any, dag: nx.DiGraph, layout: _Layout, boxes: Any, parent: Hashable, child: Hashable, data: Any) -> None:
    from matplotlib.patches import FancyArrowPatch

    start, end = layout.at[parent], layout.at[child]
    bend = _bend(start, end, [place for name, place in layout.at.items() if name not in (parent, child)], layout)
    sign = data["sign"] if data["sign"] in SHORT_SIGNS else None
    is_line = data["implied"] and layout.goes_right  # among many, heads would lie upon each other
    colour = IMPLIED if data["implied"] else SIGNED if sign else DECLARED
    arrow = FancyArrowPatch(
        start,
        end,
        connectionstyle=f"arc3,rad={bend}",
        arrowstyle="-" if is_line else "-|>",
        mutation_scale=9 if data["implied"] else 12,
        color=colour,
        linewidth=0.7 if data["implied"] else 1.3,
        alpha=0.7 if is_line else 1.0,
        patchA=boxes[parent].get_bbox_patch(),
        patchB=boxes[child].get_bbox_patch(),
        shrinkA=1,
        shrinkB=1,
        zorder=1 if is_line else 4,  # after the boxes, which know their places only when they are drawn
    )
    ax.add_patch(arrow)
    said = "\n".join(filter(None, (_sign_in_words(dag, parent, sign), data["form"])))
    if said:
        # Beside the arrow's middle and not upon it.
        x, y = _on_curve(start, end, bend, 0.5)
        is_above = layout.goes_right or start[1] == end[1]
        place = {"ha": "center", "va": "bottom", "xytext": (0, 2)} if is_above else {"va": "center", "xytext": (6, 0)}
        text = SHORT_SIGNS[sign] if sign and layout.goes_right else said
        ax.annotate(text, (x, y), textcoords="offset points", fontsize=7.5, color=colour, zorder=5, **place)


def _sign_in_words(dag: nx.DiGraph, parent: Hashable, sign: int | None) -> str:
    if sign is None:
        return ""
    if dag.nodes[parent]["role"] == "R":
        return "missing\ntogether" if sign == 1 else "one or\nthe other"
    return "high goes\nmissing" if sign == -1 else "low goes\nmissing"


def _legend(ax: Any, dag: nx.DiGraph, *, goes_right: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    roles: set[str] = set(dict(dag.nodes.data("role")).values())
    marks: list[Any] = [
        Patch(facecolor=COLOURS[role], edgecolor="#333333", label=MEANINGS[role]) for role in "UZXR" if role in roles
    ]
    edges = [data for _, _, data in dag.edges(data=True)]
    if any(data["implied"] for data in edges):
        marks.append(Line2D([], [], color=IMPLIED, linewidth=1, label="in every graph"))
    if any(data["sign"] in SHORT_SIGNS for data in edges):
        words = "sign known: − high, + low goes missing" if goes_right else "sign known"
        marks.append(Line2D([], [], color=SIGNED, linewidth=1.4, label=words))
    columns = 2 if len(marks) > 2 else len(marks)
    # Below, where no title stands.
    ax.legend(handles=marks, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=columns, frameon=False, fontsize=7.5)


def _on_curve(start: Point, end: Point, bend: float, along: float) -> Point:
    (x0, y0), (x1, y1) = start, end
    middle = np.array([(x0 + x1) / 2 + bend * (y1 - y0), (y0 + y1) / 2 - bend * (x1 - x0)])  # as arc3 has it
    curve = (1 - along) ** 2 * np.array(start) + 2 * along * (1 - along) * middle + along**2 * np.array(end)
    return float(curve[0]), float(curve[1])


def _bend(start: Point, end: Point, others: list[Point], layout: _Layout) -> float:
    """The slightest bend with which an arrow that leaps over a level, or stays on one, misses the boxes between."""
    level = 0 if layout.goes_right else 1
    apart = abs(start[level] - end[level])
    if apart == 0:
        return -0.4 if layout.goes_right else -0.3
    if apart == (2.2 if layout.goes_right else 1.0) or not others:
        return 0.0

    def clearance(bend: float) -> float:
        curve = np.array([_on_curve(start, end, bend, along) for along in np.linspace(0.0, 1.0, 21)])
        nearest = np.linalg.norm(curve[:, None] - np.array(others), axis=-1).min()
        return min(float(nearest), CLEARANCE)

    return max((0.0, -0.2, 0.2, -0.4, 0.4, -0.6, 0.6), key=clearance)
