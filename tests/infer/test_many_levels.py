"""Columns of many levels: summed out by one pass of the mechanism, at a cost in proportion to their number."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_mnar import ImportanceWeightedELBO, MissingnessGraph, Table, mechanisms
from pyro_mnar.capture.gradient import capture
from pyro_mnar.distributions import Levels
from pyro_mnar.distributions.own_value import OwnValueMechanism, given_missing
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.infer.parameters import trainable_parameters
from pyro_mnar.infer.session import Session
from pyro_mnar.models import GINA


def towns(num_levels: int) -> Table:
    """A complete number, a column of words and an ordinal one with gaps; every level is seen."""
    random, number = np.random.default_rng(0), np.arange(4 * num_levels)
    frame = pd.DataFrame({"a": random.normal(size=len(number)), "town": [f"t{n % num_levels}" for n in number]})
    frame["grade"] = number % num_levels
    frame.loc[number // num_levels == 1, "town"] = None
    frame.loc[number // num_levels == 2, "grade"] = np.nan
    return Table.from_frame(frame, auxiliary=[], kinds={"town": "categorical", "grade": "ordinal"})


def self_masked(table: Table) -> GINA:
    model = GINA(table, graph=MissingnessGraph.self_masking(table), latent_dim=2, seed=0)
    with torch.no_grad():
        for slopes in (model.mechanism.raw_own_slope, model.mechanism.raw_other_slope):
            slopes.normal_(generator=torch.Generator().manual_seed(1))
    return model


def test_one_pass_of_the_mechanism_and_not_one_a_level(own_store: None) -> None:
    table = towns(24)
    model, passes = self_masked(table), []
    model.mechanism.register_forward_hook(lambda *_: passes.append(1))
    model(table.batch())
    assert len(passes) == 3  # of the words, of the grades and of the mask


@pytest.mark.parametrize("position", [1, 2])
def test_it_gives_what_a_pass_for_each_level_gives(position: int, own_store: None) -> None:
    table = towns(6)
    model, batch = self_masked(table), table.batch()
    points = torch.tensor(table.schema.columns[position].points)[None]
    fn = Levels(torch.randn(2, len(batch), 1, 6, generator=torch.Generator().manual_seed(0)), points)
    z = torch.zeros(2, len(batch), 2)

    def log_odds(row: torch.Tensor) -> torch.Tensor:
        return model.mechanism(row, z)

    effects = model.mechanism.effects_of_levels
    found, expected = (
        given_missing(fn, OwnValueMechanism(log_odds, effects=given), batch.x, (position,), ~batch.mask[:, [position]])
        for given in (effects, None)
    )
    torch.testing.assert_close(found.logits, expected.logits)
    assert (found.logits - fn.logits).abs().max() > 0.01


def test_a_network_of_the_levels_takes_a_pass_for_each(own_store: None) -> None:
    table = towns(5)
    graph = MissingnessGraph([("town", "R[town]", {"form": "nonlinear"}), ("grade", "R[grade]")], table)
    mechanism = GINA(table, graph=graph, latent_dim=2, seed=0).mechanism
    points = torch.tensor(table.schema.columns[1].points)[None]
    assert mechanism.effects_of_levels((1,), points) is None
    assert mechanism.effects_of_levels((2,), points) is not None


def test_only_what_says_so_is_asked_for_effects_and_causes() -> None:
    table = towns(5)
    mechanism = self_masked(table).mechanism
    assert isinstance(mechanism, mechanisms.AddsByLevel) and isinstance(mechanism, mechanisms.NamesOwnCauses)
    assert [mechanism.causes_own(d) for d in range(3)] == [False, True, True]  # "a" is complete: nothing masks it
    network = torch.nn.Linear(3, 3)
    assert not isinstance(network, (mechanisms.AddsByLevel, mechanisms.NamesOwnCauses))


@pytest.mark.slow
def test_a_step_computes_numbers_in_proportion_to_the_levels(own_store: None) -> None:
    """Of a batch of as many rows; with a pass for each level it would be three times that."""
    computed = []
    for num_levels in (10, 40):
        table = towns(num_levels)
        model, guide = self_masked(table), ZeroImpute(table, 2, hidden=[8], seed=0)
        objective, batch, session = ImportanceWeightedELBO(5), table.batch().take(torch.arange(40)), Session(0)
        with session.running():
            objective.differentiable_loss(model, guide, batch)
            parameters = trainable_parameters(model, guide)
            captured = capture(lambda b: objective.differentiable_loss(model, guide, b), parameters, batch)  # noqa: B023
        computed.append(captured.num_results)
    assert computed[1] < 4.2 * computed[0]
