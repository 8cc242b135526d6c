"""Small fully connected networks, alone or added to a linear map."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pyro_mnar.memory import check_room
from pyro_mnar.messages import has_parts, shown, whole_number


class MLP(nn.Sequential):
    """Fully connected layers, with an activation after each but the last.

    Args:
        sizes: Widths from input to output; two widths give a linear map.
        activation: Class of the activation.

    Raises:
        TypeError: If a width is no whole number.
        ValueError: If one is below 1, or more than memory holds.
    """

    def __init__(self, sizes: Sequence[int], activation: type[nn.Module] = nn.Tanh) -> None:
        check_widths(sizes)
        if not isinstance(activation, type) or not issubclass(activation, nn.Module):
            raise TypeError(f"activation: expected the class of a module, such as nn.Tanh, got {shown(activation)}")
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), activation()]
        super().__init__(*layers[:-1])


def check_widths(sizes: Sequence[Any]) -> None:
    """Refuse widths of layers, from input to output, that are no whole numbers from 1 or that memory does not hold.

    Raises:
        TypeError: If one is no whole number.
        ValueError: If one is below 1, or more than memory holds.
    """
    if not isinstance(sizes, Sequence) or isinstance(sizes, (str, bytes)):
        raise TypeError(f"widths of layers (hidden): expected whole numbers, got {shown(sizes)}")
    if len(sizes) < 2:
        raise ValueError(f"widths of layers (hidden): expected at least those of input and output, got {shown(sizes)}")
    for size in sizes:
        whole_number("widths of layers (hidden)", size)
    for before, after in pairwise(sizes):
        check_room("widths of layers (hidden)", after, 4 * before, "parameters of a layer")


def hidden_widths(hidden: Sequence[int]) -> Sequence[int]:
    """Widths of hidden layers, or none; TypeError of what is no list of them."""
    if isinstance(hidden, (str, bytes)) or not has_parts(hidden):
        raise TypeError(f"widths of layers (hidden): expected whole numbers, got {shown(hidden)}")
    return hidden


def checked_width(name: str, value: Any) -> int:
    """A number of columns or latents, a whole one from 1 for which memory holds parameters."""
    width = whole_number(name, value)
    check_room(name, width, 4, "a parameter of each")
    return width


class ResidualMLP(nn.Module):
    """A linear map plus an MLP whose last layer starts at zero; as a decoder, it starts as probabilistic PCA.

    Args:
        sizes: Widths from input to output.
        activation: Class of the activation.
    """

    def __init__(self, sizes: Sequence[int], activation: type[nn.Module] = nn.Tanh) -> None:
        super().__init__()
        check_widths(sizes)
        self.linear = nn.Linear(sizes[0], sizes[-1])
        self.correction = MLP(sizes, activation)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the MLP's last layer to zero, after all layers were drawn."""
        for parameter in self.correction[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, inputs: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """Linear map plus correction, of the last dimension."""
        return self.linear(inputs) + self.correction(inputs)


SHIFT = 0.5413248546129181  # log(e - 1)


def positive(unconstrained: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Softplus, shifted to be 1 at 0, for scales that start at one."""
    return torch.nn.functional.softplus(unconstrained + SHIFT)


def unconstrained_positive(scale: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The inverse of :func:`positive`."""
    return inverse_softplus(scale) - SHIFT


def inverse_softplus(value: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """What softplus makes these values of, which are above zero; large ones stay finite."""
    return value + torch.log(-torch.expm1(-value))
