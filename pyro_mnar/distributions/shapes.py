"""The shape that several shapes broadcast to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch


def broadcast(*shapes: Sequence[int]) -> torch.Size:
    """As ``torch.broadcast_shapes``, whose first call imports a computer algebra system and takes 0.4 s for it.

    Raises:
        RuntimeError: As that, if there is no such shape.
    """
    try:
        return torch.Size(np.broadcast_shapes(*map(tuple, shapes)))
    except ValueError:
        return torch.broadcast_shapes(*shapes)
