"""The law of R of an ignorable rival: gaps caused by what is always seen, by other R, or by nothing.

    p(R | U) = Π_events Bernoulli(share) · Π_d σ(a_d + γ_dᵀ w)^{r_d} (1 - σ(a_d + γ_dᵀ w))^{1 - r_d}

with w columns that are never missing and U.  It does not depend on what is missing, so log p(x_o, r | u) is the sum of
log p(x_o | u), by a model without a mechanism, and of this.  Whether few of the w are worth their price is judged as
the default graph judges it (:mod:`pyro_mnar.graphs.gap_evidence`).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pyro.poutine as poutine
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import nn

from pyro_mnar.graphs.gap_regressions import logistic_regression, seen_causes
from pyro_mnar.graphs.graph import MissingnessGraph
from pyro_mnar.graphs.nodes import Nodes
from pyro_mnar.infer.session import Session
from pyro_mnar.infer.sites import columns_of, mechanism_weight, sample_sites
from pyro_mnar.mechanisms import Blocks
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.blocks import events
from pyro_mnar.tables.positions import spread_evenly
from pyro_mnar.tables.schema import Schema
from pyro_mnar.tables.table import Table
from pyro_mnar.training.fitted import Fit

MOST_ROWS = 20_000  # by which the law is found
MOST_CANDIDATES = 10  # columns that a cause is looked for among, those that say most of the gaps
LEAST_CHANCE = 1e-9
FARTHEST = 20.0  # standard deviations from the mean

Rows = Float[NDArray, " rows"]


class SeenLaw(NamedTuple):
    """The law at its maximum.

    Attributes:
        log_likelihood: Of each row's R, in nats; ``(rows,)``.
        price: Of the slopes that were chosen, in nats over all rows of the table.
    """

    log_likelihood: Rows
    price: float


def unseen_causes(graph: MissingnessGraph) -> dict[Hashable, list[Hashable]]:
    """Of each column that can go missing, the causes of its R that may be missing themselves: columns and the latent;
    columns without such a cause are left out.
    """
    seen = set(graph.nodes.given)
    found = {
        column: [p for p in graph.parents(column) if p not in seen and not graph.nodes.is_r(p)]
        for column in graph.nodes.incomplete
    }
    return {column: parents for column, parents in found.items() if parents}


def law_of_seen(fit: Fit, graph: MissingnessGraph, table: Table, rows: Int[NDArray, " rows"]) -> SeenLaw:
    """The likeliest such law of the R that a fit's model scores, in the cells that it scores.

    A column whose R has no unseen cause in the fit keeps its causes, and neither pays for them; where it has one,
    complete columns and U are looked through for causes that are worth their price.

    Args:
        fit: The fit.
        graph: Who causes whose R in it.
        table: All rows.
        rows: Those whose likelihood is asked for.
    """
    schema, source = table.schema, table.source()
    blocks = _blocks_of(fit)
    by, asked = (
        _Rows.of(source.take(torch.from_numpy(at)), blocks) for at in (spread_evenly(len(table), MOST_ROWS), rows)
    )
    unseen, candidates = unseen_causes(graph), _candidates(schema)
    share = by.events.mean(0).clip(LEAST_CHANCE, 1 - LEAST_CHANCE)
    total, price = (np.log(share) * asked.events + np.log1p(-share) * (1 - asked.events)).sum(1), 0.0
    for at in scored_columns(fit, table):
        name, used = schema.columns[at].name, by.modelled[:, at]
        if not used.any():
            continue
        causes: list[Hashable] = list(graph.parents(name))
        if name in unseen:
            causes = [cause for cause in causes if graph.nodes.is_r(cause)]
        inputs = [one.values_of(causes, schema) for one in (by, asked)]
        r = by.mask[used, at]
        if name in unseen:
            tried = [one.values_of(candidates, schema) for one in (by, asked)]
            near = _nearest(tried[0][used], r)
            nothing = logistic_regression(r, tried[0][used][:, :0]).log_likelihood
            chosen, _ = seen_causes(r, tried[0][used][:, near], nothing)
            inputs = [np.concatenate([a, b[:, near][:, chosen]], axis=1) for a, b in zip(inputs, tried, strict=True)]
            price += len(chosen) * (price_of_slope(table, at) + np.log(max(len(near), 1)))
        found = logistic_regression(r, inputs[0][used])
        signed = (2 * asked.mask[:, at] - 1) * (inputs[1] @ found.slopes + found.intercept)
        total = total - np.logaddexp(0.0, -signed) * asked.modelled[:, at]
    return SeenLaw(total, price)


def scored_columns(fit: Fit, table: Table) -> list[int]:
    """Positions of the columns that can go missing and whose R the model scores."""
    few = table.source(fit.device).take(torch.arange(min(len(table), 8), device=fit.device))
    with Session(0, fit.device, fit.store).running(), torch.no_grad():
        sites = sample_sites(poutine.trace(fit.model).get_trace(few)).values()
    scored = {d for site in sites if mechanism_weight(site) for d in columns_of(site)}
    return [d for d in sorted(scored) if table.schema.columns[d].incomplete]


def price_of_slope(table: Table, column: int) -> float:
    """Half the logarithm of the number of rows whose R is modelled (Schwarz 1978), in nats."""
    batch = table.source().take(torch.from_numpy(spread_evenly(len(table), MOST_ROWS)))
    share = float(batch.mask_modelled[:, column].double().mean())
    return 0.5 * float(np.log(max(share * len(table), 1.0)))


@dataclass(frozen=True)
class _Rows:
    """Some rows: what is seen, and whose R the mechanism explains."""

    batch: Batch
    mask: Float[NDArray, "rows columns"]
    modelled: Bool[NDArray, "rows columns"]
    events: Float[NDArray, "rows blocks"]

    @classmethod
    def of(cls, batch: Batch, blocks: Blocks | None) -> _Rows:
        found, left = torch.zeros(len(batch), 0), batch
        if blocks is not None:
            members = blocks.members.cpu()
            found = events(members, batch.mask, batch.mask_modelled)
            explained = (found.unsqueeze(-1) & members).any(-2)
            left = replace(batch, mask_modelled=batch.mask_modelled & ~explained)
        return cls(batch, batch.mask.double().numpy(), left.mask_modelled.numpy(), found.double().numpy())

    def values_of(self, names: Sequence[Hashable], schema: Schema) -> Float[NDArray, "rows inputs"]:
        """Values of complete columns, U and R; levels without an order as indicators."""
        parts = [np.zeros((len(self.batch), 0)), *(self._values_of(name, schema) for name in names)]
        return np.concatenate(parts, axis=1)

    def _values_of(self, name: Hashable, schema: Schema) -> Float[NDArray, "rows inputs"]:
        of_aux = [auxiliary.name for auxiliary in schema.auxiliaries for _ in range(auxiliary.width)]
        if name in of_aux:
            at = [place for place, other in enumerate(of_aux) if other == name]
            return self.batch.aux[:, at].double().numpy()
        if name not in schema.names:
            # As mechanisms have it: an R that nothing explains, an event's among them, counts as seen.
            at = [Nodes.r(other) for other in schema.names].index(str(name))
            return np.maximum(self.mask[:, [at]], ~self.modelled[:, [at]])
        at = schema.names.index(name)
        column, x = schema.columns[at], self.batch.x[:, [at]].double().numpy()
        if column.is_nominal:
            codes = np.rint(x * column.std + column.mean)
            return (codes == np.arange(1, len(column.kind.levels))).astype(np.float64)
        return x.clip(-FARTHEST, FARTHEST)


def _blocks_of(fit: Fit) -> Blocks | None:
    modules = fit.model.modules() if isinstance(fit.model, nn.Module) else ()
    return next((module for module in modules if isinstance(module, Blocks)), None)


def _candidates(schema: Schema) -> list[Hashable]:
    """U where it is no mask, and the other columns that are never missing."""
    found = [a.name for a in schema.auxiliaries] if schema.auxiliary_source in ("named", "complete") else []
    complete = [c.name for c in schema.columns if not c.incomplete and not c.is_constant]
    return list(dict.fromkeys([*found, *complete]))


def _nearest(values: Float[NDArray, "rows inputs"], r: Float[NDArray, " rows"]) -> list[int]:
    """Positions of those that say most of r."""
    apart, of_r = values - values.mean(0), r - r.mean()
    size = np.sqrt((apart**2).sum(0) * (of_r @ of_r))
    told = np.abs(of_r @ apart) / np.where(size > 0, size, np.inf)
    return [int(at) for at in np.argsort(-told, kind="stable")[:MOST_CANDIDATES] if told[at] > 0]
