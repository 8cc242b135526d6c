"""What the spread of several initialisations says about identifiability.

Where two equally good maxima of the bound impute differently, the data do not decide between them (section 3,
Definition 2.1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import NDArray

from pyro_mnar.imputation import Imputations, impute
from pyro_mnar.messages import number_from_zero
from pyro_mnar.tables.table import Table
from pyro_mnar.training.evidence import log_evidence, mean_and_error, row_weights, standard_errors
from pyro_mnar.training.fitted import Fit, check_fit

MOST_TOLERANCES = 10  # up to which two standard errors count; a difference too noisy to judge is not equality
NOTE = (
    "A wide spread of the imputed means at equal bound is a practical sign that the data do not identify them;"
    " a narrow one proves nothing."
)


@dataclass(frozen=True)
class RestartSpread:
    """How far initialisations of one fit lie apart.

    Attributes:
        bounds: One row a member: ``bound`` in nats per row (standardised units), ``standard_error``, ``below_best``
            with the standard error of that paired difference, and whether it counts as ``equal`` to the best.
        means: Mean of the imputed values of each column, in the user's units; ``(members, incomplete columns)``.
        spread: One row a column: ``range`` of the imputed means over members with an equal bound, in the user's units,
            ``range_in_sd`` in standard deviations of the observed values, and the same over ``all`` members.
    """

    bounds: pd.DataFrame
    means: pd.DataFrame
    spread: pd.DataFrame

    def __repr__(self) -> str:
        equal = int(self.bounds["equal"].sum())
        return (
            f"bounds, nats per row ({equal} of {len(self.bounds)} equal to the best)\n{self.bounds.round(4)}\n\n"
            f"imputed means of columns\n{self.means.round(4)}\n\ntheir range\n{self.spread.round(4)}\n\n{NOTE}"
        )


def restart_spread(
    fit: Fit, table: Table | pd.DataFrame, *, num_particles: int = 200, tolerance: float = 0.005, seed: int = 0
) -> RestartSpread:
    """Compare the members of ``fit(restarts=R)`` by their bounds and by what they impute.

    Args:
        fit: What ``fit(restarts=R)`` returned.
        table: Rows to compare them on.
        num_particles: K, of bounds and of imputations.
        tolerance: Nats per row by which a bound may miss the best one and still count as equal; two standard errors of
            the difference if these are larger, up to ten times the tolerance.
        seed: Same seed, same numbers.

    Raises:
        ValueError: If the fit has no members, or the table no cell to impute.
    """
    check_fit(fit)
    tolerance = number_from_zero("tolerance", tolerance)
    if not fit.members:
        raise ValueError(
            "fit: expected one made with fit(..., restarts=R), got one without members (they are not saved)"
        )
    table = fit.encoded(table)
    bounds = bounds_of(fit.members, table, num_particles, tolerance, seed)
    means = pd.DataFrame(
        [imputed_means(member, table, num_particles=num_particles, seed=seed) for member in fit.members]
    )
    means.index.name = "member"
    return RestartSpread(bounds, means, spread_of(means, bounds["equal"], table))


def bounds_of(fits: list[Fit], table: Table, num_particles: int, tolerance: float, seed: int) -> pd.DataFrame:
    """Bounds of several fits on the same rows, and which are equal to the best; one row a fit."""
    log_p = np.stack([log_evidence(fit, table, num_particles=num_particles, seed=seed).log_p for fit in fits])
    return equal_bounds(log_p, tolerance, row_weights(table))


def equal_bounds(
    log_p: Float[NDArray, "fits rows"], tolerance: float, weight: Float[NDArray, " rows"] | None = None
) -> pd.DataFrame:
    """The same from the bounds of every row."""
    below = log_p[np.average(log_p, axis=1, weights=weight).argmax()] - log_p
    frame = pd.DataFrame([mean_and_error(row, weight=weight) for row in log_p])
    frame["below_best"] = np.average(below, axis=1, weights=weight)
    frame["below_best_error"] = standard_errors(below, weight)
    frame["equal"] = frame["below_best"] <= np.clip(
        2 * frame["below_best_error"], tolerance, MOST_TOLERANCES * tolerance
    )
    return frame.rename_axis("member")


def spread_of(means: pd.DataFrame, equal: pd.Series, table: Table) -> pd.DataFrame:
    """Range of the imputed means per column, over the members with an equal bound and over all."""
    units = pd.Series({column.name: column.std_in_units for column in table.schema.columns})[means.columns]
    chosen = means[equal.to_numpy()]
    ranges, over_all = chosen.max() - chosen.min(), means.max() - means.min()
    return pd.DataFrame(
        {"range": ranges, "range_in_sd": ranges / units, "range_all": over_all, "range_all_in_sd": over_all / units}
    ).rename_axis("column")


def imputed_means(fit: Fit, table: Table, *, num_particles: int = 200, seed: int = 0) -> pd.Series:
    """Mean over its gaps of each column's posterior means, in the user's units; weighted where rows have weights;
    ``(incomplete columns,)``.

    Raises:
        ValueError: If the table has no cell to impute.
    """
    imputations = impute(fit, table, num_draws=1, num_particles=num_particles, seed=seed)
    if not imputations.means.size:
        raise ValueError("table: expected a cell to impute, got none")
    names, weight = table.schema.names, row_weights(imputations.table)
    return pd.Series({names[d]: mean for d, mean in means_by_column(imputations, weight).items()})


def means_by_column(imputations: Imputations, weight: Float[NDArray, " rows"] | None) -> dict[int, float]:
    """Mean of the imputed means of each column's gaps, by the column's position."""
    of_rows, columns = imputations.cells
    means = {}
    for d in np.unique(columns).tolist():
        here = columns == d
        own = None if weight is None else weight[of_rows[here]]
        means[d] = float(np.average(imputations.means[here], weights=own))
    return means
