"""Which kind a column is of: the one that was declared, or what its dtype and its values say."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

import pandas as pd

from pyro_mnar.kinds.dates import Datetime
from pyro_mnar.kinds.identifiers import check_levels
from pyro_mnar.kinds.kind import Kind
from pyro_mnar.kinds.levels import Binary, Categorical, Ordinal
from pyro_mnar.kinds.numbers import Continuous
from pyro_mnar.kinds.reading import holds_words
from pyro_mnar.kinds.registry import named

MOST_LEVELS = 10  # of whole numbers that are taken for levels
ROWS_PER_LEVEL = 10  # of these, on average


class Choice(NamedTuple):
    """A column's kind.

    Attributes:
        kind: With what the training rows tell of it.
        because: What decided it: a declaration, or what the column holds.
    """

    kind: Kind
    because: str


def choice_of(
    values: pd.Series, column: Hashable, given: str | Kind | None, *, num_observed: int | None = None
) -> Choice:
    """The kind that was given, or what the dtype says, learned from the training rows.

    Booleans are binary; categories are binary, ordinal if ordered, else categorical; text is a category; whole numbers
    of few levels, each seen often, are ordinal (binary if there are two); other numbers are continuous.  Numbers that
    are all whole count as whole beside gaps even if they are floats, since gaps are what made them floats in pandas.

    Args:
        values: The column, or every different value of it once, and a gap if it has any.
        column: Its name.
        given: What was declared, if anything.
        num_observed: How many values there are, where ``values`` has each only once.

    Raises:
        ValueError: If the kind is unknown, or the column's values do not fit it.
    """
    kind, because = _inferred(values, column, num_observed) if given is None else (named(given, column), "declared")
    learned = kind.learned(values, column)
    if learned.has_levels and not kind.levels:
        observed = int(values.notna().sum()) if num_observed is None else num_observed
        check_levels(len(learned.levels), observed, column, is_nominal=not learned.has_order)
    return Choice(learned, because)


def _inferred(values: pd.Series, column: Hashable, num_observed: int | None) -> Choice:
    dtype, observed = values.dtype, values.dropna()
    if isinstance(dtype, pd.CategoricalDtype):
        count = len(dtype.categories)
        if count < 2:
            return Choice(Continuous(), "categories")  # whose error names them
        because = f"{count} {'ordered ' if dtype.ordered else ''}categories"
        return Choice(Binary() if count == 2 else Ordinal() if dtype.ordered else Categorical(), because)
    if pd.api.types.is_datetime64_any_dtype(dtype):
        return Choice(Datetime(), "dates")
    if pd.api.types.is_bool_dtype(dtype) or pd.api.types.infer_dtype(observed, skipna=True) == "boolean":
        return Choice(Binary((False, True)), "booleans")
    if _are_whole(values, observed):
        count = observed.nunique()
        often = (len(observed) if num_observed is None else num_observed) >= ROWS_PER_LEVEL * count
        if 2 <= count <= MOST_LEVELS and often:
            return Choice(Binary() if count == 2 else Ordinal(), f"{count} whole numbers")
        return Choice(Continuous(), "whole numbers, too many or too rare for levels")
    if pd.api.types.is_numeric_dtype(dtype) or not holds_words(observed):
        return Choice(Continuous(), "numbers")
    count = observed.nunique()
    return Choice(Continuous() if count < 2 else Binary() if count == 2 else Categorical(), f"{count} words")


def _are_whole(values: pd.Series, observed: pd.Series) -> bool:
    if pd.api.types.is_integer_dtype(values.dtype):
        return True
    if pd.api.types.is_float_dtype(values.dtype):
        return 0 < len(observed) < len(values) and bool((observed == observed.round()).all())
    return values.dtype == object and pd.api.types.infer_dtype(observed, skipna=True) == "integer"
