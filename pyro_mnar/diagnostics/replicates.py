"""Does the fitted model make data like the table's? Replicates of values and masks, against what was observed.

Over replicates of all rows given u, drawn from the model with its mask: shares missing by column, pairs of columns,
whole patterns, how values differ between rows where another column is missing and where it is seen, and moments of the
observed values (Gelman, Meng and Stern, 1996, Statistica Sinica 6).  Models that agree on the law of what is observed
pass alike, whatever they impute: no check of this kind tells them apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyro.poutine as poutine
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from pyro_mnar.imputation.generation import generated_rows
from pyro_mnar.infer.session import Session
from pyro_mnar.infer.shared import shared_part
from pyro_mnar.infer.sites import column_distribution, columns_of, mechanism_weight, sample_sites
from pyro_mnar.tables.blocks import EVENTS, members_of
from pyro_mnar.tables.positions import spread_evenly
from pyro_mnar.tables.table import Table
from pyro_mnar.training.evidence import row_weights
from pyro_mnar.training.fitted import Fit

MOST_ROWS, MOST_COLUMNS, MOST_PATTERNS, LEAST_ROWS = 5000, 30, 10, 5
RATE, PAIR, PATTERN, LINK, VALUES = "missing", "both missing", "pattern", "values where missing", "observed values"

Statistics = dict[tuple[str, str], float]


class Replicates(NamedTuple):
    """Tables drawn from a fitted model, given u.

    Attributes:
        table: The rows that they are replicates of.
        x: Complete rows in standardised units; ``(replicates, rows, columns)``.
        mask: Which values the model lets be seen; the table's own where it has no mechanism.
        scores_mask: Whether it has one.
    """

    table: Table
    x: Float[NDArray, "replicates rows columns"]
    mask: Bool[NDArray, "replicates rows columns"]
    scores_mask: bool


def replicated(fit: Fit, table: Table, replicates: int = 100, *, seed: int = 0) -> Replicates:
    """Draw tables from the model with its mask, given u.

    Args:
        fit: A trained model and guide.
        table: Rows in its units; of more than 5,000, as many spread evenly.
        replicates: How many tables to draw.
        seed: Same seed, same numbers.
    """
    chosen = spread_evenly(len(table), MOST_ROWS)
    table = table.take(chosen) if len(chosen) < len(table) else table
    x, masks = zip(*_drawn(fit, table, replicates, seed), strict=True)
    own = table.mask.numpy()
    return Replicates(
        table, np.stack(x), np.stack([own if mask is None else mask for mask in masks]), masks[0] is not None
    )


def predictive_checks(drawn: Replicates) -> pd.DataFrame:
    """Compare statistics of a table with those of its replicates.

    Returns:
        One row a statistic: ``check``, ``of``, ``observed``, ``replicated`` (mean), ``spread`` (standard deviation over
        replicates), ``p`` (two-sided, by a normal approximation), and ``flagged``: p below 0.01 over the number of
        statistics of its check.  Without the checks of the mask where the model has none.
    """
    table, mask = drawn.table, drawn.table.mask.numpy()
    patterns, weight = _frequent(mask), row_weights(table)
    aux = table.aux.double().numpy() if table.schema.auxiliary_source == "named" else np.empty((len(table), 0))
    own = statistics_of(table, table.x.double().numpy(), mask, aux, patterns, weight)
    theirs = [statistics_of(table, x, r, aux, patterns, weight) for x, r in zip(drawn.x, drawn.mask, strict=True)]
    rows = []
    for key, value in own.items():
        if key[0] != VALUES and not drawn.scores_mask:
            continue
        others = np.array([one[key] for one in theirs if np.isfinite(one.get(key, np.nan))])
        if len(others) > 2 and np.isfinite(value):
            rows.append((*key, value, others.mean(), others.std(ddof=1), _probability(value, others)))
    frame = pd.DataFrame(rows, columns=["check", "of", "observed", "replicated", "spread", "p"])
    frame["flagged"] = frame.p < 0.01 / frame.groupby("check").p.transform("size")
    return frame.sort_values("p", kind="stable", ignore_index=True)


def statistics_of(
    table: Table,
    x: Float[NDArray, "rows columns"],
    mask: Bool[NDArray, "rows columns"],
    aux: Float[NDArray, "rows auxiliaries"],
    patterns: list[Bool[NDArray, " columns"]],
    weight: Float[NDArray, " rows"] | None,
) -> Statistics:
    """Of a table or a replicate, in standardised units; shares and moments are weighted where rows have weights."""

    def share(which: Bool[NDArray, " rows"]) -> float:
        return float(np.average(which, weights=weight))

    columns = table.schema.columns
    names = [str(name) for name in table.schema.names]
    gaps = [d for d, column in enumerate(columns) if column.incomplete][:MOST_COLUMNS]
    found: Statistics = {(RATE, names[d]): share(~mask[:, d]) for d in gaps}
    for d, e in combinations(gaps, 2):
        found[PAIR, f"{names[d]}, {names[e]}"] = share(~mask[:, d] & ~mask[:, e])
    if len(gaps) > 1:
        for pattern in patterns:
            missing = ", ".join(name for name, seen in zip(names, pattern, strict=True) if not seen) or "nothing"
            found[PATTERN, f"missing: {missing}"] = share((mask == pattern).all(1))
    for d in gaps:
        for j, name in enumerate(names[:MOST_COLUMNS]):
            if j != d:
                found[LINK, f"{name} | {names[d]}"] = _difference(x[:, j], ~mask[:, d], mask[:, j], weight)
        for j in range(aux.shape[1]):
            found[LINK, f"U[{j}] | {names[d]}"] = _difference(
                aux[:, j], ~mask[:, d], np.ones(len(aux), dtype=bool), weight
            )
    for d, name in enumerate(names[:MOST_COLUMNS]):
        mean = _mean(x[:, d], mask[:, d], weight)
        found[VALUES, f"mean of {name}"] = mean
        found[VALUES, f"spread of {name}"] = _mean((x[:, d] - mean) ** 2, mask[:, d], weight) ** 0.5
    return found


def _drawn(fit: Fit, table: Table, count: int, seed: int) -> Iterator[tuple[Any, Any]]:
    """Complete rows and masks, given u; the mask is None where the model scores none."""
    session = Session(seed, fit.device, fit.store)
    batch = table.batch(fit.device)
    blind = batch.without_mechanism().without_bounds()
    for _ in range(count):
        with session.running(), torch.no_grad():
            shared = shared_part(poutine.trace(fit.guide).get_trace(batch))
            trace = poutine.trace(poutine.uncondition(poutine.replay(fit.model, trace=shared))).get_trace(blind)
            x, mask, scored = generated_rows(trace, blind), batch.mask.clone(), False
            for site in sample_sites(trace).values():
                if not mechanism_weight(site):
                    continue
                scored, at = True, columns_of(site)
                logits = column_distribution(site["fn"]).logits
                seen = torch.rand_like(logits) < logits.sigmoid()
                modelled = (batch.mask_modelled & batch.incomplete)[:, at]
                mask[:, at] = torch.where(modelled, seen, mask[:, at])
            members = members_of(table.schema.blocks, table.schema.names)
            if members is not None and EVENTS in trace.nodes:  # columns that the model has go missing together
                events = torch.as_tensor(trace.nodes[EVENTS]["value"], dtype=torch.bool)
                members = members.to(events.device)
                mask &= ~(events.unsqueeze(-1) & members & batch.mask_modelled.unsqueeze(-2)).any(-2)
        yield x.cpu().double().numpy(), mask.cpu().numpy() if scored else None


def _frequent(mask: Bool[NDArray, "rows columns"]) -> list[Bool[NDArray, " columns"]]:
    patterns, counts = np.unique(mask, axis=0, return_counts=True)
    return list(patterns[np.argsort(-counts, kind="stable")[:MOST_PATTERNS]])


def _difference(values: Float[NDArray, " rows"], missing: NDArray[Any], seen: NDArray[Any], weight: Any) -> float:
    """Mean of seen values where another column is missing, less that where it is not."""
    one, other = missing & seen, ~missing & seen
    if min(one.sum(), other.sum()) < LEAST_ROWS:
        return np.nan
    return _mean(values, one, weight) - _mean(values, other, weight)


def _mean(values: Float[NDArray, " rows"], which: Bool[NDArray, " rows"], weight: Any) -> float:
    """Over some rows, as often as each counts; NaN where none does."""
    own = None if weight is None else weight[which]
    counts = which.sum() if own is None else own.sum()
    return float(np.average(values[which], weights=own)) if counts else np.nan


def _probability(value: float, others: Float[NDArray, " replicates"]) -> float:
    from scipy import stats

    spread = others.std(ddof=1)
    if spread < 1e-12:
        return float(np.isclose(value, others.mean()))
    # Replicates are finitely many, so their mean and spread are estimates too.
    distance = abs(value - others.mean()) / (spread * (1 + 1 / len(others)) ** 0.5)
    return float(2 * stats.t.sf(distance, len(others) - 1))
