"""Tables of many columns and few entries: what is observed is kept, and only minibatches are made dense.

The observed entries stand row by row in compressed arrays, as in a CSR matrix; an explicit zero is a value, an absent
entry a gap.  :meth:`Table.from_sparse` and :meth:`Table.from_long` make such tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int, Shaped
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pyro_mnar.tables.batch import Batch, Entries, split
from pyro_mnar.tables.positions import CellPositions, LongNames, positions_of
from pyro_mnar.tables.schema import Schema
from pyro_mnar.tables.table import Table

MOST_DENSE_CELLS = 20_000_000  # of a sparse table that may be looked at as a dense one
BY_DESIGN, NOT_APPLICABLE = 1, 2  # reasons for a gap that are not the mechanism's


@dataclass(frozen=True, eq=False)
class Compressed:
    """Some cells of a table, row by row.

    Attributes:
        start: Where each row's cells begin, and after the last row where they end; ``(rows + 1,)``.
        column: Column of each cell, ascending in a row; ``(cells,)``.
        value: What stands in it; ``(cells,)``.
    """

    start: Int[Tensor, " starts"]
    column: Int[Tensor, " cells"]
    value: Shaped[Tensor, " cells"]

    @classmethod
    def of(cls, row: NDArray[Any], column: NDArray[Any], value: Shaped[Tensor, " cells"], num_rows: int) -> Compressed:
        """Cells that are sorted by row and column."""
        start = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=num_rows))])
        return cls(torch.from_numpy(start), torch.from_numpy(np.ascontiguousarray(column)), value)

    def __len__(self) -> int:
        return len(self.column)

    def row(self) -> Int[Tensor, " cells"]:
        """Row of each cell."""
        counts = self.start.diff()
        return torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)

    def to(self, device: torch.device | str | None) -> Compressed:
        """The same cells on another device."""
        return Compressed(*(getattr(self, field.name).to(device) for field in fields(self)))

    def at(self, rows: Int[Tensor, " rows"]) -> tuple[Int[Tensor, " cells"], Int[Tensor, " cells"]]:
        """Of the cells of some rows: position in ``rows`` of each, and position among all cells."""
        first, counts = self.start[rows], self.start[rows + 1] - self.start[rows]
        row = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), counts)
        before = counts.cumsum(0) - counts
        return row, torch.arange(len(row), device=rows.device) + (first - before)[row]

    def take(self, rows: Int[Tensor, " rows"]) -> Compressed:
        """The cells of some rows."""
        counts = self.start[rows + 1] - self.start[rows]
        _, at = self.at(rows)
        return Compressed(torch.cat([counts.new_zeros(1), counts.cumsum(0)]), self.column[at], self.value[at])


@dataclass(frozen=True, eq=False)
class SparseRows:
    """A :class:`~pyro_mnar.tables.batch.RowSource` over the entries of a sparse table.

    Attributes:
        observed: Standardised values of the observed entries.
        unexplained: Gaps that the mechanism does not explain, with their reasons.
        aux: U, ``(rows, auxiliaries)``; None where U = R.
        incomplete: As in :class:`~pyro_mnar.Batch`; ``(columns,)``.
    """

    observed: Compressed
    unexplained: Compressed
    aux: Float[Tensor, "rows auxiliaries"] | None
    incomplete: Bool[Tensor, " columns"]

    def __len__(self) -> int:
        return len(self.observed.start) - 1

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the batches."""
        return self.observed.value.dtype

    @property
    def device(self) -> torch.device:
        """Where the batches are."""
        return self.observed.value.device

    def to(self, device: torch.device | str | None) -> SparseRows:
        """The same rows on another device."""
        aux = None if self.aux is None else self.aux.to(device)
        return SparseRows(self.observed.to(device), self.unexplained.to(device), aux, self.incomplete.to(device))

    def take(self, rows: Int[Tensor, " rows"]) -> Batch:
        """A dense minibatch that knows where its entries stand."""
        shape = (len(rows), len(self.incomplete))
        row, at = self.observed.at(rows)
        column = self.observed.column[at]
        x = self.observed.value.new_zeros(shape).index_put_((row, column), self.observed.value[at])
        mask = self.incomplete.new_zeros(shape).index_put_((row, column), self.incomplete.new_ones(()))
        modelled = self.incomplete.new_ones(shape)
        if len(self.unexplained):
            gap_row, gap_at = self.unexplained.at(rows)
            modelled.index_put_((gap_row, self.unexplained.column[gap_at]), self.incomplete.new_zeros(()))
        aux = mask.to(x.dtype) if self.aux is None else self.aux[rows]
        return Batch(x, mask, modelled, aux, rows, len(self), self.incomplete, entries=Entries(row, column, mask))

    def minibatches(self, batch_size: int, generator: torch.Generator | None = None) -> Iterator[Batch]:
        """Split into minibatches whose sizes differ by at most one, shuffled if a CPU generator is given."""
        return (self.take(rows.to(self.device)) for rows in split(len(self), batch_size, generator))


