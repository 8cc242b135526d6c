"""How the rating predictors are trained: Adam, its learning rate falling to zero along a cosine."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from pyro_mnar.messages import positive_number, whole_number


def check_training(steps: int, batch_size: int, learning_rate: float) -> None:
    """Raise ValueError or TypeError, naming the argument, unless all are above zero."""
    whole_number("steps", steps)
    whole_number("batch_size", batch_size)
    positive_number("learning_rate", learning_rate)


def minimise(
    loss: Callable[[], Tensor], parameters: Iterable[nn.Parameter], *, steps: int, learning_rate: float
) -> None:
    """Take steps of Adam down a loss.

    Args:
        loss: Draws a minibatch and returns its loss, a scalar.
        parameters: What to train.
        steps: Number of steps.
        learning_rate: Of the first step.
    """
    optimiser = torch.optim.Adam(parameters, lr=learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: 0.5 * (1 + math.cos(math.pi * min(step / steps, 1.0)))
    )
    for _ in range(steps):
        value = loss()
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        schedule.step()
