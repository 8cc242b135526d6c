"""From a model back to its graph."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from checks import own_store, table_with_gaps
from graph_checks import graph_data, table_for
from pyro_mnar import Batch, MissingnessGraph, missingness_graph_of, observe_mask, partially_observed, rows
from pyro_mnar import mechanisms as m
from pyro_mnar.models import ANOVA, GINA, Ignorable, LatentDependent, NotMIWAE, PartialVAE, SelfMasking


def edges_of(graph: MissingnessGraph) -> set[tuple[Any, Any]]:
    return {(edge.parent, edge.child) for edge in graph.edges}


@settings(deadline=None, max_examples=15)
@given(graph_data(), st.sampled_from(["linear", "nonlinear"]))
def test_graph_to_model_to_graph(data: dict, form: str) -> None:
    graph = MissingnessGraph.from_dict(data)
    table = table_for(graph)
    graph = graph.knowing(form=form) if graph.edges else graph
    found = missingness_graph_of(GINA(table, graph=graph, latent_dim=2, seed=1), table, num_points=60)
    assert edges_of(found) == edges_of(graph)
    assert found.nodes == graph.on(table).nodes


@pytest.mark.parametrize(
    ("mechanism", "preset"),
    [
        (m.Constant, MissingnessGraph.mcar),
        (m.SelfMasking, MissingnessGraph.self_masking),
        (m.LatentDependent, MissingnessGraph.latent_dependent),
        (m.FullyConnected, MissingnessGraph.fully_connected),
        (m.General, MissingnessGraph.general),
    ],
)
def test_the_mechanisms_that_ship(mechanism: type, preset: Any) -> None:
    table = table_with_gaps()
    assert missingness_graph_of(GINA(table, mechanism=mechanism, seed=1), table) == preset(table)


@pytest.mark.parametrize(
    ("model", "preset"),
    [
        (lambda table: ANOVA(table, noise=0.5), MissingnessGraph.latent),
        (SelfMasking, MissingnessGraph.self_masking),
        (LatentDependent, MissingnessGraph.latent_dependent),
        (Ignorable, MissingnessGraph.mar),
    ],
)
def test_the_models_that_ship(model: Any, preset: Any) -> None:
    table = table_with_gaps()
    assert missingness_graph_of(model(table), table) == preset(table)


def test_a_model_that_ignores_the_mask_has_no_graph() -> None:
    with pytest.raises(ValueError, match="no site made by observe_mask"):
        missingness_graph_of(PartialVAE(table_with_gaps()), table_with_gaps())


def test_parameters_as_they_are() -> None:
    table = table_with_gaps()
    model = NotMIWAE(table, seed=1)
    before = [parameter.clone() for parameter in model.parameters()]
    assert missingness_graph_of(model, table) == MissingnessGraph.self_masking(table)
    assert all((a == b).all() for a, b in zip(before, model.parameters(), strict=True))
    assert missingness_graph_of(model, table, perturbation=0.0) == MissingnessGraph.mcar(table)


def test_callers_state_is_left_alone() -> None:
    table, generator = table_with_gaps(), torch.get_rng_state()
    with own_store():
        pyro.param("mine", torch.zeros(()))
        model = GINA(table, seed=1)
        assert missingness_graph_of(model, table) == missingness_graph_of(model, table, seed=3)
        assert list(pyro.get_param_store().keys()) == ["mine"]
    assert (torch.get_rng_state() == generator).all()


def function_of(logits: Any, fn: Any = None) -> Any:
    """A modeller's own function, with the log-odds to be tried."""

    def model(batch: Batch) -> None:
        with rows(batch):
            z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
            like = z[..., :1].expand(*z.shape[:-1], batch.num_columns)
            x = partially_observed("x", dist.Normal(like, 1.0) if fn is None else fn(like), batch)
            observe_mask("r", logits(x, z, batch), batch)

    return model


def batch_of(columns: int = 2, auxiliaries: int = 0) -> Batch:
    x = torch.randn(20, columns)
    return Batch.of(x.masked_fill(torch.rand_like(x) < 0.3, torch.nan), aux=torch.randn(20, auxiliaries))


@pytest.mark.parametrize(
    ("logits", "edges"),
    [
        (lambda x, z, batch: torch.zeros_like(x), set()),
        (lambda x, z, batch: 4.0 * (x > 0.3), {(0, "R[0]"), (1, "R[1]")}),
        (lambda x, z, batch: x.flip(-1).round(), {(1, "R[0]"), (0, "R[1]")}),
        (lambda x, z, batch: x * torch.tensor([1e-8, 0.0]), {(0, "R[0]")}),
        (lambda x, z, batch: (x + z) - z, {(0, "R[0]"), (1, "R[1]")}),
        (lambda x, z, batch: torch.stack([z[..., 0] * x[..., 1], 0 * z[..., 0]], -1), {("Z", "R[0]"), (1, "R[0]")}),
        (lambda x, z, batch: batch.aux[:, :1] * torch.tensor([0.0, 1.0]) + 0 * x, {("U0", "R[1]")}),
        (lambda x, z, batch: torch.stack([0 * x[..., 0], 1.0 * batch.mask[:, 0]], -1), {("R[0]", "R[1]")}),
        (lambda x, z, batch: batch.x, {(0, "R[0]"), (1, "R[1]")}),
    ],
    ids=["nothing", "threshold", "steps", "tiny", "cancels", "latent", "auxiliary", "mask", "batch.x"],
)
def test_functions_of_ones_own(logits: Any, edges: set) -> None:
    found = missingness_graph_of(function_of(logits), batch_of(auxiliaries=1))
    assert edges_of(found) == edges


