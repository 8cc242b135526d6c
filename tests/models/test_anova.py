"""The paper's ANOVA example: the model against quadrature, and what SVI finds against the exact maximum likelihood."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pyro
import pytest
import torch
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import norm

from pyro_mnar import ImportanceWeightedELBO, Table, fit
from pyro_mnar.datasets.anova import NOISE, TRUTH, Parameters, anova, log_evidence, maximum_likelihood, twin
from pyro_mnar.guides import ANOVAConditional, MeanField, ZeroImpute
from pyro_mnar.models import ANOVA


def table_of(frame: pd.DataFrame) -> Table:
    return Table.from_frame(frame, auxiliary=[])


def at(model: ANOVA, parameters: Parameters) -> ANOVA:
    """The model with given parameters, put into its standardised ones."""
    mu, zeta, intercept, slope = parameters
    with torch.no_grad():
        model.shift.copy_((torch.as_tensor(mu) - model.center) / model.unit)
        model.raw_spread.copy_(torch.expm1(zeta / model.unit.mean()).log() - math.log(math.e - 1))
        model.raw_slope.copy_(slope * model.unit.mean())
        model.raw_intercept.copy_(intercept + slope * model.center.mean())
    return model


def parameters_of(model: ANOVA) -> Parameters:
    return Parameters(model.mu.detach().numpy(), model.zeta.item(), model.intercept.item(), model.slope.item())


def evidence_per_row(table: Table, parameters: Parameters) -> float:
    """Exact, in nats per row, of the standardised values."""
    std = np.array([column.std for column in table.schema.columns])
    units = (table.mask.numpy() * np.log(std)).sum()
    return float((log_evidence(table.frame, parameters).sum() + units) / len(table))


def bound_per_row(model: ANOVA, guide: torch.nn.Module, table: Table, num_particles: int) -> float:
    with pyro.get_param_store().scope():
        return -ImportanceWeightedELBO(num_particles).loss(model, guide, table.batch()) / len(table)


class TestEvidence:
    def test_gauss_hermite_against_adaptive_quadrature(self) -> None:
        x = np.array([[0.7, np.nan, -2.0]])
        parameters = Parameters(np.array([0.1, -1.0, 2.0]), 1.3, 0.4, -1.7)
        mu, zeta, intercept, slope = parameters
        for column, value in enumerate(x[0]):

            def integrand(z: float, value: float = value, mean: float = mu[column]) -> float:
                odds = intercept + slope * z
                of_x = expit(-odds) if np.isnan(value) else norm.pdf(value, z, NOISE) * expit(odds)
                return float(norm.pdf(z, mean, zeta) * of_x)

            exact, _ = quad(integrand, -15, 15, points=[mu[column]], epsabs=1e-13, limit=200)
            assert log_evidence(x, parameters, nodes=120)[0, column] == pytest.approx(np.log(exact), abs=1e-9)
            assert log_evidence(x, parameters)[0, column] == pytest.approx(np.log(exact), abs=1e-6)

    def test_twins_give_what_is_observed_one_law(self) -> None:
        """Proposition 1 does not protect here: c = 1, and yet p(X_o, R) has two parameters."""
        one = Parameters(np.array([0.0]), 1.0, -2.0, -2.0)
        other, log_factor = twin(one)
        assert other.mu == pytest.approx([-2.0]) and (other.intercept, other.slope) == (2.0, 2.0)
        assert log_factor == pytest.approx([0.0])
        x = np.append(np.linspace(-6, 4, 101), np.nan)[:, None]
        np.testing.assert_allclose(log_evidence(x, one, nodes=120), log_evidence(x, other, nodes=120), atol=1e-9)

    def test_factor_between_twins_that_are_no_twins(self) -> None:
        other, log_factor = twin(TRUTH)
        x = np.random.default_rng(0).normal(size=(20, 5))
        apart = log_evidence(x, TRUTH, nodes=120) - log_evidence(x, other, nodes=120)
        np.testing.assert_allclose(apart, np.broadcast_to(log_factor, x.shape), atol=1e-8)

    def test_mechanism_of_the_simulator(self) -> None:
        data = anova(0, rows=20_000)
        assert data.latents is not None
        residual = data.frame.notna().to_numpy() - data.probabilities.to_numpy()
        assert abs(residual.mean(0)).max() < 4 * 0.5 / np.sqrt(20_000)
        np.testing.assert_allclose(data.probabilities, expit(1 - data.latents.to_numpy()))
        np.testing.assert_allclose((data.complete.to_numpy() - data.latents.to_numpy()).std(0), NOISE, rtol=0.03)


class TestModel:
    def test_bound_is_the_evidence_under_the_conditional_guide(self) -> None:
        """In the user's units throughout: the columns' standard deviations differ, ζ and λ do not."""
        frame = anova(1, rows=400, truth=TRUTH._replace(slope=-2.0)).frame * 10 + 100
        table = table_of(frame)
        truth = Parameters(TRUTH.mu * 10 + 100, 10.0, 1.0 + 2.0 * 10, -0.2)
        model = at(ANOVA(table, noise=10 * NOISE), truth)
        np.testing.assert_allclose(parameters_of(model).vector(), truth.vector())
        exact = log_evidence(frame, truth, 10 * NOISE).sum()
        units = (table.mask.numpy() * np.log([column.std for column in table.schema.columns])).sum()
        bound = bound_per_row(model, ANOVAConditional(model), table, 500)
        assert bound == pytest.approx((exact + units) / 400, abs=0.01)

    def test_laplace_mode_is_where_the_gradient_vanishes(self) -> None:
        table = table_of(anova(2, rows=50).frame)
        model = at(ANOVA(table, noise=NOISE), TRUTH._replace(slope=-3.0))
        batch = table.batch()
        with pyro.get_param_store().scope():
            site = pyro.poutine.trace(ANOVAConditional(model)).get_trace(batch).nodes["z"]["fn"]
            mode = site.base_dist.loc.detach().requires_grad_()
            scale = site.base_dist.scale.detach()
            held = pyro.poutine.condition(pyro.poutine.block(model, hide=["x_missing"]), data={"z": mode})
            log_joint = pyro.poutine.trace(held).get_trace(batch).log_prob_sum()
        (gradient,) = torch.autograd.grad(log_joint, mode)
        assert (gradient * scale).abs().max() < 1e-5

    def test_gaps_by_design_are_not_scored(self) -> None:
        frame = anova(3, rows=30).frame
        hidden = frame["X1"].isna().to_numpy(copy=True)
        table = Table.from_frame(frame, auxiliary=[], by_design={"X1": hidden})
        model = at(ANOVA(table, noise=NOISE), TRUTH)
        with pyro.get_param_store().scope():
            site = pyro.poutine.trace(ANOVAConditional(model)).get_trace(table.batch()).nodes["z"]["fn"].base_dist
        assert hidden.any()
        prior_mean = np.full(hidden.sum(), model.shift[0].item())
        np.testing.assert_allclose(site.loc.detach().numpy()[hidden, 0], prior_mean, atol=1e-12)

    def test_noise_is_checked(self) -> None:
        with pytest.raises(ValueError, match="noise: expected more than 0, and finite, got 0"):
            ANOVA(table_of(anova(0, rows=20).frame), noise=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_svi_is_the_exact_maximum_likelihood(seed: int) -> None:
    """Appendix C at work: signs not told, from λ_1 = 0; parameters are (μ_1, ..., μ_5, ζ², λ_0, λ_1)."""
    frame = anova(seed).frame
    exact = maximum_likelihood(frame)
    table = table_of(frame)
    model = ANOVA(table, noise=NOISE)
    guide = ANOVAConditional(model)
    fit(model, guide, table, epochs=30, batch_size=250, learning_rate=0.03, progress=False)

    from_exact = parameters_of(model).vector() - exact.parameters.vector()
    assert np.abs(from_exact / exact.standard_errors).max() < 0.3
    from_truth = exact.parameters.vector() - TRUTH.vector()
    assert np.abs(from_truth / exact.standard_errors).max() < 4
    assert bound_per_row(model, guide, table, 200) == pytest.approx(
        evidence_per_row(table, parameters_of(model)), abs=0.01
    )

    seen = frame.notna().sum()
    mean_off = (frame.mean() - TRUTH.mu) / (frame.std() / np.sqrt(seen))
    variance, true_variance = frame.var().mean(), TRUTH.zeta**2 + NOISE**2
    assert mean_off.abs().min() > 5
    assert abs(variance - true_variance) / (variance * np.sqrt(2 / seen.sum())) > 5


@pytest.mark.slow
def test_three_guides_reach_one_bound() -> None:
    table = table_of(anova(7, rows=400).frame)
    model = ANOVA(table, noise=NOISE)
    exact = ANOVAConditional(model)
    fit(model, exact, table, epochs=60, batch_size=100, learning_rate=0.03, progress=False)
    model.requires_grad_(False).eval()  # Pyro warns of frozen parameters in training mode
    bounds = [bound_per_row(model, exact, table, 500)]
    for guide in (ZeroImpute(table, 5, hidden=(64,), seed=0), MeanField(table, 5)):
        fit(model, guide, table, epochs=150, batch_size=100, learning_rate=0.03, progress=False)
        bounds.append(bound_per_row(model, guide, table, 500))
    assert max(bounds) - min(bounds) < 0.02
    assert bounds[0] == pytest.approx(evidence_per_row(table, parameters_of(model)), abs=0.02)
