"""VAEs as predictors of ratings and of answers: the networks that the paper names, units, and less bias than ignoring
the mechanism.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_mnar import baselines
from pyro_mnar.baselines import RatingNetwork, RatingPredictor
from pyro_mnar.baselines.ratings.rating_networks import unit_table
from pyro_mnar.baselines.ratings.response_networks import response_gina, response_not_miwae, response_pvae
from pyro_mnar.datasets import synthetic_ratings
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.mechanisms import SelfMasking

ALL = [
    baselines.rating_pvae,
    baselines.rating_pvae_without_weights,
    baselines.rating_not_miwae,
    baselines.rating_gina,
]


def few_ratings(unit: float = 1.0, shift: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows, columns = np.nonzero(rng.random((12, 5)) < 0.5)
    return pd.DataFrame({"row": rows, "column": columns, "value": shift + unit * rng.integers(1, 6, len(rows))})


def weights(network: torch.nn.Module) -> list[tuple[int, ...]]:
    return [tuple(layer.weight.shape) for layer in network.modules() if isinstance(layer, torch.nn.Linear)]


@pytest.mark.parametrize("make", ALL)
def test_networks_of_ratings_are_those_of_b2(make: Any) -> None:
    predictor = make(epochs=1)
    assert isinstance(predictor, RatingPredictor)
    predictor.fit(few_ratings(), (12, 5), seed=0)
    model, guide, table = predictor.fitted.model, predictor.fitted.guide, predictor.table
    assert weights(model.decoder) == [(10, 20), (5, 10)]
    assert model.decoder.likelihood.noise.square().tolist() == pytest.approx([0.02] * 5)
    assert not model.decoder.likelihood.learned.any()
    assert guide.of_column.embedding_dim == 20 and guide.of_vector.out_features == 20
    assert table.x[table.mask].min() == 0 and table.x[table.mask].max() == 1
    assert table.aux.shape == (12, 5 if "GINA" in predictor.name else 0)
    if hasattr(model, "mechanism"):
        assert weights(model.mechanism) == [(5, 5)]


@pytest.mark.parametrize(
    ("make", "uses_features"), [(response_pvae, False), (response_not_miwae, False), (response_gina, True)]
)
def test_networks_of_answers_are_those_of_b3(make: Any, uses_features: bool) -> None:
    rng = np.random.default_rng(0)
    answers = pd.DataFrame((rng.random((9, 4)) < 0.5).astype(float)).mask(rng.random((9, 4)) < 0.4)
    features = pd.DataFrame({"age": np.arange(9.0), "gender": ["f", "m", "x"] * 3})
    system = make(epochs=1)
    table = system.table(answers, features)
    assert set(table.x[table.mask].tolist()) == {0.0, 1.0}
    assert table.aux.shape == (9, 3 if uses_features else 0)  # age, and two of three genders
    assert len(table.new_rows(table.frame.iloc[:2])) == 2
    result = system.train(table, seed=0)
    assert weights(result.model.decoder) == [(20, 50), (50, 20), (4, 50)]
    assert result.guide.of_column.embedding_dim == 10 and result.guide.of_vector.out_features == 50
    assert getattr(result.model, "mechanism_weight", 0.5) == 0.5
    with pytest.raises(ValueError, match="column 0: expected one of"):
        system.table(answers.replace(1.0, 2.0), features)


def test_miwae_is_the_same_model_with_a_zero_imputing_encoder() -> None:
    predictor = baselines.rating_miwae(epochs=1)
    assert isinstance(predictor, RatingPredictor) and predictor.fit_options["num_particles"] == 20
    predictor.fit(few_ratings(), (12, 5), seed=0)
    assert isinstance(predictor.fitted.guide, ZeroImpute) and weights(predictor.fitted.model) == [(10, 20), (5, 10)]


def test_predictions_are_in_the_units_of_the_ratings(generators_untouched: None) -> None:
    cells = np.indices((12, 5)).reshape(2, -1)
    plain, other = (
        baselines.rating_gina(epochs=2).fit(few_ratings(*units), (12, 5), seed=0).predict(*cells)
        for units in ((1.0, 0.0), (10.0, 3.0))
    )
    np.testing.assert_allclose(other, 3 + 10 * plain, rtol=1e-9)
    again = baselines.rating_gina(epochs=2).fit(few_ratings(), (12, 5), seed=1).predict(*cells)
    assert (again != plain).any()


def test_order_of_the_cells_asked_is_kept() -> None:
    predictor = baselines.rating_pvae(epochs=1).fit(few_ratings(), (12, 5), seed=0)
    rows, columns = np.array([7, 2, 7, 0]), np.array([4, 0, 1, 3])
    together = predictor.predict(rows, columns)
    rated = few_ratings().set_index(["row", "column"])["value"]
    for row, column, value in zip(rows, columns, together, strict=True):
        if (row, column) in rated.index:
            assert value == rated[row, column]
    np.testing.assert_array_equal(predictor.predict(rows[::-1], columns[::-1]), together[::-1])
    assert unit_table(few_ratings(), (12, 5), uses_mask=False).schema.columns[0].std == 4


def test_what_is_known_of_the_rows_is_u_in_place_of_the_mask() -> None:
    known = pd.DataFrame({"age": np.arange(12.0), "gender": ["f", "m", "x"] * 4}, index=list("abcdefghijkl"))
    told, ignored = (
        make(epochs=1).fit(few_ratings(), (12, 5), seed=0, row_features=known)
        for make in (baselines.rating_gina, baselines.rating_pvae)
    )
    assert told.table.schema.auxiliary_source == "named" and ignored.table.schema.auxiliary_source == "none"
    age = (known["age"] - known["age"].mean()) / known["age"].std(ddof=0)
    np.testing.assert_allclose(told.table.aux[:, 0], age)
    np.testing.assert_array_equal(told.table.aux[:, 1:], np.eye(3)[[0, 1, 2] * 4][:, 1:])
    with pytest.raises(ValueError, match="row_features: expected a line for each of 12 rows, got 11"):
        baselines.rating_gina().fit(few_ratings(), (12, 5), seed=0, row_features=known.iloc[1:])


@pytest.mark.parametrize("make", ALL)
def test_no_table_is_ever_dense(make: Any) -> None:
    predictor = make(epochs=1).fit(few_ratings(), (12, 5), seed=0, most_dense_cells=0)
    cells = np.indices((12, 5)).reshape(2, -1)
    twice = predictor.predict(*np.concatenate([cells, cells], axis=1)).reshape(2, -1)
    assert np.isfinite(twice).all() and (twice[0] == twice[1]).all()
    with pytest.raises(ValueError, match="expected at most 0 cells"):
        _ = predictor.table.x


@pytest.mark.slow
def test_less_than_half_of_the_bias_of_ignoring_the_mechanism() -> None:
    """High ratings are given; told so, GINA comes close to what randomly assigned items get."""
    world = synthetic_ratings(1, shape=(300, 20), density=0.35, strength=1.2, test_per_row=4)
    options: dict[str, Any] = {"epochs": 75, "learning_rate": 2e-2}
    ignored = bias_of(baselines.rating_pvae(**options), world)
    modelled = bias_of(baselines.rating_gina(partial(SelfMasking, sign=1), **options), world)
    assert ignored > 0.5 and abs(modelled) < ignored / 2, (ignored, modelled)


def bias_of(system: RatingNetwork, world: Any) -> float:
    system.fit(world.train, world.shape, seed=0)
    test = world.test
    return float((system.predict(test["row"].to_numpy(), test["column"].to_numpy()) - test["value"]).mean())