@pytest.mark.parametrize(
    "fn", [lambda z: dist.LogNormal(z, 1.0), lambda z: dist.Bernoulli(logits=z), lambda z: dist.Poisson(z.exp())]
)
def test_columns_that_are_not_real(fn: Any) -> None:
    batch = Batch.of(torch.ones(5, 2).masked_fill(torch.eye(5, 2).bool(), torch.nan))
    model = function_of(lambda x, z, batch: x.log1p().flip(-1), fn)
    assert edges_of(missingness_graph_of(model, batch)) == {(1, "R[0]"), (0, "R[1]")}


def test_names_come_from_the_table_and_complete_columns_have_no_r() -> None:
    table = table_with_gaps()
    found = missingness_graph_of(function_of(lambda x, z, batch: x + batch.aux), table)
    assert edges_of(found) == {(p, f"R[x{d}]") for d in range(3) for p in (f"x{d}", "u0")}
    batch = Batch.of(torch.randn(6, 2))
    batch = Batch(**{**vars(batch), "incomplete": torch.tensor([True, False])})
    assert edges_of(missingness_graph_of(function_of(lambda x, z, batch: x.flip(-1)), batch)) == {(1, "R[0]")}


def test_parameters_of_pyro_and_global_latents_are_no_causes() -> None:
    def logits(x: torch.Tensor, z: torch.Tensor, batch: Batch) -> torch.Tensor:
        return pyro.param("slope", torch.zeros(())) * x

    def model(batch: Batch) -> None:
        intercept = pyro.sample("intercept", dist.Normal(0.0, 1.0))
        function_of(lambda x, z, batch: intercept + logits(x, z, batch))(batch)

    with own_store():
        assert edges_of(missingness_graph_of(model, batch_of())) == {(0, "R[0]"), (1, "R[1]")}
        assert not pyro.get_param_store().keys()


def test_models_made_without_our_words() -> None:
    def model(batch: Batch) -> None:
        with pyro.plate("people", len(batch)):
            mood = pyro.sample("mood", dist.Normal(0.0, 1.0))
            income = pyro.sample("income", dist.Normal(mood, 1.0))
            age = pyro.sample("age", dist.Normal(mood, 1.0), obs=batch.x[:, 1])
            pyro.sample("told_income", dist.Bernoulli(logits=income - mood), obs=batch.mask[:, 0].double())
            pyro.sample(
                "told_age", dist.Categorical(logits=torch.stack([0 * age, age > 40], -1)), obs=batch.mask[:, 1].long()
            )

    batch = batch_of()
    batch = Batch(**{**vars(batch), "x": 20 * batch.x + 40})
    sites = {"told_income": "R[0]", "told_age": "R[1]", "income": 0, "age": 1}
    assert edges_of(missingness_graph_of(model, batch, sites=sites)) == {(0, "R[0]"), ("Z", "R[0]"), (1, "R[1]")}
    with pytest.raises(ValueError, match=r"no site made by observe_mask.*sites="):
        missingness_graph_of(model, batch)
    with pytest.raises(ValueError, match="sites: expected sites of the model"):
        missingness_graph_of(model, batch, sites={"told_incme": "R[0]"})
    with pytest.raises(ValueError, match=r"site 'told_age' of shape .20,.: expected an R or a column for each"):
        missingness_graph_of(model, batch, sites={"told_age": ["R[0]", "R[1]"]})
    with pytest.raises(ValueError, match="site 'mood'"):
        missingness_graph_of(model, batch, sites={"mood": "Z"})


def test_an_r_that_depends_on_itself_is_refused() -> None:
    with pytest.raises(ValueError, match=r"log-odds of R\[0\] depend on R\[0\] itself"):
        missingness_graph_of(function_of(lambda x, z, batch: batch.mask * torch.tensor([1.0, 0.0])), batch_of())


def test_numbers_that_are_refused() -> None:
    for options in ({"num_points": 0}, {"perturbation": -1.0}):
        with pytest.raises(ValueError, match=r"num_points: expected at least 1|perturbation: expected"):
            missingness_graph_of(function_of(lambda x, z, batch: x), batch_of(), **options)
