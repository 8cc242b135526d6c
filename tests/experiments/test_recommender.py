"""The recommender experiment: every system runs, finished runs are kept, the user's files are found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pyro_mnar.baselines import RatingNetwork
from pyro_mnar.datasets import synthetic_ratings
from pyro_mnar.experiments import Task, recommender, run_experiment
from pyro_mnar.experiments.recommender_experiment import PUBLISHED, Truth, run, split


@pytest.mark.slow
def test_quick_runs_every_system_and_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run_experiment(recommender(quick=True), tmp_path, seeds=[0], progress=False)
    assert found["error"].eq("").all() and np.isfinite(found["value"]).all()
    assert set(PUBLISHED) <= set(found["system"])
    best = found[found["metric"] == "mse"].set_index("system")["value"]
    assert best.idxmin() == "truth"
    assert (
        "| GINA | " in (tmp_path / "tables.md").read_text()
        and "| 1.052 ± 0.002 |" in (tmp_path / "tables.md").read_text()
    )
    before = (tmp_path / "runs.csv").read_bytes()
    run_experiment(recommender(quick=True), tmp_path, seeds=[0], progress=False)
    assert (tmp_path / "runs.csv").read_bytes() == before


def test_slice_set_aside_is_not_tested_on() -> None:
    world = synthetic_ratings(0, shape=(40, 20))
    made = split(world, seed=0)
    assert len(made.for_propensities) == 20 and len(made.for_propensities) + len(made.test) == len(world.test)
    both = pd.concat([made.for_propensities, made.test]).sort_index()
    assert both.equals(world.test)
    assert not split(world, seed=1).for_propensities.equals(made.for_propensities)


def test_errors_are_those_of_predictions_cut_to_the_scale(tmp_path: Path) -> None:
    world = synthetic_ratings(0, shape=(40, 20))
    made = split(world, seed=0)
    found = run(Task(Truth(np.full((40, 20), 7.0)), "simulated", made, 0, tmp_path))
    assert found["bias"] == pytest.approx((5 - made.test["value"]).mean())
    assert found["mse"] == pytest.approx(((5 - made.test["value"]) ** 2).mean())


def test_the_users_files_are_found_and_networks_told_of_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    place = tmp_path / "coat"
    (place / "user_item_features").mkdir(parents=True)
    where = rng.random((290, 300))
    for part, here in (("train", where < 0.08), ("test", where > 0.95)):
        np.savetxt(place / f"{part}.ascii", rng.integers(1, 6, (290, 300)) * here, fmt="%d")
    for of, shape in (("user", (290, 14)), ("item", (300, 33))):
        np.savetxt(place / "user_item_features" / f"{of}_features.ascii", rng.integers(0, 2, shape), fmt="%d")
    experiment = recommender(folder=tmp_path)
    assert list(experiment.data) == ["Coat"] and "truth" not in [system.name for system in experiment.systems]
    told = {}

    def fit(self, train, shape, *, seed, row_features):
        told[self.name] = row_features
        return self

    monkeypatch.setattr(RatingNetwork, "fit", fit)
    monkeypatch.setattr(RatingNetwork, "predict", lambda self, rows, columns: np.ones(len(rows)))
    run_experiment(experiment.only(systems=["GINA", "PVAE"]), tmp_path / "told", seeds=[0], progress=False)
    assert told["GINA"].shape == (290, 14) and set(told) == {"GINA", "PVAE"}
    found = run_experiment(experiment.only(systems=["Oracle-test"]), tmp_path / "out", seeds=[0], progress=False)
    assert found["error"].eq("").all()
    assert found.set_index("metric")["value"]["mse"] == pytest.approx(2.0, abs=0.15)  # of 1 to 5, equally likely
    with pytest.raises(FileNotFoundError, match=r"expected files of Yahoo! R3 or Coat .* found none"):
        recommender(folder=place / "user_item_features")
