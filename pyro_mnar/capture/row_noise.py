"""Random numbers of each row by itself: a row gets the same ones whatever rows stand beside it, and in whichever order.

A row's numbers come from a generator that its key seeds.  Draws that are fixed functions of normal or uniform numbers,
and those of Gamma, Poisson, binomial and Dirichlet laws and of levels, are told apart by row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from pyro_mnar.capture.noise import Noise

_BY_SLICES = ("aten._standard_gamma", "aten.poisson", "aten.binomial", "aten._sample_dirichlet")


class RowNoise(Noise):
    """A context within which every row draws from a generator of its own.

    Args:
        keys: One word for each row; ``(rows,)``.
        seed: Of all rows.
        at: The dimension in which draws have the rows.
        num_particles: How many there are of each row, in the first dimension.
    """

    def __init__(self, keys: Int[NDArray, " rows"], seed: Sequence[int], at: int, num_particles: int) -> None:
        super().__init__()
        self.at, self.num_particles = at, num_particles
        self.generators = [
            np.random.Generator(np.random.SFC64(np.random.SeedSequence([int(key), *seed]))) for key in keys
        ]

    @contextmanager
    def rows_at(self, at: int) -> Iterator[None]:
        """Draw with the rows in another dimension for a while."""
        before, self.at = self.at, at
        try:
            yield
        finally:
            self.at = before

    def operation(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The result of one of torch's operations, draws by row."""
        if torch.Tag.nondeterministic_seeded not in func.tags or kwargs.get("generator") is not None:
            return func(*args, **kwargs)
        if str(func).startswith(_BY_SLICES) and self._has_rows(args[0].shape):
            return self._by_slices(func, args)
        if str(func) == "aten.multinomial.default" and (found := self._levels(*args)) is not None:
            return found
        return super().operation(func, args, kwargs)

    def _has_rows(self, shape: torch.Size) -> bool:
        return len(shape) > self.at and shape[self.at] == len(self.generators)

    def _take(self, kind: str, shape: torch.Size, like: Tensor | None, options: dict[str, Any]) -> Tensor:
        if not self._has_rows(shape):
            return super()._take(kind, shape, like, options)
        dtype = options.get("dtype") or (torch.get_default_dtype() if like is None else like.dtype)
        device = options.get("device", None if like is None else like.device)
        rest = [*shape[: self.at], *shape[self.at + 1 :]]
        single = dtype == torch.float32
        of_row: Callable[[np.random.Generator], Any] = (
            (lambda one: one.standard_normal(rest, dtype=np.float32 if single else np.float64))
            if kind == "normal"
            else (lambda one: one.random(rest, dtype=np.float32 if single else np.float64))
        )
        numbers = np.stack([of_row(generator) for generator in self.generators], axis=self.at)
        return torch.from_numpy(numbers).to(dtype=dtype, device=device)

    def _by_slices(self, func: Any, args: Any) -> Tensor:
        parts = []
        for row, generator in enumerate(self.generators):
            given = [
                one.select(self.at, row) if isinstance(one, Tensor) and self._has_rows(one.shape) else one
                for one in args[: 2 if "binomial" in str(func) else 1]
            ]
            seeded = torch.Generator(args[0].device).manual_seed(int(generator.integers(2**63 - 1)))
            parts.append(func(*given, generator=seeded))
        return torch.stack(parts, self.at)

    def _levels(
        self, probs: Float[Tensor, "*cells levels"], count: int, replacement: bool = False, **_: Any
    ) -> Tensor | None:
        """One level of each cell by the inverse of its distribution function; cells run over (particles, rows, ...)."""
        cells, num_rows = probs.shape[:-1].numel(), len(self.generators)
        if count != 1 or probs.dim() != 2 or cells % (self.num_particles * num_rows):
            return None
        beside = cells // (self.num_particles * num_rows)
        shape = torch.Size([self.num_particles, *[1] * (self.at - 1), num_rows, beside])
        share = self._take("uniform", shape, probs, {}).reshape(-1, 1)
        reached = (probs / probs.sum(-1, keepdim=True)).cumsum(-1)
        return (reached[:, :-1] <= share).sum(-1, keepdim=True)


def rows_at(noise: RowNoise | nullcontext[None], at: int) -> AbstractContextManager[None]:
    """Draw with the rows in another dimension for a while, where each has numbers of its own."""
    return noise.rows_at(at) if isinstance(noise, RowNoise) else nullcontext()
