"""The set encoder: entries and cells give the same numbers, gaps and order give none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pyro.poutine as poutine
import pytest
import torch

from pyro_mnar import Batch, Table, fit, impute
from pyro_mnar.guides import PointNet
from pyro_mnar.models import GINA


def table(rows: int = 80) -> Table:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(rows, 4)), columns=list("abcd"))
    frame["town"] = rng.choice(["x", "y", "z"], rows)
    return Table.from_frame(frame.where(rng.random(frame.shape) < 0.5), auxiliary=[])


def moments(guide: PointNet, given: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    fn = poutine.trace(guide).get_trace(given).nodes["z"]["fn"].base_dist
    return fn.loc.detach(), fn.scale.detach()


def test_entries_and_cells_agree(own_store: None) -> None:
    data = table()
    by_entry = moments(PointNet(data, 3, by_entry=True, seed=1), data.batch())
    pyro_free = PointNet(data, 3, by_entry=False, seed=1)
    for one, other in zip(by_entry, moments(pyro_free, data.batch()), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_gaps_say_nothing(own_store: None) -> None:
    data = table()
    guide, batch = PointNet(data, 3, seed=1), data.batch()
    elsewhere = replace(batch, x=torch.where(batch.mask, batch.x, 7.0))
    for one, other in zip(moments(guide, batch), moments(guide, elsewhere), strict=True):
        torch.testing.assert_close(one, other)
    empty = replace(batch, mask=torch.zeros_like(batch.mask))
    mean, _ = moments(guide, empty)
    assert (mean == mean[0]).all()


def test_order_of_columns_is_that_of_their_vectors(own_store: None) -> None:
    data = table()
    guide, batch = PointNet(data, 3, by_entry=False, seed=1), data.batch()
    expected = moments(guide, batch)
    order = [2, 0, 1, 3]  # the numbers; the town stays last
    with torch.no_grad():
        guide.of_column.weight[:4] = guide.of_column.weight[order].clone()
    moved = replace(batch, x=batch.x[:, [*order, 4]], mask=batch.mask[:, [*order, 4]])
    for one, other in zip(moments(guide, moved), expected, strict=True):
        torch.testing.assert_close(one, other)


def test_levels_without_an_order_have_vectors_of_their_own(own_store: None) -> None:
    data = table()
    guide = PointNet(data, 3, by_entry=True, seed=1)
    assert guide.of_column.weight.shape[0] == 5 + 2
    vectors = guide._vector_of(torch.full((len(data),), 4), data.x[:, 4])
    town = data.frame["town"]
    for level, vector in (("x", 4), ("y", 5), ("z", 6)):
        assert (vectors[torch.tensor((town == level).tolist())] == vector).all()


@pytest.mark.slow
def test_it_trains_and_imputes() -> None:
    rng = np.random.default_rng(1)
    z = rng.normal(size=(400, 1))
    frame = pd.DataFrame(z + 0.3 * rng.normal(size=(400, 8)))
    data = Table.from_frame(frame.where(rng.random(frame.shape) < 0.7), auxiliary=[])
    model = GINA(data, latent_dim=1, seed=0)
    fitted = fit(model, PointNet(data, 1, seed=0), data, seed=0, epochs=60, progress=False)
    missing = data.frame.isna().to_numpy()
    errors = (impute(fitted, data, num_draws=1).mean().to_numpy() - frame.to_numpy())[missing]
    assert np.sqrt(np.mean(errors**2)) < 0.5  # the mean's is 1.04, the noise's 0.3


def test_widths_are_checked() -> None:
    with pytest.raises(ValueError, match="features: expected at least 1, got 0"):
        PointNet(table(), 2, features=0)
