"""A frame with gaps to standardised tensors; :meth:`pyro_mnar.Table.from_frame` says what its options mean."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from pyro_mnar.kinds import Kind, Ordinal
from pyro_mnar.kinds.reading import row_label
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.blocks import blocks_of
from pyro_mnar.tables.bounds import ENDS, Bounds, CellBounds, check_bounds, of_columns
from pyro_mnar.tables.columns import Column, OtherColumn
from pyro_mnar.tables.completion import completed
from pyro_mnar.tables.constraints import RowConstraint, checked
from pyro_mnar.tables.dense import DenseStorage
from pyro_mnar.tables.derived import Derived, derived_of, solved
from pyro_mnar.tables.derived_arguments import following, warn_of_unused
from pyro_mnar.tables.formula_evidence import check_formula
from pyro_mnar.tables.frame_schema import schema_of_frame
from pyro_mnar.tables.frames import (
    Cells,
    by_column,
    check_frame,
    check_types,
    known_codes,
    match_columns,
    read_gaps,
    read_once,
)
from pyro_mnar.tables.native_frames import as_native, as_pandas
from pyro_mnar.tables.row_checks import check_rows
from pyro_mnar.tables.schema import Schema
from pyro_mnar.tables.skip_patterns import divided, statuses
from pyro_mnar.tables.survey import WEIGHTS, design_columns, design_of, has_design


def encoded(
    frame: Any,
    *,
    auxiliary: Collection[Hashable] | Literal["mask"] | None,
    kinds: Mapping[Hashable, str | Kind] | str | Kind | None,
    na_values: Mapping[Hashable, Any] | None,
    not_applicable: Cells | None,
    by_design: Cells | None,
    lower: CellBounds | None,
    upper: CellBounds | None,
    constraints: Sequence[RowConstraint],
    carry: Collection[Hashable],
    derived: Mapping[Any, Any] | None,
    standardize: bool | Mapping[Hashable, bool],
    weights: Hashable | None,
    cluster: Hashable | None,
    strata: Hashable | None,
    schema: Schema | None,
    dtype: torch.dtype | None,
) -> tuple[Schema, DenseStorage]:
    """The schema of a frame, unless one is given, and all its cells.

    Arguments, their defaults and errors are those of :meth:`Table.from_frame <pyro_mnar.Table.from_frame>`.
    """
    frame, native = as_pandas(frame)
    auxiliary, carry = read_once(auxiliary), read_once(carry)
    check_frame(frame, auxiliary, carry)
    check_types(standardize, schema, dtype)
    constraints = checked(constraints)
    reasons = {"na_values": na_values, "not_applicable": not_applicable, "by_design": by_design}
    given = {reason: by_column(cells, reason) for reason, cells in reasons.items()}
    given["not_applicable"], skips = divided(given["not_applicable"], frame)
    formulas = derived_of(derived, frame)
    if schema is not None:
        match_columns(frame, schema)
        for reason, cells in given.items():  # columns that are neither X nor U may be absent
            known = {name: codes for name, codes in schema.codes_of(reason).items() if name in frame.columns}
            given[reason] = {**known, **cells}
        skips = tuple({skip.column: skip for skip in (*schema.skips, *skips)}.values())
        formulas = schema.derived
    gaps, codes, absent = read_gaps(frame, **given)
    is_training = schema is None
    others = [OtherColumn(name) for name in dict.fromkeys(carry)] + design_columns(weights, cluster, strata)
    others += [OtherColumn(one.column, "derived", str(one.formula)) for one in formulas]
    filled = _solved(formulas, gaps, schema, {*(o.name for o in others), *_named(auxiliary)})
    for name, values in filled.items():
        column, rows = gaps[name].copy(), np.flatnonzero(~np.isnan(values))
        whole = pd.api.types.is_integer_dtype(column.dtype)
        column.iloc[rows] = np.rint(values[rows]).astype(np.int64) if whole else values[rows]
        gaps[name] = column
    if schema is None:
        for end, cells in zip(ENDS, (lower, upper), strict=True):
            check_bounds(end, cells)
        kinds = _with_bounded_levels({} if kinds is None else kinds, gaps, {*(lower or {}), *(upper or {})})
        schema = schema_of_frame(gaps, auxiliary=auxiliary, kinds=kinds, others=others, stacklevel=3)
        schema = replace(
            schema,
            codes=known_codes(frame, given),
            bounds=of_columns(lower, upper, schema),
            constraints=constraints,
            columns=_in_own_units(schema, standardize),
            skips=skips,
            derived=formulas,
        )
    elif constraints:
        raise ValueError("constraints: new rows keep those of the training table; give others to impute")
    found = statuses(skips, gaps, schema.names)
    for name, status in found.items():
        inapplicable, designed = absent.get(name, (np.zeros_like(status.sure), np.zeros_like(status.sure)))
        absent[name] = (inapplicable | status.sure, designed)
    for name in absent:
        if name not in schema.names:
            others = {other.name: other.role for other in schema.others}
            raise ValueError(
                f"column {name!r}: a column that is {others[name]} is not imputed, so its gaps need no reasons"
                if name in others
                else f"column {name!r}: an auxiliary column has a value in every row, so no reasons for gaps"
            )

    dtype = dtype or torch.get_default_dtype()
    numbers = np.stack([c.read(gaps[c.name]) for c in schema.columns], axis=1)
    values = np.stack([c.encode(numbers[:, at]) for at, c in enumerate(schema.columns)], axis=1)
    mask = ~np.isnan(values)
    applicable, modelled = np.ones_like(mask), np.ones_like(mask)
    for name, (inapplicable, designed) in absent.items():
        column = schema.names.index(name)
        applicable[:, column] &= ~inapplicable
        modelled[:, column] &= ~(inapplicable | designed)
        if name in found:  # whether there is a value to withhold is known only where there is one: score neither
            modelled[:, column] &= ~found[name].open
    unfilled, (frame, is_filled) = frame, _with_filled(frame, schema, filled)
    if native is not None and is_filled.any():
        native = as_pandas(as_native(native, unfilled, frame, list(filled)))[1]
    modelled &= ~is_filled  # the mechanism saw a gap, whatever became of it
    unused = following(schema, frame, mask, ~mask & applicable, schema.constraints)
    warn_of_unused(unused, frame, stacklevel=4)

    check_rows(schema.constraints, frame, numbers, schema)
    bounds = Bounds.of_frame(frame, numbers, schema, lower, upper, dtype)
    rows = Batch(
        x=torch.from_numpy(np.where(mask, values, 0.0)).to(dtype),
        mask=torch.from_numpy(mask),
        mask_modelled=torch.from_numpy(modelled),
        aux=_aux(schema, gaps, mask, dtype),
        index=torch.arange(len(frame)),
        size=len(frame),
        incomplete=_incomplete(schema),
        names=schema.names,
        weight=_weight(frame, schema, dtype),
    )
    storage = DenseStorage(rows, frame.copy(deep=False), torch.from_numpy(applicable), codes, native=native)
    if bounds is not None:
        schema = _without_answered(schema, mask | bounds.answered) if is_training else schema
        storage = storage.bounded(bounds, _incomplete(schema))
    return _with_blocks(schema, storage, values) if is_training else schema, storage


def encoded_bounds(
    schema: Schema, storage: DenseStorage, lower: CellBounds | None, upper: CellBounds | None
) -> tuple[Schema, DenseStorage]:
    """The same rows with bounds of single gaps; see :meth:`pyro_mnar.Table.bounded`."""
    if storage.bounds is not None:
        raise ValueError("table: expected gaps without bounds, got some with")
    for end, cells in (("lower", lower), ("upper", upper)):
        check_bounds(end, cells)
        whole = [name for name, entry in (cells or {}).items() if pd.api.types.is_scalar(entry)]
        if whole:
            raise ValueError(f"{end} of column {whole[0]!r}: expected one bound a row, got one for all")
    mask, frame = storage.mask.numpy(), storage.frame
    seen = [column.read(frame[column.name].where(mask[:, at])) for at, column in enumerate(schema.columns)]
    bounds = Bounds.of_frame(frame, np.stack(seen, axis=1), schema, lower, upper, storage.rows.dtype)
    if bounds is None:
        return schema, storage
    schema = _without_answered(schema, mask | bounds.answered)
    return schema, storage.bounded(bounds, _incomplete(schema))


def _named(auxiliary: Collection[Hashable] | str | None) -> Collection[Hashable]:
    return () if auxiliary is None or isinstance(auxiliary, str) else auxiliary


def _solved(
    formulas: Sequence[Derived], gaps: pd.DataFrame, schema: Schema | None, others: Collection[Hashable]
) -> dict[Hashable, NDArray[np.float64]]:
    """Values of modelled columns that follow from derived ones, by column, NaN elsewhere."""
    for one in formulas:
        if one.column in gaps.columns:
            check_formula(one, gaps, is_training=schema is None, stacklevel=5)
    modelled = [name for name in gaps.columns if name not in others] if schema is None else schema.names
    return solved(formulas, gaps, modelled, {column.name: column for column in schema.columns} if schema else {})


def _with_filled(
    frame: pd.DataFrame, schema: Schema, filled: Mapping[Hashable, NDArray[np.float64]]
) -> tuple[pd.DataFrame, NDArray[np.bool_]]:
    """The user's frame with values in some of its gaps, and where they are."""
    is_filled = np.zeros((len(frame), len(schema.columns)), dtype=bool)
    numbers = np.full(is_filled.shape, np.nan)
    for name, values in filled.items():
        at = schema.names.index(name)
        is_filled[:, at], numbers[:, at] = ~np.isnan(values), values
    if not is_filled.any():
        return frame, is_filled
    cells = np.stack(np.nonzero(is_filled))
    return completed(frame, schema, cells, numbers[tuple(cells)], keep_integers=True), is_filled


