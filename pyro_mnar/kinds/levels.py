"""Kinds of levels: categories without an order, two levels, levels in their order."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from numbers import Number
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from pyro_mnar.kinds.kind import Kind
from pyro_mnar.kinds.reading import GREATEST, levels_of, refuse
from pyro_mnar.kinds.scales import IDENTITY, Scale, Values
from pyro_mnar.messages import has_parts, is_gap, is_hashable, shown


@dataclass(frozen=True)
class Categorical:
    """One of several levels without an order.

    Args:
        levels: The levels; by default those that the training rows hold, in the order of their dtype if that is one of
            categories.  A level that no training row holds is imputed only if it stands here.
        other: The level that stands for any unseen one in new rows; by default an unseen level is an error.
    """

    levels: tuple[Any, ...] = ()
    other: Any = None
    name: ClassVar[str] = "categorical"
    has_levels: ClassVar[bool] = True
    is_discrete: ClassVar[bool] = True
    is_exponential: ClassVar[bool] = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", _checked(self.levels, type(self).__name__))
        if self.other is not None:
            _check_level(self.other, f"{type(self).__name__}, other")

    @property
    def likelihood(self) -> str:
        """Multinomial logit."""
        return "categorical"

    @property
    def scale(self) -> Scale:
        """As they are."""
        return IDENTITY

    @property
    def points(self) -> Float[NDArray, " levels"]:
        """Number of each level in the user's units: itself, if the levels are numbers in ascending order, else its
        position.
        """
        if _are_ascending_numbers(self.levels):
            return np.array([float(level) for level in self.levels])
        return np.arange(len(self.levels), dtype=np.float64)

    @property
    def has_order(self) -> bool:
        """No."""
        return False

    @property
    def holds_words(self) -> bool:
        """Yes: even of levels that are numbers, a mean means nothing without an order."""
        return True

    @property
    def is_whole(self) -> bool:
        """No: levels have points of their own."""
        return False

    @property
    def holds_integers(self) -> bool:
        """Whether all levels are integers."""
        return all(isinstance(level, (int, np.integer)) for level in self.levels)

    def learned(self, values: pd.Series, column: Hashable) -> Kind:
        """With the training rows' levels, if none were given; ValueError if there are fewer than two."""
        levels = self.levels or levels_of(values)
        _refuse_infinite(values, column, levels)
        if self.other is not None and self.other not in levels:
            levels = (*levels, self.other)
        _refuse_others(values, column, levels)
        if len(levels) < 2:
            raise ValueError(
                f"column {column!r}: expected at least two levels for kind {self.name!r}, got {shown(levels)}"
                f"{_cure_of_one_level(values, column, levels)}"
            )
        return replace(self, levels=levels)

    def of_text(self, values: pd.Series) -> pd.Series:
        """As it is."""
        return values

    def read(self, values: pd.Series, column: Hashable) -> Values:
        """Cells as their levels' numbers; ValueError for a level that is not among them."""
        index = pd.Index(self.levels, dtype=object, tupleize_cols=False)
        gaps = values.isna().to_numpy()
        if values.dtype == object:
            unhashable = np.array([not is_hashable(value) for value in values.tolist()], dtype=bool)
            refuse(unhashable, values, column, f"one of {list(self.levels)!r}")
        codes = np.array(index.get_indexer(pd.Index(values.astype(object), dtype=object, tupleize_cols=False)))
        unseen = (codes < 0) & ~gaps
        if self.other is not None:
            codes = np.where(unseen, index.get_loc(self.other), codes)
        else:
            refuse(unseen, values, column, f"one of {list(self.levels)!r}")
        return np.where(gaps, np.nan, self.points[codes])

    def nearest(self, numbers: Values) -> Values:
        """The nearest levels' numbers."""
        return self.points[self.codes(numbers)]

    def contains(self, numbers: Values) -> Bool[NDArray, "*shape"]:
        """Whether they are levels' numbers."""
        return np.isfinite(numbers) & np.isclose(self.nearest(numbers), numbers)

    def limits(self, ends: Float[NDArray, "2 rows"], *, is_whole: bool) -> Float[NDArray, "2 rows"]:
        """Bounds halfway to the first level outside."""
        halfway = np.concatenate([[-np.inf], (self.points[1:] + self.points[:-1]) / 2, [np.inf]])
        first = np.searchsorted(self.points, ends[0], side="left")
        last = np.searchsorted(self.points, ends[1], side="right")
        return np.stack([halfway[first], halfway[last]])

    def codes(self, numbers: Values) -> NDArray[np.int_]:
        """Position of the level nearest to each number."""
        middle = (self.points[1:] + self.points[:-1]) / 2
        return np.searchsorted(middle, numbers)

    def label(self, numbers: Values) -> NDArray[Any]:
        """The levels themselves."""
        labels = np.empty(len(self.levels), dtype=object)
        labels[:] = self.levels
        return labels[self.codes(numbers)]


class _Ordered(Categorical):
    """Levels whose numbers may mean something."""

    @property
    def holds_words(self) -> bool:
        """Whether a level's number is its position: levels are no numbers, or stand in another order than theirs."""
        return not _are_ascending_numbers(self.levels)


