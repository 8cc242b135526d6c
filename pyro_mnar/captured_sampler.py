"""Particles of a chunk of rows by a captured graph, from the guide's draws to the resampled rows and their mean.

Everything that :class:`~pyro_mnar.sampler.Sampler` does to a chunk between its random numbers and its results is one
graph (:mod:`pyro_mnar.tracing`), which needs neither Pyro nor Python: interpreted, or compiled by inductor, which fuses
densities, masks and sums into a few passes over the particles.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pyro_mnar.averages import Weighted
from pyro_mnar.batch import Batch
from pyro_mnar.compiled import compiled
from pyro_mnar.noise import CannotCapture
from pyro_mnar.sampler import Sampler
from pyro_mnar.tracing import differ, traced

# Of the draws that the graph and Python resample from the same numbers: rounding moves one to the next particle where
# the number falls between the two, once in a hundred thousand in float32.
MOST_DRAWS_APART = 0.01


class Resampled(NamedTuple):
    """What becomes of some draws of a chunk of rows.

    Attributes:
        draws: As of :class:`~pyro_mnar.sampler.Run`; ``(draws, rows, columns)``.
        mean: As of :class:`~pyro_mnar.averages.Weighted`, in the features of
            :class:`~pyro_mnar.averages.Averages`; ``(rows, features)``.
        log_total: The same; ``(rows,)``.
        log_squares: The same; ``(rows,)``.
        possible: Whether a draw's particles have any weight; ``(draws, rows)``.
    """

    draws: Float[Tensor, "draws rows columns"]
    mean: Float[Tensor, "rows features"]
    log_total: Float[Tensor, " rows"]
    log_squares: Float[Tensor, " rows"]
    possible: Bool[Tensor, "draws rows"]

    @property
    def weighted(self) -> Weighted:
        """The mean, and what it takes to join it with that of other draws."""
        return Weighted(self.mean, self.log_total, self.log_squares)


class CapturedSampler:
    """Some draws of chunks of one size; the same numbers from the same seed, whichever thread asks.

    Args:
        sampler: Whose particles, by Python.
        example: A chunk.
        num_draws: How many draws of each of its rows.

    Raises:
        CannotCapture: If no fixed graph does it, or the model draws random numbers that cannot come from outside.
    """

    def __init__(self, sampler: Sampler, example: Batch, num_draws: int) -> None:
        if sampler.conditions is not None:
            raise CannotCapture("row constraints are checked by Python")
        self.sampler, self.num_draws = sampler, num_draws
        modules = [m for m in (sampler.fit.model, sampler.fit.guide) if isinstance(m, nn.Module)]
        with sampler.session.aside():
            sampler.settle(example)
            self.captured = traced(self._by_python, example, buffers=[b for m in modules for b in m.buffers()])
        if self.captured.others:
            raise CannotCapture(f"random numbers of {self.captured.others[0]!r} cannot be drawn beforehand")
        self.constants = [constant.detach() for constant in self.captured.constants]
        self._run: Any = self.captured.graph
        self._takes_truths = True

    def compile(self, example: Batch) -> None:
        """Have inductor compile the graph.

        Raises:
            CannotCapture: If it cannot; the graph is then run as it is.
        """
        graph, noise = self.captured.graph, self._noise(example, 0)
        truths = [tensor.dtype is torch.bool for tensor in self._inputs(example, *noise)]

        def of_numbers(*inputs: Tensor) -> tuple[Tensor, ...]:
            pairs = zip(inputs, truths, strict=True)
            return graph(*(number != 0 if is_truth else number for number, is_truth in pairs))

        # Its machine code would turn truth values to masks one by one, in every pass; these take a fifth of its time.
        constants, self._takes_truths = self.constants, False
        self.constants = [self._numeric(tensor, example) for tensor in self.constants]
        # One thread, since chunks are many; the wrapper in C++ lets go of Python's lock, and others run theirs.
        options = {"cpp.threads": 1, "cpp_wrapper": True}
        try:
            code = compiled(of_numbers, self._inputs(example, *noise), **options)
        except CannotCapture:
            self.constants, self._takes_truths = constants, True
            raise
        self._run = lambda *inputs: code(list(inputs))

    def __call__(self, batch: Batch, seed: int) -> Resampled:
        """Impute a chunk, with random numbers from a seed."""
        return self._impute(batch, *self._noise(batch, seed))

    def check(self, batch: Batch, seed: int) -> None:
        """Compare with what Python makes of a chunk from the same random numbers.

        Raises:
            CannotCapture: If that is something else.
        """
        normal, uniform = self._noise(batch, seed)
        got = self._impute(batch, normal, uniform)
        with self.sampler.session.aside(), self.captured.replayed(normal, uniform) as noise:
            own = Resampled(*self._by_python(batch))
        if tuple(noise.taken.values()) != self.captured.counts:
            raise CannotCapture("the model does not draw as many random numbers any more")
        wrong = [
            name for name in ("mean", "log_total", "log_squares") if differ(getattr(got, name), getattr(own, name))
        ]
        apart = ~torch.isclose(got.draws, own.draws, rtol=1e-2, atol=1e-2, equal_nan=True).all(-1)
        if wrong or apart.double().mean() > MOST_DRAWS_APART:
            raise CannotCapture(f"the graph's {' and '.join(wrong or ['draws'])} are not the model's own any more")

    def _by_python(self, batch: Batch) -> tuple[Tensor, ...]:
        run = self.sampler.run(batch, self.num_draws)
        mean = Weighted.of(run.log_weights, self.sampler.averages.features(run.x))
        return run.draws, *mean, run.possible()

    def _impute(self, batch: Batch, normal: Tensor, uniform: Tensor) -> Resampled:
        return Resampled(*self._run(*self._inputs(batch, normal, uniform)))

    def _inputs(self, batch: Batch, normal: Tensor, uniform: Tensor) -> list[Tensor]:
        rows = [self._numeric(tensor, batch) for tensor in batch.of_rows().values()]
        return [torch.empty(0), normal, uniform, *rows, *self.constants]

    def _numeric(self, tensor: Tensor, batch: Batch) -> Tensor:
        return tensor if self._takes_truths or tensor.dtype is not torch.bool else tensor.to(batch.dtype)

    def _noise(self, batch: Batch, seed: int) -> list[Tensor]:
        generator = torch.Generator(batch.device).manual_seed(seed)
        return [numbers[0] for numbers in self.captured.noise(1, batch.x, generator)]
