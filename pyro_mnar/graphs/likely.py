"""The missingness graph that a table itself makes likely, for those who declare none.

Of each column that can go missing: nothing causes its gaps, some complete columns do, or its own values do
(:mod:`pyro_mnar.graphs.gap_evidence`).  The own value has to earn its place: by likelihood against what complete
columns explain, by how the gaps follow the complete columns, and, since reasons are seldom one column's alone, by what
the other columns say (an empirical Bayes share of columns whose values cause their gaps), and to a probability of 0.95:
a wrong verdict moves a column farther than a mild mechanism that is overlooked.  So a table that says nothing moves
nothing, and gaps that a complete column explains are imputed as missing at random.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from pyro_mnar.graphs.edges import Edge
from pyro_mnar.graphs.gap_evidence import GapEvidence, gap_evidence, has_atom
from pyro_mnar.graphs.graph import MissingnessGraph
from pyro_mnar.graphs.nodes import latent_beside, listed
from pyro_mnar.mechanisms.compiled import GraphMechanism
from pyro_mnar.nn.row_groups import RowGroups
from pyro_mnar.tables.blocks import events, members_of
from pyro_mnar.tables.columns import Column
from pyro_mnar.tables.ends import AbruptEnd, is_abrupt
from pyro_mnar.tables.positions import spread_evenly
from pyro_mnar.tables.schema import Schema
from pyro_mnar.tables.table import Table

log = logging.getLogger(__name__)

MOST_ROWS = 2000  # that are looked at
FARTHEST = 20.0  # standard deviations from the mean
MOST_PREDICTORS = 10  # of a column, those that say most of its values or its gaps
LEAST_SEEN, LEAST_GAPS = 30, 10  # fewer say nothing
LEAST_OF_MASK = 2.0  # nats by which gaps have to follow the predictors, and one side (one in twenty do by chance)
WORTH_OF_SHAPE = 0.5  # of a nat from the shape of the seen values, as against one from which values are missing
SHARE = 0.2  # of columns whose own values cause their gaps, before a table is seen; worth WORTH columns
WORTH = 5.0
STRONG = 0.95  # probability from which the own value is taken for the cause; from a half on, less is told
STEEPEST = 6.0  # slope, in log-odds per standard deviation; under steeper ones few draws have a weight

SHARE_AT_END, FEWEST_AT_END = 0.2, 20  # of the seen values, by which it is told whether they stop

OWN, GIVEN, NOTHING = "own value", "complete columns", "nothing"


@dataclass(frozen=True, eq=False)
class LikelyCauses:
    """What a table says of the causes of its gaps.

    Attributes:
        graph: The likely graph; its edges from own values know their slopes.
        evidence: By column, the ``cause`` taken (``"own value"``, ``"complete columns"``, ``"nothing"``), ``of``, the
            complete columns, ``probability``, that of its own value being the cause, and in nats ``own``, what counts
            for its own value against the better of the other two, and ``given``, for complete columns against nothing.
        slopes: Of the columns whose own values are the cause, by name, the slope of their log-odds of being observed,
            per standard deviation: that of greatest likelihood, with missing values summed out.  They are held while a
            model is trained, whose few draws of each missing value would pull them towards zero.
        middles: Where in these columns the log-odds are zero, standardised.
        ends: Of the other columns, by name, the end at which seen values stop instead of fading out, if the gaps lie
            where values near it are expected: as where everything beyond is missing.  A hard threshold is no slope, and
            where the column's own law is not known none is found, so these columns are imputed as missing at random.
    """

    graph: MissingnessGraph
    evidence: pd.DataFrame
    slopes: dict[Hashable, float]
    middles: dict[Hashable, float]
    ends: dict[Hashable, AbruptEnd] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = []
        for line in self.evidence.itertuples():
            because = {
                OWN: f"its own value (probability {line.probability:.2f}, {line.own:+.1f} nats)",
                GIVEN: f"{line.of} ({line.given:+.1f} nats)",
                NOTHING: "nothing that is seen",
            }[str(line.cause)]
            other = f"; perhaps by its own value (probability {line.probability:.2f})" if _is_weak(line) else ""
            end = self.ends.get(line.Index)
            stops = "" if end is None else f"; perhaps none is seen {end.beyond}"
            lines.append(f"gaps of {line.Index!r}: caused by {because}{other}{stops}")
        return "\n".join(lines)

    def put_intercepts(self, mechanism: GraphMechanism, schema: Schema) -> None:
        """Let intercepts start where the log-odds are zero in the middle that was found."""
        intercept = mechanism.intercept.detach().clone()
        for name, slope in self.slopes.items():
            intercept[schema.names.index(name)] = -slope * self.middles[name]
        mechanism.put_lines(intercept)

    def say(self) -> None:
        """Log what was taken for the causes, and warn of own values that may be one and are not taken, and of ends
        beyond which nothing may ever be seen.
        """
        log.info("%s", self)
        for line in self.evidence.itertuples():
            if _is_weak(line):
                log.warning(
                    "column %r: its own values may cause its gaps, on weak evidence (probability %.2f); it is imputed"
                    " as missing at random: declare mechanism=SelfMasking if you believe it, else mechanism=Constant",
                    line.Index,
                    line.probability,
                )
        for name, end in self.ends.items():
            log.warning(
                "column %r: seen values stop at %.4g instead of fading out, and its gaps are where such values are"
                " expected: if all %s are missing, imputed ones are too %s, since it is imputed as missing at random:"
                " declare mechanism=SelfMasking, or bounds of the gaps, if you believe it; where values are never %s,"
                " nothing is wrong",
                name,
                end.at,
                end.beyond,
                "low" if end.is_upper else "high",
                end.beyond,
            )


def _is_weak(line: Any) -> bool:
    """Whether a line of the evidence has the own value for a likely cause that is not taken."""
    return 0.5 < line.probability < STRONG


class _Predictors(NamedTuple):
    """Complete columns as numbers, with the name of each; ``named`` where a graph may draw edges from them."""

    values: Float[NDArray, "rows predictors"]
    names: list[Hashable]
    named: bool


def likely_causes(table: Table, by_u: RowGroups | None = None) -> LikelyCauses:
    """Judge by a dense table what causes its gaps.

    Columns of levels, those in which one value is more than half of what is seen, and those with fewer than 30 values
    or 10 gaps are not taken to cause their own gaps.  Rows that lack a block of columns
    (:mod:`pyro_mnar.tables.blocks`) do not count for these, nor do gaps by design.  Of long tables 2,000 rows are
    looked at.

    Args:
        table: A table with tensors of all its cells.
        by_u: Groups that U tells apart in the rows that are looked at, if they are known.
    """
    schema = table.schema
    rows = spread_evenly(len(table), MOST_ROWS)
    # In columns of heavy tails a value may lie a million standard deviations away, and says no more than one of these.
    x = table.x[rows].double().clamp(-FARTHEST, FARTHEST).numpy()
    mask, modelled = table.mask[rows], table.mask_modelled[rows]
    in_block = _in_block(schema, mask, modelled)
    seen, gaps = mask.numpy(), (~mask & modelled).numpy() & ~in_block
    predictors = _predictors(table, x, seen, rows)
    found: dict[Hashable, GapEvidence] = {}
    groups: NDArray[np.float64] | None = None
    for at, column in enumerate(schema.columns):
        used = seen[:, at] | gaps[:, at]
        if column.incomplete and not column.kind.has_levels and says_something(x[seen[:, at], at], gaps[:, at]):
            others = predictors if predictors.named else _without(predictors, at)
            kept = most_telling(others.values[used], x[used, at], seen[used, at])
            if predictors.named and groups is None:
                if by_u is None or by_u.num_columns != predictors.values.shape[1]:
                    by_u = RowGroups.found(predictors.values)
                groups = by_u(torch.as_tensor(predictors.values)).numpy()
            of_rows = None if groups is None else groups[used]
            evidence = gap_evidence(x[used, at], seen[used, at], others.values[used][:, kept], of_rows)
            found[column.name] = evidence._replace(causes=tuple(kept[cause] for cause in evidence.causes))
    causes = _causes_of(schema, found, predictors)
    ends = {
        column.name: end
        for at, column in enumerate(schema.columns)
        if column.name in found and column.name not in causes.slopes
        if (end := _end_near_gaps(column, x[seen[:, at], at], found[column.name].of_level))
    }
    return replace(causes, ends=ends)


def _end_near_gaps(column: Column, values: Float[NDArray, " seen"], of_level: float) -> AbruptEnd | None:
    """The end at which seen values stop, if they do at that one whose values are expected in the gaps."""
    if column.kind.is_discrete or abs(of_level) <= LEAST_OF_MASK:
        return None
    is_upper = of_level > 0
    stops = is_abrupt(values if is_upper else -values, share=SHARE_AT_END, fewest=FEWEST_AT_END)
    return AbruptEnd.of(column, values, is_upper) if stops else None


def _causes_of(schema: Schema, found: dict[Hashable, GapEvidence], predictors: _Predictors) -> LikelyCauses:
    counted = {name: _believed(evidence) for name, evidence in found.items()}
    probability = dict(zip(counted, _probabilities(np.array(list(counted.values()))), strict=True))
    edges: list[Edge] = []
    slopes, middles, lines = {}, {}, {}
    for column in (column for column in schema.columns if column.incomplete):
        evidence, own = found.get(column.name), probability.get(column.name, 0.0) >= STRONG
        names: list[Hashable] = []
        if evidence is not None and predictors.named:
            names = list(dict.fromkeys(predictors.names[at] for at in evidence.causes))
        cause = OWN if own else GIVEN if evidence is not None and evidence.causes else NOTHING
        if own and evidence is not None:
            slopes[column.name] = float(np.clip(evidence.slope, -STEEPEST, STEEPEST))
            middles[column.name] = evidence.middle
        child = f"R[{column.name}]"
        edges += [Edge(column.name, child, slope=slopes[column.name])] if own else [Edge(n, child) for n in names]
        lines[column.name] = {
            "cause": cause,
            "of": listed(names) if names else "other columns",
            "probability": probability.get(column.name, 0.0),
            "own": counted.get(column.name, np.nan),
            "given": np.nan if evidence is None else evidence.given,
        }
    graph = MissingnessGraph(
        edges, schema, latent=latent_beside([*schema.names, *(u.name for u in schema.auxiliaries)])
    )
    table = pd.DataFrame(list(lines.values()), columns=["cause", "of", "probability", "own", "given"])
    table.index = pd.Index(list(lines), name="column", tupleize_cols=False)
    return LikelyCauses(graph, table, slopes, middles)


def _believed(evidence: GapEvidence) -> float:
    """Nats for the own value that count: what the values' shape adds is worth half, since laws of values are wrong.

    None count where the gaps alone do not pay for the slope, do not follow predictors, or would follow them as well if
    values of the other side went missing.
    """
    of_mask = evidence.of_mask - evidence.price
    nats = of_mask + WORTH_OF_SHAPE * (evidence.own - of_mask)
    follows = evidence.of_mask + evidence.given
    told = min(of_mask, follows - LEAST_OF_MASK, evidence.of_side - LEAST_OF_MASK)
    return min(nats, told) if told < 0 else nats


def _probabilities(nats: Float[NDArray, " columns"]) -> Float[NDArray, " columns"]:
    """That each column's own value is the cause, with the share of such columns estimated from all of them."""
    share, found = SHARE, np.zeros(len(nats))
    for _ in range(50):
        odds = np.log(share / (1 - share)) + nats
        found = 1 / (1 + np.exp(-np.clip(odds, -50, 50)))
        share = (found.sum() + SHARE * WORTH) / (len(nats) + WORTH)
    return found


