"""The education experiment: what is kept apart, every system runs, what is scored."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pyro_mnar.datasets import Ratings, item_responses
from pyro_mnar.experiments import Task, education, run_experiment
from pyro_mnar.experiments.education_experiment import KnownTruth, Outcome, ShareCorrect, run, split


@pytest.mark.slow
def test_quick_runs_every_system_and_resumes(tmp_path: Path) -> None:
    found = run_experiment(education(quick=True), tmp_path, seeds=[0], progress=False)
    assert found["error"].eq("").all()
    errors = found[found["metric"].isin(["debiased_mse", "debiased_mse_skipped"])]
    assert errors["value"].between(0, 1).all() and len(errors) == 2 * found["system"].nunique()
    assert "| 0.188 ± 0.001 |" in (tmp_path / "tables.md").read_text()
    before = (tmp_path / "runs.csv").read_bytes()
    run_experiment(education(quick=True), tmp_path, seeds=[0], progress=False)
    assert (tmp_path / "runs.csv").read_bytes() == before


def test_students_and_answers_are_kept_apart() -> None:
    world = item_responses(0, shape=(300, 20))
    exam = split(world, pd.Series(range(20)), seed=0)
    assert exam.answers.shape == (270, 20) and exam.kept_out.shape == (30, 20)
    answered = exam.answers.notna().to_numpy()
    assert not (exam.hidden & ~answered).any()
    assert exam.hidden.sum() / answered.sum() == pytest.approx(0.1, abs=0.03)
    assert exam.skipped is not None and (np.isnan(exam.skipped) == answered).all()
    assert exam.kept_out.notna().all().all()  # every answer is known, so any question can be asked


def test_of_real_students_only_answered_questions_are_asked() -> None:
    world = item_responses(0, shape=(200, 12))
    real = Ratings(world.train, world.test, world.shape, world.row_labels, world.column_labels, world.row_features)
    exam = split(real, pd.Series(range(12)), seed=0)
    assert exam.skipped is None and exam.expected is None
    asked = ShareCorrect(5).examine(exam, seed=0).questions
    for student, questions in asked.iterrows():
        named = questions.dropna()
        assert exam.kept_out.loc[student, named].notna().all() and named.is_unique
        assert len(named) == min(5, exam.kept_out.loc[student].notna().sum())
    with pytest.raises(ValueError, match="expected a simulated world"):
        KnownTruth(5).examine(exam, seed=0)


def test_files_of_eedi_give_a_table_without_what_only_a_world_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = item_responses(0, shape=(80, 10), answered=0.5)
    real = Ratings(world.train, world.test, world.shape, world.row_labels, world.column_labels, world.row_features)
    monkeypatch.setattr(import_module("pyro_mnar.experiments.education_experiment"), "eedi", lambda folder: real)
    experiment = education(folder=tmp_path, quick=True)
    assert list(experiment.data) == ["Eedi"] and "debiased_mse_skipped" not in experiment.metrics
    found = run_experiment(experiment.only(systems=["GINA"]), tmp_path, seeds=[0], progress=False)
    assert found["error"].eq("").all() and set(found["metric"]) == set(experiment.metrics)
    levels = experiment.data["Eedi"](0).levels
    share = world.train.groupby("column")["value"].mean()
    assert levels.between(1, 10).all() and share.corr(levels, method="spearman") < -0.99


def test_scores_by_hand(tmp_path: Path) -> None:
    world = item_responses(1, shape=(50, 10))
    exam = split(world, pd.Series(range(10)), seed=0)

    class Sure:
        name = "sure"

        def examine(self, exam: object, *, seed: int) -> Outcome:
            return Outcome(np.ones((45, 10)), np.zeros((45, 10)), pd.DataFrame([[0, 9]] * 5, dtype=object))

    found = run(Task(Sure(), "simulated", exam, 0, tmp_path))
    set_apart = exam.answers.where(exam.hidden)
    assert found["debiased_mse"] == pytest.approx((1 - set_apart).mean().mean())
    assert found["debiased_mse_skipped"] == pytest.approx(np.nanmean(exam.skipped, axis=0).mean())
    first = exam.kept_out[0]
    assert np.isnan(found["after_correct"]) if not (first == 1).any() else found["after_correct"] == 9
