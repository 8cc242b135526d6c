"""Nodes of a missingness graph: what they are called, and which edges between them the theory admits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, count
from typing import Any

import networkx as nx
import pandas as pd

from pyro_mnar.graphs.edges import Edge
from pyro_mnar.messages import check_is, has_parts, in_line, is_hashable, shown
from pyro_mnar.tables.schema import Schema
from pyro_mnar.tables.table import Table, schema_of

LATENT = "Z"


@dataclass(frozen=True)
class Nodes:
    """Columns, auxiliaries, the latent; R nodes are named after columns.

    Attributes:
        columns: X, in order.
        incomplete: Those with an R node.
        auxiliaries: Name and width (indicators of a text column) of each auxiliary that is no column of X.  Complete
            columns that serve as U are columns here: given them, their copies in U say nothing more.
        latent: Name of the node Z.
        named: Whether the columns were given, by a table or by name, rather than read off the edges.
    """

    columns: tuple[Hashable, ...]
    incomplete: tuple[Hashable, ...]
    auxiliaries: tuple[tuple[Hashable, int], ...]
    latent: str = LATENT
    named: bool = True

    def __post_init__(self) -> None:
        names = [*self.columns, *(name for name, _ in self.auxiliaries), *(self.r(name) for name in self.incomplete)]
        _refuse_gaps(names)
        if self.latent in names:
            raise ValueError(
                f"column {self.latent!r}: the latent's node has this name; give it another with latent=..., or as"
                " 'latent' in a graph's file"
            )
        for name, times in Counter(names).items():
            if times > 1:
                raise ValueError(f"node {name!r}: expected each name once, got it {times} times")
        for name in self.incomplete:
            if name not in self.columns:
                raise ValueError(f"incomplete: expected some of the columns {list(self.columns)!r}, got {shown(name)}")

    @classmethod
    def of(
        cls,
        table: Table | Schema | Sequence[Hashable] | None,
        edges: Iterable[Edge],
        *,
        incomplete: Iterable[Hashable] | None,
        auxiliaries: Iterable[Hashable] | Mapping[Hashable, int] | None,
        latent: str | None,
    ) -> Nodes:
        """From a table, from names, or from the edges themselves."""
        if latent is not None and not isinstance(latent, str):
            raise TypeError(f"latent: expected the name of the latent's node, got {shown(latent)}")
        if isinstance(table, (Table, Schema)):
            if incomplete is not None or auxiliaries is not None:
                raise ValueError(
                    "incomplete, auxiliaries: the table says which they are; give names of columns instead of it"
                )
            return cls.of_schema(schema_of(table), latent, edges)
        if isinstance(table, str) or not isinstance(table, (Sequence, type(None))):
            raise TypeError(f"table: expected a Table, a Schema or names of columns, got {type(table).__name__}")
        widths = (
            auxiliaries if isinstance(auxiliaries, Mapping) else dict.fromkeys(_names("auxiliaries", auxiliaries), 1)
        )
        for name, width in widths.items():
            if isinstance(width, bool) or not isinstance(width, int) or width < 1:
                raise ValueError(f"auxiliaries, {name!r}: expected a width of at least 1, got {shown(width)}")
        extra = tuple(widths.items())
        table = None if table is None else _names("table", table)
        _refuse_gaps([*(table or ()), *widths])
        incomplete = None if incomplete is None else _names("incomplete", incomplete)
        latent = latent or latent_beside([*(table or ()), *(name for name, _ in extra)], edges)
        if table is not None:
            return cls(table, table if incomplete is None else incomplete, extra, latent)
        columns, masked = _columns_of(edges, {latent, *(name for name, _ in extra)})
        chosen = masked if incomplete is None else incomplete
        return cls((*columns, *(name for name in chosen if name not in columns)), chosen, extra, latent, named=False)

    @classmethod
    def of_schema(cls, schema: Schema, latent: str | None = None, edges: Iterable[Edge] = ()) -> Nodes:
        """As the table has them; where U = mask, U is R and has no nodes of its own.

        Args:
            schema: Of the table.
            latent: Name of the node Z; None for one that no column has.
            edges: What is declared.
        """
        if latent is not None:
            check_is("latent", latent, str)
        columns = tuple(schema.names)
        return cls(
            columns,
            tuple(column.name for column in schema.columns if column.incomplete),
            tuple((a.name, a.width) for a in schema.auxiliaries if a.name not in columns),
            latent or latent_beside([*columns, *(a.name for a in schema.auxiliaries)], edges),
        )

    @staticmethod
    def r(column: Hashable) -> str:
        """Name of a column's R node."""
        return f"R[{column}]"

    @cached_property
    def given(self) -> tuple[Hashable, ...]:
        """What is never missing: complete columns, then auxiliaries."""
        can_go_missing = set(self.incomplete)
        return (*(c for c in self.columns if c not in can_go_missing), *(name for name, _ in self.auxiliaries))

    @property
    def inputs(self) -> tuple[Hashable, ...]:
        """Everything that can cause an R, as a mechanism takes it: X, Z, R of every column, U."""
        return (*self.columns, self.latent, *map(self.r, self.columns), *(name for name, _ in self.auxiliaries))

    def slices(self, latent_dim: int) -> dict[Hashable, slice]:
        """Where each of :attr:`inputs` stands among a mechanism's inputs side by side."""
        widths = {self.latent: latent_dim, **dict(self.auxiliaries)}
        at, slices = 0, {}
        for name in self.inputs:
            slices[name] = slice(at, at + widths.get(name, 1))
            at = slices[name].stop
        return slices

    def other_columns(self, column: Hashable) -> list[Hashable]:
        """All columns but one."""
        return [other for other in self.columns if other != column]

    def role(self, name: Hashable) -> str:
        """``"X"``, ``"U"``, ``"Z"`` or ``"R"``.

        Raises:
            ValueError: If there is no such node.
        """
        if name in self._roles:
            return self._roles[name]
        complete = [column for column in self.columns if self.r(column) == name]
        if complete:
            raise ValueError(f"{name}: column {complete[0]!r} is complete, so it has no R node")
        auxiliary = [u for u in self._u_nodes if self.r(u) == name]
        if auxiliary:
            raise ValueError(f"{name}: {auxiliary[0]!r} is an auxiliary, which is always observed, so it has no R node")
        raise ValueError(
            f"node {name!r}: expected a column among {list(self.columns)!r}, an auxiliary among"
            f" {list(self._u_nodes)!r}, {self.latent!r}, or one of {list(self._r_nodes)!r}"
        )

    def is_r(self, name: Hashable) -> bool:
        """Whether a node is an R."""
        return self._roles.get(name) == "R"

    def is_implied(self, edge: Edge) -> bool:
        """Whether every graph has this edge: Z → X or U → Z, with nothing known of it."""
        in_every_graph = (self.role(edge.parent), self.role(edge.child)) in (("Z", "X"), ("U", "Z"))
        return in_every_graph and not edge.sign and not edge.form

    def check(self, edge: Edge) -> None:
        """Refuse an edge that the theory excludes, or knowledge that makes no sense."""
        arrow, parent, child = edge.arrow, self.role(edge.parent), self.role(edge.child)
        if edge.parent == edge.child:
            raise ValueError(f"expected no cycle, got {arrow}")
        if parent == "R" and child != "R":
            raise ValueError(
                f"{arrow}: missingness causes neither X nor Z nor U (data settings D1 and D2); only another R"
            )
        if child != "R" and (edge.sign or edge.form):
            raise ValueError(f"{arrow}: sign, form and slope can be declared of edges into an R only")
        if child == "U":
            raise ValueError(f"{arrow}: U is conditioned on, so the graph says nothing of what causes it")
        if child == "Z":
            raise ValueError(
                f"{arrow}: columns come from Z, so this makes a cycle (a column that Z depends on is an auxiliary)"
            )
        if (edge.sign or edge.slope is not None) and parent == "Z":
            raise ValueError(f"{arrow}: expected no sign and no slope, for the latent has no direction of its own")
        if (edge.sign or edge.slope is not None) and dict(self.auxiliaries).get(edge.parent, 1) > 1:
            raise ValueError(
                f"{arrow}: expected no sign and no slope, for {edge.parent!r} has more than two levels and no order"
            )

    def check_covers(self, others: Nodes) -> None:
        """Refuse a table with a column that goes missing and is not among those that were named."""
        for name in others.incomplete:
            if self.named and name not in self.columns:
                raise ValueError(
                    f"column {name!r}: goes missing, and the graph, over {list(self.columns)!r}, has no R for it"
                )

    def dag(self, edges: Iterable[Edge]) -> nx.DiGraph:
        """The whole graph, with the edges that every graph has (``implied``).

        Nodes carry ``role`` and ``given`` (never missing), R nodes the column they are ``of``; edges ``sign``, ``form``
        and ``slope``.

        Raises:
            ValueError: If there is a cycle.
        """
        dag = nx.DiGraph()
        dag.add_nodes_from(self._u_nodes, role="U", given=True)
        dag.add_node(self.latent, role="Z", given=False)
        given = set(self.given)
        for column in self.columns:
            dag.add_node(column, role="X", given=column in given)
        for column in self.incomplete:
            dag.add_node(self.r(column), role="R", given=True, of=column)
        dag.add_edges_from(((u, self.latent) for u in self._u_nodes), implied=True, sign=0, form=None, slope=None)
        dag.add_edges_from(
            ((self.latent, column) for column in self.columns), implied=True, sign=0, form=None, slope=None
        )
        known = ((e, {"sign": e.sign, "form": e.form, "slope": e.slope}) for e in edges)
        dag.add_edges_from((e.parent, e.child, {**its, "implied": False}) for e, its in known)
        if not nx.is_directed_acyclic_graph(dag):
            cycle = [in_line(parent) for parent, _ in nx.find_cycle(dag)]
            raise ValueError(f"expected no cycle, got {' → '.join([*cycle, cycle[0]])}")
        return nx.freeze(dag)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for a JSON file.

        Raises:
            TypeError: If a label is neither text nor a number.
        """
        for name in self.inputs:
            if not isinstance(name, (str, int, float)) or name != name:
                expected = "text or a number as label in a file"
                raise TypeError(f"column {name!r}: expected {expected}, got {shown(name)}")
        return {
            "columns": list(self.columns),
            "named": self.named,
            "incomplete": list(self.incomplete),
            "auxiliaries": [[name, width] for name, width in self.auxiliaries],
            "latent": self.latent,
        }

    @cached_property
    def _roles(self) -> dict[Hashable, str]:
        roles: dict[Hashable, str] = {
            **dict.fromkeys(self._u_nodes, "U"),
            self.latent: "Z",
            **dict.fromkeys(self.columns, "X"),
        }
        return {**roles, **dict.fromkeys(self._r_nodes, "R")}

    @property
    def _u_nodes(self) -> tuple[Hashable, ...]:
        return tuple(name for name, _ in self.auxiliaries)

    @property
    def _r_nodes(self) -> tuple[str, ...]:
        return tuple(map(self.r, self.incomplete))


def _refuse_gaps(names: Iterable[Hashable]) -> None:
    """ValueError of a name that is none: pandas' own NA cannot even be compared with others."""
    for name in names:
        if name is None or name is pd.NA:
            raise ValueError(f"column {name!r}: expected a name that a graph's node can have, such as text")


