"""Whether groups of rows that U tells apart belong into p(Z|U) beside u, as species do where U has sizes."""

from __future__ import annotations

import copy
import logging

import numpy as np
import torch

from pyro_mnar.graphs.gap_regressions import nats_beside
from pyro_mnar.graphs.likely import MOST_ROWS
from pyro_mnar.memory import check_room
from pyro_mnar.nn.row_groups import RowGroups
from pyro_mnar.tables.positions import spread_evenly
from pyro_mnar.tables.schema import Schema
from pyro_mnar.tables.table import Table

ROWS_OF_A_GROUP = 10  # at least, on average, where so many are asked for
BYTES = 8  # of a number
LEAST_SEEN = 30  # values of a column that is asked
LEAST_NATS = 3.0  # by which columns with gaps have to be likelier, the slopes of what is beside u paid for

log = logging.getLogger("pyro_mnar.models.prior_groups")


def groups_by_u(table: Table) -> RowGroups:
    """Groups that U tells apart, whether they say anything of other columns or not; one where there is no such U."""
    rows = spread_evenly(len(table), MOST_ROWS)
    return RowGroups.found(
        table.aux[rows].double().numpy() if has_complete_u(table.schema) else np.zeros((len(rows), 0))
    )


def groups_that_tell(table: Table, groups: RowGroups) -> RowGroups | None:
    """These groups, where columns with gaps are likelier with them beside u; else None.

    Args:
        table: The rows.
        groups: As :func:`groups_by_u` finds them.
    """
    if not groups.num_groups or (nats := _nats(table, groups)) < LEAST_NATS:
        return None
    log.info("prior: %d groups of rows that U tells apart (%+.1f nats)", groups.num_groups + 1, nats)
    return copy.deepcopy(groups).to(torch.get_default_dtype())  # `to` changes what it is called on


def as_many_groups(table: Table | Schema, count: int) -> RowGroups | None:
    """So many groups by U; None for one.

    Args:
        table: The rows.  A schema has none: groups that were found elsewhere are to be loaded.
        count: How many.

    Raises:
        ValueError: If there is no U to tell them by, or it does not tell so many apart.
    """
    schema = table.schema if isinstance(table, Table) else table
    if count == 1:
        return None
    if not has_complete_u(schema):
        raise ValueError(f"groups: expected 1 where no auxiliary column tells groups of rows apart, got {count}")
    if not isinstance(table, Table):
        check_room("groups", count, BYTES * schema.num_auxiliaries**2, "covariances of groups")
        return RowGroups(schema.num_auxiliaries, count - 1)
    rows = spread_evenly(len(table), MOST_ROWS)
    if count > (most := max(1, len(rows) // ROWS_OF_A_GROUP)):
        raise ValueError(f"groups: expected at most {most} in {len(rows)} rows that are looked at, got {count}")
    found = RowGroups.found(table.aux[rows].double().numpy(), [count])
    if found.num_groups != count - 1:
        raise ValueError(f"groups: expected 1, since auxiliary columns and rows tell no groups apart, got {count}")
    return found.to(torch.get_default_dtype())


def has_complete_u(schema: Schema) -> bool:
    """Whether U is columns without gaps, if it has any, and not the mask."""
    return schema.auxiliary_source in ("named", "complete")


def _nats(table: Table, groups: RowGroups) -> float:
    """By how much groups make the columns with gaps likelier than u alone, less the price of their slopes (Schwarz
    1978); of a column that they do not help it is below zero.
    """
    rows = spread_evenly(len(table), MOST_ROWS)
    x, seen, aux = table.x[rows].double().numpy(), table.mask[rows].numpy(), table.aux[rows].double()
    u, belongs = aux.numpy(), groups(aux).numpy()
    total = 0.0
    for at, column in enumerate(table.schema.columns):
        here = seen[:, at]
        if column.incomplete and not column.kind.has_levels and here.sum() >= LEAST_SEEN:
            total += nats_beside(x[:, at], here, u, belongs)
    return total