def _in_own_units(schema: Schema, standardize: bool | Mapping[Hashable, bool]) -> tuple[Column, ...]:
    """The columns, those that are not to be standardised with mean 0 and standard deviation 1."""
    wanted = standardize if isinstance(standardize, Mapping) else dict.fromkeys(schema.names, standardize)
    absent = [name for name in wanted if name not in schema.names]
    if absent:
        raise ValueError(f"standardize: expected modelled columns, {schema.names!r}, got {absent[0]!r}")
    return tuple(c if wanted.get(c.name, True) else replace(c, mean=0.0, std=1.0) for c in schema.columns)


def _with_bounded_levels(
    kinds: Mapping[Hashable, str | Kind] | str | Kind, gaps: pd.DataFrame, bounded: Collection[Hashable]
) -> Mapping[Hashable, str | Kind] | str | Kind:
    """Kinds in which ordered categories with bounds have all their levels: a gap may lie beyond any that was seen."""
    asked = {
        name: Ordinal(tuple(gaps[name].cat.categories))
        for name in gaps.columns
        if name in bounded and isinstance(gaps[name].dtype, pd.CategoricalDtype) and gaps[name].cat.ordered
    }
    return {**asked, **kinds} if isinstance(kinds, Mapping) else kinds


def _aux(
    schema: Schema, gaps: pd.DataFrame, mask: NDArray[np.bool_], dtype: torch.dtype
) -> Float[Tensor, "rows auxiliaries"]:
    if schema.auxiliary_source == "mask":
        # Of a column that was complete in training the model never saw a 0 here, and has learned nothing of one.
        return torch.from_numpy(mask | ~_incomplete(schema).numpy()).to(dtype)
    _check_complete(schema, gaps)
    columns = [auxiliary.encode(gaps[auxiliary.name]) for auxiliary in schema.auxiliaries]
    return torch.from_numpy(np.concatenate([np.zeros((len(gaps), 0)), *columns], axis=1)).to(dtype)


