"""Latents that all rows share: their terms count once, and one draw of them serves all particles of a run."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoDelta, AutoMultivariateNormal, AutoNormal
from pyro.nn import PyroModule, PyroSample
from torch import Tensor
from torch.nn.functional import logsigmoid

from checks import check_mean
from pyro_mnar import Batch, ImportanceWeightedELBO, observe_mask, partially_observed, rows, shared_latents

VALUES = torch.tensor([0.3, torch.nan, -1.2, torch.nan, 0.8, 1.9], dtype=torch.float64)


def stans_example(batch: Batch) -> None:
    """μ ~ N(0, 1), y ~ N(μ, 2), P(observed) = logit⁻¹(y)."""
    mean = pyro.sample("mean", dist.Normal(batch.x.new_zeros(()), 1.0))
    with rows(batch):
        y = partially_observed("y", dist.Normal(mean, 2.0).expand([len(batch), 1]), batch)
        observe_mask("r", y, batch)


def log_rows(mean: Tensor, values: Tensor = VALUES) -> Tensor:
    """Σ_rows log p(y_o, r | μ) at some means, gaps by quadrature; ``(means,)``."""
    seen = values[~values.isnan()]
    nodes, weights = (torch.tensor(v) for v in np.polynomial.hermite_e.hermegauss(80))
    y = mean[:, None] + 2 * nodes
    log_gap = (torch.sigmoid(-y) * weights / weights.sum()).sum(-1).log()
    log_seen = (dist.Normal(mean[:, None], 2.0).log_prob(seen) + logsigmoid(seen)).sum(-1)
    return log_seen + values.isnan().sum() * log_gap


def normal_guide(loc: Tensor, scale: Tensor) -> Callable[[Batch], None]:
    def guide(batch: Batch) -> None:
        pyro.sample("mean", dist.Normal(loc, scale))

    return guide


def column(values: Tensor = VALUES) -> Batch:
    return Batch.of(values[:, None])


def quadrature(loc: Tensor, scale: Tensor, rows_at: Callable[[Tensor], Tensor]) -> Tensor:
    """E_q(μ)[ Σ_rows + log p(μ) - log q(μ) ]."""
    nodes, weights = (torch.tensor(v) for v in np.polynomial.hermite_e.hermegauss(40))
    mean = loc + scale * nodes
    terms = rows_at(mean) + dist.Normal(0.0, 1.0).log_prob(mean) - dist.Normal(loc, scale).log_prob(mean)
    return (terms * weights).sum() / weights.sum()


def elbo_of_rows(mean: Tensor) -> Tensor:
    """The same as ``log_rows`` with the logarithm inside the mean over a gap's values: the bound of one particle."""
    seen = VALUES[~VALUES.isnan()]
    nodes, weights = (torch.tensor(v) for v in np.polynomial.hermite_e.hermegauss(80))
    log_gap = (logsigmoid(-mean[:, None] - 2 * nodes) * weights / weights.sum()).sum(-1)
    log_seen = (dist.Normal(mean[:, None], 2.0).log_prob(seen) + logsigmoid(seen)).sum(-1)
    return log_seen + VALUES.isnan().sum() * log_gap


@pytest.mark.parametrize(
    ("count", "vectorised", "rows_at"), [(2_000, True, log_rows), (1, True, elbo_of_rows), (1, False, elbo_of_rows)]
)
def test_the_bound_is_the_mean_over_shared_draws_of_rows_bounds_and_prior_terms(
    count: int, vectorised: bool, rows_at: Callable
) -> None:
    """2,000 particles bring a gap's bound within Var(w) / (2 · 2,000 · E[w]²) < 2e-4 of its log-evidence."""
    loc, scale = torch.tensor(0.2), torch.tensor(0.4)
    objective = ImportanceWeightedELBO(count, vectorize_particles=vectorised)
    found = [-objective.loss(stans_example, normal_guide(loc, scale), column()) for _ in range(120)]
    check_mean(torch.tensor(found), quadrature(loc, scale, rows_at))


@pytest.mark.parametrize("estimator", ["pathwise", "doubly-reparameterized"])
def test_gradients_are_those_of_the_quadrature(estimator: str) -> None:
    loc, scale = torch.tensor(0.2, requires_grad=True), torch.tensor(0.4, requires_grad=True)
    exact = torch.autograd.grad(quadrature(loc, scale, log_rows), [loc, scale])
    objective, found = ImportanceWeightedELBO(300, estimator), []
    for _ in range(150):
        loss = objective.differentiable_loss(stans_example, normal_guide(loc, scale), column())
        found.append(-torch.stack(torch.autograd.grad(loss, [loc, scale])))
    check_mean(torch.stack(found), torch.stack(exact))


