"""Reading sparse tables: scipy matrices whose explicit entries are values, and long frames of (row, column, value)."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from pyro_mnar.kinds.reading import cell
from pyro_mnar.messages import has_parts, is_hashable, is_one_of, shown
from pyro_mnar.tables.compressed import Compressed, SparseRows
from pyro_mnar.tables.frames import check_types
from pyro_mnar.tables.positions import LongNames, located, positions_of, refuse_duplicates
from pyro_mnar.tables.schema import Schema
from pyro_mnar.tables.sparse import BY_DESIGN, MOST_DENSE_CELLS, NOT_APPLICABLE, SparseStorage
from pyro_mnar.tables.sparse_schema import SHOWN, Kinds, RawEntries, Units, schema_of_entries, standardised
from pyro_mnar.tables.summary import auxiliary_of

AuxiliaryColumns = pd.DataFrame | Collection[Hashable] | Literal["mask"] | None

SourceOfU = Any  # a DataFrame, a list of names, "mask" or None; pandas has no types by which to tell them apart


@dataclass(frozen=True)
class Reading:
    """How entries become a table; see :meth:`pyro_mnar.Table.from_sparse`."""

    auxiliary: AuxiliaryColumns = None
    kinds: Kinds = None
    units: Units = "columns"
    by_design: Any = None
    not_applicable: Any = None
    schema: Schema | None = None
    dtype: torch.dtype | None = None
    most_dense_cells: int = MOST_DENSE_CELLS

    def __post_init__(self) -> None:
        if isinstance(self.auxiliary, str) and self.auxiliary != "mask":
            raise TypeError(f"auxiliary: expected a DataFrame, names of columns or 'mask', got {shown(self.auxiliary)}")
        if not is_one_of(self.units, ("columns", "table")):
            raise ValueError(f"units: expected 'columns' or 'table', got {shown(self.units)}")
        check_types(True, self.schema, self.dtype)
        if isinstance(self.most_dense_cells, bool) or not isinstance(self.most_dense_cells, (int, np.integer)):
            raise TypeError(f"most_dense_cells: expected a whole number, got {shown(self.most_dense_cells)}")

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Reading:
        """From the options of a call; TypeError for one that is none."""
        known = [one.name for one in fields(cls)]
        for name in options:
            if name not in known:
                raise TypeError(f"{name}: expected one of the options {known!r}")
        return cls(**options)

    def source_of_u(self) -> SourceOfU:
        """Where U comes from; a training table's mask, or its having none, is not asked for again."""
        if self.schema is not None and self.schema.auxiliary_source in ("mask", "none"):
            return "mask" if self.schema.auxiliary_source == "mask" else []
        if self.auxiliary is None or isinstance(self.auxiliary, pd.DataFrame):
            return self.auxiliary
        return "mask" if isinstance(self.auxiliary, str) else list(self.auxiliary)


def read_matrix(
    matrix: Any, rows: Iterable[Hashable] | None, columns: Iterable[Hashable] | None, reading: Reading
) -> tuple[Schema, SparseStorage]:
    """See :meth:`pyro_mnar.Table.from_sparse`."""
    if not hasattr(matrix, "tocoo"):
        raise TypeError(f"matrix: expected a scipy sparse matrix, got {type(matrix).__name__}")
    if len(matrix.shape) != 2:
        raise ValueError(f"matrix: expected shape (rows, columns), got {tuple(matrix.shape)}")
    num_rows, num_columns = matrix.shape
    auxiliary = reading.source_of_u()
    if isinstance(auxiliary, pd.DataFrame):
        if len(auxiliary) != num_rows:
            raise ValueError(f"auxiliary: expected a line for each of {num_rows} rows, got {len(auxiliary)}")
        if rows is not None:
            auxiliary = auxiliary.set_axis(_labels(rows, num_rows, "rows"), axis=0)
    row_labels = auxiliary.index if isinstance(auxiliary, pd.DataFrame) else _labels(rows, num_rows, "rows")
    names = _labels(columns, num_columns, "columns")
    entries = matrix.tocoo()
    raw = RawEntries(
        entries.row.astype(np.int64),
        entries.col.astype(np.int64),
        pd.Series(entries.data, index=row_labels[entries.row]),
        num_rows,
        names.tolist(),
    )
    return _assembled(raw, row_labels, auxiliary, LongNames(), reading)


