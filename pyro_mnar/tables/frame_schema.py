"""The schema of a training frame, read column by column."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from pyro_mnar.kinds import Kind
from pyro_mnar.kinds.choice import choice_of
from pyro_mnar.kinds.identifiers import why_carried
from pyro_mnar.kinds.numbers import told_whole
from pyro_mnar.kinds.suspects import codes_among, words_among
from pyro_mnar.kinds.written import meant_by
from pyro_mnar.tables.columns import OtherColumn
from pyro_mnar.tables.moments import ROUNDING, Moments
from pyro_mnar.tables.outliers import far_values, outlier_of
from pyro_mnar.tables.resolution import check_told_apart
from pyro_mnar.tables.schema import Schema
from pyro_mnar.tables.summary import ColumnSummary, Roles, auxiliary_of, check_kind_of_auxiliary, schema_of_columns


def schema_of_frame(
    frame: pd.DataFrame,
    *,
    auxiliary: Collection[Hashable] | Literal["mask"] | None,
    kinds: Mapping[Hashable, str | Kind] | str | Kind,
    others: Sequence[OtherColumn] = (),
    stacklevel: int,
) -> Schema:
    """Read the schema off a training frame in which gaps are NaN, None or pd.NA.

    Args:
        frame: The training rows.
        auxiliary: As for :meth:`~pyro_mnar.Table.from_frame`.
        kinds: As there.
        others: The columns that are neither modelled nor auxiliary, with their roles.
        stacklevel: Of warnings, as seen from the caller.

    Raises:
        ValueError: As there.
    """
    roles = Roles.of(list(frame.columns), auxiliary, kinds, others)
    for name in roles.named:
        check_kind_of_auxiliary(roles.kinds.get(name), name)
    undeclared = [name for name in roles.modelled if roles.kinds.get(name) is None]
    meant = {name: meant_by(frame[name], name) for name in undeclared}
    reasons = {name: why for name in undeclared if (why := why_carried(frame[name], name))}
    unlearnable = {name: "; ".join(filter(None, (why, meant[name]))) for name, why in reasons.items()}
    roles = roles.without(unlearnable, stacklevel=stacklevel + 1)
    columns = [_summary(frame[name], name, roles.kinds.get(name)) for name in roles.modelled]
    _warn_of_text(roles.modelled, meant, stacklevel=stacklevel + 1)
    complete = [column.name for column in columns if column.is_complete and roles.source == "complete"]
    auxiliaries = tuple(auxiliary_of(frame[name], name, roles.kinds.get(name)) for name in (*roles.named, *complete))
    return schema_of_columns(columns, auxiliaries, roles.source, roles.others, stacklevel=stacklevel + 1)


def _warn_of_text(modelled: Sequence[Hashable], meant: Mapping[Hashable, str], *, stacklevel: int) -> None:
    """Name columns of text whose words are taken for levels, and say numbers or dates."""
    said = {name: meant[name] for name in modelled if meant.get(name)}
    if said:
        warnings.warn(
            f"taken for levels: {'; '.join(f'{name!r} ({what})' for name, what in said.items())}."
            f" kinds={{{next(iter(said))!r}: 'categorical'}} says so without a warning",
            stacklevel=stacklevel + 1,
        )


def _summary(values: pd.Series, name: Hashable, given: str | Kind | None) -> ColumnSummary:
    if not values.notna().any():
        raise ValueError(
            f"column {name!r}: expected at least one observed value, got none in {len(values)} rows;"
            f" carry=[{name!r}] keeps it as it is"
        )
    choice = choice_of(values, name, given)
    numbers = choice.kind.read(values, name)
    is_gap = np.isnan(numbers)
    seen = numbers[~is_gap]
    choice = choice._replace(kind=told_whole(choice.kind, seen))
    on_line = np.full(len(numbers), np.nan)
    on_line[~is_gap] = choice.kind.scale.unconstrained(seen)
    outlier = None if choice.kind.has_levels else outlier_of(values, numbers, on_line)
    unconstrained = on_line[~is_gap]
    if outlier is not None and choice.kind.likelihood == "student":
        unconstrained = unconstrained[~far_values(unconstrained)[0]]  # its units are those of the others
    moments = Moments.of(unconstrained)
    is_flat = moments.std == 1.0 and np.ptp(seen) <= ROUNDING * np.abs(seen).max()
    is_constant = bool(is_flat) and not choice.names_levels
    if not choice.kind.has_levels:
        check_told_apart(values, numbers, name)
    ends = float(seen.min()), float(seen.max())
    suspects: tuple[Any, ...] = ()
    if choice.kind.holds_words:
        suspects = tuple(words_among(choice.kind.levels)) if given is None else ()
    elif choice.kind.name != "datetime":
        suspects = tuple(codes_among(seen))
    return ColumnSummary(
        name, choice, moments, not is_gap.any(), Moments.of(seen), is_constant, ends, suspects, outlier
    )
