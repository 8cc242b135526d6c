"""Choosing among missingness graphs: held-out log p(x_o outside U, r | u), row by row on the same rows.

Only numbers of one and the same quantity compare, so fits that differ in columns, U, units or in what they score are
refused. And the bound cannot tell graphs apart that agree on the law of what is observed, however they impute.
"""

from __future__ import annotations

import html
import logging
from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyro.poutine as poutine
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from pyro_mnar.diagnostics.probe import scores_mask
from pyro_mnar.graphs.nodes import listed
from pyro_mnar.infer.objective import ImportanceWeightedELBO
from pyro_mnar.infer.session import Session
from pyro_mnar.infer.sites import columns_of, holds_columns, mechanism_weights, sample_sites
from pyro_mnar.messages import check_is, shown, whole_number
from pyro_mnar.tables.table import Table
from pyro_mnar.training.evidence import log_evidence, mean_and_error, row_weights
from pyro_mnar.training.fitted import Fit, check_fit

LEAST_PARTICLES = 1000
CAUTION = (
    "Held-out log p(x_o outside U, r | u), nats per row in standardised units.  The bound alone cannot tell graphs"
    " apart that agree on the law of what is observed: two of them can reach the same number and impute differently."
    "  Where the difference is within two of its standard errors, choose by what is known of how values went missing."
)
UNLIKE = (
    "Fits that start alike compare: {} started from the data and stayed near a linear law, {} did not, so that their"
    ' difference may be that of their training; fit all with start="random".'
)
BESIDE = (
    "Fits of like priors compare: those of {} know of forests or groups of rows, those of {} have none, so that their"
    " difference may be that of the priors; give all models the same groups= and forests=."
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Fits in order of their held-out bound, best first; printed, a table with a caution.

    Attributes:
        bounds: One row a fit: ``log_evidence`` (nats per row) and its ``standard_error``; ``difference`` from the first
            row and its paired ``difference_error``; ``gain_of_2k``, what doubling the particles adds (large: the bound
            is loose and the ranking with it).
        per_row: The bounds of every row of the table; ``(rows, fits)``.
        weight: How often each row counts in the means and their errors, 1 on average; None where every row counts once.
        unlike: What makes the fits compare badly, in sentences; nothing if they were trained alike and all or
            none of their priors know more than u.
    """

    bounds: pd.DataFrame
    per_row: pd.DataFrame
    weight: Float[NDArray, " rows"] | None = None
    unlike: str = ""

    def to_frame(self) -> pd.DataFrame:
        """One row a fit: ``bounds``."""
        return self.bounds.copy()

    def paired(self) -> pd.DataFrame:
        """Every pair: mean of the row-wise difference, its standard error, and their ratio; ``(pairs, 3)``."""
        names = list(self.bounds.index)
        pairs = [(a, b) for at, a in enumerate(names) for b in names[at + 1 :]]
        rows = {pair: _difference(self.per_row[pair[0]], self.per_row[pair[1]], self.weight) for pair in pairs}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis(index=["fit", "other"])

    def __repr__(self) -> str:
        return "\n\n".join([self.bounds.round(4).to_string(), *([self.unlike] if self.unlike else []), CAUTION])

    def _repr_html_(self) -> str:
        unlike = f"<p>{html.escape(self.unlike)}</p>" if self.unlike else ""
        return f"{self.bounds.round(4).to_html(notebook=True)}{unlike}<p>{CAUTION}</p>"


def compare(
    fits: Mapping[str, Fit],
    held_out: Table | pd.DataFrame,
    *,
    num_particles: int = LEAST_PARTICLES,
    seed: int = 0,
    device: torch.device | str | None = None,
) -> Comparison:
    """Rank fits by what they say of rows that none of them has seen.

    Args:
        fits: Fits of the same training rows, by name.
        held_out: Other rows: a table in the fits' units (``table.new_rows``, ``table.take``), or a frame.
        num_particles: K, at least 1,000; 2K are drawn, to see what more of them would change.
        seed: Same seed, same numbers.
        device: Where to compute; by default where the parameters are.

    Returns:
        One row a fit, best first.

    Raises:
        ValueError: If there are fewer than two fits or than 1,000 particles; if the fits differ in modelled columns, in
            which of them go missing, in U or in units (names what differs); if a fit tempers the mask's likelihood (β ≠
            1), does not model the mask, or has the mask as U, so that its number is none of log p(x_o, r | u).
    """
    check_is("fits", fits, Mapping, ", from names to fits")
    for name, fit in fits.items():
        check_fit(fit, f"fits, {shown(name)}")
    if len(fits) < 2:
        raise ValueError(f"fits: expected at least two, got {list(fits)!r}")
    num_particles = whole_number("num_particles", num_particles, LEAST_PARTICLES)
    first, *others = fits
    for other in others:
        _check_same(first, fits[first], other, fits[other])
    tables = {name: fit.encoded(held_out) for name, fit in fits.items()}
    for name, fit in fits.items():
        _check_scores_mask(name, fit, tables[name])
    modelled = {name: _modelled(fit, tables[name]) for name, fit in fits.items()}
    for other in others:
        _check_same_data(first, modelled[first], other, modelled[other])

    found = {
        name: log_evidence(fit, tables[name], num_particles=num_particles, outside_u=True, seed=seed, device=device)
        for name, fit in fits.items()
    }
    index = tables[first].row_labels
    per_row = pd.DataFrame({name: evidence.log_p for name, evidence in found.items()}, index=index)
    weight = row_weights(tables[first])
    means = {name: mean_and_error(per_row[name].to_numpy(), "log_evidence", weight) for name in per_row}
    order = sorted(means, key=lambda name: -means[name]["log_evidence"])
    rows = {}
    for name in order:
        of_best = _difference(per_row[name], per_row[order[0]], weight)
        rows[name] = {
            **means[name],
            "difference": of_best["difference"],
            "difference_error": of_best["error"],
            "gain_of_2k": np.average(found[name].gain, weights=weight),
        }
    unlike = _unlike(fits)
    if unlike:
        log.warning("%s", unlike)
    return Comparison(pd.DataFrame.from_dict(rows, orient="index"), per_row[order], weight, unlike)


def _unlike(fits: Mapping[str, Fit]) -> str:
    said = []
    for sentence, holds in ((UNLIKE, lambda fit: fit.from_data), (BESIDE, _knows_more_than_u)):
        some = [name for name, fit in fits.items() if holds(fit)]
        others = [name for name in fits if name not in some]
        if some and others:
            said.append(sentence.format(listed(some), listed(others)))
    return " ".join(said)


def _knows_more_than_u(fit: Fit) -> bool:
    num_beside = getattr(getattr(fit.model, "prior", None), "num_beside", 0)
    return isinstance(num_beside, int) and num_beside > 0


def _check_same(first: str, one: Fit, second: str, other: Fit) -> None:
    """Refuse two fits whose numbers are of different quantities; names the first thing that differs."""
    a, b = one.schema, other.schema
    told = {
        "modelled columns": (a.names, b.names),
        "kinds of columns": ([c.kind for c in a.columns], [c.kind for c in b.columns]),
        "columns that go missing": (
            [c.name for c in a.columns if c.incomplete],
            [c.name for c in b.columns if c.incomplete],
        ),
        "U": (
            (a.auxiliary_source, [u.name for u in a.auxiliaries]),
            (b.auxiliary_source, [u.name for u in b.auxiliaries]),
        ),
        "units of columns (so they were fitted to different rows)": (
            [(c.name, c.mean, c.std) for c in a.columns],
            [(c.name, c.mean, c.std) for c in b.columns],
        ),
        "units of U (so they were fitted to different rows)": (a.auxiliaries, b.auxiliaries),
    }
    for what, (left, right) in told.items():
        if left != right:
            raise ValueError(
                f"{what}: expected the same in every fit, got {shown(left)} in {first!r} and {shown(right)} in"
                f" {second!r}"
            )


def _modelled(fit: Fit, table: Table) -> dict[Hashable, bool]:
    """Of each column outside U, whether the model has a density of it or is conditional on it."""
    batch = table.source().take(torch.arange(min(len(table), 8))).to(fit.device)
    with Session(0, fit.device, fit.store).running(), torch.no_grad():
        sites = sample_sites(poutine.trace(fit.model).get_trace(batch)).values()
    drawn = {d for site in sites if holds_columns(site) for d in columns_of(site)}
    return {column.name: d in drawn for d, column in enumerate(fit.schema.columns) if not column.is_auxiliary}


def _check_same_data(first: str, one: dict[Hashable, bool], second: str, other: dict[Hashable, bool]) -> None:
    """Refuse two fits of which one has a density of a column that the other is conditional on."""
    for column, is_modelled in one.items():
        if other[column] != is_modelled:
            has, given = (first, second) if is_modelled else (second, first)
            raise ValueError(
                f"column {column!r}: {has!r} has a density of it and {given!r} is conditional on it, so their numbers"
                " are of other data: write it into a partially_observed of both, or of neither"
            )


def _check_scores_mask(name: str, fit: Fit, table: Table) -> None:
    """Refuse a fit whose weights do not hold p(x_o, r | u)."""
    why = why_no_evidence(fit, table)
    if why:
        raise ValueError(f"fit {name!r}: {why}")


def why_no_evidence(fit: Fit, table: Table) -> str:
    """Why a fit's weights do not hold p(x_o, r | u), in a sentence; nothing where they do."""
    if fit.schema.auxiliary_source == "mask":
        return "U is the mask itself, so its number bounds no log p(x_o, r | u)"
    batch = table.source().take(torch.arange(min(len(table), 8))).to(fit.device)
    with Session(0, fit.device, fit.store).running():
        trace = poutine.trace(fit.model).get_trace(batch)
        is_untempered = ImportanceWeightedELBO(2).particles(fit.model, fit.guide, batch).is_untempered
    if not is_untempered:
        weight = next((weight for weight in mechanism_weights(trace) if weight != 1), 1.0)
        return f"expected a mechanism of weight β = 1, got β = {weight}: train it with β = 1"
    if any(column.incomplete for column in fit.schema.columns) and not scores_mask(trace):
        return (
            "its model does not score the mask, so its number is log p(x_o | u) and no log p(x_o, r | u)"
            " (models.Ignorable ignores the mechanism and scores the mask)"
        )
    return ""


def _difference(one: pd.Series, other: pd.Series, weight: Float[NDArray, " rows"] | None) -> dict[str, float]:
    difference, error = mean_and_error((one - other).to_numpy(), "difference", weight).values()
    return {"difference": difference, "error": error, "ratio": difference / error if error > 0 else 0.0}
