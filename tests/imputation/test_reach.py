"""How far outside of what was seen amounts and counts are imputed: against truncated laws, and how far that is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from scipy.special import expit
from torch import Tensor

from bad_inputs.case import untrained
from pyro_mnar import Batch, Fit, MissingnessGraph, Table, impute, observe_mask, partially_observed, rows
from pyro_mnar.distributions import Columns
from pyro_mnar.distributions.counts import StandardizedCounts
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.imputation.reach import Reach
from pyro_mnar.imputation.target import Target
from pyro_mnar.models import GINA, NotMIWAE, PartialVAE

pytestmark = pytest.mark.usefixtures("own_store")

SLOPE, NOISE = 1.5, 0.8
AT = (0.0, 1.0, 2.0, 3.0)  # of the complete column, in rows without an amount: there log-amounts lie higher and higher


def amounts(kind: str = "positive") -> Table:
    rng = np.random.default_rng(0)
    size = np.concatenate([rng.normal(size=300), AT])
    amount = np.exp(0.3 * size + rng.normal(size=len(size)))
    amount = np.ceil(3 * amount) if kind == "count" else amount
    amount[-len(AT) :] = np.nan
    name = "count" if kind == "count" else "amount"
    return Table.from_frame(
        pd.DataFrame({name: amount, "size": size}),
        auxiliary=[],
        kinds={name: kind},
        standardize={name: kind != "count"},
    )


def two_amounts() -> Table:
    frame = amounts().frame
    return Table.from_frame(np.exp(frame.assign(amount=np.log(frame["amount"]))), auxiliary=[], kinds="positive")


def law(batch: Batch) -> Any:
    """Of both columns; log-amounts leave the range seen as the size grows."""
    return dist.Normal(torch.stack([SLOPE * batch.x[:, 1], torch.zeros(len(batch))], -1), NOISE)


def without_mask(batch: Batch) -> None:
    with rows(batch):
        partially_observed("x", law(batch), batch)


def self_masked(batch: Batch) -> None:
    with rows(batch):
        x = partially_observed("x", law(batch), batch)
        observe_mask("r", x, batch)


def mask_by_size(batch: Batch) -> None:
    with rows(batch):
        x = partially_observed("x", law(batch), batch)
        observe_mask("r", x[..., 1:].expand_as(x), batch)


def amount_given(mean: Tensor, batch: Batch) -> Any:
    if batch.names[0] == "count":
        return StandardizedCounts(dist.Poisson(mean.exp()), torch.zeros(1), torch.ones(1))
    return dist.Normal(mean, 0.1)


def of_latent(batch: Batch) -> None:
    with rows(batch):
        z = pyro.sample("z", dist.Normal(torch.zeros(len(batch), 1), 0.8).to_event(1))
        mean = SLOPE * batch.x[:, 1:] + z
        law = Columns([((0,), amount_given(mean, batch)), ((1,), dist.Normal(0 * z, 1.0))])
        x = partially_observed("x", law, batch)
        observe_mask("r", x[..., 1:].expand_as(x), batch)


def near(batch: Batch) -> None:
    with rows(batch):
        pyro.sample("z", dist.Normal(torch.zeros(len(batch), 1), 0.8).to_event(1))


def mask_unknown(batch: Batch) -> None:
    with rows(batch):
        partially_observed("x", law(batch), batch)
        pyro.sample("r", dist.Bernoulli(logits=torch.zeros(2)).to_event(1), obs=batch.mask.to(batch.dtype))


def no_latents(batch: Batch) -> None:
    """A guide of nothing."""


def ends(table: Table, widths: float = 1.0) -> tuple[float, float]:
    column = table.schema.columns[0]
    far = widths * (column.greatest - column.least)
    return max(0.0, column.least - far), column.greatest + far


@pytest.mark.parametrize(("model", "widths"), [(without_mask, 1), (mask_by_size, 1), (self_masked, 10)])
def test_amounts_follow_the_law_within_reach(model: Callable[[Batch], None], widths: float) -> None:
    table = amounts()
    column, (low, high) = table.schema.columns[0], ends(table, widths)
    table.x[-1, 1] *= 1 + 0.7 * (widths > 1)  # so that its law is cut off there too
    found = impute(Fit(model, no_latents, table.schema), table, num_draws=1, num_particles=100_000)
    sizes = table.x[-len(AT) :, 1].numpy()
    amount = np.exp(np.linspace(-30.0, np.log(high), 400_001))
    at = (np.log(amount) - column.mean) / column.std
    weight = expit(-at) if model is self_masked else np.ones_like(at)  # the chance of the gap
    for size, mean, draw in zip(sizes, found.means, found.draws[0], strict=True):
        proposed = stats.norm.pdf(at, SLOPE * size, NOISE) * (at[1] - at[0])
        expected = np.average(amount, weights=weight * proposed)
        error = np.sqrt((weight**2 * (amount - expected) ** 2) @ proposed / 100_000) / (weight @ proposed)
        assert abs(mean - expected) < 5 * error
        assert low <= draw <= high
    assert found.means[-1] < high  # of the law without an end, the mean is far beyond
    assert np.exp((SLOPE * sizes[-1] + (NOISE * column.std) ** 2 / 2) * column.std + column.mean) > 2 * high


@pytest.mark.parametrize("kind", ["positive", "count"])
@pytest.mark.parametrize("options", [{}, {"cells": ([303], [0])}, {"compile": "graph"}, {"num_particles": 100}])
def test_however_draws_are_made(kind: str, options: dict[str, Any]) -> None:
    table = amounts(kind)
    fit = Fit(of_latent, near, table.schema)
    held = impute(fit, table, num_draws=40, **options)
    free = impute(fit, table, num_draws=40, extrapolate=True, **options)
    assert held.draws.max() <= ends(table)[1] < free.draws.max()
    assert held.means.max() <= ends(table)[1]


@pytest.mark.parametrize("kind", ["positive", "count"])
@pytest.mark.parametrize("options", [{}, {"cells": ([303], [0])}, {"compile": "graph"}, {"num_particles": 100}])
def test_what_lies_outside_altogether_is_put_at_the_end(kind: str, options: dict[str, Any], caplog: Any) -> None:
    table = amounts(kind)
    table.x[-1, 1] = 12.0 if kind == "count" else 40.0
    found = impute(Fit(of_latent, near, table.schema), table, **options)
    end = ends(table)[1]
    np.testing.assert_allclose(found.draws[:, -1], end, rtol=1e-5)
    np.testing.assert_allclose(found.means[-1], end, rtol=1e-5)
    said = f"1 of {table.schema.names[0]}'s {found.draws.shape[1]} gaps are imputed at {end:.4g}"
    assert said in caplog.text


def test_a_gap_at_the_end_leaves_the_row_s_other_columns_to_their_law() -> None:
    """Two amounts, one far beyond in every particle: particles in which the other is outside too count for less."""
    table = two_amounts()
    held = Reach(table.schema, {0: 1.0, 1: 1.0})
    x = torch.tensor([[[9.0, 0.5]], [[9.0, 9.0]], [[0.5, 0.5]]])
    row = table.batch().take(torch.tensor([300]))
    within, penalty = held.hold(x, dataclasses.replace(row, mask=torch.zeros(1, 2, dtype=torch.bool)))
    first, second = held.upper
    assert 0.5 < min(first, second) <= max(first, second) < 9.0
    expected = torch.tensor([[[first, 0.5]], [[first, second]], [[0.5, 0.5]]])
    torch.testing.assert_close(within, expected)
    assert penalty[2, 0] == 0 and penalty[1, 0] == 2 * penalty[0, 0] > 300


@pytest.mark.parametrize("model", [self_masked, mask_unknown])
def test_ten_widths_are_allowed_where_gaps_tell_of_values_or_nobody_knows(
    model: Callable[[Batch], None], caplog: pytest.LogCaptureFixture
) -> None:
    table = amounts()
    fit = Fit(model, no_latents, table.schema)
    near, end = ends(table)[1], ends(table, 10)[1]
    assert near < impute(fit, table).draws.max() < end
    table.x[-1, 1] = 12.0
    caplog.clear()
    np.testing.assert_allclose(impute(fit, table).draws[:, -1], end, rtol=1e-5)
    assert f"1 of amount's 4 gaps are imputed at {end:.4g}, 10 times as far outside of the range seen" in caplog.text
    assert impute(fit, table, extrapolate=True).draws.max() > end


def many_amounts(batch: Batch) -> None:
    with rows(batch):
        partially_observed("x", dist.Normal(batch.x[:, :1].expand(-1, batch.num_columns), 0.9), batch)


@pytest.mark.parametrize(("num_gaps", "is_held"), [(20, True), (21, False)])
def test_rows_of_many_gaps_are_not_held(num_gaps: int, is_held: bool) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(np.exp(rng.normal(size=(400, num_gaps + 1))), columns=[f"a{d}" for d in range(num_gaps + 1)])
    frame.iloc[-1, 0], frame.iloc[-1, 1:] = np.exp(1.0), np.nan
    table = Table.from_frame(frame, auxiliary=[], kinds="positive")
    found = impute(Fit(many_amounts, no_latents, table.schema), table, num_draws=200, seed=1)
    most = [2 * column.greatest - column.least for column in table.schema.columns[1:]]
    assert (found.draws <= most).all() == is_held


def test_cells_without_a_value_count_for_nothing() -> None:
    frame = amounts().frame
    frame["fee"] = np.exp(np.linspace(-2.0, 2.0, len(frame)))
    frame.loc[300:, "fee"] = np.nan
    tables = [
        Table.from_frame(frame, auxiliary=[], kinds={"amount": "positive", "fee": "positive"}, not_applicable=given)
        for given in (None, {"fee": [False] * 300 + [True] * len(AT)})
    ]

    def law_of_three(batch: Batch) -> None:
        with rows(batch):
            x = batch.x[:, 1:2]
            partially_observed("x", dist.Normal(torch.cat([0.3 * x, 0 * x, 9 + 0 * x], -1), 0.1), batch)

    some, none = (
        Reach.of(Fit(law_of_three, no_latents, table.schema), table, Target.GIVEN_MASK, [0, 2]) for table in tables
    )
    x = torch.tensor([0.0, 0.0, 9.0]).expand(2, len(frame), 3)
    assert some is not None and none is not None
    assert some.hold(x, tables[0].batch()).penalty[:, -1].gt(0).all()
    assert some.hold(x.float(), tables[0].batch()).penalty.dtype == torch.float32  # weights keep theirs
    assert none.hold(x, tables[1].batch()).penalty.eq(0).all()


def test_columns_whose_gaps_are_at_random_stay_within_one_width() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(np.exp(rng.normal(size=(60, 4))), columns=["a", "b", "c", "d"])
    table = Table.from_frame(
        frame.mask((rng.random(frame.shape) < 0.3) & np.array([True, True, True, False])),
        auxiliary=[],
        kinds="positive",
    )
    of = [("a", "R[a]"), ("d", "R[b]"), ("R[a]", "R[c]")]

    def widths(model: Any, target: Target = Target.GIVEN_MASK) -> list[float]:
        fit = Fit(model, ZeroImpute(table, model.latent_dim, seed=0), table.schema)
        reach = Reach.of(fit, table, target, [0, 1, 2])
        assert reach is not None and reach.columns == [0, 1, 2]
        return list(reach.widths.values())

    declared = GINA(table, graph=MissingnessGraph(of, table), seed=0)
    assert widths(declared) == [10, 1, 10]  # c's gaps depend on a's value, through R
    assert widths(declared, Target.WITHOUT_MASK) == [1, 1, 1]
    assert widths(PartialVAE(table, seed=0)) == [1, 1, 1]
    assert widths(NotMIWAE(table, seed=0)) == [10, 10, 10]


def test_numbers_without_a_logarithm_are_as_before() -> None:
    table = Table.from_frame(pd.DataFrame({"a": [1.0, 2.0, None, 4.0] * 8, "b": np.arange(32.0)}))
    draws = [impute(untrained(table), table, extrapolate=free).draws for free in (False, True)]
    np.testing.assert_array_equal(*draws)
