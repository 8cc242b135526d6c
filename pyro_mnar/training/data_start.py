"""A pair that nobody has touched starts from its table, not at random (:mod:`pyro_mnar.infer.data_start`)."""

from __future__ import annotations

import logging
from typing import Any
from weakref import WeakSet

import torch
from torch import nn

from pyro_mnar.infer.data_start import LearnsLatents, StartsFromData
from pyro_mnar.tables.positions import spread_evenly
from pyro_mnar.tables.table import Table

MOST_ROWS = 2_000  # that are looked at

log = logging.getLogger(__name__)
_near: WeakSet[Any] = WeakSet()  # models that have started near the end


def start_pair(model: Any, guide: Any, table: Table, device: torch.device, *, resume: bool = False) -> bool:
    """Let model and guide start from the rows to fit; whether they did.

    They do where that puts all of both near where training ends; else both stay as they were.

    Args:
        model: The model; nothing happens to one that is no :class:`~pyro_mnar.infer.data_start.StartsFromData`.
        guide: The guide.
        table: The rows.
        device: Where to compute.
        resume: Whether a training goes on, whose pair may have started already.
    """
    if device.type == "meta" or not isinstance(model, StartsFromData):
        return False
    if isinstance(model, nn.Module) and any(parameter.dtype != table.dtype for parameter in model.parameters()):
        return False  # refused with its cure when training begins
    rows = torch.as_tensor(spread_evenly(len(table), MOST_ROWS))
    batch = table.source(device).take(rows.to(device))
    before = [(part, copied_state(part)) for part in (model, guide)]
    start = model.start_from(batch)
    if start is None:
        return resume and model in _near
    is_near = start.is_near and isinstance(guide, LearnsLatents) and guide.learn_latents(batch, start)
    if is_near:
        log.info("start: from the data")
        _near.add(model)
        return True
    # The steps that find the rest are large, and lead away from a start as narrow as this one.
    log.info("start: at random (the data do not say where all parameters end)")
    for part, state in before:
        if isinstance(part, nn.Module):
            part.load_state_dict(state)
    return False


def copied_state(part: Any) -> dict[str, Any]:
    """A module's state, copied."""
    return {name: value.clone() for name, value in part.state_dict().items()} if isinstance(part, nn.Module) else {}
