"""Weighted least squares with the standard errors of a survey's design: linearisation by sampling units and strata.

    Var(β̂) = (X'WX)⁻¹ [Σ_h n_h / (n_h - 1) Σ_c (t_hc - t̄_h)(t_hc - t̄_h)'] (X'WX)⁻¹,    t_hc = Σ_{i in c} w_i e_i x_i

with n_h sampling units c in stratum h (Binder, 1983, International Statistical Review 51); degrees of freedom are units
less strata.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy.typing import NDArray

from pyro_mnar.tables.survey import SurveyDesign


class SurveyRegression(NamedTuple):
    """Coefficients, as a statsmodels result names them.

    Attributes:
        params: By name.
        covariance: By name, twice.
        df_resid: Sampling units less strata.
    """

    params: pd.Series
    covariance: pd.DataFrame
    df_resid: float

    def cov_params(self) -> pd.DataFrame:
        """The covariance."""
        return self.covariance


def survey_regression(formula: str, frame: pd.DataFrame, design: SurveyDesign) -> SurveyRegression:
    """Fit a formula to a completed table of a survey.

    Raises:
        ValueError: If a stratum has a single sampling unit, from which no variance can be had.
    """
    import statsmodels.formula.api as smf

    plain = frame.reset_index(drop=True)
    result = smf.wls(formula, plain, weights=design.weight).fit()
    used = np.asarray(result.model.data.row_labels)
    inputs, weight = np.asarray(result.model.exog), design.weight[used]
    bread = np.linalg.inv(inputs.T @ (weight[:, None] * inputs))
    scores = (weight * np.asarray(result.resid))[:, None] * inputs
    meat, df = _between_units(scores, design.unit[used], design.stratum[used], design.strata)
    names = list(result.params.index)
    return SurveyRegression(result.params, pd.DataFrame(bread @ meat @ bread, index=names, columns=names), df)


def _between_units(
    scores: Float[NDArray, "rows coefficients"],
    unit: Int[NDArray, " rows"],
    stratum: Int[NDArray, " rows"],
    labels: tuple,
) -> tuple[Float[NDArray, "coefficients coefficients"], float]:
    _, first, position = np.unique(unit, return_index=True, return_inverse=True)
    totals = np.zeros((len(first), scores.shape[1]))
    np.add.at(totals, position, scores)
    of_unit = stratum[first]
    meat = np.zeros((scores.shape[1], scores.shape[1]))
    present = np.unique(of_unit)
    for code in present:
        here = totals[of_unit == code]
        if len(here) < 2:
            raise ValueError(
                f"stratum {labels[code]!r}: expected at least two sampling units, got 1: join it to another"
            )
        apart = here - here.mean(0)
        meat += len(here) / (len(here) - 1) * apart.T @ apart
    return meat, float(len(first) - len(present))
