"""What a pair that does not fit its table, or each other, is told: the site or the role, both sides, and the cure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pyro.poutine as poutine
import pytest
import torch

from checks import table_with_gaps
from pyro_mnar import Batch, Fit, Table, fit, observe_mask, partially_observed, rows
from pyro_mnar.guides import MeanField, ZeroImpute
from pyro_mnar.infer.arguments import check_callable
from pyro_mnar.models import GINA, SelfMasking

pytestmark = pytest.mark.usefixtures("own_store")


def attempt(model: Any, guide: Any, table: Table | None = None) -> Fit:
    return fit(model, guide, table or table_with_gaps(), epochs=1, progress=False)


def test_a_guide_of_another_latent_dim_is_told_both() -> None:
    table = table_with_gaps()
    message = r"site 'z': the model's has shape \(..., 2\), the guide's \(..., 3\): .*latent_dim"
    with pytest.raises(ValueError, match=message):
        attempt(GINA(table, latent_dim=2), ZeroImpute(table, 3))
    with pytest.raises(ValueError, match=message):
        attempt(SelfMasking(table, latent_dim=2), MeanField(table, 3))


def test_a_guide_whose_latent_would_broadcast_is_refused_too() -> None:
    """One number for two stood for both, without a word, in a model that works entry by entry."""

    def model(batch: Batch) -> None:
        with rows(batch):
            z = pyro.sample("z", dist.Normal(batch.x.new_zeros(len(batch), 3), 1.0).to_event(1))
            partially_observed("x", dist.Normal(z, pyro.param("scale", torch.tensor(1.0)).exp()), batch)

    def guide(batch: Batch) -> None:
        with rows(batch):
            pyro.sample("z", dist.Normal(batch.x.new_zeros(len(batch), 1), 1.0).to_event(1))

    with pytest.raises(ValueError, match=r"site 'z': the model's has shape \(..., 3\), the guide's \(..., 1\)"):
        attempt(model, guide)


@pytest.mark.parametrize("role", ["model", "guide"])
def test_classes_and_nothing_are_no_pair(role: str) -> None:
    table = table_with_gaps()
    pair: dict[str, Any] = {"model": GINA(table, latent_dim=2), "guide": ZeroImpute(table, 2)}
    name = type(pair[role]).__name__
    with pytest.raises(TypeError, match=rf"{role}: expected an object, got the class {name}: make one, {name}\(...\)"):
        attempt(**{**pair, role: type(pair[role])}, table=table)
    with pytest.raises(TypeError, match=f"{role}: expected a function or module of a batch, got None"):
        check_callable(None, role)


def test_a_pair_made_for_another_table_of_the_same_width_is_told_what_differs() -> None:
    table = table_with_gaps()
    renamed = Table.from_frame(table.frame.rename(columns={"x1": "income"}), auxiliary=["u0"])
    shifted = Table.from_frame(table.frame.assign(x1=2 * table.frame["x1"] + 1), auxiliary=["u0"])
    other_u = Table.from_frame(table.frame.assign(u0=table.frame["u0"] ** 2), auxiliary=["u0"])
    for other, message in (
        (renamed, "expected columns 'x1', got 'income'"),
        (shifted, r"expected units of columns \(mean, standard deviation\) \('x1', .*, got \('x1', "),
        (other_u, "expected units of U .*'u0'"),
    ):
        with pytest.raises(ValueError, match=f"model GINA: made for another table, {message}"):
            attempt(GINA(table, latent_dim=2), ZeroImpute(other, 2), other)
        with pytest.raises(ValueError, match=f"guide ZeroImpute: made for another table, {message}"):
            attempt(GINA(other, latent_dim=2), ZeroImpute(table, 2), other)
        with pytest.raises(ValueError, match="model GINA: made for another table"):
            Fit(GINA(table, latent_dim=2), ZeroImpute(other, 2), other.schema)
    attempt(GINA(table, latent_dim=2), ZeroImpute(table, 2), table.take(np.arange(20)))  # the same units


def test_a_model_of_ones_own_that_keeps_a_schema_is_held_to_it() -> None:
    class Own(torch.nn.Module):
        def __init__(self, table: Table) -> None:
            super().__init__()
            self.schema, self.mean = table.schema, torch.nn.Parameter(torch.zeros(3))

        def forward(self, batch: Batch) -> None:
            with rows(batch):
                partially_observed("x", dist.Normal(self.mean + torch.zeros_like(batch.x), 1.0), batch)

    table = table_with_gaps()
    other = Table.from_frame(table.frame + 1, auxiliary=["u0"])
    with pytest.raises(ValueError, match="model Own: made for another table, expected units of columns"):
        attempt(Own(table), lambda batch: None, other)


def test_a_global_latent_whose_shapes_break_first_is_named() -> None:
    def model(batch: Batch) -> None:
        slopes = pyro.sample("slopes", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        with rows(batch):
            x = partially_observed("x", dist.Normal(torch.zeros_like(batch.x), 1.0), batch)
            observe_mask("r", x * slopes, batch)
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(ValueError, match=r"site 'slopes': stands outside the row plate, .* the guide leaves it out"):
        attempt(model, lambda batch: None)


def weighted(scale: float | None) -> Any:
    """A model with a scale inside the plate: one number, or one that varies by row."""

    def model(batch: Batch) -> None:
        own = torch.linspace(0.5, 1.5, len(batch)) if scale is None else scale
        mean = pyro.param("mean", torch.tensor(0.0))
        with rows(batch), poutine.scale(scale=own):
            z = pyro.sample("z", dist.Normal(batch.x.new_zeros(len(batch)), 1.0))
            partially_observed("x", dist.Normal((mean + z)[..., None] + 0 * batch.x, 1.0), batch)

    return model


def test_scales_of_rows_are_named_and_annealing_is_not() -> None:
    table = table_with_gaps()
    with pytest.warns(UserWarning, match="sites 'z', 'x_missing', 'x_observed': a scale inside the row plate"):
        attempt(weighted(None), lambda batch: None, table)
    with pytest.warns(UserWarning, match=r"'x_observed': a scale inside the row plate .* observe_mask\(weight=...\)"):
        attempt(weighted(0.5), lambda batch: None, table)

    def annealed(batch: Batch) -> None:
        mean = pyro.param("mean", torch.tensor(0.0))
        with rows(batch):
            with poutine.scale(scale=0.3):
                z = pyro.sample("z", dist.Normal(batch.x.new_zeros(len(batch)), 1.0))
            x = partially_observed("x", dist.Normal((mean + z)[..., None] + 0 * batch.x, 1.0), batch)
            observe_mask("r", -x, batch, weight=0.4)

    attempt(annealed, lambda batch: None, table)  # warnings are errors here


def test_a_scaled_mask_is_named_as_well() -> None:
    """β is what observe_mask says; another factor around it is none."""

    def model(batch: Batch) -> None:
        mean = pyro.param("mean", torch.tensor(0.0))
        with rows(batch):
            x = partially_observed("x", dist.Normal(mean.expand(len(batch), 3), 1.0), batch)
            with poutine.scale(scale=2.0):
                observe_mask("r", -x, batch, weight=0.5)

    with pytest.warns(UserWarning, match="sites 'r': a scale inside the row plate"):
        attempt(model, lambda batch: None)
