"""Pictures of diagnostics: rows not to be trusted, statistics that the model does not reproduce, twins."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyro_mnar.diagnostics import Diagnosis, TwinSearch
from pyro_mnar.diagnostics.importance import TRUSTED
from pyro_mnar.diagnostics.replicates import LINK, PATTERN, VALUES
from pyro_mnar.figures import axes_or_new
from pyro_mnar.messages import check_is
from pyro_mnar.plots.axes import IMPUTED, OTHER, QUIET, SEEN

MOST_STATISTICS = 25
WIDEST = 6.0  # standard deviations of replicates: what lies beyond is drawn at the edge
ALARM = "#c03a2b"


def pareto_k(diagnosis: Diagnosis, ax: Any = None) -> Any:
    """k-hat of each row with gaps, in the rows' order: above 0.7 its draws and means are not to be trusted.

    Args:
        diagnosis: Of :func:`pyro_mnar.diagnose`.
        ax: Axes to draw on; by default a figure of its own.
    """
    check_is("diagnosis", diagnosis, Diagnosis)
    rows = diagnosis.rows
    ax = axes_or_new(ax, (6.4, 3.2))
    bad = (rows.pareto_k > TRUSTED).to_numpy()
    position, k = rows.index.to_numpy(), rows.pareto_k.to_numpy()
    ax.plot(position[~bad], k[~bad], ".", color=SEEN, markersize=4)
    ax.plot(position[bad], k[bad], "x", color=ALARM, markersize=6)
    ax.axhline(TRUSTED, color=QUIET, linewidth=1, linestyle="--")
    for at in np.flatnonzero(bad)[np.argsort(-k[bad])][:5]:
        ax.annotate(
            str(rows.label.iloc[at]), (position[at], k[at]), xytext=(4, 2), textcoords="offset points", fontsize="small"
        )
    ax.margins(y=0.12)  # room for a name above the highest
    ax.set(xlabel="row with gaps, by position", ylabel="k-hat")
    ax.set_title(f"Importance weights: {int(bad.sum()):,} of {len(rows):,} rows above {TRUSTED}")
    return ax


def predictive_checks(diagnosis: Diagnosis, ax: Any = None) -> Any:
    """Statistics of the missingness and of observed values beside those of tables that the model makes, in standard
    deviations of the latter; crosses are flagged.

    Args:
        diagnosis: Of :func:`pyro_mnar.diagnose`; the 25 statistics that differ most are shown.
        ax: Axes to draw on; by default a figure of its own.
    """
    check_is("diagnosis", diagnosis, Diagnosis)
    shown = diagnosis.checks.head(MOST_STATISTICS).iloc[::-1]
    ax = axes_or_new(ax, (6.8, 1.3 + 0.21 * max(len(shown), 4)))
    spread = np.maximum(shown.spread.to_numpy(), 1e-12)
    away = np.clip((shown.observed.to_numpy() - shown.replicated.to_numpy()) / spread, -WIDEST, WIDEST)
    at, flagged = np.arange(len(shown)), shown.flagged.to_numpy(dtype=bool)
    ax.axvspan(-2, 2, color=SEEN, alpha=0.15, linewidth=0)
    ax.axvline(0, color=QUIET, linewidth=0.8)
    ax.plot(away[~flagged], at[~flagged], "o", color=SEEN, markersize=5)
    ax.plot(away[flagged], at[flagged], "X", color=ALARM, markersize=8)
    ax.set_yticks(at, [_in_words(row.check, row.of) for row in shown.itertuples()], fontsize="small")
    ax.set_xlim(-WIDEST - 0.5, WIDEST + 0.5)
    ax.set_xlabel("standard deviations from the model's tables")
    more = len(diagnosis.checks) - len(shown)
    ax.set_title(
        f"{int(diagnosis.checks.flagged.sum())} of {len(diagnosis.checks)} statistics differ"
        + (f" ({more} closer ones left out)" if more else "")
    )
    return ax


def twin_means(twins: TwinSearch, ax: Any = None) -> Any:
    """Imputed means by column of every start of a twin search, in observed standard deviations from the fit's own.

    Filled: starts whose bound equals the best one, so that the data do not choose between them; hollow: worse ones.

    Args:
        twins: Of ``check_identifiability(...).twins`` or :func:`pyro_mnar.search_twins`.
        ax: Axes to draw on; by default a figure of its own.
    """
    check_is("twins", twins, TwinSearch)
    spread = twins.spread
    scale = (spread["range_all"] / spread["range_all_in_sd"]).where(spread["range_all_in_sd"] > 0, 1.0)
    names = list(spread.index)
    ax = axes_or_new(ax, (5.6, 1.5 + 0.32 * len(names)))
    own = twins.means.loc["the fit", names]
    for number, start in enumerate(twins.means.index):
        away = ((twins.means.loc[start, names] - own) / scale).to_numpy(dtype=float)
        equal = bool(twins.bounds.loc[start, "equal"])
        colour = SEEN if number == 0 else (IMPUTED if equal else OTHER)
        at = np.arange(len(names))[::-1] + (0.1 * (len(twins.means) - 1) / 2 - 0.1 * number)
        face = colour if equal else "none"
        ax.plot(
            away,
            at,
            "o",
            color=colour,
            markerfacecolor=face,
            markersize=6,
            label=f"{start}{'' if equal else ' (worse)'}",
        )
    ax.axvline(0, color=QUIET, linewidth=0.8, zorder=0)
    ax.set_yticks(np.arange(len(names))[::-1], [str(name) for name in names])
    ax.set_xlabel("imputed mean less the fit's, in observed sd")
    ax.set_title("Twins: the data do not decide" if twins.found else "No twin was found")
    ax.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    return ax


def _in_words(check: str, of: str) -> str:
    """A statistic's name on an axis."""
    if check == LINK:
        column, _, gap = of.partition(" | ")
        return f"{column} where {gap} is missing"
    return of if check == VALUES else f"{check}: {of}" if check != PATTERN else of
