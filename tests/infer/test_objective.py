"""The bound against what it bounds: closed forms, quadrature, Pyro's objective, a formula by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pyro
import pyro.distributions as dist
import pyro.poutine as poutine
import pytest
import torch
from pyro.infer import Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from torch import Tensor
from torch.nn.functional import logsigmoid
from torch.special import log_ndtr, ndtr

from checks import check_mean, gina_pair, table_with_gaps
from pyro_mnar import Batch, ImportanceWeightedELBO, observe_mask, partially_observed, propose_missing, rows
from pyro_mnar.nn import positive

MEAN, SCALE, INTERCEPT, SLOPE = 0.4, 1.3, 0.5, -1.2

pytestmark = pytest.mark.usefixtures("own_store")


def no_latents(batch: Batch) -> None:
    """A guide that leaves everything to the model."""


def probit_logits(x: Tensor) -> Tensor:
    return log_ndtr(INTERCEPT + SLOPE * x) - log_ndtr(-INTERCEPT - SLOPE * x)


def logistic_logits(x: Tensor) -> Tensor:
    return INTERCEPT + SLOPE * x


def self_masking(logits: Callable[[Tensor], Tensor], weight: float = 1.0) -> Callable[[Batch], None]:
    """x ~ N(μ, σ²), observed with log-odds that depend on x."""

    def model(batch: Batch) -> None:
        with rows(batch):
            x = partially_observed("x", dist.Normal(MEAN, SCALE).expand([len(batch), 1]), batch)
            observe_mask("r", logits(x), batch, weight=weight)

    return model


def one_column(*values: float) -> Batch:
    return Batch.of(torch.tensor(values)[:, None])


def expectation(function: Callable[[Tensor], Tensor]) -> Tensor:
    """E f(x) for x ~ N(μ, σ²) by 200 Gauss-Hermite nodes."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    return (torch.tensor(weights) * function(MEAN + SCALE * torch.tensor(nodes))).sum() / math.sqrt(2 * math.pi)


def log_normal_pdf(x: Tensor) -> Tensor:
    return dist.Normal(MEAN, SCALE).log_prob(x)


# Exact guides: every weight is the evidence itself, so there is no chance in these.


@pytest.mark.parametrize("num_particles", [1, 7])
def test_bound_is_the_evidence_of_a_conjugate_normal_with_gaps(num_particles: int) -> None:
    loading, noise = torch.tensor([0.8, -1.5, 0.3]), torch.tensor([0.5, 1.0, 2.0])
    x = torch.randn(6, 3)
    x[torch.rand(6, 3) < 0.4] = torch.nan
    batch = Batch.of(x)

    def model(batch: Batch) -> None:
        with rows(batch):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            partially_observed("x", dist.Normal(z[..., None] * loading, noise), batch)

    def exact_posterior(batch: Batch) -> None:
        precision = 1 + (batch.mask * (loading / noise) ** 2).sum(-1)
        mean = (batch.x * loading / noise**2).sum(-1) / precision
        with rows(batch):
            pyro.sample("z", dist.Normal(mean, precision.rsqrt()))

    evidence = torch.zeros(())
    for value, mask in zip(batch.x, batch.mask, strict=True):
        if mask.any():
            covariance = loading[mask].outer(loading[mask]) + noise[mask].square().diag()
            evidence += dist.MultivariateNormal(torch.zeros(int(mask.sum())), covariance).log_prob(value[mask])
    loss = ImportanceWeightedELBO(num_particles).loss(model, exact_posterior, batch)
    assert loss == pytest.approx(-evidence.item(), abs=1e-10)


def test_a_site_counts_in_the_rows_that_its_mask_lets_through() -> None:
    batch, kept = one_column(0.5, -1.0, 2.0), torch.tensor([True, False, True])

    def model(batch: Batch) -> None:
        with rows(batch):
            partially_observed("x", dist.Normal(MEAN, SCALE).expand([len(batch), 1]), batch)
            with poutine.mask(mask=kept[batch.index]):
                pyro.sample("y", dist.Normal(batch.x[:, 0], 1.0), obs=torch.ones(len(batch)))

    expected = log_normal_pdf(batch.x).sum() + dist.Normal(batch.x[kept, 0], 1.0).log_prob(torch.ones(2)).sum()
    assert -ImportanceWeightedELBO().loss(model, no_latents, batch) == pytest.approx(expected.item(), rel=1e-12)


