"""Gradients: against finite differences, against exact enumeration, and one unbiased estimator against another.

Where an expectation is compared, every row has parameters of its own, so that one backward pass over many rows gives
as many independent draws of the gradient.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from checks import check_mean, gina_pair, table_with_gaps
from pyro_mnar import Batch, ImportanceWeightedELBO, mechanisms, observe_mask, partially_observed, propose_missing, rows

pytestmark = pytest.mark.usefixtures("own_store")

PARTICLES = 3


@pytest.mark.parametrize(
    "mechanism",
    [
        mechanisms.Constant,
        mechanisms.SelfMasking,
        mechanisms.LatentDependent,
        mechanisms.FullyConnected,
        mechanisms.General,
    ],
)
@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_pathwise_gradient_is_the_slope_of_the_loss_at_the_same_noise(mechanism: Callable, weight: float) -> None:
    """Differences of fourth order along random directions; their own error is about 1e-8 of the slope."""
    table = table_with_gaps()
    model, guide = gina_pair(table, mechanism, mechanism_weight=weight)
    batch, objective = table.batch().take(torch.arange(0, 20)), ImportanceWeightedELBO(5)
    parameters = [*model.parameters(), *guide.parameters()]

    def loss() -> Tensor:
        torch.manual_seed(0)
        return objective.differentiable_loss(model, guide, batch)

    def moved(distance: float, directions: Sequence[Tensor]) -> float:
        with torch.no_grad():
            for p, d in zip(parameters, directions, strict=True):
                p.add_(distance * d)
            value = loss().item()
            for p, d in zip(parameters, directions, strict=True):
                p.sub_(distance * d)
        return value

    gradients, step = torch.autograd.grad(loss(), parameters), 1e-5
    for _ in range(3):
        directions = [torch.randn_like(p) for p in parameters]
        near, far = (moved(h, directions) - moved(-h, directions) for h in (step, 2 * step))
        along = sum((g * d).sum().item() for g, d in zip(gradients, directions, strict=True))
        assert along == pytest.approx((8 * near - far) / (12 * step), rel=1e-7, abs=1e-7)


# The doubly reparameterised gradient. Each row: z1 ~ N(a, 1), z2 ~ N(z1, 1), x ~ N(z2, 1), and a guide with wrong
# parameters in which the second latent depends on the first one's draw.


def chain_gradients(estimator: str, num_particles: int, num_rows: int = 20_000) -> tuple[Tensor, Tensor]:
    """Loss and gradient of every row: with respect to a, then to the guide's five parameters; ``(rows, 6)``."""
    parameters = torch.tensor([0.2, 1.0, 1.0, -0.2, 0.5, 1.0]).repeat(num_rows, 1).requires_grad_()

    def model(batch: Batch) -> None:
        with rows(batch):
            z1 = pyro.sample("z1", dist.Normal(parameters[:, 0], 1.0))
            z2 = pyro.sample("z2", dist.Normal(z1, 1.0))
            pyro.sample("x", dist.Normal(z2, 1.0), obs=batch.x[:, 0])

    def guide(batch: Batch) -> None:
        with rows(batch):
            z1 = pyro.sample("z1", dist.Normal(parameters[:, 1], parameters[:, 2]))
            pyro.sample("z2", dist.Normal(parameters[:, 3] * z1 + parameters[:, 4], parameters[:, 5]))

    batch = Batch.of(torch.full((num_rows, 1), 1.5))
    loss = ImportanceWeightedELBO(num_particles, estimator).differentiable_loss(model, guide, batch)
    return loss.detach(), torch.autograd.grad(loss, parameters)[0]


@pytest.mark.parametrize("num_particles", [1, 5])
def test_doubly_reparameterised_gradient_has_the_mean_of_the_pathwise_one(num_particles: int) -> None:
    (loss, pathwise), (other_loss, doubly) = (
        chain_gradients(estimator, num_particles) for estimator in ("pathwise", "doubly-reparameterized")
    )
    check_mean(pathwise - doubly, 0.0)
    assert (
        pathwise.mean(0).abs() > 8 * pathwise.std(0) / len(pathwise) ** 0.5
    ).all()  # there is something to get wrong
    assert other_loss == pytest.approx(loss.item(), rel=0.01)


def test_doubly_reparameterised_gradient_is_less_noisy_with_many_particles() -> None:
    """What it is for: the guide's signal-to-noise ratio grows with K, where the pathwise one falls."""
    noise = [chain_gradients(e, 64, 2_000)[1][:, 1:].std(0) for e in ("pathwise", "doubly-reparameterized")]
    assert (noise[1] < 0.5 * noise[0]).all()


