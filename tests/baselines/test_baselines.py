"""Each baseline recovers a quantity on data simulated from itself; the tolerances stand in docs/systems.md."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from scipy.special import expit
from sklearn.linear_model import LinearRegression

from checks import z_limit
from pyro_mnar import Table, baselines
from pyro_mnar.baselines.imputers.low_rank import fit_low_rank
from pyro_mnar.baselines.imputers.normal import fit_normal
from pyro_mnar.models import SelfMasking

FILLERS = [
    baselines.Zero(),
    baselines.mean(),
    baselines.regression(),
    baselines.knn(),
    baselines.miss_forest(trees=5, rounds=2),
    baselines.mice(),
    baselines.FullInformationML(),
    baselines.LowRankJoint(),
    baselines.normal_mixtures_known_sign(rounds=60, burn_in=55),
    baselines.normal_mixtures_common_sign(rounds=60, burn_in=55),
]
PAIRS = [
    make(epochs=1)
    for make in (
        baselines.gina,
        baselines.gina_self_masking,
        baselines.i_not_miwae,
        baselines.gina_standard_normal,
        baselines.pvae,
        baselines.pvae_without_weights,
        baselines.miwae,
        baselines.not_miwae_linear,
        baselines.not_miwae_mlp,
        baselines.not_miwae_self_masking,
        baselines.not_miwae_known_sign,
        baselines.not_miwae_ppca,
        baselines.not_miwae_ppca_known_sign,
    )
]
MOMENTS = [
    baselines.CompleteCases(),
    baselines.PairwiseDeletion(),
    baselines.FullInformationML(),
    baselines.InverseProbabilityWeighting(),
]


def correlated(rows: int, seed: int) -> pd.DataFrame:
    """u, a, b with means 0, 10, -5, a and b regressions on u with slopes 4 and 1, and noises 3 and 0.5."""
    rng = np.random.default_rng(seed)
    u, noise = rng.normal(size=rows), rng.normal(size=(rows, 2))
    return pd.DataFrame({"u": u, "a": 10 + 4 * u + 3 * noise[:, 0], "b": -5 + u + 0.5 * noise[:, 1]})


def missing_at_random(frame: pd.DataFrame, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Gaps in a where u is high; and P(no gap | u)."""
    seen = expit(0.5 - 1.5 * frame["u"].to_numpy())
    gaps = np.random.default_rng([seed, 1]).uniform(size=len(frame)) > seen
    return frame.assign(a=frame["a"].mask(gaps)), seen


@pytest.fixture(scope="module")
def table() -> Table:
    frame, _ = missing_at_random(correlated(80, 0), 0)
    frame["b"] = frame["b"].mask(np.arange(80) % 7 == 0)
    frame["count"] = pd.array([None if n % 5 == 0 else n for n in range(80)], dtype="Int64")
    frame.index = pd.Index([f"row {n}" for n in range(80)])
    return Table.from_frame(frame, auxiliary=["u"], dtype=torch.float64)


@pytest.mark.slow
@pytest.mark.parametrize("imputer", FILLERS + PAIRS, ids=lambda imputer: imputer.name)
def test_imputers_fill_gaps_and_nothing_else(imputer: baselines.Imputer, table: Table) -> None:
    assert isinstance(imputer, baselines.Imputer)
    completed = imputer.complete(table, seed=3)
    assert list(completed.columns) == list(table.frame.columns)
    assert completed.index.equals(table.frame.index)
    assert completed.notna().all(axis=None)
    assert completed.dtypes.astype(str).tolist() == ["float64", "float64", "float64", "Float64"]
    seen = table.frame.notna().to_numpy()
    assert (completed.astype(float).to_numpy()[seen] == table.frame.astype(float).to_numpy()[seen]).all()
    pd.testing.assert_frame_equal(completed, imputer.complete(table, seed=3))


def test_imputers_keep_the_callers_generators(table: Table, generators_untouched: None) -> None:
    for imputer in (baselines.miss_forest(trees=2, rounds=1), baselines.LowRankJoint(), baselines.gina(epochs=1)):
        imputer.complete(table, seed=0)


@pytest.mark.parametrize("estimator", MOMENTS, ids=lambda estimator: estimator.name)
def test_moments_of_a_complete_table_are_the_samples(estimator: baselines.MomentEstimator) -> None:
    frame = correlated(200, 0)
    mean, covariance = estimator.moments(Table.from_frame(frame))
    pd.testing.assert_series_equal(mean, frame.mean())
    pd.testing.assert_frame_equal(covariance, frame.cov(), rtol=0.01)  # n or n - 1


