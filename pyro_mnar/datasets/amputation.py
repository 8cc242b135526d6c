"""Making values go missing by a declared graph: hard thresholds (the paper's), quantiles, or a logistic curve.

For every column that can go missing, a score is formed from the parents of its R node, and a mechanism turns scores
into probabilities of going missing.  The truth stays attached, so that imputations can be judged.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit

from pyro_mnar.datasets.complete import Complete, RowGenerator
from pyro_mnar.graphs.edges import SIGNS
from pyro_mnar.graphs.graph import Edge, MissingnessGraph
from pyro_mnar.messages import check_is, finite_number, real_array, seed_of, share_of, shown

Score = Float[NDArray, " rows"]
Weights = Mapping[Hashable, Mapping[Hashable, float]]


@dataclass(frozen=True, eq=False)
class Amputed:
    """A table with holes whose truth is known.

    Attributes:
        frame: What is observed, NaN in the holes; ``(rows, columns)``.
        complete: The truth; ``(rows, columns)``.
        latents: Z that made the truth, ``(rows, latent_dim)``; None where not known.
        probabilities: P(R = 1 | what causes it) of the columns that can go missing; ``(rows, incomplete columns)``.
    """

    frame: pd.DataFrame
    complete: pd.DataFrame
    latents: pd.DataFrame | None
    probabilities: pd.DataFrame


def threshold(score: Score, rate: float, strength: float) -> Score:
    """Missing exactly where the score is positive (section 6.1), whatever rate that gives."""
    score = _numbers_of(score)
    return (score > 0).astype(np.float64)


def quantile(score: Score, rate: float, strength: float) -> Score:
    """Missing where the score is among the highest: exactly ``rate`` of the rows on average, ties sharing evenly."""
    score = _numbers_of(score)
    wanted = share_of("rate", rate) * len(score)
    cut = np.sort(score)[::-1][min(int(np.ceil(wanted)), len(score)) - 1]
    above, tied = score > cut, score == cut
    return above + tied * np.clip((wanted - above.sum()) / tied.sum(), 0, 1)


def logistic(score: Score, rate: float, strength: float) -> Score:
    """sigmoid(a + strength · score / sd(score)), with a such that the mean probability of going missing is ``rate``."""
    score, rate = _numbers_of(score), share_of("rate", rate)
    spread = score.std()
    if abs(finite_number("strength", strength)) > STEEPEST:
        raise ValueError(f"strength: expected at most {STEEPEST:g} either way, got {shown(strength)}")
    slope = strength * (score - score.mean()) / (spread if spread > 0 else 1.0)
    reach = np.abs(slope).max() + np.abs(np.log(rate / (1 - rate))) + 1.0
    intercept = brentq(lambda a: expit(a + slope).mean() - rate, -reach, reach, xtol=1e-13)
    return expit(intercept + slope)


STEEPEST = 1e12  # slopes beyond it are thresholds
Mechanism = Callable[[Score, float, float], Score]


def _numbers_of(score: Any) -> Score:
    """Scores as an array of numbers, one a row."""
    try:
        found = real_array("score", score)
    except TypeError:
        raise TypeError(f"score: expected an array of numbers, one a row, got {shown(score)}") from None
    if found.ndim != 1 or not len(found) or not np.isfinite(found).all():
        raise ValueError(f"score: expected finite numbers, one a row, got {shown(score)}")
    return found


def ampute(
    data: pd.DataFrame | Complete | RowGenerator,
    graph: MissingnessGraph,
    *,
    rate: float | Mapping[Hashable, float] = 0.3,
    strength: float = 2.0,
    mechanism: Mechanism = logistic,
    weights: Weights | None = None,
    seed: int = 0,
) -> Amputed:
    """Make values go missing by a missingness graph.

    The score of column d is a weighted sum over the parents of R[d]: columns in standard deviations from their mean (a
    level of text, a category or a boolean counts as a random number of its own), latents as they are, R of other
    columns as 0 or 1 in standard deviations from its mean.  Along an edge declared nonlinear, v·``|v|`` stands for a
    value v where the sign is known, and v² − 1 (both ends go missing) where it is not.  High scores go missing.  Every
    column draws its weights and its holes from a random stream of its own, so what is no parent of R[d] does not touch
    column d.

    Args:
        data: A complete frame; or one with its latents (:class:`Complete`), if the graph needs them; or a generator of
            both.
        graph: Which columns go missing, and the parents of each R node.
        rate: Share of rows that go missing, one for all columns or one per column; exact on average over the holes
            drawn, and not used by :func:`threshold`.  A column whose R node has no parents goes missing at this rate,
            by chance alone.
        strength: For :func:`logistic`, the log-odds per standard deviation of the score.
        mechanism: :func:`logistic`, :func:`quantile`, :func:`threshold`, or a function of the same arguments.
        weights: Weights to use, ``{column: {parent: weight}}``, on the log-odds of going *missing*, parents as the
            graph names them (``"Z1"`` for one of several latents).  The other columns get 1 for a single parent, and
            N(0, 1) for several, of the sign that the graph declares.
        seed: Same seed, same holes.

    Returns:
        The table with holes, the truth, the latents and the probabilities of being observed.

    Raises:
        ValueError: If the frame has gaps, lacks a column of the graph, or the graph needs latents that are not known;
            if a rate lies outside (0, 1); if weights are given for what is no parent.
    """
    check_is("graph", graph, MissingnessGraph)
    seed, strength = seed_of(seed), finite_number("strength", strength)
    if not callable(mechanism):
        raise TypeError(f"mechanism: expected a function such as logistic, got {shown(mechanism)}")
    if weights is not None:
        check_is("weights", weights, Mapping, ", from columns to weights of their causes")
    if not isinstance(data, (pd.DataFrame, Complete)) and not callable(data):
        raise TypeError(f"data: expected a complete frame, a Complete or a generator of rows, got {shown(data)}")
    if not isinstance(data, Complete):
        made = data if isinstance(data, pd.DataFrame) else data(np.random.default_rng([seed, 0]))
        data = made if isinstance(made, Complete) else Complete(made)
    check_is("data", data.frame, pd.DataFrame)
    complete = data
    causes = _causes(graph, complete)
    rates = {name: rate.get(name, np.nan) if isinstance(rate, Mapping) else rate for name in causes}
    for name, share in rates.items():
        share_of(f"rate of column {name!r}", share)

    frame = complete.frame.copy()
    observed: dict[str, NDArray[np.bool_]] = {}
    probabilities: dict[Hashable, Score] = {}
    for name, parents in causes.items():
        position = list(complete.frame.columns).index(name)
        rng = np.random.default_rng([seed, 1, position])
        used = _weights(name, parents, (weights or {}).get(name), rng)
        score = np.zeros(len(frame))
        for weight, cause in zip(used, parents, strict=True):
            score = score + weight * _values(cause, complete, observed, rng)
        missing = mechanism(score, rates[name], strength) if parents else np.full(len(frame), rates[name])
        probabilities[name] = 1 - missing
        seen = rng.uniform(size=len(frame)) >= missing
        observed[graph.nodes.r(name)], frame[name] = seen, frame[name].where(seen)
    in_order = [name for name in frame.columns if name in probabilities]
    return Amputed(frame, complete.frame, complete.latents, pd.DataFrame(probabilities, index=frame.index)[in_order])


class _Cause(NamedTuple):
    """One parent of an R node: how the graph names it, what it is, and what is known of the edge."""

    name: Hashable
    edge: Edge
    role: str


def _causes(graph: MissingnessGraph, complete: Complete) -> dict[Hashable, list[_Cause]]:
    """For each column that goes missing, its causes; columns in an order in which R → R can be drawn."""
    nodes, frame = graph.nodes, complete.frame
    for name in {*nodes.columns, *(name for name, _ in nodes.auxiliaries)}:
        if name not in frame.columns:
            raise ValueError(f"column {name!r}: in the graph, but not among the frame's {list(frame.columns)!r}")
        if frame[name].isna().any():
            row = frame.index[frame[name].isna().to_numpy().argmax()]
            raise ValueError(f"column {name!r}: expected complete rows, got a gap in row {row!r}")
    edges = {(edge.parent, edge.child): edge for edge in graph.edges}
    order = nx.DiGraph()
    order.add_nodes_from(nodes.r(column) for column in nodes.incomplete)
    order.add_edges_from(ends for ends in edges if all(nodes.is_r(end) for end in ends))
    of_r = {nodes.r(column): column for column in nodes.incomplete}

    causes: dict[Hashable, list[_Cause]] = {}
    position = {r: at for at, r in enumerate(of_r)}
    for r in nx.lexicographical_topological_sort(order, key=position.__getitem__):
        parents = graph.parents(of_r[r])
        causes[of_r[r]] = [
            _Cause(name, edges[parent, r], nodes.role(parent))
            for parent in parents
            for name in _names(parent, graph, complete)
        ]
    return causes


def _names(parent: Hashable, graph: MissingnessGraph, complete: Complete) -> list[Hashable]:
    """A parent's own name; for the latent, those of all latents."""
    if parent != graph.nodes.latent:
        return [parent]
    if complete.latents is None:
        raise ValueError(f"{parent!r} causes missingness: expected a Complete with latents, got none")
    return list(complete.latents.columns)


