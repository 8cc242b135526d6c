"""Forests on U in p(Z|U): of those columns with gaps that are likelier with what forests expect beside u."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Collection, Hashable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from pyro_mnar.graphs.gap_regressions import nats_beside
from pyro_mnar.graphs.likely import LEAST_SEEN, MOST_ROWS
from pyro_mnar.messages import shown
from pyro_mnar.models.prior_groups import LEAST_NATS, has_complete_u
from pyro_mnar.nn.forests import Forests
from pyro_mnar.nn.row_groups import RowGroups
from pyro_mnar.tables.columns import Column
from pyro_mnar.tables.dense import DenseStorage
from pyro_mnar.tables.positions import spread_evenly
from pyro_mnar.tables.schema import Schema
from pyro_mnar.tables.table import Table, schema_of

MOST_FORESTS = 12  # each has a latent; of more columns, those with the most gaps

log = logging.getLogger("pyro_mnar.models.prior_forests")


def forests_of(
    table: Table | Schema,
    asked: bool | Collection[Hashable],
    groups: RowGroups | None,
    own: Collection[Hashable],
) -> tuple[list[Hashable], Forests | None]:
    """The columns that have a forest, and the forests.

    Args:
        table: The rows, of which 2,000 are looked at.  A schema has none: forests that were grown elsewhere are to be
            loaded.
        asked: Columns by name; True for those that are likelier with a forest beside u and groups (by three nats, its
            slope paid for and that it is one of several that are tried), False for none.
        groups: What the prior knows beside u already.
        own: Columns whose own values cause their gaps, so that True does not mean them.

    Raises:
        TypeError: If it is neither a boolean nor names.
        ValueError: If a name is none of a column of numbers with gaps and some values, or nothing is there to expect
            them by.
    """
    schema = schema_of(table)
    has_u = schema.num_auxiliaries > 0 and has_complete_u(schema)
    dense = table if isinstance(table, Table) and isinstance(table.storage, DenseStorage) else None
    if isinstance(asked, bool):
        if not asked or not has_u or dense is None:
            return [], None
        return _that_tell(dense, groups, own)
    if isinstance(asked, str) or not isinstance(asked, Collection):
        raise TypeError(f"forests: expected True, False or names of columns, got {shown(asked)}")
    able = {column.name for column in schema.columns if _can_have_one(column)}
    for name in asked:
        if not isinstance(name, Hashable) or name not in able:
            raise ValueError(f"forests: expected columns of numbers that have gaps, got {shown(name)}")
    names = [name for name in schema.names if name in asked]
    if not names:
        return [], None
    if not has_u:
        raise ValueError(f"forests: expected none where no auxiliary column is complete, got {shown(asked)}")
    if dense is None:
        if isinstance(table, Table):
            raise ValueError("forests: expected none for a sparse table")
        return names, Forests(schema.num_auxiliaries, len(names))
    return names, _Rows.of(dense).grown([schema.names.index(name) for name in names]).to(torch.get_default_dtype())


class _Rows(NamedTuple):
    """The rows that are looked at.

    Attributes:
        x: Values, any number in the gaps.
        seen: Where there are values.
        aux: u.
    """

    x: Float[NDArray, "rows columns"]
    seen: Bool[NDArray, "rows columns"]
    aux: Float[Tensor, "rows auxiliaries"]

    @classmethod
    def of(cls, table: Table) -> _Rows:
        """Of long tables 2,000."""
        rows = spread_evenly(len(table), MOST_ROWS)
        return cls(table.x[rows].double().numpy(), table.mask[rows].numpy(), table.aux[rows].double())

    def grown(self, columns: list[int]) -> Forests:
        """Forests of these columns; ValueError if one has no values."""
        if not self.seen[:, columns].any(0).all():
            raise ValueError("forests: expected columns with values in the rows that are looked at")
        return Forests.grown(self.aux.numpy(), self.x[:, columns], self.seen[:, columns])


def _can_have_one(column: Column) -> bool:
    return column.incomplete and not column.kind.has_levels


def _that_tell(
    table: Table, groups: RowGroups | None, own: Collection[Hashable]
) -> tuple[list[Hashable], Forests | None]:
    rows = _Rows.of(table)
    count = rows.seen.sum(0)
    asked = [
        at
        for at, column in enumerate(table.schema.columns)
        if _can_have_one(column) and column.name not in own and count[at] >= LEAST_SEEN
    ]
    asked = sorted(sorted(asked, key=count.__getitem__)[:MOST_FORESTS])
    if not asked:
        return [], None
    forests = rows.grown(asked)
    known = [rows.aux] if groups is None else [rows.aux, copy.deepcopy(groups).to(rows.aux)(rows.aux)]
    expected, design = forests(rows.aux).numpy(), torch.cat(known, dim=-1).numpy()
    nats = [nats_beside(rows.x[:, at], rows.seen[:, at], design, expected[:, [n]]) for n, at in enumerate(asked)]
    kept = [n for n, found in enumerate(nats) if found >= LEAST_NATS + math.log(len(asked))]
    if not kept:
        return [], None
    names = [table.schema.names[asked[n]] for n in kept]
    log.info("prior: forests on U for %s (%+.1f nats)", ", ".join(map(repr, names)), sum(nats[n] for n in kept))
    return names, forests.of(kept).to(torch.get_default_dtype())