def _check_complete(schema: Schema, gaps: pd.DataFrame) -> None:
    """Refuse gaps in columns that were complete in training, and so serve as U: nothing says how z hangs on a gap."""
    with_gaps = [c.name for c in schema.columns if c.is_auxiliary and gaps[c.name].isna().any()]
    if not with_gaps:
        return
    name = with_gaps[0]
    row = row_label(gaps, int(gaps[name].isna().to_numpy().argmax()))
    left = [c.name for c in schema.columns if c.is_auxiliary and c.name not in with_gaps]
    raise ValueError(
        f"column {name!r}: was complete in training, so it serves as U, and has a gap in row {row!r}; name the columns"
        f" that are always complete, Table.from_frame(training_rows, auxiliary={left!r}), and fit anew: the others are"
        " then imputed"
    )


def _with_blocks(schema: Schema, storage: DenseStorage, values: NDArray[np.float64]) -> Schema:
    found = blocks_of((~storage.mask & storage.rows.mask_modelled).numpy(), values)
    return replace(schema, blocks=tuple(tuple(schema.names[at] for at in block) for block in found))


def _weight(frame: pd.DataFrame, schema: Schema, dtype: torch.dtype) -> Float[Tensor, " rows"] | None:
    if not has_design(schema):
        return None
    weight = design_of(frame, schema).weight  # refuses gaps in any column of the design
    return torch.from_numpy(weight).to(dtype) if schema.names_of(WEIGHTS) else None


def _incomplete(schema: Schema) -> Bool[Tensor, " columns"]:
    return torch.tensor([column.incomplete for column in schema.columns])


def _without_answered(schema: Schema, told: NDArray[np.bool_]) -> Schema:
    """A column each of whose gaps has an answer, if a rough one, does not go missing and needs no mechanism."""
    columns = [
        replace(column, incomplete=column.incomplete and not bool(told[:, at].all()))
        for at, column in enumerate(schema.columns)
    ]
    return replace(schema, columns=tuple(columns))
