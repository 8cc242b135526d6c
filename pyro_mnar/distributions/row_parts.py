"""Columns of a row as one event that knows what it stands for: missing entries, observed entries, or the mask.

The mark is held by the distribution and not in a site's ``infer``: replay gives a model's site the ``infer`` of the
guide's site, whoever wrote it, while the distribution stays the model's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from pyro_mnar.distributions.missing_entries import MissingEntries
from pyro_mnar.distributions.whole_rows import MissingRow


@dataclass(frozen=True)
class MissingPart:
    """X_u in some columns.

    Attributes:
        columns: Positions of the columns.
        summed_out: Whether the weight is the same whichever values are drawn, so that draws need no score function.
    """

    columns: tuple[int, ...]
    summed_out: bool = False


@dataclass(frozen=True)
class ObservedPart:
    """X_o in some columns.

    Attributes:
        columns: Positions of the columns.
    """

    columns: tuple[int, ...]


@dataclass(frozen=True)
class MaskPart:
    """R of some columns, which the missing mechanism explains.

    Attributes:
        columns: Positions of the columns.
        weight: β, the power to which p(R|X,Z) enters the weight; 0 if it is left out.
        link: Name of the link that the model was written with.
    """

    columns: tuple[int, ...]
    weight: float
    link: str = "logit"


Part = MissingPart | ObservedPart | MaskPart


class RowPart(dist.Independent):
    """Some columns of a row as one event.

    Args:
        entries: Column-wise distribution, batch shape ``(..., rows, columns)``; or one whose event is the row, of batch
            shape ``(..., rows)``.
        part: What the columns stand for.

    Attributes:
        row: ``entries`` as one event, without the mark.
    """

    def __init__(self, entries: TorchDistributionMixin, part: Part) -> None:
        is_row = len(entries.event_shape) == 1
        super().__init__(entries, 0 if is_row else 1)
        self.row, self.part = entries if is_row else entries.to_event(1), part

    @property
    def has_enumerate_support(self) -> bool:
        """Whether missing values are levels, of which there are finitely many."""
        return isinstance(self.base_dist, MissingEntries | MissingRow) and self.base_dist.can_be_enumerated

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """Every combination of missing levels; ``(combinations, *batch_shape, columns)``.

        At observed entries each level counts as one, so that a sum over combinations has a constant factor.

        Args:
            expand: Ignored: every row has its own values, since rows are completed by them.
        """
        values = self.base_dist.combinations()
        values = values.reshape(len(values), *(1 for _ in self.batch_shape), *self.event_shape)
        return values.expand(len(values), *self.batch_shape, *self.event_shape)

    def expand(self, batch_shape: Any, _instance: Any = None) -> RowPart:
        """Expand to a larger batch shape."""
        of_columns = self.event_shape[: self.reinterpreted_batch_ndims]
        return RowPart(self.base_dist.expand(torch.Size(batch_shape) + of_columns), self.part)

    def log_prob(self, value: Tensor) -> Tensor:
        """Per row."""
        return self.row.log_prob(value)
