"""A fit in plain words: what being missing depends on and how strongly, noise, latents, the bound, warnings."""

from __future__ import annotations

import textwrap
from collections.abc import Hashable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyro.poutine as poutine
import torch
from torch import nn
from torch.distributions import LogNormal, Normal, StudentT

from pyro_mnar.diagnostics.ignorable import AgainstIgnorable, against_ignorable
from pyro_mnar.graphs.nodes import listed
from pyro_mnar.infer.session import Session
from pyro_mnar.infer.sites import (
    column_distribution,
    columns_of,
    holds_columns,
    holds_observed,
    is_shared,
    stochastic_sites,
)
from pyro_mnar.mechanisms import Blocks
from pyro_mnar.messages import check_boolean
from pyro_mnar.summaries.intervals import intervals, term_means
from pyro_mnar.summaries.mask_dependence import MaskDependence
from pyro_mnar.summaries.training_words import training_lines, training_warnings
from pyro_mnar.summaries.wording import Dependence, Noise
from pyro_mnar.tables.blocks import events
from pyro_mnar.tables.table import Table
from pyro_mnar.training.fitted import Fit, check_fit
from pyro_mnar.training.fitted_graph import MOST_NODES

MOST_ROWS = 512  # on which changes are measured
MOST_COLUMNS, MOST_CAUSES = 20, 3  # of which print tells
WIDTH = 118


@dataclass(frozen=True)
class FitSummary:
    """What a fit says, printed in words.

    Attributes:
        about: Model and guide, rows, epochs, the bound, particles: a line each.
        dependences: How strongly being missing depends on what, by column.
        uncaused: Columns whose being missing nothing is taken to cause.
        events: Columns that are missing together, in words.
        intervals: What the intervals of the dependences are from, or why there are none.
        latents: Number of dimensions of each latent of a row.
        noise: What the latents leave unexplained, by column.
        warnings: What to mind.
        against_ignorable: The fit beside an ignorable one; None where that was not asked for, or rows are not there.
    """

    about: tuple[str, ...]
    dependences: tuple[Dependence, ...]
    uncaused: tuple[Hashable, ...]
    events: tuple[str, ...]
    intervals: str
    latents: dict[str, int]
    noise: tuple[Noise, ...]
    warnings: tuple[str, ...]
    against_ignorable: AgainstIgnorable | None = None

    def to_frame(self) -> pd.DataFrame:
        """One row a dependence, with its ``factor`` of the odds."""
        frame = pd.DataFrame(self.dependences, columns=list(Dependence._fields))
        frame["factor"] = [one.factor for one in self.dependences]
        return frame

    def sentences(self) -> list[str]:
        """What being missing depends on, the strongest causes of a column first."""
        told: list[str] = []
        by_column: dict[Hashable, list[Dependence]] = {}
        for one in self.dependences:
            by_column.setdefault(one.column, []).append(one)
        for column, some in list(by_column.items())[:MOST_COLUMNS]:
            # A hard threshold is the strongest; levels of one cause stay together.
            strength: dict[Hashable, float] = {}
            for one in some:
                size = abs(one.change) if np.isfinite(one.change) else np.inf
                strength[one.cause] = max(strength.get(one.cause, 0.0), size)
            strongest = sorted(strength, key=strength.__getitem__, reverse=True)
            told += [str(one) for cause in strongest[:MOST_CAUSES] for one in some if one.cause == cause]
            if len(strongest) > MOST_CAUSES:
                told.append(f"{column}: and {len(strongest) - MOST_CAUSES} weaker causes (to_frame() has them)")
        if len(by_column) > MOST_COLUMNS:
            told.append(f"and {len(by_column) - MOST_COLUMNS} more columns (to_frame() has them)")
        told += [*self.events]
        if self.uncaused:
            told.append(f"{listed(self.uncaused)}: nothing in the row is taken to cause being missing")
        return told

    def __repr__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield from self.about
        if told := self.sentences():
            yield "Being missing, all else of a row held:"
            yield from (textwrap.fill(f"  {line}", WIDTH, subsequent_indent="    ") for line in told)
            if any(not one.is_same_in_all_rows for one in self.dependences if np.isfinite(one.change)):
                yield "  measured by changing one value at a time, at imputed values"
        if self.intervals:
            yield textwrap.fill(f"Intervals (95 %): {self.intervals}", WIDTH, subsequent_indent="  ")
        if self.against_ignorable is not None:
            yield "Against an ignorable fit, in which gaps say nothing of the values behind them:"
            lines = self.against_ignorable.lines(MOST_COLUMNS)
            yield from (textwrap.fill(f"  {line}", WIDTH, subsequent_indent="    ") for line in lines)
        if self.latents:
            yield f"Latents of a row: {', '.join(f'{name} of size {size}' for name, size in self.latents.items())}"
        if self.noise:
            noise = ", ".join(map(str, self.noise[:MOST_COLUMNS])) + (" ..." if len(self.noise) > MOST_COLUMNS else "")
            told = f"Noise of columns given the latents, standard deviations in their own units: {noise}"
            yield textwrap.fill(told, WIDTH, subsequent_indent="  ")
        yield from (textwrap.fill(f"Warning: {one}", WIDTH, subsequent_indent="  ") for one in self.warnings)


