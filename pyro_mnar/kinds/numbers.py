"""Kinds of columns, on the side of the data: the user's values to numbers on the model's line, and back.

A value passes through three stages.  *Read*: the user's cell as a number in the user's units (a category's number is
its position, unless the levels are numbers themselves).  *To the line*: logarithm of positive numbers, logit of
bounded ones, nothing for the others.  *Standardise*: minus mean, over standard deviation, done by the schema.  What
p(X|Z) says of each kind stands in :mod:`pyro_mnar.nn.likelihoods`.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import KW_ONLY, asdict, dataclass, replace
from typing import Any, ClassVar, Protocol, TypeGuard, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import NDArray

from pyro_mnar.kinds.reading import levels_of, numbers_of, refuse

SQUEEZE = 1e-4  # share of a bounded column's range kept from its ends, where the logit is infinite
LEAST_NOISE = 1e-3  # of a column's standard deviation; keeps a perfect fit from an unbounded likelihood

Values = Float[NDArray, "*shape"]


@runtime_checkable
class Kind(Protocol):
    """One kind of column.

    Attributes:
        name: The word for it in ``kinds={column: word}``.
    """

    name: ClassVar[str]

    @property
    def levels(self) -> tuple[Any, ...]:
        """Its values, if there are only so many."""
        ...

    def learned(self, values: pd.Series, column: Hashable) -> Kind:
        """The same kind, with what the training rows tell of it."""
        ...

    def read(self, values: pd.Series, column: Hashable) -> Values:
        """Cells as numbers in the user's units, NaN for gaps; ValueError naming column, row and value."""
        ...

    def to_line(self, numbers: Values) -> Values:
        """The user's units to the real line."""
        ...

    def from_line(self, numbers: Values) -> Values:
        """The inverse of :meth:`to_line`, to the nearest value that the column can take."""
        ...


@dataclass(frozen=True)
class Numbers:
    """What kinds of numbers have in common."""

    name: ClassVar[str] = "numbers"

    @property
    def levels(self) -> tuple[Any, ...]:
        """None."""
        return ()

    def learned(self, values: pd.Series, column: Hashable) -> Kind:
        """Itself: there is nothing to learn."""
        return self

    def read(self, values: pd.Series, column: Hashable) -> Values:
        """Cells as float64."""
        return numbers_of(values, column)

    def to_line(self, numbers: Values) -> Values:
        """As they are."""
        return numbers

    def from_line(self, numbers: Values) -> Values:
        """As they are."""
        return numbers


@dataclass(frozen=True)
class Continuous(Numbers):
    """Any number; normal given z.

    Args:
        noise: Standard deviation given z, in standard deviations of the column (of its logarithm or logit, for the
            kinds that have one): a number, to fix it; ``"learned"``, for this column alone; ``"shared"``, learned once
            for all columns that say so.  A column that also serves as U learns none: z could copy u.
    """

    _: KW_ONLY
    noise: float | str = "learned"
    name: ClassVar[str] = "continuous"

    def __post_init__(self) -> None:
        given = self.noise
        if given not in ("learned", "shared") and not (_is_number(given) and LEAST_NOISE < given < math.inf):
            expected = f"'learned', 'shared' or more than {LEAST_NOISE} standard deviations"
            raise ValueError(f"{type(self).__name__}, noise: expected {expected}, got {given!r}")


@dataclass(frozen=True)
class HeavyTailed(Continuous):
    """Any number, with outliers; Student's t given z, its degrees of freedom learned."""

    name: ClassVar[str] = "heavy_tailed"


