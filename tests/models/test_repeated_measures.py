"""Repeated measures against closed forms: complete visits, monotone dropout, dense algebra."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from scipy import stats

from checks import check_mean
from pyro_mnar.models.repeated_measures import RepeatedMeasures, conditional

COVARIANCE = np.array([[1.0, 0.6, 0.4], [0.6, 1.5, 0.9], [0.4, 0.9, 2.0]])


def simulated(num_patients: int = 60, num_visits: int = 3, *, dropout: bool = True, seed: int = 0) -> RepeatedMeasures:
    """Two covariates beside the constant; with dropout, a third of those still there leaves before each later visit."""
    rng = np.random.default_rng(seed)
    design = np.stack([np.ones(num_patients), np.arange(num_patients) % 2, rng.standard_normal(num_patients)], axis=1)
    factor = np.linalg.cholesky(COVARIANCE[:num_visits, :num_visits])
    outcomes = (
        design @ rng.standard_normal((3, num_visits)) + rng.standard_normal((num_patients, num_visits)) @ factor.T
    )
    if dropout:
        for j in range(1, num_visits):
            gone = np.isnan(outcomes[:, j - 1]) | (rng.random(num_patients) < 1 / 3)
            outcomes[gone, j] = np.nan
    return RepeatedMeasures(design, outcomes, tuple(f"week {j}" for j in range(num_visits)))


def regression(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients, and products of residuals."""
    coefficients = np.linalg.lstsq(x, y, rcond=None)[0]
    residuals = y - x @ coefficients
    return coefficients, residuals.T @ residuals


def test_complete_visits_give_least_squares() -> None:
    model = simulated(dropout=False)
    coefficients, products = regression(model.design, model.outcomes)
    for restricted, degrees in ((True, 57), (False, 60)):
        estimate = model.estimate(restricted=restricted)
        np.testing.assert_allclose(estimate.coefficients, coefficients, atol=1e-10)
        np.testing.assert_allclose(estimate.covariance, products / degrees, rtol=1e-6)


