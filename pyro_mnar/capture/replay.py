"""A function of tensors on a GPU, recorded as a CUDA graph: one call launches all of its kernels.

A small step is some hundreds of kernels of a few microseconds each, and Python takes longer to launch one than the GPU
to run it.  A CUDA graph reads and writes at the addresses that it was recorded with, so what changes from call to call
is copied there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pyro_mnar.capture.tracing import in_one_line

WARM_UPS = 3  # runs before the recording, in which libraries set themselves up
OfInputs = Callable[[list[Tensor]], Tensor]

log = logging.getLogger(__name__)


class Replayed:
    """A function of a list of tensors, one result, recorded when it is first called.

    Where it cannot be recorded, it is run as it is; the log says why.

    Args:
        function: Made of operations on the GPU only, without random numbers of its own; changes no inputs but
            ``state``; may empty the list that it is given.
        state: Inputs that come first and that it changes in place; the same tensors in every call.
        num_varying: How many inputs follow that are other tensors, of the same shapes, in every call.  Those after them
            are the same tensors in every call.
    """

    def __init__(self, function: OfInputs, state: Sequence[Tensor], num_varying: int) -> None:
        self.function, self.state = function, list(state)
        self.varying = slice(len(state), len(state) + num_varying)
        self._replay: Callable[[Sequence[Tensor]], Tensor] | None = None

    def __call__(self, inputs: list[Tensor]) -> Tensor:
        """The function's result, with its effect on the state."""
        if self._replay is None:
            self._replay = self._recorded(inputs)
        return self._replay(inputs)

    def _recorded(self, inputs: list[Tensor]) -> Callable[[Sequence[Tensor]], Tensor]:
        own = [tensor.clone() for tensor in inputs[self.varying]]
        fixed = [*self.state, *own, *inputs[self.varying.stop :]]
        kept, graph = [tensor.clone() for tensor in self.state], torch.cuda.CUDAGraph()
        device = fixed[0].device
        try:
            with torch.cuda.device(device):
                stream = torch.cuda.Stream()
                stream.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(stream):
                    for _ in range(WARM_UPS):
                        self.function(list(fixed))
                torch.cuda.current_stream().wait_stream(stream)
                # Other threads may go on with what they do on the GPU.
                with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                    result = self.function(list(fixed))
        except RuntimeError as error:  # an operation that waits for the processor, too little memory
            log.warning("no CUDA graph, kernels are launched one by one (%s)", in_one_line(error))
            return lambda inputs: self.function(list(inputs))
        finally:
            for tensor, value in zip(self.state, kept, strict=True):
                tensor.copy_(value)

        def replay(inputs: Sequence[Tensor]) -> Tensor:
            for tensor, value in zip(own, inputs[self.varying], strict=True):
                tensor.copy_(value)
            graph.replay()
            return result.clone()  # the next replay writes there

        return replay
