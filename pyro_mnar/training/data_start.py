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
    """Let model and guide start from the rows to fit; whether that puts all of both near where training ends.

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
    start = model.start_from(batch)
    if start is None:
        return resume and model in _near
    follows = isinstance(guide, LearnsLatents) and guide.learn_latents(batch, start)
    is_near = start.is_near and follows
    log.info("start: from the data%s", "" if is_near else ", which does not say where all parameters end")
    if is_near:
        _near.add(model)
    return is_near
