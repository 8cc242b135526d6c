"""Graphs by name: the cases of Figure 1 in which every column that can go missing has causes of one kind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from pyro_mnar.graphs.nodes import Edge, Nodes
from pyro_mnar.tables.schema import Schema
from pyro_mnar.tables.table import Table

if TYPE_CHECKING:
    from pyro_mnar.graphs.graph import MissingnessGraph

PRESETS = (
    "mcar",
    "mar",
    "self_masking",
    "fully_connected",
    "latent",
    "latent_dependent",
    "general",
    "no_self_censoring",
    "no_self_censoring_given_z",
)


class Presets(ABC):
    """The named constructors of :class:`~pyro_mnar.MissingnessGraph`."""

    nodes: Nodes

    @classmethod
    def mcar(cls, table: Table | Schema | Sequence[Hashable], **options: Any) -> MissingnessGraph:
        """Nothing causes it (Figure 1 a).  ``options`` are ``incomplete``, ``auxiliaries``, ``latent`` as for the
        class, and ``form``, known of every edge into an R.
        """
        return cls._caused(table, options, lambda nodes, column: [])

    @classmethod
    def mar(
        cls, table: Table | Schema | Sequence[Hashable], on: Iterable[Hashable] | None = None, **options: Any
    ) -> MissingnessGraph:
        """Complete columns or U cause it (Figure 1 b).

        Args:
            table: As for the class.
            on: Names of the causes; by default every complete column and every auxiliary.
            **options: As for :meth:`mcar`.

        Raises:
            ValueError: If a cause can itself go missing (that would be MNAR), or there is none.
        """
        on = None if on is None else list(on)

        def causes(nodes: Nodes, column: Hashable) -> list[Hashable]:
            chosen = list(nodes.given) if on is None else on
            for name in chosen:
                if name in nodes.incomplete:
                    raise ValueError(f"mar: column {name!r} can itself go missing, so depending on it is not MAR")
                if name not in nodes.given:
                    raise ValueError(
                        f"mar: expected complete columns or auxiliaries, {list(nodes.given)!r}, got {name!r}"
                    )
            if not chosen:
                raise ValueError("mar: expected a complete column or an auxiliary to depend on, got none")
            return chosen

        return cls._caused(table, options, causes)

    @classmethod
    def self_masking(
        cls, table: Table | Schema | Sequence[Hashable], *, sign: int | str | None = None, **options: Any
    ) -> MissingnessGraph:
        """Each column's own value causes it (Figure 1 c).

        Args:
            table: As for the class.
            sign: Known of every column, as for :class:`Edge`; single columns: :meth:`knowing`.
            **options: As for :meth:`mcar`.
        """
        return cls._caused(table, {**options, "sign": sign}, lambda nodes, column: [column])

    @classmethod
    def fully_connected(cls, table: Table | Schema | Sequence[Hashable], **options: Any) -> MissingnessGraph:
        """All of X causes each R (Figure 1 d; Not-MIWAE's).  Options as for :meth:`mcar`."""
        return cls._caused(table, options, lambda nodes, column: nodes.columns)

    @classmethod
    def latent(cls, table: Table | Schema | Sequence[Hashable], **options: Any) -> MissingnessGraph:
        """The latent alone causes it.  Options as for :meth:`mcar`."""
        return cls._caused(table, options, lambda nodes, column: [nodes.latent])

    @classmethod
    def latent_dependent(cls, table: Table | Schema | Sequence[Hashable], **options: Any) -> MissingnessGraph:
        """Each column's own value and the latent cause it (the paper's B and C).  Options as for :meth:`mcar`."""
        return cls._caused(table, options, lambda nodes, column: [column, nodes.latent])

    @classmethod
    def general(cls, table: Table | Schema | Sequence[Hashable], **options: Any) -> MissingnessGraph:
        """All of X and Z cause each R (Figure 1 h, equation 6).  Options as for :meth:`mcar`."""
        return cls._caused(table, options, lambda nodes, column: [*nodes.columns, nodes.latent])

    @classmethod
    def no_self_censoring(cls, table: Table | Schema | Sequence[Hashable], **options: Any) -> MissingnessGraph:
        """All of X but the column's own value causes it, and not Z, through which that value would come back.

        Options as for :meth:`mcar`.
        """
        return cls._caused(table, options, lambda nodes, column: nodes.other_columns(column))

    @classmethod
    def no_self_censoring_given_z(cls, table: Table | Schema | Sequence[Hashable], **options: Any) -> MissingnessGraph:
        """All of X but the column's own value, and Z, cause it.  Options as for :meth:`mcar`."""
        return cls._caused(table, options, lambda nodes, column: [*nodes.other_columns(column), nodes.latent])

    @classmethod
    def preset(cls, name: str, table: Table | Schema | Sequence[Hashable], **options: Any) -> MissingnessGraph:
        """A preset by its name, with ``-`` or ``_``: the command line's ``--graph self-masking``.

        Raises:
            ValueError: If there is no such preset.
        """
        method = name.replace("-", "_")
        if method not in PRESETS:
            raise ValueError(f"graph {name!r}: expected one of {', '.join(PRESETS)}")
        return getattr(cls, method)(table, **options)

    @classmethod
    @abstractmethod
    def of_nodes(cls, nodes: Nodes, edges: Iterable[Any]) -> MissingnessGraph:
        """A graph over nodes that are there already."""
        ...

    @classmethod
    def _caused(
        cls, table: Any, options: dict[str, Any], causes: Callable[[Nodes, Hashable], Iterable[Hashable]]
    ) -> MissingnessGraph:
        """The graph in which ``causes`` gives the parents of each R."""
        form, sign = options.pop("form", None), options.pop("sign", None)
        nodes = Nodes.of(table, [], **{"incomplete": None, "auxiliaries": None, "latent": "Z", **options})
        if not nodes.columns:
            raise ValueError("expected a table, a schema or names of columns, got no columns")
        edges = [
            Edge(parent, f"R[{column}]", sign=sign, form=form)
            for column in nodes.incomplete
            for parent in causes(nodes, column)
        ]
        return cls.of_nodes(nodes, edges)
