"""A start from the data: the contract between models and guides whose parameters need not start at random.

A model that :class:`StartsFromData` sets its own parameters from some rows and says where that puts the latents of
these rows; a guide that :class:`LearnsLatents` lets its posterior begin there.  Both keep what their constructors
drew, in :class:`Untouched`, so that what somebody has set or trained is never overwritten.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pyro_mnar.tables.batch import Batch

ROUNDING = 1e-4  # relative; a change of floating type is no change of a parameter


class LatentStart(NamedTuple):
    """Where the latents of some rows are under a model that has started from them.

    Attributes:
        mean: Of each row's posterior; ``(rows, latents)``.
        scale: Its standard deviations; ``(rows, latents)``.
        is_near: Whether all of the model is near its maximum, so that a short training is enough; not where a part of
            it, such as a network in the mechanism, had to stay as it was.
    """

    mean: Float[Tensor, "rows latents"]
    scale: Float[Tensor, "rows latents"]
    is_near: bool


@runtime_checkable
class StartsFromData(Protocol):
    """A model that can start from rows of its table."""

    def start_from(self, batch: Batch) -> LatentStart | None:
        """Set the parameters; None, and nothing is set, where these rows or this model give no start."""
        ...


@runtime_checkable
class LearnsLatents(Protocol):
    """A guide that can start from the latents of some rows."""

    def learn_latents(self, batch: Batch, start: LatentStart) -> bool:
        """Set the parameters, so that the posterior begins there; False, and nothing is set, if they are not new."""
        ...


class Untouched:
    """Sums over each parameter of a module as it was made, by which a later change is noticed.

    Args:
        module: The module, just made.
    """

    def __init__(self, module: nn.Module) -> None:
        self.sums = _sums(module)

    def is_true_of(self, module: nn.Module) -> bool:
        """Whether the parameters are those that it was made with."""
        now = _sums(module)
        return all(
            name in now and bool(torch.isclose(now[name], was, rtol=ROUNDING, atol=ROUNDING).all())
            for name, was in self.sums.items()
        )


def _sums(module: nn.Module) -> dict[str, Tensor]:
    """Sum and sum of squares of each parameter, in float64."""
    found = {}
    for name, parameter in module.named_parameters():
        if not parameter.is_meta:
            values = parameter.detach().double()
            found[name] = torch.stack([values.sum(), values.square().sum()]).cpu()
    return found