def test_plates_nested_in_the_row_plate_enter_the_weight() -> None:
    """Items z → v_i → y_i: v has an exact conditional in the guide, y_i|z ~ N(z, 2), so y ~ N(0, 1 + 2I)."""
    y = torch.randn(3, 5)

    def model(batch: Batch) -> None:
        with rows(batch):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            with pyro.plate("items", 3, dim=-2):
                v = pyro.sample("v", dist.Normal(z, 1.0))
                pyro.sample("y", dist.Normal(v, 1.0), obs=y)

    def exact_posterior(batch: Batch) -> None:
        with rows(batch):
            z = pyro.sample("z", dist.Normal(y.sum(0) / 2 / (1 + 3 / 2), (1 + 3 / 2) ** -0.5))
            with pyro.plate("items", 3, dim=-2):
                pyro.sample("v", dist.Normal((z + y) / 2, 0.5**0.5))

    covariance = torch.ones(3, 3) + 2 * torch.eye(3)
    evidence = dist.MultivariateNormal(torch.zeros(3), covariance).log_prob(y.T).sum()
    for vectorised in (True, False):
        objective = ImportanceWeightedELBO(4, vectorize_particles=vectorised)
        assert objective.loss(model, exact_posterior, Batch.of(y.T)) == pytest.approx(-evidence.item(), abs=1e-10)


# Weights are unbiased for the evidence whatever K is, so their mean is free of the bias of the logarithm.


def test_mean_weight_is_the_closed_form_evidence_of_probit_self_masking() -> None:
    """∫ N(x; μ, σ²) Φ(a + bx) dx = Φ((a + bμ) / √(1 + b²σ²))."""
    values = [torch.nan, 0.0, 1.7, torch.nan, -2.0]
    run = ImportanceWeightedELBO(20_000).particles(self_masking(probit_logits), no_latents, one_column(*values))
    x = torch.tensor(values)
    at = x.nan_to_num()
    observed = log_normal_pdf(at).exp() * ndtr(INTERCEPT + SLOPE * at)
    missing = 1 - ndtr(torch.tensor((INTERCEPT + SLOPE * MEAN) / math.sqrt(1 + SLOPE**2 * SCALE**2)))
    check_mean(run.log_weights.exp(), torch.where(x.isnan(), missing, observed))


@pytest.mark.parametrize("weight", [1.0, 0.4])
def test_mean_weight_is_the_quadrature_of_logistic_self_masking_with_beta_as_a_power(weight: float) -> None:
    batch = one_column(torch.nan, 0.7, -1.1)
    run = ImportanceWeightedELBO(20_000).particles(self_masking(logistic_logits, weight), no_latents, batch)
    missing = expectation(lambda x: (weight * logsigmoid(-logistic_logits(x))).exp())
    x = batch.x[1:, 0]
    observed = (log_normal_pdf(x) + weight * logsigmoid(logistic_logits(x))).exp()
    check_mean(run.log_weights.exp(), torch.cat([missing[None], observed]))


def test_mean_weight_is_the_evidence_with_a_latent_whose_guide_is_wrong() -> None:
    """z ~ N(0, 1), x ~ N(μ + ½z, s²) with s² = σ² - ¼: the marginal of x is N(μ, σ²) again."""

    def model(batch: Batch) -> None:
        with rows(batch):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            x = partially_observed("x", dist.Normal(MEAN + z[..., None] / 2, (SCALE**2 - 0.25) ** 0.5), batch)
            observe_mask("r", logistic_logits(x), batch)

    def guide(batch: Batch) -> None:
        with rows(batch):
            pyro.sample("z", dist.Normal(0.3 * batch.x[:, 0] - 0.2, 1.2))

    batch = one_column(torch.nan, 0.9)
    run = ImportanceWeightedELBO(40_000).particles(model, guide, batch)
    x = batch.x[1, 0]
    evidence = [
        expectation(lambda x: torch.sigmoid(-logistic_logits(x))),
        log_normal_pdf(x).exp() * torch.sigmoid(logistic_logits(x)),
    ]
    check_mean(run.log_weights.exp(), torch.stack(evidence))


