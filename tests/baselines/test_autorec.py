"""AutoRec on ratings of low rank."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pyro_mnar.baselines import AutoRec, RatingPredictor


@pytest.mark.slow
def test_recovers_ratings_that_columns_share() -> None:
    """Two factors, half of the cells: RMSE of the gaps below 0.65 of their spread, and below that of column means."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 2)) @ rng.normal(size=(2, 300)) + 0.2 * rng.normal(size=(40, 300))
    mask = rng.uniform(size=x.shape) < 0.5
    rows, columns = np.nonzero(mask)
    model = AutoRec(hidden=20, steps=1000)
    assert isinstance(model, RatingPredictor)
    model.fit(pd.DataFrame({"row": rows, "column": columns, "value": x[mask]}), x.shape, seed=0)
    gaps = np.nonzero(~mask)
    error = np.sqrt(np.mean((model.predict(*gaps) - x[~mask]) ** 2)) / x[~mask].std()
    means = np.where(mask, x, np.nan)
    of_mean = np.sqrt(np.mean((np.broadcast_to(np.nanmean(means, axis=0), x.shape) - x)[~mask] ** 2)) / x[~mask].std()
    assert error < 0.65 < of_mean, (error, of_mean)


def test_same_seed_same_predictions(generators_untouched: None) -> None:
    train = pd.DataFrame({"row": [0, 1, 2, 0], "column": [0, 0, 1, 1], "value": [1.0, 2.0, 3.0, 4.0]})
    cells = np.indices((3, 2)).reshape(2, -1)
    first, again, other = (AutoRec(steps=3).fit(train, (3, 2), seed=seed).predict(*cells) for seed in (0, 0, 1))
    assert (first == again).all() and (first != other).any()
    assert first.min() >= 1.0 and first.max() <= 4.0
