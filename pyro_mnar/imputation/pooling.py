"""Rubin's rules on arrays: what several completed tables say together, with the uncertainty of what was missing.

Of m draws with estimates Q_i and covariances U_i:

    Q̄ = mean of Q_i,   Ū = mean of U_i,   B = their covariance between draws,   T = Ū + (1 + 1/m) B
    r = (1 + 1/m) B / Ū,   λ = (1 + 1/m) B / T,   fraction of missing information = (r + 2 / (df + 3)) / (r + 1)

Sources: Rubin (1987), *Multiple imputation for nonresponse in surveys*; Barnard and Rubin (1999), Biometrika 86, for
degrees of freedom of small samples; Li, Raghunathan and Rubin (1991), JASA 86, and Reiter (2007), Biometrika 94, for
several coefficients at once; Chan and Meng (2022), Statistica Sinica 32, for likelihood ratios; von Hippel (2020),
Sociological Methods & Research 49, for the number of draws.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from pyro_mnar.messages import is_finite, shown

RULES = ("barnard-rubin", "rubin")
VARIATION = 0.05  # von Hippel's: standard errors of another set of draws differ by 5 %


class Parts(NamedTuple):
    """What the draws say together.

    Attributes:
        estimates: Q̄; ``(coefficients,)``.
        within: Ū; ``(coefficients, coefficients)``.
        between: B; ``(coefficients, coefficients)``.
        num_draws: m.
    """

    estimates: Float[NDArray, " coefficients"]
    within: Float[NDArray, "coefficients coefficients"]
    between: Float[NDArray, "coefficients coefficients"]
    num_draws: int

    @property
    def total(self) -> Float[NDArray, "coefficients coefficients"]:
        """T."""
        return self.within + (1 + 1 / self.num_draws) * self.between


class JointTest(NamedTuple):
    """An F test that several coefficients are zero, or that a smaller model is the true one.

    Attributes:
        statistic: F.
        df: Degrees of freedom, of the coefficients and of the residuals.
        p: Probability of such an F or a larger one if it were so.
        riv: Relative increase in variance by what was missing, an average over the coefficients.
    """

    statistic: float
    df: tuple[float, float]
    p: float
    riv: float

    @classmethod
    def of(cls, statistic: float, df: tuple[float, float], riv: float) -> JointTest:
        """With its probability under F."""
        from scipy import stats  # takes half as long to import as torch

        # SciPy's F has no infinite degrees of freedom.
        p = stats.chi2.sf(df[0] * statistic, df[0]) if math.isinf(df[1]) else stats.f.sf(statistic, *df)
        return cls(statistic, df, float(p), riv)


def combined(
    estimates: Float[NDArray, "draws coefficients"], covariances: Float[NDArray, "draws coefficients coefficients"]
) -> Parts:
    """Q̄, Ū and B.

    Raises:
        ValueError: If there are fewer than two draws, or a draw has an estimate that is not finite or a variance below
            zero.
    """
    if len(estimates) < 2:
        raise ValueError(f"expected the estimates of at least 2 draws, got {len(estimates)}: impute(..., num_draws=20)")
    for what, finite in (("estimates", np.isfinite(estimates)), ("variances", np.isfinite(covariances))):
        if not finite.all():
            draw = int((~finite.reshape(len(finite), -1).all(1)).argmax())
            raise ValueError(f"{what} of draw {draw}: expected finite numbers, got one that is not")
    variances = np.diagonal(covariances, axis1=1, axis2=2)
    if (variances < 0).any():
        draw = int((variances < 0).any(1).argmax())
        raise ValueError(f"variances of draw {draw}: expected none below zero, got {variances[draw].min()}")
    mean = estimates.mean(0)
    # From the first draw, so that draws that agree to the last bit have no variance between them.
    apart = estimates - estimates[0]
    apart = apart - apart.mean(0)
    return Parts(mean, covariances.mean(0), apart.T @ apart / (len(apart) - 1), len(apart))


def degrees_of_freedom(
    lambda_: Float[NDArray, " coefficients"], num_draws: int, dfcom: float, rule: str
) -> Float[NDArray, " coefficients"]:
    """Of each t statistic.

    Args:
        lambda_: Share of the total variance that lies between the draws.
        num_draws: m.
        dfcom: Degrees of freedom that a complete table would have; infinite for a large sample.
        rule: ``"barnard-rubin"`` never exceeds ``dfcom``; ``"rubin"``, of 1987 and SAS's default, disregards it.
    """
    with np.errstate(divide="ignore"):
        old = (num_draws - 1) / lambda_**2
    if rule == "rubin" or math.isinf(dfcom):
        return old
    observed = (dfcom + 1) / (dfcom + 3) * dfcom * (1 - lambda_)
    with np.errstate(divide="ignore", over="ignore"):
        return 1 / (1 / old + 1 / observed)


def draws_needed(
    fmi: Float[NDArray, " coefficients"], num_draws: int, *, variation: float = VARIATION, confidence: float = 0.95
) -> Float[NDArray, " coefficients"]:
    """How many draws make the standard errors repeatable, by von Hippel (2020): 1 + ½ (fmi / variation)².

    A few draws know the fraction of missing information roughly, so the upper end of its interval is taken, which is of
    width √(2/m) on the scale of log-odds.

    Args:
        fmi: Fraction of missing information.
        num_draws: How many draws it was estimated from.
        variation: Coefficient of variation of a standard error over other sets of draws.
        confidence: Of the fraction's interval.
    """
    from scipy.special import ndtri

    fmi = np.clip(fmi, 0.0, 1.0)
    with np.errstate(divide="ignore"):
        log_odds = np.log(fmi) - np.log1p(-fmi)
    upper = 1 / (1 + np.exp(-(log_odds + ndtri(0.5 + confidence / 2) * np.sqrt(2 / num_draws))))
    return np.maximum(np.ceil(1 + 0.5 * (upper / variation) ** 2), 2)


def wald(parts: Parts, dfcom: float = math.inf) -> JointTest:
    """D1: are all these coefficients zero?

    Ū is taken times 1 + r, with r the average relative increase in variance, for B of several coefficients is known
    badly from a few draws (Li, Raghunathan and Rubin, 1991).  With a finite ``dfcom`` the degrees of freedom are
    Reiter's (2007).

    Raises:
        ValueError: If the covariance within draws is singular, or the draws are too few for Reiter's approximation.
    """
    k, m = len(parts.estimates), parts.num_draws
    if np.linalg.matrix_rank(parts.within) < k:
        raise ValueError("the covariance of these coefficients is singular: test fewer of them")
    riv = float((1 + 1 / m) * np.trace(np.linalg.solve(parts.within, parts.between)) / k)
    statistic = float(parts.estimates @ np.linalg.solve((1 + riv) * parts.within, parts.estimates) / k)
    return JointTest.of(statistic, (k, _residual_df(riv, k * (m - 1), k, dfcom)), riv)


def likelihood_ratio(
    statistics: Float[NDArray, " draws"], stacked: float, num_tested: int, dfcom: float = math.inf
) -> JointTest:
    """D4: does a larger model say more than a smaller one (Chan and Meng, 2022)?

    Args:
        statistics: Of each completed table, twice the difference of the two log-likelihoods, each at its maximum.
        stacked: The same of all completed tables in one, divided by their number.
        num_tested: How many parameters the larger model has more.
        dfcom: Degrees of freedom of the residuals of a complete table; an F test never has more.
    """
    m, k = len(statistics), num_tested
    if m < 2:
        raise ValueError(f"expected the statistics of at least 2 draws, got {m}: impute(..., num_draws=20)")
    if not is_finite(num_tested):
        raise ValueError(f"num_tested: expected a number of parameters, got {shown(num_tested)}")
    riv = max(0.0, float((m + 1) / (k * (m - 1)) * (np.mean(statistics) - stacked)))
    df = math.inf if riv == 0 else k * (m - 1) * (1 + 1 / riv) ** 2
    return JointTest.of(max(stacked, 0.0) / (k * (1 + riv)), (k, min(df, dfcom)), riv)


def _residual_df(riv: float, t: float, k: int, dfcom: float) -> float:
    """Denominator of D1; ``t`` is k (m - 1)."""
    if riv == 0:
        return dfcom
    if math.isinf(dfcom):
        if t > 4:
            return 4 + (t - 4) * (1 + (1 - 2 / t) / riv) ** 2
        return t * (1 + 1 / k) * (1 + 1 / riv) ** 2 / 2
    if t <= 4:
        raise ValueError(f"expected more than {1 + 4 // k} draws for a test of {k} coefficients in a small sample")
    a = riv * t / (t - 2)
    complete = (dfcom + 1) / (dfcom + 3) * dfcom
    c1, c2 = complete - 2 * (1 + a), complete - 4 * (1 + a)
    if c2 <= 0:
        raise ValueError(
            f"the increase in variance, {riv:.3g}, is too large for a test with {dfcom:g} degrees of freedom"
        )
    terms = (
        a**2 * c1 / ((1 + a) ** 2 * c2)
        + 8 * a**2 * c1 / ((1 + a) * c2**2)
        + 4 * a**2 / ((1 + a) * c2)
        + 4 * a**2 / (c2 * c1)
        + 16 * a**2 * c1 / c2**3
        + 8 * a**2 / c2**2
    )
    return 4 + 1 / (1 / c2 + terms / (t - 4))
