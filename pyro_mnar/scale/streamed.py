"""A schema from frames that come one after another: what tells a column's kind first, its moments second."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from pyro_mnar.kinds import Kind
from pyro_mnar.kinds.choice import Choice, Shape, choice_of
from pyro_mnar.kinds.identifiers import FEW_LEVELS, MOST_WORDS, check_levels, counts_rows, why_carried
from pyro_mnar.kinds.numbers import told_whole
from pyro_mnar.kinds.reading import numbers_of
from pyro_mnar.kinds.registry import named
from pyro_mnar.messages import names_of
from pyro_mnar.tables.columns import Auxiliary, OtherColumn
from pyro_mnar.tables.moments import RunningMoments, RunningSkewness
from pyro_mnar.tables.schema import Schema
from pyro_mnar.tables.summary import ColumnSummary, Roles, auxiliary_levels, holds_numbers, schema_of_columns


def streamed_schema(
    frames: Callable[[], Iterable[pd.DataFrame]],
    auxiliary: Collection[Hashable] | Literal["mask"] | None,
    kinds: Mapping[Hashable, str | Kind] | str | Kind,
    carry: Collection[Hashable] = (),
    *,
    stacklevel: int,
) -> Schema:
    """The schema of all rows, means and deviations to rounding.

    Args:
        frames: Gives all rows, frame by frame, and again at each call.
        auxiliary: As for :meth:`~pyro_mnar.Table.from_frame`.
        kinds: As there.
        carry: As there.
        stacklevel: Of warnings, as seen from the caller.
    """
    others = [OtherColumn(name) for name in names_of("carry", carry)]
    roles = Roles.of(list(next(iter(frames())).columns), auxiliary, kinds, others)
    seen = _values_of(frames(), roles)
    unlearnable = {name: seen[name].why_carried(name) for name in roles.modelled if roles.kinds.get(name) is None}
    roles = roles.without(unlearnable, stacklevel=stacklevel + 1)
    choices = {name: seen[name].choice(name, roles.kinds.get(name)) for name in roles.modelled}
    complete = [name for name in roles.modelled if roles.source == "complete" and not seen[name].num_gaps]
    auxiliaries = [Auxiliary(name, levels=auxiliary_levels(seen[name].values())) for name in (*roles.named, *complete)]
    for u in auxiliaries:
        check_levels(len(u.levels), seen[u.name].num_observed, u.name, "auxiliary column")

    # A column that serves as U beside being modelled has units of its own in U: the user's, without logarithm or logit.
    of_x, in_user_units = ({name: RunningMoments() for name in choices} for _ in range(2))
    ends = dict.fromkeys(choices, (math.inf, -math.inf))
    of_u = {u.name: RunningMoments() for u in auxiliaries if not u.levels}
    for frame in frames():
        for name, (kind, _) in choices.items():
            numbers = kind.read(frame[name], name)
            numbers = numbers[~np.isnan(numbers)]
            of_x[name].add(kind.scale.unconstrained(numbers))
            in_user_units[name].add(numbers)
            if numbers.size:
                ends[name] = min(ends[name][0], float(numbers.min())), max(ends[name][1], float(numbers.max()))
        for u in auxiliaries:
            u.encode(frame[u.name])  # refuses holes, by name
            if u.name in of_u:
                of_u[u.name].add(numbers_of(frame[u.name], u.name))
    columns = [
        ColumnSummary(
            name,
            choice,
            of_x[name].moments,
            not seen[name].num_gaps,
            in_user_units[name].moments,
            _is_constant(seen[name], choice),
            ends[name],
        )
        for name, choice in choices.items()
    ]
    in_units = tuple(replace(u, **of_u[u.name].moments._asdict()) if u.name in of_u else u for u in auxiliaries)
    return schema_of_columns(columns, in_units, roles.source, roles.others, stacklevel=stacklevel + 1)


@dataclass
class _Values:
    """What of a column tells its kind: dtype, different values (no more than decide), how many values and gaps."""

    dtype: Any
    most: float
    counts: Counter[Any] = field(default_factory=Counter)
    num_observed: int = 0
    num_gaps: int = 0
    first: int | None = None  # value, as long as whole numbers count the rows from it
    fraction: Any = None  # a value that is not whole, if there was one
    least: float = math.inf
    spread: RunningSkewness = field(default_factory=RunningSkewness)
    log_spread: RunningSkewness = field(default_factory=RunningSkewness)

    def add(self, values: pd.Series) -> None:
        observed = values.dropna()
        if not self.num_observed and len(observed) and pd.api.types.is_integer_dtype(values.dtype):
            self.first = int(observed.iloc[0])
        if len(observed) < len(values) or not self._counts(observed):
            self.first = None
        self.num_observed += len(observed)
        if not isinstance(values.dtype, pd.CategoricalDtype) and holds_numbers(values):
            self._add_numbers(observed)
        self.num_gaps += len(values) - len(observed)
        if isinstance(values.dtype, pd.CategoricalDtype) and values.dtype != self.dtype:
            # Files may list different categories; all of them are the column's.
            categories = self.dtype.categories.union(values.cat.categories, sort=False)
            self.dtype = pd.CategoricalDtype(categories, ordered=self.dtype.ordered)
        if len(self.counts) <= self.most:
            counts = observed.value_counts()
            self.counts.update(counts[counts > 0].to_dict())  # a category without a row has a count of zero
            if len(self.counts) > self.most:
                self.counts = Counter(dict(self.counts.most_common(int(self.most) + 1)))

    def values(self) -> pd.Series:
        """Every value once, and a gap if there was one."""
        kept = [self.fraction] if self.fraction is not None and self.fraction not in self.counts else []
        return pd.Series([*self.counts, *kept, *([None] if self.num_gaps else [])], dtype=self.dtype)

    def _add_numbers(self, observed: pd.Series) -> None:
        numbers = numbers_of(observed, observed.name)
        fractions = numbers != np.rint(numbers)
        if self.fraction is None and fractions.any():
            self.fraction = observed.iloc[int(fractions.argmax())]
        self.least = min(self.least, float(numbers.min(initial=math.inf)))
        self.spread.add(numbers)
        if self.least > 0:
            self.log_spread.add(np.log(numbers))

    def _shape(self) -> Shape:
        log_skewness = self.log_spread.skewness if self.least > 0 else 0.0
        return Shape(self.spread.count, self.least, self.spread.skewness, log_skewness)

    def _counts(self, observed: pd.Series) -> bool:
        return self.first is not None and counts_rows(observed, self.first, self.num_observed)

    def why_carried(self, name: Hashable) -> str:
        """As for a frame, but for identifiers by name among more numbers than are kept."""
        if self.first is not None and self.num_observed > FEW_LEVELS and not self.num_gaps:
            return why_carried(pd.Series(np.arange(self.first, self.first + self.num_observed)), name)
        return why_carried(self.values(), name, num_observed=self.num_observed)

    def choice(self, name: Hashable, given: str | Kind | None) -> Choice:
        if not self.num_observed:
            raise ValueError(f"column {name!r}: expected at least one observed value, got none in {self.num_gaps} rows")
        values = self.values()
        choice = choice_of(values, name, given, num_observed=self.num_observed, shape=self._shape())
        numbers = choice.kind.read(values, name)
        return choice._replace(kind=told_whole(choice.kind, numbers[~np.isnan(numbers)]))


def _is_constant(seen: _Values, choice: Choice) -> bool:
    return len(seen.counts) == 1 and not choice.names_levels


def _values_of(frames: Iterable[pd.DataFrame], roles: Roles) -> dict[Hashable, _Values]:
    values: dict[Hashable, _Values] = {}
    for frame in frames:
        for name in frame.columns:
            if name not in values:
                is_words = not pd.api.types.is_numeric_dtype(frame[name].dtype)
                given = roles.kinds.get(name)
                has_levels = given is not None and named(given, name).has_levels
                keeps_all = has_levels or (name in roles.named and is_words)
                # Elsewhere one more than may be taken for levels decides.
                values[name] = _Values(frame[name].dtype, math.inf if keeps_all else MOST_WORDS)
            values[name].add(frame[name])
    return values
