"""Imputing single cells: what a wide table needs, whose gaps are too many to fill, and a recommender's test set.

The particles and weights are those of :mod:`pyro_mnar.imputation.sampler`; only what is kept of them differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int, Real
from numpy.typing import NDArray

from pyro_mnar.imputation.averages import CellAverages, Weighted
from pyro_mnar.imputation.results import ImputedCells, joint_sample_size, mean_over
from pyro_mnar.imputation.sampler import Sampler
from pyro_mnar.tables.positions import CellPositions
from pyro_mnar.tables.schema import Schema
from pyro_mnar.tables.table import Table


@dataclass(frozen=True)
class CellImputations(ImputedCells):
    """Draws and means of the cells that were asked for, in the user's units and in the order asked.

    Attributes:
        table: The table that was imputed.
        cells: Row and column position of each cell; ``(2, cells)``.
        draws: One joint draw of all cells of a row, independent between rows; ``(draws, cells)``.
        means: Σ_k w_k x_u^k over all particles of all draws; of words, the position of the most probable;
            ``(cells,)``.
        effective_sample_size: Of each cell's row, as in :class:`~pyro_mnar.Imputations`; ``(cells,)``.
        shares: Posterior probability of every level, zero beyond a column's last one; empty for columns without levels;
            ``(cells, levels)``.
    """

    shares: Float[NDArray, "cells levels"]

    @classmethod
    def of_fits(cls, parts: Sequence[CellImputations]) -> CellImputations:
        """Draws of several fits of the same cells, one after the other; means over the fits."""
        first = parts[0]
        means, shares = mean_over([part.means for part in parts]), mean_over([part.shares for part in parts])
        words = np.array([column.kind.holds_words for column in first.table.schema.columns])[first.cells[1]]
        if words.any():
            means[words] = shares[words].argmax(1)
        draws = np.concatenate([part.draws for part in parts])
        effective = joint_sample_size([part.effective_sample_size for part in parts])
        return cls(first.table, first.cells, draws, means, effective, shares)

    def __repr__(self) -> str:
        rows = len(np.unique(self.cells[0]))
        return f"CellImputations({self.num_draws} draws of {self.cells.shape[1]} cells in {rows} rows)"

    def mean(self) -> pd.DataFrame:
        """A long frame with the posterior mean of each cell; of words, the most probable one."""
        return super().mean()

    def frames(self) -> Iterator[pd.DataFrame]:
        """Long frames, one a draw; whole numbers if all the cells' columns hold such."""
        return super().frames()

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
        frame = self.mean()[[names.row, names.column]]
        shares = pd.DataFrame(self.shares[:, : len(shared)], columns=pd.Index(shared, tupleize_cols=False))
        return pd.concat([frame, shares], axis=1)

    @cached_property
    def _are_whole(self) -> bool:
        kinds = {self.table.schema.columns[position].kind for position in np.unique(self.cells[1]).tolist()}
        return bool(kinds) and all(kind.holds_integers for kind in kinds)

    def _frame(self, values: Real[NDArray, " cells"], *, keep_integers: bool) -> pd.DataFrame:
        if keep_integers and self._are_whole:
            values = values.astype(np.int64)
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
    rows_at_once = max(1, sampler.limits.elements // (sampler.num_particles * elements))
    for start in range(0, len(distinct), rows_at_once):
        chunk = distinct[start : start + rows_at_once]
        here = slice(bounds[start], bounds[start + len(chunk)])
        row = torch.from_numpy(np.searchsorted(chunk, rows[here])).to(device)
        column = torch.from_numpy(columns[here]).to(device)
        parts, drawn = [], []
        for particles in sampler.particle_sets(source.take(torch.from_numpy(chunk)).to(device), len(chunk) * elements):
            x = particles.x[:, row, column]
            mean = None if particles.given.mean is None else particles.given.mean[:, row, column]
            parts.append(Weighted.of(particles.log_weights[:, row], averages.features(x, columns[here], mean)))
            drawn.append(particles.draws[:, row, column])
        draws[:, here] = averages.to_units(torch.cat(drawn).cpu().double().numpy(), columns[here])
        of_all = reduce(Weighted.joined, parts)
        means[here], shares[here] = averages.decode(of_all.mean.cpu().double().numpy(), columns[here])
        effective[here] = of_all.effective_sample_size().cpu().numpy()

    for position in np.unique(columns).tolist():
        here, column = columns == position, table.schema.columns[position]
        draws[:, here], means[here] = column.settle(draws[:, here]), column.settle(means[here])
    if table.bounds is not None:
        for values in (draws, means):
            table.bounds.hold(values, np.stack([rows, columns]))
    back = np.argsort(order, kind="stable")
    return CellImputations(table, np.stack(asked), draws[:, back], means[back], effective[back], shares[back])


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
