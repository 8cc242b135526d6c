"""A schema from frames that come one after another: what tells a column's kind first, its moments second."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_mnar.kinds import Kind
from pyro_mnar.kinds.choice import MOST_WORDS, ROWS_PER_LEVEL, choice_of
from pyro_mnar.kinds.reading import numbers_of
from pyro_mnar.kinds.registry import named
from pyro_mnar.tables.schema import Schema


def streamed_schema(
    frames: Callable[[], Iterable[pd.DataFrame]],
    auxiliary: Collection[Hashable] | Literal["mask"] | None,
    kinds: Mapping[Hashable, str | Kind] | str | Kind,
) -> Schema:
    """The schema of all rows, means and deviations to rounding.

    Args:
        frames: Gives all rows, frame by frame; called twice.
        auxiliary: As for :meth:`~pyro_mnar.Table.from_frame`.
        kinds: As there.
    """
    named = [] if auxiliary is None or isinstance(auxiliary, str) else list(auxiliary)
    if not isinstance(kinds, Mapping):
        names = next(iter(frames())).columns
        kinds = {name: kinds for name in names if name not in named}
    values = _values_of(frames(), kinds, named)
    choices = {
        name: choice_of(seen.example(), name, kinds.get(name))
        for name, seen in values.items()
        if seen.counts and name not in named
    }
    longest = max(len(seen.example()) for seen in values.values())
    schema = Schema.of_frame(
        pd.DataFrame({name: seen.example(longest) for name, seen in values.items()}),
        auxiliary=auxiliary,
        kinds={**kinds, **{name: choice.kind for name, choice in choices.items()}},
    )

    # A column that serves as U beside being modelled has units of its own in U: the user's, without logarithm or logit.
    of_x = {column.name: _Moments() for column in schema.columns}
    of_u = {u.name: _Moments() for u in schema.auxiliaries if not u.levels}
    for frame in frames():
        for column in schema.columns:
            numbers = column.read(frame[column.name])
            of_x[column.name].add(column.kind.scale.unconstrained(numbers[~np.isnan(numbers)]))
        for u in schema.auxiliaries:
            u.encode(frame[u.name])  # refuses holes, by name
            if u.name in of_u:
                of_u[u.name].add(numbers_of(frame[u.name], u.name))
    return replace(
        schema,
        columns=tuple(
            replace(column, because=choices[column.name].because, **of_x[column.name].units)
            for column in schema.columns
        ),
        auxiliaries=tuple(replace(u, **of_u[u.name].units) if u.name in of_u else u for u in schema.auxiliaries),
    )


@dataclass
class _Values:
    """What of a column tells its kind: dtype, different values (no more than decide), whether there are gaps."""

    dtype: Any
    most: float
    counts: Counter[Any] = field(default_factory=Counter)
    has_gaps: bool = False

    def add(self, values: pd.Series) -> None:
        observed = values.dropna()
        self.has_gaps |= len(observed) < len(values)
        if isinstance(values.dtype, pd.CategoricalDtype) and values.dtype != self.dtype:
            # Files may list different categories; all of them are the column's.
            categories = self.dtype.categories.union(values.cat.categories, sort=False)
            self.dtype = pd.CategoricalDtype(categories, ordered=self.dtype.ordered)
        if len(self.counts) <= self.most:
            self.counts.update(observed.value_counts().to_dict())
            if len(self.counts) > self.most:
                self.counts = Counter(dict(self.counts.most_common(int(self.most) + 1)))

    def example(self, rows: int = 0) -> pd.Series:
        """A short column of the same kind: every value once, the first as often as the rule of levels counts rows."""
        levels = list(self.counts)
        repeats = min(self.counts.total(), ROWS_PER_LEVEL * len(levels)) - len(levels) if levels else 0
        gaps = [None] if self.has_gaps else []
        values = [*levels, *levels[:1] * repeats, *gaps]
        padding = levels[:1] if levels else [None]
        return pd.Series([*values, *padding * max(rows - len(values), 0)], dtype=self.dtype)


def _values_of(
    frames: Iterable[pd.DataFrame], kinds: Mapping[Hashable, str | Kind], auxiliary: Collection[Hashable]
) -> dict[Hashable, _Values]:
    values: dict[Hashable, _Values] = {}
    for frame in frames:
        for name in frame.columns:
            if name not in values:
                is_words = not pd.api.types.is_numeric_dtype(frame[name].dtype)
                given = kinds.get(name)
                has_levels = given is not None and named(given, name).has_levels
                keeps_all = has_levels or (name in auxiliary and is_words)
                # Elsewhere one more than may be taken for levels decides.
                values[name] = _Values(frame[name].dtype, math.inf if keeps_all else MOST_WORDS)
            values[name].add(frame[name])
    return values


@dataclass
class _Moments:
    """Count, mean and sum of squared deviations of numbers that come in groups (Chan, Golub & LeVeque 1983)."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, numbers: NDArray[np.float64]) -> None:
        if not numbers.size:
            return
        mean, total = float(numbers.mean()), self.count + numbers.size
        step = mean - self.mean
        self.squares += float(((numbers - mean) ** 2).sum()) + step**2 * self.count * numbers.size / total
        self.mean += step * numbers.size / total
        self.count = total

    @property
    def units(self) -> dict[str, float]:
        """Mean and deviation, one for a constant column, as :class:`~pyro_mnar.tables.schema.Schema` has it."""
        std = math.sqrt(self.squares / self.count) if self.count else 0.0
        return {"mean": self.mean, "std": std if std > 1e-12 * max(abs(self.mean), 1e-300) else 1.0}
