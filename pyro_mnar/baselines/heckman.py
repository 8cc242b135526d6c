"""Heckman's two-step estimator of a regression whose outcome is seen for a selected part of the rows (Heckman 1979).

    y_i = x_i'β + ε_i        seen where  w_i'γ + u_i > 0,        (ε, u) bivariate normal, var(u) = 1

Where y is seen, E y_i = x_i'β + θ λ_i with λ_i = φ(w_i'γ) / Φ(w_i'γ) and θ = ρ σ: a probit of what is seen gives γ, and
least squares of y on x and λ the rest.  The standard errors count both steps (Greene, Econometric Analysis, 5th ed.,
22.4.3).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.special import log_ndtr

INVERSE_MILLS = "inverse Mills ratio"
CONSTANT = "constant"
STEPS = 100  # of Newton's method, which needs about six


class Heckman(NamedTuple):
    """Both equations.

    Attributes:
        outcome: ``estimate`` and ``standard_error`` of β by column of x, of its constant, and of θ under
            ``"inverse Mills ratio"``.
        selection: The same of γ.
        sigma: σ, the standard deviation of ε.
        rho: ρ, its correlation with u: 0 where nothing is lost by looking at the rows that are seen.
    """

    outcome: pd.DataFrame
    selection: pd.DataFrame
    sigma: float
    rho: float


def heckman(outcome: pd.Series, regressors: pd.DataFrame, selectors: pd.DataFrame) -> Heckman:
    """Fit both steps.

    Args:
        outcome: y, NaN where it is not seen; ``(rows,)``.
        regressors: x without a constant, which is added; ``(rows, columns)``, no gaps.
        selectors: w without a constant, likewise.  Something in it that is not in x identifies the rest; otherwise only
            the bend of λ does.

    Raises:
        ValueError: If there are gaps or other row labels, all or no outcomes are seen, or columns are collinear.
    """
    for name, frame in (("regressors", regressors), ("selectors", selectors)):
        if not frame.index.equals(outcome.index):
            raise ValueError(f"{name}: expected the outcome's row labels, got others")
        if frame.isna().any(axis=None):
            raise ValueError(f"{name}: expected no gaps, got some in {frame.columns[frame.isna().any()].tolist()!r}")
    seen = outcome.notna().to_numpy()
    if seen.all() or not seen.any():
        raise ValueError(f"outcome: expected some that are seen and some that are not, got {seen.sum()} of {len(seen)}")

    w = _with_constant(selectors, "selectors")
    gamma, gamma_covariance = probit(w, seen)
    index = (w @ gamma)[seen]
    mills = np.exp(-0.5 * index**2 - 0.5 * np.log(2 * np.pi) - log_ndtr(index))

    y = outcome.to_numpy(dtype=np.float64)[seen]
    x = np.column_stack([_with_constant(regressors, "regressors")[seen], mills])
    inverse = np.linalg.inv(x.T @ x)
    beta = inverse @ x.T @ y
    theta, bend = beta[-1], mills * (mills + index)
    variance = float(((y - x @ beta) ** 2).mean() + theta**2 * bend.mean())
    squared_rho = theta**2 / variance
    from_first_step = (x * bend[:, None]).T @ w[seen]
    middle = (x * (1 - squared_rho * bend)[:, None]).T @ x
    middle += squared_rho * from_first_step @ gamma_covariance @ from_first_step.T
    covariance = variance * inverse @ middle @ inverse
    return Heckman(
        outcome=_estimates(beta, covariance, [CONSTANT, *regressors.columns, INVERSE_MILLS]),
        selection=_estimates(gamma, gamma_covariance, [CONSTANT, *selectors.columns]),
        sigma=variance**0.5,
        rho=float(theta / variance**0.5),
    )


def probit(
    w: Float[NDArray, "rows columns"], seen: NDArray[np.bool_]
) -> tuple[Float[NDArray, " columns"], Float[NDArray, "columns columns"]]:
    """Maximum likelihood of P(seen) = Φ(w'γ) by Newton's method, and the inverse of the observed information.

    Raises:
        ValueError: If it does not converge, as where a column tells perfectly what is seen.
    """
    unit = np.abs(w).max(axis=0)  # columns of one size, so that the information can be inverted
    w, sign = w / unit, np.where(seen, 1.0, -1.0)
    gamma = np.zeros(w.shape[1])
    for _ in range(STEPS):
        index = sign * (w @ gamma)
        mills = np.exp(-0.5 * index**2 - 0.5 * np.log(2 * np.pi) - log_ndtr(index))
        information = (w * (mills * (mills + index))[:, None]).T @ w
        step = np.linalg.solve(information, w.T @ (sign * mills))
        gamma = gamma + step
        if np.abs(step).max() < 1e-10 * (1 + np.abs(gamma).max()):
            return gamma / unit, np.linalg.inv(information) / np.outer(unit, unit)
    raise ValueError(f"probit: expected to converge in {STEPS} steps, got none: does a column tell what is seen?")


def _with_constant(frame: pd.DataFrame, name: str) -> Float[NDArray, "rows columns"]:
    values = np.column_stack([np.ones(len(frame)), frame.to_numpy(dtype=np.float64)])
    scaled = values / np.maximum(np.abs(values).max(axis=0), 1e-300)
    if np.linalg.matrix_rank(scaled) < values.shape[1]:
        raise ValueError(f"{name}: expected no column to follow from the others, got {frame.columns.tolist()!r}")
    return values


def _estimates(values: NDArray[np.float64], covariance: NDArray[np.float64], names: list) -> pd.DataFrame:
    return pd.DataFrame({"estimate": values, "standard_error": np.sqrt(np.diag(covariance))}, index=pd.Index(names))
