"""Rubin's rules against published numbers of R's mice, and against what must hold of any draws."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pyro_mnar import Pooled, pool_scalar
from pyro_mnar.imputation.pooling import Parts, combined, degrees_of_freedom, draws_needed, likelihood_ratio, wald


def close(value, expected, digits=1e-9):
    np.testing.assert_allclose(np.squeeze(value), expected, rtol=0, atol=digits)


# R's mice::pool.scalar, as longmi's validation and mice's own issues publish it -----------------------------------


def test_a_large_sample_as_in_mice():
    pooled = pool_scalar([1.5, 2, 2.5, 1.8, 2.2], [0.36, 0.44, 0.40, 0.38, 0.42])
    close(pooled.estimates, 2.0)
    close(pooled.standard_errors**2, 0.574)
    close(pooled.lambda_, 0.30313588850174217)
    close(pooled.df, 43.529660457127754)
    close(pooled.fmi, 0.333089432312376)


@pytest.mark.parametrize(
    ("estimates", "variances", "dfcom", "df", "fmi"),
    [
        ([1.5, 2, 2.5, 1.8, 2.2], [0.36, 0.44, 0.40, 0.38, 0.42], 96, 26.158177602215858, 0.350934768185176),
        ([0.1, 0.3, 0.2], [0.09, 0.11, 0.10], 48, 31.750824450444224, 0.168428757107248),
        ([0.5, 0.5005, 0.4995], [0.04] * 3, 48, 46.117262674454572, None),
        ([0.25] * 4, [0.01, 0.012, 0.011, 0.009], np.inf, np.inf, 0.0),
        ([0.25] * 4, [0.01, 0.012, 0.011, 0.009], 30, 30 * 31 / 33, None),
    ],
)
def test_degrees_of_freedom_as_in_mice(estimates, variances, dfcom, df, fmi):
    pooled = pool_scalar(estimates, variances, dfcom=dfcom)
    close(pooled.df, df)
    if fmi is not None:
        close(pooled.fmi, fmi)


@pytest.mark.parametrize(("dfcom", "df"), [(1, 0.495639147566121), (101, 98.1863703534555), (201, 197.263709795315)])
def test_degrees_of_freedom_as_in_rbmi(dfcom, df):
    lambda_ = np.array([np.sqrt(99 / 1301577.44774754)])
    close(degrees_of_freedom(lambda_, 100, dfcom, "barnard-rubin"), df)
    close(degrees_of_freedom(lambda_, 100, dfcom, "rubin"), 1301577.44774754, 1e-6)


@pytest.mark.parametrize(
    ("within", "between", "expected"),
    [
        (17.50901, 4.9135453308, {"t": 23.40526, "df": 12.20835, "riv": 0.3367555, "fmi": 0.3502976}),
        (3.706792, 2.6254225741, {"df": 6.93623, "fmi": 0.5682446}),
    ],
)  # fmt: skip
def test_the_nhanes_table_as_in_mice(within, between, expected):
    pooled = Pooled(("x",), Parts(np.zeros(1), np.array([[within]]), np.array([[between]]), 5), dfcom=22)
    found = {**pooled.to_frame().loc["x"], "t": pooled.parts.total[0, 0]}
    for name, value in expected.items():
        close(found[name], value, 1e-5)


# What must hold ---------------------------------------------------------------------------------------------------


def test_the_rest_of_the_table_follows_from_its_formulas():
    pooled = pool_scalar([1.5, 2, 2.5, 1.8, 2.2], [0.36, 0.44, 0.40, 0.38, 0.42], dfcom=96, confidence=0.9)
    row = pooled.to_frame().iloc[0]
    close(row.t, 2 / np.sqrt(0.574))
    close(row.p, 2 * stats.t.sf(row.t, row.df))
    close([row.lower, row.upper], stats.t.interval(0.9, row.df, 2, np.sqrt(0.574)))
    close(row.riv, 1.2 * 0.145 / 0.4)
    close(row.relative_efficiency, 1 / (1 + row.fmi / 5))
    close(row.monte_carlo_error, np.sqrt(0.145 / 5))
    assert "Barnard and Rubin (1999), 96 in a complete table" in repr(pooled)
    assert "take 86 draws" in repr(pooled)


def test_many_draws_need_what_von_hippel_says():
    """At a known fraction of 0.3 and a variation of 5 %: 1 + ½ (0.3 / 0.05)² = 19."""
    close(draws_needed(np.array([0.3]), 10**12), 19, 1.0)
    assert draws_needed(np.array([0.3]), 10)[0] > 19
    assert draws_needed(np.array([0.0]), 10)[0] == 2


def test_draws_without_variance_and_with_nothing_else():
    pooled = pool_scalar([1.0, 2.0, 3.0], [0.0, 0.0, 0.0])
    assert np.isinf(pooled.riv[0])
    close(pooled.lambda_, 1.0)
    close(pooled.fmi, 1.0)
    close(pooled.df, 2.0)


def test_of_exact_estimates_all_information_is_missing_and_no_more():
    pooled = pool_scalar([0.0, 0.0, 0.0, 15.0], [0.0] * 4)
    assert pooled.lambda_.tolist() == pooled.fmi.tolist() == [1.0]
    nearly = pool_scalar([0.0, 1.0], [0.0, 2e-309])
    assert nearly.to_frame()["riv"].tolist() == [np.inf]


def test_intervals_of_proper_draws_cover():
    """Normal mean with known variance, 40 of 100 missing completely at random, m = 5 draws of the missing mean: the
    interval covers 95 % of 20,000 replications to within four standard errors of that share (false alarm 6e-5).
    """
    random = np.random.default_rng(0)
    observed, draws, replications = 60, 5, 20_000
    seen = random.normal(size=(replications, 1)) / observed**0.5
    mean = seen + random.normal(size=(replications, draws)) / observed**0.5  # posterior under a flat prior
    missing = mean + random.normal(size=(replications, draws)) / 40**0.5
    estimates = (observed * seen + 40 * missing) / 100
    between = estimates.var(1, ddof=1)
    total = 1 / 100 + 1.2 * between
    df = degrees_of_freedom(1.2 * between / total, draws, np.inf, "barnard-rubin")
    covers = np.abs(estimates.mean(1)) < stats.t.ppf(0.975, df) * np.sqrt(total)
    assert abs(covers.mean() - 0.95) < 4 * np.sqrt(0.95 * 0.05 / replications)


# Several coefficients ---------------------------------------------------------------------------------------------


def draws_of(random, coefficients=3, draws=10, fraction=0.3):
    """Estimates of zero whose missing information is a known fraction, the same in every direction."""
    mean = random.normal(size=coefficients)
    estimates = mean + random.normal(size=(draws, coefficients)) * np.sqrt(fraction)
    covariances = np.broadcast_to((1 - fraction) * np.eye(coefficients), (draws, coefficients, coefficients))
    return estimates, covariances


def test_wald_of_one_coefficient_is_its_t():
    estimates, covariances = draws_of(np.random.default_rng(1), coefficients=1)
    parts = combined(estimates, covariances)
    pooled = Pooled(("x",), parts)
    test = pooled.wald()
    close(test.statistic, pooled.t**2)
    close(test.riv, pooled.riv)


def test_wald_rejects_as_often_as_it_says():
    """Under the null 5 % of 4,000 replications, to within four standard errors (false alarm 6e-5) and the half percent
    by which the F distribution is approximate.
    """
    random = np.random.default_rng(2)
    rejected = np.mean([wald(combined(*draws_of(random))).p < 0.05 for _ in range(4000)])
    assert abs(rejected - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 4000) + 0.005


def test_reiters_degrees_of_freedom_go_over_into_those_of_large_samples():
    estimates, covariances = draws_of(np.random.default_rng(3))
    parts = combined(estimates, covariances)
    large, small, tiny = (wald(parts, dfcom) for dfcom in (np.inf, 1e9, 40))
    close(small.df[1] / large.df[1], 1.0, 0.03)  # two approximations of one thing
    assert tiny.df[1] < 40


def test_a_likelihood_ratio_of_tables_that_agree_is_the_ordinary_one():
    test = likelihood_ratio(np.array([7.0, 7.0, 7.0]), 7.0, 2)
    close(test.p, stats.chi2.sf(7.0, 2))
    assert test.riv == 0


def test_a_likelihood_ratio_of_tables_that_vary_less_than_they_can_has_no_variance_below_zero():
    """Of the stacked tables the statistic can be above the mean of theirs by chance; the ordinary test is left then."""
    test = likelihood_ratio(np.array([6.0, 7.0, 6.5]), 7.0, 2)
    assert (test.riv, test.df) == (0, (2, np.inf))
    close(test.p, stats.chi2.sf(7.0, 2))


def test_a_likelihood_ratio_rejects_as_often_as_it_says():
    """Normal means with known variance: of the stacked tables the statistic is that of the mean estimate. Under the
    null 5 % of 4,000, to within four standard errors (false alarm 6e-5) and a percent of approximation.
    """
    random = np.random.default_rng(4)
    rejected = 0
    for _ in range(4000):
        estimates, covariances = draws_of(random)
        statistics = (estimates**2).sum(1) / covariances[0, 0, 0]
        stacked = (estimates.mean(0) ** 2).sum() / covariances[0, 0, 0]
        rejected += likelihood_ratio(statistics, float(stacked), 3).p < 0.05
    assert abs(rejected / 4000 - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 4000) + 0.01


# What is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"estimates": [1.0], "variances": [1.0]}, "at least 2 draws, got 1"),
        ({"variances": [1.0, -1.0]}, r"variances of draw 1: expected none below zero"),
        ({"estimates": [1.0, np.nan]}, r"estimates of draw 1: expected finite"),
        ({"variances": [1.0, 1.0, 1.0]}, r"of one shape"),
        ({"dfcom": 0}, r"dfcom: expected a number above 0"),
        ({"rule": "sas"}, r"rule: expected one of \['barnard-rubin', 'rubin'\], got 'sas'"),
        ({"confidence": 95}, r"confidence: expected a number between 0 and 1, got 95"),
        ({"names": ["a", "b"]}, r"names: expected 1"),
    ],
)
def test_what_is_no_set_of_draws_is_refused(options, message):
    arguments = {"estimates": [1.0, 2.0], "variances": [1.0, 1.0], **options}
    with pytest.raises(ValueError, match=message):
        pool_scalar(**arguments)


def test_standard_errors_alone_give_no_joint_test():
    pooled = pool_scalar(np.ones((3, 2)), np.ones((3, 2)), names=["a", "b"])
    with pytest.raises(ValueError, match="standard errors alone"):
        pooled.wald()
    with pytest.raises(ValueError, match="coefficient 'c'"):
        pooled.wald(["c"])
    assert pooled.wald(["a"]).statistic == 1.0
