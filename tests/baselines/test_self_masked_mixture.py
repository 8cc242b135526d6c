"""Mixtures of normals that mask themselves: draws against quadrature, recovery under thresholds and slopes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import norm

from pyro_mnar import Table, baselines
from pyro_mnar.baselines import SelfMaskedMixture
from pyro_mnar.baselines.imputers.mixture_chain import draw_beyond, fit_components

BRIEF = {"rounds": 60, "burn_in": 55}


def table_of(frame: pd.DataFrame, **options: object) -> Table:
    return Table.from_frame(frame, dtype=torch.float64, **options)  # type: ignore[arg-type]


def error(completed: pd.DataFrame, truth: pd.DataFrame, gaps: pd.DataFrame) -> float:
    return float(np.sqrt(((completed - truth).to_numpy()[gaps.to_numpy()] ** 2).mean()))


def factor(rows: int, seed: int) -> pd.DataFrame:
    """Four columns of variance one, correlations 0.64."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(0.8 * rng.normal(size=(rows, 1)) + 0.6 * rng.normal(size=(rows, 4)), columns=list("abcd"))


def masked(truth: pd.DataFrame, slope: float, seed: int) -> pd.DataFrame:
    """Of a and b, each value goes missing with log-odds slope · value."""
    rng = np.random.default_rng(seed)
    frame = truth.copy()
    for name in "ab":
        frame.loc[rng.random(len(frame)) < expit(slope * frame[name].to_numpy()), name] = np.nan
    return frame


class TestDrawBeyond:
    @pytest.mark.parametrize(("mean", "threshold", "width"), [(0.3, 0.5, 0.8), (-1.0, 1.0, 0.2)])
    def test_mean_and_draws_are_those_of_the_law_given_the_gap(
        self, mean: float, threshold: float, width: float
    ) -> None:
        """200,000 draws: mean and second moment within four standard errors (falsely one time in 8,000)."""

        def moment(power: int) -> float:
            return quad(
                lambda x: x**power * norm.pdf(x, mean, 0.7) * norm.cdf((x - threshold) / width), -6, 8, epsabs=1e-12
            )[0]

        count = 200_000
        many = np.full(count, mean)
        expected, drawn = draw_beyond(many, np.full(count, 0.7), threshold, width, np.random.default_rng(0))
        assert expected[0] == pytest.approx(moment(1) / moment(0), abs=1e-7)
        for power in (1, 2):
            powers = drawn**power
            assert abs(powers.mean() - moment(power) / moment(0)) < 4 * powers.std() / np.sqrt(count)

    def test_a_threshold_is_kept_however_far(self) -> None:
        mean = np.array([-60.0, 0.0, 60.0])
        expected, drawn = draw_beyond(mean, np.ones(3), 0.5, 0.0, np.random.default_rng(0))
        assert (drawn >= 0.5).all() and (expected >= 0.5).all()
        assert expected[0] == pytest.approx(0.5, abs=0.05) and expected[2] == pytest.approx(60.0)


class TestComponents:
    def test_of_one_label_is_the_maximum_likelihood_normal(self) -> None:
        x = factor(2000, seed=0).to_numpy()
        (found,) = fit_components(x, np.zeros(2000, dtype=np.int64), 1)
        np.testing.assert_allclose(found.mean, x.mean(axis=0), atol=1e-4)
        np.testing.assert_allclose(np.linalg.inv(found.precision), np.cov(x.T, bias=True), atol=1e-3)

    def test_an_empty_label_has_the_law_of_all(self) -> None:
        x = factor(50, seed=0).to_numpy()
        found = fit_components(x, np.zeros(50, dtype=np.int64), 2)
        np.testing.assert_allclose(found[1].mean, x.mean(axis=0))
        assert found[1].share == pytest.approx(1 / 52)


