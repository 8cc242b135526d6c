"""Imputing single cells: what a wide table needs, whose gaps are too many to fill, and a recommender's test set.

The particles and weights are those of :mod:`pyro_mnar.imputation.sampler`; only what is kept of them differs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int, Real
from numpy.typing import NDArray

from pyro_mnar.imputation.averages import CellAverages, Weighted
from pyro_mnar.imputation.sampler import ELEMENTS_AT_ONCE, Sampler
from pyro_mnar.tables.positions import CellPositions
from pyro_mnar.tables.schema import Schema
from pyro_mnar.tables.table import Table


@dataclass(frozen=True)
class CellImputations:
    """Draws and means of the cells that were asked for, in the user's units and in the order asked.

    Attributes:
        table: The table that was imputed.
        cells: Row and column position of each cell; ``(2, cells)``.
        draws: One joint draw of all cells of a row, independent between rows; ``(draws, cells)``.
        means: Σ_k w_k x_u^k over all particles of all draws; of words, the position of the most probable;
            ``(cells,)``.
        shares: Posterior probability of every level, zero beyond a column's last one; empty for columns without levels;
            ``(cells, levels)``.
        effective_sample_size: Of each cell's row, as in :class:`~pyro_mnar.Imputations`; ``(cells,)``.
    """

    table: Table
    cells: Int[NDArray, "2 cells"]
    draws: Float[NDArray, "draws cells"]
    means: Float[NDArray, " cells"]
    shares: Float[NDArray, "cells levels"]
    effective_sample_size: Float[NDArray, " cells"]

    def __repr__(self) -> str:
        rows = len(np.unique(self.cells[0]))
        return f"CellImputations({self.num_draws} draws of {self.cells.shape[1]} cells in {rows} rows)"

    @property
    def num_draws(self) -> int:
        """Number of draws."""
        return len(self.draws)

    def mean(self) -> pd.DataFrame:
        """A long frame with the posterior mean of each cell; of words, the most probable one."""
        return self._long(self.means)

    def frames(self) -> Iterator[pd.DataFrame]:
        """Long frames, one a draw."""
        columns = self.cells[1]
        kinds = {column.kind for column in (self.table.schema.columns[at] for at in np.unique(columns).tolist())}
        are_whole = bool(kinds) and all(kind.holds_integers for kind in kinds)
        for draw in self.draws:
            yield self._long(draw.astype(np.int64) if are_whole else draw)

    def probabilities(self) -> pd.DataFrame:
        """Posterior probability of every level: the long frame's row and column, and a column a level.

        Raises:
            ValueError: If the cells' columns do not share one set of levels.
        """
        columns = [self.table.schema.columns[position] for position in np.unique(self.cells[1]).tolist()]
        levels = {column.kind.levels for column in columns}
        if len(levels) != 1 or not (shared := levels.pop()):
            raise ValueError("cells: expected columns that share one set of levels, got others too")
        names = self.table.long_names
        frame = self._long(self.means)[[names.row, names.column]]
        shares = pd.DataFrame(self.shares[:, : len(shared)], columns=pd.Index(shared, tupleize_cols=False))
        return pd.concat([frame, shares], axis=1)

    def _long(self, values: Real[NDArray, " cells"]) -> pd.DataFrame:
        names, schema = self.table.long_names, self.table.schema
        rows, columns = self.cells
        of_columns = pd.Index(schema.names, tupleize_cols=False)
        return pd.DataFrame(
            {
                names.row: self.table.row_labels[rows],
                names.column: of_columns[columns],
                names.value: _labelled(schema, columns, values),
            }
        )


def impute_cells(table: Table, cells: CellPositions, sampler: Sampler, device: torch.device) -> CellImputations:
    """Impute some cells, as many rows at a time as fit into memory; see :func:`pyro_mnar.impute`."""
    asked = table.positions(cells)
    _refuse_what_is_no_gap(table, *asked)
    order = np.argsort(asked.rows, kind="stable")
    rows, columns = asked.rows[order], asked.columns[order]
    distinct, first = np.unique(rows, return_index=True)
    bounds = np.append(first, len(rows))

    averages = CellAverages(table.schema, table.dtype, device)
    draws, means = np.empty((sampler.num_draws, len(rows))), np.empty(len(rows))
    shares, effective = np.zeros((len(rows), averages.num_levels)), np.empty(len(rows))
    source = table.source()
    # Of a row there are all columns in flight, and of its cells asked for the value and an indicator of each level.
    elements = max(table.schema.num_columns, int(np.diff(bounds).max(initial=0)) * (1 + averages.num_levels))
    rows_at_once = max(1, ELEMENTS_AT_ONCE // (sampler.num_particles * elements))
    for start in range(0, len(distinct), rows_at_once):
        chunk = distinct[start : start + rows_at_once]
        here = slice(bounds[start], bounds[start + len(chunk)])
        row = torch.from_numpy(np.searchsorted(chunk, rows[here])).to(device)
        column = torch.from_numpy(columns[here]).to(device)
        parts, drawn = [], []
        for run in sampler.runs(source.take(torch.from_numpy(chunk)).to(device), len(chunk) * elements):
            x = run.x[:, row, column]
            parts.append(Weighted.of(run.log_weights[:, row], averages.features(x, columns[here])))
            drawn.append(x.gather(0, run.chosen[:, row]))
        draws[:, here] = averages.to_units(torch.cat(drawn).cpu().double().numpy(), columns[here])
        of_all = reduce(Weighted.joined, parts)
        means[here], shares[here] = averages.decode(of_all.mean.cpu().double().numpy(), columns[here])
        effective[here] = of_all.effective_sample_size().cpu().numpy()

    if table.bounds is not None:
        for values in (draws, means):
            table.bounds.hold(values, np.stack([rows, columns]))
    back = np.argsort(order, kind="stable")
    return CellImputations(table, np.stack(asked), draws[:, back], means[back], shares[back], effective[back])


def _refuse_what_is_no_gap(table: Table, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> None:
    is_observed, is_applicable = table.status(rows, columns)
    for wrong, got in ((is_observed, "an observed value; hold it out first"), (~is_applicable, "one without a value")):
        if wrong.any():
            at = int(wrong.argmax())
            label, name = table.row_labels[rows[at] : rows[at] + 1].tolist()[0], table.schema.names[columns[at]]
            raise ValueError(f"cells: expected gaps, got row {label!r}, column {name!r}, {got}")


def _labelled(schema: Schema, columns: Int[NDArray, " cells"], values: Real[NDArray, " cells"]) -> NDArray[Any]:
    """Numbers in the user's units, with words for levels that are words."""
    of_columns = [schema.columns[position] for position in np.unique(columns).tolist()]
    if not any(column.kind.holds_words for column in of_columns):
        return values
    labelled = values.astype(object)
    for position, column in zip(np.unique(columns).tolist(), of_columns, strict=True):
        here = columns == position
        labelled[here] = column.labelled(values[here])
    return labelled
