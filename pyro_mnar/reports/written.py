"""The report: what was assumed, done and found about missing data, for a methods section and a supplement.

What it holds follows the framework of Lee et al. (2021, *TARMOS*) and item 12c of STROBE: what is missing and why it is
thought to be, how it was handled, with which software and how many imputations, what came out, and how far that depends
on assumptions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd

from pyro_mnar import plots
from pyro_mnar.diagnostics.diagnosis import CAUTION, Diagnosis
from pyro_mnar.diagnostics.identifiability import IdentifiabilityReport
from pyro_mnar.imputation.imputations import Imputations
from pyro_mnar.imputation.pooled import Pooled
from pyro_mnar.messages import check_is, mapping_of, path_of
from pyro_mnar.reports import contents
from pyro_mnar.reports.rendering import Block, Listing, Picture, Section, to_html, to_markdown
from pyro_mnar.scenarios.pooled_scenarios import Sensitivity
from pyro_mnar.scenarios.tipping import TippingPoint
from pyro_mnar.tables.whole_files import write_atomically
from pyro_mnar.training.fitted import Fit


@dataclass(frozen=True)
class Report:
    """A report; in a notebook it shows itself.

    Attributes:
        title: The heading.
        sections: Its parts, in order.
    """

    title: str
    sections: tuple[Section, ...]

    def to_html(self) -> str:
        """One page with its pictures inside, which needs no network."""
        return to_html(self.title, self.sections)

    def to_markdown(self) -> str:
        """The same as Markdown, pictures inside as data."""
        return to_markdown(self.title, self.sections)

    def reworded(self, words: Callable[[str], str]) -> Report:
        """The same report with other words, as those of the command line.

        Args:
            words: What becomes of a text.
        """
        return replace(self, sections=tuple(section.reworded(words) for section in self.sections))

    def save(self, path: str | PathLike[str]) -> None:
        """Write one HTML file, or a Markdown file with its pictures in a folder beside it, by the path's ending.

        Raises:
            ValueError: If it ends neither in ``.html`` nor in ``.md``.
        """
        path = path_of("path", path)
        if path.suffix not in (".html", ".md"):
            raise ValueError(f"path: expected an ending .html or .md, got {path.name!r}")
        if path.suffix == ".html":
            write_atomically(path, self.to_html().encode())
            return
        folder = path.with_name(f"{path.stem}_files")

        def place(picture: Picture) -> str:
            folder.mkdir(exist_ok=True)
            name = f"{len(list(folder.iterdir())) + 1:02d}.png"
            write_atomically(folder / name, picture.png)
            return f"{folder.name}/{name}"

        for old in folder.glob("*.png"):  # of a report that was written here before
            old.unlink()
        write_atomically(path, to_markdown(self.title, self.sections, place).encode())

    def __repr__(self) -> str:
        return f"Report({self.title!r}: {', '.join(section.title for section in self.sections)})"

    def _repr_html_(self) -> str:
        (body,) = re.findall(r"<body>(.*)</body>", self.to_html(), re.DOTALL)
        return body


def report(
    fit: Fit,
    imputations: Imputations,
    *,
    pooled: Pooled | Mapping[str, Pooled] | None = None,
    sensitivity: Sensitivity | None = None,
    tipping: TippingPoint | Sequence[TippingPoint] = (),
    identifiability: IdentifiabilityReport | None = None,
    diagnostics: Any = None,
    seeds: Mapping[str, int] | None = None,
    title: str = "Missing data: assumptions, imputation, results",
) -> Report:
    """Write down what was assumed, done and found.

    What is given is reported; what is not is listed at the end as not reported, with the function that would give it.

    Args:
        fit: The fit that the imputations are from.
        imputations: Draws of its missing values.
        pooled: Results of :meth:`~pyro_mnar.Imputations.pool`, one or several by name.
        sensitivity: Of :func:`pyro_mnar.sensitivity`.
        tipping: Of :func:`pyro_mnar.tipping_point`, one or several.
        identifiability: Of :func:`pyro_mnar.check_identifiability`.
        diagnostics: Of :func:`pyro_mnar.diagnose`; or a frame, or an object with ``to_frame()`` or that prints itself.
        seeds: Of what was run, such as ``{"fit": 0, "impute": 1}``.
        title: The heading.

    Raises:
        TypeError: If the fit is none, or the imputations are not of a whole table.
        ValueError: If the imputations are of other columns than the fit's.
    """
    if not isinstance(fit, Fit) or not isinstance(imputations, Imputations):
        raise TypeError(
            f"expected a Fit and its Imputations of a table, got {type(fit).__name__} and {type(imputations).__name__}"
        )
    table = imputations.table
    if table.schema.names != fit.schema.names:
        raise ValueError(f"imputations: expected the fit's columns {fit.schema.names!r}, got {table.schema.names!r}")
    for name, value, kind in (
        ("sensitivity", sensitivity, Sensitivity),
        ("identifiability", identifiability, IdentifiabilityReport),
    ):
        if value is not None:
            check_is(name, value, kind)
    check_is("title", title, str)
    tips, found = listed_tips(tipping), by_name(pooled)
    sections = [
        contents.missing_data(table),
        contents.assumptions(fit, table, imputations),
        contents.computation(fit, imputations, mapping_of("seeds", seeds)),
        contents.imputed_values(imputations),
    ]
    if found:
        sections.append(results(found))
    if diagnostics is not None:
        sections.append(Section("Diagnostics", _shown(diagnostics)))
    if identifiability is not None:
        sections.append(_identifiability(identifiability))
    if sensitivity is not None or tips:
        sections.append(_sensitivity(sensitivity, tips))
    given = {
        "the pooled analysis: imputations.pool(analysis)": bool(found),
        "diagnostics of the weights, the mask and the training: diagnose(fit, imputations)": diagnostics is not None,
        "what the data can tell and what is only assumed: check_identifiability(fit, table)": identifiability
        is not None,
        "results under other assumptions: sensitivity(analysis, scenarios)": sensitivity is not None,
        "the delta at which a conclusion changes: tipping_point(analysis, imputations, ...)": bool(tips),
    }
    return Report(title, (*sections, *not_reported(given)))


def by_name(pooled: Pooled | Mapping[str, Pooled] | None) -> dict[str, Pooled]:
    """Results by name, a single one by none."""
    found = {"": pooled} if isinstance(pooled, Pooled) else dict(mapping_of("pooled", pooled))
    for one in found.values():
        check_is("pooled", one, Pooled)
    return found


def listed_tips(tipping: TippingPoint | Sequence[TippingPoint]) -> list[TippingPoint]:
    """Tipping points, of which there may be one alone."""
    if isinstance(tipping, TippingPoint):
        return [tipping]
    check_is("tipping", tipping, (list, tuple), " of tipping points")
    for tip in tipping:
        check_is("tipping", tip, TippingPoint)
    return list(tipping)


def not_reported(given: Mapping[str, Any]) -> list[Section]:
    """What was not given, with the function that gives it; no section where everything was."""
    absent = [f"- {what}" for what, is_there in given.items() if not is_there]
    return [Section("Not reported here", (Listing("\n".join(absent)),))] if absent else []


def results(found: Mapping[str, Pooled]) -> Section:
    """Pooled results by name, each with what its draws are enough for."""
    blocks: list[Block] = []
    for name, pooled in found.items():
        blocks += [*([f"{name}:"] if name else []), pooled.to_frame()]
        enough = int(pooled.draws_needed.max(initial=0))
        verdict = "which these are" if pooled.num_draws >= enough else "so these are too few"
        blocks.append(
            f"{pooled.num_draws} draws. For standard errors that other draws would repeat to 5%, {enough} are needed"
            f" (von Hippel 2020), {verdict}; Monte Carlo errors of the estimates reach"
            f" {_largest_share(pooled):.1%} of their standard errors. Up to {pooled.fmi.max(initial=0.0):.1%} of the"
            " information on a coefficient is missing."
        )
        blocks += [pooled.note] if pooled.note else []
    if len(found) > 1:
        named = [set(map(str, pooled.names)) - {"Intercept", "const"} for pooled in found.values()]
        for name in sorted(set.intersection(*named)):
            blocks.append(Picture.of(plots.forest(found, name), f"{name} in each analysis."))
    return Section("Pooled results", tuple(blocks))


def _largest_share(pooled: Pooled) -> float:
    errors = pooled.standard_errors
    shares = np.divide(pooled.monte_carlo_errors, errors, out=np.zeros_like(errors), where=errors > 0)
    return float(shares.max(initial=0.0))


def _identifiability(found: IdentifiabilityReport) -> Section:
    lines = found.to_frame().set_index("assumption")[["verdict", "evidence", "advice"]]
    against = lines[~lines["verdict"].isin(["no sign against it", "assumed, not testable"])]
    told = (
        f"Caution: {len(against)} of {len(lines)} conditions under which the model is identified are contradicted:"
        f" {'; '.join(map(str, against.index))}."
        if len(against)
        else "No condition under which the model is identified is contradicted, which does not prove that it is."
    )
    return Section("What the data can tell", (told, lines))


def _sensitivity(found: Sensitivity | None, tips: Sequence[TippingPoint]) -> Section:
    blocks: list[Block] = []
    if found is not None:
        blocks.append(found.to_frame().set_index("scenario"))
        for name in found.scenarios[0].pooled.names:
            if str(name).lower() not in ("intercept", "const"):
                blocks.append(Picture.of(found.plot(name), f"{name} under each assumption."))
    return Section("Sensitivity", (*blocks, *tipping_points(tips)))


def tipping_points(tips: Sequence[TippingPoint]) -> list[Block]:
    """Each in words and as a picture."""
    blocks: list[Block] = []
    for tip in tips:
        blocks += [f"{tip!r}.", Picture.of(tip.plot(), f"{tip.coefficient} by delta.")]
    return blocks


def _shown(found: Any) -> tuple[Block, ...]:
    if isinstance(found, Diagnosis):
        blocks: list[Block] = [found.to_frame().set_index("subject"), CAUTION]
        if len(found.rows):
            blocks.append(Picture.of(plots.pareto_k(found), "Tails of the importance weights, by row."))
        if len(found.checks):
            blocks.append(Picture.of(plots.predictive_checks(found), "Statistics of the table among its replicates."))
        return tuple(blocks)
    if isinstance(found, pd.DataFrame):
        return (found,)
    if callable(getattr(found, "to_frame", None)):
        return (found.to_frame(),)
    return (Listing(str(found)),)