def latent_beside(names: Collection[Hashable], edges: Iterable[Edge] = ()) -> str:
    """A name of the latent's node that no column has: Z, unless a column is called so.

    Args:
        names: Of columns and auxiliaries.
        edges: What is declared: who names Z there may mean either, so that it stays Z, which the column then has too.
    """
    if LATENT not in names or any(LATENT in (edge.parent, edge.child) for edge in edges):
        return LATENT
    return next(name for name in chain(["latent"], map("latent {}".format, count(1))) if name not in names)


def _names(what: str, given: Any) -> tuple[Hashable, ...]:
    """Names of nodes that were given as a list.

    Raises:
        TypeError: If they are no list, or one of them cannot be a name.
    """
    if isinstance(given, (str, bytes)) or not (given is None or has_parts(given)):
        raise TypeError(f"{what}: expected a list of names, got {shown(given)}")
    names = () if given is None else tuple(given)
    for name in names:
        if not is_hashable(name):
            raise TypeError(f"{what}: expected names, got {shown(name)}")
    return names


def _columns_of(edges: Iterable[Edge], others: set[Hashable]) -> tuple[tuple[Hashable, ...], tuple[Hashable, ...]]:
    """Columns and, of them, those with an R node, as edges name them."""
    ends = list(dict.fromkeys(end for edge in edges for end in (edge.parent, edge.child)))
    r_nodes = [end for end in ends if isinstance(end, str) and end.startswith("R[") and end.endswith("]")]
    columns = [end for end in ends if end not in others and end not in r_nodes]
    by_text = {str(column): column for column in columns}
    masked = [by_text.get(r[2:-1], r[2:-1]) for r in r_nodes]
    return tuple(dict.fromkeys([*columns, *masked])), tuple(masked)


def listed(names: Iterable[Hashable], limit: int = 6) -> str:
    """``a, b and c``, or the first few and how many more."""
    texts = [str(name) for name in names]
    if len(texts) > limit:
        texts = [*texts[: limit - 1], f"{len(texts) - limit + 1} more"]
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)
