"""Columns whose law cannot tell which of their values go missing: those in which one value is more than half.

To a normal law, or any other density, an atom at an end of the values is a threshold there, and as much evidence for it
as one likes: amounts that are mostly zero look as if all below zero were missing.  So such columns have no say in their
slopes, which are the others' (:meth:`pyro_mnar.mechanisms.steepness.SteepLines.share_slopes`).
"""

from __future__ import annotations

import logging

import numpy as np
from torch import nn

from pyro_mnar.graphs.gap_evidence import has_atom
from pyro_mnar.mechanisms.steepness import SteepLines
from pyro_mnar.messages import in_line
from pyro_mnar.tables.dense import DenseStorage
from pyro_mnar.tables.schema import Schema
from pyro_mnar.tables.table import Table

log = logging.getLogger(__name__)


def share_slopes_of_atoms(mechanism: nn.Module, table: Table | Schema) -> None:
    """Let columns with such an atom have the slopes of the other incomplete columns, and say so.

    Not those of kinds that give a value a probability (counts, zeros beside amounts), nor those of a declared sign or
    slope; and none where every incomplete column has an atom.

    Args:
        mechanism: p(R|X,Z); one without lines of own values is left alone.
        table: The table that the model is for; a schema alone tells of no atoms.
    """
    if not isinstance(table, Table) or not isinstance(table.storage, DenseStorage):
        return
    if not isinstance(mechanism, SteepLines):
        return
    x, seen = table.x.numpy(), table.mask.numpy()
    incomplete = [d for d, column in enumerate(table.schema.columns) if column.incomplete]
    atoms = [d for d in incomplete if not table.schema.columns[d].kind.is_discrete and has_atom(x[seen[:, d], d])]
    followers = mechanism.share_slopes(atoms, np.setdiff1d(incomplete, atoms).tolist())
    if followers:
        log.warning(
            "columns %s: more than half of the values seen are one number, which a density takes for a threshold where"
            " it is an end; so their slopes are those of the other columns, on average (sign= or slope=, or an edge's,"
            " says otherwise; so does a kind that knows of zeros)",
            ", ".join(in_line(table.schema.names[d]) for d in followers),
        )