def test_bound_rises_from_the_elbo_to_the_evidence() -> None:
    """Rows are replicas: their spread gives the error of each bound."""
    model, batch = self_masking(logistic_logits), one_column(*[torch.nan] * 2_000)
    elbo = expectation(lambda x: logsigmoid(-logistic_logits(x)))
    evidence = expectation(lambda x: torch.sigmoid(-logistic_logits(x))).log()

    bounds = {}
    for num_particles in (1, 5, 50):
        log_weights = ImportanceWeightedELBO(num_particles).particles(model, no_latents, batch).log_weights
        bounds[num_particles] = log_weights.logsumexp(0) - math.log(num_particles)
    check_mean(bounds[1], elbo)
    assert elbo + 0.1 < bounds[5].mean() < bounds[50].mean() < evidence  # gaps are 0.4, 0.1, 0.01; errors below 0.02
    loss = ImportanceWeightedELBO(2_000).loss(model, no_latents, one_column(*[torch.nan] * 50))
    assert -loss / 50 == pytest.approx(evidence.item(), abs=0.02)  # error of the mean of 50 rows: 0.002


# The formula by hand, and the other ways to compute it, at the same seed: no chance either.


def encoder_inputs(batch: Batch) -> Tensor:
    return torch.cat([batch.x, batch.mask.to(batch.x.dtype), batch.aux], -1)


def hand_written_loss(model: Callable, guide: Callable, batch: Batch, num_particles: int, weight: float) -> float:
    """-L from the draws of one run, with a loop over rows and particles."""
    run = ImportanceWeightedELBO(num_particles).particles(model, guide, batch)
    z, x = run.guide_trace.nodes["z"]["value"], run.model_trace.nodes["x_missing"]["value"]
    total = 0.0
    with torch.no_grad():
        mean, raw_scale = guide.encoder(encoder_inputs(batch)).chunk(2, -1)
        for row in range(len(batch)):
            observed, modelled = batch.mask[row], batch.mask_modelled[row] & batch.incomplete
            weights = []
            for k in range(num_particles):
                completed = torch.where(observed, batch.x[row], x[k, row])
                scale = torch.nn.functional.softplus(raw_scale[row] + math.log(math.e - 1))
                logits = model.mechanism(completed, z[k, row])
                log_r = torch.where(observed, logsigmoid(logits), logsigmoid(-logits))
                log_x = model.decoder(z[k, row]).log_prob(batch.x[row])
                log_w = log_x[observed].sum() + weight * log_r[modelled].sum()
                log_w += model.prior(batch.aux[row : row + 1]).log_prob(z[k, row]).squeeze()
                log_w -= dist.Normal(mean[row], scale).log_prob(z[k, row]).sum()
                weights.append(log_w)
            total += math.log(sum(math.exp(w) for w in weights) / num_particles)
    return -batch.size / len(batch) * total


@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_loss_is_the_hand_written_log_mean_exp_per_row(weight: float) -> None:
    """On a minibatch with unmodelled cells: β inside the logarithm, N/B outside it."""
    table = table_with_gaps()
    model, guide = gina_pair(table, mechanism_weight=weight)
    batch = table.hold_out(torch.rand(40, 3) < 0.2).batch().take(torch.tensor([3, 30, 7, 8]))
    assert batch.mask.any() and not (batch.mask | ~batch.mask_modelled).all() and not batch.mask_modelled.all()
    torch.manual_seed(0)
    expected = hand_written_loss(model, guide, batch, 6, weight)
    torch.manual_seed(0)
    assert ImportanceWeightedELBO(6).loss(model, guide, batch) == pytest.approx(expected, abs=1e-10)


def gradients(objective: ImportanceWeightedELBO, model: Callable, guide: Callable, batch: Batch) -> Tensor:
    torch.manual_seed(0)
    parameters = [*model.parameters(), *guide.parameters()]
    grads = torch.autograd.grad(objective.differentiable_loss(model, guide, batch), parameters, allow_unused=True)
    return torch.cat(
        [torch.zeros_like(p).ravel() if g is None else g.ravel() for p, g in zip(parameters, grads, strict=True)]
    )


