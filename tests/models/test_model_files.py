"""The files of models/: each runs under plain Pyro, says what its graph says, and has two guides that agree."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyro
import pytest
import torch
from scipy.special import expit
from torch import nn

from pyro_mnar import Fit, ImportanceWeightedELBO, Table, fit, impute
from pyro_mnar.datasets import Complete, LinearStructure, ampute
from pyro_mnar.experiments.metrics import energy_distance
from pyro_mnar.graphs.graph import MissingnessGraph
from pyro_mnar.guides import MeanField, ZeroImpute
from pyro_mnar.imputation.generation import generate
from pyro_mnar.infer.sites import column_distribution
from pyro_mnar.models import GINA, Ignorable, LatentDependent, NotMIWAE, PartialVAE, SelfMasking

MODELS = {model.__name__: model for model in (GINA, Ignorable, LatentDependent, NotMIWAE, PartialVAE, SelfMasking)}
COLUMNS = ["a", "b", "c"]


def masked_table(rows: int = 300, seed: int = 0) -> Table:
    source = LinearStructure(["u", *COLUMNS], latent_dim=1, rows=rows)
    graph = MissingnessGraph.self_masking(["u", *COLUMNS], incomplete=COLUMNS)
    return Table.from_frame(ampute(source, graph, rate=0.3, strength=1.0, seed=seed).frame, auxiliary=["u"])


def bound_per_row(model: nn.Module, guide: nn.Module, table: Table, num_particles: int) -> float:
    with pyro.get_param_store().scope():
        return -ImportanceWeightedELBO(num_particles).loss(model, guide, table.batch()) / len(table)


@pytest.mark.parametrize("name", MODELS)
def test_runs_under_plain_pyro(name: str, own_store: None) -> None:
    table = masked_table(20)
    model = MODELS[name](table, latent_dim=2, seed=0)
    trace = pyro.poutine.trace(model).get_trace(table.batch())
    assert torch.isfinite(trace.log_prob_sum())
    assert trace.nodes["_RETURN"]["value"].shape == (20, 3)
    completed = trace.nodes["_RETURN"]["value"]
    torch.testing.assert_close(completed[table.mask], table.x[table.mask], rtol=0, atol=0)
    assert ("r" in trace.nodes) == (name != "PartialVAE")


@pytest.mark.parametrize("name", MODELS)
def test_seed_decides_the_initial_parameters(name: str) -> None:
    table = masked_table(20)
    first, second, other = (MODELS[name](table, seed=seed) for seed in (1, 1, 2))
    pairs = list(zip(first.parameters(), second.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(
    ("name", "own", "others", "latent"),
    [("SelfMasking", True, False, False), ("LatentDependent", True, False, True), ("GINA", True, False, False)],
)
def test_mechanism_sees_what_the_graph_at_its_head_says(name: str, own: bool, others: bool, latent: bool) -> None:
    model = MODELS[name](masked_table(20).schema, latent_dim=2, seed=0)  # a schema has no gaps for GINA to judge by
    with torch.no_grad():
        for parameter in model.mechanism.parameters():
            parameter.normal_()
    x, z = torch.randn(3), torch.randn(2)
    of_x, of_z = torch.autograd.functional.jacobian(lambda x, z: model.mechanism(x, z), (x, z))
    assert bool((of_x.diagonal() != 0).all()) is own
    assert bool((of_x - torch.diag(of_x.diagonal()) != 0).any()) is others
    assert bool((of_z != 0).any()) is latent


class TestIgnorable:
    def test_mask_depends_on_u_alone(self, own_store: None) -> None:
        table = masked_table(20)
        model = Ignorable(table, seed=0)
        with torch.no_grad():
            model.mechanism.slopes.normal_()
        traces = [pyro.poutine.trace(model).get_trace(table.batch()) for _ in range(2)]
        logits = [column_distribution(trace.nodes["r"]["fn"]).logits for trace in traces]
        assert not torch.equal(traces[0].nodes["z"]["value"], traces[1].nodes["z"]["value"])
        assert torch.equal(logits[0], logits[1])
        assert logits[0].unique(dim=0).shape[0] == 20

    def test_without_u_it_is_mcar(self, own_store: None) -> None:
        table = Table.from_frame(masked_table(20).frame[COLUMNS], auxiliary=[])
        trace = pyro.poutine.trace(Ignorable(table, seed=0)).get_trace(table.batch())
        assert column_distribution(trace.nodes["r"]["fn"]).logits.unique(dim=0).shape[0] == 1

    def test_the_mask_as_u_is_refused(self) -> None:
        table = Table.from_frame(masked_table(20).frame[COLUMNS], auxiliary="mask")
        with pytest.raises(ValueError, match="expected complete columns or none as the causes"):
            Ignorable(table)

    def test_imputes_the_same_with_and_without_the_mask(self) -> None:
        table = masked_table(50)
        model = Ignorable(table, latent_dim=1, seed=0)
        fitted = Fit(model, ZeroImpute(table, 1, seed=0), table.schema)
        options = {"num_draws": 1, "num_particles": 50, "seed": 3}
        with_mask, without = (impute(fitted, table, use_mechanism=use, **options).means for use in (True, False))
        np.testing.assert_allclose(with_mask, without)


def test_mean_field_knows_its_table(own_store: None) -> None:
    guide, table = MeanField(masked_table(20), 2), masked_table(30)
    with pytest.raises(ValueError, match="MeanField: made for a table of 20 rows, got one of 30"):
        guide(table.batch())


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_two_guides_agree(name: str) -> None:
    table = masked_table(200)
    model = MODELS[name](table, latent_dim=1, seed=0)
    amortised = ZeroImpute(table, 1, hidden=(32,), seed=0)
    fit(model, amortised, table, epochs=60, batch_size=100, learning_rate=0.02, progress=False)
    model.requires_grad_(False).eval()  # Pyro warns of frozen parameters in training mode
    by_row = MeanField(table, 1)
    fit(model, by_row, table, epochs=90, batch_size=100, learning_rate=0.04, progress=False)
    bounds = [np.mean([bound_per_row(model, guide, table, 500) for _ in range(4)]) for guide in (amortised, by_row)]
    assert abs(bounds[0] - bounds[1]) < 0.02


def imputed_means(model: nn.Module, table: Table, **options: float) -> pd.Series:
    guide = ZeroImpute(table, 1, hidden=(32, 32), seed=0)
    fitted = fit(model, guide, table, batch_size=500, learning_rate=0.03, progress=False, **options)
    return impute(fitted, table, num_draws=1, num_particles=100).mean().mean()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_logistic_self_masking_is_recovered_without_its_sign(seed: int) -> None:
    """P(R_d = 1) = σ(1 − 3x_d): column means within 0.1 sd, where ignoring the mechanism is 0.4 off."""
    rng = np.random.default_rng(seed)
    loadings = np.array([0.9, 0.9, 0.9])
    x = rng.normal(size=(10_000, 1)) * loadings + rng.normal(size=(10_000, 3)) * np.sqrt(1 - loadings**2)
    truth = pd.DataFrame(x, columns=COLUMNS)
    table = Table.from_frame(truth.where(rng.uniform(size=x.shape) < expit(1 - 3 * x)), auxiliary=[])

    modelled = imputed_means(SelfMasking(table, latent_dim=1, seed=seed), table, epochs=20, num_particles=5)
    ignored = imputed_means(Ignorable(table, latent_dim=1, seed=seed), table, epochs=12, num_particles=5)
    assert ((modelled - truth.mean()) / truth.std()).abs().max() < 0.1
    assert ((ignored - truth.mean()) / truth.std()).abs().min() > 0.4


@pytest.mark.slow
def test_edges_among_columns_are_left_to_the_latent() -> None:
    """Lemma 1: X → X edges (Figure 1 i) become part of an enlarged latent, so GINA fits data that have them."""
    columns = ["u", *COLUMNS]
    graph = MissingnessGraph(
        [("u", "a"), ("a", "b"), ("b", "c"), *[(name, f"R[{name}]") for name in COLUMNS]], columns, incomplete=COLUMNS
    )
    source = LinearStructure.of_graph(graph, rows=4000, latent_dim=1)
    complete, fresh = (source(np.random.default_rng(seed)) for seed in (0, 1))
    assert isinstance(complete, Complete)
    made = ampute(complete, graph, rate=0.35, strength=1.5)
    table = Table.from_frame(made.frame)
    model = GINA(table, graph=graph, latent_dim=3, seed=0)
    guide = ZeroImpute(table, 3, hidden=(32, 32), seed=0)
    fitted = fit(model, guide, table, epochs=30, batch_size=250, num_particles=10, learning_rate=0.02, progress=False)

    spread = fresh.frame[COLUMNS].std()
    truth, generated = fresh.frame[COLUMNS] / spread, generate(fitted, table, seed=1)[COLUMNS] / spread
    assert energy_distance(made.frame[COLUMNS].dropna() / spread, truth) > 0.3
    assert energy_distance(generated, truth) < 0.02
    assert (generated.mean() - truth.mean()).abs().max() < 0.1
    assert (generated.corr() - truth.corr()).abs().max(axis=None) < 0.1
