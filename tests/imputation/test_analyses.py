"""Whatever form an analysis has, it says the same of completed tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels
import statsmodels.api as sm
import statsmodels.formula.api as smf
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge

from checks import gina_pair, table_with_gaps
from pyro_mnar import Fit, Imputations, Table, impute, pool_frames, pool_scalar
from pyro_mnar.imputation.analyses import estimates_of, likelihood_ratio_frames

FORMULA = "y ~ x + w"


@pytest.fixture(scope="module")
def frames():
    """Six tables, of which a third of y differs."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"x": random.normal(size=60), "w": random.normal(size=60)})
    mean = 1 + 0.5 * frame.x
    frame["y"] = mean + random.normal(size=60)
    frame["b"] = (frame.y > 1).astype(int)

    def completed():
        y = np.where(np.arange(60) < 20, mean + random.normal(size=60), frame.y)
        return frame.assign(y=y, b=(y > 1).astype(int), group=random.choice(["a", "b", "c"], 60))

    return [completed() for _ in range(6)]


def by_hand(frames):
    results = [smf.ols(FORMULA, frame).fit() for frame in frames]
    return pool_scalar([r.params for r in results], [r.bse**2 for r in results], dfcom=57)


def with_matrix(frame):
    result = smf.ols(FORMULA, frame).fit()
    return result.params.to_numpy(), result.cov_params().to_numpy()


def with_labels(frame):
    result = smf.ols(FORMULA, frame).fit()
    order = ["w", "Intercept", "x"]  # another than that of the estimates
    return result.params, result.cov_params().loc[order, order]


def with_errors(frame):
    result = smf.ols(FORMULA, frame).fit()
    return result.params.to_frame(), result.bse[::-1]


def fitted_by_sklearn(frame):
    return LinearRegression().fit(frame[["x", "w"]], frame["y"])


@pytest.mark.parametrize(
    ("analysis", "options"),
    [
        (FORMULA, {}),
        (lambda frame: smf.ols(FORMULA, frame).fit(), {}),
        (lambda frame: sm.OLS(frame.y.to_numpy(), sm.add_constant(frame[["x", "w"]]).to_numpy()).fit(), {}),
        (with_matrix, {"dfcom": 57}),
        (with_labels, {"dfcom": 57}),
        (with_errors, {"dfcom": 57}),
        (fitted_by_sklearn, {"outcome": "y"}),
        ("model", {"outcome": "y"}),
    ],
)
def test_every_form_of_an_analysis_gives_the_same(frames, analysis, options):
    if analysis == "model":
        analysis = fitted_by_sklearn(frames[3])
    pooled, expected = pool_frames(frames, analysis, **options), by_hand(frames)
    np.testing.assert_allclose(pooled.to_frame().to_numpy(), expected.to_frame().to_numpy(), rtol=1e-7)
    assert pooled.dfcom == 57


def test_coefficients_keep_their_names(frames):
    for analysis in (FORMULA, with_labels, with_errors, fitted_by_sklearn):
        assert pool_frames(frames, analysis, outcome="y").names == ("Intercept", "x", "w")


def test_logistic_regressions_agree(frames):
    ours = pool_frames(
        frames, LogisticRegression(C=np.inf, tol=1e-10).fit(frames[0][["x"]], frames[0]["b"]), outcome="b"
    )
    theirs = pool_frames(frames, lambda frame: smf.logit("b ~ x", frame).fit(disp=False))
    np.testing.assert_allclose(ours.to_frame(), theirs.to_frame(), rtol=1e-3)


def test_several_outcomes_are_named_and_in_the_order_of_their_covariance(frames):
    def analysis(frame):
        return smf.mnlogit("code ~ x", frame.assign(code=frame.group.map({"a": 0, "b": 1, "c": 2}))).fit(disp=False)

    pooled, result = pool_frames(frames, analysis), analysis(frames[0])
    assert pooled.names == ("1: Intercept", "1: x", "2: Intercept", "2: x")
    read = estimates_of(result, frames[0])
    np.testing.assert_allclose(read.values, result.params.to_numpy().ravel("F"))
    np.testing.assert_allclose(np.sqrt(np.diag(read.covariance)), result.bse.to_numpy().ravel("F"))


def test_predictions_contrasts_and_marginal_effects_go_the_same_way(frames):
    new = pd.DataFrame({"x": [0.0, 1.0], "w": 0.0}, index=["low", "high"])
    predicted = pool_frames(frames, lambda frame: smf.ols(FORMULA, frame).fit().get_prediction(new))
    contrast = pool_frames(frames, lambda frame: smf.ols(FORMULA, frame).fit().t_test("x = 0"))
    coefficients = pool_frames(frames, FORMULA)
    keeps_labels = statsmodels.__version__ >= "0.15"
    assert predicted.names == (("low", "high") if keeps_labels else (0, 1))
    np.testing.assert_allclose(predicted.estimates @ [-1, 1], coefficients.estimates[1])
    np.testing.assert_allclose(predicted.standard_errors[0], coefficients.standard_errors[0])
    np.testing.assert_allclose(contrast.to_frame().to_numpy(), coefficients.to_frame().loc[["x"]].to_numpy())

    effects = pool_frames(frames, lambda frame: smf.logit("b ~ x", frame).fit(disp=False).get_margeff())
    at_one = pool_frames(frames, lambda frame: smf.logit("b ~ x", frame).fit(disp=False).get_prediction(new))
    assert effects.names == ("x",) and effects.dfcom == 58
    assert ((at_one.estimates > 0) & (at_one.estimates < 1)).all()


