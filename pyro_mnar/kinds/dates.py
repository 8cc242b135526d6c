"""Dates: points in time, as days."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from jaxtyping import Bool
from numpy.typing import NDArray

from pyro_mnar.kinds.kind import Kind, is_near_whole
from pyro_mnar.kinds.numbers import Continuous
from pyro_mnar.kinds.reading import dates_of, dates_of_text, numbers_of
from pyro_mnar.kinds.scales import Values


@dataclass(frozen=True)
class Datetime(Continuous):
    """Points in time, as days since 1970-01-01; normal given z.

    Args:
        whole_days: Whether imputed dates are at midnight; by default if those of the training rows are.
    """

    whole_days: bool | None = None
    whole: bool | None = False  # what comes to be whole is said by whole_days
    name: ClassVar[str] = "datetime"

    @property
    def is_whole(self) -> bool:
        """Whether days are whole."""
        return bool(self.whole_days)

    def learned(self, values: pd.Series, column: Hashable) -> Kind:
        """With what the training rows say of whole days."""
        if self.whole_days is not None:
            return self
        days = self.read(values, column)
        return replace(self, whole_days=bool((np.isnan(days) | (days == np.rint(days))).all()))

    def of_text(self, values: pd.Series) -> pd.Series:
        """Text as dates; ValueError, naming column, row and value, if it is not written as 2021-12-31."""
        return dates_of_text(values)

    def read(self, values: pd.Series, column: Hashable) -> Values:
        """Cells as days; ValueError if the column is not one of dates."""
        if not pd.api.types.is_datetime64_any_dtype(values.dtype):
            raise ValueError(
                f"column {column!r}: expected a dtype of dates (kind 'datetime'; see pandas.to_datetime), got"
                f" {values.dtype}"
            )
        return numbers_of(values, column)

    def nearest(self, numbers: Values) -> Values:
        """The nearest midnights, if days are whole."""
        return np.rint(numbers) if self.whole_days else numbers

    def contains(self, numbers: Values) -> Bool[NDArray, "*shape"]:
        """Whether they are finite, and at midnight if days are whole."""
        inside = super().contains(numbers)
        return inside & is_near_whole(numbers) if self.whole_days else inside

    def label(self, numbers: Values) -> NDArray[Any]:
        """The dates, to a microsecond."""
        return dates_of(numbers, np.dtype("datetime64[us]")).to_numpy()
