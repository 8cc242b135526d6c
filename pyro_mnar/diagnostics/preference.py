"""Which of a fit and its ignorable companion the data prefer, and by how many nats.

Both are laws of the same data, x_o and r given U.  With L the log evidence outside U at fitted parameters,

    nats = (L_fit - price) - (L_ignorable - price),    weight of the fit = 1 / (1 + exp(-nats))

a difference of two Schwarz criteria (1978), which approximates the logarithm of a Bayes factor, and the probability of
the fit if it is one of the two and both were as likely before.  The two have the same reference model, so that only
slopes of the mask are paid for: ½ log n nats each, in the companion with the choice among several.  A network pays as
one slope for each cause, which is too little.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray
from torch import nn

from pyro_mnar.diagnostics.seen_causes import law_of_seen, price_of_slope, unseen_causes
from pyro_mnar.diagnostics.without_mechanism import TrainedAlike, WithoutMechanism
from pyro_mnar.graphs.graph import MissingnessGraph
from pyro_mnar.mechanisms import SelfMasking
from pyro_mnar.tables.positions import spread_evenly
from pyro_mnar.tables.table import Table
from pyro_mnar.training.evidence import Evidence, log_evidence
from pyro_mnar.training.fitted import Fit

MOST_ROWS = 2_000  # whose evidence is computed
MOST_CELLS = 400_000  # that are looked at
PARTICLES = (25, 100, 400, 1_000)  # of the evidence: as few as bring its error
ENOUGH, SHARE = 0.7, 0.1  # to so many nats, or to that share of what they are away from weak evidence
WEAK = 3.0  # nats, odds of 20


def nats_for(pair: TrainedAlike, graph: MissingnessGraph, fit: Fit, table: Table, seed: int) -> tuple[float, float]:
    """By which the data prefer the first of a pair, and the error of that."""
    rows = spread_rows(table, MOST_ROWS)
    some, ignorable = table.take(rows), pair.ignorable
    if not isinstance(ignorable.model, WithoutMechanism):
        ignorable = replace(ignorable, model=WithoutMechanism(ignorable.model))
    law, price = law_of_seen(fit, graph, table, rows), _price(fit, graph, table)
    factor = len(table) / len(rows)
    nats, error = np.nan, np.inf
    for count in PARTICLES:
        of_fit, of_ignorable = (
            log_evidence(one, some, num_particles=count, outside_u=True, seed=seed) for one in (pair.fit, ignorable)
        )
        apart = of_fit.log_p + of_fit.gain - of_ignorable.log_p - of_ignorable.gain - law.log_likelihood
        nats = factor * float(apart.sum()) - price + law.price
        # What still more particles would add to one of them and not to the other.
        bias = float(of_fit.gain.sum() - of_ignorable.gain.sum())
        variance = factor**2 * (_variance(of_fit) + _variance(of_ignorable) + bias**2)
        if factor > 1:
            variance += len(table) ** 2 * float(apart.var()) / len(rows)
        error = variance**0.5
        if error <= max(ENOUGH, SHARE * abs(nats - WEAK)):
            break
    return nats, error


def spread_rows(table: Table, most: int) -> Int[NDArray, " rows"]:
    """Rows spread evenly over a table, so few that their cells are not too many."""
    return spread_evenly(len(table), max(1, min(most, MOST_CELLS // table.schema.num_columns)))


def _variance(evidence: Evidence) -> float:
    """Of the sum over rows.

    Of two independent estimates a and b of a row, ``gain`` is log cosh((a - b) / 2): half their distance is the error
    of their mean.
    """
    return float((np.arccosh(np.exp(evidence.gain.clip(0.0))) ** 2).sum())


def _price(fit: Fit, graph: MissingnessGraph, table: Table) -> float:
    """Of the slopes of columns with an unseen cause, in nats; those that were declared are free.

    The default holds slopes, but where the data put them; its models shrink their decoders, and others do not.
    """
    is_judged = getattr(fit.model, "shrinkage", False)
    modules = fit.model.modules() if isinstance(fit.model, nn.Module) else ()
    given = {d for one in modules if isinstance(one, SelfMasking) for d in one.is_known.nonzero().flatten().tolist()}
    declared = {(edge.parent, edge.child) for edge in graph.edges if edge.slope is not None and not is_judged}
    widths: dict[Any, int] = {graph.nodes.latent: getattr(fit.model, "latent_dim", 1)}
    total = 0.0
    for name in unseen_causes(graph):
        at = table.schema.names.index(name)
        paid = [p for p in graph.parents(name) if not graph.nodes.is_r(p) and (p, graph.nodes.r(name)) not in declared]
        paid = [p for p in paid if not (p == name and at in given)]
        total += price_of_slope(table, at) * sum(widths.get(p, 1) for p in paid)
    return total
