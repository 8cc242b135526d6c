"""The bound of rows that are held out, after every epoch: by Python, or by a graph where training steps are captured.

An epoch of few compiled steps takes less time than Python takes for one forward pass.  The graph (see
:mod:`pyro_mnar.capture.tracing`) is interpreted, since compiling a second one would seldom pay.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from pyro_mnar.capture.internals import CannotCapture
from pyro_mnar.capture.tracing import Captured, differ, flat, traced
from pyro_mnar.tables.batch import Batch, RowSource, split

log = logging.getLogger(__name__)


class HeldOut:
    """Rows that are held out, and what the objective says of them.

    Args:
        bounds: The estimate of every row of a batch, without a gradient; draws from torch's default generator.
        rows: The rows.
        batch_size: The most rows to evaluate at once.

    Attributes:
        captured: The graph, once there is one.
    """

    def __init__(self, bounds: Callable[[Batch], Float[Tensor, " rows"]], rows: RowSource, batch_size: int) -> None:
        self.bounds, self.rows = bounds, rows
        self.groups = [group.to(rows.device) for group in split(len(rows), batch_size)]
        self.captured: Captured | None = None

    def bound(self, parameters: Sequence[Tensor]) -> float:
        """Mean over the rows, in nats."""
        parts = self._by_python() if self.captured is None else self._by_graph(self.captured, flat(parameters))
        return math.fsum(part.sum().item() for part in parts) / len(self.rows)

    def capture(self, parameters: Sequence[Tensor], buffers: Sequence[Tensor] = ()) -> None:
        """Take a graph from now on, if there is one that does what Python does; the log says if there is none.

        Args:
            parameters: What is trained.
            buffers: Other tensors of the model, put back should running it change them.
        """
        # Not the first rows, on which the graph is tried: rows that the model keeps in Python then show.
        example, first = self._filled_up(-1), self._filled_up(0)
        try:
            captured = traced(lambda batch: (self.bounds(batch),), example, parameters, buffers)
            with torch.random.fork_rng(devices=[]):
                normal, uniform = (numbers[0] for numbers in captured.noise(1, first.x))
                (got,) = captured(flat(parameters), normal, uniform, first)
                with captured.replayed(normal, uniform):
                    own = self.bounds(first)
            if not captured.others and differ(got, own):
                raise CannotCapture("the graph's bound is not the model's own")
        except CannotCapture as cause:
            log.warning("held-out bound: eager (not captured: %s)", cause)
        else:
            self.captured = captured

    def _by_python(self) -> list[Tensor]:
        return [self.bounds(self.rows.take(group)) for group in self.groups]

    def _by_graph(self, captured: Captured, theta: Float[Tensor, " parameters"]) -> list[Tensor]:
        parts = []
        noise = captured.noise(len(self.groups), theta)
        for number, (group, normal, uniform) in enumerate(zip(self.groups, *noise, strict=True)):
            (bounds,) = captured(theta, normal, uniform, self._filled_up(number))
            parts.append(bounds[: len(group)])
        return parts

    def _filled_up(self, number: int) -> Batch:
        """A group of rows, with the first row again where it is one short of the others."""
        group, first = self.groups[number], self.groups[0]
        return self.rows.take(torch.cat([group, first[: len(first) - len(group)]]))