def test_doubly_reparameterised_gradient_vanishes_where_the_guide_is_exact() -> None:
    slope, scale = torch.tensor(0.5, requires_grad=True), torch.tensor(0.5**0.5, requires_grad=True)

    def model(batch: Batch) -> None:
        with rows(batch):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=batch.x[:, 0])

    def guide(batch: Batch) -> None:
        with rows(batch):
            pyro.sample("z", dist.Normal(slope * batch.x[:, 0], scale))

    batch = Batch.of(torch.randn(10, 1))
    gradients = {
        estimator: torch.autograd.grad(
            ImportanceWeightedELBO(4, estimator).differentiable_loss(model, guide, batch), [slope, scale]
        )
        for estimator in ("pathwise", "doubly-reparameterized")
    }
    torch.testing.assert_close(
        gradients["doubly-reparameterized"], (torch.zeros(()), torch.zeros(())), rtol=0, atol=1e-10
    )
    assert all(g.abs() > 1e-3 for g in gradients["pathwise"])


def test_doubly_reparameterised_gradient_reaches_what_the_guide_proposes_for_missing_values() -> None:
    """x_u proposed by the guide from a normal of its own, half of the rows observed."""
    num_rows = 20_000
    start = torch.tensor([0.2, 1.1, -0.3, 0.9]).repeat(num_rows, 1)  # model's mean and scale, the guide's

    def gradient(estimator: str) -> Tensor:
        parameters = start.clone().requires_grad_()
        mean, scale, guess, spread = (column[:, None] for column in parameters.T)

        def model(batch: Batch) -> None:
            with rows(batch):
                x = partially_observed("x", dist.Normal(mean, scale), batch)
                observe_mask("r", 0.5 - 1.2 * x, batch)

        def guide(batch: Batch) -> None:
            with rows(batch):
                propose_missing("x", dist.Normal(guess, spread), batch)

        x = torch.full((num_rows, 1), 0.7)
        x[::2] = torch.nan
        loss = ImportanceWeightedELBO(4, estimator).differentiable_loss(model, guide, Batch.of(x))
        return torch.autograd.grad(loss, parameters)[0]

    pathwise, doubly = gradient("pathwise"), gradient("doubly-reparameterized")
    check_mean(pathwise[::2] - doubly[::2], 0.0)
    torch.testing.assert_close(pathwise[1::2], doubly[1::2], rtol=0, atol=1e-10)
    assert (pathwise[1::2, 2:] == 0).all()  # a guide's placeholder at an observed entry teaches it nothing


# Score-function terms, against the expectation over all configurations of the particles.


def exact_gradient(
    log_weight: Callable[[Tensor], Tensor],
    log_proposal: Callable[[Tensor], Tensor],
    parameters: Sequence[Tensor],
    count: int,
) -> Tensor:
    """Gradient of E log((1/K) Σ_k w_k) over K independent coins, by enumeration."""
    bound = torch.zeros(())
    for coins in itertools.product([0.0, 1.0], repeat=count):
        drawn = torch.tensor(coins)
        log_mean = log_weight(drawn).logsumexp(0) - math.log(count)
        bound = bound + log_proposal(drawn).sum().exp() * log_mean
    return torch.stack(torch.autograd.grad(bound, parameters))


@pytest.mark.parametrize("num_particles", [1, 2, 3])
def test_gradient_through_a_discrete_latent_of_the_guide_is_unbiased(num_particles: int) -> None:
    """c ~ Bernoulli(logit a), x ~ N(b(2c - 1), 1), guide c ~ Bernoulli(logit q)."""
    start, observed = torch.tensor([-0.4, 0.8, 0.6]), 0.5

    def log_weight(c: Tensor) -> Tensor:
        prior, guide = (dist.Bernoulli(logits=p).log_prob(c) for p in (exact[0], exact[2]))
        return prior - guide + dist.Normal(exact[1] * (2 * c - 1), 1.0).log_prob(torch.tensor(observed))

    exact = [p.clone().requires_grad_() for p in start]
    expected = exact_gradient(log_weight, lambda c: dist.Bernoulli(logits=exact[2]).log_prob(c), exact, num_particles)

    parameters = start.repeat(40_000, 1).requires_grad_()

    def model(batch: Batch) -> None:
        with rows(batch):
            c = pyro.sample("c", dist.Bernoulli(logits=parameters[:, 0]))
            pyro.sample("x", dist.Normal(parameters[:, 1] * (2 * c - 1), 1.0), obs=batch.x[:, 0])

    def guide(batch: Batch) -> None:
        with rows(batch):
            pyro.sample("c", dist.Bernoulli(logits=parameters[:, 2]))

    batch = Batch.of(torch.full((len(parameters), 1), observed))
    loss = ImportanceWeightedELBO(num_particles).differentiable_loss(model, guide, batch)
    check_mean(-torch.autograd.grad(loss, parameters)[0], expected)


