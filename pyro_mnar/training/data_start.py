"""A pair starts from its table, where it can or ``start="data"`` asks for it (:mod:`pyro_mnar.infer.data_start`)."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
import torch
from torch import nn

from pyro_mnar.infer.construction import is_as_made
from pyro_mnar.infer.data_start import LearnsLatents, StartsFromData
from pyro_mnar.tables.positions import spread_evenly
from pyro_mnar.tables.table import Table

FROM_DATA, AT_RANDOM = "data", "random"  # what ``fit(start=...)`` takes beside a fit
MOST_ROWS = 2_000  # that are looked at
BENT = 3.0  # nats (docs/defaults.md)
ROWS_PER_COLUMN = 10  # of fewer no bend is learned: a network fits them, and intervals hold half of the truth

log = logging.getLogger(__name__)


def begin(model: Any, guide: Any, table: Table, device: torch.device, start: str | None) -> bool:
    """Let a pair start as ``fit(start=...)`` asks; whether it starts from the data.

    Args:
        model: The model.
        guide: The guide.
        table: The rows.
        device: Where to compute.
        start: ``"data"``, ``"random"``, or None: from the data if the pair can, no column bends that has gaps or rows
            are fewer than ten times the columns, and the pair is as it was made, since what was trained, loaded or set
            is what its owner wants to go on from.

    Raises:
        ValueError: If it is to start from the data, and these do not say where all parameters end.
    """
    if start == FROM_DATA:
        if not start_pair(model, guide, table, device):
            raise ValueError(
                f"start: the data do not say where all parameters of this model and guide end, so {FROM_DATA!r} is not"
                f" for them (docs/models/gina.md says for which it is): leave start out, or take start={AT_RANDOM!r}"
            )
        return True
    is_free = start is None and is_as_made(model) and is_as_made(guide)
    most_bend = BENT if len(table) >= ROWS_PER_COLUMN * table.schema.num_columns else math.inf
    return is_free and start_pair(model, guide, table, device, most_bend=most_bend)


def start_pair(model: Any, guide: Any, table: Table, device: torch.device, *, most_bend: float = math.inf) -> bool:
    """Let model and guide start from the rows to fit; whether they did.

    They do where that puts all of both near where training ends, whatever their parameters were; else both stay as they
    were.  So it is the same for a pair that was trained and for one that was not.

    Args:
        model: The model; nothing happens to one that is no :class:`~pyro_mnar.infer.data_start.StartsFromData`.
        guide: The guide; nor to a pair whose guide is no :class:`~pyro_mnar.infer.data_start.LearnsLatents`.
        table: The rows.
        device: Where to compute.
        most_bend: Nats by which columns with gaps may bend; with more, both stay as they were.
    """
    if device.type == "meta" or not isinstance(model, StartsFromData) or not isinstance(guide, LearnsLatents):
        return False
    modules = [module for module in (model, guide) if isinstance(module, nn.Module)]
    if any(parameter.dtype != table.dtype for module in modules for parameter in module.parameters()):
        return False  # refused with its cure when training begins
    before = [{name: value.clone() for name, value in module.state_dict().items()} for module in modules]
    rows = torch.as_tensor(spread_evenly(len(table), MOST_ROWS))
    batch = table.source(device).take(rows.to(device))
    try:
        start = model.start_from(batch)
        is_straight = start is None or start.bend <= most_bend
        if start is None:
            log.info("start: at random (the data do not tell all parameters: docs/models/gina.md)")
        elif not is_straight:
            log.info("start: at random (columns with gaps bend, by %.0f nats: docs/defaults.md)", start.bend)
        has_started = start is not None and is_straight and guide.learn_latents(batch, start)
    except np.linalg.LinAlgError as error:
        log.info("start: not from the data (%s)", error)
        has_started = False
    parameters = [parameter for module in modules for parameter in module.parameters()]
    if not (has_started and all(bool(parameter.isfinite().all()) for parameter in parameters)):
        for module, values in zip(modules, before, strict=True):
            module.load_state_dict(values)
        return False
    log.info("start: from the data")
    return True
