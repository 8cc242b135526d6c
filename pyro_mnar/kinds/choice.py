"""Which kind a column is of: the one that was declared, or what its dtype and its values say."""

from __future__ import annotations

import math
import sys
from collections.abc import Hashable
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import NDArray

from pyro_mnar.kinds.dates import Datetime
from pyro_mnar.kinds.identifiers import check_levels
from pyro_mnar.kinds.kind import Kind
from pyro_mnar.kinds.levels import Binary, Categorical, Ordinal
from pyro_mnar.kinds.numbers import Continuous, Numbers, Positive
from pyro_mnar.kinds.reading import are_whole, holds_words, numbers_of, refuse_dates
from pyro_mnar.kinds.registry import named
from pyro_mnar.messages import check_is, whole_number

MOST_LEVELS = 10  # of whole numbers that are taken for levels
ROWS_PER_LEVEL = 10  # of these, on average
ROWS_PER_NEIGHBOUR = 2  # of two neighbouring whole numbers, such as 0 and 1, which are hardly ever amounts
STRONG_SKEWNESS = 1.5  # of a log-normal whose logarithm has a standard deviation of 0.44
FEWEST_OF_A_SHAPE = 30  # numbers that can show one
SKEWED = "strongly skewed"


class Shape(NamedTuple):
    """How numbers are spread.

    Attributes:
        count: How many there are.
        least: The least of them.
        skewness: Third central moment in standard deviations.
        log_skewness: The same of their logarithms, if all are above zero.
    """

    count: int
    least: float
    skewness: float
    log_skewness: float

    @property
    def is_positive(self) -> bool:
        """Above zero, strongly skewed, and less so by the logarithm."""
        is_skewed = self.skewness > STRONG_SKEWNESS and abs(self.log_skewness) < self.skewness
        return self.count >= FEWEST_OF_A_SHAPE and self.least > 0 and is_skewed

    @classmethod
    def of(cls, numbers: Float[NDArray, " numbers"]) -> Shape:
        """Of observed numbers."""
        if not numbers.size:
            return cls(0, math.nan, 0.0, 0.0)
        least = float(numbers.min())
        return cls(numbers.size, least, _skewness(numbers), _skewness(np.log(numbers)) if least > 0 else 0.0)


class Choice(NamedTuple):
    """A column's kind.

    Attributes:
        kind: With what the training rows tell of it.
        because: What decided it: a declaration, or what the column holds.
    """

    kind: Kind
    because: str

    @property
    def names_levels(self) -> bool:
        """Whether levels were declared, so that one that nobody has is still a level."""
        return self.because == "declared" and self.kind.has_levels


def choice_of(
    values: pd.Series,
    column: Hashable,
    given: str | Kind | None,
    *,
    num_observed: int | None = None,
    shape: Shape | None = None,
) -> Choice:
    """The kind that was given, or what the dtype says, learned from the training rows.

    Booleans are binary; categories are binary, ordinal if ordered, else categorical; text is a category; whole numbers
    of few levels, each seen often, are ordinal (binary if there are two; two neighbours, such as 0 and 1, need but four
    values); other numbers are positive if they are above zero and strongly skewed, else continuous.  Numbers that are
    all whole count as whole beside gaps even if they are floats, since gaps are what made them floats in pandas.

    Args:
        values: The column, or every different value of it once, and a gap if it has any.
        column: Its name.
        given: What was declared, if anything.
        num_observed: How many values there are, where ``values`` has each only once.
        shape: How they are spread, likewise.

    Raises:
        ValueError: If the kind is unknown, or the column's values do not fit it.
    """
    check_is("values", values, pd.Series)
    if num_observed is not None:
        num_observed = min(whole_number("num_observed", num_observed, 0), sys.maxsize)
    if shape is not None:
        check_is("shape", shape, Shape)
    if given is None:
        kind, because = _inferred(values, column, num_observed, shape)
    else:
        kind, because = named(given, column), "declared"
    if isinstance(kind, Numbers) and not isinstance(kind, Datetime):
        refuse_dates(values, column, kind.name)
    learned = kind.learned(values, column)
    if learned.has_levels and not kind.levels:
        observed = int(values.notna().sum()) if num_observed is None else num_observed
        check_levels(len(learned.levels), observed, column, is_nominal=not learned.has_order)
    return Choice(learned, because)


def _inferred(values: pd.Series, column: Hashable, num_observed: int | None, shape: Shape | None) -> Choice:
    dtype, observed = values.dtype, values.dropna()
    if isinstance(dtype, pd.CategoricalDtype):
        count = observed.nunique()
        if count < 2:
            return Choice(Categorical(), "categories")  # whose error names them
        because = f"{count} {'ordered ' if dtype.ordered else ''}categories"
        # Two that were seen are but two; of an ordered dtype of more, the order is worth keeping.
        has_order = dtype.ordered and len(dtype.categories) > 2
        return Choice(Ordinal() if has_order else Binary() if count == 2 else Categorical(), because)
    if pd.api.types.is_datetime64_any_dtype(dtype):
        return Choice(Datetime(), "dates")
    if pd.api.types.is_bool_dtype(dtype) or pd.api.types.infer_dtype(observed, skipna=True) == "boolean":
        return Choice(Binary((False, True)), "booleans")
    if _are_whole(values, observed):
        count = observed.nunique()
        are_neighbours = count == 2 and observed.max() == observed.min() + 1
        least = (ROWS_PER_NEIGHBOUR if are_neighbours else ROWS_PER_LEVEL) * count
        if 2 <= count <= MOST_LEVELS and (len(observed) if num_observed is None else num_observed) >= least:
            return Choice(Binary() if count == 2 else Ordinal(), f"{count} whole numbers")
        return _of_numbers(values, column, shape, "whole numbers, too many or too rare for levels")
    if pd.api.types.is_numeric_dtype(dtype) or not holds_words(observed):
        return _of_numbers(values, column, shape, "numbers")
    count = observed.nunique()
    return Choice(Binary() if count == 2 else Categorical(), f"{count} words")


def _of_numbers(values: pd.Series, column: Hashable, shape: Shape | None, said: str) -> Choice:
    numbers = numbers_of(values, column)
    shape = Shape.of(numbers[~np.isnan(numbers)]) if shape is None else shape
    return Choice(Positive(), f"{said}, all above 0, {SKEWED}") if shape.is_positive else Choice(Continuous(), said)


def _skewness(numbers: Float[NDArray, " numbers"]) -> float:
    scaled = numbers / (np.abs(numbers).max() or 1.0)  # cubes of large numbers overflow
    away = scaled - scaled.mean()
    spread = float(np.sqrt((away**2).mean()))
    return float((away**3).mean()) / spread**3 if spread > 1e-12 else 0.0


def _are_whole(values: pd.Series, observed: pd.Series) -> bool:
    if pd.api.types.is_integer_dtype(values.dtype):
        return True
    if pd.api.types.is_float_dtype(values.dtype):
        return 0 < len(observed) < len(values) and are_whole(observed)
    return values.dtype == object and pd.api.types.infer_dtype(observed, skipna=True) == "integer"
