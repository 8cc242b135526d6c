"""Amounts of which a share is exactly zero: rain, expenses, viral loads."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from pyro_mnar.kinds.kind import Kind
from pyro_mnar.kinds.numbers import Numbers
from pyro_mnar.kinds.reading import numbers_of_kind, refuse
from pyro_mnar.kinds.scales import LARGEST, Scale, Values

NEAR = 1e-4  # on the logarithm's scale: how near to the point of zero a number is zero


@dataclass(frozen=True)
class ZeroOrLogarithm:
    """Zero by a point of its own, numbers above it by their logarithm.

    Args:
        point: Where zero stands on the real line, below the logarithms.
    """

    point: float
    lower = -np.inf
    upper = np.inf
    is_linear = False

    def unconstrained(self, numbers: Values) -> Values:
        """Logarithm, of zero the point."""
        is_zero = numbers == 0
        return np.where(is_zero, self.point, np.log(np.where(is_zero, 1.0, numbers)))

    def constrained(self, values: Values) -> Values:
        """Exponential, zero at the point."""
        return np.where(np.abs(values - self.point) < NEAR, 0.0, np.exp(np.minimum(values, LARGEST)))

    def constrained_tensor(self, values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The same, of particles."""
        return values.clamp(max=LARGEST).exp().masked_fill((values - self.point).abs() < NEAR, 0.0)

    def ends(self, numbers: Values) -> Values:
        """Logarithm, -inf from zero down."""
        with np.errstate(divide="ignore"):
            return np.log(np.maximum(numbers, 0.0))

    def log_slope(self, numbers: Values) -> Values:
        """-log x, 0 at zero, which has a probability and no density."""
        return np.where(numbers == 0, 0.0, -np.log(np.where(numbers == 0, 1.0, numbers)))


@dataclass(frozen=True)
class ZeroInflated(Numbers):
    """Zero with a probability that z gives, else log-normal given z (two-part or semi-continuous; Duan et al. 1983).

    Draws are exactly zero or above; means are of both together.

    Args:
        point: Where zero stands among the logarithms; by default a standard deviation of theirs below the least.
    """

    point: float | None = None
    name: ClassVar[str] = "zero_inflated"
    is_discrete: ClassVar[bool] = True
    is_exponential: ClassVar[bool] = True

    @property
    def likelihood(self) -> str:
        """Bernoulli times log-normal."""
        return "zero or normal"

    @property
    def scale(self) -> Scale:
        """Logarithm, and a point for zero."""
        return ZeroOrLogarithm(0.0 if self.point is None else self.point)

    def learned(self, values: pd.Series, column: Hashable) -> Kind:
        """With a point for zero; ValueError without a zero or two different values above it."""
        numbers = self.read(values, column)
        above = np.log(numbers[numbers > 0])
        if not (numbers == 0).any() or len(np.unique(above)) < 2:
            raise ValueError(
                f"column {column!r}: expected zeros and two different values above (kind {self.name!r}), got"
                f" {int((numbers == 0).sum())} zeros and {len(np.unique(above))} different values above"
            )
        if self.point is not None:
            return self
        return replace(self, point=float(above.min() - max(above.std(), 0.1)))

    def read(self, values: pd.Series, column: Hashable) -> Values:
        """Cells as float64; ValueError if one is below zero."""
        numbers = numbers_of_kind(values, column, self.name)
        refuse(numbers < 0, values, column, "numbers from 0 (kind 'zero_inflated')")
        return numbers

    def limits(self, ends: Float[NDArray, "2 rows"], *, is_whole: bool) -> Float[NDArray, "2 rows"]:
        """Bounds on the logarithm's scale; a lower one above zero leaves zero out.

        Raises:
            ValueError: If one above zero stands below zero's own point, far below every value seen.
        """
        found = super().limits(ends, is_whole=is_whole)
        below = np.isfinite(found[0]) & (found[0] <= self.scale.unconstrained(np.zeros(1))[0] + NEAR)
        if below.any():
            raise ValueError(
                f"kind {self.name!r}: expected lower bounds of 0 or near the values above it, got"
                f" {ends[0][below][0]:g}; make zeros gaps and the kind 'positive'"
            )
        return found

    def contains(self, numbers: Values) -> Bool[NDArray, "*shape"]:
        """Whether they are finite and not below zero."""
        return np.isfinite(numbers) & (numbers >= 0)
