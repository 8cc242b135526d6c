"""Kinds of numbers: any, with outliers, above zero, between two limits."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from pyro_mnar.kinds.kind import Kind
from pyro_mnar.kinds.reading import GREATEST, numbers_of_kind, refuse
from pyro_mnar.kinds.scales import IDENTITY, SQUEEZE, Logarithm, Logit, Scale, Values
from pyro_mnar.messages import is_finite, is_one_of, is_real, shown

LEAST_NOISE = 1e-3  # of a column's standard deviation; keeps a perfect fit from an unbounded likelihood
GREATEST_NOISE = 100.0  # of a logarithm, so that draws are finite
STEPS = 1000  # of a float between the limits of a bounded kind, at least
FEWEST_WHOLE = 3  # different values of which all are whole, for those to come to be whole
HALVES = np.array([[-0.5], [0.5]])


@dataclass(frozen=True)
class Numbers:
    """What kinds of numbers have in common."""

    name: ClassVar[str] = "numbers"
    has_levels: ClassVar[bool] = False
    is_discrete: ClassVar[bool] = False
    is_exponential: ClassVar[bool] = False

    @property
    def likelihood(self) -> str:
        """Normal."""
        return "normal"

    @property
    def scale(self) -> Scale:
        """As they are."""
        return IDENTITY

    @property
    def levels(self) -> tuple[Any, ...]:
        """None."""
        return ()

    @property
    def points(self) -> Float[NDArray, " levels"]:
        """None."""
        return np.empty(0)

    @property
    def has_order(self) -> bool:
        """Yes."""
        return True

    @property
    def holds_words(self) -> bool:
        """No."""
        return False

    @property
    def is_whole(self) -> bool:
        """No."""
        return False

    @property
    def holds_integers(self) -> bool:
        """No: whole numbers among them are a matter of the frame's dtype."""
        return False

    def learned(self, values: pd.Series, column: Hashable) -> Kind:
        """Itself: there is nothing to learn."""
        return self

    def of_text(self, values: pd.Series) -> pd.Series:
        """As it is."""
        return values

    def read(self, values: pd.Series, column: Hashable) -> Values:
        """Cells as float64."""
        return numbers_of_kind(values, column, self.name)

    def nearest(self, numbers: Values) -> Values:
        """As they are."""
        return numbers

    def contains(self, numbers: Values) -> Bool[NDArray, "*shape"]:
        """Whether they are finite and inside the limits of the scale."""
        return np.isfinite(numbers) & (numbers > self.scale.lower) & (numbers < self.scale.upper)

    def limits(self, ends: Float[NDArray, "2 rows"], *, is_whole: bool) -> Float[NDArray, "2 rows"]:
        """Bounds on the unconstrained scale, beside whole numbers halfway to the first one outside."""
        return self.scale.ends(ends + HALVES if is_whole else ends)

    def label(self, numbers: Values) -> NDArray[Any]:
        """As they are."""
        return numbers


@dataclass(frozen=True)
class Continuous(Numbers):
    """Any number; normal given z.

    Args:
        noise: Standard deviation given z, in standard deviations of the column (of its logarithm or logit, for the
            kinds that have one): a number, to fix it; ``"learned"``, for this column alone; ``"shared"``, learned once
            for all columns that say so.  A column that also serves as U learns none: z could copy u.
        whole: Whether draws are whole numbers; by default if the training rows hold three or more different values and
            all are whole, whatever their dtype.  Means are means all the same.
    """

    _: KW_ONLY
    noise: float | str = "learned"
    whole: bool | None = None
    name: ClassVar[str] = "continuous"

    def __post_init__(self) -> None:
        given = self.noise
        if not is_one_of(given, ("learned", "shared")) and not (
            is_real(given) and LEAST_NOISE < given <= GREATEST_NOISE
        ):
            expected = f"'learned', 'shared' or more than {LEAST_NOISE} standard deviations, at most {GREATEST_NOISE:g}"
            raise ValueError(f"{type(self).__name__}, noise: expected {expected}, got {shown(given)}")
        if self.whole is not None and not isinstance(self.whole, (bool, np.bool_)):
            raise TypeError(f"{type(self).__name__}, whole: expected True, False or None, got {shown(self.whole)}")

    @property
    def is_whole(self) -> bool:
        """Whether draws are whole."""
        return bool(self.whole)

    def nearest(self, numbers: Values) -> Values:
        """The nearest whole numbers, if these are whole."""
        return np.rint(numbers) if self.is_whole else numbers


