"""The simulated answers: shares, levels that follow difficulty, skipping of its declared strength, honest truths."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from checks import z_limit
from pyro_mnar.datasets import ItemResponses, item_responses


@pytest.fixture(scope="module")
def world() -> ItemResponses:
    return item_responses(0, shape=(3000, 40))


def test_shares_and_truths(world: ItemResponses) -> None:
    train, given = world.train, world.propensities
    assert given.mean() == pytest.approx(0.3, rel=1e-3)
    assert abs(len(train) - given.sum()) < z_limit() * np.sqrt((given * (1 - given)).sum())
    error = (world.complete - world.expected).sum(0) / np.sqrt((world.expected * (1 - world.expected)).sum(0))
    assert (abs(error) < z_limit(40)).all()
    assert (train["value"] == world.complete[train["row"], train["column"]]).all() and world.test.empty


def test_who_is_wrong_or_weak_skips(world: ItemResponses) -> None:
    log_odds = np.log(world.propensities / (1 - world.propensities))
    of_question = log_odds - 1.5 * world.complete - 0.7 * world.ability[:, None]
    assert np.ptp(of_question, axis=0).max() < 1e-9
    skipped = np.ones(world.shape, dtype=bool)
    skipped[world.train["row"], world.train["column"]] = False
    assert world.train["value"].mean() > world.complete[skipped].mean() + 0.3


def test_levels_follow_difficulty(world: ItemResponses) -> None:
    assert world.column_features is not None
    level = world.column_features["level"]
    assert (level.value_counts() == 4).all() and set(level) == set(range(1, 11))
    assert spearmanr(world.complete.mean(0), level).statistic < -0.9


def test_students_columns_tell_of_ability(world: ItemResponses) -> None:
    about = world.row_features
    assert about is not None and len(about) == 3000
    assert np.corrcoef(about["age"], world.ability)[0, 1] > 0.4
    assert world.ability[about["premium"] == 1].mean() < world.ability[about["premium"] == 0].mean() - 0.3


def test_same_seed_same_world() -> None:
    one, again, other = (item_responses(seed, shape=(30, 20)) for seed in (0, 0, 1))
    assert one.train.equals(again.train) and (one.ability == again.ability).all()
    assert not one.train.equals(other.train)


@pytest.mark.parametrize(("options", "message"), [
    ({"answered": 1.0}, "answered: expected a share above 0 and below 1, got 1.0"),
    ({"shape": (50, 5)}, "num_levels: expected from 1 to 5, the number of questions, got 10"),
])  # fmt: skip
def test_what_cannot_be_is_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        item_responses(0, **options)