def _weights(
    column: Hashable, causes: list[_Cause], given: Mapping[Hashable, float] | None, rng: np.random.Generator
) -> list[float]:
    """Weights on the log-odds of going missing, the opposite of the graph's signs."""
    if given is not None:
        names = [cause.name for cause in causes]
        for name in given:
            if name not in names:
                raise ValueError(f"weights of column {column!r}: expected parents among {names!r}, got {name!r}")
        return [float(given.get(name, 0.0)) for name in names]
    drawn = rng.normal(size=len(causes)) if len(causes) > 1 else np.ones(len(causes))
    signs = [SIGNS[cause.edge.sign] for cause in causes]
    return [-sign * abs(w) if sign else float(w) for sign, w in zip(signs, drawn, strict=True)]


def _values(
    cause: _Cause, complete: Complete, observed: Mapping[str, NDArray[np.bool_]], rng: np.random.Generator
) -> Score:
    """What a cause adds to the score per unit of weight."""
    if cause.role == "Z":
        assert complete.latents is not None
        values = complete.latents[cause.name].to_numpy(dtype=np.float64)
    else:
        is_r = cause.role == "R"
        raw = observed[str(cause.name)].astype(float) if is_r else _numbers(complete.frame[cause.name], rng)
        values = (raw - raw.mean()) / (raw.std() or 1.0)
    if cause.edge.form != "nonlinear":
        return values
    return values * np.abs(values) if cause.edge.sign else values**2 - 1


def _numbers(values: pd.Series, rng: np.random.Generator) -> Score:
    if pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_bool_dtype(values.dtype):
        return values.to_numpy(dtype=np.float64)
    codes, levels = pd.factorize(values, sort=True)
    return rng.normal(size=len(levels))[codes]