def test_minibatches_give_the_full_tables_bound_on_average() -> None:
    """Exactly: a complete column has no particles' noise, and a point guide none of its own."""
    values = torch.tensor([0.3, -0.4, -1.2, 0.7, 0.8, 1.9])

    def point(batch: Batch) -> None:
        pyro.sample("mean", dist.Delta(torch.tensor(0.35)))

    objective, table = ImportanceWeightedELBO(3), column(values)
    whole = objective.loss(stans_example, point, table)
    parts = [objective.loss(stans_example, point, batch) for batch in table.minibatches(2)]
    assert np.mean(parts) == pytest.approx(whole, abs=1e-10)
    for estimator in ("pathwise", "doubly-reparameterized"):
        trained_on = ImportanceWeightedELBO(3, estimator)
        losses = [trained_on.differentiable_loss(stans_example, point, batch) for batch in table.minibatches(2)]
        assert np.mean([loss.item() for loss in losses]) == pytest.approx(whole, abs=1e-10)
    by_hand = log_rows(torch.tensor([0.35]), values) + dist.Normal(0.0, 1.0).log_prob(torch.tensor(0.35))
    assert -whole == pytest.approx(by_hand.item(), abs=1e-10)
    assert np.ptp(parts) > 1  # the rows' part differs from one minibatch to another


def test_minibatches_are_unbiased_with_gaps_and_a_guide_that_draws() -> None:
    objective, table = ImportanceWeightedELBO(4), column()
    guide = normal_guide(torch.tensor(0.1), torch.tensor(0.5))
    whole = torch.tensor([objective.loss(stans_example, guide, table) for _ in range(120)])
    of_parts = [[objective.loss(stans_example, guide, b) for b in table.minibatches(2)] for _ in range(120)]
    check_mean(whole - torch.tensor(of_parts).mean(1), 0.0)


def test_all_particles_share_one_draw() -> None:
    for vectorised in (True, False):
        drawn = []

        def model(batch: Batch, drawn: list = drawn) -> None:
            weight = pyro.sample("weight", dist.Normal(torch.zeros(1, 2), 1.0).to_event(2))
            drawn.append(weight.clone())
            with rows(batch):
                z = pyro.sample("z", dist.Normal(0.0, 1.0))
                # F.linear takes a matrix, and would refuse a weight with a dimension of particles.
                of_z = torch.nn.functional.linear(torch.stack([z, z**2], -1), weight)
                partially_observed("x", dist.Normal(of_z, 1.0), batch)

        def guide(batch: Batch) -> None:
            pyro.sample("weight", dist.Normal(torch.zeros(1, 2), 1.0).to_event(2))

        ImportanceWeightedELBO(4, vectorize_particles=vectorised, max_plate_nesting=1).loss(model, guide, column())
        assert all(torch.equal(weight, drawn[0]) for weight in drawn) and drawn[0].shape == (1, 2)


class Regression(PyroModule):
    """A linear map whose parameters have priors, as Pyro's tutorials write it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = PyroModule[torch.nn.Linear](1, 1)
        self.linear.weight = PyroSample(dist.Normal(0.0, 1.0).expand([1, 1]).to_event(2))
        self.linear.bias = PyroSample(dist.Normal(0.0, 10.0).expand([1]).to_event(1))

    def forward(self, batch: Batch) -> Tensor:
        mean = self.linear(batch.aux)
        with rows(batch):
            return partially_observed("y", dist.Normal(mean, 0.5), batch)


@pytest.mark.parametrize("make", [AutoNormal, AutoMultivariateNormal, AutoDelta])
def test_automatic_guides_and_pyrosample_modules(make: Callable, own_store: None) -> None:
    """Without gaps every weight is exact, so the bound is that of the guide's own draws."""
    aux = torch.linspace(-1, 1, 5)[:, None]
    batch = Batch.of(0.7 * aux + 0.1, aux=aux)
    model = Regression()
    guide = make(shared_latents(model))
    objective = ImportanceWeightedELBO(3)
    objective.loss(model, guide, batch)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = pyro.poutine.trace(guide).get_trace(batch)
    torch.manual_seed(0)
    loss = objective.loss(model, guide, batch)
    trace = pyro.poutine.trace(pyro.poutine.replay(model, trace=drawn)).get_trace(batch)
    trace.nodes.pop("y_missing")
    assert -loss == pytest.approx((trace.log_prob_sum() - drawn.log_prob_sum()).item(), abs=1e-8)
    assert objective.is_bound(model, guide, batch) == (make is not AutoDelta)


def test_a_joint_guide_of_a_whole_table_is_a_bound_too(own_store: None) -> None:
    """Rows' latents that a shared one holds are the same in every particle: the plain evidence lower bound."""
    batch = column()
    guide = AutoMultivariateNormal(stans_example, init_scale=0.5)
    objective = ImportanceWeightedELBO(3)
    found = torch.tensor([-objective.loss(stans_example, guide, batch) for _ in range(60)])
    mean = torch.linspace(-6, 6, 2_001)
    evidence = (log_rows(mean) + dist.Normal(0.0, 1.0).log_prob(mean)).logsumexp(0) + math.log(12 / 2_000)
    assert found.mean() + 5 * found.std() / 60**0.5 < evidence


