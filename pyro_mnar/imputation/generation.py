"""New rows from a fitted model: z from the prior, x from the decoder, by running the model function itself.

This is how the paper judges whether p(X) was recovered (section 6.1): what the model generates against fresh complete
rows.
"""

from __future__ import annotations

import pandas as pd
import pyro.poutine as poutine
import torch
from jaxtyping import Float
from torch import Tensor

from pyro_mnar.infer.session import Session
from pyro_mnar.infer.shared import shared_part
from pyro_mnar.infer.sites import columns_of, holds_columns, holds_observed, sample_sites
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.table import Table
from pyro_mnar.training.fitted import Fit


def generate(fit: Fit, table: Table, *, seed: int = 0, rows_at_once: int = 65_536) -> pd.DataFrame:
    """Draw one complete row for every row of a table, given that row's u alone.

    Latents that all rows share (priors on parameters) are drawn once from the guide, for the whole table: another seed
    is another posterior draw of them.  Nothing observed of X enters, only what serves as U; so over the table the rows
    follow the model's p(X), with U as in the table.  Where U = mask, the rows' own masks are the U.

    Args:
        fit: A trained model; its guide is used for latents that all rows share.
        table: Rows whose auxiliary variables to take; repeat rows (``table.take``) for more draws.
        seed: Same seed, same rows; the caller's generators stay as they are.
        rows_at_once: Rows in memory at once; other rows come of another number.

    Returns:
        The modelled columns, complete, in the user's units and on the table's index; ``(rows, columns)``.  A complete
        column that the model is conditional on, since no call of ``partially_observed`` has it, is as it stands in the
        table.

    Raises:
        ValueError: If the model has no site made by ``partially_observed``, or is conditional on a column that has gaps
            in these rows.
    """
    session = Session(seed, fit.device, fit.store)
    few = next(table.batches(2, device=fit.device))
    with session.running(), torch.no_grad():
        shared = shared_part(poutine.trace(fit.guide).get_trace(few))
    model = poutine.uncondition(poutine.replay(fit.model, trace=shared))
    drawn = []
    for batch in table.batches(rows_at_once, device=fit.device):
        with session.running(), torch.no_grad():
            trace = poutine.trace(model).get_trace(batch.without_mechanism().without_bounds())
            drawn.append(generated_rows(trace, batch))
    x = torch.cat(drawn).cpu().numpy()
    columns = {i: column.labelled(column.decode(x[:, i])) for i, column in enumerate(table.schema.columns)}
    generated = pd.DataFrame(columns, index=table.row_labels)
    generated.columns = pd.Index(table.schema.names)
    return generated


def generated_rows(trace: poutine.Trace, batch: Batch) -> Float[Tensor, "rows columns"]:
    """The completed row, put together from the two sites of each ``partially_observed``, both now drawn, and the
    columns that the model is conditional on.
    """
    sites = [site for site in sample_sites(trace).values() if holds_columns(site)]
    if not sites:
        raise ValueError("the model has no site made by partially_observed, so nothing tells which values are X")
    drawn = {column for site in sites for column in columns_of(site)}
    given = [d for d in range(batch.num_columns) if d not in drawn]
    if given and not bool(batch.mask[:, given].all()):
        row, at = (~batch.mask[:, given]).nonzero()[0].tolist()
        raise ValueError(
            f"column {batch.names[given[at]]!r}: the model is conditional on it, since no partially_observed has it, so"
            f" nothing draws its gap in row {int(batch.index[row])}"
        )
    x = torch.full_like(batch.x, torch.nan)
    x[:, given] = batch.x[:, given]
    for site in sites:
        columns = columns_of(site)
        seen = batch.mask[:, columns]
        here = seen if holds_observed(site) else ~seen
        x[:, columns] = torch.where(here, site["value"].to(x.dtype), x[:, columns])
    return x