def summarise(
    fit: Fit,
    table: Table | pd.DataFrame | None = None,
    *,
    with_intervals: bool = True,
    with_ignorable: bool = True,
    seed: int = 0,
) -> FitSummary:
    """A fit in plain words.

    Changes are measured in the mask's own log-odds (or on the scale of its link), on up to 512 rows with imputed
    values, one cause changed and all else of the row held; where the log-odds are linear in the cause that is the
    slope.

    Args:
        fit: The fit.
        table: The rows that it was fitted to; by default those that it still holds, which a loaded one does not.
        with_intervals: Whether to compute intervals: from the fit's bootstrap, from draws where the guide has a
            posterior of the parameters, or else from the curvature of the bound, which takes seconds.
        with_ignorable: Whether to fit the model without its mechanism too, and to say what that would impute and which
            of the two the data prefer (:func:`~pyro_mnar.diagnostics.against_ignorable`), which takes as long as a fit
            from the data, else about a third of one.
        seed: Same seed, same summary.

    Raises:
        ValueError: If the table is another than the fit's.
    """
    check_fit(fit)
    check_boolean("with_intervals", with_intervals)
    check_boolean("ignorable", with_ignorable)
    table = fit.table if table is None else fit.encoded(table)
    about, warnings = tuple(training_lines(fit)), list(training_warnings(fit))
    if table is None:
        why = "unknown without the rows: fit.summary(table)"
        return FitSummary(about, (), (), (f"what it depends on is {why}",), "", {}, (), tuple(warnings))
    rows = table.take(np.unique(np.linspace(0, len(table) - 1, min(len(table), MOST_ROWS)).round().astype(int)))
    told, blocked = _events(fit, table)
    nodes = table.schema.num_columns + len(table.schema.auxiliaries)
    try:
        if nodes > MOST_NODES:
            raise ValueError(f"{nodes} columns and auxiliaries are too many to change one at a time")
        dependence = MaskDependence.of(fit, rows, without=blocked, seed=seed)
    except ValueError as error:
        dependence, unknown = None, str(error)
        told.append(f"what it depends on is unknown: {unknown}")
    found: list[Dependence] = []
    words, uncaused = "", ()
    if dependence is not None and dependence.terms:
        by_row = term_means(fit, dependence, seed)
        ends, words = intervals(fit, dependence, table, seed) if with_intervals else (None, "")
        lower, upper = ends if ends is not None else np.full((2, by_row.shape[1]), np.nan)
        least, greatest = np.quantile(by_row, [0.05, 0.95], axis=0)
        for at, term in enumerate(dependence.terms):
            contrast = term.contrast
            kind = ("latent", None, None) if contrast is None else (contrast.per, contrast.level, contrast.reference)
            numbers = (by_row[:, at].mean(), lower[at], upper[at], least[at], greatest[at])
            found.append(Dependence(term.column, term.cause, *kind, term.link, *map(float, numbers)))
    if dependence is not None:
        caused = {one.column for one in found} | set(blocked)
        uncaused = tuple(c for c in dependence.graph.nodes.incomplete if c not in caused)
    latents, noise = _latents_and_noise(fit, rows, seed)
    beside = against_ignorable(fit, table, seed=seed) if with_ignorable else None
    warnings += [] if beside is None else list(beside.warnings())
    return FitSummary(about, tuple(found), uncaused, tuple(told), words, latents, noise, tuple(warnings), beside)


def _events(fit: Fit, table: Table) -> tuple[list[str], list[Hashable]]:
    """What is said of columns that go missing together, and those of them that never go missing otherwise."""
    if not isinstance(fit.model, nn.Module):
        return [], []
    told, blocked = [], []
    names = table.schema.names
    for module in fit.model.modules():
        if not isinstance(module, Blocks):
            continue
        batch = table.batch()
        members = module.members.cpu()
        found = events(members, batch.mask, batch.mask_modelled)
        explained = (found.unsqueeze(-1) & members).any(-2)
        alone = (~batch.mask & batch.mask_modelled & ~explained).any(0)
        blocked += [names[d] for d in members.any(0).nonzero().squeeze(-1).tolist() if not alone[d]]
        for block, share in zip(members, found.double().mean(0).tolist(), strict=True):
            together = listed(names[d] for d in block.nonzero().squeeze(-1).tolist())
            told.append(
                f"{together}: missing together in {share:.0%} of rows, one event that nothing in the row causes"
            )
    return told, blocked


def _latents_and_noise(fit: Fit, rows: Table, seed: int) -> tuple[dict[str, int], tuple[Noise, ...]]:
    """Latents of a row, and what they leave of each column, where that is normal on its scale."""
    batch = rows.source(fit.device).take(torch.arange(len(rows), device=fit.device))
    latents: dict[str, int] = {}
    noise: dict[int, Noise] = {}
    with Session(seed, fit.device, fit.store).running(), torch.no_grad():
        guided = poutine.trace(fit.guide).get_trace(batch)
        trace = poutine.trace(poutine.replay(fit.model, trace=guided)).get_trace(batch)
    for name, site in stochastic_sites(trace).items():
        if not holds_columns(site) and not site["is_observed"] and not is_shared(site):
            latents[name] = int(site["value"].shape[-1]) if site["fn"].event_dim else 1
        if not holds_observed(site):
            continue
        fn = column_distribution(site["fn"])
        if not isinstance(fn, Normal | StudentT | LogNormal):
            continue
        scale = fn.scale.expand(*fn.batch_shape).double().reshape(-1, fn.batch_shape[-1]).mean(0)
        for position, size in zip(columns_of(site), scale.tolist(), strict=True):
            column = rows.schema.columns[position]
            if isinstance(fn, LogNormal):
                noise[position] = Noise(column.name, float(np.exp(size)), True)
            elif column.kind.scale.is_linear:
                noise[position] = Noise(column.name, size * column.std, False)
            elif np.isposinf(column.kind.scale.upper):
                noise[position] = Noise(column.name, float(np.exp(size * column.std)), True)
    return latents, tuple(noise[at] for at in sorted(noise))
