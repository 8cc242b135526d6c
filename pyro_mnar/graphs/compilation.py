"""From the edges into R to the mechanism p(R|X,Z) that has exactly these."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import numpy as np
from jaxtyping import Shaped
from numpy.typing import NDArray

from pyro_mnar.graphs.edges import FORMS, Edge
from pyro_mnar.graphs.nodes import Nodes
from pyro_mnar.mechanisms.compiled import GraphMechanism
from pyro_mnar.messages import check_is, is_one_of, shown, whole_number
from pyro_mnar.nn.indicators import Indicators


def mechanism_of(
    nodes: Nodes,
    edges: Iterable[Edge],
    latent_dim: int,
    *,
    form: str = "linear",
    hidden: int = 10,
    indicators: Indicators | None = None,
) -> GraphMechanism:
    """The mechanism in which every R sees exactly its parents.

    Args:
        nodes: The graph's nodes.
        edges: Its edges; those into X or Z are not the mechanism's.
        latent_dim: H.
        form: Of the edges whose form is not known.
        hidden: Hidden units per column, for the nonlinear ones.
        indicators: Of columns whose levels have no order, which then enter by these.

    Raises:
        ValueError: If a number is below one, the form is none of those, or such a column's edge has a sign or a slope.
    """
    if not is_one_of(form, FORMS[:2]):
        raise ValueError(f"form: expected 'linear' or 'nonlinear', got {shown(form)}")
    if indicators is not None:
        check_is("indicators", indicators, Indicators)
    at = nodes.slices(whole_number("latent_dim", latent_dim))
    columns: dict[Hashable, int] = {nodes.r(name): d for d, name in enumerate(nodes.columns)}
    shape = (len(nodes.columns), at[nodes.inputs[-1]].stop)
    parents, signs, nonlinear = np.zeros(shape, bool), np.zeros(shape, int), np.zeros(shape, bool)
    slopes = np.full(shape, np.nan)
    for edge in edges:
        if nodes.is_r(edge.child):
            here = columns[edge.child], at[edge.parent]
            parents[here], signs[here], nonlinear[here] = True, edge.sign, (edge.form or form) == "nonlinear"
            slopes[here] = np.nan if edge.slope is None else edge.slope
    if indicators is not None and len(indicators):
        signed = [nodes.columns[d] for d in indicators.positions if (signs[:, d] != 0).any() or _known(slopes[:, d])]
        if signed:
            raise ValueError(f"column {signed[0]!r}: its levels have no order, so its edges have no sign and no slope")
        parents, signs, nonlinear, slopes = (
            _by_indicators(m, indicators, len(columns) + latent_dim) for m in (parents, signs, nonlinear, slopes)
        )
    return GraphMechanism(
        parents, signs, nonlinear, slopes, latent_dim=latent_dim, hidden=hidden, indicators=indicators
    )


def _known(slopes: Shaped[NDArray, " columns"]) -> bool:
    return bool(np.isfinite(slopes).any())


def _by_indicators(
    inputs: Shaped[NDArray, "columns inputs"], indicators: Indicators, at: int
) -> Shaped[NDArray, "columns more"]:
    """Edges from columns without an order, moved to their indicators, which stand behind x and z."""
    moved = inputs[:, indicators.sources]
    kept = inputs.copy()
    kept[:, indicators.positions] = 0
    return np.concatenate([kept[:, :at], moved, kept[:, at:]], axis=1)
