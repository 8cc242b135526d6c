"""The simulated ratings: the shares and densities asked for, selection of its declared strength, honest truths."""

from __future__ import annotations

import numpy as np
import pytest

from checks import z_limit
from pyro_mnar.datasets import SyntheticRatings, synthetic_ratings


@pytest.fixture(scope="module")
def world() -> SyntheticRatings:
    return synthetic_ratings(0, shape=(2000, 80))


def test_cells_have_the_shares_that_the_cuts_name(world: SyntheticRatings) -> None:
    shares = np.bincount(world.complete.ravel(), minlength=6)[1:] / world.complete.size
    np.testing.assert_allclose(shares, [0.50, 0.18, 0.14, 0.11, 0.07], atol=1e-4)


def test_training_density_and_assignment(world: SyntheticRatings) -> None:
    assert world.propensities.mean() == pytest.approx(0.1 * (1 - 10 / 80), rel=1e-3)
    deviation = np.sqrt((world.propensities * (1 - world.propensities)).sum())
    assert abs(len(world.train) - world.propensities.sum()) < z_limit() * deviation
    assert (world.test.groupby("row").size() == 10).all() and world.test["row"].nunique() == 2000
    assigned = np.bincount(world.test["column"], minlength=80)
    assert abs(assigned - 250).max() < z_limit(80) * np.sqrt(250)
    both = world.train.merge(world.test, on=["row", "column"])
    assert both.empty


def test_ratings_are_those_of_the_complete_matrix(world: SyntheticRatings) -> None:
    for ratings in (world.train, world.test):
        assert (ratings["value"] == world.complete[ratings["row"], ratings["column"]]).all()
        assert not ratings.duplicated(["row", "column"]).any()


def test_assigned_ratings_have_the_law_of_all_and_chosen_ones_are_higher(world: SyntheticRatings) -> None:
    at = world.test["row"], world.test["column"]
    residual = world.test["value"] - world.expected[at]
    assert abs(residual.mean()) < z_limit() * residual.std() / np.sqrt(len(residual))
    # Weighted by its inverse propensity, a chosen rating counts like an assigned one.
    train, mean = world.train, world.complete.mean()
    weight = 1 / world.propensities[train["row"], train["column"]]
    terms = weight * (train["value"] - mean) / world.complete.size
    assert abs(terms.sum()) < z_limit() * np.sqrt((terms**2).sum())
    assert train["value"].mean() > mean + 0.7


def test_strength_is_the_change_of_log_odds(world: SyntheticRatings) -> None:
    """The same world without selection: propensities differ by the stars alone."""
    plain = synthetic_ratings(0, shape=(2000, 80), strength=0.0)
    assert (plain.complete == world.complete).all()
    chosen, even = (w.propensities / (1 - 10 / 80) for w in (world, plain))
    difference = np.log(chosen / (1 - chosen)) - np.log(even / (1 - even))
    by_star = [difference[world.complete == star] for star in range(1, 6)]
    assert max(np.ptp(values) for values in by_star) < 1e-9
    np.testing.assert_allclose(np.diff([values[0] for values in by_star]), 0.6)


def test_same_seed_same_world() -> None:
    one, again, other = (synthetic_ratings(seed, shape=(30, 20)) for seed in (0, 0, 1))
    assert one.train.equals(again.train) and one.test.equals(again.test)
    assert not one.test.equals(other.test)


def test_expected_rating_leaves_no_error_that_an_item_or_a_user_shares() -> None:
    world = synthetic_ratings(1, shape=(400, 300))
    error = world.complete - world.expected
    for axis in (0, 1):
        standardised = error.sum(axis) / np.sqrt((error**2).sum(axis))
        assert abs(standardised).max() < z_limit(len(standardised))
        assert abs(standardised.var() - 1) < 0.35  # not inflated, as an offset left over would make it


@pytest.mark.parametrize(("options", "message"), [
    ({"density": 0.0}, "density: expected a share above 0 and below 1, got 0.0"),
    ({"shape": (5, 10)}, "test_per_row: expected from 1 to below 10 items, got 10"),
])  # fmt: skip
def test_what_cannot_be_is_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        synthetic_ratings(0, **options)
