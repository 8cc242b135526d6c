"""Random missingness graphs, and tables that they fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from hypothesis import strategies as st
from torch import nn

from pyro_mnar import MissingnessGraph, Table


@st.composite
def graph_data(draw: st.DrawFn) -> dict[str, Any]:
    """A few columns, complete and not, auxiliaries, and any edges into R that are admitted, with any knowledge.

    As the content of a file, for ``MissingnessGraph.from_dict``: making the graph here would have beartype draw random
    numbers, which Hypothesis forbids.
    """
    columns = [f"x{d}" for d in range(draw(st.integers(1, 5)))]
    incomplete = draw(st.lists(st.sampled_from(columns), min_size=1, unique=True).map(sorted))
    auxiliaries = [f"u{a}" for a in range(draw(st.integers(0, 2)))]
    edges = []
    for at, column in enumerate(incomplete):
        earlier = [f"R[{other}]" for other in incomplete[:at]]
        for parent in draw(st.lists(st.sampled_from([*columns, *auxiliaries, *earlier, "Z"]), unique=True)):
            sign = 0 if parent == "Z" else draw(st.sampled_from([-1, 0, 1]))
            form = draw(st.sampled_from([None, "linear", "nonlinear"]))
            edges.append([parent, f"R[{column}]", {"sign": sign, "form": form}])
    return {"edges": edges, "columns": columns, "incomplete": incomplete, "auxiliaries": auxiliaries}


def table_for(graph: MissingnessGraph, num_rows: int = 30) -> Table:
    """Normal columns with gaps where the graph has R nodes."""
    rng = np.random.default_rng(0)
    auxiliaries = [name for name, _ in graph.nodes.auxiliaries]
    names = [*graph.nodes.columns, *auxiliaries]
    frame = pd.DataFrame(rng.normal(size=(num_rows, len(names))), columns=names)
    for name in graph.nodes.incomplete:
        frame.loc[rng.choice(num_rows, num_rows // 3, replace=False), name] = np.nan
    return Table.from_frame(frame, auxiliary=auxiliaries)


def scatter(module: nn.Module, scale: float = 0.5) -> None:
    """Move every parameter away from where it starts."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(scale * torch.randn_like(parameter))
