"""Large, small, far and redundant numbers: training stays finite, and imputations are sensible."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule
from scipy import stats

from pyro_mnar import Batch, Fit, Imputations, Table, TrainingError, fit, impute, partially_observed, rows
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.guides.last_layer import put_last_layer
from pyro_mnar.infer.data_start import LatentStart
from pyro_mnar.models import GINA
from pyro_mnar.nn.likelihoods import CountLikelihood


def two_columns(num_rows: int = 300, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two columns that share a cause, of unit scale, one with gaps; and the truth."""
    random = np.random.default_rng(seed)
    z = random.normal(size=num_rows)
    truth = pd.DataFrame({"a": z + 0.5 * random.normal(size=num_rows), "b": z + 0.5 * random.normal(size=num_rows)})
    frame = truth.copy()
    frame.loc[random.random(num_rows) < 0.3, "a"] = np.nan
    return frame, truth


def imputed(frame: pd.DataFrame, epochs: int = 30, **options: Any) -> Imputations:
    table = Table.from_frame(frame, **{"auxiliary": [], "dtype": torch.float32, **options})
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        pair = GINA(table, latent_dim=1, seed=0), ZeroImpute(table, 1, hidden=[10], seed=0)
        result = fit(*pair, table, epochs=epochs, batch_size=100, progress=False, compile="eager")
        return impute(result, table, num_draws=5, num_particles=20, compile="eager")
    finally:
        torch.set_default_dtype(before)


def test_units_from_1e_12_to_1e12_change_nothing_but_units() -> None:
    frame, _ = two_columns(100)
    scale = pd.Series({"a": 1e-12, "b": 1e12})
    plain, scaled = imputed(frame, 8), imputed(frame * scale, 8)
    np.testing.assert_allclose(scaled.draws / 1e-12, plain.draws, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("kind", "near"), [("continuous", 0.0), ("positive", 1e4)])
def test_means_keep_their_digits_far_from_zero(kind: str, near: float) -> None:
    """In single precision a billion has steps of 64; logarithms are as good as linear so far from zero."""

    frame, _ = two_columns(60)

    def means(shift: float) -> list[np.ndarray]:
        shifted = frame.assign(a=frame["a"] + shift)
        table = Table.from_frame(shifted, kinds={"a": kind}, auxiliary=[], dtype=torch.float32)
        pair = GINA(table, latent_dim=1, seed=0).float(), ZeroImpute(table, 1, seed=0).float()
        how: dict[str, Any] = {"num_draws": 2, "num_particles": 20, "compile": "eager"}
        gaps = np.flatnonzero(frame["a"].isna())
        single = impute(Fit(*pair, table.schema), table, cells=(gaps, np.zeros_like(gaps)), **how)
        return [impute(Fit(*pair, table.schema), table, **how).mean()["a"].to_numpy()[gaps], single.means]

    for few, many in zip(means(near), means(1e9), strict=True):
        np.testing.assert_allclose(many - 1e9, few - near, atol=1e-2)


def test_means_of_the_largest_and_the_least_numbers_are_finite() -> None:
    for scale in (1e-300, 1e-100, 1e100, 1e300):
        frame = pd.DataFrame({"a": scale * np.array([1.0, np.nan, 3.0, 4.0]), "b": [1.0, 2.0, 3.0, 5.0]})
        mean = imputed(frame, 1, kinds={"a": "positive"}).mean()["a"][1] / scale
        assert 0.1 < mean < 30


def test_a_collinear_column_tells_what_is_missing() -> None:
    frame, truth = two_columns()
    frame["c"] = 3 * truth["a"] - 2
    gaps = frame["a"].isna()
    error = (imputed(frame, epochs=20).mean()["a"] - truth["a"])[gaps]
    assert np.sqrt((error**2).mean()) < 0.5 * truth["a"][gaps].std()  # by the other column alone 0.6 of it


def test_more_columns_than_rows() -> None:
    random = np.random.default_rng(0)
    z = random.normal(size=(12, 1))
    truth = pd.DataFrame(z + 0.3 * random.normal(size=(12, 40)))
    gaps = random.random((12, 40)) < 0.1
    draws = imputed(truth.mask(gaps), epochs=50).mean().to_numpy()
    assert np.isfinite(draws).all()
    error, naive = (draws - truth.to_numpy())[gaps], (truth.mask(gaps).mean().to_numpy() - truth.to_numpy())[gaps]
    assert np.sqrt((error**2).mean()) < 0.8 * np.sqrt((naive**2).mean())


def test_identical_rows_come_back() -> None:
    frame = pd.DataFrame({"a": [2.0, 2.0, np.nan, 2.0], "b": [5.0] * 4})
    with pytest.warns(UserWarning, match="constant columns"):
        found = imputed(frame, epochs=2)
    assert (found.draws == 2.0).all()


def test_features_that_are_all_the_same_leave_the_start_in_the_bias() -> None:
    layer, start = torch.nn.Linear(3, 4), LatentStart(torch.full((8, 2), 0.5), torch.ones(8, 2))
    with torch.no_grad():
        put_last_layer(layer, torch.ones(8, 3), start)
    torch.testing.assert_close(layer(torch.ones(3))[:2], torch.full((2,), 0.5))


