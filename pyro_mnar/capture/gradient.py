"""Loss and gradient of a training step as one graph (:mod:`pyro_mnar.capture.tracing`), and that over members."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from pyro_mnar.capture.internals import CannotCapture, loops_unsaid, sources_forgotten
from pyro_mnar.capture.tracing import Captured, flat, in_one_line, operations, simplified, traced
from pyro_mnar.tables.batch import Batch

Loss = Callable[[Batch], Tensor]


def capture(loss: Loss, parameters: Sequence[Tensor], batch: Batch, buffers: Sequence[Tensor] = ()) -> Captured:
    """Trace the loss of a minibatch and its gradient, which is one flat tensor as the parameters are.

    Args:
        loss: Of a batch; draws from torch's default generator and depends on the parameters.
        parameters: Leaves to differentiate by.
        batch: An example; the graph holds for batches of its shape.
        buffers: Other tensors of the model, put back should running it change them.

    Raises:
        CannotCapture: If no fixed graph does what the loss does; says why.
    """
    return traced(lambda given: loss_and_gradient(loss, parameters, given), batch, parameters, buffers)


def loss_and_gradient(
    loss: Loss, parameters: Sequence[Tensor], batch: Batch
) -> tuple[Float[Tensor, ""], Float[Tensor, " parameters"]]:
    """Both, run by Python; the gradient is zero where the loss does not depend on a parameter."""
    value = loss(batch)
    gradients = torch.autograd.grad(value, parameters, allow_unused=True)
    pairs = zip(gradients, parameters, strict=True)
    return value.detach(), flat([torch.zeros_like(p) if g is None else g for g, p in pairs])


def mapped(captured: Captured, theta: Float[Tensor, "members parameters"], batch: Batch) -> Captured:
    """The same over a first dimension of members: each has its own parameters, noise and rows; constants are shared.

    Args:
        captured: The graph of one member.
        theta: The parameters of all members.
        batch: An example of one member's rows.

    Raises:
        CannotCapture: If the graph cannot be mapped, or members would share random numbers.
    """
    if captured.others:
        raise CannotCapture(f"all members would draw the same numbers in {captured.others[0]}")
    members = len(theta)
    noise = [theta.new_zeros(members, count) for count in captured.num_random]
    rows = [torch.stack([value] * members) for value in batch.of_rows().values()]
    inputs = [theta, *noise, *rows, *captured.constants]
    dims = (*(0 for _ in inputs[: len(inputs) - len(captured.constants)]), *(None for _ in captured.constants))
    try:
        with torch.no_grad(), sources_forgotten(), loops_unsaid():
            graph = simplified(operations(torch.func.vmap(captured.graph, dims, randomness="error"), inputs))
    except CannotCapture:
        raise
    except Exception as error:  # such as operations without a rule for it, or too little memory
        raise CannotCapture(in_one_line(error)) from error
    return replace(captured, graph=graph)
