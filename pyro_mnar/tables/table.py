"""Tables with holes: a pandas frame in, standardised tensors to the model, the user's units and dtypes out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pyro_mnar.messages import check_is, in_line, path_of, shown
from pyro_mnar.tables.batch import Batch, RowSource
from pyro_mnar.tables.bounds import Bounds, CellBounds
from pyro_mnar.tables.constructors import TableConstructors
from pyro_mnar.tables.delimited_text import packed
from pyro_mnar.tables.dense import DenseStorage
from pyro_mnar.tables.description import described
from pyro_mnar.tables.encoding import encoded_bounds
from pyro_mnar.tables.frame_files import filled_rows
from pyro_mnar.tables.positions import CellPositions, LongNames, Positions, is_mask, positions_of
from pyro_mnar.tables.schema import Schema
from pyro_mnar.tables.whole_files import write_atomically


@dataclass(frozen=True, eq=False)
class Table(TableConstructors):
    """A table with holes, encoded for a model.

    Make one with :meth:`from_frame`, :meth:`from_csv` or :meth:`from_numpy`; or, of many columns and few entries, with
    :meth:`from_sparse` or :meth:`from_long`.

    Attributes:
        schema: The columns, their units, and where U comes from.
        storage: The cells: all of them, or the observed ones.
    """

    def __len__(self) -> int:
        return len(self.storage)

    def __repr__(self) -> str:
        schema = self.schema
        return (
            f"{self.storage.title}({len(self)} rows, {schema.num_columns} columns, {self.storage.counted},"
            f" auxiliaries: {schema.auxiliary_source}{schema.others_in_words()}{schema.kinds_in_words()})"
        )

    def describe(self) -> pd.DataFrame:
        """What each modelled column is, one row a column, in the order of the schema.

        ``kind`` and ``because`` (what decided it), ``missing`` and ``share_missing`` (of the cells that apply),
        ``serves_as_u``, and ``missing_together``: with which columns it goes missing, in how many rows.
        """
        return described(self.schema, self.mask, self.mask_modelled, self.applicable)

    @property
    def frame(self) -> pd.DataFrame:
        """The user's frame, as it came in; one of another make in pandas' columns."""
        return self.storage.frame

    @property
    def x(self) -> Float[Tensor, "rows columns"]:
        """Standardised values, zero where missing; ``(rows, columns)``."""
        return self.storage.x

    @property
    def mask(self) -> Bool[Tensor, "rows columns"]:
        """True where observed; ``(rows, columns)``."""
        return self.storage.mask

    @property
    def mask_modelled(self) -> Bool[Tensor, "rows columns"]:
        """Cells whose missingness the mechanism explains; ``(rows, columns)``."""
        return self.storage.mask_modelled

    @property
    def applicable(self) -> Bool[Tensor, "rows columns"]:
        """Cells that have a value, seen or not; the others are never imputed; ``(rows, columns)``."""
        return self.storage.applicable

    @property
    def aux(self) -> Float[Tensor, "rows auxiliaries"]:
        """Auxiliary variables, standardised; ``(rows, auxiliaries)``."""
        return self.storage.aux

    @property
    def codes(self) -> pd.DataFrame:
        """Per column of ``na_values``, the code that stood in each cell (missing where there was none)."""
        return self.storage.codes

    @property
    def bounds(self) -> Bounds | None:
        """Least and greatest values of gaps; None where nothing is known of any."""
        return self.storage.bounds

    @property
    def num_entries(self) -> int:
        """Number of observed entries."""
        return self.storage.num_entries

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the tensors."""
        return self.storage.rows.dtype

    @property
    def row_labels(self) -> pd.Index:
        """Label of each row."""
        return self.storage.row_labels

    @property
    def long_names(self) -> LongNames:
        """What rows, columns and values are called in a long frame."""
        return self.storage.long_names

    def new_rows(self, frame: Any, **options: Any) -> Table:
        """Encode new rows as these rows are encoded: same columns, by name, the same units, the same codes.

        Args:
            frame: A frame as for :meth:`from_frame`; of a sparse table a long frame with the same names, or a sparse
                matrix.
            options: As for :meth:`from_frame`, :meth:`from_long` or :meth:`from_sparse`. Cells that were marked by a
                boolean per row are marked anew for new rows.
        """
        storage = self.storage
        options = {"schema": self.schema, "dtype": self.dtype, **options}
        if isinstance(storage, DenseStorage):
            return Table.from_frame(frame, **options)
        options = {"most_dense_cells": storage.most_dense_cells, **options}
        if not isinstance(frame, pd.DataFrame):
            return Table.from_sparse(frame, columns=self.schema.names, **options)
        names = storage.long_names
        return Table.from_long(frame, row=names.row, column=names.column, value=names.value, **options)

    def write(self, completed: Any, path: str | PathLike[str]) -> None:
        """Write a completed frame as the file was written that this table was read from: same format, same cells.

        Only gaps have other characters or values than in that file.

        Args:
            completed: One of :meth:`~pyro_mnar.Imputations.frames`, or the mean.
            path: A file that is not there yet.

        Raises:
            ValueError: If the table is of no file, or there is something at ``path``.
        """
        storage = self.storage
        if not isinstance(storage, DenseStorage) or storage.file is None:
            raise ValueError("write: expected a table of Table.from_file or from_csv, got another")
        file = storage.file
        check_is("completed", completed, pd.DataFrame)
        if len(completed) != len(file.frame) or list(completed.columns) != list(file.frame.columns):
            raise ValueError("write: expected a completed frame of the rows and columns of its file")
        imputed = {name: filled_rows(file.frame[name], completed[name]) for name in file.frame.columns}
        levels = {column.name for column in self.schema.columns if column.kind.has_levels}
        content = file.written(completed, imputed, levels)
        path = path_of("path", path)
        if path.is_symlink() or path.exists():
            raise ValueError(f"write: {in_line(path)} is there: choose another name")
        write_atomically(path, packed(path, content))

    def bounded(self, *, lower: CellBounds | None = None, upper: CellBounds | None = None) -> Table:
        """The same rows, with bounds of single gaps: answers such as "above 10", which no mechanism scores.

        Args:
            lower: Least values by column, one entry a row and NaN where there is none, as for :meth:`from_frame`.
            upper: Greatest values, likewise.

        Raises:
            ValueError: As :meth:`from_frame`; if there are bounds already, or one is given for a whole column; if the
                table is sparse.
        """
        if not isinstance(self.storage, DenseStorage):
            raise ValueError(
                "table: expected a dense table, got a sparse one, which keeps no bounds of gaps; of few enough cells,"
                " make it dense: Table.from_frame(table.frame, schema=table.schema, lower=..., upper=...)"
            )
        return Table(*encoded_bounds(self.schema, self.storage, lower, upper))

    def take(self, rows: ArrayLike) -> Table:
        """A table of some of the rows, by position, in the same units."""
        try:
            taken = np.arange(len(self))[np.atleast_1d(rows)]
        except (IndexError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(
                f"rows: expected positions below {len(self)} or a boolean a row, got {shown(rows)}: {error}"
            ) from None
        return Table(self.schema, self.storage.take(taken))

    def hold_out(self, cells: ArrayLike | CellPositions) -> Table:
        """Hide observed cells for validation: missing from now on, with a reason that is not the mechanism's.

        Args:
            cells: True where a cell is held out, ``(rows, columns)``; or cells as for :func:`~pyro_mnar.impute`. The
                ``frame`` of a dense table keeps the values, to compare with.

        Raises:
            ValueError: If the shape is another, a cell is not in the table, or U is the mask or a column that would get
                holes.
        """
        shape = len(self), self.schema.num_columns
        if is_mask(cells, shape, self.long_names):
            hidden = np.asarray(cells, dtype=bool)
            if hidden.shape != shape:
                raise ValueError(f"cells: expected shape {shape}, got {hidden.shape}")
            rows, columns = np.nonzero(hidden)
        else:
            rows, columns = self.positions(cells)
        self.schema.check_hidden(columns)
        return Table(self.schema, self.storage.hide(rows, columns))

    def gaps(self) -> pd.DataFrame:
        """Every gap, one line each, as ``impute(fit, table, cells=table.gaps())`` takes them: its row and its column.

        Raises:
            ValueError: If the table is sparse and too large to be shown as a dense one.
        """
        rows, columns = (~self.mask & self.applicable).numpy().nonzero()
        names, labels = self.long_names, pd.Index(self.schema.names, tupleize_cols=False)
        return pd.DataFrame({names.row: self.row_labels[rows], names.column: labels[columns]})

    def gaps_by_design(self) -> Table:
        """The same rows, with no gap that the mechanism explains: nobody chose to withhold a value."""
        return Table(self.schema, self.storage.gaps_by_design())

    def positions(self, cells: CellPositions) -> Positions:
        """Positions of some cells, in the order given, which are named as for :func:`~pyro_mnar.impute`."""
        return positions_of(cells, self.row_labels, self.schema.names, self.long_names)

    def status(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Of some cells, by position, whether each is observed, and whether it is applicable."""
        return self.storage.status(*self.positions((rows, columns)))

    def source(self, device: torch.device | str | None = None) -> RowSource:
        """The rows, to take minibatches from."""
        rows = self.storage.rows
        return rows if device is None else rows.to(device)

    def batch(self, device: torch.device | str | None = None) -> Batch:
        """All rows at once; of a sparse table only for few rows."""
        return self.storage.batch(device)

    def batches(
        self,
        batch_size: int,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> Iterator[Batch]:
        """Minibatches in row order, or shuffled by a generator of their own."""
        return self.source(device).minibatches(batch_size, generator)


def schema_of(table: Table | Schema) -> Schema:
    """The schema of a table, or the schema itself: models and guides take either."""
    if isinstance(table, Table):
        return table.schema
    if not isinstance(table, Schema):
        cure = ", made of it by Table.from_frame" if isinstance(table, pd.DataFrame) else ""
        raise TypeError(f"table: expected a Table or its schema{cure}, got {type(table).__name__}")
    return table
