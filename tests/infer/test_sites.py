"""What a site stands for is known under every handler, and β is read from the site alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pyro
import pyro.distributions as dist
import pyro.poutine as poutine
import pytest
import torch
from pyro.infer.autoguide import AutoNormal

from pyro_mnar import Batch, ImportanceWeightedELBO, observe_mask, partially_observed, rows
from pyro_mnar.distributions import ImportanceRatio, Levels
from pyro_mnar.distributions.row_parts import MaskPart, MissingPart, ObservedPart
from pyro_mnar.infer.sites import (
    column_distribution,
    columns_of,
    is_summed_out,
    mechanism_weights,
    missing_sites,
    part_of,
    sample_sites,
    scored_in,
    stochastic_sites,
)

pytestmark = pytest.mark.usefixtures("own_store")

BATCH = Batch.of(torch.tensor([[0.5, torch.nan], [torch.nan, -1.0], [1.5, 2.0]], dtype=torch.float64))
PARTS = {
    "z": None,
    "x_missing": MissingPart((0, 1)),
    "x_observed": ObservedPart((0, 1)),
    "r": MaskPart((0, 1), weight=0.5),
}


def model(batch: Batch, weight: float = 0.5) -> None:
    with rows(batch):
        z = pyro.sample("z", dist.Normal(batch.x.new_zeros(len(batch)), 1.0))
        x = partially_observed("x", dist.Normal(z[..., None], 0.5), batch)
        observe_mask("r", 0.3 - x, batch, weight=weight)


def parts_of(trace: poutine.Trace) -> dict[str, object]:
    return {name: part_of(site) for name, site in sample_sites(trace).items()}


def written_by_hand(batch: Batch) -> None:
    with rows(batch):
        pyro.sample("x_missing", dist.Normal(batch.x, 1.0).to_event(1))


def by_pyro(batch: Batch) -> None:
    AutoNormal(model, create_plates=rows)(batch)


@pytest.mark.parametrize("guide", [written_by_hand, by_pyro])
def test_replay_through_a_guide_of_any_make_loses_no_mark(guide: Callable) -> None:
    trace = poutine.trace(guide).get_trace(BATCH)
    assert parts_of(poutine.trace(poutine.replay(model, trace=trace)).get_trace(BATCH)) == PARTS


@pytest.mark.parametrize(
    "handled",
    [
        poutine.scale(model, scale=2.0),
        poutine.mask(model, mask=torch.tensor([True, False, True])),
        poutine.condition(model, {"x_missing": torch.zeros(3, 2, dtype=torch.float64)}),
        poutine.uncondition(model),
        pyro.plate("particles", 4, dim=-2)(model),
    ],
)
def test_other_handlers_lose_none_either(handled: Callable) -> None:
    found = parts_of(poutine.trace(handled).get_trace(BATCH))
    assert {name: found[name] for name in PARTS} == PARTS


def test_conditioned_missing_values_are_no_latent_site() -> None:
    assert list(missing_sites(poutine.trace(model).get_trace(BATCH))) == ["x_missing"]
    given = poutine.condition(model, {"x_missing": torch.zeros(3, 2, dtype=torch.float64)})
    assert not missing_sites(poutine.trace(given).get_trace(BATCH))


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_beta_is_read_from_the_site_and_zero_is_not_scored(weight: float) -> None:
    trace = poutine.trace(model).get_trace(BATCH, weight=weight)
    assert mechanism_weights(trace) == [weight]
    assert ("r" in stochastic_sites(trace)) == (weight > 0)
    objective = ImportanceWeightedELBO()
    assert objective.is_bound(lambda batch: model(batch, weight), lambda batch: None, BATCH) == (weight == 1)


def test_a_mask_of_weight_zero_changes_no_number() -> None:
    def without(batch: Batch) -> None:
        with rows(batch):
            z = pyro.sample("z", dist.Normal(batch.x.new_zeros(len(batch)), 1.0))
            partially_observed("x", dist.Normal(z[..., None], 0.5), batch)

    losses = []
    for one in (lambda batch: model(batch, 0.0), without):
        torch.manual_seed(0)
        losses.append(ImportanceWeightedELBO(3).loss(one, lambda batch: None, BATCH))
    assert losses[0] == losses[1]


def test_column_distributions_stand_beneath_events_masks_and_ratios() -> None:
    trace = poutine.trace(model).get_trace(BATCH)
    assert type(column_distribution(trace.nodes["x_observed"]["fn"])) is dist.Normal
    assert isinstance(column_distribution(trace.nodes["r"]["fn"]), dist.Bernoulli)

    def of_levels(batch: Batch) -> None:
        points = torch.tensor([[-1.0, 1.0]] * 2, dtype=torch.float64)
        with rows(batch):
            fn = Levels(batch.x.new_zeros(len(batch), 2, 2), points)
            partially_observed("x", fn, batch, mechanism=lambda x: 1.0 - x)

    trace = poutine.trace(of_levels).get_trace(replace(BATCH, x=BATCH.x.sign()))
    assert is_summed_out(trace.nodes["x_missing"]) and not is_summed_out(trace.nodes["x_observed"])
    assert isinstance(trace.nodes["x_observed"]["fn"].base_dist, ImportanceRatio)
    assert isinstance(column_distribution(trace.nodes["x_observed"]["fn"]), Levels)


def test_columns_that_are_not_kept_are_not_scored() -> None:
    site = poutine.trace(model).get_trace(BATCH).nodes["x_observed"]
    kept = scored_in(site["fn"], torch.tensor([True, False]))
    assert kept.part == site["fn"].part
    entries = column_distribution(site["fn"]).log_prob(site["value"]).where(BATCH.mask, 0.0)
    torch.testing.assert_close(kept.log_prob(site["value"]), entries[:, 0])


def test_a_site_of_the_models_own_stands_for_no_column() -> None:
    site = poutine.trace(model).get_trace(BATCH).nodes["z"]
    with pytest.raises(ValueError, match="site 'z': expected one made by partially_observed or observe_mask"):
        columns_of(site)
