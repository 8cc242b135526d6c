"""EM against closed forms: principal components, quadrature of one cell, and the law that simulated gaps come from."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import norm

from pyro_mnar.models.factor_count import number_of_factors
from pyro_mnar.models.factor_em import OwnLogOdds, fit_factors
from pyro_mnar.models.factor_law import Cells, Factors, canonical, expected_without_own, log_likelihood, posterior


def plain(columns: int) -> OwnLogOdds:
    return OwnLogOdds(np.zeros(columns), np.zeros(columns))


def simulated(rows: int, columns: int, factors: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, factors)) @ random.normal(size=(factors, columns))
    x += 0.6 * random.normal(size=x.shape)
    return (x - x.mean(0)) / x.std(0)


def test_complete_rows_give_the_maximum_of_probabilistic_pca() -> None:
    """Closed form of Tipping & Bishop (1999) at their noise, the mean of the other eigenvalues: the leading ones."""
    x = simulated(300, 6, 2, seed=0)
    seen = np.ones(x.shape, dtype=bool)
    nothing = np.zeros((len(x), 0))
    values, vectors = np.linalg.eigh(x.T @ x / len(x))
    noise = values[:-2].mean()
    found, _ = fit_factors(x, seen, nothing, 2, variance=np.full(6, noise), of_own=plain(6), masked=~seen)
    best = (vectors[:, -2:] * (values[-2:] - noise)) @ vectors[:, -2:].T
    assert np.allclose(found.loadings @ found.loadings.T, best, atol=1e-6)
    assert np.allclose(found.variance, noise, atol=1e-6)


def test_at_the_maximum_of_factor_analysis_every_column_has_its_own_variance() -> None:
    """Where ψ is free, the diagonal of λλᵀ + ψ is that of the sample's covariance (Lawley & Maxwell 1971).

    After 200 rounds EM is 0.0006 away from there.
    """
    x = simulated(300, 6, 2, seed=1)
    seen = np.ones(x.shape, dtype=bool)
    free = np.full(6, np.nan)
    found, _ = fit_factors(x, seen, np.zeros((300, 0)), 2, variance=free, of_own=plain(6), masked=~seen, rounds=200)
    assert found.variance.min() > 0.05  # free, that is
    assert np.allclose((found.loadings**2).sum(1) + found.variance, x.var(0), atol=2e-3)


@pytest.mark.parametrize(("told", "kept"), [(True, (0.9, 1.0)), (False, (0.6, 0.75))])
def test_columns_nearly_the_same_tell_a_third_by_their_difference(told: bool, kept: tuple[float, float]) -> None:
    """y = 2.5 (a - b) + noise, a and b correlated to 0.995: least squares' slope along a - b, and what is kept of it.

    Where y is noise alone, that slope is shrunk as by a normal prior: to 1.4 / (1.4 + 4 · 0.16), with 140 values seen.
    """
    random = np.random.default_rng(3)
    a = random.normal(size=(200, 1))
    b = a + 0.1 * random.normal(size=(200, 1))
    y = 2.5 * told * (a - b) + 0.4 * random.normal(size=(200, 1))
    x, u = np.hstack([y, random.normal(size=(200, 1))]), np.hstack([a, b])
    seen = random.random(x.shape) < 0.7
    free = np.full(2, np.nan)
    found, _ = fit_factors(x, seen, u, 1, variance=free, of_own=plain(2), masked=~seen, shrinkage=4.0)
    of_both = np.linalg.lstsq(np.c_[u, np.ones(200)][seen[:, 0]], y[seen[:, 0], 0], rcond=None)[0]
    along = (found.of_covariates[0, 0] - found.of_covariates[0, 1]) / (of_both[0] - of_both[1])
    assert kept[0] < along < kept[1]


def log_evidence(factors: Factors, x: np.ndarray, seen: np.ndarray) -> float:
    covariance = factors.loadings @ factors.loadings.T + np.diag(factors.variance)
    total = 0.0
    for row, mask in zip(x, seen, strict=True):
        part, error = covariance[np.ix_(mask, mask)], row[mask] - factors.offset[mask]
        total -= 0.5 * (np.linalg.slogdet(2 * np.pi * part)[1] + error @ np.linalg.solve(part, error))
    return total


def test_with_gaps_every_round_raises_the_exact_evidence_of_what_is_seen() -> None:
    x = simulated(150, 5, 2, seed=1)
    seen = np.random.default_rng(2).random(x.shape) > 0.3
    free = np.full(5, np.nan)
    evidence = [
        log_evidence(
            fit_factors(
                x, seen, np.zeros((150, 0)), 2, variance=free, of_own=plain(5), masked=np.zeros_like(seen), rounds=n
            )[0],
            x,
            seen,
        )
        for n in (1, 2, 4, 8, 16, 64, 128)
    ]
    assert (np.diff(evidence) > -1e-7).all()
    assert evidence[-1] - evidence[-2] < 0.05 * (evidence[-1] - evidence[0])


@pytest.mark.parametrize("slope", [-8.0, -0.5, 2.0])
def test_the_normal_that_stands_for_a_gap_has_the_moments_of_the_gap(slope: float) -> None:
    """One column, u its mean: the posterior of f given the gap, against quadrature."""
    u = np.linspace(-1, 1, 5)[:, None]
    gap, intercept = np.ones((5, 1), dtype=bool), 0.3
    seen = ~gap
    x = np.zeros((5, 1))
    seen[0], gap[0], x[0] = True, False, 0.4
    # Of the only seen cell nothing can be learned, so the parameters stay where the variance is fixed.
    factors = Factors(np.array([[0.8]]), np.array([[1.0]]), np.zeros(1), np.array([0.5]))
    cells = Cells(x, np.where(seen, np.inf, 0.0))
    from pyro_mnar.models.factor_em import _sites

    level = u
    for _ in range(2):  # with one cell a row, the first is exact
        found = posterior(factors.loadings, level, factors.variance, cells)
        value, precision = _sites(
            factors, level, found, cells, gap, OwnLogOdds(np.array([intercept]), np.array([slope]))
        )
        safe = np.where(precision > 0, precision, 1.0)
        cells = Cells(np.where(seen, x, value / safe), np.where(seen, np.inf, precision))
    found = posterior(factors.loadings, level, factors.variance, cells)
    spread = np.sqrt(0.8**2 + 0.5)
    for row in range(1, 5):

        def weight(v: float, row: int = row) -> float:
            return float(norm.pdf(v, u[row, 0], spread) * expit(-(intercept + slope * v)))

        total = quad(weight, -9, 9, points=[-intercept / slope])[0]
        mean = quad(lambda v: v * weight(v), -9, 9, points=[-intercept / slope])[0] / total
        second = quad(lambda v: v * v * weight(v), -9, 9, points=[-intercept / slope])[0] / total
        gain = 0.8 / spread**2  # of f on x
        assert found.mean[row, 0] == pytest.approx(gain * (mean - u[row, 0]), abs=1e-6)
        left = 1 - gain * 0.8 + gain**2 * (second - mean**2)
        assert found.covariance[row, 0, 0] == pytest.approx(left, abs=1e-6)


def test_the_law_under_self_masked_gaps_is_recovered() -> None:
    """4,000 rows, a third missing: standard errors are below 0.03, the means of what is seen are off by 0.5."""
    random = np.random.default_rng(0)
    u, f = random.normal(size=(2, 4000, 1))
    loadings, of_u = np.array([[1.0, 0.5, 0.8]]), np.array([[1.0, 0.7, 0.0]])
    x = f @ loadings + u @ of_u + 0.5 * random.normal(size=(4000, 3))
    gaps = random.random(x.shape) < expit(-1.0 + 2.0 * x)
    of_own = OwnLogOdds(np.full(3, 1.0), np.full(3, -2.0))
    free = np.full(3, np.nan)
    found, cells = fit_factors(x, ~gaps, u, 1, variance=free, of_own=of_own, masked=gaps, rounds=60)
    assert np.allclose(np.abs(found.loadings.T), loadings, atol=0.1)
    assert np.allclose(found.of_covariates.T, of_u, atol=0.1)
    assert np.allclose(found.offset, 0, atol=0.1)
    assert np.allclose(found.variance, 0.25, atol=0.05)
    ignored, _ = fit_factors(x, ~gaps, u, 1, variance=free, of_own=plain(3), masked=gaps, rounds=60)
    assert ignored.offset.mean() < -0.15
    expected = expected_without_own(found, u, cells)
    away = ((x - expected.mean) / np.sqrt(expected.variance))[~gaps]
    assert abs((away**2).mean() - 1) < 0.1  # of what is seen, which is a little narrower than all


@pytest.mark.parametrize("factors", [0, 1, 2])
def test_as_many_factors_are_taken_as_there_are(factors: int) -> None:
    x = simulated(500, 9, factors, seed=4)
    seen = np.random.default_rng(5).random(x.shape) > 0.2
    assert number_of_factors(x, seen, np.zeros((500, 0)), 8) == factors


def test_the_likelihood_is_that_of_the_seen_values_of_each_row() -> None:
    random = np.random.default_rng(7)
    x, u = simulated(20, 4, 2, seed=6), random.normal(size=(20, 3))
    seen = random.random(x.shape) > 0.4
    law = Factors(random.normal(size=(4, 2)), random.normal(size=(4, 3)), random.normal(size=4), random.random(4) + 0.1)
    expected = log_evidence(law, x - u @ law.of_covariates.T, seen) + 0.5 * np.log(2 * np.pi) * seen.sum()
    assert log_likelihood(law, x, seen, u) == pytest.approx(expected)


def test_turned_factors_say_the_same_and_are_independent_given_a_complete_row() -> None:
    random = np.random.default_rng(6)
    before = Factors(random.normal(size=(5, 3)), np.zeros((5, 0)), np.zeros(5), random.uniform(0.1, 1, 5))
    after = canonical(before)
    assert np.allclose(after.loadings @ after.loadings.T, before.loadings @ before.loadings.T)
    inner = after.loadings.T @ (after.loadings / after.variance[:, None])
    assert np.allclose(inner, np.diag(inner.diagonal()), atol=1e-10)