@dataclass(frozen=True)
class HeavyTailed(Continuous):
    """Any number, with outliers; Student's t given z, its degrees of freedom learned."""

    name: ClassVar[str] = "heavy_tailed"

    @property
    def likelihood(self) -> str:
        """Student's t."""
        return "student"


@dataclass(frozen=True)
class Positive(Continuous):
    """Numbers above zero; log-normal given z.  Means are means of the values, not of their logarithms."""

    name: ClassVar[str] = "positive"
    is_exponential: ClassVar[bool] = True

    @property
    def scale(self) -> Scale:
        """Logarithm."""
        return Logarithm()

    def read(self, values: pd.Series, column: Hashable) -> Values:
        """Cells as float64; ValueError if one is not above zero."""
        numbers = numbers_of_kind(values, column, self.name)
        refuse(numbers <= 0, values, column, "numbers above 0 (kind 'positive')")
        return numbers

    def nearest(self, numbers: Values) -> Values:
        """The nearest whole numbers from 1, if these are whole."""
        return np.maximum(np.rint(numbers), 1.0) if self.is_whole else numbers


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
        ends = self.lower, self.upper
        if not (all(map(is_finite, ends)) and self.lower < self.upper):
            raise ValueError(
                f"Bounded: expected finite limits, lower below upper, got {shown(self.lower)} and {shown(self.upper)}"
            )
        lower, upper = float(self.lower), float(self.upper)
        if not STEPS * np.spacing(max(abs(lower), abs(upper))) <= upper - lower <= GREATEST:
            raise ValueError(
                f"Bounded: expected limits with numbers between them, at most {GREATEST:g} apart, got {lower!r} and"
                f" {upper!r}"
            )

    @property
    def scale(self) -> Scale:
        """Logit of the share of the range."""
        return Logit(self.lower, self.upper)

    def learned(self, values: pd.Series, column: Hashable) -> Kind:
        """Itself; ValueError if most values are so near to a limit that they count as one."""
        seen = np.unique(self.read(values, column))
        inside = seen[(seen > self.lower) & (seen < self.upper)]
        share = (inside - self.lower) / (self.upper - self.lower)
        at_ends = int(((share < SQUEEZE) | (share > 1 - SQUEEZE)).sum())
        if len(inside) > 1 and 2 * at_ends > len(inside):
            raise ValueError(
                f"column {column!r}: expected limits that tell its values apart (kind 'bounded'), got {self.lower:g}"
                f" and {self.upper:g}, where {at_ends} of {len(inside)} different values from {inside[0]:g} to"
                f" {inside[-1]:g} count as one, {SQUEEZE:.2%} of the range from a limit: give nearer limits, or the"
                " kind 'positive', which needs none above"
            )
        return self

    def read(self, values: pd.Series, column: Hashable) -> Values:
        """Cells as float64; ValueError if one lies outside."""
        numbers = numbers_of_kind(values, column, self.name)
        outside = (numbers < self.lower) | (numbers > self.upper)
        refuse(outside, values, column, f"numbers from {self.lower} to {self.upper} (kind 'bounded')")
        return numbers

    def nearest(self, numbers: Values) -> Values:
        """The nearest whole numbers inside, if these are whole."""
        if not self.is_whole:
            return numbers
        return np.clip(np.rint(numbers), math.ceil(self.lower), math.floor(self.upper))


def told_whole(kind: Kind, numbers: Float[NDArray, " numbers"]) -> Kind:
    """The same kind, of whole numbers if all that was seen are and nobody said otherwise.

    Two values tell nothing: -1 and 1 may stand for any number between.

    Args:
        kind: Of a column, or of several that share their units.
        numbers: What was seen.
    """
    if getattr(kind, "whole", False) is not None or not (numbers == np.rint(numbers)).all():
        return kind
    return replace(kind, whole=True) if len(np.unique(numbers)) >= FEWEST_WHOLE else kind  # pyright: ignore