# Outliers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [1e3, 1e6, -1e6])
def test_an_outlier_is_named_and_heavy_tails_bear_it(value: float) -> None:
    frame, _ = two_columns()
    seen = frame["a"].dropna().std()
    at, told = int(frame["a"].first_valid_index()), re.escape(f"{value:g}")
    frame.loc[at, "a"] = value
    with pytest.warns(UserWarning, match=rf"column 'a': {told} in row {at} lies .* kinds=\{{'a': 'heavy_tailed'\}}"):
        table = Table.from_frame(frame, auxiliary=[])
    assert table.schema.columns[0].std > 50
    robust = Table.from_frame(frame, auxiliary=[], kinds={"a": "heavy_tailed"})
    assert robust.schema.columns[0].std == pytest.approx(seen, rel=0.05)


def test_draws_of_heavy_tails_are_not_widened_by_an_outlier() -> None:
    frame, truth = two_columns()
    frame.loc[frame["a"].first_valid_index(), "a"] = 1e6
    draws = imputed(frame, epochs=40, kinds={"a": "heavy_tailed"}).draws
    spread = truth["a"][frame["a"].isna()].std()
    assert 0.7 * spread < np.median(np.abs(draws - np.median(draws))) * 1.48 < 1.4 * spread
    assert np.abs(draws).max() < 100


def test_an_outlier_in_u_is_named() -> None:
    frame, _ = two_columns()
    frame.loc[3, "b"] = 1e6
    with pytest.warns(UserWarning, match=r"column 'b': 1e\+06 in row 3 lies .* correct it, clip it, or give U"):
        Table.from_frame(frame, auxiliary=["b"])


@pytest.mark.parametrize("shape", ["normal", "laplace", "gamma", "lognormal"])
def test_no_ordinary_tail_is_called_an_outlier(shape: str) -> None:
    random = np.random.default_rng(1)
    draw = {
        "normal": lambda: random.normal(size=2000),
        "laplace": lambda: random.laplace(size=2000),
        "gamma": lambda: random.gamma(0.5, size=2000),
        "lognormal": lambda: random.lognormal(size=2000),
    }[shape]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Table.from_frame(pd.DataFrame({"a": [*draw(), np.nan]}), auxiliary=[], kinds={"a": "continuous"})


# Counts near a million -----------------------------------------------------------------------------------------------


def count_likelihood(values: Any) -> CountLikelihood:
    table = Table.from_frame(pd.DataFrame({"n": values}), auxiliary=[], kinds={"n": "count"}, dtype=torch.float32)
    return CountLikelihood(table.schema.columns)


def test_densities_of_large_counts_keep_their_digits() -> None:
    """Against scipy in float64; in float32 the terms, of size 10^7, cancelled to within 2 nats."""
    torch.set_default_dtype(torch.float32)
    try:
        counts = stats.poisson(1e6).rvs(200, random_state=0).astype(float)
        likelihood = count_likelihood(counts)
        fn = likelihood(torch.zeros(200, 1))
        value = (torch.tensor(counts)[:, None] - likelihood.offset.double()) / likelihood.unit.double()
        got = fn.log_prob(value.float())[:, 0].double()
    finally:
        torch.set_default_dtype(torch.float64)
    total = float(torch.minimum(likelihood.log_total.detach(), likelihood.most_log_total).double().exp())
    mean = float(likelihood.offset.clamp_min(0.1).log().double().exp())
    expected = stats.nbinom(total, total / (total + mean)).logpmf(counts)
    np.testing.assert_allclose(got.detach().numpy(), expected, atol=2e-3)


def test_draws_of_large_counts_have_their_spread() -> None:
    """Poisson counts of a mean of a million had draws a hundred times too wide."""
    counts = np.random.default_rng(0).poisson(1e6, 300).astype(float)
    frame = pd.DataFrame({"n": counts, "b": np.random.default_rng(1).normal(size=300)})
    frame.loc[::4, "n"] = np.nan
    draws = imputed(frame, kinds={"n": "count"}).draws
    assert 0.8 * counts.std() < draws.std() < 1.25 * counts.std()
    assert abs(draws.mean() - 1e6) < 300  # of a standard error of the mean of about 60


def test_ordinary_counts_are_as_before() -> None:
    likelihood = count_likelihood([1.0, 2.0, 900.0, 3.0])
    assert not likelihood.has_large and likelihood.relative.item() == 1
    assert likelihood.log_total.item() == 3 and likelihood.most_log_total.item() == 10


# What is not finite ---------------------------------------------------------------------------------------------------


class FailsInRow(PyroModule):
    def __init__(self, row: int) -> None:
        super().__init__()
        self.row, self.mean = row, torch.nn.Parameter(torch.zeros(2))

    def forward(self, batch: Batch) -> None:
        bad = torch.where(batch.index == self.row, torch.nan, 0.0)[:, None]
        with rows(batch):
            partially_observed("x", dist.Normal(self.mean + bad, 1.0), batch)


def test_a_nan_names_epoch_batch_site_and_rows() -> None:
    frame, _ = two_columns(40)
    table = Table.from_frame(frame, auxiliary=[])
    told = (
        r"epoch 1, batch \d: the objective is nan; offending site: 'x_\w+', .* in rows \[17\] \(by position, from 0\)"
    )
    with pytest.raises(TrainingError, match=told):
        fit(FailsInRow(17), lambda batch: None, table, epochs=2, batch_size=10, progress=False)
