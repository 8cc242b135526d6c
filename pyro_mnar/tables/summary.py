"""What the training rows say of each column, and the schema that follows.

Frames, sparse entries and streams are read in different ways.  Each fills one :class:`ColumnSummary` a column, and the
schema is made of those.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from pyro_mnar.kinds import Categorical, Kind, Ordinal
from pyro_mnar.kinds.choice import Choice
from pyro_mnar.kinds.identifiers import check_levels
from pyro_mnar.kinds.reading import levels_of, numbers_of
from pyro_mnar.kinds.registry import named
from pyro_mnar.messages import has_parts, is_one_of, shown
from pyro_mnar.tables.columns import Auxiliary, Column, OtherColumn
from pyro_mnar.tables.moments import Moments
from pyro_mnar.tables.outliers import Outlier, outlier_of
from pyro_mnar.tables.resolution import check_told_apart
from pyro_mnar.tables.schema import AuxiliarySource, Schema


@dataclass(frozen=True)
class ColumnSummary:
    """What the training rows say of one modelled column.

    Attributes:
        name: The frame's own label.
        choice: Its kind, and why.
        moments: Of the observed values, on the unconstrained scale.
        is_complete: Whether no value is missing.
        in_units: The same in the user's units.
        is_constant: Whether all values are the same, if that deserves a warning.
        ends: Least and greatest value in the user's units; infinite if they are not known.
        suspects: Numbers, or words, that look like codes for a missing value.
        outlier: The value farthest from the others, if it lies far from them.
    """

    name: Hashable
    choice: Choice
    moments: Moments
    is_complete: bool
    in_units: Moments
    is_constant: bool = False
    ends: tuple[float, float] = (-np.inf, np.inf)
    suspects: tuple[Any, ...] = ()
    outlier: Outlier | None = None


# What to do about an outlier, by the kind of its column; heavy-tailed columns are made for them.
_CORRECT = "correct it, make it a gap, or declare kinds={{{!r}: 'heavy_tailed'}}"
CURES = {
    "continuous": _CORRECT,
    "positive": _CORRECT,
    "count": _CORRECT,
    "zero_inflated": "correct it, or make it a gap",
}
MOST_DEVIATIONS = 10  # of a logarithm from its mean, that a draw may come to
GREATEST_LOGARITHM = 700.0  # of which the exponential is finite


class Roles(NamedTuple):
    """Which columns of a frame are modelled, and where U comes from.

    Attributes:
        modelled: Names of the columns of X.
        named: Names of the columns of U that were named.
        source: Where U comes from; ``"complete"`` whether or not there is a complete column.
        kinds: What was declared, by column.
        others: The columns that are neither, with what they are for.
    """

    modelled: list[Hashable]
    named: list[Hashable]
    source: AuxiliarySource
    kinds: Mapping[Hashable, str | Kind]
    others: tuple[OtherColumn, ...] = ()

    @classmethod
    def of(
        cls,
        names: Sequence[Hashable],
        auxiliary: Collection[Hashable] | Literal["mask"] | None,
        kinds: Mapping[Hashable, str | Kind] | str | Kind,
        others: Sequence[OtherColumn] = (),
    ) -> Roles:
        """The roles of a frame's columns; see :meth:`pyro_mnar.Table.from_frame`.

        Raises:
            ValueError: If a name is not among the columns or is given twice, or no column is left to model.
        """
        uses_mask = isinstance(auxiliary, str)  # not `==`, which a pandas Index answers entry by entry
        if not (auxiliary is None or has_parts(auxiliary)):
            raise TypeError(f"auxiliary: expected names of columns, got {shown(auxiliary)}")
        named = [] if auxiliary is None or uses_mask else list(auxiliary)
        given, known = [*named, *(kinds if isinstance(kinds, Mapping) else ()), *(o.name for o in others)], set(names)
        absent = [name for name in given if not is_one_of(name, known)]
        if absent:
            raise ValueError(f"column {absent[0]!r}: expected one of {list(names)!r}")
        if not isinstance(kinds, Mapping):
            kinds = {name: kinds for name in names if name not in named and name not in [o.name for o in others]}
        repeated = [name for at, name in enumerate(named) if name in named[:at]]
        if repeated:
            raise ValueError(
                f"auxiliary column {repeated[0]!r}: expected each name once, got it {named.count(repeated[0])} times"
            )
        _check_apart(others, named, kinds)
        modelled = [name for name in names if name not in named and name not in [other.name for other in others]]
        if not modelled:
            raise ValueError("expected at least one column to model, got auxiliary and carried columns only")
        source = "mask" if uses_mask else "complete" if auxiliary is None else "named" if named else "none"
        return cls(modelled, named, source, kinds, tuple(others))

    def without(self, reasons: Mapping[Hashable, str], *, stacklevel: int) -> Roles:
        """The same, with columns carried that no rows can teach anything of, and a warning that says so.

        Args:
            reasons: Of modelled columns, why nothing can be learned; empty where something can.
            stacklevel: Of the warning, as seen from the caller.

        Raises:
            ValueError: If no column is left to model.
        """
        carried = {name: why for name, why in reasons.items() if why}
        if not carried:
            return self
        said = "; ".join(f"{name!r} ({why})" for name, why in carried.items())
        first = next(iter(carried))
        if len(carried) == len(self.modelled):
            raise ValueError(f"expected at least one column to model, got only what rows cannot teach: {said}")
        warnings.warn(
            f"carried through, neither modelled nor used: {said}. carry={list(carried)!r} says so without a warning;"
            f" a kind, such as kinds={{{first!r}: ...}}, models it",
            stacklevel=stacklevel + 1,
        )
        return self._replace(
            modelled=[name for name in self.modelled if name not in carried],
            others=(*self.others, *(OtherColumn(name, because=why) for name, why in carried.items())),
        )


def _check_apart(
    others: Sequence[OtherColumn], named: Sequence[Hashable], kinds: Mapping[Hashable, str | Kind]
) -> None:
    """Raise ValueError if a column has two roles."""
    seen: dict[Hashable, str] = dict.fromkeys(named, "auxiliary")
    for other in others:
        if other.name in seen:
            raise ValueError(f"column {other.name!r}: expected one role, got {seen[other.name]} and {other.role}")
        if other.name in kinds:
            raise ValueError(f"column {other.name!r}: expected a kind or to be {other.role}, got both")
        seen[other.name] = other.role


def schema_of_columns(
    summaries: Sequence[ColumnSummary],
    auxiliaries: tuple[Auxiliary, ...],
    source: AuxiliarySource,
    others: tuple[OtherColumn, ...] = (),
    *,
    stacklevel: int,
) -> Schema:
    """The schema of the training rows.

    Args:
        summaries: One for each modelled column, in order.
        auxiliaries: The columns of U: those named, or all complete ones.
        source: Where U comes from; ``"complete"`` becomes ``"none"``, with a warning, where no column is complete.
        others: The columns that are neither.
        stacklevel: Of warnings, as seen from the caller.

    Raises:
        ValueError: If draws of a column would be too large for a float.
    """
    for one in summaries:
        _check_spread(one)
    complete_as_u = source == "complete"
    columns = tuple(
        Column(
            one.name,
            one.choice.kind,
            *one.moments,
            incomplete=not one.is_complete,
            is_auxiliary=complete_as_u and one.is_complete,
            because=one.choice.because,
            mean_in_units=one.in_units.mean,
            std_in_units=one.in_units.std,
            least=one.ends[0],
            greatest=one.ends[1],
            is_constant=one.is_constant,
        )
        for one in summaries
    )
    constant = [one.name for one in summaries if one.is_constant]
    if constant:
        warnings.warn(f"constant columns, kept in their own units: {constant!r}", stacklevel=stacklevel + 1)
    for what, is_word in (("numbers", False), ("words", True)):
        suspects = {
            one.name: [code if is_word else _short(code) for code in one.suspects]
            for one in summaries
            if one.suspects and one.choice.kind.holds_words == is_word
        }
        if suspects:
            warnings.warn(
                f"{what} that look like codes for a missing value: {suspects!r}; na_values={suspects!r} makes them"
                " gaps",
                stacklevel=stacklevel + 1,
            )
    for one in summaries:
        if one.outlier is not None and one.choice.kind.name in CURES:
            warnings.warn(
                one.outlier.told(one.name, CURES[one.choice.kind.name].format(one.name)), stacklevel=stacklevel + 1
            )
    if complete_as_u and not auxiliaries:
        warnings.warn(
            "no auxiliary columns were named and no column is complete: the prior of z is standard normal, so nothing"
            " identifies the latent (auxiliary='mask' is the paper's substitute, auxiliary=[] is silent)",
            stacklevel=stacklevel + 1,
        )
        source = "none"
    return Schema(columns, auxiliaries, source, others=others)


def _short(number: float) -> float:
    return int(number) if number.is_integer() else number


def _check_spread(column: ColumnSummary) -> None:
    """Refuse numbers above zero whose logarithms spread so far that draws, and their mean, would be infinite."""
    scale, moments = column.choice.kind.scale, column.moments
    is_logarithm = not scale.is_linear and np.isinf(scale.upper)
    if is_logarithm and moments.mean + MOST_DEVIATIONS * moments.std > GREATEST_LOGARITHM:
        least, greatest = column.ends
        raise ValueError(
            f"column {column.name!r}: expected numbers of fewer powers of ten for kind {column.choice.kind.name!r}, got"
            f" {least:.3g} to {greatest:.3g}, of which draws would be infinite: divide them, or model their logarithms"
        )


def check_kind_of_auxiliary(given: str | Kind | None, name: Hashable) -> None:
    """Refuse a kind that means nothing for a column of U: it is conditioned on, and has no density.

    Raises:
        ValueError: Names the column and the kinds that say something.
    """
    kind = None if given is None else named(given, name)
    if (
        kind is None
        or kind.name in ("continuous", "datetime")
        or (isinstance(kind, Categorical) and not kind.has_order)
    ):
        return
    raise ValueError(
        f"column {name!r}: an auxiliary column is conditioned on as it is: expected no kind, or 'categorical' or"
        f" 'binary' for levels, got {shown(kind.name)}"
    )


def auxiliary_of(values: pd.Series, name: Hashable, kind: str | Kind | None = None) -> Auxiliary:
    """An auxiliary column's units or levels.

    Args:
        values: The column.
        name: Its name.
        kind: What was declared, if anything: one of levels without an order says which there are, numbers or words, and
            what stands for others.

    Raises:
        ValueError: If it has holes, or more levels than rows can teach.
    """
    declared = None if kind is None else named(kind, name)
    if isinstance(declared, Categorical) and not isinstance(declared, Ordinal) and values.notna().all():
        auxiliary = _of_levels(values, name, declared)
    else:
        auxiliary = Auxiliary(name, levels=auxiliary_levels(values))
    check_levels(len(auxiliary.levels), len(values), name, "auxiliary column")
    if not auxiliary.levels:
        numbers = numbers_of(values, name)
        check_told_apart(values, numbers, name)
        auxiliary = Auxiliary(name, *Moments.of(numbers[~np.isnan(numbers)]))
        if (outlier := outlier_of(values, numbers, numbers)) is not None:
            cure = (
                "correct it, clip it, or give U by its logarithm or ranks: the others are all but one number beside it"
            )
            warnings.warn(outlier.told(name, cure), stacklevel=6)
    auxiliary.encode(values)  # refuses holes, by name
    return auxiliary


def _of_levels(values: pd.Series, name: Hashable, kind: Categorical) -> Auxiliary:
    """An auxiliary column of declared levels."""
    seen = levels_of(values)
    levels = kind.levels or seen
    if kind.other is not None and kind.other in seen:
        return Auxiliary(name, levels=levels, other=kind.other)
    levels = tuple(level for level in levels if level != kind.other or kind.other is None)
    found = Auxiliary(name, levels=levels)
    if kind.other is None:
        return found
    seen_alone = values[values.isin(list(levels))]
    return replace(found, other=kind.other, unseen=tuple(found.encode(seen_alone).mean(0).tolist()))


def auxiliary_levels(values: pd.Series) -> tuple[Any, ...]:
    """The levels of an auxiliary column, those of a category dtype in its order; empty if it holds numbers."""
    if holds_numbers(values):
        return ()
    if isinstance(values.dtype, pd.CategoricalDtype):
        return tuple(values.cat.categories)
    return tuple(sorted(set(values.dropna()), key=lambda value: (str(type(value)), value)))


def holds_numbers(values: pd.Series) -> bool:
    """Whether these are numbers or dates, by dtype or, in an object column, one by one."""
    numeric = ("integer", "floating", "mixed-integer-float", "boolean")
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        return True
    return pd.api.types.is_numeric_dtype(values.dtype) or (
        values.dtype == object and pd.api.types.infer_dtype(values, skipna=True) in numeric
    )
