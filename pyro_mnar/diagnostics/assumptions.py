"""The paper's assumptions, one function each, judged on a table and a model: D1 to D2 and A1 to A5, Theorem 1, and
positivity.

A verdict says ``violated`` where figures contradict an assumption, and never that it holds.  Most are parts of
*sufficient*
conditions: a violated one takes the theorem away, and does not prove that the parameters are not identified.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
import torch

from pyro_mnar.diagnostics.probe import ModelProbe
from pyro_mnar.graphs.graph import MissingnessGraph
from pyro_mnar.imputation import impute
from pyro_mnar.tables.ends import abrupt_ends
from pyro_mnar.tables.table import Table
from pyro_mnar.training.fitted import Fit

VIOLATED, NO_SIGN, UNTESTABLE = "violated", "no sign against it", "assumed, not testable"
NOT_IDENTIFIED = "not identified"
LEAST_RATIO = 1e-3  # of singular values: below it a direction of z leaves no trace in x beside another one
LEAST_VARIATION = 0.01  # of the prior with u, in its own standard deviations
FEW_VALUES = 10
FALSE_ALARM = 0.01


class Line(NamedTuple):
    """One line of the report.

    Attributes:
        assumption: In words.
        paper: Its name in the paper.
        verdict: ``violated``, ``not identified``, ``no sign against it`` or ``assumed, not testable``.
        evidence: What was measured.
        advice: What to do.
        matters: Whether imputations would rest on it here, if it is violated.
    """

    assumption: str
    paper: str
    verdict: str
    evidence: str
    advice: str
    matters: bool = True


def parametric_form(graph: MissingnessGraph | None) -> Line:
    """A1 and A4: no data of this kind contradict them."""
    kind = f"the code says: {graph.kind().overall}" if graph is not None else "no mask site was found in the model"
    return Line(
        "the graph and the families of distributions are the true ones",
        "A1, A4",
        UNTESTABLE,
        kind,
        "compare() fits under other graphs; ask how the values went missing",
    )


def causes_nothing(graph: MissingnessGraph | None) -> Line:
    """D2: no R causes anything; the code can contradict it, data cannot."""
    edges = graph.edges if graph is not None else ()
    between = [f"{e.parent} → {e.child}" for e in edges if graph is not None and graph.nodes.is_r(e.parent)]
    return Line(
        "being missing causes nothing else",
        "D2",
        VIOLATED if between else UNTESTABLE,
        f"the model has {', '.join(between)}" if between else "the model has no edge out of an R",
        "the theorem does not cover edges among R (Figure 1 j); think of questions skipped as a block",
    )


def pattern_cover(table: Table, probe: ModelProbe) -> Line:
    """A3: each column is seen in patterns of at least D_o columns; D_o is at least the number of latents (A5)."""
    mask = table.mask.numpy()
    patterns, counts = np.unique(mask, axis=0, return_counts=True)
    evidence = f"{len(patterns)} patterns in {len(mask)} rows, the most common {counts.max()} times"
    needed = probe.latent_dim
    if needed == 0:
        return Line("every column is seen with enough others", "A3", UNTESTABLE, f"{evidence}; no latent found", "")
    large = mask[mask.sum(1) >= needed]
    rows = {c.name: int(seen) for c, seen in zip(table.schema.columns, large.sum(0), strict=True)}
    never = [repr(name) for name, seen in rows.items() if seen == 0]
    fewest = min(rows, key=rows.__getitem__)
    with_others = f" with {needed - 1} or more others" if needed > 1 else ""
    more = (
        f"never seen with {needed - 1} others: {', '.join(never)}"
        if never
        else f"each column is seen{with_others}, {fewest!r} least often: in {rows[fewest]} rows"
    )
    return Line(
        "every column is seen together with enough others (one less than there are latents, or more)",
        "A3",
        VIOLATED if never else NO_SIGN,
        f"{evidence}; {more}",
        "take fewer latents, or rows in which more is observed",
    )


def positivity(fit: Fit | None, table: Table, *, scores_mask: bool, seed: int) -> Line:
    """Strict positivity behind A3: observed values fade out at both ends, and what is imputed lies between these."""
    assumption, paper = "whatever the value, it is sometimes observed", "positivity (A3)"
    advice = "the shape of the unseen side is the model's alone: declare the sign, vary the model's form"
    if stops := abrupt_ends(table):
        evidence = f"observed values stop instead of fading out: none of {'; none of '.join(map(str, stops))}"
        return Line(assumption, paper, VIOLATED, evidence, f"{advice}; of a range's natural limit it says nothing")
    if fit is None or not scores_mask:
        why = "needs a fit" if fit is None else "needs a fit that models the mechanism"
        return Line(assumption, paper, UNTESTABLE, why, "fit with a mechanism and check again")
    drawn = impute(fit.without_bootstrap(), table, num_draws=10, num_particles=100, seed=seed)
    shares: dict[Hashable, float] = {}
    for d, column in enumerate(table.schema.columns):
        values = drawn.draws[:, drawn.cells[1] == d]
        if values.size:
            seen = column.decode(table.x[table.mask[:, d], d].double().numpy())
            shares[column.name] = float(((values < seen.min()) | (values > seen.max())).mean())
    if not shares:
        return Line(assumption, paper, NO_SIGN, "nothing is missing", "")
    worst = max(shares, key=shares.__getitem__)
    evidence = f"share imputed outside the range ever observed: {_listed(shares)}"
    return Line(assumption, paper, VIOLATED if shares[worst] > 0.5 else NO_SIGN, evidence, advice)


def more_columns_than_latents(table: Table, probe: ModelProbe) -> Line:
    """A5 by counting: no continuous map from H dimensions to fewer is injective."""
    columns = table.schema.num_columns
    return Line(
        "there are no more latents than columns",
        "A5 (injective decoder)",
        UNTESTABLE if probe.latent_dim == 0 else VIOLATED if probe.latent_dim > columns else NO_SIGN,
        f"{probe.latent_dim} latents, {columns} columns",
        "take latent_dim below the number of columns",
    )


def injective_decoder(table: Table, probe: ModelProbe) -> Line:
    """A5 to first order: the decoder's Jacobian has full rank on every observed pattern of enough columns."""
    assumption, paper = "other latents mean other columns, on every observed pattern", "A5 (injective f_O)"
    if probe.latent_dim == 0 or probe.jacobian is None:
        return Line(assumption, paper, UNTESTABLE, "no decoder found (a site made by partially_observed)", "")
    seen = probe.batch.mask.sum(1) >= probe.latent_dim
    if not bool(seen.any()):
        evidence = f"no row shows {probe.latent_dim} columns, as many as there are latents"
        return Line(assumption, paper, VIOLATED, evidence, "take fewer latents")
    values = torch.linalg.svdvals(probe.jacobian[seen] * probe.batch.mask[seen].unsqueeze(-1))
    smallest, ratio = values[:, -1], values[:, -1] / values[:, 0].clamp_min(1e-300)
    flat = float((ratio < LEAST_RATIO).double().mean())
    fewer = float((~seen).double().mean())
    evidence = (
        f"smallest singular value of the Jacobian: median {smallest.median():.3g}, least {smallest.min():.3g};"
        f" {flat:.0%} of rows below {LEAST_RATIO} of the largest; {fewer:.0%} of rows show fewer columns than latents"
    )
    verdict = VIOLATED if flat > 0.05 else NO_SIGN
    return Line(assumption, paper, verdict, evidence, "take fewer latents or a simpler decoder")


