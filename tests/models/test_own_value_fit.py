"""The first slopes of self-masking are those of exact maximum likelihood, by quadrature."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import approx_fprime
from scipy.special import expit, log_expit

from pyro_mnar import Table
from pyro_mnar.mechanisms import SelfMasking
from pyro_mnar.models import GINA
from pyro_mnar.models.own_value_fit import LEAST_SLOPE, STEEPEST, _Law, fit_own_value

POINTS, WEIGHTS = np.polynomial.hermite_e.hermegauss(60)


def masked(seed: int, slope: float, rows: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """u, and y with about a third of its values missing."""
    random = np.random.default_rng(seed)
    u = random.normal(size=rows)
    y = 1 + 0.6 * u + random.normal(size=rows)
    seen = random.random(rows) < expit(0.8 + slope * (y - 1))
    return u, np.where(seen, y, np.nan)


@pytest.mark.parametrize(("seed", "slope"), [(0, -1.2), (1, -1.2), (2, -2.5), (3, 0.8), (4, 1.5)])
def test_a_model_starts_at_the_slope_of_exact_maximum_likelihood(
    seed: int, slope: float, script: Callable[[str], Any]
) -> None:
    """GINA of two columns: u, which its latent copies, and one that masks itself.  Priors take less than 1.5% off."""
    u, y = masked(seed, slope)
    frame = pd.DataFrame({"u": u, "y": y})
    table = Table.from_frame(frame)
    model = GINA(table, mechanism=SelfMasking, seed=0)
    assert model.start_from(table.batch()) is not None
    found = model.mechanism.slope[1].item() / table.schema.columns[1].std
    assert found == pytest.approx(script("attenuation").maximum_likelihood(frame), rel=0.015)


@pytest.mark.parametrize(
    "theta", [[0.3, 0.8, -0.4, 0.5, -1.3], [-0.1, 1.2, 0.2, -1.0, 7.0], [0.0, 1.0, -1.0, 0.4, 0.0]]
)
def test_likelihood_and_gradient_are_those_of_quadrature(theta: list[float]) -> None:
    u, y = masked(5, -1.0, rows=60)
    seen, variance = ~np.isnan(y), np.linspace(0.5, 1.5, 60)
    law = _Law(y, seen, u, variance)
    loss, gradient = law.loss(np.array(theta))
    numeric = approx_fprime(np.array(theta), lambda at: law.loss(at)[0], 1e-6)
    assert np.allclose(gradient, numeric, atol=2e-3, rtol=1e-4)

    alpha, beta, log_s, level, d = theta
    mean, s = alpha + beta * u, np.exp(log_s) * np.sqrt(variance)
    fine = np.linspace(-9, 9, 6001)
    log_odds = level + d * (mean[:, None] + s[:, None] * fine - y[seen].mean())
    missing = (expit(-log_odds) * np.exp(-0.5 * fine**2)).sum(1) * 18 / 6000 / np.sqrt(2 * np.pi)
    of_seen = -0.5 * ((y - mean) / s)[seen] ** 2 - log_s + log_expit(level + d * (y[seen] - y[seen].mean()))
    away = np.array([alpha, beta - 1, log_s - law.log_spread, d])
    prior = 0.5 * (np.array([0.25, 0.25, 0.25, 0.01]) * away**2).sum()
    assert loss == pytest.approx(prior - of_seen.sum() - np.log(missing[~seen]).sum(), abs=1e-4)


def test_a_sign_is_kept_a_known_slope_is_held_and_a_threshold_stays_finite() -> None:
    u, y = masked(6, -1.5)
    seen, variance = ~np.isnan(y), np.ones(len(u))
    wrong = fit_own_value(y, seen, 0.6 * u, variance, sign=1)
    assert LEAST_SLOPE <= wrong.slope < 1.5
    known = fit_own_value(y, seen, 0.6 * u, variance, slope=-1.5)
    assert known.slope == -1.5
    assert known.log_likelihood > wrong.log_likelihood
    assert known.intercept == pytest.approx(0.8 + 1.5, abs=0.4)
    random = np.random.default_rng(7)
    z = 0.6 * u + random.normal(size=len(u))
    steep = fit_own_value(z, z < 0.5, 0.6 * u, variance)
    assert -STEEPEST <= steep.slope < -8
    assert -steep.intercept / steep.slope == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("first", [None, (8.0, -25.0)])
def test_whatever_is_told_of_the_column_the_maximum_is_finite(seed: int, first: tuple[float, float] | None) -> None:
    """Heavy tails, means far away, and variances from 1e-12 to 10 in one column."""
    random = np.random.default_rng(seed)
    rows = int(random.integers(30, 300))
    x = np.clip(random.standard_t(1, size=rows), -5, 5)
    seen = random.random(rows) < random.uniform(0.1, 0.9)
    told = random.normal(size=rows) * 10.0 ** random.integers(-6, 2)
    found = fit_own_value(x, seen, told, 10.0 ** random.uniform(-12, 1, size=rows), first=first)
    assert np.isfinite(found).all()
    assert abs(found.slope) <= STEEPEST
