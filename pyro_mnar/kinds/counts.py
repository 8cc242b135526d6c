"""Counts: whole numbers from zero."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from pyro_mnar.kinds.kind import is_near_whole
from pyro_mnar.kinds.numbers import Numbers
from pyro_mnar.kinds.reading import numbers_of_kind, refuse
from pyro_mnar.kinds.scales import Values
from pyro_mnar.messages import shown

GREATEST_COUNT = 1e15  # beyond, log-factorials and what is near a count have no digits left


@dataclass(frozen=True)
class Count(Numbers):
    """Whole numbers from 0; negative binomial given z, or Poisson.

    Args:
        overdispersed: Negative binomial, with a dispersion learned per column; False for Poisson.
    """

    overdispersed: bool = True
    name: ClassVar[str] = "count"
    is_discrete: ClassVar[bool] = True
    is_exponential: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.overdispersed, (bool, np.bool_)):
            raise TypeError(f"Count, overdispersed: expected True or False, got {shown(self.overdispersed)}")

    @property
    def likelihood(self) -> str:
        """Negative binomial or Poisson."""
        return "negative binomial" if self.overdispersed else "poisson"

    @property
    def is_whole(self) -> bool:
        """Yes."""
        return True

    @property
    def holds_integers(self) -> bool:
        """Yes."""
        return True

    def read(self, values: pd.Series, column: Hashable) -> Values:
        """Cells as float64; ValueError if one is negative, not whole, or larger than anybody counts."""
        numbers = numbers_of_kind(values, column, self.name)
        refuse(
            (numbers < 0) | (numbers != np.rint(numbers)) & ~np.isnan(numbers), values, column, "whole numbers from 0"
        )
        too_large = f"counts up to {GREATEST_COUNT:g} (kind 'count'; larger numbers are amounts: kind 'positive')"
        refuse(numbers > GREATEST_COUNT, values, column, too_large)
        return numbers

    def nearest(self, numbers: Values) -> Values:
        """The nearest counts."""
        return np.maximum(np.rint(numbers), 0.0)

    def contains(self, numbers: Values) -> Bool[NDArray, "*shape"]:
        """Whether they are whole and not negative."""
        return super().contains(numbers) & (numbers >= 0) & is_near_whole(numbers)

    def limits(self, ends: Float[NDArray, "2 rows"], *, is_whole: bool) -> Float[NDArray, "2 rows"]:
        """Bounds halfway to the first count outside; none below zero, where there are no counts."""
        lower, upper = ends
        return super().limits(np.stack([np.where(lower <= 0, -np.inf, lower), upper]), is_whole=is_whole)
