"""Which intervals a summary has: from the fit's bootstrap, from a posterior of the parameters, or from curvature."""

from __future__ import annotations

from functools import partial

import numpy as np
import pyro.poutine as poutine
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from pyro_mnar.infer.session import Session
from pyro_mnar.infer.shared import is_point, shared_part
from pyro_mnar.infer.sites import sample_sites
from pyro_mnar.summaries.mask_dependence import MaskDependence
from pyro_mnar.summaries.observed_information import Errors, information_errors
from pyro_mnar.tables.table import Table
from pyro_mnar.training.fitted import Fit
from pyro_mnar.training.restarts import column_of

POSTERIOR_DRAWS = 100
Z = 1.959963984540054  # of a normal, 95 %


def term_means(fit: Fit, dependence: MaskDependence, seed: int) -> Float[NDArray, "rows terms"]:
    """Each term in each row, NaN where it is no number, as of a hard threshold."""
    batch = dependence.rows.source(fit.device).take(torch.arange(len(dependence.rows), device=fit.device))
    with Session(seed, fit.device, fit.store).running(), torch.no_grad():
        found = dependence.by_row(fit, batch, dependence.imputed(fit, batch)).double().cpu().numpy()
    found[:, ~np.isfinite(found).all(0)] = np.nan
    return found


def intervals(
    fit: Fit, dependence: MaskDependence, table: Table | None, seed: int
) -> tuple[Float[NDArray, "2 terms"] | None, str]:
    """Ends of 95 % intervals of the terms, NaN where one is fixed, and what they are from; None if there are none."""
    if fit.bootstrap:
        members = np.stack([term_means(member, dependence, seed).mean(0) for member in fit.bootstrap])
        errors = Errors(members.std(0, ddof=1), f"{len(members)} bootstrap fits")
        return _around(term_means(fit, dependence, seed).mean(0), errors, _t(len(members) - 1))
    batch = dependence.rows.source(fit.device).take(torch.arange(len(dependence.rows), device=fit.device))
    session = Session(seed, fit.device, fit.store)
    with session.running(), torch.no_grad():
        shared = shared_part(poutine.trace(fit.guide).get_trace(batch))
    if len(shared):
        if all(is_point(site["fn"]) for site in sample_sites(shared).values()):
            return None, "none: the guide holds the parameters at a point; a guide such as AutoNormal has their spread"
        draws = np.stack([term_means(fit, dependence, seed + at).mean(0) for at in range(POSTERIOR_DRAWS)])
        words = f"{POSTERIOR_DRAWS} draws of the parameters' posterior"
        return np.quantile(draws, [0.025, 0.975], axis=0), words
    if table is None:
        return None, "none: the rows of the fit are not there; fit.summary(table) has them"
    if column_of(fit) == "objective":
        return None, "none: the objective bounds no log-likelihood, whose curvature would tell; fit(..., bootstrap=M)"
    if batch.weight is not None:
        return None, "none: rows have weights, so curvature tells no sampling error; fit(..., bootstrap=M) does"
    with session.running():
        with torch.no_grad():
            at = dependence.imputed(fit, batch)
        errors = information_errors(
            fit,
            table,
            lambda: dependence.by_row(fit, batch, at).mean(0),
            partial(dependence.log_odds(fit, batch), at.point),
            fit.device,
        )
        with torch.no_grad():
            means = dependence.by_row(fit, batch, at).mean(0).double().cpu().numpy()
    return _around(means, errors, Z)


def _around(
    means: Float[NDArray, " terms"], errors: Errors, times: float
) -> tuple[Float[NDArray, "2 terms"] | None, str]:
    if errors.of_terms is None:
        return None, errors.words
    spread = np.where(errors.of_terms > 0, times * errors.of_terms, np.nan)  # zero: known, not estimated
    return np.stack([means - spread, means + spread]), errors.words


def _t(degrees: int) -> float:
    """The 97.5 % quantile of Student's t distribution, since few fits tell their spread roughly."""
    from scipy import stats

    return float(stats.t.ppf(0.975, max(degrees, 1)))