def enough_auxiliaries(table: Table, probe: ModelProbe) -> Line:
    """Theorem 1, condition 4: nk + 1 values of U whose natural parameters differ in nk directions."""
    assumption, paper = "U takes enough values, and moves the prior in every direction", "Theorem 1, condition 4"
    advice = "more or richer auxiliary columns; fewer latents"
    if probe.prior is None:
        return Line(assumption, paper, UNTESTABLE, "the prior is no product of normals", "")
    needed = 2 * probe.latent_dim
    aux = table.aux.numpy()
    distinct = len(np.unique(aux, axis=0)) if aux.shape[1] else 1
    mean, scale = probe.prior
    natural = torch.cat([mean / scale**2, -0.5 / scale**2], dim=-1)
    values = torch.linalg.svdvals(natural - natural[:1])
    rank = int((values > 1e-6 * max(float(values[0]), 1e-3)).sum())
    conditioning = f", condition number {float(values[0] / values[-1]):.3g}" if rank == needed else ""
    evidence = f"{distinct} distinct u, {needed + 1} needed; rank {rank} of {needed}{conditioning}"
    return Line(assumption, paper, VIOLATED if distinct <= needed or rank < needed else NO_SIGN, evidence, advice)


def prior_varies(table: Table, probe: ModelProbe) -> Line:
    """p(Z|U) depends on U: what takes the indeterminacy of the latent away (equation 3)."""
    assumption, paper = "U really moves the latent", "p(Z|U), equation 3"
    if probe.prior is None:
        return Line(assumption, paper, UNTESTABLE, "the prior is no product of normals", "")
    mean, scale = probe.prior
    moved = (mean.std(0, correction=0) / scale.mean(0)).max().item()
    widened = scale.log().std(0, correction=0).max().item()
    evidence = f"prior means move by up to {moved:.3f} prior standard deviations, log scales by up to {widened:.3f}"
    if table.aux.shape[1] == 0:
        evidence = "there is no U"
    verdict = VIOLATED if max(moved, widened) < LEAST_VARIATION else NO_SIGN
    return Line(assumption, paper, verdict, evidence, "name columns that drive what is measured: auxiliary=[...]")