def _in_block(schema: Schema, mask: torch.Tensor, modelled: torch.Tensor) -> Bool[NDArray, "rows columns"]:
    """Gaps that belong to columns missing together."""
    if not schema.blocks:
        return np.zeros(mask.shape, dtype=bool)
    members = members_of(schema.blocks, schema.names)
    return (events(members, mask, modelled).unsqueeze(-1) & members).any(-2).numpy()


def _predictors(
    table: Table, x: Float[NDArray, "rows columns"], seen: Bool[NDArray, "rows columns"], rows: NDArray[np.int_]
) -> _Predictors:
    """What every row has: U and complete columns; where there is nothing such, all columns with means in their gaps."""
    schema = table.schema
    parts: list[NDArray[np.float64]] = []
    names: list[Hashable] = []
    if schema.auxiliary_source in ("named", "complete"):
        parts.append(table.aux[rows].double().numpy())
        names = [auxiliary.name for auxiliary in schema.auxiliaries for _ in range(auxiliary.width)]
    for at, column in enumerate(schema.columns):
        is_plain = not column.incomplete and not column.is_nominal and not column.is_constant
        if is_plain and column.name not in names and seen[:, at].all():
            parts.append(x[:, [at]])
            names.append(column.name)
    if names:
        return _Predictors(np.concatenate(parts, axis=1), names, named=True)
    return _Predictors(np.where(seen, x, 0.0), list(schema.names), named=False)


