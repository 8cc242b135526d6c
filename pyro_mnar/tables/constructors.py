"""How a table is made: of frames, files, arrays, and lists of entries."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any, Literal, TypeVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from pyro_mnar.kinds import Kind
from pyro_mnar.messages import names_of, path_of
from pyro_mnar.tables.bounds import CellBounds
from pyro_mnar.tables.constraints import RowConstraint
from pyro_mnar.tables.delimited_text import DelimitedText
from pyro_mnar.tables.dense import DenseStorage
from pyro_mnar.tables.encoding import encoded
from pyro_mnar.tables.frame_files import has_format, read_file
from pyro_mnar.tables.frames import REASONS, Cells, codes_by_column
from pyro_mnar.tables.long_frames import Reading, read_long, read_matrix
from pyro_mnar.tables.places import Place, placed
from pyro_mnar.tables.positions import LongNames
from pyro_mnar.tables.schema import Schema
from pyro_mnar.tables.sparse import SparseStorage
from pyro_mnar.tables.text_frame import TextFrame, Writing

TEXT = (".csv", ".tsv", ".txt", ".gz", "")  # endings of files of text


Made = TypeVar("Made", bound="TableConstructors")  # a type checker of single functions knows no Self


@dataclass(frozen=True, eq=False)
class TableConstructors:
    """What a table is, and the ways to make one.

    Attributes:
        schema: The columns, their units, and where U comes from.
        storage: The cells: all of them, or the observed ones.
    """

    schema: Schema
    storage: DenseStorage | SparseStorage

    @classmethod
    def from_frame(
        cls: type[Made],
        frame: Any,
        *,
        auxiliary: Collection[Hashable] | Literal["mask"] | None = None,
        kinds: Mapping[Hashable, str | Kind] | str | Kind | None = None,
        na_values: Mapping[Hashable, Any] | None = None,
        not_applicable: Cells | None = None,
        by_design: Cells | None = None,
        lower: CellBounds | None = None,
        upper: CellBounds | None = None,
        constraints: Sequence[RowConstraint] = (),
        carry: Collection[Hashable] = (),
        derived: Mapping[Any, Any] | None = None,
        standardize: bool | Mapping[Hashable, bool] = True,
        weights: Hashable | None = None,
        cluster: Hashable | None = None,
        strata: Hashable | None = None,
        schema: Schema | None = None,
        dtype: torch.dtype | None = None,
    ) -> Made:
        """Encode a frame in which NaN, None and pd.NA are gaps.

        Args:
            frame: One row an observation; any index, any column labels, each label once.  Of pandas, or an eager frame
                of polars, Arrow or what else narwhals reads: completed frames are of the same make.
            auxiliary: Names of the columns that are U: complete, conditioned on, not imputed; text, categories and
                booleans become indicators. None: the complete columns serve as U and stay modelled columns too.
                ``"mask"``: U = R. An empty list: no U, a standard normal prior.
            kinds: Kind of a column, by name: a word (``"continuous"``, ``"heavy_tailed"``, ``"positive"``,
                ``"zero_inflated"``, ``"bounded"``, ``"count"``, ``"binary"``, ``"categorical"``, ``"ordinal"``,
                ``"datetime"``) or one of the classes of :mod:`pyro_mnar.kinds` for those with arguments, such as
                ``Bounded(0, 10)``; or one kind for all modelled columns.  Of an auxiliary column ``"categorical"``, or
                ``Categorical(other="elsewhere")``, says that its values are levels.  What is not given, the dtype says
                (:func:`~pyro_mnar.kinds.choice.choice_of`); ``table.schema.describe_kinds()`` tells what was chosen,
                and why.
            na_values: Codes that stand for a missing value, one or several by column, such as ``{"income": [-98,
                -99]}``.
            not_applicable: Cells that have no value to impute, by column: a boolean per row, or the codes that say so;
                or a condition on other columns, ``{"age_at_move": "moved == 0"}`` or ``lambda f: f.moved == 0``.  Where
                a missing value decides whether it holds, it does in every draw as it should: a draw either lacks the
                one or has the other (:mod:`pyro_mnar.imputation.applicability`).  Patterns are gone through in the
                order given.
            by_design: Missing cells that the mechanism has nothing to do with (not asked, to be predicted), by
                column: a boolean per row, or the codes that say so.
            lower: Least values of gaps, by column, in the frame's own units, bounds themselves included.  One number
                holds for the whole column: its gaps are scored by the mechanism as ever.  A Series or array, one entry
                a row and NaN where there is none, holds for single cells: an answer such as "above 10", which the
                mechanism does not score.  See :mod:`pyro_mnar.tables.bounds`.
            upper: Greatest values of gaps, likewise, such as limits of detection.
            constraints: What every row satisfies, such as ``InOrder("start", "end")`` of
                :mod:`pyro_mnar.tables.constraints`: checked on observed values, satisfied by every imputed row.
            carry: Columns that are not to be modelled: they stand in every completed frame, in their place and as they
                came, and no model sees them.  Where no kind is declared, identifiers, free text and columns of more
                words than rows can teach (:mod:`pyro_mnar.kinds.identifiers`) are carried too, with a warning.
            derived: Columns that are formulas of others, such as ``{"bmi": "weight / height**2"}``, or functions of a
                frame that read columns by name: no model sees them a second time, and their gaps are computed in every
                completed frame.  Where one was seen, the arguments that are imputed give it: one that is missing alone
                follows, of several all but one are drawn.  Rows in which no argument can be solved for are counted in a
                warning, and imputed without it.
            standardize: Whether models see columns in standard deviations from the mean; by column, such as
                ``{"visits": False}``, or for all.  A column that is not standardised keeps its own units (on its
                unconstrained scale), as a likelihood of one's own may need them: a count stays a count, and of words
                the level's position.
            weights: Column that says how many people a row stands for: rows count that often in the objective, outside
                the logarithm (a weighted pseudo-likelihood), and in formulas that are pooled.  As ``cluster`` and
                ``strata`` it stays in completed frames, and is neither modelled nor imputed.
            cluster: Column of the clusters that were sampled whole (primary sampling units); a bootstrap keeps them
                whole, and pooled formulas take their errors from them.
            strata: Column of the strata within which units were sampled.
            schema: The schema of the training table, for new rows; columns are then matched by name, codes mean what
                they meant there, and columns that were not there are carried.
            dtype: Floating type of the tensors; torch's default if None.

        Raises:
            ValueError: If the frame has no rows or columns, repeats a column name, holds an infinity or text in a
                number column, has a column with no observed value, or an auxiliary column that is absent or has holes;
                if a bound excludes an observed value or leaves no room for a missing one; if observed values break a
                constraint.
            TypeError: If ``frame`` is no eager frame, or ``auxiliary`` is a single string.
        """
        schema, storage = encoded(
            frame,
            auxiliary=auxiliary,
            kinds=kinds,
            na_values=na_values,
            not_applicable=not_applicable,
            by_design=by_design,
            lower=lower,
            upper=upper,
            constraints=constraints,
            carry=carry,
            derived=derived,
            standardize=standardize,
            weights=weights,
            cluster=cluster,
            strata=strata,
            schema=schema,
            dtype=dtype,
        )
        return cls(schema, storage)

    @classmethod
    def from_csv(
        cls: type[Made],
        path: str | PathLike[str],
        *,
        sep: str | None = None,
        encoding: str | None = None,
        decimal: str = ".",
        thousands: str | None = None,
        na: Collection[str] = (),
        date_format: Mapping[Hashable, str] | None = None,
        **options: Any,
    ) -> Made:
        """Read a CSV file with a header, in which empty cells are gaps, and words only if ``na`` names them.

        Whole numbers stay whole beside gaps; digits after a zero (``007``) are words; ISO dates are dates; amounts and
        shares that all have the same sign (``$``, ``%``) are numbers.

        Args:
            path: The file.
            sep: What divides cells: a character, or ``"tab"``.  By default a comma, or else what divides every line
                into as many cells as the header, with a warning.
            encoding: Codec of the text.  By default what its byte order mark says, or UTF-8, or else Windows-1252, with
                a warning.
            decimal: The decimal point.
            thousands: What divides thousands, if anything.
            na: Words that are gaps, in every column.
            date_format: Patterns of ``strftime`` for columns of dates not written by ISO 8601, such as ``{"born":
                "%d/%m/%Y"}``.
            options: As for :meth:`from_frame`.

        Raises:
            ValueError: As :meth:`from_frame`, and if the file is empty, repeats a column name, has lines of other than
                the header's number of cells or words among numbers: names the file, the line, the column and the option
                that mends it.
        """
        text = DelimitedText.read(path, separator=sep, encoding=encoding)
        for note in text.said:
            warnings.warn(f"{path}: {note}", stacklevel=2)
        given = {reason: options.get(reason) for reason in REASONS}
        writing = Writing.of(decimal, thousands, na, date_format)
        kinds, schema = options.get("kinds"), options.get("schema")
        if schema is not None:
            kinds = {column.name: column.kind for column in schema.columns}
            given = {reason: {**schema.codes_of(reason), **(cells or {})} for reason, cells in given.items()}
        carry = options.get("carry", ())
        read = TextFrame.of(text, writing, kinds, codes_by_column(given), carry)
        with placed(text.place, stacklevel=2):
            return cls.from_frame(read.frame, **options)._of_file(read)

    @classmethod
    def from_file(cls: type[Made], path: str | PathLike[str], *, sheet: str | None = None, **options: Any) -> Made:
        """Read a file by its ending: CSV, Excel, Parquet, Feather, Stata or SPSS (extra ``files``).

        Variables all of whose values have labels (Stata, SPSS) are levels by their labels, and codes that the file
        calls missing are gaps, as ``na_values`` are.  :meth:`~pyro_mnar.Table.write` writes completed frames in the
        same format.

        Args:
            path: The file, which ends in ``.csv``, ``.tsv``, ``.txt``, one of these and ``.gz``, ``.xlsx``,
                ``.parquet``, ``.feather``, ``.dta`` or ``.sav``.
            sheet: Of a workbook, the name of a sheet; the first by default.
            options: As for :meth:`from_csv` for text, else as for :meth:`from_frame`.

        Raises:
            ValueError: As these, and if the file is not what its ending says.
            ImportError: If what reads it is not installed; names the extra.
        """
        path = path_of("path", path)
        if not has_format(path) and path.suffix.lower() in TEXT:
            return cls.from_csv(path, **options)
        file = read_file(path, sheet=sheet)
        given = {name: codes for name, codes in file.na_values.items() if name not in options.get("carry", ())}
        if options.get("schema") is not None:
            given = {}
        options["na_values"] = {**given, **(options.get("na_values") or {})}
        with placed(Place(file.path), stacklevel=2):
            return cls.from_frame(file.frame, **options)._of_file(file)

    @classmethod
    def from_numpy(
        cls: type[Made], array: NDArray[Any], columns: Sequence[Hashable] | None = None, **options: Any
    ) -> Made:
        """Take a ``(rows, columns)`` array with NaN; columns are numbered unless named."""
        if np.ndim(array) != 2:
            raise ValueError(f"expected an array of shape (rows, columns), got shape {np.shape(array)}")
        if columns is not None:
            names_of("columns", columns)
        if columns is not None and len(columns) != np.shape(array)[1]:
            raise ValueError(f"columns: expected {np.shape(array)[1]} names, one a column, got {len(columns)}")
        return cls.from_frame(pd.DataFrame(array, columns=None if columns is None else list(columns)), **options)

    @classmethod
    def from_sparse(
        cls: type[Made],
        matrix: Any,
        *,
        columns: Iterable[Hashable] | None = None,
        rows: Iterable[Hashable] | None = None,
        **options: Any,
    ) -> Made:
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

                ``most_dense_cells``: the most cells that the table shows as a dense ``x``, ``mask`` or ``frame``.

        Raises:
            ValueError: If shapes or labels do not fit, a cell has several values, or a value does not fit its kind.
            TypeError: If ``matrix`` is no sparse matrix.
        """
        return cls(*read_matrix(matrix, rows, columns, Reading.of(options)))

    @classmethod
    def from_long(
        cls: type[Made],
        frame: pd.DataFrame,
        *,
        row: Hashable = "row",
        column: Hashable = "column",
        value: Hashable = "value",
        rows: Iterable[Hashable] | None = None,
        columns: Iterable[Hashable] | None = None,
        **options: Any,
    ) -> Made:
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
        return cls(*read_long(frame, LongNames(row, column, value), rows, columns, Reading.of(options)))

    def _of_file(self: Made, file: Any) -> Made:
        """The same table, with the file that it was read from."""
        if not isinstance(self.storage, DenseStorage):
            return self
        return replace(self, storage=replace(self.storage, file=file))
