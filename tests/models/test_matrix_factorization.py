"""Matrix factorisation against closed forms, an independent ALS and ratings drawn from itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from pyro import poutine
from scipy import stats
from scipy.special import expit

from checks import check_mean, z_limit
from pyro_mnar.baselines import RatingPredictor, logistic_propensities, naive_bayes_propensities
from pyro_mnar.baselines.ratings.factorization import (
    Training,
    deconfounded_pmf,
    ipw_pmf,
    mean_field,
    pmf,
    pmf_mar,
    pmf_mnar,
)
from pyro_mnar.models.matrix_factorization import PMF, Cells, NonRandomPMF

FAST = Training(steps=600)


def ratings(x: np.ndarray, mask: np.ndarray) -> pd.DataFrame:
    rows, columns = np.nonzero(mask)
    return pd.DataFrame({"row": rows, "column": columns, "value": x[mask]})


def everywhere(predictor: RatingPredictor, shape: tuple[int, int]) -> np.ndarray:
    rows, columns = np.indices(shape).reshape(2, -1)
    return predictor.predict(rows, columns).reshape(shape)


def low_rank(seed: int, shape: tuple[int, int] = (40, 15)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(shape[0], 2)) @ rng.normal(size=(2, shape[1])) + 0.3 * rng.normal(size=shape)
    return (x - x.mean()) / x.std()


class TestPMF:
    @pytest.mark.slow
    def test_complete_matrix_gives_shrunk_singular_values(self) -> None:
        """MAP of a complete matrix: singular values less (noise/scale)², in closed form."""
        x = low_rank(0)
        model = pmf(latent_dim=15, noise=1.0, scale=0.5, offset_scale=0.0, training=Training(steps=2000))
        found = everywhere(model.fit(ratings(x, np.ones_like(x, dtype=bool)), x.shape, seed=0), x.shape)
        left, singular, right = np.linalg.svd(x, full_matrices=False)
        np.testing.assert_allclose(found, (left * np.maximum(singular - 4.0, 0)) @ right, atol=2e-3)

    @pytest.mark.slow
    def test_gaps_agree_with_alternating_least_squares(self) -> None:
        x, rng = low_rank(1), np.random.default_rng(1)
        mask = rng.uniform(size=x.shape) < 0.6
        x = (x - x[mask].mean()) / x[mask].std()
        model = pmf(latent_dim=2, noise=0.5, scale=1.0, offset_scale=0.0, training=Training(steps=2000))
        found = everywhere(model.fit(ratings(x, mask), x.shape, seed=0), x.shape)
        u, v = rng.normal(size=(40, 2)), rng.normal(size=(15, 2))
        for _ in range(500):
            for one, other, seen, values in ((u, v, mask, x), (v, u, mask.T, x.T)):
                for i, (given, row) in enumerate(zip(seen, values, strict=True)):
                    gram = other[given].T @ other[given] + 0.25 * np.eye(2)
                    one[i] = np.linalg.solve(gram, other[given].T @ row[given])
        np.testing.assert_allclose(found, u @ v.T, atol=5e-3)

    @pytest.mark.slow
    def test_minibatches_and_mean_field_recover_the_matrix(self) -> None:
        truth = low_rank(2, (80, 40))
        mask = np.random.default_rng(2).uniform(size=truth.shape) < 0.5
        for guide, training in (
            ({"guide": mean_field}, FAST),
            ({}, Training(steps=1000, batch_size=300, learning_rate=0.02)),
        ):
            model = pmf(latent_dim=2, noise=0.3, training=training, **guide)
            found = everywhere(model.fit(ratings(truth, mask), truth.shape, seed=0), truth.shape)
            assert np.sqrt(np.mean((found - truth)[~mask] ** 2)) < 0.35  # noise is 0.2, the columns' spread 1

    def test_same_seed_same_predictions(self, generators_untouched: None) -> None:
        x = low_rank(0)
        found = [
            everywhere(pmf(training=Training(steps=5)).fit(ratings(x, x > 0), x.shape, seed=seed), x.shape)
            for seed in (0, 0, 1)
        ]
        assert (found[0] == found[1]).all() and (found[0] != found[2]).any()

    def test_wrong_ratings_are_refused(self) -> None:
        x = ratings(low_rank(0), np.ones((40, 15), dtype=bool))
        with pytest.raises(ValueError, match="column 'column': expected codes from 0 to 9, got 0 to 14"):
            pmf().fit(x, (40, 10), seed=0)
        with pytest.raises(ValueError, match="several in row 0, column 0"):
            pmf().fit(pd.concat([x, x]), (40, 15), seed=0)


class TestInversePropensities:
    @pytest.mark.slow
    def test_known_propensities_are_unbiased_where_pmf_is_not(self) -> None:
        """Mean rating of all cells over 15 masks; high values are rated more often."""
        x = np.random.default_rng(0).normal(3.0, 1.0, size=(50, 40))
        probability = expit(-1.0 + 1.0 * (x - 3.0))
        errors = {"IPW-PMF": [], "PMF": []}
        for seed in range(15):
            mask = np.random.default_rng([1, seed]).uniform(size=x.shape) < probability
            train = ratings(x, mask)
            known = probability[mask]
            training = Training(steps=60)
            for model in (
                ipw_pmf(lambda train, shape, known=known: known, training=training, latent_dim=0, offset_scale=0.01),
                pmf(training=training, latent_dim=0, offset_scale=0.01),
            ):
                errors[model.name].append(everywhere(model.fit(train, x.shape, seed=0), x.shape).mean() - x.mean())
        # Weights are normalised, so a bias of order one over the number of ratings is left, far below the error.
        assert abs(stats.ttest_1samp(errors["IPW-PMF"], 0.0).statistic) < z_limit()
        assert abs(np.mean(errors["IPW-PMF"])) < 0.03
        assert np.mean(errors["PMF"]) > 0.4

    def test_weighted_likelihood_is_that_of_the_complete_ratings_on_average(self) -> None:
        rng = np.random.default_rng(0)
        x = torch.from_numpy(rng.normal(1.0, 1.0, size=(8, 6)))
        probability = torch.sigmoid(x)
        model = PMF((8, 6), latent_dim=2, scale=0.1, offset_scale=0.1)
        rows, columns = (torch.from_numpy(cells) for cells in np.indices((8, 6)).reshape(2, -1))
        cells = Cells(rows, columns, x.reshape(-1), 1 / probability.reshape(-1), 48)
        latents = model.latents(cells.values)

        def likelihood(given: Cells) -> torch.Tensor:
            run = poutine.trace(poutine.condition(model, latents)).get_trace(given)
            run.compute_log_prob()
            return run.nodes["ratings"]["log_prob_sum"]

        complete = likelihood(Cells(rows, columns, x.reshape(-1), torch.ones(48), 48))
        weighted, plain = [], []
        for _ in range(400):
            seen = torch.nonzero(torch.bernoulli(probability.reshape(-1)))[:, 0]
            part = replace(cells.take(seen), size=len(seen))
            weighted.append(likelihood(part))
            plain.append(likelihood(replace(part, weights=torch.ones(len(seen)))) * 48 / len(seen))
        check_mean(torch.stack(weighted), complete)
        with pytest.raises(AssertionError):
            check_mean(torch.stack(plain), complete)

    def test_naive_bayes_recovers_propensities_of_levels(self) -> None:
        rng = np.random.default_rng(0)
        x = rng.integers(1, 6, size=(300, 100)).astype(float)
        true = np.array([0.02, 0.04, 0.1, 0.2, 0.4])
        mask = rng.uniform(size=x.shape) < true[x.astype(int) - 1]
        asked = rng.uniform(size=x.shape) < 0.1
        found = naive_bayes_propensities(ratings(x, asked))(ratings(x, mask), x.shape)
        np.testing.assert_allclose(found, true[x[mask].astype(int) - 1], rtol=0.15)

    def test_logistic_recovers_propensities_of_rows_and_columns(self) -> None:
        rng = np.random.default_rng(0)
        probability = expit(-1.0 + rng.normal(size=(200, 1)) + rng.normal(size=(1, 150)))
        mask = rng.uniform(size=probability.shape) < probability
        found = logistic_propensities(ratings(probability, mask), mask.shape)
        assert np.mean(np.abs(found - probability[mask])) < 0.05


@pytest.mark.slow
def test_deconfounder_recovers_exposure_and_what_it_does_to_ratings() -> None:
    """x = 2·(π·λ) + noise, and no factors but the exposure's: rates correlate by 0.7, RMSE of the gaps falls by 20%."""
    rng = np.random.default_rng(0)
    pi, lam = rng.gamma(1.0, 1.0, size=(150, 2)), rng.gamma(1.0, 0.25, size=(80, 2))
    exposure = pi @ lam.T
    mask = rng.poisson(exposure) > 0
    x = 2.0 * exposure + 0.3 * rng.normal(size=(150, 80))
    plain = pmf(latent_dim=0, noise=0.5, training=FAST)
    deconfounded = deconfounded_pmf(latent_dim=0, exposure_dim=2, noise=0.5, training=FAST)
    rmse = {}
    for model in (plain, deconfounded):
        found = everywhere(model.fit(ratings(x, mask), x.shape, seed=0), x.shape)
        rmse[model.name] = np.sqrt(np.mean((found - x)[~mask] ** 2))
    rates = (deconfounded.model.row_exposure @ deconfounded.model.column_exposure.T).numpy()
    correlation = np.corrcoef(rates.ravel(), exposure.ravel())[0, 1]
    assert correlation > 0.7 and rmse["Deconfounded-PMF"] < 0.8 * rmse["PMF"], (correlation, rmse)


