"""Covariances of rows, of which each row has the part of its observed entries factorised.

Every row has a Σ_oo of its own.  All are factorised at once: in Σ, missing entries get unit pivots and nothing beside
them, so that the shapes are the same whatever is missing, and a training step can be captured.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Row = Float[Tensor, "... columns"]
Seen = Bool[Tensor, "... columns"]

LEAST_PIVOTS = 4  # an entry's variance given the others, over its own, in units of columns × machine precision


class DenseCovariance:
    """A covariance by its Cholesky factor; ``(..., columns, columns)``."""

    def __init__(self, scale_tril: Tensor) -> None:
        self.scale_tril = without_repeated_rows(scale_tril, 2)

    @cached_property
    def covariance(self) -> Tensor:
        """Σ."""
        return self.scale_tril @ self.scale_tril.mT

    def given(self, seen: Seen) -> _Factorised:
        """Σ_oo of every row, factorised."""
        kept = seen.to(self.covariance.dtype)
        eye = torch.eye(kept.shape[-1], dtype=kept.dtype, device=kept.device)
        matrix = self.covariance * kept.unsqueeze(-1) * kept.unsqueeze(-2) + eye * (1 - kept).unsqueeze(-1)
        factor = cholesky_or_nan(matrix)
        inverse = torch.linalg.solve_triangular(factor, eye.expand(factor.shape), upper=False)
        return _Factorised(inverse, factor.diagonal(dim1=-2, dim2=-1).log().sum(-1))

    def times(self, weights: Row) -> Row:
        """Σ a of every row."""
        return times(self.covariance, weights)

    def noise(self, shape: torch.Size) -> Row:
        """Draws of N(0, Σ), of a batch shape."""
        scale = self.scale_tril
        return times(scale, torch.randn(*shape, scale.shape[-1], dtype=scale.dtype, device=scale.device))


class _Factorised:
    """Σ_oo of every row by the inverse of its Cholesky factor."""

    def __init__(self, inverse: Tensor, half_log_det: Tensor) -> None:
        self.inverse, self.half_log_det = inverse, half_log_det

    def solve(self, residual: Row) -> tuple[Row, Float[Tensor, "... rows"]]:
        """Σ_oo⁻¹ δ and δ' Σ_oo⁻¹ δ, for residuals that are zero at missing entries."""
        whitened = times(self.inverse, residual)
        return times(self.inverse.mT, whitened), whitened.square().sum(-1)


class LowRankCovariance:
    """W W' + diag(d), with W of few columns; ``(..., columns, rank)`` and ``(..., columns)``."""

    def __init__(self, factor: Tensor, diagonal: Tensor) -> None:
        self.factor, self.diagonal = without_repeated_rows(factor, 2), without_repeated_rows(diagonal, 1)

    def given(self, seen: Seen) -> _FactorisedLowRank:
        """Σ_oo of every row by Woodbury's identity: what is factorised has the size of the rank."""
        factor, diagonal = self.factor, self.diagonal
        precision = seen.to(factor.dtype) / diagonal
        rank = factor.shape[-1]
        squares = (factor.unsqueeze(-1) * factor.unsqueeze(-2)).flatten(-2)
        inner = torch.einsum("...d,...dk->...k", precision, squares).unflatten(-1, (rank, rank))
        eye = torch.eye(rank, dtype=factor.dtype, device=factor.device)
        root = cholesky_or_nan(inner + eye)
        inverse = torch.linalg.solve_triangular(root, eye.expand(root.shape), upper=False)
        half_log_det = root.diagonal(dim1=-2, dim2=-1).log().sum(-1) + 0.5 * torch.where(seen, diagonal.log(), 0.0).sum(
            -1
        )
        share = diagonal / (diagonal + factor.square().sum(-1))
        is_flat = ((share < _least_pivot(factor)) & seen).any(-1)
        return _FactorisedLowRank(factor, precision, inverse, half_log_det.masked_fill(is_flat, torch.nan))

    def times(self, weights: Row) -> Row:
        """Σ a of every row."""
        return times(self.factor, times(self.factor.mT, weights)) + self.diagonal * weights

    def noise(self, shape: torch.Size) -> Row:
        """Draws of N(0, Σ), of a batch shape."""
        columns, rank = self.factor.shape[-2:]
        options: Any = {"dtype": self.factor.dtype, "device": self.factor.device}
        own = self.diagonal.sqrt() * torch.randn(*shape, columns, **options)
        return own + times(self.factor, torch.randn(*shape, rank, **options))


class _FactorisedLowRank:
    """Σ_oo of every row by what Woodbury's identity factorises."""

    def __init__(self, factor: Tensor, precision: Tensor, inverse: Tensor, half_log_det: Tensor) -> None:
        self.factor, self.precision, self.inverse, self.half_log_det = factor, precision, inverse, half_log_det

    def solve(self, residual: Row) -> tuple[Row, Float[Tensor, "... rows"]]:
        """Σ_oo⁻¹ δ and δ' Σ_oo⁻¹ δ, for residuals that are zero at missing entries."""
        scaled = self.precision * residual
        common = times(self.inverse.mT, times(self.inverse, times(self.factor.mT, scaled)))
        solved = scaled - self.precision * times(self.factor, common)
        return solved, (residual * solved).sum(-1)


def without_repeated_rows(parameter: Tensor, event_dims: int) -> Tensor:
    """A parameter whose expanded batch dimensions are cut back to size one, so that rows share what is computed."""
    for dim in range(parameter.dim() - event_dims):
        if parameter.stride(dim) == 0 and parameter.shape[dim] > 1:
            parameter = parameter.narrow(dim, 0, 1)
    return parameter


def times(matrix: Float[Tensor, "... out in"], vectors: Float[Tensor, "... in"]) -> Float[Tensor, "... out"]:
    """One matrix a row times one vector a row; matrices are not repeated over particles."""
    return torch.einsum("...ij,...j->...i", matrix, vectors)


def cholesky_or_nan(matrix: Tensor) -> Tensor:
    """The lower factor; not a number where the matrix is singular, or as good as that in its precision."""
    factor, info = torch.linalg.cholesky_ex(matrix)
    pivots, own = factor.diagonal(dim1=-2, dim2=-1).square(), matrix.diagonal(dim1=-2, dim2=-1)
    is_singular = (info > 0) | (pivots <= _least_pivot(matrix) * own).any(-1)
    return torch.where(is_singular[..., None, None], torch.nan, factor)


def _least_pivot(matrix: Tensor) -> float:
    return LEAST_PIVOTS * matrix.shape[-2] * torch.finfo(matrix.dtype).eps