def mask_is_no_auxiliary(table: Table) -> Line:
    """U = R is a substitute of the paper's experiments, not an observed cause of Z."""
    source = table.schema.auxiliary_source
    told = {
        "mask": "U is the mask itself, which X causes, so the bound is none and Theorem 1 does not apply",
        "named": "U was named",
        "complete": "the complete columns serve as U",
        "none": "there is no U",
    }
    return Line(
        "U is something else than the mask",
        "U (section 2.3)",
        VIOLATED if source == "mask" else NO_SIGN,
        told[source],
        "name auxiliary columns instead of auxiliary='mask'",
    )


def shadow_variables(table: Table, graph: MissingnessGraph | None) -> Line:
    """Something always observed that drives X_d but, given X, not R_d; given such a variable, mechanisms are
    identified.
    """
    assumption = "for each gap, something fully observed drives the value but not its being missing"
    paper = "shadow variable (not in the paper)"
    advice = "declare a sparser graph if you know one; look for such a column"
    if graph is None:
        return Line(assumption, paper, UNTESTABLE, "no mask site was found in the model", advice)
    found: dict[Hashable, list[str]] = {}
    kinds = graph.kind().columns
    spared = [repr(column) for column in graph.nodes.incomplete if kinds[column].kind != "MNAR"]
    for column in graph.nodes.incomplete:
        if repr(column) in spared:
            continue
        candidates = [name for name in graph.nodes.given if _is_excluded(graph, name, column)]
        strengths = {name: _association(table, name, column) for name in candidates}
        found[column] = [f"{name} (R {strength:.2f})" for name, strength in strengths.items() if strength > 0]
    without = [repr(column) for column, names in found.items() if not names]
    told = [f"none for {', '.join(without)}"] if without else []
    told += [f"{column}: {', '.join(names)}" for column, names in found.items() if names]
    told += [
        f"not needed for {', '.join(spared)}, for by the graph no missing value decides whether they are seen"
    ] * bool(spared)
    evidence = "; ".join(told) or "nothing goes missing"
    return Line(assumption, paper, VIOLATED if without else NO_SIGN, evidence, advice)


def continuous_columns(table: Table) -> Line:
    """Theorem 1 is about x = f(z) + ε with ε of a density."""
    discrete = [repr(c.name) for c in table.schema.columns if c.kind.is_discrete]
    few = []
    for d, column in enumerate(table.schema.columns):
        values = np.unique(table.x[table.mask[:, d], d].numpy())
        if repr(column.name) not in discrete and len(values) <= FEW_VALUES < int(table.mask[:, d].sum()):
            few.append(f"{column.name!r} takes {len(values)} values")
    told = [f"discrete: {', '.join(discrete)}", *few] if discrete else few
    return Line(
        "columns are continuous",
        "Theorem 1, x = f(z) + ε",
        VIOLATED if told else NO_SIGN,
        "; ".join(told) or "every column is continuous",
        "Theorem 1 does not cover discrete columns; lean on the twin search and on restarts",
    )


def _is_excluded(graph: MissingnessGraph, name: Hashable, column: Hashable) -> bool:
    """Whether R[column] is separated from a variable by the other columns of X."""
    return nx.is_d_separator(graph.dag, {name}, {graph.nodes.r(column)}, set(graph.nodes.columns) - {name})


def _association(table: Table, name: Hashable, column: Hashable) -> float:
    """Multiple correlation with a column where that is observed; 0 if chance explains it."""
    from scipy import stats  # takes half as long to import as torch

    at = table.schema.names.index(column)
    seen = table.mask[:, at].numpy()
    inputs, target = _values(table, name)[seen], table.x[table.mask[:, at], at].double().numpy()
    count, width = inputs.shape
    if count < width + 3 or target.std() == 0:
        return 0.0
    design = np.column_stack([np.ones(count), inputs])
    residual = target - design @ np.linalg.lstsq(design, target, rcond=None)[0]
    explained = float(np.clip(1 - residual.var() / target.var(), 0, 1 - 1e-12))
    ratio = explained / width / ((1 - explained) / (count - width - 1))
    return explained**0.5 if stats.f.sf(ratio, width, count - width - 1) < FALSE_ALARM else 0.0


def _values(table: Table, name: Hashable) -> Any:
    if name in table.schema.names:
        return table.x[:, [table.schema.names.index(name)]].double().numpy()
    start = 0
    for auxiliary in table.schema.auxiliaries:
        if auxiliary.name == name:
            return table.aux[:, start : start + auxiliary.width].double().numpy()
        start += auxiliary.width
    raise ValueError(f"column {name!r}: not in the table")


def _listed(shares: dict[Hashable, float]) -> str:
    """All of them, the largest first."""
    order = sorted(shares, key=shares.__getitem__, reverse=True)
    return ", ".join(f"{name} {shares[name]:.2f}" for name in order)