@pytest.mark.parametrize("vectorised", [True, False])
@pytest.mark.parametrize("num_particles", [1, 3])
def test_gradient_through_discrete_missing_values_is_unbiased(num_particles: int, vectorised: bool) -> None:
    """X ~ Bernoulli(logit a), observed with log-odds i + s·x; the model itself proposes what is missing."""
    start = torch.tensor([0.7, 0.5, -1.5])
    exact = [p.clone().requires_grad_() for p in start]
    expected = exact_gradient(
        lambda x: torch.nn.functional.logsigmoid(-(exact[1] + exact[2] * x)),
        lambda x: dist.Bernoulli(logits=exact[0]).log_prob(x),
        exact,
        num_particles,
    )
    seen = dist.Bernoulli(logits=exact[0]).log_prob(torch.tensor(1.0))
    seen = seen + torch.nn.functional.logsigmoid(exact[1] + exact[2])
    expected_where_seen = torch.stack(torch.autograd.grad(seen, exact))

    parameters = start.repeat(40_000, 1).requires_grad_()

    def model(batch: Batch) -> None:
        with rows(batch):
            x = partially_observed("x", dist.Bernoulli(logits=parameters[:, :1]), batch)
            observe_mask("r", parameters[:, 1:2] + parameters[:, 2:] * x, batch)

    x = torch.ones(len(parameters), 1)
    x[::2] = torch.nan
    objective = ImportanceWeightedELBO(num_particles, vectorize_particles=vectorised)
    loss = objective.differentiable_loss(model, lambda batch: None, Batch.of(x))
    gradient = -torch.autograd.grad(loss, parameters)[0]
    check_mean(gradient[::2], expected)
    torch.testing.assert_close(
        gradient[1::2], expected_where_seen.expand_as(gradient[1::2]), rtol=0, atol=1e-10
    )  # no noise from draws that an observed entry does not need


def test_gradient_of_a_discrete_latent_beside_a_reparameterised_one_is_unbiased() -> None:
    """c ~ Bernoulli(logit a), z ~ N(c, 1), x ~ N(z, 1), one particle: given c, the rest is closed form."""
    start, observed = torch.tensor([-0.4, 0.6, 0.3, 0.8]), 1.2
    exact = [p.clone().requires_grad_() for p in start]
    a, q, m, s = exact
    elbo = torch.zeros(())
    for c in torch.tensor([0.0, 1.0]):
        guide_c = dist.Bernoulli(logits=q).log_prob(c)
        # E over z ~ N(m + c, s²) of the normal log-densities, and the entropy of z.
        log_z = -0.5 * math.log(2 * math.pi) - 0.5 * ((m + c - c) ** 2 + s**2)
        log_x = -0.5 * math.log(2 * math.pi) - 0.5 * ((observed - m - c) ** 2 + s**2)
        entropy = 0.5 * math.log(2 * math.pi * math.e) + s.log()
        elbo = elbo + guide_c.exp() * (dist.Bernoulli(logits=a).log_prob(c) - guide_c + log_z + log_x + entropy)
    expected = torch.stack(torch.autograd.grad(elbo, exact))

    parameters = start.repeat(40_000, 1).requires_grad_()

    def model(batch: Batch) -> None:
        with rows(batch):
            c = pyro.sample("c", dist.Bernoulli(logits=parameters[:, 0]))
            z = pyro.sample("z", dist.Normal(c, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=batch.x[:, 0])

    def guide(batch: Batch) -> None:
        with rows(batch):
            c = pyro.sample("c", dist.Bernoulli(logits=parameters[:, 1]))
            pyro.sample("z", dist.Normal(parameters[:, 2] + c, parameters[:, 3]))

    batch = Batch.of(torch.full((len(parameters), 1), observed))
    loss = ImportanceWeightedELBO(1).differentiable_loss(model, guide, batch)
    check_mean(-torch.autograd.grad(loss, parameters)[0], expected)


def test_leaving_one_out_makes_the_score_less_noisy_than_reinforce() -> None:
    """The baseline is worth its cost: with K particles, less noise per row than one particle has."""
    parameters = torch.zeros(5_000, 1, requires_grad=True)

    def model(batch: Batch) -> None:
        with rows(batch):
            c = pyro.sample("c", dist.Bernoulli(logits=torch.zeros(len(batch))))
            pyro.sample("x", dist.Normal(3 * c, 1.0), obs=batch.x[:, 0])

    def guide(batch: Batch) -> None:
        with rows(batch):
            pyro.sample("c", dist.Bernoulli(logits=parameters[:, 0]))

    batch = Batch.of(torch.full((5_000, 1), 3.0))
    noise = [
        torch.autograd.grad(ImportanceWeightedELBO(k).differentiable_loss(model, guide, batch), parameters)[0].std()
        for k in (1, 5)
    ]
    assert noise[1] < 0.5 * noise[0]


def test_double_reparameterisation_is_refused_for_discrete_sites() -> None:
    def latent(batch: Batch) -> None:
        with rows(batch):
            pyro.sample("c", dist.Bernoulli(torch.tensor(0.5)))

    def missing(batch: Batch) -> None:
        with rows(batch):
            partially_observed("x", dist.Bernoulli(torch.full((1,), 0.5)).expand([len(batch), 1]), batch)

    objective, batch = ImportanceWeightedELBO(2, "doubly-reparameterized"), Batch.of(torch.tensor([[1.0], [torch.nan]]))
    for model, guide, site in ((latent, latent, "c"), (missing, lambda batch: None, "x_missing")):
        with pytest.raises(ValueError, match=f"site '{site}' cannot be reparameterised: use estimator='pathwise'"):
            objective.differentiable_loss(model, guide, batch)
