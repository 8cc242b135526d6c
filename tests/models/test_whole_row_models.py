"""Models of whole rows, as people bring them: fits against EM and quadrature, imputations against closed forms."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import constraints
from pyro.infer.mcmc.util import initialize_model
from pyro.nn import PyroModule, PyroParam
from scipy import sparse
from torch import Tensor, nn

from checks import check_mean
from pyro_mnar import (
    Batch,
    Fit,
    ImportanceWeightedELBO,
    Table,
    fit,
    impute,
    observe_mask,
    partially_observed,
    propose_missing,
    rows,
)
from pyro_mnar.graphs.recovery import missingness_graph_of
from pyro_mnar.imputation.generation import generate
from pyro_mnar.tables.constraints import SumsTo
from pyro_mnar.training.evidence import log_evidence

pytestmark = pytest.mark.usefixtures("own_store")

LOC = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)
COVARIANCE = torch.tensor([[1.0, 0.6, 0.3], [0.6, 1.2, -0.2], [0.3, -0.2, 0.8]], dtype=torch.float64)


def empty_guide(batch: Batch) -> None:
    """Everything is proposed from the model."""


def incomplete(count: int = 150, seed: int = 0) -> pd.DataFrame:
    """Three normal columns; ``a`` goes missing by ``c``, ``b`` at random."""
    random = np.random.default_rng(seed)
    x = random.multivariate_normal([1.0, 2.0, -1.0], COVARIANCE.numpy(), count)
    seen = random.random(x.shape) < np.array([0.0, 0.7, 1.0])
    seen[:, 0] = random.random(count) < 1 / (1 + np.exp(-x[:, 2] - 1.5))
    return pd.DataFrame(np.where(seen, x, np.nan), columns=list("abc"))


def table_of(frame: pd.DataFrame, **options: Any) -> Table:
    return Table.from_frame(frame, auxiliary=[], dtype=torch.float64, **options)


def by_em(x: Tensor, mask: Tensor, rounds: int = 300) -> tuple[Tensor, Tensor]:
    """Full-information maximum likelihood of a normal (Dempster, Laird & Rubin, 1977)."""
    loc, sigma = torch.zeros(x.shape[1]), torch.eye(x.shape[1])
    patterns, of_row = mask.unique(dim=0, return_inverse=True)
    for _ in range(rounds):
        filled, within = x.clone(), torch.zeros_like(sigma)
        for number, seen in enumerate(patterns):
            here, o, u = of_row == number, seen.nonzero()[:, 0], (~seen).nonzero()[:, 0]
            slopes = sigma[u][:, o] @ torch.linalg.inv(sigma[o][:, o])
            some = x[here].clone()
            some[:, u] = loc[u] + (some[:, o] - loc[o]) @ slopes.T
            filled[here] = some
            within[u[:, None], u] += here.sum() * (sigma[u][:, u] - slopes @ sigma[o][:, u])
        loc = filled.mean(0)
        sigma = (filled - loc).T @ (filled - loc) / len(x) + within / len(x)
    return loc, sigma


def saturated(batch: Batch) -> None:
    """x ~ N(μ, Σ), and nothing of why values are missing."""
    loc = pyro.param("loc", torch.zeros(3))
    root = pyro.param("root", torch.eye(3), constraint=constraints.lower_cholesky)
    with rows(batch):
        partially_observed("x", dist.MultivariateNormal(loc, scale_tril=root), batch)


@pytest.mark.slow
def test_a_saturated_normal_under_mar_is_full_information_maximum_likelihood() -> None:
    table = table_of(incomplete())
    options: Any = {"epochs": 250, "batch_size": 150, "num_particles": 1, "learning_rate": 0.1, "progress": False}
    fitted = fit(saturated, empty_guide, table, compile="eager", **options)
    loc, sigma = by_em(table.x, table.mask)
    with pyro.get_param_store().scope(fitted.store):
        found, root = pyro.param("loc").detach(), pyro.param("root").detach()
    torch.testing.assert_close(found, loc, rtol=0, atol=1e-4)
    torch.testing.assert_close(root @ root.mT, sigma, rtol=0, atol=1e-4)

    # Nothing sees the missing values, so their means are the conditional ones, exactly, from a single particle.
    means = impute(fitted, table, num_draws=1, num_particles=1).mean()
    row = int((~table.mask[:, 0] & table.mask[:, 1]).nonzero()[0])
    slopes = torch.linalg.solve((root @ root.mT)[1:, 1:], (root @ root.mT)[1:, 0])
    expected = found[0] + (table.x[row, 1:] - found[1:]) @ slopes
    column = table.schema.columns[0]
    assert means["a"].iloc[row] == pytest.approx(float(expected) * column.std + column.mean, abs=1e-9)


class SelfMasked(PyroModule):
    """x ~ N(μ, Σ) or a mixture of two such, with log-odds of being observed that fall with the value."""

    def __init__(self, num_classes: int = 0) -> None:
        super().__init__()
        shape = (num_classes,) if num_classes else ()
        shift = torch.tensor([1.0, -1.0])[:num_classes].unsqueeze(-1) if num_classes else 0.0
        self.loc = nn.Parameter(LOC.expand(*shape, 3) + shift)
        root = torch.linalg.cholesky(COVARIANCE).expand(*shape, 3, 3).clone()
        self.root = PyroParam(root, constraint=constraints.lower_cholesky)
        self.slope = nn.Parameter(torch.tensor([-1.5, 0.8, 0.0]))
        self.num_classes = num_classes

    def forward(self, batch: Batch) -> None:
        fn = dist.MultivariateNormal(self.loc, scale_tril=self.root)
        if self.num_classes:
            fn = dist.MixtureSameFamily(dist.Categorical(torch.ones(self.num_classes, dtype=batch.dtype)), fn)
        with rows(batch):
            x = partially_observed("x", fn, batch)
            observe_mask("r", 0.4 + self.slope.to(batch.dtype) * x, batch)


def grid(num: int = 201) -> tuple[Tensor, Tensor]:
    """Points of the plane, and their weights."""
    points = torch.linspace(-8.0, 8.0, num)
    return torch.cartesian_prod(points, points), (points[1] - points[0]).square()


@pytest.mark.parametrize("num_classes", [0, 2])
def test_self_masking_is_weighed_as_by_quadrature(num_classes: int) -> None:
    """False alarms: 1e-5 each for weights, means and products.  Two cells of a row are missing at once."""
    model = SelfMasked(num_classes)
    x3 = 0.7
    batch = Batch.of(torch.tensor([[torch.nan, torch.nan, x3]]))
    many = 40_000
    with torch.no_grad():
        particles = ImportanceWeightedELBO(many).particles(model, empty_guide, batch)
        plane, weight = grid()
        every = torch.cat([plane, torch.full((len(plane), 1), x3)], -1)
        fn = dist.MultivariateNormal(model.loc, scale_tril=model.root)
        if num_classes:
            fn = dist.MixtureSameFamily(dist.Categorical(torch.ones(num_classes)), fn)
        log_odds = 0.4 + model.slope * every
        seen = torch.tensor([False, False, True])
        log_r = torch.where(seen, nn.functional.logsigmoid(log_odds), nn.functional.logsigmoid(-log_odds)).sum(-1)
        density = (fn.log_prob(every) + log_r).exp() * weight
    weights = particles.log_weights[:, 0].exp()
    check_mean(weights, density.sum())
    drawn = particles.model_trace.nodes["x_missing"]["value"].reshape(many, 3)[:, :2]
    products = torch.cat([drawn, (drawn[:, :1] * drawn[:, 1:])], -1)
    exact = torch.cat([plane, plane[:, :1] * plane[:, 1:]], -1)
    check_mean(products * weights[:, None], (exact * density[:, None]).sum(0))


def test_imputations_of_a_row_are_drawn_together() -> None:
    """False alarms: 1e-5.  Products of two missing cells have their conditional mean, and differ from a product of
    means.
    """
    frame = pd.DataFrame({"a": [np.nan] * 300, "b": [np.nan] * 300, "c": np.linspace(-1.0, 1.0, 300)})
    frame = pd.concat([incomplete(50), frame], ignore_index=True)
    table = table_of(frame, standardize=dict.fromkeys("abc", False))

    def model(batch: Batch) -> None:
        unused = pyro.param("unused", torch.zeros(()))
        with rows(batch):
            x = partially_observed("x", dist.MultivariateNormal(LOC + 0 * unused, COVARIANCE), batch)
            observe_mask("r", 0.5 + 0.0 * x, batch)

    fitted = fit(model, empty_guide, table, epochs=1, progress=False)
    imputed = impute(fitted, table, num_draws=40, num_particles=2)
    draws = torch.tensor(np.stack([f[["a", "b"]].to_numpy()[50:] for f in imputed.frames()]))
    slopes = COVARIANCE[:2, 2] / COVARIANCE[2, 2]
    error = draws - LOC[:2] - (torch.tensor(frame["c"].to_numpy()[50:]) - LOC[2])[:, None] * slopes
    within = COVARIANCE[:2, :2] - torch.outer(slopes, COVARIANCE[2, :2])
    check_mean((error.unsqueeze(-1) * error.unsqueeze(-2)).flatten(0, 1).flatten(1), within.flatten())
    assert within[0, 1] > 0.5  # what draws column by column would miss


@pytest.mark.slow
@pytest.mark.parametrize("num_classes", [0, 2])
def test_steps_and_imputations_are_captured(num_classes: int, caplog: pytest.LogCaptureFixture) -> None:
    table = table_of(incomplete(60))
    options: Any = {"epochs": 4, "batch_size": 30, "num_particles": 3, "progress": False, "compile": "graph"}
    with caplog.at_level(logging.INFO, "pyro_mnar"):
        fitted = fit(SelfMasked(num_classes), empty_guide, table, **options)
        impute(fitted, table, num_draws=2, num_particles=3, compile="graph")
    said = [record.getMessage() for record in caplog.records]
    assert "training steps: graph (as asked for)" in said
    assert "imputation: graph (as asked for)" in said


@pytest.mark.parametrize("num_classes", [0, 2])
def test_a_new_table_has_the_moments_of_the_law(num_classes: int) -> None:
    """False alarms: 1e-5.  What is observed of a table does not enter what is generated."""
    model = SelfMasked(num_classes)
    table = table_of(pd.concat([incomplete(100)] * 50), standardize=dict.fromkeys("abc", False))
    drawn = torch.tensor(generate(Fit(model, empty_guide, table.schema), table).to_numpy())
    loc = model.loc.detach().reshape(-1, 3)
    check_mean(drawn, loc.mean(0))
    second = COVARIANCE + (loc.unsqueeze(-1) * loc.unsqueeze(-2)).mean(0)
    check_mean((drawn.unsqueeze(-1) * drawn.unsqueeze(-2)).flatten(1), second.flatten())


def test_the_evidence_outside_u_is_that_given_u() -> None:
    table = Table.from_frame(incomplete(), dtype=torch.float64)  # the complete column is X and U
    assert table.schema.columns[2].is_auxiliary

    def model(batch: Batch) -> None:
        with rows(batch):
            partially_observed("x", dist.MultivariateNormal(LOC, COVARIANCE), batch)

    fitted = Fit(model, empty_guide, table.schema)
    found = [log_evidence(fitted, table, num_particles=1, outside_u=outside).log_p for outside in (False, True)]
    of_u = dist.Normal(LOC[2], COVARIANCE[2, 2].sqrt()).log_prob(table.x[:, 2])
    np.testing.assert_allclose(found[0] - found[1], of_u.numpy(), atol=1e-10)


def guide_of(fn: Callable[[Batch], Any]) -> Callable[[Batch], None]:
    def guide(batch: Batch) -> None:
        with rows(batch):
            propose_missing("x", fn(batch), batch)

    return guide


def test_a_guide_that_proposes_missing_values_takes_precedence() -> None:
    """False alarms: 1e-5.  The model's own law leaves the weight as it is, another one is weighed."""
    model = SelfMasked()
    batch = table_of(incomplete(20), standardize=dict.fromkeys("abc", False)).batch()
    with torch.no_grad():
        own = guide_of(lambda batch: dist.MultivariateNormal(model.loc, scale_tril=model.root))
        run = ImportanceWeightedELBO(5).particles(model, own, batch)
        nodes = run.model_trace.nodes
        parts = [nodes[name]["fn"].log_prob(nodes[name]["value"]) for name in ("x_observed", "r")]
        torch.testing.assert_close(run.log_weights, (parts[0] + parts[1]).reshape(run.log_weights.shape))
        wide = guide_of(lambda batch: dist.Normal(batch.x.new_zeros(len(batch), 3), 1.5))
        by_guide, by_model = (
            ImportanceWeightedELBO(20_000).particles(model, guide, batch).log_weights.exp()
            for guide in (wide, empty_guide)
        )
    check_mean(by_guide - by_model, torch.zeros(len(batch)))


