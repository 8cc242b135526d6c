"""A pair starts from its table, where ``start="data"`` asks for it (:mod:`pyro_mnar.infer.data_start`)."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import nn

from pyro_mnar.infer.data_start import LearnsLatents, StartsFromData
from pyro_mnar.tables.positions import spread_evenly
from pyro_mnar.tables.table import Table

MOST_ROWS = 2_000  # that are looked at

log = logging.getLogger(__name__)


def start_pair(model: Any, guide: Any, table: Table, device: torch.device) -> bool:
    """Let model and guide start from the rows to fit; whether they did.

    They do where that puts all of both near where training ends, whatever their parameters were; else both stay as they
    were.  So it is the same for a pair that was trained and for one that was not.

    Args:
        model: The model; nothing happens to one that is no :class:`~pyro_mnar.infer.data_start.StartsFromData`.
        guide: The guide; nor to a pair whose guide is no :class:`~pyro_mnar.infer.data_start.LearnsLatents`.
        table: The rows.
        device: Where to compute.
    """
    if device.type == "meta" or not isinstance(model, StartsFromData) or not isinstance(guide, LearnsLatents):
        return False
    before = {}
    if isinstance(model, nn.Module):
        if any(parameter.dtype != table.dtype for parameter in model.parameters()):
            return False  # refused with its cure when training begins
        before = {name: value.clone() for name, value in model.state_dict().items()}
    rows = torch.as_tensor(spread_evenly(len(table), MOST_ROWS))
    batch = table.source(device).take(rows.to(device))
    start = model.start_from(batch)
    if start is None:
        return False
    if not guide.learn_latents(batch, start):
        if isinstance(model, nn.Module):
            model.load_state_dict(before)
        return False
    log.info("start: from the data")
    return True
