"""Metrics against their definitions, computed the long way."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linear_sum_assignment
from scipy.stats import norm

from pyro_mnar.experiments.metrics import coverage, crps, sliced_wasserstein

VALUES = st.floats(-100, 100)
DRAWS = arrays(np.float64, st.tuples(st.integers(2, 7), st.just(3)), elements=VALUES)


class TestCRPS:
    @given(draws=DRAWS, truth=arrays(np.float64, 3, elements=VALUES))
    def test_is_its_definition(self, draws: np.ndarray, truth: np.ndarray) -> None:
        expected = [
            np.mean([abs(a - true) for a in drawn]) - np.mean([abs(a - b) for a, b in permutations(drawn, 2)]) / 2
            for drawn, true in zip(draws.T, truth, strict=True)
        ]
        np.testing.assert_allclose(crps(draws, truth), expected, atol=1e-9)

    def test_closed_form_of_a_normal(self) -> None:
        """Gneiting & Raftery, equation 21; four standard errors over 2,000 sets of 20 draws."""
        scores = crps(np.random.default_rng(0).normal(size=(20, 2000)), np.full(2000, 0.7))
        exact = 0.7 * (2 * norm.cdf(0.7) - 1) + 2 * norm.pdf(0.7) - 1 / np.sqrt(np.pi)
        assert scores.mean() == pytest.approx(exact, abs=4 * scores.std() / np.sqrt(2000))

    def test_errors(self) -> None:
        with pytest.raises(ValueError, match=r"at least 2 draws and \(cells,\), got \(1, 3\) and \(3,\)"):
            crps(np.zeros((1, 3)), np.zeros(3))
        with pytest.raises(ValueError, match="draws, truth"):
            crps(np.zeros((2, 3)), np.zeros(4))


class TestCoverage:
    def test_counts_cells_between_quantiles(self) -> None:
        draws = np.linspace(0, 1, 101)[:, None].repeat(4, axis=1)
        assert coverage(draws, np.array([0.2, 0.25, 0.6, 0.9]), 0.5) == 0.5
        assert coverage(draws, np.array([0.2, 0.25, 0.6, 0.96]), 0.9) == 0.75

    def test_level(self) -> None:
        with pytest.raises(ValueError, match="level: expected a probability between 0 and 1, got 90"):
            coverage(np.zeros((2, 1)), np.zeros(1), 90)


class TestSlicedWasserstein:
    @given(
        x=arrays(np.float64, st.tuples(st.integers(2, 6), st.just(1)), elements=VALUES),
        y=arrays(np.float64, st.tuples(st.integers(2, 6), st.just(1)), elements=VALUES),
    )
    def test_one_column_is_the_quantiles_distance(self, x: np.ndarray, y: np.ndarray) -> None:
        """Both samples repeated to one size: then the sorted values are matched one to one."""
        size = len(x) * len(y)
        one, other = np.sort(x[:, 0].repeat(size // len(x))), np.sort(y[:, 0].repeat(size // len(y)))
        assert sliced_wasserstein(x, y) == pytest.approx(np.sqrt(np.mean((one - other) ** 2)), abs=1e-9)

    def test_a_shift_in_two_columns(self) -> None:
        """Every projection moves by the shift's share: the root mean square is |shift| / sqrt(2) on the circle."""
        x = np.random.default_rng(0).normal(size=(50, 2))
        distance = sliced_wasserstein(x, x + np.array([3.0, 4.0]), projections=20_000)
        assert distance == pytest.approx(5 / np.sqrt(2), rel=0.02)

    def test_never_more_than_the_distance_itself(self) -> None:
        rng = np.random.default_rng(1)
        x, y = rng.normal(size=(20, 2)), rng.normal(size=(20, 2)) + 1.0
        squares = [[((a - b) ** 2).sum() for b in y] for a in x]
        rows, columns = linear_sum_assignment(squares)
        assert sliced_wasserstein(x, y) <= np.sqrt(np.array(squares)[rows, columns].mean())
        assert sliced_wasserstein(x, x[::-1]) == pytest.approx(0, abs=1e-12)

    def test_errors(self) -> None:
        with pytest.raises(ValueError, match="expected samples of the same columns, got 1 and 2 of them"):
            sliced_wasserstein(np.zeros((3, 1)), np.zeros((3, 2)))
