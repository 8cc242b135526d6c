"""Adam around a captured gradient, as a call from one step's inputs to its loss: interpreted, or compiled by inductor.

    m ← β₁m + (1 - β₁)g,   v ← β₂v + (1 - β₂)g²,   θ ← θ - a_t·m / (√v·b_t + ε)

with a_t the learning rate over 1 - β₁ᵗ and b_t = (1 - β₂ᵗ)^-½, which enter as inputs.  θ, m and v are one flat tensor
each, changed in place; θ stays as it is where the loss is not finite.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pyro_mnar.capture.inductor import compiled
from pyro_mnar.capture.tracing import Captured

BETAS, EPSILON = (0.9, 0.999), 1e-8  # torch's defaults
Step = Callable[[list[Tensor]], Tensor]  # inputs: State, Adam's pair, normal, uniform, rows, constants; output: loss


class State(NamedTuple):
    """What Adam keeps, all parameters in one row: θ and the first and second moments of its gradient."""

    parameters: Float[Tensor, "*members parameters"]
    first: Float[Tensor, "*members parameters"]
    second: Float[Tensor, "*members parameters"]


def bias_corrected(rates: Float[Tensor, " steps"], done: int = 0) -> Float[Tensor, "steps 2"]:
    """Adam's pair (a_t, b_t) for steps at the given learning rates, after so many steps done."""
    t = torch.arange(done + 1, done + 1 + len(rates), dtype=torch.float64)
    return torch.stack([rates.double() / (1 - BETAS[0] ** t), (1 - BETAS[1] ** t).rsqrt()], dim=1)


def interpreted(captured: Captured) -> Step:
    """The graph as it was captured, one operation of torch after another."""

    def step(inputs: list[Tensor]) -> Tensor:
        with torch.no_grad():
            return _adam_step(captured, *inputs)

    return step


def as_machine_code(captured: Captured, inputs: list[Tensor]) -> Step:
    """The step compiled for inputs of these shapes.

    Raises:
        CannotCapture: If there is no compiler, or it fails; says why.
    """

    def step(*inputs: Tensor) -> tuple[Tensor]:
        return (_adam_step(captured, *inputs),)

    code = compiled(step, inputs)

    def run(inputs: list[Tensor]) -> Tensor:
        return code(inputs)[0]

    return run


def _adam_step(
    captured: Captured, theta: Tensor, first: Tensor, second: Tensor, pair: Tensor, *inputs: Tensor
) -> Float[Tensor, "*members"]:
    loss, gradient = captured.graph(theta, *inputs)
    first.lerp_(gradient, 1 - BETAS[0])
    second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
    change = pair[0] * first / (second.sqrt() * pair[1] + EPSILON)
    theta.sub_(torch.where(loss.isfinite().unsqueeze(-1), change, 0.0))
    return loss
