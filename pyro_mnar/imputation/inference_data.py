"""ArviZ objects, for ArviZ below 1.0 (InferenceData) and from 1.0 on (DataTree)."""

from __future__ import annotations

from typing import Any

import arviz
import numpy as np
import xarray
from jaxtyping import Float, Int
from numpy.typing import NDArray

from pyro_mnar.tables.table import Table


def from_groups(groups: dict[str, dict[str, xarray.DataArray]]) -> Any:
    """An InferenceData or a DataTree, whichever this ArviZ works with, from groups of labelled arrays."""
    datasets: dict[str, Any] = {name: xarray.Dataset(variables) for name, variables in groups.items() if variables}
    if hasattr(arviz, "InferenceData"):
        return arviz.InferenceData(**datasets)
    return xarray.DataTree.from_dict(datasets)


def draws_to_inference_data(table: Table, cells: Int[NDArray, "2 cells"], draws: Float[NDArray, "draws cells"]) -> Any:
    """Draws of every missing entry under ``posterior``, one chain.

    ``x_missing`` has dimensions ``(chain, draw, cell)``; coordinates ``row`` and ``column`` of ``cell`` say where it
    stands. ``observed_data`` holds ``x`` with NaN for gaps and the mask ``r``, ``constant_data`` the auxiliary
    columns, both by ``(row, column)``; everything in the user's units.  Rows are labelled by the frame's index where
    that is unique, else by position.

    Args:
        table: The table that was imputed.
        cells: Row and column position of each imputed cell.
        draws: Values of these cells, in the user's units.
    """
    schema, frame = table.schema, table.frame
    index = frame.index if frame.index.is_unique and frame.index.nlevels == 1 else np.arange(len(frame))
    row_labels = np.asarray(index)
    names = np.array([str(name) for name in schema.names])
    at_row, at_column = cells
    posterior = xarray.DataArray(
        draws[None],
        dims=("chain", "draw", "cell"),
        coords={
            "chain": [0],
            "draw": np.arange(len(draws)),
            "cell": [f"{row_labels[r]}, {names[c]}" for r, c in zip(at_row, at_column, strict=True)],
            "row": ("cell", row_labels[at_row]),
            "column": ("cell", names[at_column]),
        },
    )
    mask = table.mask.numpy()
    x = np.stack([column.decode(table.x[:, i].numpy()) for i, column in enumerate(schema.columns)], axis=1)
    by_cell = {"dims": ("row", "column"), "coords": {"row": row_labels, "column": names}}
    constants = {
        str(auxiliary.name): xarray.DataArray(frame[auxiliary.name].to_numpy(), dims="row", coords={"row": row_labels})
        for auxiliary in schema.auxiliaries
        if schema.auxiliary_source == "named"
    }
    return from_groups(
        {
            "posterior": {"x_missing": posterior},
            "observed_data": {
                "x": xarray.DataArray(np.where(mask, x, np.nan), **by_cell),
                "r": xarray.DataArray(mask, **by_cell),
            },
            "constant_data": constants,
        }
    )
