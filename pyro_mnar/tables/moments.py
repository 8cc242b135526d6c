"""Mean and standard deviation of a column: of all its numbers at once, of many columns at once, or chunk by chunk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped
from numpy.typing import NDArray

ROUNDING = 8 * float(np.finfo(np.float64).eps)  # of the mean, by which equal numbers may differ
LARGE = 1e80


class Moments(NamedTuple):
    """Mean and standard deviation of observed numbers; 0 and 1 where there are none.

    Attributes:
        mean: Their mean.
        std: Their standard deviation, 1 for a spread of zero.
    """

    mean: float = 0.0
    std: float = 1.0

    @classmethod
    def of(cls, numbers: Float[NDArray, " numbers"]) -> Moments:
        """Moments of numbers whose squares may overflow."""
        if not numbers.size:
            return cls()
        largest = float(np.abs(numbers).max()) or 1.0
        scaled = numbers / largest
        mean, std = float(scaled.mean()) * largest, float(scaled.std()) * largest
        return cls(mean, float(_or_one(std, mean)))


class GroupedMoments(NamedTuple):
    """Moments of several groups of numbers.

    Attributes:
        means: As :class:`Moments` has it; ``(groups,)``.
        stds: The same; ``(groups,)``.
    """

    means: Float[NDArray, " groups"]
    stds: Float[NDArray, " groups"]

    @classmethod
    def of(
        cls, numbers: Float[NDArray, " numbers"], group: Int[NDArray, " numbers"], num_groups: int
    ) -> GroupedMoments:
        """Moments of numbers by the group of each."""
        sizes = np.maximum(np.bincount(group, minlength=num_groups), 1)
        largest = np.zeros(num_groups)  # of each group: squares of large numbers overflow, those of small ones vanish
        np.maximum.at(largest, group, np.abs(numbers))
        largest[largest == 0] = 1.0
        scaled = numbers / largest[group]
        means = np.bincount(group, scaled, minlength=num_groups) / sizes
        variances = np.bincount(group, (scaled - means[group]) ** 2, minlength=num_groups) / sizes
        means, stds = means * largest, np.sqrt(variances) * largest
        return cls(means, _or_one(stds, means))


@dataclass
class RunningMoments:
    """Moments of numbers that come in chunks (Chan, Golub & LeVeque 1983).

    Attributes:
        count: How many there were.
        mean: Their mean.
        squares: Sum of their squared deviations from it.
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, numbers: Float[NDArray, " numbers"]) -> None:
        """Take in another chunk."""
        if not numbers.size:
            return
        numbers = _wide(numbers)
        mean, total = numbers.mean(), self.count + numbers.size
        step = mean - self.mean
        self.squares += ((numbers - mean) ** 2).sum() + step**2 * self.count * numbers.size / total
        self.mean += step * numbers.size / total
        self.count = total

    @property
    def moments(self) -> Moments:
        """Of all numbers so far."""
        std = float(np.sqrt(self.squares / self.count)) if self.count else 0.0
        return Moments(float(self.mean), float(_or_one(std, float(self.mean))))


@dataclass
class RunningSkewness(RunningMoments):
    """Skewness, too, of numbers that come in chunks (Pebay 2008, equation 3.3 of order three).

    Attributes:
        cubes: Sum of their cubed deviations.
    """

    cubes: float = 0.0

    def add(self, numbers: Float[NDArray, " numbers"]) -> None:
        """Take in another chunk."""
        n, m = self.count, numbers.size
        if m:
            wide = _wide(numbers)
            mean = wide.mean()
            away, step, total = wide - mean, mean - self.mean, n + m
            of_both = step**3 * n * m * (n - m) / total**2 + 3 * step * (n * (away**2).sum() - m * self.squares) / total
            self.cubes += (away**3).sum() + of_both
        super().add(numbers)

    @property
    def skewness(self) -> float:
        """Third central moment in standard deviations; 0 without spread."""
        if not self.count or self.squares <= ROUNDING**2 * self.count * self.mean**2:
            return 0.0
        return float(self.cubes / self.count / (self.squares / self.count) ** 1.5)


def _wide(numbers: Float[NDArray, " numbers"]) -> Shaped[NDArray, " numbers"]:
    """As they are; where sums of their cubes would be infinite, in the widest type that the machine has."""
    return numbers.astype(np.longdouble) if np.abs(numbers).max() > LARGE else numbers


def _or_one(std: Any, mean: Any) -> NDArray[np.float64]:
    """The standard deviation, or 1 where it is only the rounding of equal numbers."""
    return np.where(std > ROUNDING * np.maximum(np.abs(mean), 1e-300), std, 1.0)
