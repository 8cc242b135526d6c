"""The unconstrained scales: a model's numbers run over the whole real line, a column's values may not.

Amounts above zero go by their logarithm, numbers between two limits by their logit, all others as they are.  A scale
holds everything that follows from such a map, so that a new one is written whole, in one place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

LARGEST = 700.0  # of logarithms: beyond 709 their exponentials are infinite
SQUEEZE = 1e-4  # share of a bounded range kept from its ends, where the logit is infinite

Values = Float[NDArray, "*shape"]


@runtime_checkable
class Scale(Protocol):
    """A map from the user's units to the real line, and its inverse."""

    @property
    def lower(self) -> float:
        """Lower limit of the values, which they do not reach."""
        ...

    @property
    def upper(self) -> float:
        """Upper limit of the values."""
        ...

    @property
    def is_linear(self) -> bool:
        """Whether the mean of the values is the value at the mean."""
        ...

    def unconstrained(self, numbers: Values) -> Values:
        """The user's units to the real line."""
        ...

    def constrained(self, values: Values) -> Values:
        """The inverse."""
        ...

    def constrained_tensor(self, values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The inverse, of particles: their mean is taken in the user's units."""
        ...

    def ends(self, numbers: Values) -> Values:
        """Ends of intervals in the user's units to the real line; infinite where they are at a limit or beyond."""
        ...

    def log_slope(self, numbers: Values) -> Values:
        """Log-derivative at values in the user's units, up to a constant.

        A density on the real line, times the derivative, is the density in the user's units.
        """
        ...


@dataclass(frozen=True)
class Identity:
    """Any number, as it is."""

    lower = -np.inf
    upper = np.inf
    is_linear = True

    def unconstrained(self, numbers: Values) -> Values:
        """As they are."""
        return numbers

    def constrained(self, values: Values) -> Values:
        """As they are."""
        return values

    def constrained_tensor(self, values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """As they are."""
        return values

    def ends(self, numbers: Values) -> Values:
        """As they are."""
        return numbers

    def log_slope(self, numbers: Values) -> Values:
        """Zero."""
        return np.zeros_like(numbers)


@dataclass(frozen=True)
class Logarithm:
    """Numbers above zero, by their logarithm."""

    lower = 0.0
    upper = np.inf
    is_linear = False

    def unconstrained(self, numbers: Values) -> Values:
        """Logarithm."""
        return np.log(numbers)

    def constrained(self, values: Values) -> Values:
        """Exponential, short of infinity."""
        return np.exp(np.minimum(values, LARGEST))

    def constrained_tensor(self, values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Exponential, short of infinity."""
        return values.clamp(max=LARGEST).exp()

    def ends(self, numbers: Values) -> Values:
        """Logarithm, -inf from zero down."""
        with np.errstate(divide="ignore"):
            return np.log(np.maximum(numbers, 0.0))

    def log_slope(self, numbers: Values) -> Values:
        """-log x."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return -np.log(numbers)


@dataclass(frozen=True)
class Logit:
    """Numbers between two limits, by the logit of their share of the range.

    Args:
        lower: Lower limit.
        upper: Upper limit.
    """

    lower: float
    upper: float
    is_linear = False

    def unconstrained(self, numbers: Values) -> Values:
        """Logit; a value at a limit counts as a little inside."""
        share = np.clip((numbers - self.lower) / (self.upper - self.lower), SQUEEZE, 1 - SQUEEZE)
        return np.log(share) - np.log1p(-share)

    def constrained(self, values: Values) -> Values:
        """Inverse logit, inside the range."""
        share = 0.5 * (1 + np.tanh(0.5 * values))
        return self.lower + (self.upper - self.lower) * share

    def constrained_tensor(self, values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Inverse logit."""
        return self.lower + (self.upper - self.lower) * values.sigmoid()

    def ends(self, numbers: Values) -> Values:
        """Logit, infinite at the limits and beyond: unlike an observed value, an end there bounds nothing."""
        share = np.clip((numbers - self.lower) / (self.upper - self.lower), 0.0, 1.0)
        with np.errstate(divide="ignore"):
            return np.log(share) - np.log1p(-share)

    def log_slope(self, numbers: Values) -> Values:
        """-log(x - lower) - log(upper - x)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return -np.log(numbers - self.lower) - np.log(self.upper - numbers)


IDENTITY = Identity()
