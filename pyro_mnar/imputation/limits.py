"""How much is in memory at once while particles are drawn, by device."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Limits(NamedTuple):
    """How much is in memory at once.

    Attributes:
        elements: Particles × rows × columns; 2,000,000 are 8 MB a tensor in float32.  With much fewer, Pyro's own time
            shows; with more, tensors leave the processor's caches.
        elements_of_a_graph: The same of a captured graph, draws included; 800,000 are some 3 MB a tensor in float32, of
            which few are alive at once, so that those of each thread stay in the processor's caches.
    """

    elements: int = 2_000_000
    elements_of_a_graph: int = 800_000


DEFAULT_LIMITS = Limits()
# A GPU is idle between kernels of fewer; that of a graph is 268 MB a tensor in float32.
LIMITS_ON_A_GPU = Limits(elements=2**24, elements_of_a_graph=2**26)


def limits_on(device: torch.device) -> Limits:
    """How much is in memory at once; the same on any GPU, since random numbers hang on it."""
    return LIMITS_ON_A_GPU if device.type == "cuda" else DEFAULT_LIMITS
