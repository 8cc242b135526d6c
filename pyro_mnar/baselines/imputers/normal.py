"""Full-information maximum likelihood of the normal model (Appendix A): EM over rows with gaps.

x ~ N(μ, Σ), and the likelihood is that of the observed part of each row, so missing at random is enough for it to be
consistent (Little & Rubin 2019, section 11.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from pyro_mnar.baselines.protocol import Moments, completed, predictors_of
from pyro_mnar.messages import seed_of, whole_number
from pyro_mnar.tables.table import Table

JITTER = 1e-9  # of a standardised column's variance: constant and collinear columns make Σ singular


class NormalFit(NamedTuple):
    """A normal distribution fitted to rows with gaps.

    Attributes:
        mean: μ; ``(columns,)``.
        covariance: Σ, the maximum-likelihood one; ``(columns, columns)``.
        conditional_mean: E[x | x_o], the observed entries among it; ``(rows, columns)``.
        log_likelihood: Of the observed entries, by iteration; never falls.
    """

    mean: Float[NDArray, " columns"]
    covariance: Float[NDArray, "columns columns"]
    conditional_mean: Float[NDArray, "rows columns"]
    log_likelihood: list[float]


def fit_normal(x: Float[NDArray, "rows columns"], *, max_iterations: int = 500, tolerance: float = 1e-7) -> NormalFit:
    """Maximise the likelihood of the observed entries by EM.

    Args:
        x: Values of spread about one, NaN in the gaps; ``(rows, columns)``.
        max_iterations: Stop after so many rounds.
        tolerance: Stop when a round raises the log-likelihood per row by less, in nats.

    Raises:
        ValueError: If a column has no observed entry.
    """
    empty = np.isnan(x).all(axis=0)
    if empty.any():
        raise ValueError(f"column {int(empty.argmax())}: expected an observed entry, got gaps alone")
    patterns = _patterns(~np.isnan(x))
    mean, covariance = np.nanmean(x, axis=0), np.diag(np.nanvar(x, axis=0) + JITTER)
    history: list[float] = []
    while True:
        expected, spread, log_likelihood = _expectation(x, patterns, mean, covariance)
        history.append(log_likelihood)
        done = len(history) > 1 and history[-1] - history[-2] < tolerance * len(x)
        if done or len(history) > max_iterations:
            return NormalFit(mean, covariance, expected, history)
        mean = expected.mean(axis=0)
        centred = expected - mean
        covariance = (centred.T @ centred + spread) / len(x) + JITTER * np.eye(len(mean))


@dataclass(frozen=True)
class FullInformationML:
    """The normal model by maximum likelihood: moments, and the conditional means of what is missing.

    Attributes:
        name: What tables and figures call it.
        max_iterations: Rounds of EM at most.
    """

    name: str = "FIML (normal)"
    max_iterations: int = 500

    def __post_init__(self) -> None:
        whole_number("max_iterations", self.max_iterations)

    def complete(self, table: Table, *, seed: int) -> pd.DataFrame:
        """Fill the gaps by E[x_u | x_o]; the seed is not used."""
        seed_of(seed)
        fitted = fit_normal(predictors_of(table), max_iterations=self.max_iterations)
        return completed(table, fitted.conditional_mean[:, : table.schema.num_columns])

    def moments(self, table: Table) -> Moments:
        """Maximum-likelihood means and covariances, in the user's units."""
        fitted = fit_normal(predictors_of(table), max_iterations=self.max_iterations)
        schema = table.schema
        columns, names = schema.columns, pd.Index(schema.names, tupleize_cols=False)
        scale = np.array([column.std for column in columns])
        mean = np.array([column.mean for column in columns]) + scale * fitted.mean[: len(columns)]
        covariance = fitted.covariance[: len(columns), : len(columns)] * np.outer(scale, scale)
        return Moments(pd.Series(mean, names), pd.DataFrame(covariance, names, names))


def _patterns(mask: Bool[NDArray, "rows columns"]) -> list[tuple[NDArray[np.bool_], NDArray[np.int_]]]:
    """Which columns are observed, and the rows of which that is true."""
    unique, inverse = np.unique(mask, axis=0, return_inverse=True)
    order = np.argsort(inverse.reshape(-1), kind="stable")
    ends = np.cumsum(np.bincount(inverse.reshape(-1)))[:-1]
    return list(zip(unique, np.split(order, ends), strict=True))


def _expectation(
    x: Float[NDArray, "rows columns"],
    patterns: list[tuple[NDArray[np.bool_], NDArray[np.int_]]],
    mean: Float[NDArray, " columns"],
    covariance: Float[NDArray, "columns columns"],
) -> tuple[Float[NDArray, "rows columns"], Float[NDArray, "columns columns"], float]:
    """E[x | x_o], the sum over rows of Cov[x | x_o], and the log-likelihood of x_o."""
    expected, spread, log_likelihood = x.copy(), np.zeros_like(covariance), 0.0
    for seen, rows in patterns:
        gone = ~seen
        centred = x[np.ix_(rows, seen)] - mean[seen]
        between = covariance[np.ix_(seen, gone)]
        root = np.linalg.cholesky(covariance[np.ix_(seen, seen)])
        whitened = np.linalg.solve(root, np.concatenate([between, centred.T], axis=1))
        of_gone, of_rows = whitened[:, : between.shape[1]], whitened[:, between.shape[1] :]
        expected[np.ix_(rows, gone)] = mean[gone] + of_rows.T @ of_gone
        spread[np.ix_(gone, gone)] += len(rows) * (covariance[np.ix_(gone, gone)] - of_gone.T @ of_gone)
        constant = seen.sum() * np.log(2 * np.pi) + 2 * np.log(np.diag(root)).sum()
        log_likelihood -= 0.5 * (len(rows) * constant + (of_rows**2).sum())
    return expected, spread, float(log_likelihood)