class TestDeletion:
    """Unbiased under MCAR, biased under MAR."""

    @pytest.mark.parametrize("estimator", MOMENTS[:2], ids=lambda estimator: estimator.name)
    def test_unbiased_where_gaps_come_by_chance_and_biased_where_u_causes_them(
        self, estimator: baselines.MomentEstimator
    ) -> None:
        by_chance, by_u = [], []
        for seed in range(60):
            frame = correlated(200, seed)
            gaps = np.random.default_rng([seed, 2]).uniform(size=200) < 0.4
            by_chance.append(estimator.moments(Table.from_frame(frame.assign(a=frame["a"].mask(gaps)))).mean["a"])
            by_u.append(estimator.moments(Table.from_frame(missing_at_random(frame, seed)[0])).mean["a"])
        assert abs(stats.ttest_1samp(by_chance, 10.0).statistic) < z_limit()
        assert np.mean(by_u) < 9.0

    def test_pairwise_covariances_use_the_rows_that_have_both(self) -> None:
        frame = pd.DataFrame({"a": [1.0, 2, 3, np.nan], "b": [2.0, 4, np.nan, 1], "c": [0.0, 1, 0, 5]})
        covariance = baselines.PairwiseDeletion().moments(Table.from_frame(frame)).covariance
        assert covariance.loc["a", "b"] == pytest.approx(1.0)
        assert covariance.loc["b", "c"] == pytest.approx(np.cov([2, 4, 1], [0, 1, 5])[0, 1])

    def test_no_complete_row_is_refused(self) -> None:
        table = Table.from_frame(
            pd.DataFrame({"a": [1.0, 2.0, np.nan, np.nan], "b": [np.nan, np.nan, 2.0, 3.0]}), auxiliary="mask"
        )
        with pytest.raises(ValueError, match="at least 2 rows without a gap, got 0"):
            baselines.CompleteCases().moments(table)


class TestFilling:
    def test_zero_and_mean_are_in_the_users_units(self, table: Table) -> None:
        gaps = table.frame["a"].isna()
        assert np.allclose(baselines.Zero().complete(table, seed=0).loc[gaps, "a"], 0.0, atol=1e-12)
        assert np.allclose(baselines.mean().complete(table, seed=0).loc[gaps, "a"], table.frame["a"].mean())

    def test_regression_is_least_squares_on_the_complete_columns(self) -> None:
        frame = missing_at_random(correlated(300, 1), 1)[0]
        gaps = frame["a"].isna()
        fitted = LinearRegression().fit(frame.loc[~gaps, ["u", "b"]], frame.loc[~gaps, "a"])
        imputed = baselines.regression().complete(Table.from_frame(frame), seed=0)
        assert np.allclose(imputed.loc[gaps, "a"], fitted.predict(frame.loc[gaps, ["u", "b"]]))

    @pytest.mark.parametrize("imputer", [baselines.mice(), baselines.FullInformationML()], ids=lambda i: i.name)
    def test_linear_methods_recover_the_conditional_mean(self, imputer: baselines.Imputer) -> None:
        truth = correlated(2000, 2)
        frame = missing_at_random(truth, 2)[0]
        gaps = frame["a"].isna()
        errors = imputer.complete(Table.from_frame(frame), seed=0).loc[gaps, "a"] - (10 + 4 * frame.loc[gaps, "u"])
        assert np.sqrt(np.mean(errors**2)) < 0.3  # of a noise of 3

    def test_forest_and_neighbours_follow_a_curve_that_a_line_cannot(self) -> None:
        rng = np.random.default_rng(0)
        u = rng.uniform(-2, 2, size=400)
        frame = pd.DataFrame({"u": u, "a": np.where(rng.uniform(size=400) < 0.3, np.nan, u**2)})
        table, gaps = Table.from_frame(frame), frame["a"].isna()
        error = {
            imputer.name: np.sqrt(np.mean((imputer.complete(table, seed=0)["a"] - u**2)[gaps] ** 2))
            for imputer in (baselines.knn(), baselines.miss_forest(trees=30, rounds=2), baselines.regression())
        }
        assert error["kNN"] < 0.1 and error["missForest"] < 0.2 < 1.0 < error["regression"]


class TestNormal:
    def test_two_columns_have_andersons_closed_form(self) -> None:
        """Monotone gaps: moments of u from all rows, the regression of a on u from the complete ones (1957)."""
        frame = missing_at_random(correlated(200, 3), 3)[0][["u", "a"]]
        both = frame.dropna()
        slope, intercept = np.polyfit(both["u"], both["a"], 1)
        residual = np.mean((both["a"] - intercept - slope * both["u"]) ** 2)
        spread = frame["u"].var(ddof=0)
        mean, covariance = baselines.FullInformationML().moments(Table.from_frame(frame))
        assert mean["a"] == pytest.approx(intercept + slope * frame["u"].mean(), rel=1e-3)
        assert covariance.loc["a", "u"] == pytest.approx(slope * spread, rel=1e-3)
        assert covariance.loc["a", "a"] == pytest.approx(residual + slope**2 * spread, rel=1e-3)

    def test_likelihood_never_falls_and_is_that_of_the_observed_entries(self, table: Table) -> None:
        x = np.where(table.mask.numpy(), table.x.numpy(), np.nan)
        few, many = (fit_normal(x, max_iterations=count, tolerance=0) for count in (1, 50))
        assert (np.diff(many.log_likelihood) > -1e-6).all()
        direct = 0.0
        for row in x:
            seen = ~np.isnan(row)
            if seen.any():
                law = stats.multivariate_normal(few.mean[seen], few.covariance[np.ix_(seen, seen)])
                direct += law.logpdf(row[seen])
        assert few.log_likelihood[-1] == pytest.approx(direct)