def test_maximum_likelihood_under_dropout_is_a_chain_of_regressions() -> None:
    """Anderson (1957): each visit on covariates and earlier visits, among those seen at it."""
    model = simulated()
    estimate = model.estimate(restricted=False)
    for j in range(3):
        seen = ~np.isnan(model.outcomes[:, j])
        x = np.concatenate([model.design[seen], model.outcomes[seen, :j]], axis=1)
        coefficients, products = regression(x, model.outcomes[seen, j : j + 1])
        earlier = np.arange(3) < j
        slopes, left = conditional(estimate.covariance[: j + 1, : j + 1], earlier[: j + 1])
        np.testing.assert_allclose(slopes[0], coefficients[3:, 0], rtol=1e-5)
        np.testing.assert_allclose(left, products / seen.sum(), rtol=1e-5)
        constant = estimate.coefficients[:, j] - estimate.coefficients[:, :j] @ slopes[0]
        np.testing.assert_allclose(constant, coefficients[:3, 0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("restricted", [True, False])
def test_likelihood_is_that_of_one_long_normal_vector(restricted: bool) -> None:
    model = simulated(30)
    model.outcomes[0, 0] = np.nan  # an intermittent gap
    seen = ~np.isnan(model.outcomes)
    design = np.concatenate([np.kron(np.eye(3), x)[seen[i]] for i, x in enumerate(model.design)])
    y = model.outcomes[seen]

    def dense(covariance: np.ndarray) -> float:
        blocks = [covariance[np.ix_(row, row)] for row in seen]
        whole = np.zeros((len(y), len(y)))
        at = 0
        for block in blocks:
            whole[at : at + len(block), at : at + len(block)] = block
            at += len(block)
        inverse = np.linalg.inv(whole)
        information = design.T @ inverse @ design
        left = y - design @ np.linalg.solve(information, design.T @ inverse @ y)
        value = -0.5 * (np.linalg.slogdet(whole)[1] + left @ inverse @ left)
        return value - 0.5 * np.linalg.slogdet(information)[1] if restricted else value

    def ours(covariance: np.ndarray) -> float:
        return float(model.log_likelihood(torch.from_numpy(covariance), restricted=restricted))

    other = COVARIANCE + np.diag([0.5, 0.1, 0.3])
    assert ours(other) - ours(COVARIANCE) == pytest.approx(dense(other) - dense(COVARIANCE), abs=1e-9)


def test_posterior_of_complete_visits_has_its_closed_form() -> None:
    """Coefficients: matrix t around least squares; covariance: inverse Wishart whose mean is the REML estimate."""
    model = simulated(dropout=False)
    coefficients, products = regression(model.design, model.outcomes)
    draws = model.posterior(4000, np.random.default_rng(1))
    check_mean(torch.from_numpy(draws.coefficients), torch.from_numpy(coefficients))
    check_mean(torch.from_numpy(draws.covariance), torch.from_numpy(products / 57))
    expected = np.linalg.inv(model.design.T @ model.design).diagonal()[:, None] * products.diagonal() / 57
    check_mean(torch.from_numpy((draws.coefficients - coefficients) ** 2), torch.from_numpy(expected))


def test_posterior_under_dropout_has_its_closed_form() -> None:
    """Two visits: the second given the first is a regression with a conjugate prior on its slope.

    Σ of the prior, IW(4, S): the residual variance v has an inverse gamma law with 4 degrees of freedom and scale
    S_22.1, the slope given v a normal one around S_21 / S_11 with variance v / S_11.
    """
    model = simulated(num_visits=2)
    prior = model.estimate().covariance
    seen = ~np.isnan(model.outcomes[:, 1])
    x = np.concatenate([model.design[seen], model.outcomes[seen, :1]], axis=1)
    penalty = np.diag([0.0, 0.0, 0.0, prior[0, 0]])
    centre = np.array([0.0, 0.0, 0.0, prior[1, 0] / prior[0, 0]])
    precision = x.T @ x + penalty
    best = np.linalg.solve(precision, x.T @ model.outcomes[seen, 1] + penalty @ centre)
    residuals = model.outcomes[seen, 1] - x @ best
    scale = residuals @ residuals + (best - centre) @ penalty @ (best - centre)
    scale += prior[1, 1] - prior[1, 0] ** 2 / prior[0, 0]
    degrees = 4 + seen.sum() - 3

    draws = model.posterior(6000, np.random.default_rng(1))
    slopes = draws.covariance[:, 1, 0] / draws.covariance[:, 0, 0]
    left = draws.covariance[:, 1, 1] - slopes * draws.covariance[:, 1, 0]
    check_mean(torch.from_numpy(left), scale / (degrees - 2))
    check_mean(torch.from_numpy(slopes), best[3])
    check_mean(torch.from_numpy((slopes - best[3]) ** 2), scale / (degrees - 2) * float(np.linalg.inv(precision)[3, 3]))
    first, _ = regression(model.design, model.outcomes[:, 0])
    check_mean(torch.from_numpy(draws.coefficients[:, :, 1]), torch.from_numpy(best[:3] + best[3] * first))
    # The whole law of v, not its mean alone: fails by chance once in 100,000.
    assert stats.kstest(scale / left, stats.chi2(degrees).cdf).pvalue > 1e-5


def test_completed_visits_follow_the_conditional_law() -> None:
    model = simulated(12, dropout=False)
    model.outcomes[2, 1:] = model.outcomes[5, 0] = model.outcomes[7] = np.nan
    means = np.arange(36.0).reshape(12, 3)
    expected = model.completed(means, COVARIANCE, None)
    np.testing.assert_array_equal(expected[~np.isnan(model.outcomes)], model.outcomes[~np.isnan(model.outcomes)])
    np.testing.assert_allclose(expected[7], means[7])
    slope = COVARIANCE[1:, 0] / COVARIANCE[0, 0]
    np.testing.assert_allclose(expected[2, 1:], means[2, 1:] + slope * (model.outcomes[2, 0] - means[2, 0]))
    slopes = np.linalg.solve(COVARIANCE[1:, 1:], COVARIANCE[1:, 0])
    np.testing.assert_allclose(expected[5, 0], means[5, 0] + slopes @ (model.outcomes[5, 1:] - means[5, 1:]))

    draws = model.completed(np.broadcast_to(means, (20_000, 12, 3)), COVARIANCE, np.random.default_rng(0))
    check_mean(torch.from_numpy(draws[:, 5, 0]), float(expected[5, 0]))
    left = COVARIANCE[1:, 1:] - np.outer(slope, COVARIANCE[1:, 0])
    around = draws[:, 2, 1:] - expected[2, 1:]
    check_mean(torch.from_numpy(around[:, :, None] * around[:, None, :]), torch.from_numpy(left))


def test_refuses_what_the_data_cannot_tell() -> None:
    model = simulated()
    few = model.outcomes.copy()
    few[6:, 2] = np.nan
    with pytest.raises(ValueError, match=re.escape("visit 'week 2': expected more than 6 patients seen")):
        RepeatedMeasures(model.design, few, model.visits)
    apart = simulated(dropout=False).outcomes
    apart[:30, 0] = apart[30:, 2] = np.nan
    with pytest.raises(ValueError, match="visits 'week 0' and 'week 2': expected more than 6 patients seen at both"):
        RepeatedMeasures(model.design, apart, model.visits)
    with pytest.raises(ValueError, match="visit 'week 0': expected covariates of which none follows from the others"):
        RepeatedMeasures(model.design[:, [0, 1, 1]], model.outcomes, model.visits)
