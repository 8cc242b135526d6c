"""The report of a trial: its estimands, who was seen when, what was assumed after dropout, and what came out.

What it holds follows ICH E9(R1): an estimand names treatment, population, variable, how events such as dropout are
dealt with, and the summary that is compared; every reference is one way to deal with them.  Beside it stand the counts
that CONSORT asks for, and what TARMOS asks of a missing-data analysis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pyro_mnar.imputation.pooled import Pooled
from pyro_mnar.messages import check_is, mapping_of
from pyro_mnar.reports.contents import software
from pyro_mnar.reports.rendering import Block, Listing, Picture, Section
from pyro_mnar.reports.written import Report, by_name, listed_tips, not_reported, results, tipping_points
from pyro_mnar.scenarios.reference_means import MEANINGS
from pyro_mnar.scenarios.tipping import TippingPoint
from pyro_mnar.scenarios.trial import Trial
from pyro_mnar.scenarios.trial_imputations import TrialImputations

ESTIMAND = ("treatment", "population", "variable", "summary")  # attributes that only the trial's team can name


def report_trial(
    imputations: TrialImputations | Mapping[str, TrialImputations],
    *,
    pooled: Pooled | Mapping[str, Pooled] | None = None,
    estimand: Mapping[str, str] | None = None,
    tipping: TippingPoint | Sequence[TippingPoint] = (),
    seeds: Mapping[str, int] | None = None,
    title: str = "Trial: estimands, missing outcomes, results",
) -> Report:
    """Write down what a trial's analysis assumed about dropout, did and found.

    Args:
        imputations: Of :func:`pyro_mnar.impute_trial`, one or several of the same trial by name; the first is the
            primary analysis.
        pooled: Their results, by the same names.
        estimand: In words, ``treatment``, ``population``, ``variable`` and ``summary``; what happens after dropout is
            told from the references.
        tipping: Of :func:`pyro_mnar.tipping_point`, one or several.
        seeds: Of what was run.
        title: The heading.

    Raises:
        TypeError: If ``imputations`` are none of a trial.
        ValueError: If they are of different trials, results carry other names, or the estimand another attribute.
    """
    drawn = dict(imputations) if isinstance(imputations, Mapping) else {"": imputations}
    for given in drawn.values():
        if not isinstance(given, TrialImputations):
            raise TypeError(f"imputations: expected those of impute_trial, got {type(given).__name__}")
    if not drawn:
        raise ValueError("imputations: expected at least one, got none")
    trial = _same_trial(drawn)
    found, tips = by_name(pooled), listed_tips(tipping)
    if unknown := [name for name in found if name not in drawn]:
        raise ValueError(f"pooled: expected names among {list(drawn)!r}, got {unknown[0]!r}")
    estimand = mapping_of("estimand", estimand)
    check_is("title", title, str)
    if unknown := [name for name in estimand if name not in ESTIMAND]:
        raise ValueError(f"estimand: expected attributes among {list(ESTIMAND)!r}, got {unknown[0]!r}")
    sections = [
        _estimands(drawn, estimand),
        _followed(trial),
        _computed(drawn, mapping_of("seeds", seeds)),
        *([results(found)] if found else []),
        *([Section("Sensitivity", tuple(tipping_points(tips)))] if tips else []),
    ]
    given = {
        "what is compared, of whom and in which variable: estimand={...}": bool(estimand),
        "the pooled analysis: imputations.pool(analysis)": bool(found),
        "results under another assumption about dropout: impute_trial(..., reference=...)": len(drawn) > 1,
        "the delta at which a conclusion changes: tipping_point(analysis, imputations, ...)": bool(tips),
    }
    return Report(title, (*sections, *not_reported(given)))


def _same_trial(by_name: Mapping[str, TrialImputations]) -> Trial:
    first, *others = by_name.values()
    for name, other in zip(list(by_name)[1:], others, strict=True):
        same = np.array_equal(first.trial.outcomes, other.trial.outcomes, equal_nan=True)
        if not same or not np.array_equal(first.trial.arms, other.trial.arms):
            raise ValueError(f"imputations: expected one trial under several assumptions, got another one in {name!r}")
    return first.trial


def _estimands(by_name: Mapping[str, TrialImputations], estimand: Mapping[str, str]) -> Section:
    """What is estimated, and what each analysis takes for granted after dropout."""
    blocks: list[Block] = []
    if estimand:
        named = [name for name in ESTIMAND if name in estimand]
        blocks.append(pd.DataFrame({"": [estimand[name] for name in named]}, index=named))
    lines = []
    for name, given in by_name.items():
        counts = pd.Series(given.references).value_counts()
        told = "; ".join(
            f"{MEANINGS[reference]}" + ("" if len(counts) == 1 else f" ({reference}: {count} patients)")
            for reference, count in counts.items()
        )
        moved = given.deltas[given.deltas != 0]
        delta = "" if not len(moved) else f"; {len(moved)} values moved by {moved.min():g} to {moved.max():g}"
        lines.append(f"{name or counts.index[0]}: after dropout {told}{delta}.")
    blocks += [
        "Dropout is the intercurrent event; what outcomes would have been after it is assumed, not seen:",
        Listing("\n".join(lines)),
        "Gaps before a patient's last visit are imputed as missing at random. The data cannot tell these assumptions"
        " apart.",
    ]
    return Section("Estimands", tuple(blocks))


def _followed(trial: Trial) -> Section:
    """Who was seen when, by arm (CONSORT 13), and observed means, which are of those who stayed."""
    seen, arms = ~np.isnan(trial.outcomes), pd.Series(trial.arms, name="arm")
    visits = [str(visit) for visit in trial.visits]
    counts = pd.DataFrame(seen, columns=visits).groupby(arms.to_numpy(), sort=False).sum()
    counts.insert(0, "patients", arms.value_counts().reindex(counts.index))
    means = pd.DataFrame(trial.outcomes, columns=visits).groupby(arms.to_numpy(), sort=False).mean()
    last = trial.last_seen
    intermittent = int((~seen & (np.arange(seen.shape[1]) < last[:, None])).sum())
    left = int((last < seen.shape[1] - 1).sum())
    told = (
        f"{len(trial.patients)} patients, {len(visits)} visits; {left} ({left / len(last):.1%}) left before the last"
        f" visit, {int((last < 0).sum())} of them before any; {intermittent} gaps lie before a visit that was seen."
    )
    blocks: list[Block] = [
        told,
        "Patients seen, by arm and visit:",
        counts,
        "Observed means, of those who were seen:",
        means,
        Picture.of(_courses(trial), "Observed means by arm, and how many patients are behind each."),
    ]
    return Section("Follow-up", tuple(blocks))


def _computed(by_name: Mapping[str, TrialImputations], seeds: Mapping[str, Any]) -> Section:
    settings = {f"draws{f', {name}' if name else ''}": given.num_draws for name, given in by_name.items()}
    blocks: list[Block] = [
        software(settings, seeds),
        "Outcomes are jointly normal over visits, with a mean by arm and covariates at each visit and an unstructured"
        " covariance common to the arms; every draw has parameters of its own from their posterior.",
        "Standard errors follow Rubin's rules: under a reference other than MAR they are those of the information that"
        " MAR would leave (Cro, Carpenter & Kenward 2019).",
    ]
    return Section("Computation", tuple(blocks))


def _courses(trial: Trial) -> Any:
    from matplotlib.figure import Figure

    axes = Figure(figsize=(6, 3), layout="constrained").add_subplot()
    at, arms = np.arange(len(trial.visits)), pd.unique(trial.arms)
    of_arms = pd.DataFrame(trial.outcomes).groupby(trial.arms)
    means, counts = (of_arms.agg(what).loc[arms].to_numpy(dtype=np.float64) for what in ("mean", "count"))
    middle = np.nanmean(means, axis=0)
    for number, arm in enumerate(arms):
        axes.plot(at, means[number], marker="osD^v"[number % 5], color=f"C{number}", label=str(arm))
        for x, y, count in zip(at, means[number], counts[number], strict=True):
            if count:
                shift = (0, 6) if y >= middle[x] else (0, -14)
                axes.annotate(f"{count:g}", (x, y), shift, textcoords="offset points", ha="center", fontsize="small")
    axes.set(xticks=at, xticklabels=[str(visit) for visit in trial.visits], xlabel="visit", ylabel="observed mean")
    axes.margins(y=0.2)
    axes.legend(title="arm")
    return axes
