"""One analysis under several assumptions, side by side: deltas, missingness graphs, or both."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from pyro_mnar.diagnostics.comparison import compare
from pyro_mnar.figures import axes_or_new
from pyro_mnar.imputation.analyses import Analysis
from pyro_mnar.imputation.deltas import DeltaScale
from pyro_mnar.imputation.imputations import Imputations
from pyro_mnar.imputation.imputing import impute
from pyro_mnar.imputation.pooled import Pooled
from pyro_mnar.messages import check_one_of, has_parts, shown
from pyro_mnar.scenarios.trial_imputations import TrialImputations
from pyro_mnar.tables.table import Table
from pyro_mnar.training.fitted import Fit

Drawn: TypeAlias = "Imputations | TrialImputations"

_DELTAS_SHARE_A_BOUND = (
    "A delta moves what nobody has seen and leaves the law of the observed values and of the mask as it was: all deltas"
    " of a fit have the fit's bound, and no data tell them apart."
)
_BOUND = "bound: held-out log p(x_o outside U, r | u), nats per row; graphs that agree on the observed law share it."


class Scenario(NamedTuple):
    """What an analysis says under one assumption.

    Attributes:
        name: Of the fit or imputations.
        delta: Name of the delta on top; empty if there is none.
        pooled: The analysis.
        bound: The fit's held-out bound, nats per row; NaN where it was not asked for.
        bound_error: Its standard error.
    """

    name: str
    delta: str
    pooled: Pooled
    bound: float
    bound_error: float


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """An analysis under several assumptions; printed, a row a scenario and coefficient.

    Attributes:
        scenarios: In the order given, deltas within fits.
    """

    scenarios: tuple[Scenario, ...]

    def to_frame(self, coefficient: Hashable | None = None) -> pd.DataFrame:
        """One row a scenario, delta and coefficient, or those of one coefficient.

        Columns ``scenario``, ``delta``, ``coefficient``, ``estimate``, ``standard_error``, ``lower``, ``upper``, ``p``,
        ``fmi``, ``monte_carlo_error``, and where it was asked for ``bound`` and ``bound_error``.

        Raises:
            ValueError: If there is no such coefficient.
        """
        frames = []
        for name, delta, pooled, bound, error in self.scenarios:
            frame = pooled.to_frame().reset_index()
            frame = frame[["coefficient", *_COLUMNS]].assign(bound=bound, bound_error=error)
            frame.insert(0, "scenario", name)
            frame.insert(1, "delta", delta)
            frames.append(frame)
        whole = pd.concat(frames, ignore_index=True)
        if whole["bound"].isna().all():
            whole = whole.drop(columns=["bound", "bound_error"])
        if coefficient is not None:
            known = self.scenarios[0].pooled.names
            check_one_of("coefficient", coefficient, known)
            whole = whole[[name == coefficient for name in whole["coefficient"]]].reset_index(drop=True)
        return whole

    def plot(self, coefficient: Hashable | None = None, *, ax: Any = None) -> Any:
        """Draw estimates and intervals of one coefficient, a line a scenario, on ``ax`` or a figure of its own.

        Args:
            coefficient: Which; by default the only one.
            ax: Where to draw.

        Returns:
            The Axes.

        Raises:
            ValueError: If there are several coefficients and none is named.
        """
        coefficient = only_coefficient(self.scenarios[0].pooled, coefficient)
        frame = self.to_frame(coefficient)
        ax = axes_or_new(ax, (6.4, 1.2 + 0.32 * len(frame)))
        place = np.arange(len(frame))[::-1]
        labels = [" ".join(filter(None, pair)) for pair in zip(frame["scenario"], frame["delta"], strict=True)]
        half = np.stack([frame["estimate"] - frame["lower"], frame["upper"] - frame["estimate"]])
        ax.errorbar(frame["estimate"], place, xerr=half, fmt="o", color="C0", capsize=3)
        if frame["lower"].min() <= 0 <= frame["upper"].max():  # a mean of incomes is far from it
            ax.axvline(0.0, color="0.6", linewidth=0.8, zorder=0)
        ax.set_yticks(place, labels)
        ax.set_xlabel(f"{coefficient} ({self.scenarios[0].pooled.confidence:.0%} interval)")
        ax.set_title(f"{coefficient} under each assumption")
        return ax

    def __repr__(self) -> str:
        return "\n\n".join([self.to_frame().to_string(index=False, float_format="{:.4g}".format), *self._told()])

    def _repr_html_(self) -> str:
        told = "".join(f"<p>{line}</p>" for line in self._told())
        return self.to_frame().to_html(index=False, float_format="{:.4g}".format, notebook=True) + told

    def _told(self) -> list[str]:
        has_bounds = any(not math.isnan(scenario.bound) for scenario in self.scenarios)
        notes = [_BOUND] if has_bounds else []
        if any(scenario.delta for scenario in self.scenarios):
            notes.append(_DELTAS_SHARE_A_BOUND)
        return [*notes, *dict.fromkeys(s.pooled.note for s in self.scenarios if s.pooled.note)]


_COLUMNS = ["estimate", "standard_error", "lower", "upper", "p", "fmi", "monte_carlo_error"]


def sensitivity(
    analysis: Analysis,
    scenarios: Fit | Drawn | Mapping[str, Fit | Drawn],
    *,
    table: Table | pd.DataFrame | None = None,
    deltas: Mapping[str, Any] | Sequence[Any] | None = None,
    delta_scale: DeltaScale = "sd",
    held_out: Table | pd.DataFrame | None = None,
    num_draws: int | None = None,
    num_particles: int = 100,
    seed: int = 0,
    outcome: Hashable | None = None,
    dfcom: float | None = None,
    rule: str = "barnard-rubin",
    confidence: float = 0.95,
) -> Sensitivity:
    """Pool one analysis under several assumptions: fits of several graphs, several deltas, or every pair of them.

    Args:
        analysis: As for :func:`pyro_mnar.pool_frames`.
        scenarios: Fits or imputations (of tables or of trials), by name; or one.
        table: The table to impute, if there are fits among them.
        deltas: What imputations are moved by, by name or in order: as for :meth:`pyro_mnar.Imputations.shifted`; of
            trials as for :func:`pyro_mnar.impute_trial`.  Name one ``{}`` for what the fit itself says.
        delta_scale: What a number means, of tables.
        held_out: Rows that no fit has seen: each fit's bound then stands beside what it says, as of
            :func:`pyro_mnar.compare`, which wants at least two fits and refuses those whose number is no such bound.
        num_draws: Completed tables of each fit; by default as for :func:`pyro_mnar.impute`, one from each bootstrap fit
            if there are any.
        num_particles: K, of each fit's draws.
        seed: The same for every scenario, so that differences between deltas have little Monte Carlo error.
        outcome: As for :func:`pyro_mnar.pool_frames`, as are the arguments that follow.
        dfcom: Degrees of freedom that a complete table would have.
        rule: Whose degrees of freedom.
        confidence: Of the intervals.

    Raises:
        ValueError: If there are fits and no table, or no scenarios; and as what is called here raises.
    """
    by_name = dict(scenarios) if isinstance(scenarios, Mapping) else {"": scenarios}
    if not by_name:
        raise ValueError("scenarios: expected at least one fit or imputations, got none")
    fits = {name: scenario for name, scenario in by_name.items() if isinstance(scenario, Fit)}
    for name, scenario in by_name.items():
        if not isinstance(scenario, Fit | Imputations | TrialImputations):
            raise TypeError(f"scenario {name!r}: expected a fit or imputations, got {type(scenario).__name__}")
    named = _named(deltas)
    bounds = pd.DataFrame() if held_out is None else compare(fits, held_out, seed=seed).to_frame()

    def pooled(drawn: Drawn) -> Pooled:
        return drawn.pool(analysis, outcome=outcome, dfcom=dfcom, rule=rule, confidence=confidence)

    def imputed(scenario: Fit | Drawn) -> Drawn:
        if not isinstance(scenario, Fit):
            return scenario
        if table is None:
            raise ValueError(f"table: expected the table to impute with the fits {list(fits)!r}, got none")
        return impute(scenario, table, num_draws=num_draws, num_particles=num_particles, seed=seed)

    found = []
    for name, scenario in by_name.items():
        drawn = imputed(scenario)
        bound = tuple(bounds.loc[name, ["log_evidence", "standard_error"]]) if name in bounds.index else (math.nan,) * 2
        for label, delta in named.items():
            found.append(Scenario(name, label, pooled(moved_by(drawn, delta, delta_scale, seed)), *map(float, bound)))
    return Sensitivity(tuple(found))


def moved_by(drawn: Drawn, delta: Any, scale: DeltaScale, seed: int) -> Drawn:
    """Imputations of a table or a trial, moved by a delta."""
    if delta is None or (isinstance(delta, Mapping) and not delta):
        return drawn
    return drawn.shifted(delta) if isinstance(drawn, TrialImputations) else drawn.shifted(delta, scale=scale, seed=seed)


def only_coefficient(pooled: Pooled, coefficient: Hashable | None) -> Hashable:
    """The coefficient that is meant; ValueError if that is not clear."""
    if coefficient is None and len(pooled.names) == 1:
        return pooled.names[0]
    check_one_of("coefficient", coefficient, pooled.names)
    return coefficient


def _named(deltas: Mapping[str, Any] | Sequence[Any] | None) -> dict[str, Any]:
    """Deltas by name; those of plain numbers name themselves."""
    if deltas is None:
        return {"": None}
    if isinstance(deltas, Mapping):
        if not all(isinstance(delta, Mapping) or callable(delta) or delta is None for delta in deltas.values()):
            raise TypeError(
                "deltas: expected several, as a list or by name, each a mapping from columns or arms, got one mapping:"
                " deltas=[{...}, {...}]"
            )
        return dict(deltas)
    if not has_parts(deltas):
        raise TypeError(f"deltas: expected several, as a list or by name, got {shown(deltas)}")
    named = {}
    for delta in deltas:
        if not isinstance(delta, Mapping) or not all(np.ndim(d) == 0 and not callable(d) for d in delta.values()):
            raise TypeError("deltas: expected names for deltas that are not plain numbers: {'late visits': ...}")
        named[", ".join(f"{column} {float(number):+g}" for column, number in delta.items()) or "none"] = delta
    return named
