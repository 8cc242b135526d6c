"""Missingness graphs: who causes the missingness of what (Figure 1, data settings D1 and D2).

    graph = MissingnessGraph.self_masking(table)
    graph = MissingnessGraph([("income", "R[income]", {"sign": "high"}), ("Z", "R[age]")], table)
    print(graph, graph.kind(), graph.figure1())
    model = GINA(table, graph=graph)

Nodes are columns X, auxiliaries U, the latent Z, and one ``R[column]`` for each column that can go missing.  In
every graph U → Z and Z → X, as in the paper, so these need not be given; R causes nothing but, as an extension, another
R (Figure 1 j).
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pyro_mnar.graphs import drawing, files, picture, separation
from pyro_mnar.graphs.compilation import mechanism_of
from pyro_mnar.graphs.edges import Edge, edge_of
from pyro_mnar.graphs.nodes import LATENT, Nodes
from pyro_mnar.graphs.presets import PRESETS, Rule, always_observed
from pyro_mnar.graphs.separation import FigureOne, MissingnessKind
from pyro_mnar.mechanisms.compiled import GraphMechanism
from pyro_mnar.messages import check_is, has_parts, in_line, is_one_of, shown
from pyro_mnar.nn.indicators import Indicators
from pyro_mnar.tables.schema import Schema
from pyro_mnar.tables.table import Table, schema_of

Columns = Table | Schema | Sequence[Hashable]


class MissingnessGraph:
    """A directed acyclic graph over X, U, Z and R.

    It is a value: no method changes it.  Graphs are equal if their nodes and edges are.

    Args:
        edges: Pairs ``(parent, child)``, triples with knowledge, ``("income", "R[income]", {"sign": "high", "slope":
            0.5})``, or :class:`Edge`.  An R that no edge enters is caused by nothing.
        table: The table or schema whose columns these are, or names of columns.  Without it the columns are those that
            the edges name, and :meth:`on` matches them to a table later.
        incomplete: Where no table says it, the columns that can go missing: by default all the names given, or, where
            not even names are given, those whose R an edge names.
        auxiliaries: Where no table says it, the names of U, or a mapping from these to their widths in ``aux``.
        latent: Name of the latent's node; ``"Z"`` by default, or ``"latent"`` beside a column ``"Z"``.

    Raises:
        ValueError: If an edge names an unknown column or the R of a complete one, R causes X, Z or U (which the theory
            excludes: D1, D2), there is a cycle, an edge is declared twice with different knowledge, or two nodes share
            a name.
        TypeError: If an edge is none of the above, or ``table`` is no table, schema or sequence of names.
    """

    def __init__(
        self,
        edges: Iterable[Any] = (),
        table: Columns | None = None,
        *,
        incomplete: Iterable[Hashable] | None = None,
        auxiliaries: Iterable[Hashable] | Mapping[Hashable, int] | None = None,
        latent: str | None = None,
    ) -> None:
        if isinstance(edges, (str, bytes)) or not has_parts(edges):
            raise TypeError(f"edges: expected a list of edges, got {shown(edges)}")
        declared = [edge_of(item) for item in edges]
        self.nodes = Nodes.of(table, declared, incomplete=incomplete, auxiliaries=auxiliaries, latent=latent)
        self.edges: tuple[Edge, ...] = self._checked(declared)
        self.dag = self.nodes.dag(self.edges)

    # Other ways to make one

    @classmethod
    def from_parents(
        cls,
        parents: Mapping[Hashable, Iterable[Hashable]],
        table: Columns | None = None,
        **options: Any,
    ) -> MissingnessGraph:
        """Each column its own causes: ``{"income": ["income", "Z"], "age": ["gender"]}`` means income, Z → R[income],
        ...

        Args:
            parents: For each column that can go missing, what causes its R; columns left out: nothing.
            table: As for the class.
            **options: ``incomplete``, ``auxiliaries``, ``latent``, as for the class.
        """
        check_is("parents", parents, Mapping, ", from columns to their causes")
        if table is None and "incomplete" not in options:
            options["incomplete"] = list(parents)
        return cls(
            [(parent, f"R[{column}]") for column, causes in parents.items() for parent in causes], table, **options
        )

    # By name: the rules stand in presets

    @classmethod
    def mcar(cls, table: Columns, **options: Any) -> MissingnessGraph:
        """Nothing causes it (Figure 1 a).  ``options`` are ``incomplete``, ``auxiliaries``, ``latent`` as for the
        class, and ``form`` and ``slope``, known of every edge into an R.
        """
        return cls.of_rule(PRESETS["mcar"].rule, table, **options)

    @classmethod
    def mar(cls, table: Columns, on: Iterable[Hashable] | None = None, **options: Any) -> MissingnessGraph:
        """Complete columns or U cause it (Figure 1 b).

        Args:
            table: As for the class.
            on: Names of the causes; by default every complete column and every auxiliary.
            **options: As for :meth:`mcar`.

        Raises:
            ValueError: If a cause can itself go missing (that would be MNAR), or there is none.
        """
        return cls.of_rule(always_observed(on), table, **options)

    @classmethod
    def self_masking(cls, table: Columns, *, sign: int | str | None = None, **options: Any) -> MissingnessGraph:
        """Each column's own value causes it (Figure 1 c).

        Args:
            table: As for the class.
            sign: Known of every column, as for :class:`Edge`; single columns: :meth:`knowing`.
            **options: As for :meth:`mcar`.
        """
        return cls.of_rule(PRESETS["self_masking"].rule, table, sign=sign, **options)

    @classmethod
    def fully_connected(cls, table: Columns, **options: Any) -> MissingnessGraph:
        """All of X causes each R (Figure 1 d; Not-MIWAE's).  Options as for :meth:`mcar`."""
        return cls.of_rule(PRESETS["fully_connected"].rule, table, **options)

    @classmethod
    def latent(cls, table: Columns, **options: Any) -> MissingnessGraph:
        """The latent alone causes it.  Options as for :meth:`mcar`."""
        return cls.of_rule(PRESETS["latent"].rule, table, **options)

    @classmethod
    def latent_dependent(cls, table: Columns, **options: Any) -> MissingnessGraph:
        """Each column's own value and the latent cause it (the paper's B and C).  Options as for :meth:`mcar`."""
        return cls.of_rule(PRESETS["latent_dependent"].rule, table, **options)

    @classmethod
    def general(cls, table: Columns, **options: Any) -> MissingnessGraph:
        """All of X and Z cause each R (Figure 1 h, equation 6).  Options as for :meth:`mcar`."""
        return cls.of_rule(PRESETS["general"].rule, table, **options)

    @classmethod
    def no_self_censoring(cls, table: Columns, **options: Any) -> MissingnessGraph:
        """All of X but the column's own value causes it, and not Z, through which that value would come back.

        Options as for :meth:`mcar`.
        """
        return cls.of_rule(PRESETS["no_self_censoring"].rule, table, **options)

    @classmethod
    def no_self_censoring_given_z(cls, table: Columns, **options: Any) -> MissingnessGraph:
        """All of X but the column's own value, and Z, cause it.  Options as for :meth:`mcar`."""
        return cls.of_rule(PRESETS["no_self_censoring_given_z"].rule, table, **options)

    @classmethod
    def preset(cls, name: str, table: Columns, **options: Any) -> MissingnessGraph:
        """A preset by its name, with ``-`` or ``_``: the command line's ``--graph self-masking``.

        Raises:
            ValueError: If there is no such preset.
        """
        method = name.replace("-", "_") if isinstance(name, str) else ""
        if method not in PRESETS:
            raise ValueError(f"graph {shown(name)}: expected one of {', '.join(PRESETS)}")
        return getattr(cls, method)(table, **options)

    @classmethod
    def of_rule(
        cls,
        rule: Rule,
        table: Columns,
        *,
        sign: int | str | None = None,
        form: str | None = None,
        slope: float | None = None,
        **options: Any,
    ) -> MissingnessGraph:
        """The graph in which a rule gives the parents of every R.

        Args:
            rule: Gives the parents of a column's R, from the nodes and the column.
            table: As for the class.
            sign: Known of every edge, as for :class:`Edge`.
            form: Known of every edge, as for :class:`Edge`.
            slope: Known of every edge, as for :class:`Edge`.
            **options: ``incomplete``, ``auxiliaries``, ``latent``, as for the class.

        Raises:
            ValueError: As for the class, and if there are no columns.
        """
        nodes = Nodes.of(table, [], **{"incomplete": None, "auxiliaries": None, "latent": None, **options})
        if not nodes.columns:
            raise ValueError("expected a table, a schema or names of columns, got no columns")
        edges = [
            Edge(parent, nodes.r(column), sign=sign, form=form, slope=slope)
            for column in nodes.incomplete
            for parent in rule(nodes, column)
        ]
        return cls.of_nodes(nodes, edges)

    # Other graphs of it

    def knowing(
        self,
        parent: Hashable | None = None,
        child: Hashable | None = None,
        *,
        sign: int | str | None = None,
        form: str | None = None,
        slope: float | None = None,
    ) -> MissingnessGraph:
        """The graph with more known of the edges from ``parent`` to the R node ``child`` (None: of any).

        Args:
            parent: As in an edge.
            child: As in an edge, ``"R[income]"``.
            sign: As for :class:`Edge`; what is not given stays as it was.
            form: As for :class:`Edge`.
            slope: As for :class:`Edge`; beside a sign that is known, its size.

        Raises:
            ValueError: If there is no such edge, or the knowledge makes no sense for it.
        """
        known: dict[str, Any] = {}
        if sign is not None:
            known["sign"] = sign
        if form is not None:
            known["form"] = form
        if slope is not None:
            known["slope"] = slope
        chosen = {
            edge
            for edge in self.edges
            if self.nodes.is_r(edge.child)
            and is_one_of(parent, (None, edge.parent))
            and is_one_of(child, (None, edge.child))
        }
        if not chosen and (parent is not None or child is not None):
            ends = "any node" if parent is None else parent, "any R" if child is None else child
            wanted = " → ".join(map(in_line, ends))
            raise ValueError(f"expected an edge {wanted}, got {[f'{e.parent} → {e.child}' for e in self.edges]!r}")
        return self.of_nodes(self.nodes, [replace(edge, **known) if edge in chosen else edge for edge in self.edges])

    def on(self, table: Table | Schema) -> MissingnessGraph:
        """The same edges on a table's columns.

        Raises:
            ValueError: If an edge names a column that the table has not, or the R of one that is complete there; or the
                graph was declared over named columns and a column that goes missing is not among them.
        """
        latent = self.nodes.latent
        nodes = Nodes.of_schema(schema_of(table), None if latent == LATENT else latent, self.edges)
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
        if not is_one_of(column, self.nodes.incomplete):
            known = list(self.nodes.incomplete)
            raise ValueError(f"column {shown(column)}: expected one that can go missing, {known!r}")
        order = {name: at for at, name in enumerate(self.nodes.inputs)}
        return tuple(sorted(self.dag.predecessors(f"R[{column}]"), key=order.__getitem__))

    def kind(self) -> MissingnessKind:
        """MCAR, MAR or MNAR, per column and overall, with the reason, by d-separation (section 2.2)."""
        return separation.missingness_of(self.dag)

    def figure1(self) -> FigureOne:
        """Which drawing of Figure 1 this is, where the paper's text fixes it, and in any case what the graph does."""
        return separation.figure_of(self.dag)

    def plot(self, ax: Any = None) -> Any:
        """Draw it with matplotlib, on ``ax`` or on a figure of its own; returns the Axes.

        Edges that every graph has (U → Z → X) are pale, those whose sign is known red.  More than seven columns stand
        below each other.
        """
        return picture.plot(self.dag, ax)

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
        return mechanism_of(self.nodes, self.edges, latent_dim, form=form, hidden=hidden, indicators=indicators)

    # As a file

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for a JSON file.

        Raises:
            TypeError: If a column's label is neither text nor a number.
        """
        return files.to_dict(self.nodes, self.edges)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], table: Table | Schema | None = None) -> MissingnessGraph:
        """The inverse of :meth:`to_dict`; only ``edges`` (or ``preset``, a name) is needed where there is a table.

        Raises:
            ValueError: As for the class, and if an entry is unknown.
        """
        options = files.options_of(data)
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
        return cls.from_dict(files.parsed(text), table)

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
            if not self.nodes.is_implied(edge):
                self.nodes.check(edge)
                if kept.setdefault((edge.parent, edge.child), edge) != edge:
                    raise ValueError(f"{edge.arrow}: declared twice, with different knowledge")
        return tuple(kept.values())