def test_an_effect_of_groups_counts_once(own_store: None) -> None:
    group = torch.tensor([0, 0, 1, 1, 2, 2])

    def model(batch: Batch) -> None:
        with pyro.plate("groups", 3):
            effect = pyro.sample("effect", dist.Normal(0.0, 0.7))
        with rows(batch):
            partially_observed("y", dist.Normal(effect[group[batch.index]][:, None], 1.0), batch)

    def exact(batch: Batch) -> None:
        values = VALUES.nan_to_num().view(3, 2)
        precision = 1 / 0.49 + (~VALUES.isnan()).view(3, 2).sum(1)
        with pyro.plate("groups", 3):
            pyro.sample("effect", dist.Normal(values.sum(1) / precision, precision.rsqrt()))

    seen = ~VALUES.isnan()
    covariance = 0.49 * (group[:, None] == group)[seen][:, seen].double() + torch.eye(int(seen.sum()))
    evidence = dist.MultivariateNormal(torch.zeros(int(seen.sum())), covariance).log_prob(VALUES[seen])
    assert -ImportanceWeightedELBO(2).loss(model, exact, column()) == pytest.approx(evidence.item(), abs=1e-10)


# Priors on parameters, as terms of their own.


def test_a_factor_outside_the_rows_counts_once_in_every_minibatch() -> None:
    def model(batch: Batch) -> None:
        with rows(batch):
            partially_observed("x", dist.Normal(0.0, 1.0).expand([len(batch), 1]), batch)
        pyro.factor("penalty", torch.tensor(-1.5))

    def without(batch: Batch) -> None:
        with pyro.poutine.block(hide=["penalty"]):
            model(batch)

    for batch in column().minibatches(2):
        losses = [ImportanceWeightedELBO(2).loss(m, lambda batch: None, batch) for m in (model, without)]
        assert losses[0] - losses[1] == pytest.approx(1.5, abs=1e-10)


# What is refused, and with which cure.


def refused(model: Callable, guide: Callable, message: str, batch: Batch | None = None) -> None:
    with pyro.validation_enabled(False), pytest.raises(ValueError, match=message):
        ImportanceWeightedELBO(2).differentiable_loss(model, guide, batch or column())


def test_a_shared_latent_that_the_guide_leaves_out_is_refused_by_name() -> None:
    message = r"site 'mean': stands outside the row plate, .* the guide leaves it out .*shared_latents\(model\)"
    refused(stans_example, lambda batch: None, message)


def test_a_shared_latent_of_the_guide_alone_is_refused_by_name() -> None:
    def guide(batch: Batch) -> None:
        pyro.sample("mean", dist.Normal(0.0, 1.0))
        pyro.sample("shift", dist.Normal(0.0, 1.0))

    refused(stans_example, guide, "site 'shift': in the guide, but the model has no such latent site")


def test_what_depends_on_the_rows_latents_cannot_stand_outside() -> None:
    def model(batch: Batch) -> None:
        with rows(batch):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            partially_observed("x", dist.Normal(z[..., None], 1.0), batch)
        pyro.factor("penalty", -(z**2))

    refused(model, lambda batch: None, "site 'penalty': stands outside the row plate.*move it inside `with rows")


def test_a_latent_of_each_row_outside_the_row_plate_is_refused() -> None:
    def model(batch: Batch) -> None:
        z = pyro.sample("z", dist.Normal(torch.zeros(len(batch)), 1.0))
        with rows(batch):
            partially_observed("x", dist.Normal(z[:, None], 1.0), batch)

    def guide(batch: Batch) -> None:
        pyro.sample("z", dist.Normal(torch.zeros(len(batch)), 1.0))

    refused(model, guide, r"site 'z': stands outside .* \(6,\) densities: if each row has one.*`.to_event\(1\)`")


def test_a_shared_latent_that_cannot_be_reparameterised_is_refused() -> None:
    def model(batch: Batch) -> None:
        kind = pyro.sample("kind", dist.Bernoulli(0.5))
        with rows(batch):
            partially_observed("x", dist.Normal(kind, 1.0).expand([len(batch), 1]), batch)

    refused(
        model,
        lambda batch: pyro.sample("kind", dist.Bernoulli(torch.tensor(0.4))),
        "site 'kind': all rows share it and it cannot be reparameterised: sum it out",
    )


def test_a_model_without_rows_is_refused() -> None:
    def model(batch: Batch) -> None:
        pyro.sample("mean", dist.Normal(0.0, 1.0))

    refused(model, model, "no sample site in the row plate 'rows'")
