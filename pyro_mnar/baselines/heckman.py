"""Heckman's regression whose outcome is seen for a selected part of the rows (Heckman 1979): two steps, and maximum
likelihood.

    y_i = x_i'β + ε_i        seen where  w_i'γ + u_i > 0,        (ε, u) bivariate normal, var(u) = 1

Where y is seen, E y_i = x_i'β + θ λ_i with λ_i = φ(w_i'γ) / Φ(w_i'γ) and θ = ρ σ: a probit of what is seen gives γ, and
least squares of y on x and λ the rest.  The standard errors count both steps (Greene, Econometric Analysis, 5th ed.,
22.4.3).  Maximum likelihood takes both equations at once,

    seen:      φ((y - x'β) / σ) / σ · Φ((w'γ + ρ (y - x'β) / σ) / √(1 - ρ²))
    not seen:  Φ(-w'γ)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_ndtr

from pyro_mnar.messages import check_is, shown

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
        rho_error: Standard error of ρ; NaN from two steps.
        log_likelihood: Summed over rows, in nats; NaN from two steps.
    """

    outcome: pd.DataFrame
    selection: pd.DataFrame
    sigma: float
    rho: float
    rho_error: float = np.nan
    log_likelihood: float = np.nan


class _Rows(NamedTuple):
    """What both estimators take."""

    y: Float[NDArray, " rows"]
    x: Float[NDArray, "rows regressors"]
    w: Float[NDArray, "rows selectors"]
    seen: NDArray[np.bool_]

    @classmethod
    def of(cls, outcome: pd.Series, regressors: pd.DataFrame, selectors: pd.DataFrame) -> _Rows:
        check_is("outcome", outcome, pd.Series)
        _check_numbers("outcome", outcome.to_frame())
        for name, frame in (("regressors", regressors), ("selectors", selectors)):
            check_is(name, frame, pd.DataFrame)
            _check_numbers(name, frame)
            if not frame.index.equals(outcome.index):
                raise ValueError(f"{name}: expected the outcome's row labels, got others")
            if frame.isna().any(axis=None):
                gaps = frame.columns[frame.isna().any()].tolist()
                raise ValueError(f"{name}: expected no gaps, got some in {gaps!r}")
        seen = outcome.notna().to_numpy()
        if seen.all() or not seen.any():
            count = f"{seen.sum()} of {len(seen)}"
            raise ValueError(f"outcome: expected some that are seen and some that are not, got {count}")
        x, w = _with_constant(regressors, "regressors"), _with_constant(selectors, "selectors")
        return cls(outcome.to_numpy(dtype=np.float64), x, w, seen)


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
    everything, _, w, seen = _Rows.of(outcome, regressors, selectors)
    gamma, gamma_covariance = probit(w, seen)
    index = (w @ gamma)[seen]
    mills = np.exp(-0.5 * index**2 - 0.5 * np.log(2 * np.pi) - log_ndtr(index))

    y = everything[seen]
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


def heckman_likelihood(outcome: pd.Series, regressors: pd.DataFrame, selectors: pd.DataFrame) -> Heckman:
    """Fit both equations at once by maximum likelihood, from where the two steps end.

    Arguments are those of :func:`heckman`; its ``outcome`` has no inverse Mills ratio, and standard errors are from the
    observed information.

    Raises:
        ValueError: As :func:`heckman`, and if the likelihood has no maximum where it was looked for.
    """
    y, x, w, seen = _Rows.of(outcome, regressors, selectors)
    steps = heckman(outcome, regressors, selectors)
    units = [np.abs(columns).max(axis=0) for columns in (x, w)]  # columns of one size, as for the probit
    x, w, width = x / units[0], w / units[1], x.shape[1]

    def loss(values: NDArray[np.float64]) -> float:
        beta, gamma, log_sigma, turn = values[:width], values[width:-2], values[-2], values[-1]
        index, residual = w @ gamma, (y - x @ beta)[seen] / np.exp(log_sigma)
        # With ρ = tanh t, 1 / √(1 - ρ²) = cosh t.
        of_seen = log_ndtr(index[seen] * np.cosh(turn) + residual * np.sinh(turn))
        of_seen = of_seen - 0.5 * residual**2 - log_sigma - 0.5 * np.log(2 * np.pi)
        return -float(of_seen.sum() + log_ndtr(-index[~seen]).sum())

    beta, gamma = steps.outcome["estimate"].iloc[:-1] * units[0], steps.selection["estimate"] * units[1]
    start = [*beta, *gamma, np.log(steps.sigma), np.arctanh(np.clip(steps.rho, -0.9, 0.9))]
    found = minimize(loss, start, method="BFGS", options={"gtol": 1e-6 * len(y), "maxiter": 2000})
    covariance = np.linalg.inv(_hessian(loss, found.x))
    if not (np.diag(covariance) > 0).all():
        raise ValueError(
            "heckman_likelihood: expected a maximum, got a point at which the likelihood does not fall off"
        )
    units_of_all = np.concatenate([*units, [1.0, 1.0]])
    values, covariance = found.x / units_of_all, covariance / np.outer(units_of_all, units_of_all)
    rho = float(np.tanh(values[-1]))
    return Heckman(
        outcome=_estimates(values[:width], covariance[:width, :width], [CONSTANT, *regressors.columns]),
        selection=_estimates(values[width:-2], covariance[width:-2, width:-2], [CONSTANT, *selectors.columns]),
        sigma=float(np.exp(values[-2])),
        rho=rho,
        rho_error=float((1 - rho**2) * covariance[-1, -1] ** 0.5),
        log_likelihood=-float(found.fun),
    )


def _hessian(loss: Callable[[NDArray[np.float64]], float], at: NDArray[np.float64]) -> Float[NDArray, "values values"]:
    """By central differences."""
    steps = np.diag(1e-4 * np.maximum(1.0, np.abs(at)))
    rows = [[loss(at + a + b) - loss(at + a - b) - loss(at - a + b) + loss(at - a - b) for b in steps] for a in steps]
    size = np.diag(steps)
    return np.array(rows) / (4 * np.outer(size, size))


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


def _check_numbers(name: str, frame: pd.DataFrame) -> None:
    for label, dtype in zip(frame.columns, frame.dtypes, strict=True):
        if not pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_complex_dtype(dtype):
            raise TypeError(f"{name}, column {shown(label)}: expected numbers, got {dtype}")


def _with_constant(frame: pd.DataFrame, name: str) -> Float[NDArray, "rows columns"]:
    values = np.column_stack([np.ones(len(frame)), frame.to_numpy(dtype=np.float64)])
    scaled = values / np.maximum(np.abs(values).max(axis=0), 1e-300)
    if np.linalg.matrix_rank(scaled) < values.shape[1]:
        raise ValueError(f"{name}: expected no column to follow from the others, got {frame.columns.tolist()!r}")
    return values


def _estimates(values: NDArray[np.float64], covariance: NDArray[np.float64], names: list) -> pd.DataFrame:
    return pd.DataFrame({"estimate": values, "standard_error": np.sqrt(np.diag(covariance))}, index=pd.Index(names))
