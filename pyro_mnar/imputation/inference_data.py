"""Draws, data and diagnostics as one ArviZ object, with labelled dimensions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import xarray
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from pyro_mnar.imputation.arviz_groups import from_groups
from pyro_mnar.messages import check_is
from pyro_mnar.tables.table import Table


def draws_to_inference_data(
    table: Table,
    cells: Int[NDArray, "2 cells"],
    draws: Float[NDArray, "draws cells"],
    *,
    effective_sample_size: Float[NDArray, " rows"] | None = None,
    pareto_k: pd.Series | None = None,
    replicated: tuple[Table, Float[NDArray, "tables rows columns"], Bool[NDArray, "tables rows columns"]] | None = None,
) -> Any:
    """Draws of every missing entry under ``posterior``, one chain.

    ``x_missing`` has dimensions ``(chain, draw, cell)``; coordinates ``row`` and ``column`` of ``cell`` say where it
    stands. ``observed_data`` holds ``x`` with NaN for gaps and the mask ``r``, ``constant_data`` the auxiliary
    columns, both by ``(row, column)``, ``sample_stats`` what is known of the rows' importance weights; everything in
    the user's units.  Labels are text, which netCDF and zarr keep whatever the frame's own are: rows by the index where
    that is unique as text, else by position.

    Args:
        table: The table that was imputed.
        cells: Row and column position of each imputed cell.
        draws: Values of these cells, in the user's units.
        effective_sample_size: Of each row's weights; infinite where nothing is imputed.
        pareto_k: k-hat of rows, by position, such as ``diagnose(...).rows.pareto_k``.
        replicated: A table and replicates of its rows in standardised units, with their masks, for
            ``posterior_predictive``.
    """
    if pareto_k is not None:
        check_is("pareto_k", pareto_k, pd.Series, " by position, as diagnose gives it")
    schema, frame = table.schema, table.frame
    row_labels, names = _text(frame.index), _text(schema.names)
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
    x = _decoded(table, table.x.numpy())
    by_cell = {"dims": ("row", "column"), "coords": {"row": row_labels, "column": names}}
    by_row: Any = {"dims": "row", "coords": {"row": row_labels}}
    constants = {
        str(auxiliary.name): xarray.DataArray(_plain(frame[auxiliary.name]), **by_row)
        for auxiliary in schema.auxiliaries
        if schema.auxiliary_source == "named"
    }
    of_rows = {}
    if effective_sample_size is not None:
        of_rows["effective_sample_size"] = xarray.DataArray(effective_sample_size, **by_row)
    if pareto_k is not None:
        of_rows["pareto_k"] = xarray.DataArray(pareto_k.reindex(range(len(frame))).to_numpy(np.float64), **by_row)
    return from_groups(
        {
            "posterior": {"x_missing": posterior},
            "posterior_predictive": {} if replicated is None else _replicates(*replicated),
            "sample_stats": of_rows,
            "observed_data": {
                "x": xarray.DataArray(np.where(mask, x, np.nan), **by_cell),
                "r": xarray.DataArray(mask, **by_cell),
            },
            "constant_data": constants,
        }
    )


def _replicates(
    table: Table, x: Float[NDArray, "draws rows columns"], mask: Bool[NDArray, "draws rows columns"]
) -> dict[str, xarray.DataArray]:
    coordinates = {
        "chain": [0],
        "draw": np.arange(len(x)),
        "row": _text(table.frame.index),
        "column": _text(table.schema.names),
    }
    values = {"x": np.stack([_decoded(table, one) for one in x]), "r": mask}
    dims = ("chain", "draw", "row", "column")
    return {name: xarray.DataArray(value[None], dims=dims, coords=coordinates) for name, value in values.items()}


def _decoded(table: Table, x: Float[NDArray, "rows columns"]) -> NDArray[Any]:
    """In the user's units; levels by their position."""
    return np.stack([column.decode(x[:, i]) for i, column in enumerate(table.schema.columns)], axis=1)


def _text(labels: Iterable[Any]) -> NDArray[Any]:
    """Labels as text; positions where several would be the same."""
    text = [str(label) for label in labels]
    return np.array(text if len(set(text)) == len(text) else [str(at) for at in range(len(text))])


def _plain(values: pd.Series) -> NDArray[Any]:
    """Numbers and booleans as they are, all else as text."""
    if pd.api.types.is_bool_dtype(values.dtype) or pd.api.types.is_numeric_dtype(values.dtype):
        return values.to_numpy()
    return np.array([str(value) for value in values])
