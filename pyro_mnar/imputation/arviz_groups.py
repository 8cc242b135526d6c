"""Groups of labelled arrays as an ArviZ object: below 1.0 an InferenceData, from 1.0 on a DataTree of xarray."""

from __future__ import annotations

from typing import Any

import arviz
import xarray


def from_groups(groups: dict[str, dict[str, xarray.DataArray]]) -> Any:
    """An InferenceData or a DataTree, whichever this ArviZ works with, from groups of labelled arrays."""
    datasets: dict[str, Any] = {name: xarray.Dataset(variables) for name, variables in groups.items() if variables}
    if int(arviz.__version__.split(".")[0]) < 1:  # later ones answer to the name, with another class
        return arviz.InferenceData(**datasets)
    return xarray.DataTree.from_dict(datasets)