def proposing_guide(model: Callable, guide: Callable) -> Callable:
    """The same guide, which also names x_missing and proposes it from the model's own decoder."""

    class Proposing(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.guide = guide

        def forward(self, batch: Batch) -> None:
            with rows(batch):
                mean, scale = self.guide.encoder(encoder_inputs(batch)).chunk(2, dim=-1)
                z = pyro.sample("z", dist.Normal(mean, positive(scale)).to_event(1))
                propose_missing("x", model.decoder(z), batch)

    return Proposing()


def test_proposing_the_missing_values_from_the_model_changes_neither_loss_nor_gradient() -> None:
    table = table_with_gaps()
    model, guide = gina_pair(table)
    proposing, objective, batch = proposing_guide(model, guide), ImportanceWeightedELBO(5), table.batch()
    torch.manual_seed(0)
    loss = objective.loss(model, guide, batch)
    torch.manual_seed(0)
    assert objective.loss(model, proposing, batch) == pytest.approx(loss, abs=1e-9)
    torch.testing.assert_close(
        gradients(objective, model, proposing, batch),
        gradients(objective, model, guide, batch),
        rtol=0,
        atol=1e-9,
    )


def test_a_proposal_sharper_than_the_model_keeps_the_evidence() -> None:
    """X_u proposed from another normal than the model's: the weights change, their mean does not."""

    def guide(batch: Batch) -> None:
        with rows(batch):
            propose_missing("x", dist.Normal(MEAN + 0.8, SCALE * 1.1).expand([len(batch), 1]), batch)

    run = ImportanceWeightedELBO(20_000).particles(self_masking(logistic_logits), guide, one_column(torch.nan))
    check_mean(run.log_weights.exp(), expectation(lambda x: torch.sigmoid(-logistic_logits(x))))


def test_one_particle_is_pyros_elbo() -> None:
    """On a minibatch, with a guide that names x_missing, as Trace_ELBO asks for."""
    table = table_with_gaps()
    model, guide = gina_pair(table, mechanism_weight=0.7)
    proposing, batch = proposing_guide(model, guide), table.batch().take(torch.arange(10, 30))
    torch.manual_seed(0)
    pyros = Trace_ELBO().loss(model, proposing, batch)
    torch.manual_seed(0)
    assert ImportanceWeightedELBO(1).loss(model, proposing, batch) == pytest.approx(pyros, abs=1e-9)


def test_svi_and_module_give_the_same_gradient() -> None:
    table = table_with_gaps()
    model, guide = gina_pair(table)
    objective, batch = ImportanceWeightedELBO(5), table.batch()
    parameters = [*model.parameters(), *guide.parameters()]

    torch.manual_seed(0)
    svi = pyro.infer.SVI(model, guide, pyro.optim.SGD({"lr": 0.0}), loss=objective)
    loss = svi.loss_and_grads(model, guide, batch)
    by_svi = [p.grad.clone() for p in parameters if p.grad is not None]
    for p in parameters:
        p.grad = None
    torch.manual_seed(0)
    as_module = objective(model, guide)(batch)
    as_module.backward()
    by_module = [p.grad for p in parameters if p.grad is not None]

    assert as_module.item() == pytest.approx(loss, abs=1e-10)
    assert len(by_svi) == len(parameters)
    torch.testing.assert_close(by_module, by_svi, rtol=0, atol=1e-10)


@pytest.mark.parametrize("estimator", ["pathwise", "doubly-reparameterized"])
def test_sequential_particles_that_replay_the_vectorised_draws_agree(estimator: str) -> None:
    """Both draws are affine in noise that is recorded once, so the gradient has to agree as well."""
    batch = one_column(0.3, torch.nan, -1.0)
    noise_z, noise_x = torch.randn(4, 3), torch.randn(4, 3, 1)
    slope = torch.tensor(0.3, requires_grad=True)
    shift = torch.tensor(-0.2, requires_grad=True)
    turn = {"z": 0, "x": 0}

    def recorded(fn: dist.Distribution, noise: Tensor, name: str) -> dist.Distribution:
        """The distribution, drawing from the record: all particles at once, or the next one."""

        class Recorded(dist.Normal):
            def rsample(self, sample_shape: object = ()) -> Tensor:
                if self.batch_shape[0] == len(noise) and len(self.batch_shape) == noise.dim():
                    return self.loc + self.scale * noise
                turn[name] += 1
                return self.loc + self.scale * noise[(turn[name] - 1) % len(noise)]

            def expand(self, shape: object, _instance: object = None) -> Recorded:
                return Recorded(self.loc.expand(shape), self.scale.expand(shape))

        return Recorded(fn.loc, fn.scale)

    def model(batch: Batch) -> None:
        with rows(batch):
            z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0))
            x = partially_observed("x", recorded(dist.Normal(shift + z[..., None], 1.0), noise_x, "x"), batch)
            observe_mask("r", logistic_logits(x), batch)

    def guide(batch: Batch) -> None:
        with rows(batch):
            pyro.sample("z", recorded(dist.Normal(slope * batch.x[:, 0], 0.9), noise_z, "z"))

    results = []
    for vectorised in (True, False):
        objective = ImportanceWeightedELBO(4, estimator, vectorize_particles=vectorised, max_plate_nesting=1)
        objective.settle(model, guide, batch)
        turn.update(z=0, x=0)
        loss = objective.differentiable_loss(model, guide, batch)
        results.append([loss.detach(), *torch.autograd.grad(loss, [slope, shift])])
    assert turn == {"z": 4, "x": 4}
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=1e-10)


