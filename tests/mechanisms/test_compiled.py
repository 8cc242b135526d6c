"""The mechanism that a graph compiles to: exactly its parents, signs by construction, and inside GINA."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyro
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from checks import own_store, table_with_gaps
from graph_checks import graph_data, scatter, table_for
from pyro_mnar import ImportanceWeightedELBO, MissingnessGraph, Table, fit, impute
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.mechanisms import Constant, FullyConnected, SelfMasking, log_odds
from pyro_mnar.mechanisms.compiled import GraphMechanism
from pyro_mnar.models import GINA, NotMIWAE
from pyro_mnar.nn.indicators import Indicators

LATENT_DIM = 2
FORMS = st.sampled_from(["linear", "nonlinear"])


def jacobian(mechanism: GraphMechanism, graph: MissingnessGraph, rows: int = 1) -> Tensor:
    """Slopes of the log-odds in x, z, r, u side by side at random points; (rows, columns, inputs)."""
    columns, widths = len(graph.nodes.columns), sum(width for _, width in graph.nodes.auxiliaries)
    sizes = [columns, LATENT_DIM, columns, widths]

    def of_inputs(inputs: Tensor) -> Tensor:
        x, z, mask, aux = inputs.split(sizes)
        return mechanism(x[None], z[None], mask[None], aux[None])[0]

    points = torch.randn(rows, sum(sizes))
    return torch.stack([torch.autograd.functional.jacobian(of_inputs, point) for point in points])


def allowed(graph: MissingnessGraph) -> tuple[Tensor, Tensor]:
    """Which inputs cause each R, and their signs, read off the edges one by one."""
    at = graph.nodes.slices(LATENT_DIM)
    shape = (len(graph.nodes.columns), at[graph.nodes.inputs[-1]].stop)
    parents, signs = torch.zeros(shape, dtype=torch.bool), torch.zeros(shape)
    for edge in graph.edges:
        row = graph.nodes.columns.index(edge.child[2:-1])
        parents[row, at[edge.parent]] = True
        signs[row, at[edge.parent]] = edge.sign
    return parents, signs


@settings(max_examples=settings.default.max_examples * 3 // 5)
@given(graph_data(), FORMS)
def test_every_r_sees_exactly_its_parents(data: dict, form: str) -> None:
    graph = MissingnessGraph.from_dict(data)
    mechanism = graph.mechanism(LATENT_DIM, form=form, hidden=3)
    scatter(mechanism)
    slopes, (parents, _) = jacobian(mechanism, graph, rows=2), allowed(graph)
    assert (slopes[:, ~parents] == 0.0).all()
    assert (slopes[:, parents] != 0.0).all()


@settings(max_examples=settings.default.max_examples * 3 // 5)
@given(graph_data())
def test_it_says_whose_value_causes_another_columns_missingness(data: dict) -> None:
    graph = MissingnessGraph.from_dict(data)
    mechanism = graph.mechanism(LATENT_DIM)
    for d, column in enumerate(graph.nodes.columns):
        caused = {e.child for e in graph.edges if e.parent == column and graph.nodes.is_r(e.child)}
        assert mechanism.causes_only_own([d]) == (caused <= {graph.nodes.r(column)})


def test_indicators_of_a_level_count_as_its_column() -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0, None, 0.5], "b": ["x", "y", "z", None], "c": ["u", None, "v", "w"]})
    table = Table.from_frame(frame, auxiliary=[])
    graph = MissingnessGraph.from_parents({"a": ["b", "Z"], "b": ["b"], "c": ["c", "a"]}, table)
    mechanism = graph.mechanism(1, indicators=Indicators(table.schema))
    assert [mechanism.causes_only_own([d]) for d in range(3)] == [False, False, True]


@settings(max_examples=settings.default.max_examples * 3 // 5)
@given(graph_data(), FORMS)
def test_known_signs_hold_whatever_the_parameters(data: dict, form: str) -> None:
    graph = MissingnessGraph.from_dict(data)
    mechanism = graph.mechanism(LATENT_DIM, form=form, hidden=3)
    scatter(mechanism, scale=3.0)
    slopes, (_, signs) = jacobian(mechanism, graph, rows=5), allowed(graph)
    assert (slopes * signs >= 0).all()


def test_high_means_that_high_values_go_missing() -> None:
    mechanism = MissingnessGraph.self_masking(["a"], sign="high").mechanism(1)
    x = torch.tensor([[-2.0], [0.0], [2.0]])
    observed = mechanism(x, torch.zeros(3, 1)).sigmoid()
    assert observed[0] > observed[1] > observed[2]


def test_linear_parts_start_flat_and_networks_small() -> None:
    x, z = torch.randn(50, 3), torch.randn(50, LATENT_DIM)
    graph = MissingnessGraph.general(["a", "b", "c"])
    assert (graph.mechanism(LATENT_DIM)(x, z) == 0).all()
    network = graph.mechanism(LATENT_DIM, form="nonlinear")(x, z)
    assert 0 < network.std(0).max() < 0.3


def test_self_masking_is_the_mechanism_of_that_name() -> None:
    compiled, by_hand = MissingnessGraph.self_masking(["a", "b"], sign="high").mechanism(1), SelfMasking(2, sign=-1)
    x = torch.randn(4, 5, 2)
    torch.testing.assert_close(compiled(x, torch.zeros(5, 1)), by_hand(x, torch.zeros(4, 5, 1)))
    assert sum(p.numel() for p in MissingnessGraph.self_masking([*range(100)]).mechanism(1).parameters()) == 200


def test_without_edges_it_is_constant_and_weighs_as_the_mechanism_of_that_name() -> None:
    """What nothing causes is not computed by cell; chances, bound and gradient are those of ``Constant``."""
    table = table_with_gaps()
    losses, slopes = [], []
    for declared in ({"graph": MissingnessGraph([], table.schema)}, {"mechanism": Constant}):
        model = GINA(table, latent_dim=1, seed=0, **declared)
        intercept = next(value for name, value in model.mechanism.named_parameters() if "intercept" in name)
        with torch.no_grad():
            intercept.copy_(torch.linspace(-1, 2, len(intercept)))
        batch = table.batch()
        with pyro.get_param_store().scope():
            torch.manual_seed(0)
            loss = ImportanceWeightedELBO(3).differentiable_loss(model, ZeroImpute(table, 1, seed=0), batch)
        (slope,) = torch.autograd.grad(loss, intercept)
        odds = log_odds(model.mechanism, batch.x.expand(4, *batch.x.shape), torch.zeros(4, len(batch), 1), batch)
        torch.testing.assert_close(odds, intercept.detach().expand(4, *batch.x.shape))
        losses.append(loss.item())
        slopes.append(slope)
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    torch.testing.assert_close(*slopes)
    incomplete = torch.tensor([column.incomplete for column in table.schema.columns])
    assert (slopes[0] != 0).equal(incomplete)


def test_a_network_can_become_what_is_not_linear() -> None:
    """Log-odds 2 - x², which no linear mechanism reaches."""
    torch.manual_seed(0)
    mechanism = MissingnessGraph.self_masking(["a"], form="nonlinear").mechanism(1)
    x = torch.linspace(-2, 2, 200)[:, None]
    optimiser = torch.optim.Adam(mechanism.parameters(), lr=0.05)
    for _ in range(400):
        optimiser.zero_grad()
        loss = (mechanism(x, torch.zeros(200, 1)) - (2 - x**2)).square().mean()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.02


def test_arguments_that_are_refused() -> None:
    graph = MissingnessGraph([("R[a]", "R[b]"), ("Z", "R[a]")])
    with pytest.raises(ValueError, match="expected mask and aux"):
        graph.mechanism(1)(torch.zeros(1, 2), torch.zeros(1, 1))
    with pytest.raises(ValueError, match="latent_dim: expected at least 1"):
        graph.mechanism(0)
    with pytest.raises(ValueError, match="hidden: expected at least 1"):
        graph.mechanism(1, hidden=0)
    with pytest.raises(ValueError, match="form: expected"):
        graph.mechanism(1, form="cubic")


# -------------------------------------------------------------------------------------------------- inside a model


def few_steps(model: nn.Module, guide: nn.Module, table: object) -> object:
    return fit(model, guide, table, epochs=2, batch_size=10, num_particles=3, seed=0, progress=False)


@settings(deadline=None, max_examples=8)
@given(graph_data(), FORMS)
def test_gina_trains_under_any_graph_and_respects_it(data: dict, form: str) -> None:
    graph = MissingnessGraph.from_dict(data)
    table = table_for(graph)
    graph = graph.knowing(form=form) if graph.edges else graph
    model = GINA(table, graph=graph, latent_dim=LATENT_DIM, seed=1)
    before = model.mechanism.intercept.clone()
    fitted = few_steps(model, ZeroImpute(table, LATENT_DIM, hidden=[4], seed=2), table)
    assert np.isfinite(fitted.history["bound"]).all()
    incomplete = torch.tensor([column.incomplete for column in table.schema.columns])
    assert (model.mechanism.intercept != before)[incomplete].all()
    slopes, (parents, signs) = jacobian(model.mechanism, graph), allowed(graph)
    assert (slopes[:, ~parents] == 0.0).all()
    assert (slopes * signs >= 0).all()


def test_missingness_that_causes_missingness_is_normalised_and_imputes() -> None:
    """Σ_r p(r|x,z) = 1 over all masks, the factors following the DAG of R."""
    graph = MissingnessGraph(
        [("R[x0]", "R[x1]"), ("R[x1]", "R[x2]"), ("x2", "R[x2]"), ("u0", "R[x0]")], table_with_gaps()
    )
    mechanism = graph.mechanism(1)
    scatter(mechanism)
    masks = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
    x, z, aux = torch.randn(1, 3).expand(8, 3), torch.randn(1, 1).expand(8, 1), torch.randn(1, 1).expand(8, 1)
    log_p = torch.distributions.Bernoulli(logits=mechanism(x, z, masks, aux)).log_prob(masks).sum(-1)
    torch.testing.assert_close(log_p.exp().sum(), torch.tensor(1.0))

    table = table_with_gaps()
    model = GINA(table, graph=graph, latent_dim=1, seed=1)
    fitted = few_steps(model, ZeroImpute(table, 1, hidden=[4], seed=2), table)
    assert not impute(fitted, table, num_draws=2, num_particles=5).mean().isna().any(axis=None)


def test_cells_whose_missingness_is_not_modelled_count_as_observed() -> None:
    table = table_with_gaps()
    graph = MissingnessGraph([("R[x0]", "R[x1]")], table)
    mechanism = graph.mechanism(1)
    scatter(mechanism)
    held_out = np.zeros((len(table), 3), dtype=bool)
    held_out[0, 0] = True  # which is observed
    batch, hidden = table.batch(), table.hold_out(held_out).batch()
    z = torch.zeros(len(table), 1)
    torch.testing.assert_close(log_odds(mechanism, batch.x, z, batch), log_odds(mechanism, batch.x, z, hidden))


def test_gina_takes_a_mechanism_or_a_graph() -> None:
    table = table_with_gaps()
    graph = MissingnessGraph.self_masking(table)
    with pytest.raises(ValueError, match="mechanism, graph: expected one of them"):
        GINA(table, mechanism=FullyConnected, graph=graph)
    with pytest.raises(ValueError, match="column 'x2': goes missing"):
        GINA(table, graph=MissingnessGraph.self_masking(["x0", "x1"]))
    assert isinstance(GINA(table.schema).mechanism, SelfMasking)  # which holds no gaps to judge by
    assert GINA(table, graph=MissingnessGraph([("x0", "R[x0]")])).graph.nodes.columns == ("x0", "x1", "x2")


def test_not_miwae_refuses_a_latent_that_causes_missingness() -> None:
    table = table_with_gaps()
    model = NotMIWAE(table, graph=MissingnessGraph.fully_connected(table, form="nonlinear"), seed=0)
    with torch.no_grad():
        batch, guide = table.batch(), ZeroImpute(table, model.latent_dim, hidden=[4], seed=2)
        with own_store():
            assert np.isfinite(ImportanceWeightedELBO(2).loss(model, guide, batch))
    with pytest.raises(ValueError, match=r"expected no edge from the latent, got Z → R\[x0\]"):
        NotMIWAE(table, graph=MissingnessGraph.latent(table))


def test_restarts_draw_slopes_of_both_signs_but_for_the_known_ones() -> None:
    names = [*range(50)]
    mechanism = MissingnessGraph.self_masking(names).knowing(0, "R[0]", sign="high").mechanism(1, form="nonlinear")
    mechanism.reset_parameters()
    assert mechanism.own_slope[0] < 0
    assert mechanism.own_slope[1:].sign().unique().tolist() == [-1.0, 1.0]


def test_two_seeds_are_two_starts() -> None:
    table = table_with_gaps()
    graph = MissingnessGraph.general(table, form="nonlinear")
    first, same, other = (GINA(table, graph=graph, seed=seed).mechanism.raw_other_weight for seed in (1, 1, 2))
    assert (first == same).all()
    assert (first != other).any()