@dataclass(frozen=True)
class Binary(_Ordered):
    """One of two levels; Bernoulli given z."""

    name: ClassVar[str] = "binary"

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.levels) not in (0, 2):
            raise ValueError(f"Binary, levels: expected two, got {list(self.levels)!r}")

    @property
    def likelihood(self) -> str:
        """Bernoulli."""
        return "binary"

    @property
    def has_order(self) -> bool:
        """Whether the levels are numbers in their order."""
        return not self.holds_words

    def learned(self, values: pd.Series, column: Hashable) -> Kind:
        """With the training rows' levels, if none were given; ValueError unless there are two."""
        levels = self.levels or levels_of(values)
        count = len(levels) + (self.other is not None and self.other not in levels)
        if count > 2:
            raise ValueError(f"column {column!r}: expected two levels for kind 'binary', got {count}")
        return super().learned(values, column)


@dataclass(frozen=True)
class Ordinal(_Ordered):
    """One of several levels in their order; cumulative logit given z."""

    name: ClassVar[str] = "ordinal"

    @property
    def likelihood(self) -> str:
        """Cumulative logit."""
        return "ordinal"

    @property
    def has_order(self) -> bool:
        """Yes."""
        return True

    def learned(self, values: pd.Series, column: Hashable) -> Kind:
        """With the training rows' levels, if none were given.

        Raises:
            ValueError: If they are words, which have no order but that of the alphabet.
        """
        is_ordered = isinstance(values.dtype, pd.CategoricalDtype) and values.dtype.ordered
        levels = () if self.levels or is_ordered else levels_of(values)
        if levels and not _are_numbers(levels):
            raise ValueError(
                f"column {column!r}: expected levels in their order for kind {self.name!r}, got words without one; name"
                f" them, the lowest first: kinds={{{column!r}: Ordinal({levels!r})}}"
            )
        return super().learned(values, column)


def _cure_of_one_level(values: pd.Series, column: Hashable, levels: tuple[Any, ...]) -> str:
    """What to do with a column of one word beside blanks."""
    gaps = int(values.isna().sum())
    if not (gaps and len(levels) == 1 and isinstance(levels[0], str)):
        return ""
    return (
        f" beside {gaps} gaps. If a blank means no, as in a checkbox, put a word for it into the gaps; if one of two"
        f" answers is to be imputed, name both: kinds={{{column!r}: Binary(('no', {levels[0]!r}))}}"
    )


def _checked(levels: Any, kind: str) -> tuple[Any, ...]:
    """Levels that were declared, as a tuple.

    Raises:
        TypeError: If they are no list, or one of them cannot be a level.
        ValueError: If one is named twice, or is a gap.
    """
    if isinstance(levels, (str, Mapping, pd.DataFrame)) or not has_parts(levels):
        raise TypeError(f"{kind}, levels: expected a list of levels, got {shown(levels)}")
    found = tuple(levels)
    seen: set[Any] = set()
    for level in found:
        _check_level(level, f"{kind}, levels")
        if level in seen:
            raise ValueError(f"{kind}, levels: expected each once, got {shown(level)} twice")
        seen.add(level)
    return found


def _check_level(level: Any, what: str) -> None:
    """TypeError of what cannot be a level, ValueError of gaps and numbers that no float holds."""
    if not is_hashable(level) or isinstance(level, torch.Tensor):  # which hashes, and is equal to nothing as a whole
        raise TypeError(f"{what}: expected text, numbers, dates and the like, got {shown(level)}")
    if is_gap(level):
        raise ValueError(f"{what}: expected values, got {shown(level)}, which is a gap")
    if isinstance(level, int) and abs(level) > GREATEST:
        raise ValueError(f"{what}: expected numbers of a size up to {GREATEST:g}, got {shown(level)}")


def _refuse_others(values: pd.Series, column: Hashable, levels: tuple[Any, ...]) -> None:
    """A level that is drawn has to fit into the column: no words among numbers, no numbers among words."""
    if pd.api.types.is_numeric_dtype(values.dtype):
        expected, others = "numbers", [level for level in levels if not isinstance(level, (Number, np.bool_))]
    elif isinstance(values.dtype, pd.StringDtype):
        expected, others = "text", [level for level in levels if not isinstance(level, str)]
    else:
        return
    if others:
        raise ValueError(
            f"column {column!r}: expected levels that are {expected}, as the column's values are ({values.dtype}), got"
            f" {shown(others[0])}"
        )


def _refuse_infinite(values: pd.Series, column: Hashable, levels: tuple[Any, ...]) -> None:
    """An infinity among numbers is a mistake in the data, and no level."""
    infinite = [level for level in levels if isinstance(level, (float, np.floating)) and np.isinf(level)]
    if infinite:
        wrong = values.isin(infinite).to_numpy()
        refuse(wrong, values, column, "finite numbers")
        raise ValueError(f"column {column!r}: expected finite levels, got {infinite[0]!r}")


def _are_numbers(levels: tuple[Any, ...]) -> bool:
    return all(isinstance(level, (bool, int, float, np.bool_, np.integer, np.floating)) for level in levels)


def _are_ascending_numbers(levels: tuple[Any, ...]) -> bool:
    """Whether they are numbers that floats tell apart, each above the one before."""
    if not _are_numbers(levels):
        return False
    return bool((np.diff(np.array([float(level) for level in levels])) > 0).all())
