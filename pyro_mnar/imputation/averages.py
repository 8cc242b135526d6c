"""Posterior means of columns of any kind: averages of values, not of logarithms, and shares of levels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from pyro_mnar.distributions import codes_of
from pyro_mnar.kinds import Kind
from pyro_mnar.tables.schema import Schema


class Given(NamedTuple):
    """Moments of missing entries given the rest of a particle, which vary less from one to the next than draws do.

    Attributes:
        mean: Their expected values, standardised, draws where these are not known, as of levels; None if all are draws.
    """

    mean: Float[Tensor, "particles rows columns"] | None

    @classmethod
    def joined(cls, parts: Sequence[Given]) -> Given:
        """Of the particles of all parts, which know the moments of the same columns."""
        means = [part.mean for part in parts if part.mean is not None]
        return cls(torch.cat(means) if means else None)


NOT_SUMMED = Given(None)


class Averages:
    """What of x is averaged over particles.

    Columns whose scale is not linear enter in the user's units (the mean of a value is not the value at the mean
    logarithm), columns of levels as an indicator of every level, the others as they are.  The user's units are in
    double precision: in single, a billion has steps of 64, and weights sum to one only to a millionth.

    Args:
        schema: The columns.

    Attributes:
        widths: Number of levels, by position of the columns that have them.
    """

    def __init__(self, schema: Schema) -> None:
        self.columns = schema.columns
        self.widths = {d: len(column.kind.levels) for d, column in enumerate(self.columns) if column.kind.has_levels}
        self.nonlinear = [d for d, column in enumerate(self.columns) if not column.kind.scale.is_linear]

    @property
    def num_features(self) -> int:
        """Number of averages a row."""
        return len(self.columns) + sum(self.widths.values())

    def features(
        self, x: Float[Tensor, "particles rows columns"], given: Given = NOT_SUMMED
    ) -> Float[Tensor, "particles rows features"]:
        """What is averaged; ``(particles, rows, features)``.

        Args:
            x: Missing entries of the particles.
            given: Their moments given the rest of the particle, where these are known.
        """
        mean = x if given.mean is None else given.mean
        if not self.nonlinear and not self.widths:
            return mean
        parts = [mean.to(torch.float64, copy=True) if self.nonlinear else mean]
        for d in self.nonlinear:
            column = self.columns[d]
            parts[0][..., d] = column.kind.scale.constrained_tensor(x[..., d].double() * column.std + column.mean)
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
            if d not in self.nonlinear:
                decoded[:, d] = decoded[:, d] * column.std + column.mean
        for d, width in self.widths.items():
            shares[d], at = means[:, at : at + width], at + width
            if self.columns[d].kind.holds_words:
                decoded[:, d] = np.argmax(shares[d], axis=1)
        return decoded, shares


class CellAverages:
    """The same for single cells: of each, the value, and where its column has levels, an indicator of every level.

    Args:
        schema: The columns.
        dtype: Floating type of the particles.
        device: Where these are.
    """

    def __init__(self, schema: Schema, dtype: torch.dtype, device: torch.device) -> None:
        columns = schema.columns
        self.is_linear = np.array([column.kind.scale.is_linear for column in columns])
        self.moments = np.array([(column.mean, column.std) for column in columns]).T
        codes: dict[Kind, int] = {}
        self.kind = np.array([codes.setdefault(column.kind, len(codes)) for column in columns])
        self.kinds = list(codes)
        self.num_levels = max((len(kind.levels) for kind in self.kinds), default=0)
        points = np.full((len(columns), self.num_levels), np.inf)
        for position, column in enumerate(columns):
            points[position, : len(column.points)] = column.points
        self.points = torch.as_tensor(points, dtype=dtype, device=device)

    def features(
        self,
        x: Float[Tensor, "particles cells"],
        columns: Int[NDArray, " cells"],
        expected: Float[Tensor, "particles cells"] | None = None,
    ) -> Float[Tensor, "particles cells features"]:
        """What is averaged of cells of some columns; ``(particles, cells, 1 + levels)``.

        Args:
            x: Missing entries of the particles.
            columns: Position of each cell's column.
            expected: Expected values given the rest of the particle, where these are known.
        """
        value = x if expected is None else expected
        if not self.is_linear[columns].all():
            value = value.to(torch.float64, copy=True)
            mean, std = torch.as_tensor(self.moments[:, columns], device=x.device)
            for kind, here in self._of_kinds(columns):
                if not kind.scale.is_linear:
                    at = torch.from_numpy(here).to(x.device)
                    value[:, at] = kind.scale.constrained_tensor(x[:, at].double() * std[at] + mean[at])
        parts = [value.unsqueeze(-1)]
        if self.num_levels:
            codes = codes_of(x, self.points[torch.from_numpy(columns).to(x.device)])
            parts.append((codes.unsqueeze(-1) == torch.arange(self.num_levels, device=x.device)).to(value.dtype))
        return torch.cat(parts, dim=-1)

    def decode(
        self, means: Float[NDArray, "cells features"], columns: Int[NDArray, " cells"]
    ) -> tuple[Float[NDArray, " cells"], Float[NDArray, "cells levels"]]:
        """Means in the user's units (of words, the position of the most probable), and the shares of levels."""
        mean, std = self.moments[:, columns]
        values, shares = np.where(self.is_linear[columns], means[:, 0] * std + mean, means[:, 0]), means[:, 1:].copy()
        for kind, here in self._of_kinds(columns):
            if not kind.has_levels:
                shares[here] = 0.0
            elif kind.holds_words:
                values[here] = np.argmax(shares[here], axis=1)
        return values, shares

    def to_units(
        self, draws: Float[NDArray, "draws cells"], columns: Int[NDArray, " cells"]
    ) -> Float[NDArray, "draws cells"]:
        """Draws in the user's units, to the nearest value that their columns can take."""
        mean, std = self.moments[:, columns]
        values = draws * std + mean
        for kind, here in self._of_kinds(columns):
            values[:, here] = kind.nearest(kind.scale.constrained(values[:, here]))
        return values

    def _of_kinds(self, columns: Int[NDArray, " cells"]) -> Iterator[tuple[Kind, NDArray[np.int64]]]:
        """Each kind among some cells, with their positions."""
        of_cells = self.kind[columns]
        for code in np.unique(of_cells).tolist():
            yield self.kinds[code], np.flatnonzero(of_cells == code)