def test_a_part_of_a_sum_counts_with_its_conditional_density() -> None:
    """False alarms: 1e-5.  Of a known sum a + b, a is drawn given c, and weighed by the density of b given both."""
    total = 1.5
    frame = pd.DataFrame({"a": np.nan, "b": np.nan, "c": 0.4, "t": total}, index=range(400))
    seen = incomplete(40, seed=1).dropna()
    frame = pd.concat([seen.assign(t=seen.a + seen.b), frame], ignore_index=True)
    table = table_of(frame, standardize=dict.fromkeys("abct", False), kinds=dict.fromkeys("abct", "continuous"))

    def model(batch: Batch) -> None:
        with rows(batch):
            partially_observed("x", dist.MultivariateNormal(LOC, COVARIANCE), batch, columns=list("abc"))

    imputed = impute(
        Fit(model, empty_guide, table.schema), table, num_draws=20, constraints=[SumsTo(["a", "b"], total="t")]
    )
    draws = torch.tensor(np.stack([f["a"].to_numpy()[len(seen) :] for f in imputed.frames()])).flatten()
    # Of (a, a + b, c), a given the other two.
    change = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    loc, sigma = change @ LOC, change @ COVARIANCE @ change.T
    slopes = torch.linalg.solve(sigma[1:, 1:], sigma[1:, 0])
    mean = loc[0] + slopes @ (torch.tensor([total, 0.4]) - loc[1:])
    check_mean(
        torch.stack([draws, (draws - mean).square()], -1), torch.stack([mean, sigma[0, 0] - slopes @ sigma[1:, 0]])
    )