class TestWeighting:
    @pytest.mark.parametrize("known", [True, False])
    def test_unbiased_where_complete_cases_are_not(self, known: bool) -> None:
        weighted, complete = [], []
        for seed in range(60):
            truth = correlated(500, seed)
            frame, seen = missing_at_random(truth, seed)
            table = Table.from_frame(frame)
            estimator = baselines.InverseProbabilityWeighting(propensities=seen if known else None)
            weighted.append(estimator.moments(table).mean["a"])
            complete.append(baselines.CompleteCases().moments(table).mean["a"])
        assert abs(np.mean(weighted) - 10.0) < 0.2  # a ratio estimator: its bias falls with the number of rows
        assert abs(np.mean(complete) - 10.0) > 1.0

    def test_wrong_propensities_are_refused(self, table: Table) -> None:
        with pytest.raises(ValueError, match="expected 80 numbers above 0"):
            baselines.InverseProbabilityWeighting(propensities=np.zeros(80)).moments(table)


class TestLowRank:
    @staticmethod
    def simulated(rows: int = 300, columns: int = 12) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(0)
        factors = rng.normal(size=(rows, 2))
        x = factors @ rng.normal(size=(2, columns)) + 0.3 * rng.normal(size=(rows, columns))
        return x, rng.uniform(size=x.shape) < expit(1.0 - 1.5 * factors @ rng.normal(size=(2, columns)))

    def test_recovers_values_from_itself(self) -> None:
        x, mask = self.simulated()
        table = Table.from_numpy(np.where(mask, x, np.nan), auxiliary=[])
        error = {
            imputer.name: np.sqrt(np.mean((imputer.complete(table, seed=0).to_numpy() - x)[~mask] ** 2))
            for imputer in (baselines.LowRankJoint(), baselines.mean())
        }
        assert error["low-rank joint model"] < 1.1 < 2.0 < error["mean"]  # 0.98 and 2.04; the penalty shrinks

    @pytest.mark.parametrize("has_offset", [True, False])
    def test_minimum_satisfies_the_condition_of_the_nuclear_norm(self, has_offset: bool) -> None:
        """At the minimum the gradient is -λ on the factors that are left, and at most λ beyond them."""
        x, mask = self.simulated(60, 5)
        fitted = fit_low_rank(x, mask, 5.0, has_offset=has_offset, max_iterations=20_000, tolerance=1e-10)
        both = fitted.offset + fitted.interaction
        gradient = np.concatenate([np.where(mask, both[:, :5] - x, 0.0), expit(both[:, 5:]) - mask], axis=1)
        assert np.allclose(gradient.sum(axis=0), 0.0, atol=1e-5) if has_offset else not fitted.offset.any()
        left, _, right = np.linalg.svd(fitted.interaction, full_matrices=False)
        left, right = left[:, : fitted.rank], right[: fitted.rank]
        assert 0 < fitted.rank < 10
        assert np.allclose(left.T @ gradient @ right.T, -5.0 * np.eye(fitted.rank), atol=1e-4)
        assert np.linalg.norm(gradient, ord=2) <= 5.0 + 1e-4


@pytest.mark.slow
def test_a_pair_recovers_means_that_its_model_made_go_missing() -> None:
    """Self-masking of high values: the observed means miss by 0.25 and more, the imputed ones by less than 0.1."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(1500, 1))
    x = z @ np.array([[1.0, 0.8, -0.9]]) + 0.3 * rng.normal(size=(1500, 3))
    seen = rng.uniform(size=x.shape) < expit(1.0 - 3.0 * x)
    seen[:, 0] = True
    table = Table.from_numpy(np.where(seen, x, np.nan), dtype=torch.float32)
    imputer = baselines.Fitted("self-masking", partial(SelfMasking, sign=-1), fit_options={"epochs": 60})
    completed = imputer.complete(table, seed=0).to_numpy()
    observed = np.nanmean(np.where(seen, x, np.nan), axis=0)
    assert (x.mean(axis=0) - observed)[1:].min() > 0.25
    assert np.abs(completed.mean(axis=0) - x.mean(axis=0)).max() < 0.1
