"""Particles of a chunk of rows by a captured graph, from the guide's draws to the resampled rows and their mean.

Everything that :class:`~pyro_mnar.imputation.sampler.Sampler` does to a chunk between its random numbers and its
results is one graph (:mod:`pyro_mnar.capture.tracing`), which needs neither Pyro nor Python: interpreted, or compiled
by inductor, which fuses densities, masks and sums into a few passes over the particles.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pyro_mnar.capture.inductor import Code, compiled
from pyro_mnar.capture.internals import CannotCapture
from pyro_mnar.capture.random_bits import MANTISSA, normal_of, random_bits, uniform_of
from pyro_mnar.capture.tracing import differ, traced
from pyro_mnar.imputation.averages import Weighted
from pyro_mnar.imputation.sampler import Sampler
from pyro_mnar.tables.batch import Batch

# Of the draws that the graph and Python resample from the same numbers: rounding moves one to the next particle where
# the number falls between the two, once in a hundred thousand in float32.
MOST_DRAWS_APART = 0.01


class Resampled(NamedTuple):
    """What becomes of some draws of a chunk of rows.

    Attributes:
        draws: As of :class:`~pyro_mnar.imputation.sampler.ParticleSet`; ``(draws, rows, columns)``.
        mean: As of :class:`~pyro_mnar.imputation.averages.Weighted`, in the features of
            :class:`~pyro_mnar.imputation.averages.Averages`; ``(rows, features)``.
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
        sampler: Draws and weighs the particles.
        example: A chunk.
        num_draws: How many draws of each of its rows.

    Raises:
        CannotCapture: If no fixed graph does it, or the model draws random numbers that cannot come from outside.
    """

    def __init__(self, sampler: Sampler, example: Batch, num_draws: int) -> None:
        if sampler.conditions is not None:
            raise CannotCapture("row constraints, and derived values that were seen, are checked by Python")
        if sampler.applicability is not None:
            raise CannotCapture("skip patterns are checked by Python")
        if example.dtype not in MANTISSA:
            raise CannotCapture(f"random numbers are known of {list(MANTISSA)}, not of {example.dtype}")
        self.sampler, self.num_draws = sampler, num_draws
        modules = [m for m in (sampler.fit.model, sampler.fit.guide) if isinstance(m, nn.Module)]
        with sampler.session.running():  # what rows share takes its numbers; rewound, rows would take the same ones
            sampler.settle(example)
        if sampler.shared:
            raise CannotCapture("each draw has a draw of the latents that all rows share, which Python replays")
        with sampler.session.rewinding():
            self.captured = traced(self._eager, example, buffers=[b for m in modules for b in m.buffers()])
        if self.captured.others:
            raise CannotCapture(f"random numbers of {self.captured.others[0]!r} cannot be drawn beforehand")
        self.constants = [constant.detach() for constant in self.captured.constants]
        self._code: Code | None = None

    def compile(self, example: Batch) -> None:
        """Have inductor compile the graph, and the random numbers that it takes.

        Raises:
            CannotCapture: If it cannot; the graph is then run as it is.
        """
        inputs = self._inputs(example, self.bits(example, (0,)))

        def of_numbers(*numbers: Tensor) -> tuple[Tensor, ...]:
            pairs = zip(numbers, inputs, strict=True)
            return self._of_bits(*(number != 0 if given.dtype is torch.bool else number for number, given in pairs))

        # One thread, since chunks are many; the wrapper in C++ lets go of Python's lock, and others run theirs.
        options = {"cpp.threads": 1, "cpp_wrapper": True} if example.device.type == "cpu" else {}
        self._code = compiled(of_numbers, _without_booleans(inputs), **options)

    def __call__(self, batch: Batch, seed: Sequence[int]) -> Resampled:
        """Impute a chunk, with random numbers from a seed."""
        return self._impute(batch, self.bits(batch, seed))

    def check(self, batch: Batch, seed: Sequence[int]) -> None:
        """Compare with what Python makes of a chunk from the same random numbers.

        Raises:
            CannotCapture: If that is something else.
        """
        bits = self.bits(batch, seed)
        got = self._impute(batch, bits)
        with self.sampler.session.rewinding(), self.captured.replayed(*self.numbers(bits, batch.dtype)) as noise:
            own = Resampled(*self._eager(batch))
        if tuple(noise.taken.values()) != self.captured.counts:
            raise CannotCapture("the model does not draw as many random numbers any more")
        wrong = [
            name for name in ("mean", "log_total", "log_squares") if differ(getattr(got, name), getattr(own, name))
        ]
        apart = ~torch.isclose(got.draws, own.draws, rtol=1e-2, atol=1e-2, equal_nan=True).all(-1)
        if wrong or apart.double().mean() > MOST_DRAWS_APART:
            raise CannotCapture(f"the graph's {' and '.join(wrong or ['draws'])} are not the model's own any more")

    def bits(self, batch: Batch, seed: Sequence[int]) -> Int[Tensor, " words"]:
        """What the random numbers of a chunk are made of."""
        normal, uniform = self.captured.num_random
        return random_bits(normal + normal % 2 + uniform, seed, batch.dtype, batch.device)

    def numbers(
        self, bits: Int[Tensor, " words"], dtype: torch.dtype
    ) -> tuple[Float[Tensor, " normal"], Float[Tensor, " uniform"]]:
        """Standard normal and uniform numbers of a chunk."""
        normal, uniform = self.captured.num_random
        pairs, rest = bits.split([normal + normal % 2, uniform])
        return normal_of(pairs, dtype)[:normal], uniform_of(rest, dtype)

    def _eager(self, batch: Batch) -> tuple[Tensor, ...]:
        particles = self.sampler.draw(batch, self.num_draws)
        mean = Weighted.of(particles.log_weights, self.sampler.averages.features(particles.x, particles.given))
        return particles.draws, *mean, particles.possible()

    def _of_bits(self, bits: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        dtype = others[0].dtype  # of x, which comes first
        return self.captured.graph(torch.empty(0), *self.numbers(bits, dtype), *others)

    def _impute(self, batch: Batch, bits: Tensor) -> Resampled:
        inputs = self._inputs(batch, bits)
        return Resampled(*(self._of_bits(*inputs) if self._code is None else self._code(_without_booleans(inputs))))

    def _inputs(self, batch: Batch, bits: Tensor) -> list[Tensor]:
        return [bits, *batch.of_rows().values(), *self.constants]


def _without_booleans(inputs: list[Tensor]) -> list[Tensor]:
    """Numbers in place of booleans.

    Inductor's code for the CPU turns these to masks one by one, again in every pass over the particles, which takes a
    fifth of its time.
    """
    dtype = inputs[1].dtype  # of x
    return [tensor.to(dtype) if tensor.dtype is torch.bool else tensor for tensor in inputs]