def read_long(
    frame: pd.DataFrame,
    names: LongNames,
    rows: Iterable[Hashable] | None,
    columns: Iterable[Hashable] | None,
    reading: Reading,
) -> tuple[Schema, SparseStorage]:
    """See :meth:`pyro_mnar.Table.from_long`."""
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"frame: expected a pandas DataFrame, got {type(frame).__name__}")
    for what, name in names._asdict().items():
        if not is_one_of(name, frame.columns):
            raise ValueError(f"{what}: expected one of {list(frame.columns)!r}, got {shown(name)}")
        if what != "value" and frame[name].isna().any():
            line = int(frame[name].isna().to_numpy().argmax())
            raise ValueError(f"{what} {name!r}: expected a label in every line, got none in line {line}")
        if what != "value" and frame[name].dtype == object:
            for line, label in enumerate(frame[name]):
                if not is_hashable(label):
                    raise ValueError(f"{what} {name!r}: expected a label, got {shown(label)} in line {line}")
    if len(set(names)) < len(names):
        raise ValueError(f"row, column, value: expected three columns, got {list(names)!r}")
    auxiliary = reading.source_of_u()
    of_lines: list[Hashable] = auxiliary if isinstance(auxiliary, list) else []
    of_rows: Any = auxiliary if isinstance(auxiliary, pd.DataFrame) else None
    if reading.schema is not None:
        columns = [*reading.schema.names, *(name for name in of_lines if not is_one_of(name, frame.columns))]
    if rows is None and of_rows is not None:
        rows = of_rows.index
    row_codes, row_labels = _coded(frame[names.row], rows, f"row ({names.row})")
    column_codes, column_labels = _coded(frame[names.column], columns, f"column ({names.column})")
    if of_rows is not None:
        auxiliary = _by_row(of_rows, row_labels)
    elif of_lines and all(is_one_of(name, frame.columns) for name in of_lines):
        auxiliary = _one_a_row(frame[of_lines], row_codes, row_labels)
    given = frame[names.value]
    values = pd.Series(given.array, index=row_labels[row_codes], name=names.value, dtype=given.dtype)
    raw = RawEntries(row_codes, column_codes, values, len(row_labels), column_labels.tolist())
    return _assembled(raw, row_labels, auxiliary, names, reading)


def _assembled(
    raw: RawEntries, row_labels: pd.Index, auxiliary: SourceOfU, names: LongNames, reading: Reading
) -> tuple[Schema, SparseStorage]:
    if pd.api.types.is_complex_dtype(raw.values.dtype):
        raise ValueError("entries: expected numbers, got complex ones")
    refuse_duplicates(row_labels, list(raw.names), raw.rows, raw.columns, "entries")
    raw = raw.at(raw.values.notna().to_numpy())  # a gap that is spelled out is a gap
    raw = raw.at(np.lexsort((raw.columns, raw.rows)))
    if isinstance(auxiliary, list) and auxiliary:
        raw, auxiliary = _taken_out(raw, auxiliary, row_labels)
    of_rows: Any = auxiliary if isinstance(auxiliary, pd.DataFrame) else None

    schema = reading.schema
    if schema is None:
        named: Any = () if isinstance(auxiliary, list) else auxiliary
        if of_rows is not None:
            named = tuple(auxiliary_of(of_rows[name], name) for name in of_rows.columns)
        schema = schema_of_entries(raw, auxiliaries=named, kinds=reading.kinds, units=reading.units)
    elif list(raw.names) != schema.names:
        expected, got = schema.names[:SHOWN], list(raw.names)[:SHOWN]
        raise ValueError(f"columns: expected the training table's, {expected!r}, ..., got {shown(got)}, ...")

    dtype = reading.dtype or torch.get_default_dtype()
    x = torch.from_numpy(standardised(raw, schema)).to(dtype)
    rows = SparseRows(
        Compressed.of(raw.rows, raw.columns, x, raw.num_rows),
        Compressed.of(raw.rows[:0], raw.columns[:0], torch.zeros(0, dtype=torch.uint8), raw.num_rows),
        _aux(schema, of_rows, raw, dtype),
        torch.tensor([column.incomplete for column in schema.columns]),
        tuple(schema.names),
    )
    labels = list(raw.names)
    storage = SparseStorage(rows, raw.values.array, row_labels, labels, of_rows, names, reading.most_dense_cells)
    for what, cells, reason in (
        ("by_design", reading.by_design, BY_DESIGN),
        ("not_applicable", reading.not_applicable, NOT_APPLICABLE),
    ):
        if cells is not None:
            at = positions_of(cells, row_labels, labels, names)
            storage = storage.with_reason(at.rows, at.columns, reason, what)
    return schema, storage


def _aux(
    schema: Schema, of_rows: pd.DataFrame | None, raw: RawEntries, dtype: torch.dtype
) -> Float[Tensor, "rows auxiliaries"] | None:
    """U of every row; None where U = R, which minibatches have anyway."""
    if schema.auxiliary_source == "mask":
        return None
    encoded = [np.zeros((raw.num_rows, 0))]
    for auxiliary in schema.auxiliaries:
        name = auxiliary.name
        if schema.auxiliary_source == "complete":
            values = raw.of_column(schema.names.index(name))
            if len(values) < raw.num_rows:
                got = f"{len(values)} in {raw.num_rows} rows"
                raise ValueError(f"auxiliary column {name!r}: expected a value in every row, got {got}")
        elif of_rows is None or name not in of_rows.columns:
            got = [] if of_rows is None else list(of_rows.columns)
            raise ValueError(f"auxiliary: expected the column {name!r} as in the training table, got {shown(got)}")
        else:
            values = of_rows[name]
        encoded.append(auxiliary.encode(values))
    return torch.from_numpy(np.concatenate(encoded, axis=1)).to(dtype)


