"""What every truncated family offers: the log-probability of its interval, and draws from there."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class Truncated(Protocol):
    """A family between bounds.

    Parameters and bounds end in a dimension of cells; in rows and columns where all cells are taken.
    """

    lower: Tensor
    upper: Tensor

    def log_mass(self) -> Float[Tensor, "*batch_and_cells"]:
        """Log P(lower ≤ x ≤ upper)."""
        ...

    def draw(self) -> Float[Tensor, "*batch_and_cells"]:
        """One draw per cell, with its gradient if the family can be reparameterised."""
        ...


def clamped(x: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """X moved back between its bounds where rounding took it out; the gradient stays that of x."""
    inside = torch.minimum(torch.maximum(x.detach(), lower), upper)
    return inside + (x - x.detach())
