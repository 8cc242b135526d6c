"""Gradients many times as long as usual are shortened, alike by Python, by a graph and for members trained at once."""

from __future__ import annotations

import math

import pandas as pd
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule

from pyro_mnar import Batch, Table, fit, partially_observed, rows
from pyro_mnar.training.stepper import BETAS, clipped, limits

FAR = 1e6


def test_a_gradient_is_held_to_so_many_root_mean_squares_of_those_before() -> None:
    gradients, second = torch.randn(50, 2, 3), torch.zeros(2, 3)
    gradients[30, 1] *= 1e4  # of the second member alone
    weights, squares = 0.0, torch.zeros(2)
    for gradient, limit in zip(gradients, limits(5.0, 50), strict=True):
        got = clipped(gradient, second, limit)
        usual = (squares / weights).sqrt() if weights else torch.full((2,), math.inf)
        expected = torch.minimum(gradient.norm(dim=-1), 5 * usual)
        torch.testing.assert_close(got.norm(dim=-1), expected)
        torch.testing.assert_close(torch.nn.functional.cosine_similarity(got, gradient), torch.ones(2))
        second = BETAS[1] * second + (1 - BETAS[1]) * got.square()
        weights = BETAS[1] * weights + 1 - BETAS[1]
        squares = BETAS[1] * squares + (1 - BETAS[1]) * got.square().sum(-1)
    assert got.equal(gradient)  # an ordinary one is what it was, to the last bit


@pytest.mark.parametrize("limit", limits(None, 3))
def test_there_is_no_limit_where_none_is_asked_for_or_nothing_came_before(limit: torch.Tensor) -> None:
    gradient = FAR * torch.randn(4)
    assert clipped(gradient, torch.ones(4), limit).equal(gradient)
    assert clipped(gradient, torch.zeros(4), torch.tensor(25.0)).equal(gradient)


class Mean(PyroModule):
    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.nn.Parameter(torch.zeros(1))

    def forward(self, batch: Batch) -> None:
        with rows(batch):
            partially_observed("x", dist.Normal(self.mean, 1.0).expand([len(batch), 1]), batch)


def mean_of(table: Table, **options: object) -> float:
    """What is fitted as the mean of ones, of which one is a million."""
    made = fit(Mean(), lambda batch: None, table, epochs=6, batch_size=4, progress=False, **options)
    return made.model.mean.item()


def test_one_row_does_not_hold_the_steps_after_it_back() -> None:
    """Without a limit Adam's memory of one gradient of a million leaves steps of a thousandth of the rate."""
    values = torch.ones(200, 1)
    values[60] = FAR
    with pytest.warns(UserWarning, match="lies"):
        table = Table.from_frame(
            pd.DataFrame(values.numpy(), columns=["x"]), auxiliary=[], standardize=False, kinds={"x": "continuous"}
        )
    by_python, by_graph = (mean_of(table, compile=mode) for mode in ("eager", "graph"))
    assert by_python == pytest.approx(by_graph, rel=1e-9)
    assert abs(by_python - 1) < 0.2 < abs(mean_of(table, compile="eager", clip=None) - 1)


def test_what_is_no_limit_is_refused() -> None:
    table = Table.from_frame(pd.DataFrame({"x": [1.0, 2.0]}), auxiliary=[])
    with pytest.raises(ValueError, match="clip: expected more than 0, and finite, got 0"):
        mean_of(table, clip=0)