@dataclass(frozen=True)
class Positive(Continuous):
    """Numbers above zero; log-normal given z.  Means are means of the values, not of their logarithms."""

    name: ClassVar[str] = "positive"

    def read(self, values: pd.Series, column: Hashable) -> Values:
        """Cells as float64; ValueError if one is not above zero."""
        numbers = numbers_of(values, column)
        refuse(numbers <= 0, values, column, "numbers above 0 (kind 'positive')")
        return numbers

    def to_line(self, numbers: Values) -> Values:
        """Logarithm."""
        return np.log(numbers)

    def from_line(self, numbers: Values) -> Values:
        """Exponential, short of infinity."""
        return np.exp(np.minimum(numbers, 700.0))


@dataclass(frozen=True)
class Bounded(Continuous):
    """Numbers from ``lower`` to ``upper``; logit-normal given z.

    The ends themselves may be observed; they count as 0.01 % of the range inside.
    """

    lower: float = 0.0
    upper: float = 1.0
    name: ClassVar[str] = "bounded"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (math.isfinite(self.lower) and math.isfinite(self.upper) and self.lower < self.upper):
            raise ValueError(f"Bounded: expected finite limits, lower below upper, got {self.lower} and {self.upper}")

    def read(self, values: pd.Series, column: Hashable) -> Values:
        """Cells as float64; ValueError if one lies outside."""
        numbers = numbers_of(values, column)
        outside = (numbers < self.lower) | (numbers > self.upper)
        refuse(outside, values, column, f"numbers from {self.lower} to {self.upper} (kind 'bounded')")
        return numbers

    def to_line(self, numbers: Values) -> Values:
        """Logit of the share of the range."""
        share = np.clip((numbers - self.lower) / (self.upper - self.lower), SQUEEZE, 1 - SQUEEZE)
        return np.log(share) - np.log1p(-share)

    def from_line(self, numbers: Values) -> Values:
        """Inverse logit, inside the range."""
        share = 0.5 * (1 + np.tanh(0.5 * numbers))
        return self.lower + (self.upper - self.lower) * share


@dataclass(frozen=True)
class Count(Numbers):
    """Whole numbers from 0; negative binomial given z, or Poisson.

    Args:
        overdispersed: Negative binomial, with a dispersion learned per column; False for Poisson.
    """

    overdispersed: bool = True
    name: ClassVar[str] = "count"

    def read(self, values: pd.Series, column: Hashable) -> Values:
        """Cells as float64; ValueError if one is negative or not whole."""
        numbers = numbers_of(values, column)
        refuse(
            (numbers < 0) | (numbers != np.rint(numbers)) & ~np.isnan(numbers), values, column, "whole numbers from 0"
        )
        return numbers

    def from_line(self, numbers: Values) -> Values:
        """The nearest count."""
        return np.maximum(np.rint(numbers), 0.0)


