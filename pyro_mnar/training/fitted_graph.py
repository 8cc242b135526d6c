"""Who causes whose missingness in a fit's model."""

from __future__ import annotations

from pyro_mnar.graphs.graph import MissingnessGraph
from pyro_mnar.graphs.recovery import missingness_graph_of
from pyro_mnar.infer.session import Session
from pyro_mnar.tables.table import Table
from pyro_mnar.training.fitted import Fit

MOST_NODES = 100  # of a table whose model is asked: it runs several times for each


def recovered_graph(fit: Fit, table: Table, *, seed: int = 0) -> MissingnessGraph:
    """As the model's code has it, which does not depend on where it computes: it is asked on the processor.

    Raises:
        ValueError: As :func:`~pyro_mnar.missingness_graph_of`.
    """
    fit = fit.on("cpu")
    with Session(seed, store=fit.store).running():
        return missingness_graph_of(fit.model, table, seed=seed)


def graph_of_fit(fit: Fit, table: Table, *, seed: int = 0) -> MissingnessGraph | None:
    """The recovered graph; None if the model's mask site is not found."""
    try:
        return recovered_graph(fit, table, seed=seed)
    except ValueError:
        return None


def known_graph(fit: Fit, table: Table, *, seed: int = 0) -> MissingnessGraph | None:
    """As declared, or else recovered; None of models too wide to ask.

    Raises:
        ValueError: As :func:`recovered_graph`.
    """
    declared = getattr(fit.model, "graph", None)
    if isinstance(declared, MissingnessGraph):
        return declared
    is_wide = table.schema.num_columns + len(table.schema.auxiliaries) > MOST_NODES
    return None if is_wide else recovered_graph(fit, table, seed=seed)
