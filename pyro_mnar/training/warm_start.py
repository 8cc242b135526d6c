"""Going on from another fit: its parameters are where training starts, and its history is what came before."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch
from torch import nn

from pyro_mnar.infer.session import locked
from pyro_mnar.tables.table import Table
from pyro_mnar.training.copies import copied_store
from pyro_mnar.training.fitted import Fit


def take_over(start: Fit, model: Any, guide: Any, table: Table) -> dict[str, Any]:
    """Put a fit's parameters into a model and a guide; returns those that no module owns, for the parameter store.

    Raises:
        ValueError: If the fit is of another table's units, or of a model or a guide with other parameters.
    """
    if start.schema != table.schema:
        raise ValueError(
            "start: expected a fit of a table with this table's schema, since parameters are in its units; make the"
            " table with Table.from_frame(frame, schema=start.schema)"
        )
    pairs = [(role, getattr(start, role), given) for role, given in (("model", model), ("guide", guide))]
    for role, trained, given in pairs:
        shapes = [
            {name: tuple(value.shape) for name, value in module.state_dict().items()}
            if isinstance(module, nn.Module)
            else {}
            for module in (trained, given)
        ]
        if shapes[0] != shapes[1]:
            names = [name for name in {**shapes[0], **shapes[1]} if shapes[0].get(name) != shapes[1].get(name)]
            raise ValueError(
                f"start: its {role} has other parameters than the {role} given, {names[0]!r} first: make both alike"
            )
    for _, trained, given in pairs:
        if isinstance(given, nn.Module) and given is not trained:
            with locked(), torch.no_grad():
                given.load_state_dict(trained.state_dict())
    return copied_store(start.store, start.model, start.guide)


def continued(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """One history of both, whose epochs count on."""
    if before.empty or after.empty:
        return after if before.empty else before
    return pd.concat([before, after.assign(epoch=after["epoch"] + before["epoch"].iloc[-1])], ignore_index=True)
