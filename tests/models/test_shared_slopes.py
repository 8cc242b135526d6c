"""Columns of mostly one value take the slopes of the others, and pull at nobody's."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch

from pyro_mnar import Fit, MissingnessGraph, Table
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.kinds import ZeroInflated
from pyro_mnar.mechanisms import Constant
from pyro_mnar.mechanisms import SelfMasking as OwnValue
from pyro_mnar.models import GINA, LatentDependent, SelfMasking
from pyro_mnar.summaries import summarise

ASH, OTHERS = 1, [0, 2]


def mixtures(rows: int = 80) -> pd.DataFrame:
    """Amounts of ash that are mostly zero, between two columns that are not, all with gaps; and a complete one."""
    random = np.random.default_rng(0)
    values = random.normal(size=(rows, 4))
    values[:, ASH] = np.where(random.random(rows) < 0.7, 0.0, np.abs(values[:, ASH]))
    frame = pd.DataFrame(values, columns=["cement", "ash", "water", "strength"])
    return frame.mask((random.random(values.shape) < 0.3) & [True, True, True, False])


TABLE = Table.from_frame(mixtures(), dtype=torch.float64)
MADE = {
    "SelfMasking": lambda table: SelfMasking(table, latent_dim=1, seed=0),
    "LatentDependent": lambda table: LatentDependent(table, latent_dim=1, seed=0),
    "GINA": lambda table: GINA(table, latent_dim=1, mechanism=OwnValue, seed=0),
    "graph": lambda table: GINA(table, latent_dim=1, graph=MissingnessGraph.self_masking(table), seed=0),
}


def slope_of(model: torch.nn.Module) -> torch.Tensor:
    return model.mechanism.slope_in_own_value(range(4))


def put(model: torch.nn.Module) -> torch.Tensor:
    """Slopes of -1, 5, -40 and 3, of which the fourth, of a complete column, counts for nothing."""
    model.mechanism.put_lines(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([-1.0, 5.0, -40.0, 3.0]))
    return slope_of(model)


@pytest.mark.parametrize("name", MADE)
def test_the_column_follows_and_the_others_do_not_feel_it(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        model = MADE[name](TABLE)
    assert "columns ash: more than half of the values seen are one number" in caplog.text
    slope = put(model)
    shared = np.sinh(np.arcsinh([-1.0, -40.0]).mean())
    torch.testing.assert_close(slope[ASH].item(), shared)
    torch.testing.assert_close(slope[OTHERS], torch.tensor([-1.0, -40.0]))
    torch.testing.assert_close(model.mechanism.intercept[:3], torch.tensor([1.0, 2.0, 3.0]))
    x = torch.zeros(5, 4)
    x[:, ASH] = torch.arange(5.0)
    logits = model.mechanism(x, torch.zeros(5, 1))[:, ASH]
    torch.testing.assert_close(logits.diff().tolist(), [shared] * 4)
    raw = getattr(model.mechanism, model.mechanism._RAW)
    (pull,) = torch.autograd.grad(logits.square().sum(), raw)
    assert not pull[OTHERS].any()


def test_what_is_declared_stays_and_so_does_what_tells_of_zeros() -> None:
    declared = {
        "sign": partial(OwnValue, sign=[0, 1, 0, 0]),
        "slope": partial(OwnValue, slope=[None, 5.0, None, None]),
        "prior": partial(OwnValue, slope=[None, dist.Normal(0.0, 9.0), None, None]),
    }
    models = [GINA(TABLE, latent_dim=1, mechanism=mechanism, seed=0) for mechanism in declared.values()]
    zeros = Table.from_frame(mixtures(), kinds={"ash": ZeroInflated()})
    models += [
        SelfMasking(TABLE.schema, latent_dim=1, seed=0),  # of which no table says anything
        SelfMasking(zeros, latent_dim=1, seed=0),
        SelfMasking(
            Table.from_frame(mixtures().fillna({"cement": 0.3, "water": -0.2})[["ash", "cement", "water", "strength"]]),
            latent_dim=1,
            seed=0,
        ),
    ]
    for model in models[:-1]:
        assert put(model)[ASH].item() == pytest.approx(5.0)
    assert put(models[-1])[0].item() == pytest.approx(-1.0)  # no other column has gaps
    assert isinstance(GINA(TABLE, mechanism=Constant, seed=0).mechanism, Constant)


def test_a_file_keeps_whose_slope_is_whose(tmp_path: Path) -> None:
    model = MADE["SelfMasking"](TABLE)
    expected = put(model).tolist()
    Fit(model, ZeroImpute(TABLE, 1, hidden=[2]), TABLE.schema).save(tmp_path / "fit")
    loaded = Fit.load(tmp_path / "fit").model
    assert slope_of(loaded).tolist() == pytest.approx(expected)
    loaded.mechanism.put_lines(slope=torch.full((4,), -2.0))
    assert slope_of(loaded)[ASH].item() == pytest.approx(-2.0)


def test_a_slope_that_the_data_do_not_tell_has_no_interval() -> None:
    model = MADE["SelfMasking"](TABLE)
    model.mechanism.put_lines(slope=torch.tensor([-1.0, 0.0, -0.5, 0.0]))
    guide = ZeroImpute(TABLE, 1, hidden=[2], seed=0)
    found = summarise(Fit(model, guide, TABLE.schema, table=TABLE)).dependences
    widths = {one.column: one.upper - one.lower for one in found}
    assert np.isnan(widths["ash"]) and not any(width == 0 for width in widths.values())
