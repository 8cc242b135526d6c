"""Missingness graphs: who causes whose missingness."""

from pyro_mnar.graphs.graph import MissingnessGraph
from pyro_mnar.graphs.recovery import missingness_graph_of

__all__ = ["MissingnessGraph", "missingness_graph_of"]
