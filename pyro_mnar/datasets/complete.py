"""Complete rows before anything goes missing, and structural equations that make them (X → X edges: Figure 1 i)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import NDArray

from pyro_mnar.graphs.graph import MissingnessGraph
from pyro_mnar.messages import check_is, is_one_of, names_of, number_from_zero, seed_of, shown, whole_number


@dataclass(frozen=True, eq=False)
class Complete:
    """Rows without gaps, and the latents that made them.

    Attributes:
        frame: X; ``(rows, columns)``.
        latents: Z, with columns ``Z1``, ``Z2``, ..., standard normal each; None where they are not known.
    """

    frame: pd.DataFrame
    latents: pd.DataFrame | None = None


RowGenerator = Callable[[np.random.Generator], Complete]


@dataclass(frozen=True)
class LinearStructure:
    """A generator: X_d = Σ_h w_dh Z_h + Σ_e b_de X_e over the edges X_e → X_d, plus noise; weights of size about one.

    Weights are drawn from ``seed``, rows from the generator's own random numbers: calling it twice gives two samples of
    one law.

    Attributes:
        columns: Names of the columns.
        edges: Pairs ``(cause, effect)`` of columns; weights ±U(0.5, 1).
        latent_dim: Number of standard normal latents, each a cause of every column with weights ~ N(0, 1/latent_dim).
        noise: Standard deviation of each column's own noise.
        rows: Number of rows.
        seed: Of the weights.
    """

    columns: Sequence[Hashable]
    edges: Sequence[tuple[Hashable, Hashable]] = ()
    latent_dim: int = 1
    noise: float = 0.5
    rows: int = 1000
    seed: int = 0

    @classmethod
    def of_graph(cls, graph: MissingnessGraph, **options: Any) -> LinearStructure:
        """The structure with a missingness graph's columns and its X → X edges.

        Args:
            graph: The graph; its edges into R nodes are :func:`~pyro_mnar.datasets.ampute`'s business.
            **options: ``latent_dim``, ``noise``, ``rows``, ``seed``.

        Raises:
            ValueError: If the graph has auxiliaries that cause its latents.
        """
        check_is("graph", graph, MissingnessGraph)
        if graph.nodes.auxiliaries:
            names = [name for name, _ in graph.nodes.auxiliaries]
            raise ValueError(f"expected a graph without auxiliaries, got {names!r}")
        columns = graph.nodes.columns
        edges = [(e.parent, e.child) for e in graph.edges if e.parent in columns and e.child in columns]
        return cls(columns, edges, **options)

    def __post_init__(self) -> None:
        columns = list(names_of("columns", self.columns))
        for edge in names_of("edges", self.edges):
            if not isinstance(edge, tuple) or len(edge) != 2:
                raise ValueError(f"edges: expected pairs (cause, effect) of columns, got {shown(edge)}")
        for name, value, least in (("latent_dim", self.latent_dim, 0), ("rows", self.rows, 1)):
            whole_number(name, value, least)
        number_from_zero("noise", self.noise)
        seed_of(self.seed)
        order = nx.DiGraph(list(self.edges))
        for name in order.nodes:
            if not is_one_of(name, columns):
                raise ValueError(f"edge with column {name!r}: expected one of {list(self.columns)!r}")
        if not nx.is_directed_acyclic_graph(order):
            raise ValueError(f"edges: expected no cycle, got {nx.find_cycle(order)!r}")

    def __call__(self, rng: np.random.Generator) -> Complete:
        """Draw the rows."""
        weights = np.random.default_rng(self.seed)
        of_latent = weights.normal(size=(self.latent_dim, len(self.columns))) / np.sqrt(self.latent_dim)
        of_column = {edge: weights.choice([-1, 1]) * weights.uniform(0.5, 1) for edge in self.edges}

        z = rng.normal(size=(self.rows, self.latent_dim))
        x = z @ of_latent + self.noise * rng.normal(size=(self.rows, len(self.columns)))
        frame = pd.DataFrame(x, columns=list(self.columns))
        graph = nx.DiGraph(list(self.edges))
        for name in nx.topological_sort(graph):
            for cause in graph.predecessors(name):
                frame[name] += of_column[cause, name] * frame[cause]
        return Complete(frame, latent_frame(z))


def latent_frame(z: Float[NDArray, "rows latent_dim"]) -> pd.DataFrame:
    """Latents ``(rows, latent_dim)`` under their names ``Z1``, ``Z2``, ..."""
    return pd.DataFrame(z, columns=[f"Z{h + 1}" for h in range(z.shape[1])])
