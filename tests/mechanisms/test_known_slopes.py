"""Slopes that are known, or that have a prior: what the mechanism then is, what the objective then holds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch

from checks import table_with_gaps
from pyro_mnar import Fit, ImportanceWeightedELBO, MissingnessGraph, Table, fit
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.infer.session import Session
from pyro_mnar.mechanisms import LatentDependent, SelfMasking
from pyro_mnar.models import GINA
from pyro_mnar.models import LatentDependent as LatentDependentModel
from pyro_mnar.models import SelfMasking as SelfMaskingModel
from pyro_mnar.summaries import observed_information, summarise

EDGES = [
    ("x0", "R[x0]", {"slope": -1.5}),
    ("x1", "R[x0]", {"slope": 0.25, "sign": "low"}),
    ("x1", "R[x1]", {"slope": 0.5, "sign": "high"}),
    ("R[x0]", "R[x1]", {"slope": 2.0}),
    ("u0", "R[x2]", {"slope": 0.75}),
    ("x2", "R[x2]"),
    ("Z", "R[x2]"),
]


def test_an_edge_of_known_slope_is_that_slope_whatever_is_learned() -> None:
    table = table_with_gaps()
    mechanism = MissingnessGraph(EDGES, table).mechanism(2, form="nonlinear")
    with torch.no_grad():
        for parameter in mechanism.parameters():
            parameter.normal_()
    x, z = torch.randn(5, 3), torch.randn(5, 2)
    mask, aux = torch.rand(5, 3) < 0.5, torch.randn(5, 1)
    expected = mechanism.intercept.expand(5, 3).clone()
    expected[:, 0] += -1.5 * x[:, 0] + 0.25 * x[:, 1]
    expected[:, 1] += -0.5 * x[:, 1] + 2.0 * mask[:, 0]
    got = mechanism(x, z, mask, aux)
    torch.testing.assert_close(got[:, :2], expected[:, :2])
    moved = mechanism(x, z, mask, aux + 1.0)[:, 2] - got[:, 2]
    torch.testing.assert_close(moved, torch.full((5,), 0.75))
    got.square().sum().backward()
    for name, parameter in mechanism.named_parameters():
        learned = parameter.grad[..., :2] if name == "raw_own_slope" else torch.zeros(1)
        assert not learned.any(), name


def test_known_slopes_are_shown_and_come_back_from_a_file() -> None:
    table = table_with_gaps()
    graph = MissingnessGraph(EDGES, table)
    assert "x0 (high → missing, slope -1.5)" in str(graph)
    assert "slope 0.75" in graph.to_dot()
    assert MissingnessGraph.from_json(graph.to_json(), table) == graph
    assert graph.knowing("x0", "R[x0]", slope=0.5) != graph
    assert graph.knowing("x2", "R[x2]", slope=-1.0).edges[5].slope == -1.0
    masked = MissingnessGraph.self_masking(table, sign="high", slope=0.8)
    assert {edge.slope for edge in masked.edges} == {-0.8}
    with pytest.raises(ValueError, match="a slope from 0 beside sign 'low'"):
        graph.knowing("x0", "R[x0]", sign="low")


def test_a_fit_of_a_graph_with_known_slopes_comes_back_and_says_them(tmp_path) -> None:
    table = table_with_gaps()
    model = GINA(table, latent_dim=1, graph=MissingnessGraph.self_masking(table, slope=-0.4), seed=0)
    fitted = fit(model, ZeroImpute(table, 1, seed=0), table, epochs=1, progress=False)
    fitted.save(tmp_path / "fit.pt")
    for one in (fitted, Fit.load(tmp_path / "fit.pt")):
        summary = summarise(one, table, with_intervals=False)
        assert [each.change for each in summary.dependences] == pytest.approx([-0.4] * 3)


def test_levels_without_an_order_have_no_slope() -> None:
    frame = pd.DataFrame({"a": ["x", "y", "z", None] * 5, "b": np.arange(20.0)})
    table = Table.from_frame(frame, auxiliary=[])
    with pytest.raises(ValueError, match=r"column 'a': its levels have no order, so .* no slope"):
        GINA(table, graph=MissingnessGraph([("a", "R[a]", {"slope": 1.0})], table))


def test_a_models_slope_may_be_known() -> None:
    model = SelfMaskingModel(table_with_gaps(), latent_dim=1, sign=-1, slope=1.0, seed=0)
    assert model.mechanism.slope.tolist() == [-1.0] * 3


def gina_of(mechanism: type[SelfMasking], table: Table, slope: list | None) -> GINA:
    return GINA(table, latent_dim=1, mechanism=partial(mechanism, slope=slope), seed=0)


def linear_of(kind: type[SelfMaskingModel], table: Table, slope: list | None) -> SelfMaskingModel:
    return kind(table, latent_dim=1, slope=slope, seed=0)


@pytest.mark.parametrize(
    "made",
    [
        partial(gina_of, SelfMasking),
        partial(gina_of, LatentDependent),
        partial(linear_of, SelfMaskingModel),
        partial(linear_of, LatentDependentModel),
    ],
    ids=["GINA, self-masking", "GINA, latent-dependent", "SelfMasking", "LatentDependent"],
)
def test_a_prior_on_a_slope_counts_once_whatever_the_minibatch(made: Callable) -> None:
    """The loss is that without the prior, less log p(slope): in a minibatch of a quarter of the rows too."""
    table = table_with_gaps()
    slopes = torch.tensor([0.3, -0.8, 0.1])
    losses = []
    for slope in ([None, dist.Normal(-1.0, 0.3), None], None):
        model = made(table, slope)
        model.mechanism.put_lines(slope=slopes)
        guide = ZeroImpute(table, 1, hidden=[4], seed=1)
        batches = (table.batch(), table.batch().take(torch.arange(10)))
        with Session(0).running():
            losses.append([ImportanceWeightedELBO(3).loss(model, guide, batch) for batch in batches])
    expected = -dist.Normal(-1.0, 0.3).log_prob(slopes[1]).item()
    assert np.subtract(*losses) == pytest.approx([expected, expected])


def test_a_prior_on_a_slope_of_known_sign_is_one_of_the_slope() -> None:
    mechanism = SelfMasking(2, sign=[-1, 0], slope=dist.Normal(-2.0, 0.5))
    assert mechanism.log_prior().item() == pytest.approx(dist.Normal(-2.0, 0.5).log_prob(mechanism.slope).sum().item())
    assert SelfMasking(2).log_prior() is None


@pytest.mark.parametrize(
    ("slope", "message"),
    [
        (dist.Normal(torch.zeros(3), 1.0), "expected a distribution of one number, got batch shape"),
        (dist.Poisson(1.0), "expected a distribution with a density"),
        ([dist.Normal(0.0, 1.0)], "one for each of 2 columns"),
    ],
)
def test_priors_that_are_none(slope: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SelfMasking(2, slope=slope)


@pytest.mark.slow
def test_a_prior_narrows_the_interval_of_a_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the rest of the information J_λ, 1/(J_λ + 1/0.05²) is below 0.05² and nearly it."""
    monkeypatch.setattr(observed_information, "PARTICLES", (20,))
    table = table_with_gaps(60)
    widths = []
    for slope in (dist.Normal(0.0, 0.05), dist.Normal(0.0, 1.0)):
        model = GINA(table, latent_dim=1, mechanism=partial(SelfMasking, slope=slope), seed=0)
        summary = Fit(model, ZeroImpute(table, 1, hidden=[4], seed=1), table.schema, table=table).summary(
            ignorable=False
        )
        widths.append([(one.upper - one.lower) / 2 / 1.96 for one in summary.dependences])
    assert np.all(np.array(widths[0]) == pytest.approx(0.05, rel=0.1))
    assert np.all(np.array(widths[1]) > 0.2)