class TestCompletion:
    @pytest.mark.parametrize("sign", [-1, 1])
    @pytest.mark.slow
    def test_means_are_recovered_under_a_slope(self, sign: int) -> None:
        """1,000 rows, log-odds 3x: means within 0.12, where those of the seen values miss by more than 0.5."""
        truth = factor(1000, seed=1)
        frame = masked(truth, -3.0 * sign, seed=2)
        completed = baselines.normal_mixtures_known_sign(sign).complete(table_of(frame), seed=0)
        for name in "ab":
            assert abs(frame[name].mean() - truth[name].mean()) > 0.5
            assert abs(completed[name].mean() - truth[name].mean()) < 0.12

    @pytest.mark.parametrize("sign", [-1, 1])
    def test_common_sign_is_found_and_then_told(self, sign: int) -> None:
        truth = factor(300, seed=3)
        frame = truth.copy()
        frame["a"] = truth["a"].where(-sign * truth["a"] < 0)
        table = table_of(frame)
        told, found = (
            SelfMaskedMixture("brief", given, components=(1,), **BRIEF).complete(table, seed=4)
            for given in (sign, None)
        )
        pd.testing.assert_frame_equal(told, found)
        assert ((-sign * found["a"])[frame["a"].isna()] > -0.1).all()

    def test_components_find_what_a_line_does_not(self) -> None:
        """Two clouds of opposite slopes, high values of y hidden: two components halve the error of one."""
        rng = np.random.default_rng(5)
        group = rng.integers(0, 2, 600)
        x = rng.normal(size=600) + 8 * group
        centred = x - 8 * group
        y = np.where(group == 1, centred, -centred) + 0.1 * rng.normal(size=600)
        truth = pd.DataFrame({"x": x, "y": y})
        frame = truth.assign(y=truth["y"].where(truth["y"] < 0))
        table, gaps = table_of(frame), frame.isna()
        one, two = (
            error(SelfMaskedMixture("m", -1, components=(count,)).complete(table, seed=0), truth, gaps)
            for count in (1, 2)
        )
        assert two < 0.5 * one and two < 0.15

    @pytest.mark.slow
    def test_signs_by_column(self) -> None:
        truth = factor(800, seed=6)
        frame = truth.assign(a=truth["a"].where(truth["a"] < 0.3), b=truth["b"].where(truth["b"] > -0.3))
        table = table_of(frame)
        completed = SelfMaskedMixture("m", [-1, 1, -1, -1]).complete(table, seed=0)
        assert error(completed, truth, frame.isna()) < 0.65
        assert abs(completed["a"].mean()) < 0.12 and abs(completed["b"].mean()) < 0.12

    def test_gaps_that_no_value_caused_get_the_conditional_mean(self) -> None:
        truth = factor(500, seed=7)
        gone = np.arange(500) < 100
        frame = truth.assign(a=truth["a"].mask(gone))
        table = table_of(frame, by_design={"a": gone})
        completed = SelfMaskedMixture("m", -1, components=(1,)).complete(table, seed=0)
        design = np.column_stack([np.ones(500), truth[["b", "c", "d"]]])
        weights = np.linalg.lstsq(design[~gone], truth["a"][~gone], rcond=None)[0]
        assert np.abs(completed["a"][gone] - design[gone] @ weights).mean() < 0.05

    def test_observed_values_stay_and_seeds_repeat(self) -> None:
        frame = masked(factor(80, seed=8), 3.0, seed=9)
        system = baselines.normal_mixtures_common_sign(**BRIEF)
        once, again = (system.complete(table_of(frame), seed=1) for _ in range(2))
        pd.testing.assert_frame_equal(once, again)
        pd.testing.assert_frame_equal(once[frame.notna()], frame, check_exact=True)
        assert not once.isna().to_numpy().any()

    @pytest.mark.parametrize(
        "frame",
        [
            pd.DataFrame({"a": [1.0, 2.0, 3.0, np.nan], "b": [2.0, np.nan, 1.0, np.nan]}),
            pd.DataFrame({"a": [1.0, 1.0, np.nan], "b": [0.0, 1.0, 2.0]}),
            pd.DataFrame(np.where(np.eye(6, 9), np.nan, np.arange(54.0).reshape(6, 9) % 7)),
            pd.DataFrame({"a": [1.0, 2.0, 4.0]}),
        ],
        ids=["no complete column", "no spread", "more columns than rows", "no gaps"],
    )
    @pytest.mark.filterwarnings("ignore:constant columns")  # which is the point of one of them
    def test_small_and_odd_tables_are_filled(self, frame: pd.DataFrame) -> None:
        completed = baselines.normal_mixtures_common_sign(**BRIEF).complete(table_of(frame, auxiliary=[]), seed=0)
        assert np.isfinite(completed.to_numpy()).all()


class TestRefusals:
    def test_words(self) -> None:
        table = table_of(pd.DataFrame({"a": [1.0, 2.0, 4.0], "b": ["red", "blue", None]}))
        with pytest.raises(ValueError, match="column 'b': expected numbers"):
            baselines.normal_mixtures_known_sign().complete(table, seed=0)

    def test_bounds(self) -> None:
        table = table_of(pd.DataFrame({"a": [1.0, 2.0, None], "b": [1.0, 2.0, 3.0]}), lower={"a": 0})
        with pytest.raises(ValueError, match="gaps without bounds"):
            baselines.normal_mixtures_known_sign().complete(table, seed=0)

    @pytest.mark.parametrize("sign", [0, [1], [-1, 0]])
    def test_signs(self, sign: object) -> None:
        table = table_of(pd.DataFrame({"a": [1.0, 2.0, None], "b": [1.0, 2.0, 3.0]}))
        with pytest.raises(ValueError, match="sign: expected -1 or 1"):
            SelfMaskedMixture("m", sign).complete(table, seed=0)  # type: ignore[arg-type]

    def test_too_few_rounds(self) -> None:
        with pytest.raises(ValueError, match="burn_in < rounds"):
            SelfMaskedMixture("m", -1, rounds=100, burn_in=100)