class SparseTable(Table):
    """A table of which only the observed entries are kept; make one with ``Table.from_sparse`` or ``Table.from_long``.

    ``x``, ``mask``, ``mask_modelled``, ``applicable`` and ``frame`` are dense views, made when they are asked for and
    refused where they would be large.  Training and ``impute(..., cells=...)`` never ask.

    Args:
        schema: The columns, their units, and where U comes from.
        rows: Standardised entries and U.
        values: The observed entries in the user's own form, in the order of ``rows.observed``.
        row_labels: Label of each row.
        auxiliaries: The user's columns of U that are no columns of X, by row; None if there are none.
        long_names: What rows, columns and values are called in a long frame.
    """

    def __init__(
        self,
        schema: Schema,
        rows: SparseRows,
        values: Any,
        row_labels: pd.Index,
        auxiliaries: pd.DataFrame | None,
        long_names: LongNames,
    ) -> None:
        # As frozen as the dense table, without its fields.
        self.__dict__.update(schema=schema, _rows=rows, _values=values, _row_labels=row_labels)
        self.__dict__.update(_auxiliaries=auxiliaries, _long_names=long_names, codes=pd.DataFrame(index=row_labels))

    def __getattr__(self, name: str) -> Any:
        """The dense views, which the dense table has as fields."""
        if name not in ("x", "mask", "mask_modelled", "applicable", "aux", "frame"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        if name == "aux" and self._rows.aux is not None:
            return self._rows.aux
        cells = len(self) * self.schema.num_columns
        if cells > MOST_DENSE_CELLS:
            raise ValueError(
                f"a sparse table of {len(self)} rows and {self.schema.num_columns} columns has no dense {name!r}:"
                f" expected at most {MOST_DENSE_CELLS} cells; name cells instead, as in impute(..., cells=...), or"
                " take some rows"
            )
        return self._frame() if name == "frame" else self._dense(name)

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        entries, cells = self.num_entries, len(self) * self.schema.num_columns
        return (
            f"SparseTable({len(self)} rows, {self.schema.num_columns} columns, {entries} values observed"
            f" ({entries / cells:.2%}), auxiliaries: {self.schema.auxiliary_source}{self._kinds()})"
        )

    @property
    def num_entries(self) -> int:
        """Number of observed entries."""
        return len(self._rows.observed)

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the tensors."""
        return self._rows.dtype

    @property
    def row_labels(self) -> pd.Index:
        """Label of each row."""
        return self._row_labels

    @property
    def long_names(self) -> LongNames:
        """What rows, columns and values are called in a long frame."""
        return self._long_names

    def source(self, device: torch.device | str | None = None) -> SparseRows:
        """The rows, to take minibatches from."""
        return self._rows if device is None else self._rows.to(device)

    def batch(self, device: torch.device | str | None = None) -> Batch:
        """All rows at once, dense; for few rows."""
        return self.source(device).take(torch.arange(len(self), device=device))

    def take(self, rows: ArrayLike) -> SparseTable:
        """A table of some of the rows, by position, in the same units."""
        at = torch.as_tensor(np.asarray(rows))
        kept = self._rows.observed.at(at)[1].numpy()
        part = replace(
            self._rows,
            observed=self._rows.observed.take(at),
            unexplained=self._rows.unexplained.take(at),
            aux=None if self._rows.aux is None else self._rows.aux[at],
        )
        auxiliaries = None if self._auxiliaries is None else self._auxiliaries.iloc[at.numpy()]
        labels = self._row_labels[at.numpy()]
        return SparseTable(self.schema, part, self._values[kept], labels, auxiliaries, self._long_names)

    def hold_out(self, cells: ArrayLike | CellPositions) -> SparseTable:
        """Hide observed cells for validation: missing from now on, with a reason that is not the mechanism's.

        Args:
            cells: Cells as for :func:`~pyro_mnar.impute`, or True where a cell is held out, ``(rows, columns)``.

        Raises:
            ValueError: If a cell is not in the table, or U is the mask or a column that would get holes.
        """
        if isinstance(cells, (np.ndarray, Tensor, list)):
            cells = np.nonzero(self._checked_cells(np.asarray(cells, dtype=bool)))
        rows, columns = positions_of(self, cells)
        self._check_hidden(columns)
        hidden = rows * self.schema.num_columns + columns
        observed = self._rows.observed
        is_hidden = torch.from_numpy(np.isin(self._keys(observed), hidden))
        kept = ~is_hidden
        left = Compressed.of(
            observed.row()[kept].numpy(), observed.column[kept].numpy(), observed.value[kept], len(self)
        )
        gaps = self._with_gaps(self._keys(observed)[is_hidden.numpy()], BY_DESIGN)
        return self._replaced(replace(self._rows, observed=left, unexplained=gaps), self._values[kept.numpy()])

    def with_reason(self, cells: CellPositions, reason: int, what: str) -> SparseTable:
        """Say why some cells are gaps: BY_DESIGN or NOT_APPLICABLE.

        Raises:
            ValueError: If a cell has a value.
        """
        rows, columns = positions_of(self, cells)
        is_observed, _ = self.status(rows, columns)
        if is_observed.any():
            at = int(is_observed.argmax())
            label, name = self._row_labels[rows[at] : rows[at] + 1].tolist()[0], self.schema.names[columns[at]]
            raise ValueError(f"{what} of column {name!r}: expected a gap in row {label!r}, got a value")
        gaps = self._with_gaps(rows * self.schema.num_columns + columns, reason)
        return self._replaced(replace(self._rows, unexplained=gaps), self._values)

    def new_rows(self, frame: Any, **options: Any) -> Table:
        """Encode new rows as these rows are encoded, from a long frame with the same names or from a sparse matrix."""
        options = {"schema": self.schema, "dtype": self.dtype, **options}
        if not isinstance(frame, pd.DataFrame):
            return Table.from_sparse(frame, columns=self.schema.names, **options)
        names = self._long_names
        return Table.from_long(frame, row=names.row, column=names.column, value=names.value, **options)

    def status(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Of some cells, whether each is observed, and whether it is applicable."""
        asked, unexplained = rows * self.schema.num_columns + columns, self._rows.unexplained
        inapplicable = self._keys(unexplained)[unexplained.value.numpy() == NOT_APPLICABLE]
        return np.isin(asked, self._keys(self._rows.observed)), ~np.isin(asked, inapplicable)

    def _with_gaps(self, keys: NDArray[np.int64], reason: int) -> Compressed:
        """The unexplained gaps and more of them; a cell that has a reason already keeps the greater one."""
        before = self._rows.unexplained
        keys = np.concatenate([self._keys(before), keys])
        reasons = np.concatenate([before.value.numpy(), np.full(len(keys) - len(before), reason, dtype=np.uint8)])
        order = np.lexsort((reasons, keys))
        last = np.append(keys[order][1:] != keys[order][:-1], True)[: len(order)]
        order = order[last]
        return Compressed.of(
            *np.divmod(keys[order], self.schema.num_columns), torch.from_numpy(reasons[order]), len(self)
        )

    def _replaced(self, rows: SparseRows, values: Any) -> SparseTable:
        return SparseTable(self.schema, rows, values, self._row_labels, self._auxiliaries, self._long_names)

    def _keys(self, cells: Compressed) -> NDArray[np.int64]:
        """Every cell as one number."""
        return cells.row().numpy() * self.schema.num_columns + cells.column.numpy()

    def _dense(self, name: str) -> Tensor:
        if name != "applicable":
            return getattr(self.batch(), name)
        applicable = torch.ones(len(self), self.schema.num_columns, dtype=torch.bool)
        unexplained = self._rows.unexplained
        is_inapplicable = unexplained.value == NOT_APPLICABLE
        applicable[unexplained.row()[is_inapplicable], unexplained.column[is_inapplicable]] = False
        return applicable

    def _frame(self) -> pd.DataFrame:
        observed, values = self._rows.observed, np.asarray(self._values)
        is_number = values.dtype.kind in "fiu"
        cells = np.full((len(self), self.schema.num_columns), np.nan, dtype=np.float64 if is_number else object)
        cells[observed.row().numpy(), observed.column.numpy()] = values
        names = pd.Index(self.schema.names, tupleize_cols=False)
        frame = pd.DataFrame(cells, index=self._row_labels, columns=names)
        return frame if self._auxiliaries is None else pd.concat([self._auxiliaries, frame], axis=1)
