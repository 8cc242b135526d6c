"""What kind of missingness a graph means: MCAR, MAR or MNAR by d-separation (section 2.2), and its place in Figure
1.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import networkx as nx

from pyro_mnar.graphs.nodes import listed
from pyro_mnar.graphs.presets import PRESETS

Missingness = Literal["MCAR", "MAR", "MNAR"]
FROM_MILD: tuple[Missingness, ...] = ("MCAR", "MAR", "MNAR")


class ColumnMissingness(NamedTuple):
    """The kind of missingness of one column.

    Attributes:
        kind: ``"MCAR"``, ``"MAR"`` or ``"MNAR"``.
        reason: Why, in a sentence.
    """

    kind: Missingness
    reason: str


@dataclass(frozen=True)
class MissingnessKind:
    """The kind of missingness of a graph.

    Attributes:
        overall: The worst of the columns'.
        reason: The reason of the first such column.
        columns: Of each column that can go missing.
    """

    overall: Missingness
    reason: str
    columns: dict[Hashable, ColumnMissingness]

    def __str__(self) -> str:
        lines = [f"{self.overall}: {self.reason}"]
        return "\n".join(
            [*lines, *(f"  {column}: {kind}, {reason}" for column, (kind, reason) in self.columns.items())]
        )


class FigureOne(NamedTuple):
    """A graph's place in Figure 1.

    Attributes:
        letter: Of the drawing, where the paper's text fixes it: a to d, h, i, j; else None.
        description: What the graph does.
    """

    letter: str | None
    description: str

    def __str__(self) -> str:
        return f"Figure 1 ({self.letter}): {self.description}" if self.letter else self.description


def missingness_of(dag: nx.DiGraph) -> MissingnessKind:
    """MCAR if R is separated from (X, U, Z); MAR if from incomplete columns and Z, given complete ones and U."""
    without_r = nx.DiGraph(dag.subgraph(_of_role(dag, "X", "U", "Z")))
    given = {name for name in without_r if dag.nodes[name]["given"]}
    known: dict[frozenset[Hashable], Missingness] = {}
    columns = {}
    for r in _of_role(dag, "R"):
        through = [name for name in nx.ancestors(dag, r) if dag.nodes[name]["role"] == "R"]
        causes = frozenset(p for node in (r, *through) for p in dag.predecessors(node)) - set(through)
        if causes not in known:
            known[causes] = _by_separation(without_r, given, causes)
        columns[dag.nodes[r]["of"]] = ColumnMissingness(known[causes], _reason(dag, r, through, causes, known[causes]))
    for overall in reversed(FROM_MILD):
        reasons = [column.reason for column in columns.values() if column.kind == overall]
        if reasons:
            return MissingnessKind(overall, reasons[0], columns)
    return MissingnessKind("MCAR", "no column can go missing", columns)


def figure_of(dag: nx.DiGraph) -> FigureOne:
    """Name the drawing by what causes what."""
    columns, latent = set(_of_role(dag, "X")), set(_of_role(dag, "Z"))
    causes = {dag.nodes[r]["of"]: set(dag.predecessors(r)) for r in _of_role(dag, "R")}
    used = set().union(*causes.values())
    among_x = any(not dag.edges[e]["implied"] for e in dag.edges if e[1] in columns and e[0] in columns)
    among_r = any(dag.nodes[name]["role"] == "R" for name in used)
    if among_x and among_r:
        return FigureOne(None, "columns cause columns, and missingness causes missingness: beyond Figure 1")
    if among_r:
        return FigureOne("j", "missingness causes missingness, outside the paper's theorem (D2)")
    if among_x:
        return FigureOne("i", f"columns cause columns; {_summary(causes, columns, latent)}")
    if not used:
        return FigureOne("a", "nothing causes the missingness")
    if all(dag.nodes[name]["given"] for name in used):
        return FigureOne("b", "only what is always observed causes the missingness")
    if all(parents == {column} for column, parents in causes.items()):
        return FigureOne("c", "each column's own value causes its missingness (self-masking)")
    if all(parents == columns for parents in causes.values()):
        return FigureOne("d", "all columns cause the missingness of each (fully connected)")
    if all(parents == columns | latent for parents in causes.values()):
        return FigureOne("h", "all columns and the latent cause the missingness of each")
    where = "beyond Figure 1, for U causes R" if used - columns - latent else "a subgraph of Figure 1 (h)"
    return FigureOne(None, f"{_summary(causes, columns, latent)} ({where})")


def _by_separation(without_r: nx.DiGraph, given: set[Hashable], causes: frozenset[Hashable]) -> Missingness:
    """Of an R with these causes; other R between them and it are summed out, which changes no separation."""
    if not causes <= given:
        return "MNAR"  # nothing separates it from its own parent
    near, variables, r = without_r.copy(), set(without_r), object()
    near.add_node(r)
    near.add_edges_from((cause, r) for cause in causes)
    if nx.is_d_separator(near, {r}, variables, set()):
        return "MCAR"
    return "MAR" if nx.is_d_separator(near, {r}, variables - given, given) else "MNAR"


def _reason(
    dag: nx.DiGraph, r: Hashable, through: list[Hashable], causes: frozenset[Hashable], kind: Missingness
) -> str:
    if kind == "MCAR":
        return f"no column, auxiliary or latent has an influence on {r}"
    if kind == "MAR":
        return f"{r} depends only on what is always observed: {listed(name for name in dag if name in causes)}"
    return _why_mnar(dag, r, through)


def _why_mnar(dag: nx.DiGraph, r: Hashable, through: list[Hashable]) -> str:
    own, hidden = dag.nodes[r]["of"], [p for p in dag.predecessors(r) if not dag.nodes[p]["given"]]
    others = [name for name in hidden if dag.nodes[name]["role"] == "X" and name != own]
    parts = []
    if own in hidden:
        parts.append(f"its own value {own}")
    if others:
        parts.append(f"{listed(others)}, which can go missing")
    if any(dag.nodes[name]["role"] == "Z" for name in hidden):
        parts.append("the latent, which is never observed")
    if not parts:
        origins = [t for t in through if any(not dag.nodes[p]["given"] for p in dag.predecessors(t))]
        parts.append(f"{listed(origins)}, and through it on what can go missing")
    return f"{r} depends on {'; on '.join(parts)}"


def _summary(causes: dict[Hashable, set[Hashable]], columns: set[Hashable], latent: set[Hashable]) -> str:
    (z,) = latent
    for parents, meaning in PRESETS.values():
        if all(of_r == set(parents.names(own, columns, z)) for own, of_r in causes.items()):
            return meaning
    return "; ".join(
        f"{listed(sorted(parents, key=str)) if parents else 'nothing'} → R[{own}]"
        for own, parents in list(causes.items())[:20]
    )


def _of_role(dag: nx.DiGraph, *roles: str) -> list[Hashable]:
    return [name for name, role in dag.nodes(data="role") if role in roles]
