"""Table 2's measures: the debiased error by hand, changes of level by hand, and which of the tests keeps its level."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pyro_mnar.acquisition.question_order import clustered_p_value, level_changes
from pyro_mnar.experiments.metrics import debiased_mse

LEVELS = pd.Series({"a": 1, "b": 3, "c": 7, "d": 4})
ANSWERS = pd.DataFrame({"a": [1, 0], "b": [0, 1], "c": [1, np.nan], "d": [0, 1]}, index=["x", "y"])


def test_debiased_mse_is_the_mean_of_the_columns_errors() -> None:
    truth, predicted = np.array([1.0, 1.0, 1.0, 0.0]), np.array([0.0, 1.0, 1.0, 0.5])
    assert debiased_mse(truth, predicted, ["a", "a", "a", "b"]) == pytest.approx((1 / 3 + 0.25) / 2)
    assert debiased_mse(truth, predicted, [7, 7, 7, 7]) == pytest.approx(1.25 / 4)
    with pytest.raises(ValueError, match=r"got shapes \(4,\), \(4,\) and \(2,\)"):
        debiased_mse(truth, predicted, [0, 1])


def test_changes_by_hand() -> None:
    questions = pd.DataFrame([["a", "b", "c", "d"], ["d", "a", "b", None]], index=["x", "y"], columns=[1, 2, 3, 4])
    found = level_changes(questions, ANSWERS, LEVELS)
    # x: +2 after a correct, +4 after b wrong, -3 after c correct; y: -3 after d correct, +2 after a wrong.
    correct, wrong = np.array([2.0, -3.0, -3.0]), np.array([4.0, 2.0])
    assert found.after_correct == pytest.approx(correct.mean()) and found.after_incorrect == wrong.mean()
    assert found.after_correct_error == pytest.approx(stats.sem(correct))
    assert found.p_value == pytest.approx(stats.ttest_ind(correct, wrong, equal_var=False).pvalue)
    assert found.steps == 5


def test_clustered_variance_is_the_sum_over_clusters_written_out() -> None:
    rng = np.random.default_rng(0)
    cluster = rng.integers(6, size=30)
    x, y = rng.normal(size=30), rng.normal(size=30)
    design = np.stack([np.ones(30), x], axis=1)
    inverse = np.linalg.inv(design.T @ design)
    slope = (inverse @ design.T @ y)[1]
    residual = y - design @ inverse @ design.T @ y
    meat = np.zeros((2, 2))
    for g in range(6):
        for i in np.flatnonzero(cluster == g):
            for j in np.flatnonzero(cluster == g):
                meat += residual[i] * residual[j] * np.outer(design[i], design[j])
    variance = 6 / 5 * 29 / 28 * (inverse @ meat @ inverse)[1, 1]
    assert clustered_p_value(y, x, cluster) == pytest.approx(2 * stats.t.sf(abs(slope) / np.sqrt(variance), 5))


def test_only_the_clustered_test_keeps_its_level_where_students_differ() -> None:
    """No effect, but able students answer correctly and have large changes of their own: 400 data sets at 5 %."""
    rng = np.random.default_rng(0)
    rejected = np.zeros(2)
    for _ in range(400):
        student = np.repeat(np.arange(40), 10)
        x = (rng.random(400) < rng.beta(0.5, 0.5, size=40)[student]).astype(float)
        y = 2 * rng.normal(size=40)[student] + rng.normal(size=400)
        naive = stats.ttest_ind(y[x == 1], y[x == 0], equal_var=False).pvalue
        rejected += np.array([naive, clustered_p_value(y, x, student)]) < 0.05
    naive, clustered = rejected / 400
    assert naive > 0.25
    # CR1 rejects a little too often with 40 clusters (Cameron & Miller 2015, section VI).
    assert clustered < 0.05 + 0.02 + 4 * np.sqrt(0.07 * 0.93 / 400)


def test_questions_at_random_show_the_effect_too() -> None:
    """Answers by difficulty alone, any order: levels rise after a correct answer, for easy ones are answered so."""
    rng = np.random.default_rng(0)
    names = [f"q{j}" for j in range(30)]
    levels = pd.Series(rng.permutation(30), index=names)
    answers = pd.DataFrame((rng.random((200, 30)) > levels.to_numpy() / 30).astype(int), columns=names)
    questions = pd.DataFrame([rng.permutation(names)[:8] for _ in range(200)], dtype=object)
    found = level_changes(questions, answers, levels)
    assert found.after_correct > 3 and found.after_incorrect < -3 and found.p_value_clustered < 1e-6


def test_too_few_changes_give_no_test() -> None:
    found = level_changes(pd.DataFrame([["a", "b"]], index=["x"]), ANSWERS, LEVELS)
    assert (
        found.after_correct == 2.0 and np.isnan([found.after_incorrect, found.p_value, found.after_correct_error]).all()
    )


@pytest.mark.parametrize(
    ("questions", "message"),
    [
        (pd.DataFrame([["a"]], index=["z"]), "expected a line for every student, got none for 'z'"),
        (pd.DataFrame([["e"]], index=["x"]), "question 'e': expected a level"),
        (pd.DataFrame([["c"]], index=["y"]), "expected 0 or 1 for every question asked, got another value or a gap"),
    ],
)
def test_what_does_not_fit_is_refused(questions: pd.DataFrame, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        level_changes(questions, ANSWERS, LEVELS)
