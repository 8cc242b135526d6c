"""Columns of several kinds side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor
from torch.distributions import constraints

from pyro_mnar.distributions.shapes import broadcast


class Columns(TorchDistribution):
    """Columns of several kinds side by side: one distribution per kind, over the columns of that kind.

    :func:`~pyro_mnar.partially_observed` gives each part its own sites, so some can be reparameterised and others not.

    Args:
        parts: Pairs of column positions and a distribution of batch shape ``(..., rows, columns)`` over these columns.
            Every column belongs to exactly one part.
    """

    arg_constraints: dict[str, Any] = {}

    def __init__(
        self,
        parts: Sequence[tuple[tuple[int, ...], TorchDistributionMixin]],
        validate_args: bool | None = None,
    ) -> None:
        positions = [position for columns, _ in parts for position in columns]
        if sorted(positions) != list(range(len(positions))):
            raise ValueError(f"Columns: expected every column once, got positions {positions}")
        for columns, fn in parts:
            if fn.event_shape:
                raise ValueError(
                    f"Columns: expected column-wise parts, got {type(fn).__name__} of event shape"
                    f" {tuple(fn.event_shape)} for the columns {list(columns)}: give these a call of their own,"
                    " partially_observed(..., columns=[...])"
                )
        self.parts = tuple(parts)
        leading = broadcast(*(fn.batch_shape[:-1] for _, fn in parts))
        super().__init__(torch.Size([*leading, len(positions)]), torch.Size(), validate_args=validate_args)

    @property
    def has_rsample(self) -> bool:
        """Whether every part can be reparameterised."""
        return all(fn.has_rsample for _, fn in self.parts)

    @property
    def support(self) -> Any:
        """The real line; a discrete part takes isolated points of it."""
        return constraints.real

    @property
    def mean(self) -> Tensor:
        """Expected value of each column."""
        return self._joined([fn.mean for _, fn in self.parts])

    def expand(self, batch_shape: Any, _instance: Any = None) -> Columns:
        """Expand to a larger batch shape."""
        leading = torch.Size(batch_shape)[:-1]
        return Columns(
            [(columns, fn.expand(leading + fn.batch_shape[-1:])) for columns, fn in self.parts], validate_args=False
        )

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Draw without gradient."""
        return self._joined([fn.sample(sample_shape) for _, fn in self.parts])

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Draw with gradient, if every part can."""
        return self._joined([fn.rsample(sample_shape) for _, fn in self.parts])

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density per column, or log-probability where the part is discrete."""
        return self._joined([fn.log_prob(value[..., list(columns)]) for columns, fn in self.parts])

    def _joined(self, values: Sequence[Tensor]) -> Tensor:
        return joined([columns for columns, _ in self.parts], values)


def joined(positions: Sequence[Sequence[int]], values: Sequence[Tensor]) -> Tensor:
    """The parts' columns side by side, in order of position.

    Args:
        positions: Positions of each part's columns.
        values: Values of each part; ``(..., columns)``.
    """
    if len(values) == 1:
        return values[0]
    leading = broadcast(*(value.shape[:-1] for value in values))
    order = sorted(range(sum(map(len, positions))), key=[p for part in positions for p in part].__getitem__)
    return torch.cat([value.expand(*leading, value.shape[-1]) for value in values], dim=-1)[..., order]
