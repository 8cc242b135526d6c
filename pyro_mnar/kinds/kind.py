"""What a kind of column is: everything that the library asks of one.

A value passes through three stages.  *Read*: the user's cell becomes a number in the user's units (a category's number
is its position, unless the levels are numbers themselves).  *Unconstrained*: the number goes to the real line, by a
:class:`~pyro_mnar.kinds.scales.Scale`.  *Standardised*: the schema subtracts the mean and divides by the standard
deviation.  What p(X|Z) is stands in :mod:`pyro_mnar.nn.likelihoods`, under the name that ``likelihood`` gives.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from pyro_mnar.kinds.scales import Scale, Values


@runtime_checkable
class Kind(Protocol):
    """One kind of column: hashable, compared by value, a dataclass of plain fields.

    Attributes:
        name: The word for it in ``kinds={column: word}``.
        has_levels: Whether its values are only so many, which are then its ``levels``.
        is_discrete: Whether a value has a probability given z, and not a density.
        is_exponential: Whether a step on a model's line is a factor of the values, or of their mean, without an end.
    """

    name: ClassVar[str]
    has_levels: ClassVar[bool]
    is_discrete: ClassVar[bool]
    is_exponential: ClassVar[bool]

    @property
    def likelihood(self) -> str:
        """The family of p(X_d|Z), a key of ``pyro_mnar.nn.likelihoods.LIKELIHOODS``; columns of one are one pass."""
        ...

    @property
    def scale(self) -> Scale:
        """How values go to the real line and back."""
        ...

    @property
    def levels(self) -> tuple[Any, ...]:
        """Its values, if there are only so many."""
        ...

    @property
    def points(self) -> Float[NDArray, " levels"]:
        """Number of each level in the user's units, ascending; empty if there are none."""
        ...

    @property
    def has_order(self) -> bool:
        """Whether one value can be less than another."""
        ...

    @property
    def holds_words(self) -> bool:
        """Whether a value's number is only its position, so that a mean means nothing."""
        ...

    @property
    def is_whole(self) -> bool:
        """Whether it takes the whole numbers in its range and nothing between, as counts do; levels have points."""
        ...

    @property
    def holds_integers(self) -> bool:
        """Whether the user's values are integers: counts, and levels that are integers."""
        ...

    def learned(self, values: pd.Series, column: Hashable) -> Kind:
        """The same kind, with what the training rows tell of it."""
        ...

    def of_text(self, values: pd.Series) -> pd.Series:
        """A column as a CSV file gives it, made what :meth:`read` takes."""
        ...

    def read(self, values: pd.Series, column: Hashable) -> Values:
        """Cells as numbers in the user's units, NaN for gaps; ValueError naming column, row and value."""
        ...

    def nearest(self, numbers: Values) -> Values:
        """The nearest numbers that the column can take."""
        ...

    def contains(self, numbers: Values) -> Bool[NDArray, "*shape"]:
        """Whether a gap can be filled with these numbers."""
        ...

    def limits(self, ends: Float[NDArray, "2 rows"], *, is_whole: bool) -> Float[NDArray, "2 rows"]:
        """Lower and upper bounds of cells on the unconstrained scale, where the kind has no levels.

        Args:
            ends: The bounds in the user's units.
            is_whole: Whether only whole numbers come out: a bound then stands halfway to the first one outside.
        """
        ...

    def label(self, numbers: Values) -> NDArray[Any]:
        """Numbers as the user's values: levels, dates, or the numbers themselves."""
        ...


def is_near_whole(numbers: Values) -> Bool[NDArray, "*shape"]:
    """Whether numbers are whole, but for rounding."""
    return np.isclose(numbers, np.rint(numbers))