def test_levels_and_counts_are_refused_in_a_normal_row() -> None:
    frame = incomplete().assign(b=lambda f: (f.b > 2).astype(float).where(f.b.notna()))
    message = "site 'x', column 'b': expected real numbers, since MultivariateNormal is a density of them, got kind"
    with pytest.raises(ValueError, match=message):
        fit(saturated, empty_guide, table_of(frame), progress=False)
    with pytest.raises(ValueError, match=message):
        impute(Fit(saturated, empty_guide, table_of(frame).schema), table_of(frame))


def test_a_covariance_that_is_not_one_stops_training_by_name() -> None:
    def model(batch: Batch) -> None:
        root = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1e-12, 0.0], [0.0, 0.0, 1.0]])
        with rows(batch):
            partially_observed("x", dist.MultivariateNormal(pyro.param("m", torch.zeros(3)), scale_tril=root), batch)

    with pytest.raises(ValueError, match=r"site 'x': the covariance of the columns .* is singular"):
        fit(model, empty_guide, table_of(incomplete()), progress=False)


def test_an_outcome_may_depend_on_a_whole_row() -> None:
    """False alarms: 1e-5.  y | a, c is normal, so that p(y | c) of rows without a is too."""
    frame = incomplete(60).assign(y=lambda f: f.c + 1)
    table = table_of(frame, standardize=dict.fromkeys("abcy", False))

    def model(batch: Batch) -> None:
        with rows(batch):
            x = partially_observed("x", dist.MultivariateNormal(LOC, COVARIANCE), batch, columns=list("abc"))
            partially_observed("y", dist.Normal(x[..., :1] - 0.5 * x[..., 2:], 1.0), batch, columns=["y"])

    batch = table.batch()
    weights = ImportanceWeightedELBO(20_000).particles(model, empty_guide, batch).log_weights.exp()
    change = torch.cat([torch.eye(3), torch.tensor([[1.0, 0.0, -0.5]])])
    loc, sigma = change @ LOC, change @ COVARIANCE @ change.T
    sigma[3, 3] += 1.0
    exact = [
        dist.MultivariateNormal(loc[o], sigma[o][:, o]).log_prob(x[o])
        for x, o in zip(batch.x, [seen.nonzero()[:, 0] for seen in batch.mask], strict=True)
    ]
    check_mean(weights, torch.stack(exact).exp())


