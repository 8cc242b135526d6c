"""A mechanism names its parents: which of X, Z and U cause each R."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn


class Parents(NamedTuple):
    """What causes each R_d, said of all columns at once.

    Attributes:
        own: The column's own value.
        others: The values of all other columns.
        latent: Z.
        given: What is never missing: complete columns and U.
    """

    own: bool = False
    others: bool = False
    latent: bool = False
    given: bool = False

    def names(
        self, column: Hashable, columns: Iterable[Hashable], latent: Hashable, given: Iterable[Hashable] = ()
    ) -> list[Hashable]:
        """The parents of one column's R, by name, in the order X, Z, U.

        Args:
            column: The column whose R it is.
            columns: X.
            latent: Name of Z.
            given: Names of what is never missing.
        """
        chosen = [column] if self.own else []
        if self.others:
            chosen = [name for name in columns if self.own or name != column]
        return [*chosen, *([latent] if self.latent else []), *(given if self.given else ())]


@runtime_checkable
class NamesParents(Protocol):
    """A mechanism that can say whose missingness a column's value causes.

    Where a value causes no R but its own, the models sum it out of the weight exactly; a mechanism without this method
    may see anything, so missing values are drawn.
    """

    def causes_only_own(self, columns: Sequence[int]) -> bool:
        """Whether the values of these columns cause no R but their own; by position."""
        ...


@runtime_checkable
class LinearInOwnValue(Protocol):
    """A mechanism that can say where its log-odds are linear in the column's own value, and how steep.

    The values of such columns are summed out in closed form where they are normal; a mechanism without this method is
    integrated numerically, which takes some two hundred passes of it.
    """

    def slope_in_own_value(self, columns: Sequence[int]) -> Float[Tensor, " columns"] | None:
        """Change of each R's log-odds per unit of its own value; None if it is not linear in some of these columns."""
        ...


@runtime_checkable
class NamesOwnCauses(Protocol):
    """A mechanism that can say which columns' values cause their own missingness.

    Nothing is integrated over the values of the others; without this method, every column counts as one that does.
    """

    def causes_own(self, column: int) -> bool:
        """Whether the value of this column causes its own R; by position."""
        ...


@runtime_checkable
class AddsByLevel(Protocol):
    """A mechanism that can say what each level of a column adds to the log-odds of the column's own R.

    Levels are then summed out by one pass of the mechanism; without this method, by one for each level.
    """

    def effects_of_levels(
        self, columns: Sequence[int], points: Float[Tensor, "columns levels"]
    ) -> Float[Tensor, "columns levels"] | None:
        """The effect of each level, whose points are given; None if levels do not simply add something."""
        ...


class Mechanism(nn.Module):
    """A mechanism of which all columns have parents of the same kind; subclasses declare ``parents``."""

    parents: ClassVar[Parents]

    def causes_only_own(self, columns: Sequence[int]) -> bool:
        """Whether the values of these columns cause no R but their own; by position."""
        return not self.parents.others

    def causes_own(self, column: int) -> bool:
        """Whether the value of this column causes its own R; by position."""
        return self.parents.own
