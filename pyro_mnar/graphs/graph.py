"""Missingness graphs: who causes the missingness of what (Figure 1, data settings D1 and D2).

    graph = MissingnessGraph.self_masking(table)
    graph = MissingnessGraph([("income", "R[income]", {"sign": "high"}), ("Z", "R[age]")], table)
    print(graph, graph.kind(), graph.figure1())
    model = GINA(table, graph=graph)

Nodes are columns X, auxiliaries U, the latent Z, and one ``R[column]`` for each column that can go missing.  As in the
paper, U → Z and Z → X always hold and need no saying; R causes nothing but, as an extension, another R (Figure 1 j).
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Shaped
from numpy.typing import NDArray

from pyro_mnar.graphs import drawing, separation
from pyro_mnar.graphs.nodes import FORMS, Edge, Nodes, edge_of
from pyro_mnar.graphs.presets import PRESETS as PRESETS
from pyro_mnar.graphs.presets import Presets
from pyro_mnar.graphs.separation import FigureOne, MissingnessKind
from pyro_mnar.mechanisms.compiled import GraphMechanism
from pyro_mnar.nn.level_likelihoods import Indicators
from pyro_mnar.tables.schema import Schema
from pyro_mnar.tables.table import Table, schema_of


class MissingnessGraph(Presets):
    """A directed acyclic graph over X, U, Z and R.

    It is a value: no method changes it.  Graphs are equal if their nodes and edges are.

    Args:
        edges: Pairs ``(parent, child)``, triples with knowledge, ``("income", "R[income]", {"sign": "high", "form":
            "linear"})``, or :class:`Edge`.  An R that no edge enters is caused by nothing.
        table: The table or schema whose columns these are, or names of columns.  Without it the columns are those that
            the edges name, and :meth:`on` matches them to a table later.
        incomplete: Where no table says it, the columns that can go missing: by default all the names given, or, where
            not even names are given, those whose R an edge names.
        auxiliaries: Where no table says it, the names of U, or a mapping from these to their widths in ``aux``.
        latent: Name of the latent's node, for tables with a column ``"Z"``.

    Raises:
        ValueError: If an edge names an unknown column or the R of a complete one, R causes X, Z or U (which the theory
            excludes: D1, D2), there is a cycle, an edge is declared twice with different knowledge, or two nodes share
            a name.
        TypeError: If an edge is none of the above, or ``table`` is no table, schema or sequence of names.
    """

    def __init__(
        self,
        edges: Iterable[Any] = (),
        table: Table | Schema | Sequence[Hashable] | None = None,
        *,
        incomplete: Iterable[Hashable] | None = None,
        auxiliaries: Iterable[Hashable] | Mapping[Hashable, int] | None = None,
        latent: str = "Z",
    ) -> None:
        declared = [edge_of(item) for item in edges]
        self.nodes = Nodes.of(table, declared, incomplete=incomplete, auxiliaries=auxiliaries, latent=latent)
        self.edges: tuple[Edge, ...] = self._checked(declared)
        self.dag = self.nodes.dag(self.edges)

    # Other ways to make one; by preset: presets

    @classmethod
    def from_parents(
        cls,
        parents: Mapping[Hashable, Iterable[Hashable]],
        table: Table | Schema | Sequence[Hashable] | None = None,
        **options: Any,
    ) -> MissingnessGraph:
        """Each column its own causes: ``{"income": ["income", "Z"], "age": ["gender"]}`` means income, Z → R[income],
        ...

        Args:
            parents: For each column that can go missing, what causes its R; columns left out: nothing.
            table: As for the class.
            **options: ``incomplete``, ``auxiliaries``, ``latent``, as for the class.
        """
        if table is None and "incomplete" not in options:
            options["incomplete"] = list(parents)
        return cls(
            [(parent, f"R[{column}]") for column, causes in parents.items() for parent in causes], table, **options
        )

    # Other graphs of it

    def knowing(
        self,
        parent: Hashable | None = None,
        child: Hashable | None = None,
        *,
        sign: int | str | None = None,
        form: str | None = None,
    ) -> MissingnessGraph:
        """The graph with more known of the edges from ``parent`` to the R node ``child`` (None: of any).

        Args:
            parent: As in an edge.
            child: As in an edge, ``"R[income]"``.
            sign: As for :class:`Edge`; what is not given stays as it was.
            form: As for :class:`Edge`.

        Raises:
            ValueError: If there is no such edge, or the knowledge makes no sense for it.
        """
        known: dict[str, Any] = {}
        if sign is not None:
            known["sign"] = sign
        if form is not None:
            known["form"] = form
        chosen = {
            edge
            for edge in self.edges
            if self.nodes.is_r(edge.child) and parent in (None, edge.parent) and child in (None, edge.child)
        }
        if not chosen and (parent is not None or child is not None):
            wanted = f"{'any node' if parent is None else parent} → {'any R' if child is None else child}"
            raise ValueError(f"expected an edge {wanted}, got {[f'{e.parent} → {e.child}' for e in self.edges]!r}")
        return self.of_nodes(self.nodes, [replace(edge, **known) if edge in chosen else edge for edge in self.edges])

    def on(self, table: Table | Schema) -> MissingnessGraph:
        """The same edges on a table's columns.

        Raises:
            ValueError: If an edge names a column that the table has not, or the R of one that is complete there; or the
                graph was declared over named columns and a column that goes missing is not among them.
        """
        nodes = Nodes.of_schema(schema_of(table), self.nodes.latent)
        if nodes == self.nodes:
            return self
        self.nodes.check_covers(nodes)
        return self.of_nodes(nodes, self.edges)

    # What it says

    def parents(self, column: Hashable) -> tuple[Hashable, ...]:
        """What causes the missingness of a column, in the order X, Z, R, U.

        Raises:
            ValueError: If the column has no R node.
        """
        if column not in self.nodes.incomplete:
            raise ValueError(f"column {column!r}: expected one that can go missing, {list(self.nodes.incomplete)!r}")
        order = {name: at for at, name in enumerate(self.nodes.inputs)}
        return tuple(sorted(self.dag.predecessors(f"R[{column}]"), key=order.__getitem__))

    def kind(self) -> MissingnessKind:
        """MCAR, MAR or MNAR, per column and overall, with the reason, by d-separation (section 2.2)."""
        return separation.kind_of(self.dag)

    def figure1(self) -> FigureOne:
        """Which drawing of Figure 1 this is, where the paper's text fixes it, and in any case what the graph does."""
        return separation.figure_of(self.dag)

    def plot(self, ax: Any = None) -> Any:
        """Draw it with matplotlib, on ``ax`` or on a figure of its own; returns the Axes.  Edges that need no saying (U
        → Z → X) are grey.
        """
        return drawing.plot(self.dag, ax)

    def to_dot(self) -> str:
        """Graphviz source."""
        return drawing.to_dot(self.dag)

    def mechanism(
        self, latent_dim: int, *, form: str = "linear", hidden: int = 10, indicators: Indicators | None = None
    ) -> GraphMechanism:
        """p(R|X,Z) in which every R sees exactly its parents, as one torch module over all columns.

        Args:
            latent_dim: H.
            form: Of the edges whose form is not known.
            hidden: Hidden units per column, for the nonlinear ones (10 in the paper's B.1).
            indicators: Of columns whose levels have no order, which then enter by these.

        Raises:
            ValueError: If a number is below one, the form is none of those, or such a column's edge has a sign.
        """
        if form not in FORMS[:2]:
            raise ValueError(f"form: expected 'linear' or 'nonlinear', got {form!r}")
        at = self.nodes.slices(latent_dim)
        columns: dict[Hashable, int] = {f"R[{name}]": d for d, name in enumerate(self.nodes.columns)}
        shape = (len(self.nodes.columns), at[self.nodes.inputs[-1]].stop)
        parents, signs, nonlinear = np.zeros(shape, bool), np.zeros(shape, int), np.zeros(shape, bool)
        for edge in self.edges:
            if self.nodes.is_r(edge.child):
                here = columns[edge.child], at[edge.parent]
                parents[here], signs[here], nonlinear[here] = True, edge.sign, (edge.form or form) == "nonlinear"
        if indicators is not None and len(indicators):
            signed = [self.nodes.columns[d] for d in indicators.positions if signs[:, d].any()]
            if signed:
                raise ValueError(f"column {signed[0]!r}: its levels have no order, so its edges have no sign")
            parents, signs, nonlinear = (
                _by_indicators(m, indicators, len(columns) + latent_dim) for m in (parents, signs, nonlinear)
            )
        return GraphMechanism(parents, signs, nonlinear, latent_dim=latent_dim, hidden=hidden, indicators=indicators)

    # As a file

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for a JSON file.

        Raises:
            TypeError: If a column's label is neither text nor a number.
        """
        known = [{k: v for k, v in (("sign", e.sign), ("form", e.form)) if v} for e in self.edges]
        edges = [[e.parent, e.child, *([more] if more else [])] for e, more in zip(self.edges, known, strict=True)]
        return {**self.nodes.to_dict(), "edges": edges}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], table: Table | Schema | None = None) -> MissingnessGraph:
        """The inverse of :meth:`to_dict`; only ``edges`` (or ``preset``, a name) is needed where there is a table.

        Raises:
            ValueError: As for the class, and if an entry is unknown.
        """
        unknown = set(data) - {"columns", "named", "incomplete", "auxiliaries", "latent", "edges", "preset"}
        if unknown or ("preset" in data) == ("edges" in data):
            raise ValueError(
                f"graph: expected 'edges' or 'preset' (and 'columns', 'incomplete', ...), got {sorted(data)!r}"
            )
        options = {name: data[name] for name in ("incomplete", "latent") if data.get(name) is not None}
        if data.get("auxiliaries"):
            pairs: list[Any] = [a if isinstance(a, list) else (a, 1) for a in data["auxiliaries"]]
            options["auxiliaries"] = dict(pairs)
        if "preset" in data:
            if table is not None:
                return cls.preset(data["preset"], table, **{k: v for k, v in options.items() if k == "latent"})
            return cls.preset(data["preset"], data.get("columns") or (), **options)
        graph = cls(data["edges"], data.get("columns"), **options)
        if not data.get("named", True):
            graph = cls.of_nodes(replace(graph.nodes, named=False), graph.edges)
        return graph if table is None else graph.on(table)

    def to_json(self) -> str:
        """Text of a JSON file."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str, table: Table | Schema | None = None) -> MissingnessGraph:
        """The inverse of :meth:`to_json`, from the file's text; runs no code.

        Raises:
            ValueError: As :meth:`from_dict`, and if the text is no JSON object.
        """
        data = json.loads(text)
        if not isinstance(data, dict):
            raise ValueError(f"graph: expected a JSON object with 'edges' or 'preset', got {type(data).__name__}")
        return cls.from_dict(data, table)

    def __repr__(self) -> str:
        return drawing.describe(self.dag, self.kind().overall, self.figure1().letter)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MissingnessGraph):
            return NotImplemented
        return self.nodes == other.nodes and set(self.edges) == set(other.edges)

    def __hash__(self) -> int:
        return hash((self.nodes, frozenset(self.edges)))

    # Inside

    @classmethod
    def of_nodes(cls, nodes: Nodes, edges: Iterable[Any]) -> MissingnessGraph:
        """A graph over nodes that are there already; ``edges`` and errors as for the class."""
        graph = object.__new__(cls)
        graph.nodes = nodes
        graph.edges = graph._checked([edge_of(item) for item in edges])
        graph.dag = nodes.dag(graph.edges)
        return graph

    def _checked(self, edges: Iterable[Edge]) -> tuple[Edge, ...]:
        kept: dict[tuple[Hashable, Hashable], Edge] = {}
        for edge in edges:
            if not self.nodes.needs_no_saying(edge):
                self.nodes.check(edge)
                if kept.setdefault((edge.parent, edge.child), edge) != edge:
                    raise ValueError(f"{edge.parent} → {edge.child}: declared twice, with different knowledge")
        return tuple(kept.values())


def _by_indicators(
    inputs: Shaped[NDArray, "columns inputs"], indicators: Indicators, at: int
) -> Shaped[NDArray, "columns more"]:
    """Edges from columns without an order, moved to their indicators, which stand behind x and z."""
    moved = inputs[:, indicators.sources]
    kept = inputs.copy()
    kept[:, indicators.positions] = 0
    return np.concatenate([kept[:, :at], moved, kept[:, at:]], axis=1)