def test_a_function_of_the_frame_with_its_error(frames):
    pooled = pool_frames(frames, lambda frame: (frame.y.mean(), frame.y.sem()))
    means = [frame.y.mean() for frame in frames]
    np.testing.assert_allclose(pooled.estimates, np.mean(means))
    np.testing.assert_allclose(pooled.between, np.var(means, ddof=1))
    assert np.isinf(pooled.dfcom)
    assert pooled.has_covariances


def test_coefficients_are_tested_together(frames):
    full, null = pool_frames(frames, FORMULA).wald(["x", "w"]), likelihood_ratio_frames(frames, FORMULA, "y ~ 1")
    assert full.df[0] == null.df[0] == 2
    assert full.df[1] < 57
    assert abs(np.log(full.p / null.p)) < 1.5  # two tests of one thing


@pytest.mark.parametrize(
    ("analysis", "options", "error", "message"),
    [
        (lambda frame: frame.y.mean(), {}, TypeError, "alone: give its standard error too"),
        (lambda frame: frame.mean(numeric_only=True), {}, TypeError, r"Series of shape \(4,\) alone"),
        (lambda frame: {"y": 1}, {}, TypeError, "got a dict"),
        (3, {}, TypeError, "analysis: expected a formula, a function"),
        (lambda frame: ([1.0, 2.0], [1.0]), {}, ValueError, r"of 2 estimates, got \(1,\)"),
        (lambda frame: (1.0, -1.0), {}, ValueError, "standard errors: expected none below zero"),
        (lambda frame: (frame[["x"]].mean(), pd.Series({"z": 1.0})), {}, ValueError, r"of \['x'\], got \['z'\]"),
        (fitted_by_sklearn, {}, ValueError, "name the column that it predicts"),
        (lambda f: Ridge().fit(f[["x"]], f["y"]), {"outcome": "y"}, TypeError, "Ridge: expected LinearRegression"),
        (lambda f: LogisticRegression().fit(f[["x"]], f["b"]), {"outcome": "b"}, ValueError, "no penalty"),
        (lambda f: LinearRegression().fit(f[["x"]].to_numpy(), f["y"]), {"outcome": "y"}, ValueError, "named columns"),
    ],
)
def test_what_is_no_analysis_is_refused(frames, analysis, options, error, message):
    with pytest.raises(error, match=message):
        pool_frames(frames, analysis, **options)


def test_draws_with_other_coefficients_are_refused(frames):
    without = [*frames[:2], frames[2].assign(group="a")]
    with pytest.raises(ValueError, match=r"draw 2: expected the coefficients of draw 0.*'group\[T.b\]'"):
        pool_frames(without, "y ~ group")


# Of imputations ---------------------------------------------------------------------------------------------------


def imputations_of(**options):
    table = table_with_gaps()
    return impute(Fit(*gina_pair(table), table.schema), table, num_draws=5, num_particles=10, **options)


def test_imputations_pool_their_frames():
    imputations = imputations_of()
    pooled = imputations.pool("x0 ~ u0")
    expected = pool_frames(imputations.frames(), "x0 ~ u0")
    pd.testing.assert_frame_equal(pooled.to_frame(), expected.to_frame())
    assert "as if these were known" in repr(pooled)
    assert imputations.likelihood_ratio("x0 ~ x1 + u0", "x0 ~ u0").df[0] == 1


@pytest.mark.parametrize("option", [{"use_mechanism": False}, {"keep_mechanism_weight": True}])
def test_draws_that_do_not_know_of_the_mask_are_refused(option):
    with pytest.raises(ValueError, match="stays biased"):
        imputations_of(**option).pool("x0 ~ u0")
    with pytest.raises(ValueError, match="stays biased"):
        imputations_of(**option).likelihood_ratio("x0 ~ x1 + u0", "x0 ~ u0")


def test_codes_for_no_value_are_no_numbers_to_an_analysis():
    """Of rows that never had a value -97 stands in every completed frame; a regression leaves them out."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"x": random.normal(size=60)})
    frame["y"] = (10 * frame.x + random.normal(size=60)).round().astype("Int64")
    frame.loc[:9, "y"], frame.loc[50:, "y"] = pd.NA, -97
    table = Table.from_frame(frame, auxiliary=["x"], kinds="continuous", not_applicable={"y": [-97]})
    cells = np.stack(np.nonzero((~table.mask & table.applicable).numpy()))
    draws = 10 * frame.x.to_numpy()[cells[0]] + np.arange(3.0)[:, None]
    imputations = Imputations(table, cells, draws, draws.mean(0), np.full(60, np.inf))
    slopes = []
    for drawn in imputations.frames():
        assert (drawn.loc[50:, "y"] == -97).all()  # in the frames they stand as they came
        x, y = (drawn.loc[:49, name].astype(float) for name in ("x", "y"))
        slopes.append(np.polyfit(x, y, 1)[0])
    assert imputations.pool("y ~ x").estimates[1] == pytest.approx(np.mean(slopes), rel=1e-6)
    least = imputations.pool(lambda frame: (float(frame["y"].min()), 1.0)).estimates[0]
    assert least > -97
