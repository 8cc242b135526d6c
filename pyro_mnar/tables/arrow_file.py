"""Parquet and Feather files: columns of Arrow's types, which come back with the file's schema and metadata."""

from __future__ import annotations

import io
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from jaxtyping import Int
from numpy.typing import NDArray

from pyro_mnar.messages import in_line, shown
from pyro_mnar.tables.frame_files import filled_rows

# Of which most of Arrow's own errors are made, or which come of footers that name what there is not.
OF_ARROW = (OSError, ValueError, LookupError, NotImplementedError, OverflowError, TypeError)


@dataclass(frozen=True)
class ArrowFile:
    """A file of Arrow's columns.

    Attributes:
        path: The file.
        table: Arrow's table.
        frame: Its values in Arrow-backed columns; NaN is a gap.
        na_values: None.
    """

    path: Path
    table: Any = field(repr=False)
    frame: pd.DataFrame = field(repr=False)
    na_values: Mapping[Hashable, list[Any]] = field(default_factory=dict)

    def written(
        self, completed: pd.DataFrame, imputed: Mapping[Hashable, Int[NDArray, " cells"]], levels: Collection[Hashable]
    ) -> bytes:
        """The file's bytes with a completed frame's values in its gaps; columns without any are the file's own."""
        import pyarrow as pa

        columns, fields = [], []
        for name, of_file in zip(self.frame.columns, self.table.schema, strict=True):
            column = self.table.column(name)
            if len(filled_rows(self.frame[name], completed[name])):
                column = _array(completed[name], of_file.type)
                of_file = of_file.with_type(column.type)
            columns.append(column)
            fields.append(of_file)
        table = pa.Table.from_arrays(columns, schema=pa.schema(fields, metadata=self.table.schema.metadata))
        buffer = io.BytesIO()
        if self.path.suffix.lower() == ".parquet":
            import pyarrow.parquet as parquet

            parquet.write_table(table, buffer)
        else:
            import pyarrow.feather as feather

            feather.write_feather(table, buffer)
        return buffer.getvalue()


def read(path: Path) -> ArrowFile:
    """Read a Parquet or Feather file.

    Raises:
        ValueError: If a column name stands twice, or the file is damaged: names it.
    """
    import pyarrow as pa
    import pyarrow.compute as compute

    try:
        table = _table(path)
        table.validate(full=True)  # text that is none, lengths that do not fit
    except OF_ARROW as error:
        raise damaged(path, error) from None
    if len(set(table.column_names)) < len(table.column_names):
        raise ValueError(f"{path}: expected each column name once, got {shown(table.column_names)}")
    plain = table.replace_schema_metadata()  # which pandas would read, damaged or not
    for at, of_file in enumerate(table.schema):
        if pa.types.is_floating(of_file.type):  # NaN, which Arrow takes for a value
            values = table.column(at)
            known = compute.if_else(compute.is_nan(values.cast(pa.float64())), pa.scalar(None, of_file.type), values)
            plain = plain.set_column(at, of_file, known)
    return ArrowFile(path, table, plain.to_pandas(types_mapper=pd.ArrowDtype))


def damaged(path: str | Path, error: Exception, part: str = "") -> Exception:
    """What to say of a file, or of a part of it, that Arrow cannot read; of one that is not there, its own words."""
    if isinstance(error, FileNotFoundError | PermissionError):
        return error
    told = str(error).strip().partition("\n")[0].removesuffix(".")
    name = in_line(path)
    what = f"{name}: {part} cannot be read" if part else f"{name}: cannot be read"
    return ValueError(f"{what}: {told}: take a copy, or write the file again")


def _table(path: Path) -> Any:
    if path.suffix.lower() == ".parquet":
        import pyarrow.parquet as parquet

        return parquet.read_table(path, page_checksum_verification=True)  # where its writer left any
    import pyarrow.feather as feather

    return feather.read_table(path)


def _array(values: pd.Series, dtype: Any) -> Any:
    """A completed column in the file's type; a mean of whole numbers in a floating one."""
    import pyarrow as pa

    listed = [None if pd.isna(value) else value for value in values.tolist()]
    if pa.types.is_dictionary(dtype):
        return pa.array(listed, dtype.value_type).dictionary_encode().cast(dtype)
    is_mean = any(isinstance(value, float) and not value.is_integer() for value in listed)
    if is_mean and (pa.types.is_integer(dtype) or pa.types.is_boolean(dtype)):
        return pa.array(listed, pa.float64())  # Arrow would cut off the fractions
    try:
        return pa.array(listed, dtype)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array(listed, pa.float64())
