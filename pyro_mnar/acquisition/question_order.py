"""Does the next question get harder after a correct answer, and easier after a wrong one (section 6.3, Table 2)?

For the question asked at step t + 1 of a student, the change is its level less that of step t; changes are split by
whether the answer at step t was correct.

Two cautions.  A student's steps are no independent observations, so a test over all of them finds too much; one that
takes the student for the unit stands beside it.  And questions asked *at random* have the effect too: a correct answer
is likelier to an easy question, after which any question is harder on average.  Compare with the random policy.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import NDArray
from scipy import stats


class LevelChanges(NamedTuple):
    """Changes of level from one question to the next.

    Attributes:
        after_correct: Mean change after a correct answer, in levels.
        after_correct_error: Its standard error over steps, as Table 2 gives it.
        after_incorrect: The same after a wrong one.
        after_incorrect_error: Its standard error.
        p_value: Of a two-sided t-test (Welch's) over steps, as if these were independent.
        p_value_clustered: Of the same difference with errors that a student's steps share, see
            :func:`clustered_p_value`.
        steps: Number of changes after correct and wrong answers together.
    """

    after_correct: float
    after_correct_error: float
    after_incorrect: float
    after_incorrect_error: float
    p_value: float
    p_value_clustered: float
    steps: int


def level_changes(questions: pd.DataFrame, answers: pd.DataFrame, levels: pd.Series) -> LevelChanges:
    """Changes of level after correct and wrong answers.

    Args:
        questions: Names of the questions asked, in order, None where a student had none left; students × steps
            (``InformationCurve.questions``).
        answers: Of the same students, to all questions by name: 1 if correct, 0 if not.
        levels: Level of each question, by name.

    Returns:
        Means and tests; NaN where there are too few changes for one.

    Raises:
        ValueError: If a question has no level, a student no answers, or an answer to a question that was asked is
            neither 0 nor 1.
    """
    absent = questions.index.difference(answers.index)
    if len(absent):
        raise ValueError(f"answers: expected a line for every student, got none for {absent[0]!r}")
    asked = questions.notna().to_numpy()
    names = pd.unique(questions.to_numpy()[asked])
    for given, kind in ((levels.index, "a level"), (answers.columns, "answers")):
        unknown = [name for name in names if name not in given]
        if unknown:
            raise ValueError(f"question {unknown[0]!r}: expected {kind} for every question asked, got none")
    level, correct = np.full(asked.shape, np.nan), np.full(asked.shape, np.nan)
    codes = pd.Index(answers.columns).get_indexer(questions.to_numpy()[asked])
    of_student = np.nonzero(asked)[0]
    level[asked] = levels[answers.columns[codes]].to_numpy(dtype=np.float64)
    correct[asked] = answers.loc[questions.index].to_numpy(dtype=np.float64)[of_student, codes]
    if not np.isin(correct[asked], (0.0, 1.0)).all():
        raise ValueError("answers: expected 0 or 1 for every question asked, got another value or a gap")

    changes = level[:, 1:] - level[:, :-1]
    student, step = np.nonzero(asked[:, 1:] & asked[:, :-1])
    change, was_correct = changes[student, step], correct[student, step] == 1
    after, wrong = change[was_correct], change[~was_correct]
    clustered = clustered_p_value(change, was_correct.astype(np.float64), student)
    return LevelChanges(*_mean(after), *_mean(wrong), _welch(after, wrong), clustered, len(change))


def clustered_p_value(
    y: Float[NDArray, " observations"], x: Float[NDArray, " observations"], cluster: NDArray[np.int_]
) -> float:
    """Two-sided p-value of the slope of y on x, with errors that a cluster's observations may share (CR1).

    Args:
        y: Response.
        x: Regressor; there is an intercept beside it.
        cluster: Which cluster each observation belongs to.

    Returns:
        The p-value by t with one degree of freedom less than there are clusters; NaN where x does not vary, y
        does not vary about the line, or there is one cluster.

    References:
        Cameron & Miller (2015), A practitioner's guide to cluster-robust inference, section II.
    """
    design = np.stack([np.ones_like(x), x], axis=1)
    clusters, group = np.unique(cluster, return_inverse=True)
    count, groups = len(y), len(clusters)
    if count < 3 or np.ptp(x) == 0 or groups < 2:
        return np.nan
    bread = np.linalg.inv(design.T @ design)
    coefficients = bread @ design.T @ y
    scores = np.zeros((groups, 2))
    np.add.at(scores, group, design * (y - design @ coefficients)[:, None])
    correction = groups / (groups - 1) * (count - 1) / (count - 2)
    variance = correction * (bread @ scores.T @ scores @ bread)[1, 1]
    if variance <= 0:
        return np.nan
    return float(2 * stats.t.sf(abs(coefficients[1]) / np.sqrt(variance), groups - 1))


def _welch(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    if min(len(one), len(other)) < 2 or np.ptp(one) == np.ptp(other) == 0:
        return np.nan
    moments = [moment for values in (one, other) for moment in (values.mean(), values.std(ddof=1), len(values))]
    return float(stats.ttest_ind_from_stats(*moments, equal_var=False).pvalue)


def _mean(values: NDArray[np.float64]) -> tuple[float, float]:
    if not len(values):
        return np.nan, np.nan
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.nan
