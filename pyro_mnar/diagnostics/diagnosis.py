"""One call and one page: what speaks against a fit and its imputations, worst first, each line with what to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pyro_mnar.diagnostics.ignorable import AgainstIgnorable, against_ignorable
from pyro_mnar.diagnostics.importance import TRUSTED, row_weights
from pyro_mnar.diagnostics.replicates import VALUES, Replicates, predictive_checks, replicated
from pyro_mnar.diagnostics.spread import restart_spread
from pyro_mnar.diagnostics.training_signs import (
    gradient_norm,
    kl_by_dimension,
    rise,
    still_rises,
)
from pyro_mnar.imputation import Imputations
from pyro_mnar.memory import check_room
from pyro_mnar.messages import check_is, whole_number
from pyro_mnar.training.fitted import Fit, check_fit

LEAST_FAR = 0.2  # observed standard deviations by which means may move without a word
PROBLEM, LOOK, FINE = "problem", "look", "nothing seen"
_ORDER = (PROBLEM, LOOK, FINE)
CAUTION = (
    "Nothing here proves a fit right: models that agree on the law of what is observed pass alike and may impute"
    " differently (see check_identifiability and sensitivity analyses)."
)


class Finding(NamedTuple):
    """One line.

    Attributes:
        verdict: ``problem``, ``look`` or ``nothing seen``.
        subject: What was looked at.
        evidence: What was measured.
        advice: What to do.
    """

    verdict: str
    subject: str
    evidence: str
    advice: str


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What speaks against a fit and its imputations; printed, worst first.

    Attributes:
        findings: The lines.
        rows: By position of a row, ``effective_sample_size`` and its ``share`` of the particles, ``pareto_k``, and the
            row's ``label``.
        columns: By column, the share of its gaps in rows whose ``pareto_k`` is above 0.7.
        checks: Predictive checks of the missingness and of observed values, with p-values
            (:func:`~pyro_mnar.diagnostics.replicates.predictive_checks`).
        kl: KL of each latent dimension from its prior, in nats.
        against_ignorable: The fit beside an ignorable one: imputed means of both by column, and which of the two the
            data prefer.
        replicates: Tables drawn from the fitted model, by which the predictive checks are made.
        imputations: What was diagnosed.
    """

    findings: tuple[Finding, ...]
    rows: pd.DataFrame
    columns: pd.Series
    checks: pd.DataFrame
    kl: pd.Series
    against_ignorable: AgainstIgnorable
    replicates: Replicates = field(repr=False)
    imputations: Imputations = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """One row a line."""
        return pd.DataFrame(self.findings, columns=list(Finding._fields))

    def to_inference_data(self) -> Any:
        """One ArviZ object of all of it, as :meth:`Imputations.to_inference_data` makes it.

        ``posterior_predictive`` holds the replicates, ``x`` in the user's units and the mask ``r``, by ``(chain, draw,
        row, column)``; ``sample_stats`` has effective sample size and k-hat of the rows.
        """
        from pyro_mnar.imputation.inference_data import draws_to_inference_data

        given = self.imputations
        return draws_to_inference_data(
            given.table,
            given.cells,
            given.draws,
            effective_sample_size=given.effective_sample_size,
            pareto_k=self.rows.pareto_k,
            replicated=(self.replicates.table, self.replicates.x, self.replicates.mask),
        )

    def __repr__(self) -> str:
        lines = [
            f"{f.verdict.upper()}: {f.subject}\n    {f.evidence}" + (f"\n    → {f.advice}" if f.verdict != FINE else "")
            for f in self.findings
        ]
        return "\n".join([*lines, "", CAUTION])


def diagnose(
    fit: Fit,
    imputations: Imputations,
    *,
    num_particles: int = 1000,
    replicates: int = 100,
    ignorable: Fit | None = None,
    seed: int = 0,
) -> Diagnosis:
    """Look for what speaks against a fit and its imputations.

    Args:
        fit: A trained model and guide.
        imputations: Of a table by this fit.
        num_particles: K of the pass over importance weights, at least 500.
        replicates: Tables drawn for the predictive checks.
        ignorable: A fit that ignores the mechanism, to compare with; by default the same model is fitted anew without
            its mechanism (:func:`~pyro_mnar.diagnostics.against_ignorable`).
        seed: Same seed, same numbers.

    Raises:
        ValueError: If there are fewer than 500 particles, or the imputations' table is not the fit's.
    """
    check_fit(fit)
    check_is("imputations", imputations, Imputations)
    if ignorable is not None:
        check_fit(ignorable, "ignorable")
    replicates = whole_number("replicates", replicates, 2)
    table = fit.encoded(imputations.table)
    check_room("replicates", replicates, 8 * table.schema.num_columns, "one row of every replicate")
    rows = row_weights(fit, table, num_particles=num_particles, seed=seed)
    rows["label"] = table.row_labels[rows.index.to_numpy()]
    columns = _columns_to_distrust(imputations, rows)
    drawn = replicated(fit, table, replicates, seed=seed)
    checks = predictive_checks(drawn)
    kl = kl_by_dimension(fit, table, seed=seed)
    beside = against_ignorable(fit, table, ignorable=ignorable, seed=seed)
    found = [
        _weights(rows, columns, num_particles),
        _repeats(imputations),
        *_predictive(checks),
        _rising(fit, gradient_norm(fit, table, seed=seed)),
        _collapse(kl),
        _distance(beside),
    ]
    if fit.members and imputations.cells.size:
        found.append(_restarts(fit, imputations, seed))
    found.sort(key=lambda finding: _ORDER.index(finding.verdict))
    return Diagnosis(tuple(found), rows, columns, checks, kl, beside, drawn, imputations)


