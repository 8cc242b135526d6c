"""Every column with gaps is drawn exactly once, or the call fails and says which site and which column."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyro
import pyro.distributions as dist
import pyro.poutine as poutine
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO

from checks import table_with_gaps
from pyro_mnar import (
    Batch,
    Fit,
    ImportanceWeightedELBO,
    Table,
    fit,
    impute,
    observe_mask,
    partially_observed,
    rows,
)

pytestmark = pytest.mark.usefixtures("own_store")


def model(batch: Batch) -> None:
    with rows(batch):
        x = partially_observed("x", dist.Normal(torch.zeros_like(batch.x), 1.0), batch)
        observe_mask("r", -x, batch)


def guide(batch: Batch) -> None:
    pass


def table_of() -> Table:
    return table_with_gaps(12, 2)


def with_values(handler: Callable, site: str) -> Callable:
    """The model with a site's values fixed by a handler."""
    return lambda batch: handler(model, data={site: torch.zeros_like(batch.x)})(batch)


class Unmarked(poutine.messenger.Messenger):
    """A handler that puts another distribution in place, as reparameterisations do."""

    def _pyro_sample(self, msg: dict) -> None:
        if msg["name"] == "x_missing":
            msg["fn"] = msg["fn"].row


HANDLED = {
    "condition": (with_values(poutine.condition, "x_missing"), r"site 'x_missing' .*x0.* got fixed ones"),
    "condition observed": (with_values(poutine.condition, "x_observed"), r"site 'x_observed' .*expected the table"),
    "do": (with_values(poutine.do, "x_missing"), r"site 'x_missing': expected no intervention"),
    "do observed": (with_values(poutine.do, "x_observed"), r"site 'x_observed': expected no intervention"),
    "uncondition": (poutine.uncondition(model), r"site 'x_observed' .*got draws \(poutine.uncondition\)"),
    "block": (poutine.block(model, hide=["x_missing"]), r"column 'x0': expected a site that draws"),
    "block observed": (poutine.block(model, hide=["x_observed"]), r"column 'x0': expected a site that scores"),
    "mask": (
        lambda batch: poutine.mask(model, mask=batch.index > 3)(batch),
        r"site 'x_missing' .* rows are masked out",
    ),
    "scale": (
        lambda batch: poutine.scale(model, scale=batch.x.new_zeros(len(batch)))(batch),
        r"site 'x_missing' .* scale 0",
    ),
    "another distribution": (Unmarked()(model), r"column 'x0': expected a site that draws .*'x_missing'"),
}


@pytest.mark.parametrize("handler", HANDLED)
@pytest.mark.parametrize("from_svi", [False, True])
@pytest.mark.parametrize("of_cells", [False, True])
def test_a_handler_that_takes_missing_values_away_is_named(handler: str, from_svi: bool, of_cells: bool) -> None:
    (handled, message), table = HANDLED[handler], table_of()
    made = Fit.from_svi(handled, guide, table) if from_svi else Fit(handled, guide, table.schema)
    cells = tuple(np.nonzero(~table.mask.numpy())) if of_cells else None
    with pytest.raises(ValueError, match=message):
        impute(made, table, cells=cells)


def test_a_column_without_gaps_may_be_left_out_and_one_with_some_may_not() -> None:
    def of_columns(*columns: str) -> Callable:
        def model(batch: Batch) -> None:
            scale = pyro.param("scale", torch.tensor(1.0))
            with rows(batch):
                fn = dist.Normal(torch.zeros(len(batch), len(columns)), scale)
                partially_observed("x", fn, batch, columns=columns)

        return model

    frame = table_of().frame.drop(columns="u0").assign(whole=1.0 * torch.arange(12).numpy())
    table = Table.from_frame(frame, auxiliary=[])
    impute(fit(of_columns("x0", "x1"), guide, table, epochs=1, progress=False), table)
    with pytest.raises(ValueError, match="column 'x1': has gaps, and no site of the model has it"):
        fit(of_columns("x0", "whole"), guide, table, epochs=1, progress=False)
    with pytest.raises(ValueError, match="column 'x1': has gaps"):
        impute(Fit(of_columns("x0", "whole"), guide, table.schema), table)
    # New rows have gaps where the training rows had none.
    new = table.new_rows(frame.assign(whole=[None, *[1.0] * 11]))
    with pytest.raises(ValueError, match="column 'whole': has gaps"):
        impute(Fit(of_columns("x0", "x1"), guide, table.schema), new)


def test_a_column_of_two_calls_is_refused_by_every_objective_of_ours() -> None:
    def twice(batch: Batch) -> None:
        scale = pyro.param("scale", torch.tensor(1.0))
        with rows(batch):
            partially_observed("x", dist.Normal(torch.zeros(len(batch), 2), scale), batch)
            partially_observed("y", dist.Normal(torch.zeros(len(batch), 1), scale), batch, columns=["x1"])

    message = "column 'x1': expected one site, got 'x_missing' and 'y_missing'"
    with pytest.raises(ValueError, match=message):
        fit(twice, guide, table_of(), epochs=1, progress=False)
    with pytest.raises(ValueError, match=message):
        SVI(twice, guide, pyro.optim.Adam({}), ImportanceWeightedELBO()).step(table_of().batch())
    with pytest.raises(ValueError, match=message):
        impute(Fit(twice, guide, table_of().schema), table_of())


def test_a_mask_that_is_scored_twice_is_refused() -> None:
    def twice(batch: Batch) -> None:
        scale = pyro.param("scale", torch.tensor(1.0))
        with rows(batch):
            x = partially_observed("x", dist.Normal(torch.zeros(len(batch), 2), scale), batch)
            observe_mask("r", -x, batch)
            observe_mask("s", -x[..., 1:], batch, columns=["x1"])

    with pytest.raises(ValueError, match="column 'x1': expected one site, got 'r' and 's'"):
        fit(twice, guide, table_of(), epochs=1, progress=False)


def test_columns_that_are_not_there_or_given_twice_are_refused() -> None:
    batch, fn = table_of().batch(), dist.Normal(torch.zeros(12, 1), 1.0)
    for columns, message in (
        (["x7"], r"site 'x': expected columns among \['x0', 'x1'\], got 'x7'"),
        ([2], r"site 'x': expected columns among \['x0', 'x1'\], got 2"),
        (["x0", 0], "site 'x': expected each column once, got 'x0' twice"),
        ([], "site 'x': expected at least one of the columns"),
    ):
        with rows(batch), pytest.raises(ValueError, match=message):
            partially_observed("x", fn, batch, columns=columns)


def test_plain_objectives_are_none_of_ours() -> None:
    """Pyro's own ELBO asks the guide for x_missing and is let be."""

    def proposing(batch: Batch) -> None:
        with rows(batch):
            pyro.sample("x_missing", dist.Normal(torch.zeros_like(batch.x), 1.0).to_event(1))

    assert Trace_ELBO().loss(model, proposing, table_of().batch()) > 0