class Weighted(NamedTuple):
    """A self-normalised mean over particles, and what it takes to join it with another.

    Attributes:
        mean: Σ_k w_k x^k / Σ_k w_k; ``(rows, features)``.
        log_total: log Σ_k w_k; ``(rows,)``.
        log_squares: log Σ_k w_k²; ``(rows,)``.
    """

    mean: Float[Tensor, "rows features"]
    log_total: Float[Tensor, " rows"]
    log_squares: Float[Tensor, " rows"]

    @classmethod
    def of(cls, log_weights: Float[Tensor, "particles rows"], x: Float[Tensor, "particles rows features"]) -> Weighted:
        """Over some particles, by row."""
        # Not by einsum: its batched product of one row by one matrix takes five times as long.
        mean = (log_weights.to(x.dtype).softmax(0).unsqueeze(-1) * x).sum(0)
        return cls(mean, log_weights.logsumexp(0), (2 * log_weights).logsumexp(0))

    def joined(self, other: Weighted) -> Weighted:
        """Over the particles of both."""
        total = torch.logaddexp(self.log_total, other.log_total)
        share = (other.log_total - total).to(self.mean.dtype).exp()[:, None]
        mean = self.mean * (1 - share) + other.mean * share
        return Weighted(mean, total, torch.logaddexp(self.log_squares, other.log_squares))

    def effective_sample_size(self) -> Float[Tensor, " rows"]:
        """(Σ_k w_k)² / Σ_k w_k²."""
        return (2 * self.log_total - self.log_squares).exp()