@pytest.mark.slow
def test_modelled_mask_recovers_the_mean_that_pmf_mar_misses() -> None:
    """Levels 1 to 5, drawn from the model; the higher the level the likelier it is rated."""
    rng = np.random.default_rng(0)
    shape = (200, 60)
    x = rng.normal(size=(200, 2)) @ rng.normal(size=(2, 60)) + rng.logistic(size=shape)
    levels = 1.0 + (x[..., None] > np.array([-2.0, -0.7, 0.7, 2.0])).sum(-1)
    mask = rng.uniform(size=shape) < expit(-3.0 + 1.0 * (levels - 1))
    bias = {}
    for model in (
        pmf_mar(5, latent_dim=2, training=Training(steps=150), guide=mean_field),
        pmf_mnar(5, latent_dim=2, training=Training(steps=150), guide=mean_field),
    ):
        found = everywhere(model.fit(ratings(levels, mask), shape, seed=0), shape)
        bias[model.name] = (found - levels).mean()
    assert bias["PMF-MAR"] > 0.4
    assert abs(bias["PMF-MNAR"]) < 0.5 * bias["PMF-MAR"], bias


def test_not_rated_cells_have_the_sum_over_levels() -> None:
    """The likelihood of a gap against direct enumeration."""
    model = NonRandomPMF((3, 2), 4, latent_dim=1)
    cell = Cells(torch.tensor([2]), torch.tensor([1]), torch.ones(1), torch.ones(1), 1)
    trace = poutine.trace(model).get_trace(cell, cell)
    at = {name: site["value"] for name, site in trace.nodes.items() if site["type"] == "sample"}
    levels = model.level_log_probs(at, cell.rows, cell.columns)[0].exp()
    rated = torch.sigmoid(model.log_odds(at, cell.rows, cell.columns)[0])
    assert levels.sum() == pytest.approx(1.0)
    trace.compute_log_prob()
    assert trace.nodes["not_rated"]["log_prob"].exp().item() == pytest.approx((levels * (1 - rated)).sum().item())
    assert trace.nodes["rated"]["log_prob"].exp().item() == pytest.approx(rated[1].item())


def test_a_nearly_full_table_has_gaps_to_learn_from_and_a_full_one_says_so() -> None:
    """One gap of 60 cells, however often its draws meet ratings alone."""
    mask = np.ones((10, 6), dtype=bool)
    mask[3, 2] = False
    x = np.random.default_rng(0).integers(1, 4, mask.shape).astype(float)
    for seed in range(3):
        model = pmf_mnar(3, latent_dim=1, training=Training(steps=3)).fit(ratings(x, mask), x.shape, seed=seed)
        assert 1 <= model.predict(np.array([3]), np.array([2]))[0] <= 3
    with pytest.raises(ValueError, match="unobserved: expected cells without ratings, got none"):
        pmf_mnar(3, training=Training(steps=1)).fit(ratings(x, np.ones_like(mask)), x.shape, seed=0)