def _without(predictors: _Predictors, at: int) -> _Predictors:
    """The predictors with one of them blank, so that positions stay."""
    values = predictors.values.copy()
    values[:, at] = 0.0
    return predictors._replace(values=values)


def most_telling(
    predictors: Float[NDArray, "rows predictors"], y: Float[NDArray, " rows"], seen: Bool[NDArray, " rows"]
) -> list[int]:
    """Positions of those that say most of a column or of its gaps; ten at most, fewer than a tenth of the seen values.

    Args:
        predictors: Complete columns.
        y: The column, any number in the gaps.
        seen: Where it is seen.
    """
    told = np.maximum(_correlations(predictors[seen], y[seen]), _correlations(predictors, seen.astype(np.float64)))
    most = min(MOST_PREDICTORS, int(seen.sum()) // 10)
    return [int(at) for at in np.argsort(-told, kind="stable")[:most] if told[at] > 0]


def _correlations(values: Float[NDArray, "rows predictors"], y: Float[NDArray, " rows"]) -> NDArray[np.float64]:
    """Size of the correlation of each predictor, zero where there is no spread."""
    of_values, of_y = values - values.mean(0), y - y.mean()
    size = np.sqrt((of_values**2).sum(0) * (of_y @ of_y))
    return np.abs(of_y @ of_values) / np.where(size > 0, size, np.inf)


def says_something(values: Float[NDArray, " seen"], gaps: Bool[NDArray, " rows"]) -> bool:
    """Whether a column's seen values and gaps are enough to judge its own value by: 30 values, no atom, 10 gaps."""
    if len(values) < LEAST_SEEN or gaps.sum() < LEAST_GAPS:
        return False
    return not has_atom(values)
