"""Not-MIWAE: a VAE with a mechanism on X (Ipsen et al. 2021), the paper's comparison without U.

Z → X → R        p(Z) · Π_d p(X_d|Z) · Π_d p(R_d|X)
"""

from __future__ import annotations

from typing import Any

from torch import nn

from pyro_mnar.graphs.graph import MissingnessGraph
from pyro_mnar.infer.construction import remembered
from pyro_mnar.models.decoding import graph_of, latent_dim_of
from pyro_mnar.models.gina import GINA
from pyro_mnar.nn import priors
from pyro_mnar.tables.schema import Schema
from pyro_mnar.tables.table import Table, schema_of


@remembered
class NotMIWAE(GINA):
    """GINA with a standard normal prior, so that U has no part in it, and a mechanism on X alone.

    Args:
        table: The table (or its schema) that the model is for.
        latent_dim: H, as for :class:`~pyro_mnar.models.GINA`.
        mechanism: p(R|X): :class:`~pyro_mnar.mechanisms.SelfMasking` (the default), or
            :class:`~pyro_mnar.mechanisms.FullyConnected` as in the paper's Figure 1 (d).
        graph: A missingness graph to compile to the mechanism, instead of ``mechanism``.
        decoder: p(X|Z), as for GINA.
        mechanism_weight: β, as for GINA.
        discrete: What becomes of missing levels in the gradient, as for GINA.
        numbers: What becomes of missing numbers, as for GINA.
        seed: Of the initial parameters.

    Raises:
        ValueError: If the latent causes missingness in the graph (that is GINA's), and as for GINA.
    """

    def __init__(
        self,
        table: Table | Schema,
        *,
        latent_dim: int | None = None,
        mechanism: Any = None,
        graph: MissingnessGraph | None = None,
        decoder: nn.Module | None = None,
        mechanism_weight: float = 1.0,
        discrete: str = "summed",
        numbers: str = "closed-form",
        seed: int | None = None,
    ) -> None:
        self.schema = schema = schema_of(table)
        graph = graph_of(graph, schema)
        if graph is not None:
            masked = [edge.child for edge in graph.edges if edge.parent == graph.nodes.latent]
            if masked:
                arrow = f"{graph.nodes.latent} → {masked[0]}"
                raise ValueError(f"graph: expected no edge from the latent, got {arrow}; GINA has those")
        super().__init__(
            schema,
            latent_dim=latent_dim,
            mechanism=mechanism,
            graph=graph,
            decoder=decoder,
            prior=priors.StandardNormal(latent_dim_of(schema, latent_dim)),
            mechanism_weight=mechanism_weight,
            discrete=discrete,
            numbers=numbers,
            seed=seed,
        )
