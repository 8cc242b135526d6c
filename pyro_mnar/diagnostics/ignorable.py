"""What rests on a mechanism, and what speaks for it: a fit beside its ignorable companion.

Imputed means of both, which of them the data prefer (:mod:`pyro_mnar.diagnostics.preference`), and warnings of columns
that move far on weak evidence.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from pyro_mnar.diagnostics.comparison import why_no_evidence
from pyro_mnar.diagnostics.preference import WEAK, nats_for, spread_rows
from pyro_mnar.diagnostics.seen_causes import scored_columns, unseen_causes
from pyro_mnar.diagnostics.spread import means_by_column
from pyro_mnar.diagnostics.without_mechanism import STEPS, TrainedAlike, ignorable_companion
from pyro_mnar.graphs.graph import MissingnessGraph
from pyro_mnar.graphs.likely import OWN, LikelyCauses
from pyro_mnar.graphs.nodes import listed
from pyro_mnar.imputation import impute
from pyro_mnar.messages import seed_of, whole_number
from pyro_mnar.tables.table import Table
from pyro_mnar.training.evidence import row_weights
from pyro_mnar.training.fitted import Fit, check_fit
from pyro_mnar.training.fitted_graph import MOST_NODES, known_graph

LEAST_MOVE = 0.05  # observed standard deviations; columns that move by less are not named
FAR = 0.5  # observed standard deviations from which columns are warned of
CURE = (
    "declare mechanism=Constant if gaps do not depend on their values, or what you know of the direction, as in"
    " mechanism=SelfMasking with a sign"
)
NO_MASK = "no site of the model is made by observe_mask, so gaps say nothing of the values behind them"
IGNORABLE_ALREADY = "all gaps are taken for ignorable: an ignorable fit would impute the same"

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class AgainstIgnorable:
    """A fit beside an ignorable one; printed, what the mechanism moved and what the data say of it.

    Attributes:
        columns: By column of numbers that has gaps: mean ``imputed`` by the fit and by the ``ignorable`` one, in the
            user's units (of tables of more than 400,000 cells those of rows spread evenly); ``distance_in_sd``, their
            difference in observed standard deviations; ``averaged``, the mean of both by their weights.  Empty where
            nothing was compared.
        nats: By which the data prefer the fit; NaN where that is unknown.
        nats_error: Its Monte Carlo error, a tenth of ``nats`` or less unless these are few; of tables of more than
            2,000 rows also that of the rows that were looked at.
        weak: Columns whose own values are taken to cause their gaps by less than 3 nats, as the default judged.
        why: Why nothing was compared, or why nats are unknown; empty otherwise.
        ignorable: The companion, from which :func:`~pyro_mnar.impute` draws; None where there is none.
    """

    columns: pd.DataFrame
    nats: float = np.nan
    nats_error: float = np.nan
    weak: dict[Hashable, float] = field(default_factory=dict)
    why: str = ""
    ignorable: Fit | None = field(default=None, repr=False)

    @property
    def weight(self) -> float:
        """Probability of the fit against the ignorable one, at even odds before."""
        return float(1 / (1 + np.exp(-np.clip(self.nats, -700, 700))))

    @property
    def evidence(self) -> str:
        """In words, which of the two the data prefer."""
        if np.isnan(self.nats):
            return f"which of them the data prefer is unknown: {self.why}"
        which = "this fit" if self.nats >= 0 else "the ignorable fit"
        return f"the data prefer {which} by {abs(self.nats):.1f} nats (± {self.nats_error:.1f})"

    def lines(self, most: int = 20) -> Iterator[str]:
        """One line each: the evidence, and the columns that move, farthest first."""
        if self.columns.empty:
            yield self.why
            return
        known = not np.isnan(self.nats)
        yield self.evidence + (f"; at even odds its weight is {self.weight:.2f}" if known else "")
        moves = self.columns.distance_in_sd.abs().sort_values(ascending=False, kind="stable")
        moved = list(moves.index[moves >= LEAST_MOVE])
        for name in moved[:most]:
            one = self.columns.loc[name]
            averaged = f", averaged {one.averaged:.4g}" if known else ""
            yield (
                f"{name}: imputed mean {one.imputed:.4g}, ignorable {one.ignorable:.4g}, moved by"
                f" {one.distance_in_sd:+.2f} sd{averaged}"
            )
        if len(moved) > most:
            yield f"and {len(moved) - most} more columns (columns has them)"
        rest = len(moves) - len(moved)
        if rest:
            yield f"{listed(moves.index[len(moved) :])}: imputed means move by less than {LEAST_MOVE} sd"

    def warnings(self) -> Iterator[str]:
        """Of columns that move far on weak evidence, a sentence each, or one for all, that says what to declare."""
        far = self.columns[self.columns.distance_in_sd.abs() >= FAR].distance_in_sd
        if self.nats < WEAK:
            if len(far):
                moved = listed(f"{name} by {move:+.2f} sd" for name, move in far.items())
                yield f"imputed means move against an ignorable fit on weak evidence ({self.evidence}): {moved}; {CURE}"
            return
        for name, move in far.items():
            if name in self.weak:
                yield (
                    f"imputed means of {name} move by {move:+.2f} sd against an ignorable fit on weak evidence (for its"
                    f" own values {self.weak[name]:.1f} nats alone): {CURE}"
                )

    def __repr__(self) -> str:
        return "\n".join([*self.lines(), *(f"Warning: {one}" for one in self.warnings())])


def against_ignorable(
    fit: Fit,
    table: Table | pd.DataFrame | None = None,
    *,
    ignorable: Fit | None = None,
    steps: int = STEPS,
    seed: int = 0,
) -> AgainstIgnorable:
    """Put a fit beside an ignorable one: what is imputed, and which the data prefer.

    The companion has the fit's reference model and guide without the mechanism, trained as the fit was
    (:mod:`pyro_mnar.diagnostics.without_mechanism`), and an R that what is always seen may cause
    (:mod:`pyro_mnar.diagnostics.seen_causes`).  Nothing is trained where the fit takes all gaps for ignorable.  The log
    warns of columns that move by more than half a standard deviation while the data prefer the fit by less than 3 nats.

    Args:
        fit: A trained model and guide.
        table: The rows that it was fitted to; by default those that it still holds.
        ignorable: A fit without a mechanism of the same table, to stand in place of the companion.
        steps: By which a copy of the fit and the companion both go on, where the fit did not start from the data.
        seed: Same seed, same numbers.

    Raises:
        ValueError: If there are no rows, or the table is another than the fit's.
    """
    check_fit(fit)
    if ignorable is not None:
        check_fit(ignorable, "ignorable")
    steps, seed = whole_number("steps", steps), seed_of(seed)
    table = fit.table if table is None else fit.encoded(table)
    if table is None:
        raise ValueError("table: expected the rows that the fit was trained on, which a loaded fit does not have")
    fit = fit.without_bootstrap()
    some = table.take(spread_rows(table, len(table)))
    if not bool((~some.mask & some.applicable).any()):
        return _nothing("nothing is missing")
    if fit.interrupted:
        return _nothing("the training was interrupted, so that nothing compares with it")
    if not scored_columns(fit, table):
        return _nothing(NO_MASK)
    graph = known_graph(fit, table, seed=seed)
    if ignorable is None and graph is not None and not unseen_causes(graph):
        return _nothing(IGNORABLE_ALREADY)
    try:
        pair = (
            ignorable_companion(fit, table, steps=steps, seed=seed)
            if ignorable is None
            else TrainedAlike(fit, ignorable)
        )
    except ValueError as error:
        return _nothing(f"no ignorable fit to compare with: {error}")
    columns = distances_in_sd(fit, pair.ignorable, some, seed=seed)
    if columns.empty:
        return _nothing("no column of numbers is imputed")
    why = _why_unknown(fit, graph, table)
    nats, error = (np.nan, np.nan) if graph is None or why else nats_for(pair, graph, fit, table, seed)
    weight = 1 / (1 + np.exp(-np.clip(nats, -700, 700)))
    columns["averaged"] = weight * columns.imputed + (1 - weight) * columns.ignorable
    found = AgainstIgnorable(columns, nats, error, _weak(fit), why, pair.ignorable)
    for sentence in found.warnings():
        log.warning("%s", sentence)
    return found


def distances_in_sd(fit: Fit, ignorable: Fit, table: Table, *, seed: int = 0) -> pd.DataFrame:
    """Imputed means by column of a fit and of an ignorable one, and their distance in observed standard deviations."""
    weight = row_weights(table)
    means = [
        means_by_column(impute(one, table, num_draws=1, num_particles=200, seed=seed), weight)
        for one in (fit, ignorable)
    ]
    rows = {}
    for d in means[0]:
        column = table.schema.columns[d]
        if column.kind.holds_words:
            continue  # the mean of words' positions means nothing
        here = table.mask[:, d].numpy()
        seen = np.asarray(column.decode(table.x[here, d].double().numpy()), dtype=np.float64)
        own = None if weight is None else weight[here]
        spread = float(np.average((seen - np.average(seen, weights=own)) ** 2, weights=own)) ** 0.5 or 1.0
        mean, other = means[0][d], means[1][d]
        rows[column.name] = {"imputed": mean, "ignorable": other, "distance_in_sd": (mean - other) / spread}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["imputed", "ignorable", "distance_in_sd"])


def _nothing(why: str) -> AgainstIgnorable:
    return AgainstIgnorable(pd.DataFrame(columns=["imputed", "ignorable", "distance_in_sd", "averaged"]), why=why)


def _why_unknown(fit: Fit, graph: MissingnessGraph | None, table: Table) -> str:
    if graph is None:
        return f"more than {MOST_NODES} columns and auxiliaries are too many to ask who causes whose gaps"
    if row_weights(table) is not None:
        return "rows have weights, under which likelihoods do not compare"
    return why_no_evidence(fit, table)


def _weak(fit: Fit) -> dict[Hashable, float]:
    """Columns whose own values the default takes for the cause on weak evidence, with the nats."""
    causes = getattr(fit.model, "causes", None)
    if not isinstance(causes, LikelyCauses):
        return {}
    lines = causes.evidence[(causes.evidence.cause == OWN) & (causes.evidence.own < WEAK)]
    return {name: float(nats) for name, nats in lines.own.items()}