@dataclass(frozen=True)
class Categorical:
    """One of several levels without an order.

    Args:
        levels: The levels; by default those of the training rows (a category dtype's, in its order).
        other: The level that stands for any unseen one in new rows; by default an unseen level is an error.
    """

    levels: tuple[Any, ...] = ()
    other: Any = None
    name: ClassVar[str] = "categorical"

    def learned(self, values: pd.Series, column: Hashable) -> Kind:
        """With the training rows' levels, if none were given; ValueError if there are fewer than two."""
        levels = self.levels or levels_of(values)
        if self.other is not None and self.other not in levels:
            levels = (*levels, self.other)
        if len(levels) < 2:
            raise ValueError(f"column {column!r}: expected at least two levels for kind {self.name!r}, got {levels!r}")
        if self.name == "binary" and len(levels) != 2:
            raise ValueError(f"column {column!r}: expected two levels for kind 'binary', got {len(levels)}")
        return replace(self, levels=levels)

    @property
    def points(self) -> Values:
        """Number of each level in the user's units: itself, if the levels are numbers in ascending order, else its
        position.
        """
        if all(isinstance(level, (bool, int, float, np.bool_, np.number)) for level in self.levels):
            numbers = np.array([float(level) for level in self.levels])
            if (np.diff(numbers) > 0).all():
                return numbers
        return np.arange(len(self.levels), dtype=np.float64)

    @property
    def holds_words(self) -> bool:
        """Whether a level's number is only its position, so that a mean of them means nothing."""
        return self.name == "categorical" or not all(
            isinstance(level, (bool, int, float, np.bool_, np.number)) for level in self.levels
        )

    def read(self, values: pd.Series, column: Hashable) -> Values:
        """Cells as their levels' numbers; ValueError for a level that is not among them."""
        index = pd.Index(self.levels, dtype=object, tupleize_cols=False)
        gaps = values.isna().to_numpy()
        codes = np.array(index.get_indexer(pd.Index(values.astype(object), dtype=object, tupleize_cols=False)))
        unseen = (codes < 0) & ~gaps
        if self.other is not None:
            codes = np.where(unseen, index.get_loc(self.other), codes)
        else:
            refuse(unseen, values, column, f"one of {list(self.levels)!r}")
        return np.where(gaps, np.nan, self.points[codes])

    def to_line(self, numbers: Values) -> Values:
        """As they are."""
        return numbers

    def from_line(self, numbers: Values) -> Values:
        """The nearest level's number."""
        return self.points[self.codes(numbers)]

    def codes(self, numbers: Values) -> NDArray[np.int_]:
        """Position of the level nearest to each number."""
        middle = (self.points[1:] + self.points[:-1]) / 2
        return np.searchsorted(middle, numbers)

    def label(self, numbers: Values) -> NDArray[Any]:
        """The levels themselves."""
        labels = np.empty(len(self.levels), dtype=object)
        labels[:] = self.levels
        return labels[self.codes(numbers)]


@dataclass(frozen=True)
class Binary(Categorical):
    """One of two levels; Bernoulli given z."""

    name: ClassVar[str] = "binary"


@dataclass(frozen=True)
class Ordinal(Categorical):
    """One of several levels in their order; cumulative logit given z."""

    name: ClassVar[str] = "ordinal"


@dataclass(frozen=True)
class Datetime(Continuous):
    """Points in time, as days since 1970-01-01; normal given z.

    Args:
        whole_days: Whether imputed dates are at midnight; by default if those of the training rows are.
    """

    whole_days: bool | None = None
    name: ClassVar[str] = "datetime"

    def learned(self, values: pd.Series, column: Hashable) -> Kind:
        """With what the training rows say of whole days."""
        if self.whole_days is not None:
            return self
        days = self.read(values, column)
        return replace(self, whole_days=bool((np.isnan(days) | (days == np.rint(days))).all()))

    def read(self, values: pd.Series, column: Hashable) -> Values:
        """Cells as days; ValueError if the column is not one of dates."""
        if not pd.api.types.is_datetime64_any_dtype(values.dtype):
            raise ValueError(
                f"column {column!r}: expected a dtype of dates (kind 'datetime'; see pandas.to_datetime), got"
                f" {values.dtype}"
            )
        return numbers_of(values, column)

    def from_line(self, numbers: Values) -> Values:
        """The nearest midnight, if days are whole."""
        return np.rint(numbers) if self.whole_days else numbers


KINDS: dict[str, type[Any]] = {
    kind.name: kind
    for kind in (Continuous, HeavyTailed, Positive, Bounded, Count, Binary, Categorical, Ordinal, Datetime)
}


def to_plain(kind: Kind) -> dict[str, Any]:
    """A kind as plain data."""
    fields = asdict(kind)  # pyright: ignore[reportArgumentType]
    return {
        "name": kind.name,
        **{key: value.item() if isinstance(value, np.generic) else value for key, value in fields.items()},
    }


def from_plain(data: dict[str, Any]) -> Kind:
    """The inverse of :func:`to_plain`."""
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items() if key != "name"}
    return KINDS[data["name"]](**fields)


def _is_number(given: object) -> TypeGuard[float]:
    return isinstance(given, (int, float, np.number)) and not isinstance(given, bool)