def _taken_out(raw: RawEntries, chosen: list[Hashable], row_labels: pd.Index) -> tuple[RawEntries, pd.DataFrame]:
    """Columns of X that are to be U instead; they have a value in every row."""
    columns = {}
    for name in chosen:
        if not is_one_of(name, raw.names):
            raise ValueError(f"auxiliary: expected the name of a column, got {shown(name)}")
        position = raw.names.index(name)
        values = raw.of_column(position)
        if len(values) < raw.num_rows:
            label = row_labels[np.setdiff1d(np.arange(raw.num_rows), raw.rows[raw.columns == position])[:1]].tolist()[0]
            raise ValueError(f"auxiliary column {name!r}: expected a value in every row, got none in row {label!r}")
        columns[name] = values.array
    is_u = np.array([name in columns for name in raw.names])
    kept = raw.at(~is_u[raw.columns])
    left = [name for name in raw.names if name not in columns]
    if not left:
        raise ValueError("expected at least one column to model, got auxiliary columns only")
    renumbered = replace(kept, columns=(np.cumsum(~is_u) - 1)[kept.columns], names=left)
    return renumbered, pd.DataFrame(columns, index=row_labels)


def _by_row(auxiliary: pd.DataFrame, row_labels: pd.Index) -> pd.DataFrame:
    """U in the order of the rows."""
    repeated = auxiliary.index[auxiliary.index.duplicated()]
    if len(repeated):
        raise ValueError(f"auxiliary: expected one line a row, got several of {repeated[:1].tolist()[0]!r}")
    at = auxiliary.index.get_indexer(row_labels)
    if (at < 0).any():
        label = row_labels[at < 0][:1].tolist()[0]
        raise ValueError(f"auxiliary: expected a line for every row, got none for {label!r}")
    return auxiliary.iloc[at]


def _one_a_row(lines: pd.DataFrame, row_codes: NDArray[np.int64], row_labels: pd.Index) -> pd.DataFrame:
    """U from columns of the long frame, which say the same in every line of a row."""
    _, first = np.unique(row_codes, return_index=True)
    if len(first) < len(row_labels):
        label = row_labels[np.setdiff1d(np.arange(len(row_labels)), row_codes)[:1]].tolist()[0]
        raise ValueError(f"auxiliary: row {label!r} has no line to tell its values: give a DataFrame with a line a row")
    of_rows = lines.iloc[first]
    for name in lines.columns:
        expected = of_rows[name].iloc[row_codes].array
        differs = np.asarray(lines[name].array != expected, dtype=bool)
        if differs.any():
            at = int(differs.argmax())
            label = row_labels[row_codes[at] : row_codes[at] + 1].tolist()[0]
            got = f"{cell(of_rows[name], int(row_codes[at]))!r} and {cell(lines[name], at)!r}"
            raise ValueError(f"auxiliary column {name!r}: expected one value in row {label!r}, got {got}")
    return of_rows.set_axis(row_labels, axis=0)


def _coded(labels: pd.Series, declared: Iterable[Hashable] | None, where: str) -> tuple[NDArray[np.int64], pd.Index]:
    """Position of each line's label among the labels, which stand as declared or in order of appearance."""
    if declared is not None:
        index = _index(declared, where)
        return located(labels, index, "frame", where), index
    values = labels.astype(object) if isinstance(labels.dtype, pd.CategoricalDtype) else labels
    codes, found = pd.factorize(values)
    return codes.astype(np.int64), pd.Index(found, tupleize_cols=False)


def _labels(given: Iterable[Hashable] | None, count: int, what: str) -> pd.Index:
    if given is None:
        return pd.RangeIndex(count)
    index = _index(given, what)
    if len(index) != count:
        raise ValueError(f"{what}: expected {count} labels, got {len(index)}")
    return index


def _index(labels: Any, what: str) -> pd.Index:
    if isinstance(labels, str) or not has_parts(labels):
        raise TypeError(f"{what}: expected a list of labels, got {shown(labels)}")
    labels = labels if isinstance(labels, pd.Index) else list(labels)
    wrong = next((label for label in labels if not is_hashable(label)), None)
    if wrong is not None:
        raise TypeError(f"{what}: expected labels, got {shown(wrong)}")
    index: Any = labels if isinstance(labels, pd.Index) else pd.Index(labels, tupleize_cols=False)
    repeated = index[index.duplicated()]
    if len(repeated):
        raise ValueError(f"{what}: expected each label once, got {repeated[:1].tolist()[0]!r} several times")
    return index