def test_a_graph_is_read_off_a_model_of_whole_rows() -> None:
    graph = missingness_graph_of(SelfMasked(), table_of(incomplete()).batch())
    assert {d: set(graph.parents(d)) for d in (0, 1)} == {0: {0}, 1: {1}}


def test_sparse_tables_take_low_rank_rows() -> None:
    """A thousand columns, of which a row shows few: the factorised matrices have the size of the rank."""
    entries = sparse.random(30, 1000, density=0.01, random_state=0, format="csr")
    entries.data = np.random.default_rng(0).normal(size=len(entries.data))
    table = Table.from_sparse(entries, auxiliary=[], dtype=torch.float64)

    def model(batch: Batch) -> None:
        loc = pyro.param("loc", torch.zeros(1000))
        factor = pyro.param("factor", 0.1 * torch.ones(1000, 2))
        with rows(batch):
            partially_observed("x", dist.LowRankMultivariateNormal(loc, factor, torch.ones(1000)), batch)

    fitted = fit(model, empty_guide, table, epochs=2, num_particles=1, progress=False)
    row = table.batch().x[0][table.batch().mask[0]]
    alone = Fit(model, empty_guide, table.schema)
    found = log_evidence(alone, table, num_particles=1).log_p[0]
    sigma = 0.02 * torch.ones(len(row), len(row)) + torch.eye(len(row))
    assert found == pytest.approx(float(dist.MultivariateNormal(torch.zeros(len(row)), sigma).log_prob(row)), abs=1e-9)
    assert np.isfinite(fitted.history.bound).all()


