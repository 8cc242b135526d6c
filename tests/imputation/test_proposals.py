"""Guides that draw x_missing themselves: the imputations follow the exact law all the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI
from pyro.infer.autoguide import AutoNormal
from pyro.infer.autoguide.initialization import init_to_median
from torch import Tensor

from checks import z_limit
from pyro_mnar import (
    Batch,
    Fit,
    ImportanceWeightedELBO,
    SumsTo,
    Table,
    fit,
    impute,
    observe_mask,
    partially_observed,
    propose_missing,
    rows,
)
from pyro_mnar.distributions import Levels

pytestmark = pytest.mark.usefixtures("own_store")

# z ~ N(0, 1), x_d = 0.8 z + 0.6 ε, a standard normal; log-odds of being observed 0.5 - 1.5 x_d: high ones go missing.
INTERCEPT, SLOPE = 0.5, -1.5


def model(batch: Batch) -> Tensor:
    with rows(batch):
        z = pyro.sample("z", dist.Normal(batch.x.new_zeros(len(batch)), 1.0))
        x = partially_observed("x", dist.Normal(0.8 * z[..., None], batch.x.new_full((2,), 0.6)), batch)
        observe_mask("r", INTERCEPT + SLOPE * x, batch)
    return x


def latent(batch: Batch) -> None:
    pyro.sample("z", dist.Normal(batch.x.new_zeros(len(batch)), 1.2))


def by_hand(batch: Batch) -> None:
    with rows(batch):
        latent(batch)
        pyro.sample("x_missing", dist.Normal(torch.zeros_like(batch.x), 1.5).to_event(1))


def by_helper(batch: Batch) -> None:
    with rows(batch):
        latent(batch)
        propose_missing("x", dist.StudentT(4.0, torch.zeros_like(batch.x), 1.5), batch)


def by_pyro() -> Callable:
    return AutoNormal(model, init_loc_fn=init_to_median, init_scale=1.0, create_plates=rows)


def table_of(num_rows: int = 12) -> Table:
    """Standardised as the model has it: the gaps are placed by hand, since only their laws are looked at."""
    values = np.random.default_rng(0).normal(size=(num_rows, 2))
    values = (values - values.mean(0)) / values.std(0)
    values[0::3, 1] = np.nan
    values[1::3, 0] = np.nan
    return Table.from_numpy(values, columns=["a", "b"], auxiliary=[])


def exact(table: Table) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each gap, standardised, by quadrature: normal given the other, times its mask."""
    grid = np.linspace(-8, 8, 4_001)
    means, deviations = [], []
    for row, column in np.argwhere(~table.mask.numpy()):
        other = table.x[row, 1 - column].item()
        density = np.exp(-0.5 * (grid - 0.64 * other) ** 2 / (1 - 0.64**2))
        density /= 1 + np.exp(INTERCEPT + SLOPE * grid)
        density /= density.sum()
        means.append((density * grid).sum())
        deviations.append(((density * (grid - means[-1]) ** 2).sum()) ** 0.5)
    return np.array(means), np.array(deviations)


def check_law(fitted: Fit, table: Table, **options: object) -> None:
    """The posterior means, each within chance of its quadrature; false alarm at 1e-5 over all gaps together."""
    found = impute(fitted, table, num_draws=4, num_particles=5_000, **options)
    mean, deviation = exact(table)
    rows_of = found.cells[0]
    unit = np.array([table.schema.columns[d].std for d in found.cells[1]])
    center = np.array([table.schema.columns[d].mean for d in found.cells[1]])
    ess = found.effective_sample_size
    ess = ess[rows_of] if len(ess) == len(table) else ess
    # Heavy weights fall where the law is wide, so that a mean's error can be some half more than by its sample size.
    error = 1.5 * deviation / np.sqrt(ess)
    assert (np.abs((found.means - center) / unit - mean) < z_limit(len(mean)) * error).all()
    assert np.median(error) < 0.05 and np.abs(mean).max() > 0.5  # column means, which are zero here, would be far out
    drawn = (found.draws - center) / unit
    assert (drawn.std(0) > 0).all()


@pytest.mark.parametrize("guide", [by_hand, by_helper, by_pyro], ids=["by hand", "propose_missing", "AutoNormal"])
def test_missing_values_that_a_guide_proposes_follow_the_exact_law(guide: Callable) -> None:
    table = table_of()
    guide = guide() if guide is by_pyro else guide
    guide(table.batch())
    check_law(Fit.from_svi(model, guide, table), table)


def test_so_do_those_of_a_trained_guide() -> None:
    table = table_of()
    fitted = fit(model, by_pyro(), table, epochs=20, learning_rate=0.01, progress=False)
    check_law(fitted, table)


def test_so_do_those_that_plain_svi_trained() -> None:
    table, guide = table_of(), by_pyro()
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), ImportanceWeightedELBO(5))
    for _ in range(10):
        svi.step(table.batch())
    check_law(Fit.from_svi(model, guide, table), table)


@pytest.mark.parametrize("options", [{"compile": "graph"}, {"cells": True}])
def test_single_cells_and_captured_chunks_do_too(options: dict) -> None:
    table = table_of()
    if "cells" in options:
        options = {"cells": tuple(np.nonzero(~table.mask.numpy()))}
    check_law(Fit(model, by_hand, table.schema), table, **options)


def test_a_guide_may_not_propose_numbers_for_levels() -> None:
    """A density at the nearest level is no probability: weights would be wrong by a factor that varies."""
    table = table_of()
    points = torch.tensor([[-1.0, 1.0]] * 2)

    def of_levels(batch: Batch) -> None:
        with rows(batch):
            latent(batch)
            partially_observed("x", Levels(batch.x.new_zeros(len(batch), 2, 2), points), batch)

    with pytest.raises(ValueError, match=r"site 'x_missing': .* levels or counts, .* propose_missing\('x'"):
        impute(Fit(of_levels, by_hand, table.schema), table)


def test_a_sum_needs_proposals_column_by_column() -> None:
    """The part that follows from the others is weighed with its own density, which a joint proposal does not have."""
    frame = table_of().frame.abs() + 1
    frame["total"] = (frame["a"] + frame["b"]).fillna(8.0)
    table = Table.from_frame(frame, auxiliary=["total"], constraints=[SumsTo(["a", "b"], "total")])
    guide = by_pyro()
    guide(table.batch())
    with pytest.raises(ValueError, match=r"site 'x_missing': a part of a sum .* proposal by Delta"):
        impute(Fit.from_svi(model, guide, table), table)


def test_values_of_another_shape_are_refused() -> None:
    def of_one_column(batch: Batch) -> None:
        with rows(batch):
            latent(batch)
            pyro.sample("x_missing", dist.Normal(torch.zeros_like(batch.x[:, :1]), 1.5).to_event(1))

    table = table_of()
    with pytest.raises(ValueError, match=r"site 'x_missing': expected values of shape \(..., 8, 2\)"):
        impute(Fit(model, of_one_column, table.schema), table)
