"""Tables with holes: a pandas frame in, standardised tensors to the model, the user's units and dtypes out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pyro_mnar.kinds import Kind
from pyro_mnar.kinds.registry import named
from pyro_mnar.tables.batch import Batch, RowSource
from pyro_mnar.tables.bounds import Bounds, CellBounds, of_columns
from pyro_mnar.tables.constraints import RowConstraint
from pyro_mnar.tables.frames import (
    Cells,
    by_column,
    check_frame,
    known_codes,
    match_columns,
    read_csv,
    read_gaps,
)
from pyro_mnar.tables.positions import LongNames
from pyro_mnar.tables.row_checks import check_rows
from pyro_mnar.tables.schema import Schema

if TYPE_CHECKING:
    from pyro_mnar.tables.sparse import SparseTable

SHOWN = 5  # names of columns in a table's representation


@dataclass(frozen=True, eq=False)
class Table:
    """A table with holes, encoded for a model.

    Make one with :meth:`from_frame`, :meth:`from_csv` or :meth:`from_numpy`; or, of many columns and few entries, with
    :meth:`from_sparse` or :meth:`from_long`.

    Attributes:
        schema: The columns, their units, and where U comes from.
        frame: The user's frame, as it came in.
        x: Standardised values, zero where missing; ``(rows, columns)``.
        mask: True where observed; ``(rows, columns)``.
        mask_modelled: Cells whose missingness the mechanism explains; ``(rows, columns)``.
        applicable: Cells that have a value, seen or not; the others are never imputed; ``(rows, columns)``.
        aux: Auxiliary variables, standardised; ``(rows, auxiliaries)``.
        codes: Per column of ``na_values``, the code that stood in each cell (missing where there was none).
        bounds: Least and greatest values of gaps; None where nothing is known of any.
    """

    schema: Schema
    frame: pd.DataFrame
    x: Float[Tensor, "rows columns"]
    mask: Bool[Tensor, "rows columns"]
    mask_modelled: Bool[Tensor, "rows columns"]
    applicable: Bool[Tensor, "rows columns"]
    aux: Float[Tensor, "rows auxiliaries"]
    codes: pd.DataFrame
    bounds: Bounds | None = None

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        *,
        auxiliary: Collection[Hashable] | Literal["mask"] | None = None,
        kinds: Mapping[Hashable, str | Kind] | str | Kind | None = None,
        na_values: Mapping[Hashable, Any] | None = None,
        not_applicable: Cells | None = None,
        by_design: Cells | None = None,
        lower: CellBounds | None = None,
        upper: CellBounds | None = None,
        constraints: Sequence[RowConstraint] = (),
        schema: Schema | None = None,
        dtype: torch.dtype | None = None,
    ) -> Table:
        """Encode a pandas frame in which NaN, None and pd.NA are gaps.

        Args:
            frame: One row an observation; any index, any column labels, each label once.
            auxiliary: Names of the columns that are U: complete, conditioned on, not imputed; text, categories and
                booleans become indicators. None: the complete columns serve as U and stay modelled columns too.
                ``"mask"``: U = R. An empty list: no U, a standard normal prior.
            kinds: Kind of a column, by name: a word (``"continuous"``, ``"heavy_tailed"``, ``"positive"``,
                ``"bounded"``, ``"count"``, ``"binary"``, ``"categorical"``, ``"ordinal"``, ``"datetime"``) or one of
                the classes of :mod:`pyro_mnar.kinds` for those with arguments, such as ``Bounded(0, 10)``; or one kind
                for all
                modelled columns.  What is not given, the dtype says (:func:`~pyro_mnar.kinds.choice.choice_of`);
                ``table.schema.describe_kinds()`` tells what was chosen, and why.
            na_values: Codes that stand for a missing value, one or several by column, such as ``{"income": [-98,
                -99]}``.
            not_applicable: Cells that have no value to impute, by column: a boolean per row, or the codes that say so.
            by_design: Missing cells that the mechanism has nothing to do with (not asked, to be predicted), by
                column: a boolean per row, or the codes that say so.
            lower: Least values of gaps, by column, in the frame's own units, bounds themselves included.  One number
                holds for the whole column: its gaps are scored by the mechanism as ever.  A Series or array, one entry
                a row and NaN where there is none, holds for single cells: an answer such as "above 10", which the
                mechanism does not score.  See :mod:`pyro_mnar.tables.bounds`.
            upper: Greatest values of gaps, likewise, such as limits of detection.
            constraints: What every row satisfies, such as ``InOrder("start", "end")`` of
                :mod:`pyro_mnar.tables.constraints`: checked on observed values, satisfied by every imputed row.
            schema: The schema of the training table, for new rows; columns are then matched by name, and codes mean
                what they meant there.
            dtype: Floating type of the tensors; torch's default if None.

        Raises:
            ValueError: If the frame has no rows or columns, repeats a column name, holds an infinity or text in a
                number column, has a column with no observed value, or an auxiliary column that is absent or has holes;
                if a bound excludes an observed value or leaves no room for a missing one; if observed values break a
                constraint.
            TypeError: If ``frame`` is no DataFrame, or ``auxiliary`` is a single string.
        """
        check_frame(frame, auxiliary)
        reasons = {"na_values": na_values, "not_applicable": not_applicable, "by_design": by_design}
        given = {reason: by_column(cells, reason) for reason, cells in reasons.items()}
        if schema is not None:
            match_columns(frame, schema)
            given = {reason: {**schema.codes_of(reason), **cells} for reason, cells in given.items()}
        gaps, codes, absent = read_gaps(frame, **given)
        is_training = schema is None
        if schema is None:
            schema = Schema.of_frame(gaps, auxiliary=auxiliary, kinds=kinds or {})
            schema = replace(
                schema,
                codes=known_codes(frame, given),
                bounds=of_columns(lower, upper, schema),
                constraints=tuple(constraints),
            )
        elif constraints:
            raise ValueError("constraints: new rows keep those of the training table; give others to impute")
        for name in absent:
            if name not in schema.names:
                raise ValueError(
                    f"column {name!r}: an auxiliary column has a value in every row, so no reasons for gaps"
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

        check_rows(schema.constraints, frame, numbers, schema)
        bounds = Bounds.of_frame(frame, numbers, schema, lower, upper, dtype)
        if bounds is not None:
            modelled &= ~bounds.answered
            if is_training:
                schema = _without_answered(schema, mask | bounds.answered)
        mask_tensor = torch.from_numpy(mask)
        if schema.auxiliary_source == "mask":
            aux = mask_tensor.to(dtype)
        else:
            encoded = [auxiliary.encode(gaps[auxiliary.name]) for auxiliary in schema.auxiliaries]
            aux = torch.from_numpy(np.concatenate([np.zeros((len(frame), 0)), *encoded], axis=1)).to(dtype)
        return cls(
            schema=schema,
            frame=frame.copy(deep=False),
            x=torch.from_numpy(np.where(mask, values, 0.0)).to(dtype),
            mask=mask_tensor,
            mask_modelled=torch.from_numpy(modelled),
            applicable=torch.from_numpy(applicable),
            aux=aux,
            codes=codes,
            bounds=bounds,
        )

    @classmethod
    def from_csv(cls, path: str | PathLike[str], **options: Any) -> Table:
        """Read a CSV file with a header; options as for :meth:`from_frame`.

        Raises:
            ValueError: As :meth:`from_frame`, and if the file repeats a column name, is empty or has rows longer than
                its header.
        """
        frame = read_csv(path)
        kinds = options.get("kinds")
        for name, kind in kinds.items() if isinstance(kinds, Mapping) else ():
            if name in frame.columns and kind is not None:
                frame[name] = named(kind, name).of_text(frame[name])
        coded = {name for reason in ("na_values", "not_applicable", "by_design") for name in options.get(reason) or {}}
        for name in coded & set(frame.columns[~frame.dtypes.map(pd.api.types.is_numeric_dtype)]):
            # A code in words made the whole column text; its numbers are numbers all the same.
            numbers = pd.to_numeric(frame[name], errors="coerce")
            frame[name] = numbers.astype(object).where(numbers.notna(), frame[name])
        return cls.from_frame(frame, **options)

    @classmethod
    def from_numpy(cls, array: NDArray[Any], columns: Sequence[Hashable] | None = None, **options: Any) -> Table:
        """Take a ``(rows, columns)`` array with NaN; columns are numbered unless named."""
        if np.ndim(array) != 2:
            raise ValueError(f"expected an array of shape (rows, columns), got shape {np.shape(array)}")
        return cls.from_frame(pd.DataFrame(array, columns=None if columns is None else list(columns)), **options)

    @classmethod
    def from_sparse(
        cls,
        matrix: Any,
        *,
        columns: Iterable[Hashable] | None = None,
        rows: Iterable[Hashable] | None = None,
        **options: Any,
    ) -> SparseTable:
        """Take a scipy sparse matrix: explicit entries are values, zeros too; absent ones and NaN are gaps.

        Nothing beyond a minibatch is ever made dense.

        Args:
            matrix: ``(rows, columns)``; duplicate entries are refused, not summed.
            columns: Labels of the columns; numbered if None.
            rows: Labels of the rows; those of ``auxiliary``'s index, or else numbered, if None.
            options: ``auxiliary``: a DataFrame of U with a line for each row of the matrix, in its order; or names of
                complete columns; ``None``, ``"mask"`` and an empty list mean what they mean in :meth:`from_frame`.

                ``kinds``: one kind for all columns, or a mapping from columns to kinds. What is not given, the dtype
                and the values of all those columns together say.

                ``units``: ``"columns"`` standardises each column by its own mean and standard deviation; ``"table"``
                all columns of a kind by common ones, for values that share one unit, such as ratings.

                ``by_design``, ``not_applicable``: gaps that are not the mechanism's, as cells are named in
                :func:`~pyro_mnar.impute`.

                ``schema``, ``dtype``: as in :meth:`from_frame`.

        Raises:
            ValueError: If shapes or labels do not fit, a cell has several values, or a value does not fit its kind.
            TypeError: If ``matrix`` is no sparse matrix.
        """
        from pyro_mnar.tables.long_frames import Reading, table_of_matrix  # it builds on this module

        return table_of_matrix(matrix, rows, columns, Reading(**options))

    @classmethod
    def from_long(
        cls,
        frame: pd.DataFrame,
        *,
        row: Hashable = "row",
        column: Hashable = "column",
        value: Hashable = "value",
        rows: Iterable[Hashable] | None = None,
        columns: Iterable[Hashable] | None = None,
        **options: Any,
    ) -> SparseTable:
        """Take a long frame, one line a value, such as a list of ratings.

        Nothing beyond a minibatch is ever made dense.

        Args:
            frame: The lines, in any order; a value of NaN is a gap.
            row: Column that says whose value it is (any hashable labels).
            column: Column that says of what (any hashable labels).
            value: Column of the values.
            rows: All rows, in order, those without a value too; by default ``auxiliary``'s index, or else the rows of
                the lines in order of appearance.
            columns: All columns, in order; by default those of the lines in order of appearance.
            options: As for :meth:`from_sparse`, except that ``auxiliary`` as a DataFrame is matched by its index to
                the rows, and as names may also be columns of ``frame``, which say the same in every line of a row.

        Raises:
            ValueError: If a column is absent, a label is missing or not declared, a cell has several values, or a value
                does not fit its kind.
            TypeError: If ``frame`` is no DataFrame.
        """
        from pyro_mnar.tables.long_frames import Reading, table_of_long  # it builds on this module

        return table_of_long(frame, LongNames(row, column, value), rows, columns, Reading(**options))

    def __len__(self) -> int:
        return len(self.frame)

    def __repr__(self) -> str:
        missing = int((~self.mask).sum())
        return (
            f"Table({len(self)} rows, {self.schema.num_columns} columns, {missing} values missing"
            f" ({missing / self.mask.numel():.0%}), auxiliaries: {self.schema.auxiliary_source}{self._kinds()})"
        )

    def _kinds(self) -> str:
        counted = Counter(self.schema.kinds.values())
        if set(counted) == {"continuous"}:
            return ""
        # Whole numbers taken for levels are the one choice that a reader might not expect.
        chosen = [f"{c.name!r}" for c in self.schema.columns if c.kind.levels and c.because.endswith("whole numbers")]
        shown = ", ".join(chosen[:SHOWN]) + (", ..." if len(chosen) > SHOWN else "")
        note = f" (whole numbers taken for levels: {shown})" if chosen else ""
        return ", kinds: " + ", ".join(f"{count} {kind}" for kind, count in counted.items()) + note

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the tensors."""
        return self.x.dtype

    @property
    def row_labels(self) -> pd.Index:
        """Label of each row."""
        return self.frame.index

    @property
    def long_names(self) -> LongNames:
        """What rows, columns and values are called in a long frame."""
        return LongNames()

    def new_rows(self, frame: pd.DataFrame, **options: Any) -> Table:
        """Encode new rows as these rows are encoded: same columns, by name, the same units, the same codes.

        Cells that were marked by a boolean per row are marked anew for new rows, in ``options``.
        """
        return Table.from_frame(frame, schema=self.schema, dtype=self.x.dtype, **options)

    def bounded(self, *, lower: CellBounds | None = None, upper: CellBounds | None = None) -> Table:
        """The same rows, with bounds of single gaps: answers such as "above 10", which no mechanism scores.

        Args:
            lower: Least values by column, one entry a row and NaN where there is none, as for :meth:`from_frame`.
            upper: Greatest values, likewise.

        Raises:
            ValueError: As :meth:`from_frame`, and if there are bounds already or one is given for a whole column.
        """
        if self.bounds is not None:
            raise ValueError("table: expected gaps without bounds, got some with")
        for end, cells in (("lower", lower), ("upper", upper)):
            whole = [name for name, entry in (cells or {}).items() if pd.api.types.is_scalar(entry)]
            if whole:
                raise ValueError(f"{end} of column {whole[0]!r}: expected one bound a row, got one for all")
        mask, columns = self.mask.numpy(), self.schema.columns
        seen = [column.read(self.frame[column.name].where(mask[:, at])) for at, column in enumerate(columns)]
        bounds = Bounds.of_frame(self.frame, np.stack(seen, axis=1), self.schema, lower, upper, self.dtype)
        if bounds is None:
            return self
        return replace(
            self,
            schema=_without_answered(self.schema, mask | bounds.answered),
            mask_modelled=self.mask_modelled & ~torch.from_numpy(bounds.answered),
            bounds=bounds,
        )

    def take(self, rows: ArrayLike) -> Table:
        """A table of some of the rows, by position, in the same units."""
        at = torch.as_tensor(np.asarray(rows))
        return replace(
            self,
            frame=self.frame.iloc[at.numpy()],
            x=self.x[at],
            mask=self.mask[at],
            mask_modelled=self.mask_modelled[at],
            applicable=self.applicable[at],
            aux=self.aux[at],
            codes=self.codes.iloc[at.numpy()],
            bounds=None if self.bounds is None else self.bounds.take(at.numpy()),
        )

    def hold_out(self, cells: ArrayLike) -> Table:
        """Hide observed cells for validation: missing from now on, with a reason that is not the mechanism's.

        Args:
            cells: True where a cell is held out; ``(rows, columns)``. ``frame`` keeps the values, to compare with.

        Raises:
            ValueError: If the shape is another, or U is the mask or a column that would get holes.
        """
        hidden = torch.from_numpy(self._checked_cells(cells))
        self._check_hidden(hidden.any(0).nonzero().squeeze(-1).numpy())
        return replace(
            self,
            x=self.x.masked_fill(hidden, 0.0),
            mask=self.mask & ~hidden,
            mask_modelled=self.mask_modelled & ~(hidden & self.mask),
        )

    def status(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Of some cells, by position, whether each is observed, and whether it is applicable."""
        return self.mask[rows, columns].numpy(), self.applicable[rows, columns].numpy()

    def source(self, device: torch.device | str | None = None) -> RowSource:
        """The rows, to take minibatches from."""
        return self.batch(device)

    def batch(self, device: torch.device | str | None = None) -> Batch:
        """All rows at once."""
        incomplete = torch.tensor([column.incomplete for column in self.schema.columns])
        lower, upper = (None, None) if self.bounds is None else self.bounds.on_line
        rows = Batch(
            self.x,
            self.mask,
            self.mask_modelled,
            self.aux,
            index=torch.arange(len(self)),
            size=len(self),
            incomplete=incomplete,
            lower=lower,
            upper=upper,
        )
        return rows if device is None else rows.to(device)

    def batches(
        self,
        batch_size: int,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> Iterator[Batch]:
        """Minibatches in row order, or shuffled by a generator of their own."""
        return self.source(device).minibatches(batch_size, generator)

    def _checked_cells(self, cells: ArrayLike) -> NDArray[np.bool_]:
        hidden, expected = np.asarray(cells, dtype=bool), (len(self), self.schema.num_columns)
        if hidden.shape != expected:
            raise ValueError(f"cells: expected shape {expected}, got {hidden.shape}")
        return hidden

    def _check_hidden(self, columns: NDArray[np.int64]) -> None:
        """Refuse to hide cells of U."""
        if self.schema.auxiliary_source == "mask":
            raise ValueError("cells cannot be held out where U is the mask: U would change with them")
        for position in np.unique(columns).tolist():
            column = self.schema.columns[position]
            if column.is_auxiliary:
                raise ValueError(f"column {column.name!r}: serves as U, so none of its cells can be held out")


def schema_of(table: Table | Schema) -> Schema:
    """The schema of a table, or the schema itself: models and guides take either."""
    return table.schema if isinstance(table, Table) else table


def _without_answered(schema: Schema, told: NDArray[np.bool_]) -> Schema:
    """A column each of whose gaps has an answer, if a rough one, does not go missing and needs no mechanism."""
    columns = [
        replace(column, incomplete=column.incomplete and not bool(told[:, at].all()))
        for at, column in enumerate(schema.columns)
    ]
    return replace(schema, columns=tuple(columns))
