"""Which columns a density of whole rows can be put on: those of real numbers, on the scale that models see."""

from __future__ import annotations

from pyro.poutine import Trace

from pyro_mnar.infer.sites import columns_of, is_whole_row, sample_sites
from pyro_mnar.tables.schema import Schema


def check_row_kinds(trace: Trace, schema: Schema) -> None:
    """Refuse levels and counts in a row that is normal, or a mixture of such.

    Args:
        trace: Of the model.
        schema: The columns of its table.

    Raises:
        ValueError: Names site and column, and the cure.
    """
    for name, site in sample_sites(trace).items():
        if not is_whole_row(site) or site["fn"].base_dist.is_discrete:
            continue
        variable, law = name.removesuffix("_missing"), type(site["fn"].base_dist.fn).__name__
        for column in (schema.columns[at] for at in columns_of(site)):
            if column.kind.is_discrete:
                raise ValueError(
                    f"site {variable!r}, column {column.name!r}: expected real numbers, since {law} is a density of"
                    f" them, got kind {column.kind.name!r}: give the column a call of its own with"
                    f" distribution_for(table, {column.name!r}, ...), or declare it a number,"
                    f" Table.from_frame(..., kinds={{{column.name!r}: 'continuous'}})"
                )