def _columns_to_distrust(imputations: Imputations, rows: pd.DataFrame) -> pd.Series:
    heavy = set(rows.index[rows.pareto_k > TRUSTED])
    weighed = np.isin(imputations.cells[0], rows.index.to_numpy())
    frame = pd.DataFrame({"row": imputations.cells[0][weighed], "column": imputations.cells[1][weighed]})
    shares = frame.row.isin(heavy).groupby(frame.column).mean()
    names = imputations.table.schema.names
    shares.index = pd.Index([names[at] for at in shares.index], name="column", tupleize_cols=False)
    return shares.rename("share of gaps in heavy-tailed rows").sort_values(ascending=False)


def _weights(rows: pd.DataFrame, columns: pd.Series, num_particles: int) -> Finding:
    subject = "importance weights of rows"
    advice = "raise num_particles in impute, train longer, or take a guide that proposes nearer to the posterior"
    if rows.empty:
        return Finding(FINE, subject, "no row has gaps", advice)
    heavy = rows[rows.pareto_k > TRUSTED].sort_values("pareto_k", ascending=False)
    share = len(heavy) / len(rows)
    evidence = (
        f"{len(heavy)} of {len(rows)} rows have k-hat above {TRUSTED}; median effective sample size"
        f" {rows.effective_sample_size.median():.0f} of {num_particles}"
    )
    if len(heavy):
        evidence += f"; worst: {', '.join(map(repr, heavy.label[:5]))}; column {columns.index[0]!r} most"
    return Finding(PROBLEM if share > 0.1 else LOOK if share > 0.01 else FINE, subject, evidence, advice)


def _repeats(imputations: Imputations) -> Finding:
    effective = imputations.effective_sample_size[np.isfinite(imputations.effective_sample_size)]
    least = 5.0 * imputations.num_draws
    few = float((effective < least).mean()) if len(effective) else 0.0
    evidence = f"{few:.0%} of rows have an effective sample size below {least:.0f}, five a draw"
    verdict = PROBLEM if few > 0.2 else LOOK if few > 0.05 else FINE
    return Finding(verdict, "draws that repeat each other", evidence, "raise num_particles in impute")


def _predictive(checks: pd.DataFrame) -> list[Finding]:
    found = []
    for is_values, subject, advice in (
        (
            False,
            "missingness that the model makes",
            "let R depend on these columns: declare the graph anew, and compare",
        ),
        (True, "observed values that the model makes", "take another kind for these columns, more latents or GINA"),
    ):
        here = checks[(checks.check == VALUES) == is_values]
        if here.empty:
            found.append(Finding(LOOK, subject, "the model does not model the mask, or nothing goes missing", advice))
            continue
        flagged = here[here.flagged]
        worst = "; ".join(
            f"{row.check} ({row.of}): {row.observed:.3g}, the model's {row.replicated:.3g} ± {row.spread:.2g},"
            f" p {row.p:.1g}"
            for row in flagged.head(3).itertuples()
        )
        evidence = f"{len(flagged)} of {len(here)} statistics differ" + (f": {worst}" if worst else "")
        found.append(Finding(PROBLEM if len(flagged) else FINE, subject, evidence, advice))
    return found


def _rising(fit: Fit, gradient: tuple[float, float]) -> Finding:
    gained, error = rise(fit)
    subject, advice = "training", "train for more epochs"
    if np.isnan(gained):
        return Finding(LOOK, subject, "fewer than ten epochs are known", advice)
    evidence = f"the bound rose by {gained:.4f} ± {error:.4f} nats a row over the last tenth of the epochs"
    if np.isfinite(gradient[0]):
        evidence += f"; its gradient has norm {gradient[0]:.2g} a row, {gradient[1]:.2g} would be noise alone"
    verdict = PROBLEM if still_rises(gained, error, 0.05) else LOOK if still_rises(gained, error) else FINE
    return Finding(verdict, subject, evidence, advice)


def _collapse(kl: pd.Series) -> Finding:
    subject, advice = "latents that carry nothing", "take fewer latents, or restarts"
    if kl.empty:
        return Finding(FINE, subject, "no latent with a normal guide and prior", advice)
    idle = kl[kl < 0.01]
    evidence = f"{len(idle)} of {len(kl)} dimensions within 0.01 nats of their prior"
    return Finding(LOOK if len(idle) else FINE, subject, evidence, advice)


def _distance(beside: AgainstIgnorable) -> Finding:
    subject = "distance from what an ignorable fit imputes"
    if beside.columns.empty:
        return Finding(FINE, subject, beside.why, "")
    advice = "this much rests on the mechanism: report it, vary the mechanism, and ask how values went missing"
    moves = beside.columns.distance_in_sd
    order = moves.abs().sort_values(ascending=False).index[:5]
    told = ", ".join(f"{name} {moves[name]:+.2f}" for name in order)
    evidence = f"imputed means, in observed sd: {told}; {beside.evidence}"
    far = list(beside.warnings())
    if far:
        return Finding(PROBLEM, subject, evidence, far[0])
    return Finding(LOOK if float(moves.abs().max()) > LEAST_FAR else FINE, subject, evidence, advice)


def _restarts(fit: Fit, imputations: Imputations, seed: int) -> Finding:
    spread = restart_spread(fit, imputations.table, seed=seed).spread.range_in_sd
    evidence = f"imputed means of equally good starts lie up to {spread.max():.2f} sd apart ({spread.idxmax()!r})"
    advice = "the data do not decide between them: constrain the mechanism (a sign, a sparser graph)"
    verdict = PROBLEM if spread.max() > 0.5 else LOOK if spread.max() > 0.1 else FINE
    return Finding(verdict, "spread of restarts", evidence, advice)
