"""Lines of a column's own value that may become thresholds: what parameters mean, and that training gets there."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from pyro_mnar import MissingnessGraph, Table
from pyro_mnar.distributions.links import link_of
from pyro_mnar.distributions.self_masked import Line, SelfMaskedNormal
from pyro_mnar.mechanisms import LatentDependent, SelfMasking
from pyro_mnar.mechanisms.steepness import STEEPEST, raw_of, slope_of

SIGNS = torch.tensor([-1, 0, 1, 0])


def graph_mechanism(num_columns: int, latent_dim: int) -> torch.nn.Module:
    rows = np.where(np.eye(num_columns, dtype=bool), np.nan, np.arange(num_columns)[:, None])
    table = Table.from_frame(pd.DataFrame(rows, columns=list("abcd")), auxiliary=[])
    edges = [("a", "R[a]", {"sign": "high"}), ("b", "R[b]"), ("c", "R[c]", {"sign": "low"}), ("d", "R[d]")]
    return MissingnessGraph([*edges, ("Z", "R[a]")], table).mechanism(latent_dim)


MADE = {
    "self-masking": partial(SelfMasking, sign=SIGNS.tolist()),
    "latent-dependent": partial(LatentDependent, sign=SIGNS.tolist()),
    "graph": graph_mechanism,
}


@pytest.fixture(params=MADE)
def mechanism(request: pytest.FixtureRequest) -> torch.nn.Module:
    return MADE[request.param](4, 2)


def lines_of(mechanism: torch.nn.Module) -> tuple[Tensor, Tensor]:
    """Log-odds at 0 and their rise to 1, as rows see them."""
    at = torch.arange(2.0)[:, None].expand(2, 4)
    low, high = mechanism(at, torch.zeros(2, 2))
    return low, high - low


def test_lines_that_are_put_are_those_that_rows_see(mechanism: torch.nn.Module) -> None:
    intercept, slope = torch.tensor([2.0, 0.0, -300.0, -1e-3]), torch.tensor([-1e-3, 0.0, 150.0, -2.0])
    mechanism.put_lines(intercept, slope)
    found = lines_of(mechanism)
    torch.testing.assert_close(found, (intercept, slope))
    torch.testing.assert_close(mechanism.intercept, intercept)
    mechanism.put_lines(intercept + 1)
    torch.testing.assert_close(lines_of(mechanism), (intercept + 1, slope))
    mechanism.put_lines(slope=slope * 2)
    torch.testing.assert_close(lines_of(mechanism), (intercept + 1, slope * 2))


def test_a_known_slope_is_not_put() -> None:
    made = SelfMasking(2, slope=[-3.0, None])
    made.put_lines(torch.tensor([1.0, 1.0]), torch.tensor([5.0, 5.0]))
    torch.testing.assert_close(made.slope, torch.tensor([-3.0, 5.0]))
    torch.testing.assert_close(made.intercept, torch.ones(2))


def test_the_middle_of_a_steep_line_stays_where_it_is(mechanism: torch.nn.Module) -> None:
    """Whatever steepness training finds; and small slopes are the parameter itself."""
    raw = getattr(mechanism, mechanism._RAW)
    middles = []
    with torch.no_grad():
        mechanism.raw_intercept.fill_(-1.3)
        for steep in (4.0, 8.0):
            raw.copy_(torch.full((4,), steep))
            intercept, slope = lines_of(mechanism)
            middles.append((-intercept / slope) * slope.sign())
    torch.testing.assert_close(middles[0], torch.full((4,), 1.3), rtol=1e-3, atol=0)
    torch.testing.assert_close(middles[1], torch.full((4,), 1.3), rtol=1e-6, atol=0)
    small = torch.tensor([1e-4, -1e-4])
    torch.testing.assert_close(slope_of(small, torch.zeros(2, dtype=torch.long)), small)


def test_parameters_and_slopes_are_each_other_s_inverse_to_the_steepest() -> None:
    for dtype, accuracy in ((torch.float64, 1e-9), (torch.float32, 1e-5)):
        slope = torch.tensor([-1e-3, 0.0, 20.0, -STEEPEST], dtype=dtype)
        torch.testing.assert_close(slope_of(raw_of(slope, SIGNS), SIGNS), slope, rtol=accuracy, atol=accuracy)
    beyond = torch.tensor([1e3, -1e3, 1e3, 80.0], dtype=torch.float32, requires_grad=True)
    slope = slope_of(beyond, SIGNS)
    gradient = torch.autograd.grad((1 + slope.square()).sqrt().sum(), beyond)[0]
    assert slope.abs().max() <= 1.001 * STEEPEST and gradient.isfinite().all()


def test_a_threshold_is_found_in_few_steps_of_adam() -> None:
    """Everything above 0.5 is missing; y | u is known, so that only the line is learned.

    Were the slope itself the parameter, 300 steps of 0.03 would take it to 9 at most.
    """
    random = torch.Generator().manual_seed(3)
    u, e = torch.randn(2, 400, generator=random)
    y = u + 0.3 * e
    seen = y < 0.5
    made = SelfMasking(1)
    adam = torch.optim.Adam(made.parameters(), lr=0.03)
    law, explained = dist.Normal(u[:, None], 0.3), ~seen[:, None]
    for _ in range(300):
        line = Line(made.intercept, made.slope)
        log_missing = SelfMaskedNormal(law, line, link_of("logit"), explained).log_missing.sum()
        loss = -log_missing - logsigmoid(line(y[seen])).sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert made.slope.item() < -15
    assert -(made.intercept / made.slope).item() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("made", [SelfMasking, LatentDependent])
def test_states_of_earlier_versions_mean_what_they_meant(made: type[SelfMasking]) -> None:
    new = made(4, 2, sign=SIGNS.tolist(), slope=[None, None, None, -7.0])
    old = {name: torch.randn_like(v) if v.is_floating_point() else v for name, v in new.state_dict().items()}
    raw, intercept = 2 * old["raw_slope"], old.pop("raw_intercept")
    del old["_follows"], old["_leads"]
    new.load_state_dict({**old, "raw_slope": raw, "intercept": intercept})
    softened = torch.nn.functional.softplus(raw)
    torch.testing.assert_close(new.slope, torch.stack([-softened[0], raw[1], softened[2], torch.tensor(-7.0)]))
    torch.testing.assert_close(new.intercept, intercept)
    again = made(4, 2, sign=SIGNS.tolist(), slope=[None, None, None, -7.0])
    again.load_state_dict(new.state_dict())
    torch.testing.assert_close(again.slope, new.slope)


def test_restarts_are_of_the_size_that_they_were() -> None:
    made = SelfMasking(2000)
    torch.manual_seed(0)
    made.reset_parameters()
    assert made.slope.median().abs() < 0.1 and 0.5 < made.slope.abs().median() < 1.0
    assert not made.intercept.any()
