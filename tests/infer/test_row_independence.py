"""Rows stand for themselves: models that reach into other rows or particles, or read placeholders, are refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI
from torch import Tensor, nn

from pyro_mnar import Batch, Fit, ImportanceWeightedELBO, Table, fit, impute, partially_observed, rows

pytestmark = pytest.mark.usefixtures("own_store")

ROWS = "site 'y_.*': its density of one row depends on other rows"
PARTICLES = "site 'y_.*': its density of one particle depends on other particles"
GAPS = r"site 'y_.*': .* gaps of column 'x' in batch.x, zeros in place of values that nobody knows: .*batch.mask"


def nothing(batch: Batch) -> None:
    """A guide that leaves everything to the model."""


def table() -> Table:
    """Gaps in x from the twentieth row on, so that the first rows show none."""
    random = np.random.default_rng(0)
    x = random.normal(size=40)
    frame = pd.DataFrame({"x": x, "y": x + random.normal(size=40)})
    frame.loc[20::2, "x"] = np.nan
    return Table.from_frame(frame, auxiliary=[])


def regression(seen: Callable[[Tensor, Batch], Tensor], slope: float = 0.8) -> Callable[[Batch], None]:
    """y on what the model makes of x; the slope is a parameter."""

    def model(batch: Batch) -> None:
        b = pyro.param("b", torch.tensor(slope))
        with rows(batch):
            x = partially_observed("x", dist.Normal(0.0, 1.0).expand([len(batch), 1]), batch, columns=["x"])
            partially_observed("y", dist.Normal(b * seen(x, batch), 1.0), batch, columns=["y"])

    return model


OF_OTHERS = {
    "the first row's value": (lambda x, batch: x[:, :1], ROWS),
    "a mean over rows": (lambda x, batch: x - x.mean(-2, keepdim=True), ROWS),
    "the value before": (lambda x, batch: x.roll(1, -2), ROWS),
    "the last row's value": (lambda x, batch: x[..., -1:, :], ROWS),
    "a mean over rows of a complete column": (lambda x, batch: x + batch.x[:, 1].mean(), ROWS),
    "a sum over rows for one over columns": (lambda x, batch: x.sum(1, keepdim=True), ROWS),
    "the first particle": (lambda x, batch: x[:1], PARTICLES),
    "a mean over particles": (lambda x, batch: x.mean(0), PARTICLES),
    "zeros of gaps": (lambda x, batch: batch.x[:, :1], GAPS),
    "zeros of gaps, as a network sees them": (lambda x, batch: batch.x.sum(-1, keepdim=True) + x, GAPS),
}


@pytest.mark.parametrize("name", OF_OTHERS)
@pytest.mark.parametrize("slope", [0.8, 0.0])
def test_what_is_none_of_a_row_is_refused(name: str, slope: float) -> None:
    """Also where the slope starts at zero, and where the rows that are looked at have no gap."""
    seen, message = OF_OTHERS[name]
    with pytest.raises(ValueError, match=message):
        fit(regression(seen, slope), nothing, table(), epochs=1, progress=False)


def test_imputations_and_pyros_own_loop_refuse_it_too() -> None:
    model = regression(lambda x, batch: x[:, :1])
    with pytest.raises(ValueError, match=ROWS):
        impute(Fit(model, nothing, table().schema), table())
    with pytest.raises(ValueError, match=ROWS):
        SVI(model, nothing, pyro.optim.Adam({}), ImportanceWeightedELBO()).step(table().batch())


@pytest.mark.parametrize("num_rows", [1, 2, 40])
def test_models_that_leave_rows_alone_are_let_be(num_rows: int) -> None:
    """A batch norm and dropout look at other rows, or draw, while training alone; zeros may be meant; K may be 1."""

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.2), nn.Linear(4, 1))

        def forward(self, batch: Batch) -> None:
            with rows(batch):
                z = pyro.sample("z", dist.Normal(batch.x.new_zeros(len(batch)), 1.0))
                x = partially_observed("x", dist.Normal(z[..., None], 1.0), batch, columns=["x"])
                zeros = (batch.x * batch.mask)[:, :1].expand_as(x)
                of_all = torch.cat([z[..., None], x, zeros], -1)
                mean = self.layers(of_all.flatten(0, -2)).unflatten(0, of_all.shape[:-1])
                partially_observed("y", dist.Normal(mean, 1.0), batch, columns=["y"])

    part = table().take(range(40 - num_rows, 40))
    objective, model = ImportanceWeightedELBO(2, max_plate_nesting=1), Decoder()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    objective.check_rows(model, nothing, part.batch())
    assert model.training and all(part.training for part in model.modules())
    torch.testing.assert_close(dict(model.state_dict()), before)


def test_a_gap_that_a_plain_observed_site_takes_for_zero_is_refused() -> None:
    """A model without partially_observed treats columns in its own way: by a mask, or by Pyro's obs_mask, is right."""

    def model(batch: Batch, how: str) -> None:
        mean = pyro.param("mean", torch.tensor(0.1))
        with rows(batch):
            fn = dist.Normal(mean, 1.0).expand([len(batch)])
            if how == "zeros":
                pyro.sample("x", fn, obs=batch.x[:, 0])
            elif how == "masked":
                pyro.sample("x", fn.mask(batch.mask[:, 0]), obs=batch.x[:, 0])
            else:
                pyro.sample("x", fn, obs=batch.x[:, 0], obs_mask=batch.mask[:, 0])

    for how in ("masked", "obs_mask"):
        fit(lambda batch, how=how: model(batch, how), nothing, table(), epochs=1, progress=False)
    message = r"site 'x': its density depends on what stands in the gaps of column 'x'"
    with pytest.raises(ValueError, match=message):
        fit(lambda batch: model(batch, "zeros"), nothing, table(), epochs=1, progress=False)
    with pytest.raises(ValueError, match=message):
        SVI(model, lambda *_: None, pyro.optim.Adam({}), ImportanceWeightedELBO()).step(table().batch(), "zeros")


def test_a_row_plate_of_ones_own_lacks_the_minibatch_factor() -> None:
    def model(batch: Batch) -> None:
        mean = pyro.param("mean", torch.tensor(0.1))
        with pyro.plate("rows", len(batch)):
            partially_observed("x", dist.Normal(mean, 1.0).expand([len(batch), 2]), batch)

    message = r"site 'x_missing': expected a plate 'rows' of 8 rows out of 40, got 8 out of 8: write `with rows"
    with pytest.raises(ValueError, match=message):
        fit(model, nothing, table(), epochs=1, progress=False)


def test_looking_moves_no_generator_and_no_parameter() -> None:
    model, batch = regression(lambda x, batch: x), table().batch()
    model(batch)
    values = {name: value.clone() for name, value in pyro.get_param_store().items()}
    before = torch.get_rng_state()
    ImportanceWeightedELBO(2, max_plate_nesting=1).check_rows(model, nothing, batch)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, values[name]) for name, value in pyro.get_param_store().items())
