"""Probit self-masking of one column: likelihood and gradient, thresholds and slopes, the side that is missing."""

from __future__ import annotations

import numpy as np
import pytest
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.optimize import check_grad
from scipy.stats import norm

from pyro_mnar.baselines.imputers.selection import (
    common_direction,
    fit_selection,
    inverse_mills,
    negative_log_likelihood,
    selections,
)


def column(
    rows: int, width: float, seed: int = 0, threshold: float = 0.2
) -> tuple[Float[NDArray, " rows"], Float[NDArray, "rows 1"]]:
    """y = 0.8 w + 0.6 ε, missing with probability Φ((y - threshold) / width)."""
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(rows, 1))
    y = 0.8 * w[:, 0] + 0.6 * rng.normal(size=rows)
    return np.where(y + width * rng.normal(size=rows) > threshold, np.nan, y), w


class TestLikelihood:
    def test_a_gap_is_the_integral_over_its_value(self) -> None:
        parameters = np.array([0.3, -0.5, np.log(0.7), 0.2, np.log(2.5)])
        mean = 0.3 - 0.5 * 1.1
        integral, _ = quad(lambda y: norm.pdf(y, mean, 0.7) * norm.cdf((y - 0.2) * 2.5), -8, 8, epsabs=1e-12)
        value, _ = negative_log_likelihood(parameters, np.array([np.nan]), np.array([[1.0, 1.1]]))
        prior = 0.5e-3 * (0.3**2 + 0.5**2)
        assert value == pytest.approx(prior - np.log(integral), abs=1e-9)

    def test_a_value_is_its_density_and_that_it_is_seen(self) -> None:
        parameters = np.array([0.3, np.log(0.7), 0.2, np.log(2.5)])
        value, _ = negative_log_likelihood(parameters, np.array([0.9]), np.ones((1, 1)))
        expected = norm.logpdf(0.9, 0.3, 0.7) + norm.logcdf((0.2 - 0.9) * 2.5)
        assert value == pytest.approx(0.5e-3 * 0.09 - expected, abs=1e-12)

    def test_gradient_is_that_of_finite_differences(self) -> None:
        y, w = column(60, 0.4)
        design = np.concatenate([np.ones((60, 1)), w], axis=1)
        for seed in range(5):
            at = 0.5 * np.random.default_rng(seed).normal(size=5)
            value = check_grad(
                lambda p: negative_log_likelihood(p, y, design)[0],
                lambda p: negative_log_likelihood(p, y, design)[1],
                at,
            )
            assert value < 1e-4 * len(y)

    def test_mills_ratio_far_out(self) -> None:
        np.testing.assert_allclose(inverse_mills(np.array([-50.0, 0.0])), [50.02, np.sqrt(2 / np.pi)], rtol=1e-4)


class TestFit:
    @pytest.mark.parametrize("width", [0.25, 0.5])
    def test_finds_where_and_how_sharply(self, width: float) -> None:
        """4,000 rows: threshold within 0.15, width within 40 %."""
        found = fit_selection(*column(4000, width))
        assert found.threshold == pytest.approx(0.2, abs=0.15)
        assert found.width == pytest.approx(width, rel=0.4)

    def test_finds_a_threshold(self) -> None:
        y, w = column(1000, 0.0)
        found = fit_selection(y, w)
        assert found.width < 0.05 and found.threshold == pytest.approx(np.nanmax(y), abs=0.05)

    def test_refuses_what_says_nothing(self) -> None:
        with pytest.raises(ValueError, match="expected a column with gaps"):
            fit_selection(np.array([1.0, 2.0]), np.zeros((2, 0)))
        with pytest.raises(ValueError, match="two different observed values"):
            fit_selection(np.array([1.0, 1.0, np.nan]), np.zeros((3, 0)))


class TestDirection:
    @pytest.mark.parametrize("sign", [-1, 1])
    @pytest.mark.parametrize("width", [0.0, 0.5])
    def test_is_found(self, sign: int, width: float) -> None:
        y, w = column(400, width)
        x = np.stack([-sign * y, w[:, 0]], axis=1)
        assert common_direction(x, w, np.isnan(x)) == sign

    @pytest.mark.parametrize("sign", [-1, 1])
    def test_amounts_that_are_mostly_zero_have_no_say(self, sign: int) -> None:
        y, w = column(400, 0.0)
        amounts = np.maximum(np.random.default_rng(1).normal(size=400) - 1, 0)
        amounts[amounts > 0.5] = np.nan
        x = -sign * np.stack([y, amounts, w[:, 0]], axis=1)
        assert common_direction(x[:, 1:], w, np.isnan(x[:, 1:])) == -1
        assert common_direction(x, w, np.isnan(x)) == sign

    def test_columns_that_say_nothing_are_passed_over(self) -> None:
        y, w = column(50, 0.0)
        x = np.stack([y, w[:, 0], np.where(np.isnan(y), np.nan, 1.0)], axis=1)
        found = selections(x, w, np.isnan(x))
        assert [one is None for one in found] == [False, True, True]

    def test_other_gaps_are_left_out(self) -> None:
        y, w = column(400, 0.0)
        hidden = np.isnan(y)[:, None]
        z = y.copy()
        z[:100] = np.nan
        hidden[:100] = False
        assert selections(z[:, None], w, hidden) == selections(y[100:, None], w[100:], np.isnan(y[100:, None]))
