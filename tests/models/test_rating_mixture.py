"""CPT-v and Logit-vd: the likelihood against brute force, and recovery from ratings drawn from themselves."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO

from pyro_mnar.baselines import OracleTest, RatingMixture, RatingPredictor, cpt_v, logit_vd
from pyro_mnar.models.rating_mixture import CPTv, LogitVD, RatedRows


@pytest.mark.parametrize("model_class", [CPTv, LogitVD])
def test_enumerated_likelihood_is_the_sum_over_classes_and_unseen_levels(
    model_class: type[CPTv], own_store: None
) -> None:
    """Three items of three levels, two classes: every class and every completion of every row, by hand."""
    model = model_class(3, 3, num_classes=2)
    drawn = poutine.trace(model.latents).get_trace()
    at = {name: site["value"] for name, site in drawn.nodes.items() if site["type"] == "sample"}
    outcomes = torch.tensor(list(product(range(4), repeat=3)))  # 3 is a gap
    given = torch.sigmoid(model.log_odds(at)).expand(3, 3)
    total = torch.zeros(())
    for row in outcomes.tolist():
        probability = torch.zeros(())
        for z in range(2):
            for x in product(range(3), repeat=3):
                if any(seen not in (3, level) for seen, level in zip(row, x, strict=True)):
                    continue
                term = at["shares"][z]
                for d, (seen, level) in enumerate(zip(row, x, strict=True)):
                    rated = given[d, level]
                    term = term * at["levels"][z, d, level] * (1 - rated if seen == 3 else rated)
                probability = probability + term
        total = total + probability.log()
    drawn.compute_log_prob()
    conditioned = poutine.condition(model, at)
    loss = TraceEnum_ELBO(max_plate_nesting=2).loss(conditioned, lambda data: None, RatedRows(outcomes, len(outcomes)))
    assert -loss - drawn.log_prob_sum().item() == pytest.approx(total.item(), abs=1e-9)
    # All outcomes of a row together have probability one.
    assert pyro.distributions.Categorical(logits=model.outcome_log_probs(at)).probs.sum().item() == pytest.approx(6.0)
    torch.testing.assert_close(model.outcome_log_probs(at).exp().sum(-1), torch.ones(2, 3))


def simulated(of_column: np.ndarray, num_rows: int = 1500) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    tables = rng.dirichlet(np.full(5, 0.5), size=(2, len(of_column)))
    z = rng.integers(2, size=num_rows)
    x = np.array([[rng.choice(5, p=tables[k, d]) for d in range(len(of_column))] for k in z])
    mu = 1 / (1 + np.exp(-(np.array([-2.0, -1.5, -0.5, 0.5, 1.5]) + of_column[:, None])))
    rows, columns = np.nonzero(rng.uniform(size=x.shape) < mu[np.arange(len(of_column)), x])
    return pd.DataFrame({"row": rows, "column": columns, "value": 1.0 + x[rows, columns]}), 1.0 + x, mu


@pytest.mark.slow
@pytest.mark.parametrize(
    ("predictor", "of_column", "num_rows"),
    [
        (cpt_v(num_classes=2), np.zeros(12), 1500),
        # Much more to learn from the same ratings: at 1,500 rows the errors reach 0.2.
        (logit_vd(num_classes=2, steps=1000), np.tile([-0.7, 0.7], 6), 6000),
    ],
    ids=["CPT-v", "Logit-vd"],
)
def test_recovers_from_itself(predictor: RatingMixture, of_column: np.ndarray, num_rows: int) -> None:
    """P(rated | level) and the mean of all ratings within 0.1, where the mean of the given ones is off by 0.5."""
    train, x, mu = simulated(of_column, num_rows)
    predictor.fit(train, x.shape, seed=0)
    assert np.abs(predictor.rated - mu).max() < 0.1, predictor.rated
    rows, columns = np.indices(x.shape).reshape(2, -1)
    assert train["value"].mean() - x.mean() > 0.5
    assert abs(predictor.predict(rows, columns).mean() - x.mean()) < 0.1


@pytest.mark.slow
def test_gaps_are_predicted_lower_when_known_to_be_left_out() -> None:
    train, x, _ = simulated(np.zeros(12))
    options = {"num_classes": 2, "steps": 100}
    rows, columns = np.indices((20, 12)).reshape(2, -1)
    asked, left_out = (
        cpt_v(use_mechanism=use, **options).fit(train, x.shape, seed=0).predict(rows, columns) for use in (False, True)
    )
    assert (left_out < asked).all()


def test_oracle_is_the_mean_of_the_test_ratings() -> None:
    test = pd.DataFrame({"row": [0, 1], "column": [0, 0], "value": [1.0, 4.0]})
    oracle = OracleTest(test).fit(test, (2, 1), seed=0)
    assert isinstance(oracle, RatingPredictor)
    assert oracle.predict(np.array([0, 1, 1]), np.array([0, 0, 0])).tolist() == [2.5, 2.5, 2.5]