def test_vectorised_and_sequential_losses_have_the_same_mean() -> None:
    table = table_with_gaps()
    model, guide = gina_pair(table)
    batch = table.batch()
    sequential = ImportanceWeightedELBO(3, vectorize_particles=False)
    samples = [
        torch.tensor([objective.loss(model, guide, batch) for _ in range(100)])
        for objective in (ImportanceWeightedELBO(3), sequential)
    ]
    torch.testing.assert_close(samples[0].std(), samples[1].std(), rtol=0.5, atol=0)
    check_mean(samples[0] - samples[1], 0.0)


# What the objective refuses, and what Pyro's own guides need.


def test_a_latent_that_only_the_guide_has_is_refused_by_name() -> None:
    def guide(batch: Batch) -> None:
        with rows(batch):
            pyro.sample("zed", dist.Normal(0.0, 1.0))

    with pytest.raises(ValueError, match="site 'zed': in the guide, but the model has no such latent site"):
        ImportanceWeightedELBO(2).loss(self_masking(logistic_logits), guide, one_column(0.0, torch.nan))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_particles": 0}, "num_particles: expected at least 1, got 0"),
        ({"estimator": "reinforce"}, "estimator: expected one of .*, got 'reinforce'"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImportanceWeightedELBO(**arguments)


def test_a_tempered_objective_does_not_call_itself_a_bound() -> None:
    objective, batch = ImportanceWeightedELBO(2), one_column(0.0, torch.nan)
    assert objective.is_bound(self_masking(logistic_logits), no_latents, batch)
    assert not objective.is_bound(self_masking(logistic_logits, weight=0.5), no_latents, batch)


def test_autonormal_works_on_minibatches() -> None:
    """Its parameters are per row of the table; a minibatch moves those of its own rows only."""
    table = table_with_gaps(num_rows=12)
    model, _ = gina_pair(table)
    guide = AutoNormal(poutine.block(model, hide=["x_missing"]), create_plates=rows)
    objective, batch = ImportanceWeightedELBO(3), table.batch()
    guide(batch)
    chosen = torch.tensor([7, 2, 5])
    objective.differentiable_loss(model, guide, batch.take(chosen)).backward()
    locs = guide.locs.z_unconstrained if hasattr(guide.locs, "z_unconstrained") else guide.locs.z
    assert locs.shape == (12, 2)
    assert torch.equal(locs.grad.abs().sum(-1).nonzero().ravel(), chosen.sort().values)


def test_finding_the_plates_draws_no_random_numbers() -> None:
    table = table_with_gaps()
    model, guide = gina_pair(table)
    losses = []
    for nesting in (math.inf, 1):
        torch.manual_seed(0)
        losses.append(ImportanceWeightedELBO(2, max_plate_nesting=nesting).loss(model, guide, table.batch()))
    assert losses[0] == losses[1]
