"""A random intercept by a column of the frame, and what shared latents meet: new rows, bootstrap, constraints."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoDelta, AutoNormal

from pyro_mnar import (
    Batch,
    Fit,
    Groups,
    Table,
    compare,
    fit,
    impute,
    missingness_graph_of,
    observe_mask,
    partially_observed,
    rows,
    shared_latents,
)
from pyro_mnar.imputation.generation import generate
from pyro_mnar.tables.constraints import InOrder

EFFECTS = {"ann": -2.0, "bob": 0.0, "eve": 2.0}


def interviews(count: int = 120, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    who = random.choice(list(EFFECTS), count)
    y = np.array([EFFECTS[name] for name in who]) + 0.3 * random.normal(size=count)
    return pd.DataFrame({"y": np.where(random.random(count) < 0.3, np.nan, y), "who": who})


class RandomIntercept:
    """y = effect of the interviewer + noise."""

    def __init__(self, table: Table) -> None:
        self.schema, self.groups = table.schema, Groups(table, "who")

    def __call__(self, batch: Batch) -> None:
        with self.groups.plate():
            effect = pyro.sample("effect", dist.Normal(batch.x.new_zeros(()), 2.0))
        with rows(batch):
            mean = effect[self.groups.of(batch)].unsqueeze(-1)
            partially_observed("y", dist.Normal(mean, 0.3), batch)


def fitted(table: Table) -> Fit:
    model = RandomIntercept(table)
    guide = AutoNormal(shared_latents(model))
    options = {"epochs": 100, "learning_rate": 0.05, "progress": False, "compile": "eager"}
    return fit(model, guide, table, batch_size=60, num_particles=1, **options)


def test_rows_new_and_old_are_imputed_by_their_groups_effect() -> None:
    """To within a tenth of the effects' distance, some twenty standard errors of them."""
    table = Table.from_frame(interviews(), auxiliary=["who"], standardize={"y": False})
    found = fitted(table)
    new = pd.DataFrame({"y": [np.nan] * 3, "who": ["eve", "ann", "bob"]})
    for frame in (interviews(), new):
        completed = impute(found, table.new_rows(frame), num_draws=5, seed=0).mean()
        gaps = frame["y"].isna().to_numpy()
        expected = frame["who"].map(EFFECTS)[gaps]
        np.testing.assert_allclose(completed["y"][gaps], expected, atol=0.35)
    with pytest.raises(ValueError, match=r"auxiliary column 'who': expected one of .*, got 'zoe' in row 0"):
        table.new_rows(pd.DataFrame({"y": [np.nan], "who": ["zoe"]}))


def with_prior(batch: Batch) -> None:
    mean = pyro.sample("mean", dist.Normal(batch.x.new_zeros(()), 1.0))
    with rows(batch):
        x = partially_observed("x", dist.Normal(mean, 1.0).expand([len(batch), 2]), batch)
        observe_mask("r", 0.5 + 0.0 * x, batch)


def two_columns() -> pd.DataFrame:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(np.sort(random.normal(size=(40, 2)), axis=1), columns=["low", "high"])
    return frame.where(random.random(frame.shape) < 0.7)


def test_a_bootstrap_beside_a_posterior_is_refused_and_beside_a_point_is_not() -> None:
    table = Table.from_frame(two_columns(), auxiliary=[])
    options = {"epochs": 1, "bootstrap": 2, "progress": False, "compile": "eager"}
    with pytest.raises(ValueError, match=r"bootstrap: the guide has a posterior of 'mean'.*AutoDelta"):
        fit(with_prior, AutoNormal(shared_latents(with_prior)), table, **options)
    point = fit(with_prior, AutoDelta(shared_latents(with_prior)), table, **options)
    means = [member.guide.mean.item() for member in (point, *point.bootstrap)]
    assert len(point.bootstrap) == 2 and len(set(means)) == 3


def test_constraints_hold_in_draws_that_share_a_latent() -> None:
    table = Table.from_frame(two_columns(), auxiliary=[], constraints=[InOrder("low", "high")])
    options = {"epochs": 2, "progress": False, "compile": "eager"}
    found = fit(with_prior, AutoNormal(shared_latents(with_prior)), table, **options)
    draws = impute(found, table, num_draws=4, num_particles=20, seed=0)
    for frame in draws.frames():
        assert (frame["low"] <= frame["high"]).all()


def regression(batch: Batch, *, models_age: bool) -> None:
    """y given age, which is complete."""
    with rows(batch):
        age = batch.x[:, 1:]
        if models_age:
            age = partially_observed("a", dist.Normal(torch.zeros_like(age), 1.0), batch, columns=["age"])
        y = partially_observed("y", dist.Normal(0.5 * age, 1.0), batch, columns=["y"])
        observe_mask("r", 0.5 - y, batch, columns=["y"])


def complete_age() -> Table:
    random = np.random.default_rng(0)
    y = np.where(random.random(30) < 0.3, np.nan, random.normal(size=30))
    return Table.from_frame(pd.DataFrame({"y": y, "age": random.normal(50, 10, 30)}), auxiliary=[])


def nothing(batch: Batch) -> None:
    """A guide that leaves everything to the model."""


def fits_of(table: Table) -> dict[str, Fit]:
    def given(batch: Batch) -> None:
        regression(batch, models_age=False)

    def joint(batch: Batch) -> None:
        regression(batch, models_age=True)

    return {"joint": Fit(joint, nothing, table.schema), "given": Fit(given, nothing, table.schema)}


def test_bounds_of_other_data_are_not_compared() -> None:
    table = complete_age()
    fits = fits_of(table)
    with pytest.raises(ValueError, match="column 'age': 'joint' has a density of it and 'given' is conditional on it"):
        compare(fits, table)
    assert len(compare({"one": fits["given"], "other": fits["given"]}, table).bounds) == 2


def test_generated_rows_keep_what_the_model_is_conditional_on() -> None:
    table = complete_age()
    fits = fits_of(table)
    generated = generate(fits["given"], table)
    np.testing.assert_allclose(generated["age"], table.frame["age"], rtol=1e-12)
    assert generated.notna().all(axis=None)
    assert not np.allclose(generate(fits["joint"], table)["age"], table.frame["age"])
    other = table.new_rows(table.frame.assign(age=table.frame["age"].where(table.frame.index != 3)))
    with pytest.raises(ValueError, match=r"column 'age': the model is conditional on it.*row 3"):
        generate(fits["given"], other)


def test_a_graph_is_read_off_a_model_with_effects_of_groups() -> None:
    """Recovery moves U off the groups; the nearest one is then meant, and a row of a group has its own."""
    table = Table.from_frame(interviews(), auxiliary=["who"])
    groups = Groups(table, "who")

    def model(batch: Batch) -> None:
        with groups.plate():
            effect = pyro.sample("effect", dist.Normal(batch.x.new_zeros(()), 2.0))
        with rows(batch):
            y = partially_observed("y", dist.Normal(effect[groups.of(batch)].unsqueeze(-1), 0.3), batch)
            observe_mask("r", 1.0 - 2.0 * y, batch)

    assert [(edge.parent, edge.child) for edge in missingness_graph_of(model, table).edges] == [("y", "R[y]")]
    batch = table.batch()
    assert [groups.levels[at] for at in groups.of(batch)] == list(table.frame["who"])
    between = replace(batch, aux=torch.full_like(batch.aux, 0.9))
    assert set(groups.of(between).tolist()) <= set(range(len(groups)))
