"""Posterior means of columns of any kind: averages of values, not of logarithms, and shares of levels."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from pyro_mnar.distributions import codes_of
from pyro_mnar.kinds import Bounded, Categorical, Positive
from pyro_mnar.schema import Schema


class Averages:
    """What of x is averaged over particles.

    Positive and bounded columns enter in the user's units (the mean of a value is not the value at the mean logarithm),
    columns of levels as an indicator of every level, the others as they are.

    Args:
        schema: The columns.

    Attributes:
        widths: Number of levels, by position of the columns that have them.
    """

    def __init__(self, schema: Schema) -> None:
        self.columns = schema.columns
        self.widths = {
            d: len(column.kind.levels) for d, column in enumerate(self.columns) if isinstance(column.kind, Categorical)
        }
        self.curved = [d for d, column in enumerate(self.columns) if isinstance(column.kind, (Positive, Bounded))]

    @property
    def num_features(self) -> int:
        """Number of averages a row."""
        return len(self.columns) + sum(self.widths.values())

    def features(self, x: Float[Tensor, "particles rows columns"]) -> Float[Tensor, "particles rows features"]:
        """What is averaged; ``(particles, rows, features)``."""
        if not self.curved and not self.widths:
            return x
        parts = [x.clone() if self.curved else x]
        for d in self.curved:
            column = self.columns[d]
            line = x[..., d] * column.std + column.mean
            if isinstance(column.kind, Bounded):
                parts[0][..., d] = column.kind.lower + (column.kind.upper - column.kind.lower) * line.sigmoid()
            else:
                parts[0][..., d] = line.exp()
        for d, width in self.widths.items():
            codes = codes_of(
                x[..., d : d + 1], torch.as_tensor(self.columns[d].points, dtype=x.dtype)[None].to(x.device)
            )
            parts.append((codes == torch.arange(width, device=x.device)).to(x.dtype))
        return torch.cat(parts, dim=-1)

    def decode(
        self, means: Float[NDArray, "rows features"]
    ) -> tuple[Float[NDArray, "rows columns"], dict[int, Float[NDArray, "rows _"]]]:
        """Means in the user's units (of words, the position of the most probable), and the shares of levels."""
        decoded, shares, at = means[:, : len(self.columns)].copy(), {}, len(self.columns)
        for d, column in enumerate(self.columns):
            if d not in self.curved:
                decoded[:, d] = decoded[:, d] * column.std + column.mean
        for d, width in self.widths.items():
            shares[d], at = means[:, at : at + width], at + width
            kind = self.columns[d].kind
            if isinstance(kind, Categorical) and kind.holds_words:
                decoded[:, d] = np.argmax(shares[d], axis=1)
        return decoded, shares
