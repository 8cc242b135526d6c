"""What more particles would add: against closed form, without a random number of the training's."""

from __future__ import annotations

import logging
import math

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

from checks import table_with_gaps
from pyro_mnar import Batch, Fit, Table, fit, observe_mask, partially_observed, rows
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.infer.session import Session
from pyro_mnar.models import SelfMasking
from pyro_mnar.training.particle_gain import LEAST_ROWS, MOST_ROWS, particle_gain, say

pytestmark = pytest.mark.usefixtures("own_store")


def two_valued(batch: Batch) -> None:
    """w is 3/2 or 1/2, each with probability one half, by the sign of a fair latent."""
    with rows(batch):
        z = pyro.sample("z", dist.Normal(batch.x.new_zeros(len(batch)), 1.0))
        pyro.factor("w", torch.where(z > 0, math.log(1.5), math.log(0.5)))


def bound(particles: int) -> float:
    """E log (1/K) Σ w, by the binomial law of how many are large."""
    counts = np.arange(particles + 1)
    shares = np.array([math.comb(particles, k) for k in counts]) / 2.0**particles
    return float((shares * np.log((1.5 * counts + 0.5 * (particles - counts)) / particles)).sum())


def test_it_is_what_the_bounds_of_so_many_particles_differ_by() -> None:
    """False alarm at about 1e-5: five standard errors."""
    batch = Batch.of(torch.zeros(6_000, 1))
    gains = [
        particle_gain(two_valued, lambda batch: None, batch, Session(seed), num_particles=2, row_steps=10**9)
        for seed in range(30)
    ]
    for name, times in (("twice", 2), ("ten_times", 10)):
        found = np.array([getattr(gain, name) for gain in gains])
        expected = bound(2 * times) - bound(2)
        assert abs(found.mean() - expected) < 5 * found.std(ddof=1) / len(found) ** 0.5
        assert expected > 0.02
    assert gains[0].num_rows == MOST_ROWS
    said = np.array([gain.standard_error for gain in gains]).mean()
    assert said == pytest.approx(np.array([gain.ten_times for gain in gains]).std(ddof=1), rel=0.5)


def test_what_is_summed_out_has_nothing_to_gain() -> None:
    """The same model and parameters: particles that draw the missing value leave a gap, its sum over values none."""
    x = torch.linspace(-2.0, 2.0, 60)[:, None]
    batch = Batch.of(torch.where(torch.arange(60)[:, None] % 2 == 0, x, torch.nan))

    def model(batch: Batch, is_summed: bool) -> None:
        def log_odds(x: torch.Tensor) -> torch.Tensor:
            return -4.0 * x

        with rows(batch):
            fn = dist.Normal(0.0, 1.0).expand([len(batch), 1])
            x = partially_observed("x", fn, batch, mechanism=log_odds if is_summed else None)
            observe_mask("r", log_odds(x), batch)

    gains = [
        particle_gain(
            lambda batch, summed=summed: model(batch, summed),
            lambda batch: None,
            batch,
            Session(0),
            num_particles=3,
            row_steps=10**9,
        )
        for summed in (True, False)
    ]
    assert gains[0].ten_times == pytest.approx(0, abs=1e-6) and not gains[0].is_large
    assert gains[1].ten_times > 0.02 and gains[1].is_large


def test_it_leaves_every_stream_of_random_numbers_where_it_was() -> None:
    session, batch = Session(0), Batch.of(torch.zeros(20, 1))
    with session.running():
        torch.randn(3)
    with session.rewinding():
        before = torch.randn(4)
    particle_gain(two_valued, lambda batch: None, batch, session, num_particles=2, row_steps=10**6)
    with session.running():
        assert torch.equal(torch.randn(4), before)


def test_fit_keeps_it_saves_it_and_warns_where_it_is_large(tmp_path, caplog: pytest.LogCaptureFixture) -> None:
    random = np.random.default_rng(0)
    values = pd.DataFrame({"x": np.where(random.random(200) < 0.5, random.normal(size=200), np.nan)})
    table = Table.from_frame(values, auxiliary=[])

    def model(batch: Batch, slope: float) -> None:
        mean = pyro.param("mean", torch.tensor(0.0))
        with rows(batch):
            x = partially_observed("x", dist.Normal(mean.expand(len(batch), 1), 1.0), batch)
            observe_mask("r", -slope * x, batch)

    found = {}
    for slope in (0.0, 4.0):
        with caplog.at_level(logging.WARNING), pyro.get_param_store().scope():
            found[slope] = fit(
                lambda batch, slope=slope: model(batch, slope), lambda batch: None, table, epochs=40, progress=False
            )
    assert found[0.0].particle_gain.ten_times == pytest.approx(0, abs=1e-12)
    assert found[4.0].particle_gain.ten_times > 0.01 and found[4.0].particle_gain.is_large
    (record,) = [record for record in caplog.records if "more particles" in record.getMessage()]
    assert "num_particles=50" in record.getMessage() and record.levelno == logging.WARNING
    found[4.0].save(tmp_path / "fit.pt")
    loaded = Fit.load(tmp_path / "fit.pt", found[4.0].model, found[4.0].guide)
    assert loaded.particle_gain == found[4.0].particle_gain


def test_training_that_is_short_looks_at_few_rows() -> None:
    table = table_with_gaps(40)
    fitted = fit(SelfMasking(table, seed=0), ZeroImpute(table, 2, seed=0), table, epochs=30, progress=False)
    assert fitted.particle_gain.num_rows == LEAST_ROWS
    say(fitted.particle_gain)
