"""A start from the data: the contract between models and guides whose parameters need not start at random.

A model that :class:`StartsFromData` sets its own parameters from some rows and says where that puts the latents of
these rows; a guide that :class:`LearnsLatents` lets its posterior begin there.  What the parameters were before is
overwritten, and whether there is a start does not depend on them.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from pyro_mnar.tables.batch import Batch


class LatentStart(NamedTuple):
    """Where the latents of some rows are under a model that has started from them.

    Attributes:
        mean: Of each row's posterior; ``(rows, latents)``.
        scale: Its standard deviations; ``(rows, latents)``.
        bend: How much more likely columns with gaps would be under a law that is less simple than the one that was
            started from, in nats: where it is much, training from there ends behind training from a random start.
    """

    mean: Float[Tensor, "rows latents"]
    scale: Float[Tensor, "rows latents"]
    bend: float = 0.0


@runtime_checkable
class StartsFromData(Protocol):
    """A model that can start from rows of its table."""

    def start_from(self, batch: Batch) -> LatentStart | None:
        """Set all parameters near their maximum; None, and nothing is set, where these rows do not tell all of them."""
        ...


@runtime_checkable
class LearnsLatents(Protocol):
    """A guide that can start from the latents of some rows."""

    def learn_latents(self, batch: Batch, start: LatentStart) -> bool:
        """Set the parameters, so that the posterior begins there; False, and nothing is set, where that cannot be."""
        ...
