"""A trial's report holds its counts, its assumptions in words and its results, and says what it lacks."""

from __future__ import annotations

import jaxtyping
import numpy as np
import pandas as pd
import pytest

from pyro_mnar import impute_trial, report_trial, tipping_point

OPTIONS = {"arm": "arm", "control": "placebo", "outcome": ["week2", "week4"], "covariates": ["baseline"]}


@pytest.fixture(scope="module")
def trial() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"arm": ["drug", "placebo"] * 20, "baseline": rng.normal(size=40)})
    frame[["week2", "week4"]] = rng.normal(size=(40, 2)) - (frame.arm == "drug").to_numpy()[:, None]
    frame.loc[frame.index[:7], "week4"] = np.nan
    frame.loc[7, "week2"] = np.nan
    return frame


def effect(frame: pd.DataFrame) -> tuple[pd.Series, float]:
    drug, placebo = (frame.week4[frame.arm == arm] for arm in ("drug", "placebo"))
    error = (drug.var() / len(drug) + placebo.var() / len(placebo)) ** 0.5
    return pd.Series({"drug - placebo": drug.mean() - placebo.mean()}), error


def test_it_holds_counts_assumptions_results_and_the_tipping_point(trial: pd.DataFrame) -> None:
    drawn = {
        "primary": impute_trial(trial, reference="jump", num_draws=5, **OPTIONS),
        "worse": impute_trial(trial, delta={"drug": 1.5}, num_draws=5, **OPTIONS),
    }
    pooled = {name: given.pool(effect) for name, given in drawn.items()}
    tip = tipping_point(effect, drawn["primary"], "drug", 0.0, between=(0, 5))
    page = report_trial(
        drawn, pooled=pooled, tipping=tip, seeds={"imputation": 0}, estimand={"population": "as randomised"}
    )
    assert [section.title for section in page.sections] == [
        "Estimands", "Follow-up", "Computation", "Pooled results", "Sensitivity"
    ]  # fmt: skip
    text = page.to_markdown()
    assert "40 patients, 2 visits; 7 (17.5%) left before the last visit, 0 of them before any; 1 gaps lie" in text
    assert "| drug | 20 | 20 | 16 |" in text and "| placebo | 20 | 19 | 17 |" in text and "as randomised" in text
    assert "primary: after dropout the control arm's mean, at once." in text
    assert "worse: after dropout as others of the own arm who had been alike until then; 4 values moved by 1.5" in text
    assert f"{pooled['primary'].estimates[0]:.4g}" in text
    assert page.to_html().count("<img") == 3  # courses, both results, the tipping point


def test_what_is_not_given_is_said_and_what_does_not_fit_is_refused(trial: pd.DataFrame) -> None:
    drawn = impute_trial(trial, num_draws=2, **OPTIONS)
    text = report_trial(drawn).to_markdown()
    for function in ("imputations.pool", "reference=...", "tipping_point", "estimand="):
        assert function in text.split("Not reported here")[1]
    other = impute_trial(trial.assign(week2=1.0 + trial.week2), num_draws=2, **OPTIONS)
    with pytest.raises(ValueError, match="expected one trial under several assumptions, got another one in 'b'"):
        report_trial({"a": drawn, "b": other})
    with pytest.raises(ValueError, match=r"pooled: expected names among \['a'\], got 'c'"):
        report_trial({"a": drawn}, pooled={"c": drawn.pool(effect)})
    with pytest.raises(ValueError, match=r"estimand: expected attributes among .*, got 'dropout'"):
        report_trial(drawn, estimand={"dropout": "none"})
    jaxtyping.config.update("jaxtyping_disable", True)  # as users have it: no type checker stands before the message
    with pytest.raises(TypeError, match="expected those of impute_trial, got DataFrame"):
        report_trial(trial)  # pyright: ignore[reportArgumentType]
