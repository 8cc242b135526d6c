"""The identifiability report: which of the paper's assumptions this table and this model contradict, and a search for
twins.

It never says that an assumption holds, nor that a model is identified: data cannot show that.  It warns, and blocks
nothing.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pyro_mnar.diagnostics import assumptions
from pyro_mnar.diagnostics.assumptions import NO_SIGN, NOT_IDENTIFIED, UNTESTABLE, VIOLATED, Line
from pyro_mnar.diagnostics.plain_words import in_plain_words
from pyro_mnar.diagnostics.probe import ModelProbe, empty_guide
from pyro_mnar.diagnostics.twins import TwinSearch, search_twins
from pyro_mnar.graphs.graph import MissingnessGraph
from pyro_mnar.infer.session import Session
from pyro_mnar.messages import check_boolean
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.table import Table
from pyro_mnar.training.fitted import Fit
from pyro_mnar.training.fitted_graph import graph_of_fit

CAUTION = (
    "These are sufficient conditions: one that is violated takes the theorem away and does not prove that the model is"
    " not identified; 'no sign against it' proves nothing.  Only a twin that was found proves something: the data do"
    " not decide."
)
WIDTHS = {"verdict": 22, "assumption": 42, "evidence": 54}


@dataclass(frozen=True)
class IdentifiabilityReport:
    """What may be believed; printed, one sentence, then every line by what to do about it.

    Attributes:
        lines: Assumption, its name in the paper, verdict, evidence, advice, whether it matters here.
        twins: What the twin search reached; None if there was none.
        graph: The missingness graph of the model, if one was found.
    """

    lines: tuple[Line, ...]
    twins: TwinSearch | None
    graph: MissingnessGraph | None = None

    def to_frame(self) -> pd.DataFrame:
        """One row a line: ``assumption``, ``paper``, ``verdict``, ``evidence``, ``advice``, ``matters``."""
        return pd.DataFrame(self.lines, columns=list(Line._fields))

    def to_text(self, *, detail: bool = False) -> str:
        """The report as it is printed; with ``detail``, a table by the assumptions' names in the literature."""
        check_boolean("detail", detail)
        return self._in_detail() if detail else in_plain_words(self.lines, self.graph)

    def __repr__(self) -> str:
        return self.to_text()

    def _in_detail(self) -> str:
        rows = [_row("verdict", "assumption (in the paper)", "evidence")]
        rows += [_row(line.verdict, f"{line.assumption} ({line.paper})", line.evidence) for line in self.lines]
        found = [line for line in self.lines if line.verdict in (VIOLATED, NOT_IDENTIFIED) and line.advice]
        advice = [textwrap.fill(f"- {line.paper}: {line.advice}", 118, subsequent_indent="  ") for line in found]
        return "\n".join([*rows, "", *(["what to do", *advice, ""] if advice else []), textwrap.fill(CAUTION, 118)])


def check_identifiability(
    fit_or_model: Fit | Callable[[Batch], Any],
    table: Table | pd.DataFrame,
    *,
    search: bool = True,
    seed: int = 0,
    **search_options: Any,
) -> IdentifiabilityReport:
    """Check what can be checked of the assumptions under which the reference model is identified (sections 3 and 4).

    Args:
        fit_or_model: A fit; or a model function, for the lines that need no trained parameters.
        table: The rows it is for.
        search: Whether to search for twins, which refits the model from many starts, together, in about the time of two
            or three trainings.
        seed: Same seed, same report.
        **search_options: As for :func:`~pyro_mnar.diagnostics.twins.search_twins`: ``fresh``, ``profile``, ``epochs``,
            ``batch_size``, ``num_particles``, ``learning_rate``, ``tolerance``, ``least_difference``, ``progress``.

    Returns:
        The report; printed, a short table.

    Raises:
        ValueError: If the table has other columns than the fit's.
        TypeError: If ``table`` is no table, or a frame beside a bare model.
    """
    check_boolean("search", search)
    fit = fit_or_model if isinstance(fit_or_model, Fit) else None
    if fit is None and not isinstance(table, Table):
        raise TypeError(f"table: expected a Table beside a model, got {type(table).__name__}")
    table = fit.encoded(table) if fit is not None else table
    owner = fit_or_model if isinstance(fit_or_model, Fit) else Fit(fit_or_model, empty_guide, table.schema)
    probe = ModelProbe.of(owner.model, owner.guide, table, Session(seed, owner.device, owner.store))
    graph = graph_of_fit(owner, table, seed=seed)
    twins, line = _twin_line(fit, table, search, seed, search_options)
    lines = (
        line,
        assumptions.positivity(fit, table, scores_mask=probe.scores_mask, seed=seed),
        assumptions.shadow_variables(table, graph),
        assumptions.pattern_cover(table, probe),
        assumptions.more_columns_than_latents(table, probe),
        assumptions.injective_decoder(table, probe),
        assumptions.prior_varies(table, probe),
        assumptions.enough_auxiliaries(table, probe),
        assumptions.mask_is_no_auxiliary(table),
        assumptions.continuous_columns(table),
        assumptions.causes_nothing(graph),
        assumptions.parametric_form(graph),
    )
    return IdentifiabilityReport(tuple(_weighed(line, graph) for line in lines), twins, graph)


def _weighed(line: Line, graph: MissingnessGraph | None) -> Line:
    """Where the mechanism can be ignored, conditions of its identification do not matter; the others do."""
    is_ignorable = graph is not None and graph.kind().overall != "MNAR"
    always = ("Definition 2.1", "positivity (A3)", "A3")
    return line._replace(matters=line.paper in always or not is_ignorable)


def _twin_line(
    fit: Fit | None, table: Table, search: bool, seed: int, options: dict[str, Any]
) -> tuple[TwinSearch | None, Line]:
    name, paper = "no other parameters explain what is observed as well and impute something else", "Definition 2.1"
    if fit is None or not search or bool(table.mask.all()):
        why = "needs a fit" if fit is None else "nothing is missing" if bool(table.mask.all()) else "not searched"
        return None, Line(name, paper, UNTESTABLE, why, "")
    try:
        twins = search_twins(fit, table, seed=seed, **options)
    except ValueError as error:
        return None, Line(name, paper, UNTESTABLE, f"the search failed: {error}", "")
    starts, equal = len(twins.bounds) - 1, twins.bounds["equal"]
    widest = twins.spread["range_in_sd"].idxmax()
    apart = twins.spread.loc[widest, "range_in_sd"]
    evidence = (
        f"{starts} refits; {int(equal.sum())} of {len(equal)} bounds equal to the best, their imputed means up to"
        f" {apart:.2f} observed standard deviations apart ({widest!r})"
    )
    advice = "declare what is known of the mechanism (signs, a sparser graph), bring in U, or report both"
    if twins.found:
        return twins, Line(name, paper, NOT_IDENTIFIED, evidence, advice)
    if not twins.is_best:
        short = twins.bounds["below_best"].iloc[0]
        evidence += f"; the fit itself is {short:.3f} nats per row below the best: train longer, or with restarts"
    return twins, Line(name, paper, NO_SIGN, evidence, advice)


def _row(*cells: str) -> str:
    wrapped = [textwrap.wrap(cell, width) or [""] for cell, width in zip(cells, WIDTHS.values(), strict=True)]
    height = max(map(len, wrapped))
    padded = [[*cell, *[""] * (height - len(cell))] for cell in wrapped]
    return "\n".join(
        " ".join(part.ljust(width) for part, width in zip(parts, WIDTHS.values(), strict=True)).rstrip()
        for parts in zip(*padded, strict=True)
    )
