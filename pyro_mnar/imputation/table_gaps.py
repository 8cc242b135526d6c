"""Every gap of a table, chunk by chunk, in the user's units."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import torch

from pyro_mnar.imputation.applicability import average_applicable
from pyro_mnar.imputation.chunks import imputed
from pyro_mnar.imputation.imputations import Imputations
from pyro_mnar.imputation.sampler import Sampler
from pyro_mnar.tables.table import Table


def impute_gaps(table: Table, sampler: Sampler, device: torch.device, mode: str) -> Imputations:
    """Impute every gap of a table, as many rows at a time as fit into memory; see :func:`pyro_mnar.impute`."""
    num_draws = sampler.num_draws
    wanted = (~table.mask & table.applicable).numpy()
    with_gaps = np.flatnonzero(wanted.any(1))
    cells = np.stack(np.nonzero(wanted))
    draws, means = np.empty((num_draws, cells.shape[1])), np.empty(cells.shape[1])
    effective = np.full(len(table), np.inf)

    averages = sampler.averages
    shares = {at: np.empty((int((cells[1] == at).sum()), width)) for at, width in averages.widths.items()}
    done, shared = 0, dict.fromkeys(shares, 0)
    with closing(imputed(sampler, table.batch(), with_gaps, device, mode)) as parts:
        for rows, chunk in parts:
            here = wanted[rows]
            stop = done + int(here.sum())
            draws[:, done:stop] = chunk.draws[:, torch.from_numpy(here).to(device)].cpu().numpy()
            found, levels = averages.decode(chunk.mean.cpu().double().numpy())
            means[done:stop] = found[here]
            for at, share in shares.items():
                first, shared[at] = shared[at], shared[at] + int(here[:, at].sum())
                share[first : shared[at]] = levels[at][here[:, at]]
            effective[rows] = chunk.effective_sample_size.cpu().numpy()
            done = stop

    for position, column in enumerate(table.schema.columns):
        here = cells[1] == position
        draws[:, here] = column.settle(column.decode(draws[:, here]))
        means[here] = column.settle(means[here])
    if table.bounds is not None:
        table.bounds.hold(draws, cells)
        table.bounds.hold(means, cells)
    if sampler.conditions is not None:
        sampler.conditions.settle(draws, cells)
    if sampler.applicability is not None:
        sampler.applicability.settle(draws, cells)
        average_applicable(table, cells, draws, means, shares)
    return Imputations(
        table,
        cells,
        draws,
        means,
        effective,
        shares,
        sampler.target,
        sampler.conditions,
        sampler.applicability,
        from_posterior=sampler.has_posterior,
    )