def class_model(batch: Batch) -> None:
    """Two classes of binary answers, whose logits have a prior."""
    logits = pyro.sample("logits", dist.Normal(batch.x.new_zeros(2, 3), 1.0).to_event(2))
    with rows(batch):
        fn = dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), dist.Bernoulli(logits=logits).to_event(1))
        x = partially_observed("x", fn, batch)
        observe_mask("r", 0.5 - x, batch)


def test_nuts_enumerates_the_missing_answers_of_latent_classes() -> None:
    x = torch.bernoulli(torch.full((6, 3), 0.5))
    batch = Batch.of(x.masked_fill(torch.rand(6, 3) < 0.4, torch.nan))
    _, potential, _, _ = initialize_model(class_model, model_args=(batch,))
    logits = torch.randn(2, 3)
    every = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
    fn = dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), dist.Bernoulli(logits=logits).to_event(1))
    total = dist.Normal(0.0, 1.0).log_prob(logits).sum()
    for row, seen in zip(batch.x, batch.mask, strict=True):
        fits = (every[:, seen] == row[seen]).all(1)
        log_odds = 0.5 - every[fits]
        log_r = torch.where(seen, nn.functional.logsigmoid(log_odds), nn.functional.logsigmoid(-log_odds)).sum(-1)
        total = total + (fn.log_prob(every[fits]) + log_r).logsumexp(0)
    difference = float(-potential({"logits": logits}) - total)
    gaps = (~batch.mask).any(0)
    counted = float((batch.mask & gaps).sum()) * np.log(2)  # each value of an observed entry counts as one
    assert difference == pytest.approx(counted, abs=1e-9)
