"""The words of a model under plain Pyro: what their sites are, what they score, and what they leave alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pyro.poutine as poutine
import pytest
import torch
from pyro.infer import MCMC, NUTS, Predictive
from pyro.infer.mcmc.util import initialize_model
from torch import Tensor
from torch.nn.functional import logsigmoid

from checks import check_mean, gina_pair, table_with_gaps, z_limit
from pyro_mnar import (
    Batch,
    Fit,
    ImportanceWeightedELBO,
    Table,
    impute,
    observe_mask,
    partially_observed,
    propose_missing,
    rows,
)
from pyro_mnar.distributions import MissingEntries
from pyro_mnar.distributions.row_parts import MaskPart, MissingPart, ObservedPart
from pyro_mnar.infer.sites import part_of

pytestmark = pytest.mark.usefixtures("own_store")

X = torch.tensor([[0.5, torch.nan], [torch.nan, -1.0], [1.5, 2.0], [torch.nan, torch.nan]], dtype=torch.float64)


def linear_model(batch: Batch) -> Tensor:
    """z ~ N(0, 1), x_d ~ N(w_d z, ½²), the larger a value the likelier it is missing."""
    with rows(batch):
        z = pyro.sample("z", dist.Normal(batch.x.new_zeros(len(batch)), 1.0))
        x = partially_observed("x", dist.Normal(z[..., None] * batch.x.new_tensor([1.0, -0.7]), 0.5), batch)
        observe_mask("r", 0.3 - 1.2 * x, batch)
    return x


def trace_of(model: Callable, batch: Batch) -> poutine.Trace:
    trace = poutine.trace(model).get_trace(batch)
    trace.compute_log_prob()
    return trace


# Sites and their log-probabilities.


def test_a_traced_row_has_these_sites() -> None:
    trace = trace_of(linear_model, Batch.of(X))
    assert [name for name in trace.stochastic_nodes if name != "rows"] == ["z", "x_missing"]
    assert trace.observation_nodes == ["x_observed", "r"]
    parts = {name: part_of(trace.nodes[name]) for name in ("z", "x_missing", "x_observed", "r")}
    assert parts == {
        "z": None,
        "x_missing": MissingPart((0, 1)),
        "x_observed": ObservedPart((0, 1)),
        "r": MaskPart((0, 1), weight=1.0),
    }


def test_sites_score_the_observed_the_missing_and_the_mask() -> None:
    batch = Batch.of(X)
    trace = trace_of(linear_model, batch)
    z, drawn = trace.nodes["z"]["value"], trace.nodes["x_missing"]["value"]
    completed = trace.nodes["_RETURN"]["value"]
    density = dist.Normal(z[:, None] * torch.tensor([1.0, -0.7]), 0.5).log_prob(completed)
    placeholder = dist.Normal(0.0, 1.0).log_prob(drawn)
    logits = 0.3 - 1.2 * completed
    expected = {
        "x_observed": density.where(batch.mask, 0),
        "x_missing": density.where(~batch.mask, placeholder),
        "r": logsigmoid(logits).where(batch.mask, logsigmoid(-logits)),
    }
    for name, value in expected.items():
        torch.testing.assert_close(trace.nodes[name]["log_prob"], value.sum(-1), rtol=0, atol=1e-12)


def test_the_completed_row_is_observed_where_observed_and_drawn_elsewhere() -> None:
    batch = Batch.of(X)
    trace = trace_of(linear_model, batch)
    completed = trace.nodes["_RETURN"]["value"]
    assert torch.equal(completed[batch.mask], X[batch.mask])
    assert torch.equal(completed[~batch.mask], trace.nodes["x_missing"]["value"][~batch.mask])


def test_an_independent_over_the_columns_is_unwrapped() -> None:
    batch, log_probs = Batch.of(X), []
    for fn in (dist.Normal(torch.zeros(4, 2), 1.0), dist.Normal(torch.zeros(4, 2), 1.0).to_event(1)):

        def model(batch: Batch, fn: dist.Distribution = fn) -> None:
            with rows(batch):
                partially_observed("x", fn, batch)

        torch.manual_seed(0)
        log_probs.append(trace_of(model, batch).log_prob_sum())
    assert log_probs[0] == log_probs[1]


def test_the_plate_scales_a_minibatch_and_draws_no_random_numbers() -> None:
    batch = Batch.of(X).take(torch.tensor([3, 1]))
    before = torch.get_rng_state()
    with rows(batch) as index:
        assert torch.equal(index, torch.tensor([3, 1]))
    assert torch.equal(torch.get_rng_state(), before)
    nodes = trace_of(linear_model, batch).nodes
    assert all(nodes[name]["scale"] == 2.0 for name in ("z", "x_missing", "x_observed", "r"))


# Handlers.


def test_conditioning_on_missing_values_completes_the_row_with_them() -> None:
    batch, guess = Batch.of(X), torch.full((4, 2), 9.0)
    for handled in (
        poutine.condition(linear_model, {"x_missing": guess}),
        poutine.do(linear_model, {"x_missing": guess}),
    ):
        assert torch.equal(handled(batch), torch.where(batch.mask, X, guess))


def test_intervening_on_the_observed_site_changes_the_row() -> None:
    batch, other = Batch.of(X), torch.full((4, 2), -3.0)
    completed = poutine.do(linear_model, {"x_observed": other})(batch)
    assert (completed[batch.mask] == -3.0).all()


def test_replaying_gives_the_same_row() -> None:
    batch = Batch.of(X)
    trace = trace_of(linear_model, batch)
    torch.manual_seed(1)
    assert torch.equal(poutine.replay(linear_model, trace=trace)(batch), trace.nodes["_RETURN"]["value"])


def test_unconditioned_models_draw_fresh_x_and_r() -> None:
    """What a predictive check needs: replicas of the observed values and of the mask."""
    batch = Batch.of(torch.zeros(5_000, 2))
    trace = poutine.trace(poutine.uncondition(linear_model)).get_trace(batch)
    z, x, r = (trace.nodes[name]["value"] for name in ("z", "x_observed", "r"))
    assert not trace.nodes["x_observed"]["is_observed"] and not trace.nodes["r"]["is_observed"]
    assert torch.equal(trace.nodes["_RETURN"]["value"], x)  # the mask is true everywhere
    check_mean(x - z[:, None] * torch.tensor([1.0, -0.7]), 0.0)
    check_mean((x - z[:, None] * torch.tensor([1.0, -0.7])).square(), 0.25)
    check_mean(r - torch.sigmoid(0.3 - 1.2 * x), 0.0)


@pytest.mark.parametrize("parallel", [True, False])
def test_predictive_runs_model_and_guide(parallel: bool) -> None:
    table = table_with_gaps()
    model, guide = gina_pair(table)
    batch = table.batch()
    draws = Predictive(
        model, guide=guide, num_samples=6, parallel=parallel, return_sites=["x_missing", "_RETURN", "z"]
    )(batch)
    assert {name: tuple(value.shape) for name, value in draws.items()} == {
        "x_missing": (6, 40, 3),
        "_RETURN": (6, 40, 3),
        "z": (6, 40, 2),
    }
    assert torch.equal(draws["_RETURN"][:, batch.mask], batch.x[batch.mask].expand(6, -1))
    assert draws["_RETURN"][:, ~batch.mask].std(0).min() > 0


def test_predictive_on_an_unconditioned_model_draws_masks() -> None:
    table = table_with_gaps()
    model, guide = gina_pair(table)
    draws = Predictive(poutine.uncondition(model), guide=guide, num_samples=6, return_sites=["r", "x_observed"])(
        table.batch()
    )
    assert draws["r"].shape == draws["x_observed"].shape == (6, 40, 3)
    assert 0 < draws["r"].mean() < 1


def test_models_can_be_drawn() -> None:
    pytest.importorskip("graphviz")
    drawing = pyro.render_model(linear_model, model_args=(Batch.of(X),)).source
    assert "z -> x_missing" in drawing and "z -> x_observed" in drawing and "x_missing -> r" in drawing


# What is not scored.


def mask_logits_gradient(batch: Batch, weight: float = 1.0) -> Tensor:
    logits = torch.zeros(len(batch), batch.num_columns, requires_grad=True)

    def model(batch: Batch) -> None:
        with rows(batch):
            observe_mask("r", logits, batch, weight=weight)

    return torch.autograd.grad(trace_of(model, batch).log_prob_sum(), logits)[0]


def test_cells_that_are_not_modelled_have_no_mechanism() -> None:
    batch = Batch.of(X)
    modelled = torch.rand(4, 2) < 0.5
    gradient = mask_logits_gradient(replace(batch, mask_modelled=modelled))
    assert torch.equal(gradient, torch.where(modelled, batch.mask.double() - 0.5, 0.0))


def test_columns_that_cannot_go_missing_have_no_mechanism() -> None:
    gradient = mask_logits_gradient(replace(Batch.of(X), incomplete=torch.tensor([False, True])))
    assert (gradient[:, 0] == 0).all() and (gradient[:, 1] != 0).all()


def test_beta_scales_the_mechanism_and_zero_leaves_it_out_of_the_density() -> None:
    batch = Batch.of(X)
    torch.testing.assert_close(mask_logits_gradient(batch, 0.25), 0.25 * mask_logits_gradient(batch))

    def model(batch: Batch) -> None:
        with rows(batch):
            observe_mask("r", torch.zeros(4, 2), batch, weight=0)

    site = trace_of(model, batch).nodes["r"]
    assert part_of(site) == MaskPart((0, 1), weight=0)
    assert (site["log_prob"] == 0).all()


# The missing entries and their placeholders.

FAMILIES: dict[str, Callable] = {
    "real": lambda: dist.Normal(torch.tensor(0.7), 2.0),
    "positive": lambda: dist.Gamma(torch.tensor(2.0), 1.5),
    "log-normal": lambda: dist.LogNormal(torch.tensor(0.7), 2.0),
    "unit interval": lambda: dist.Beta(torch.tensor(2.0), 1.5),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_placeholder_is_a_standard_normal_on_the_support(family: str) -> None:
    fn = FAMILIES[family]()
    noise = torch.linspace(-3, 3, 7)
    transform = torch.distributions.biject_to(fn.support)
    value = transform(noise)
    expected = dist.Normal(0.0, 1.0).log_prob(noise) - transform.log_abs_det_jacobian(noise, value)
    entries = MissingEntries(fn.expand([7]), torch.ones(7, dtype=torch.bool))
    torch.testing.assert_close(entries.log_prob(value), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        MissingEntries(fn.expand([7]), torch.zeros(7, dtype=torch.bool)).log_prob(value), fn.log_prob(value)
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_placeholders_are_drawn_from_the_density_they_score(family: str) -> None:
    fn = FAMILIES[family]().expand([20_000])
    drawn = MissingEntries(fn, torch.ones(20_000, dtype=torch.bool)).sample()
    noise = torch.distributions.biject_to(fn.support).inv(drawn)
    check_mean(torch.stack([noise, noise.square()], -1), torch.tensor([0.0, 1.0]))


def test_discrete_placeholders_have_probability_one() -> None:
    mask = torch.tensor([True, True, False])
    entries = MissingEntries(dist.Bernoulli(torch.full((3,), 0.3)), mask)
    log_prob = entries.log_prob(torch.tensor([0.0, 1.0, 1.0]))
    torch.testing.assert_close(log_prob, torch.tensor([0.0, 0.0, math.log(0.3)]))


def test_observed_entries_teach_the_latent_site_nothing() -> None:
    loc = torch.zeros(2, requires_grad=True)
    entries = MissingEntries(dist.LogNormal(loc, 1.0), torch.tensor([True, False]))
    drawn = entries.rsample()
    by_draw = torch.autograd.grad(drawn.sum(), loc, retain_graph=True)[0]
    by_density = torch.autograd.grad(entries.log_prob(torch.tensor([3.0, 3.0])).sum(), loc)[0]
    for gradient in (by_draw, by_density):
        assert gradient[0] == 0 and gradient[1] != 0


@pytest.mark.parametrize("estimator", ["pathwise", "doubly-reparameterized"])
@pytest.mark.parametrize("family", [dist.LogNormal, dist.Gamma, dist.Weibull])
def test_gradients_are_finite_where_gaps_stand_in_positive_columns(family: Callable, estimator: str) -> None:
    """Gaps are zeros in batch.x, outside the support: scored there, a gradient would be NaN even under a mask."""
    shape = torch.tensor([0.3, 1.2], requires_grad=True)

    def model(batch: Batch) -> None:
        with rows(batch):
            z = pyro.sample("z", dist.Normal(torch.zeros(4), 1.0))
            x = partially_observed("x", family(shape + z[..., None].exp(), 0.8), batch)
            observe_mask("r", 0.3 - x, batch)

    def guide(batch: Batch) -> None:
        with rows(batch):
            pyro.sample("z", dist.Normal(torch.zeros(4), 1.0))

    loss = ImportanceWeightedELBO(5, estimator).differentiable_loss(model, guide, Batch.of(X.abs()))
    gradient = torch.autograd.grad(loss, shape)[0]
    assert gradient.isfinite().all() and (gradient != 0).all()


def test_no_coordinate_of_the_missing_site_is_flat_or_tied_to_z_where_observed() -> None:
    """The Hessian of NUTS's own potential: one on the diagonal at observed entries, zero beside it."""
    batch = Batch.of(X)
    _, potential, _, _ = initialize_model(linear_model, (batch,))
    start = {"z": torch.randn(4), "x_missing": torch.randn(4, 2)}

    def energy(flat: Tensor) -> Tensor:
        return potential({"z": flat[:4], "x_missing": flat[4:].view(4, 2)})

    hessian = torch.autograd.functional.hessian(energy, torch.cat([start["z"], start["x_missing"].ravel()]))
    observed = 4 + batch.mask.ravel().nonzero().ravel()
    torch.testing.assert_close(hessian[observed], torch.eye(12)[observed], rtol=0, atol=1e-12)
    assert torch.linalg.eigvalsh(hessian).min() > 0.1


# One posterior, three ways: quadrature, impute, NUTS.


def two_columns(values: Tensor) -> tuple[Table, Fit]:
    """A table in the model's own units (mean 0, deviation 1 in the schema), and the model with a plain guide."""

    def guide(batch: Batch) -> None:
        with rows(batch):
            pyro.sample("z", dist.Normal(batch.x.new_zeros(len(batch)), 1.0))

    table = Table.from_frame(pd.DataFrame(values.numpy(), columns=["a", "b"]), auxiliary=[])
    columns = tuple(replace(column, mean=0.0, std=1.0) for column in table.schema.columns)
    table = Table.from_frame(table.frame, schema=replace(table.schema, columns=columns))
    return table, Fit(linear_model, guide, table.schema)


def test_imputed_mean_is_the_quadrature_of_the_posterior() -> None:
    """Second column missing: b given a is normal, weighed by the chance of being withheld."""
    a = torch.tensor([-1.5, 0.0, 0.4, 2.0])
    table, fit = two_columns(
        torch.stack([torch.cat([a, a]), torch.cat([torch.full((4,), torch.nan), torch.arange(4.0)])], -1)
    )
    nodes, weights = (torch.tensor(v) for v in np.polynomial.hermite_e.hermegauss(100))
    variance_a, variance_b, covariance = 1.25, 0.49 + 0.25, -0.7
    mean = covariance / variance_a * a
    b = mean[:, None] + (variance_b - covariance**2 / variance_a) ** 0.5 * nodes

    for use_mechanism in (True, False):
        weight = weights * torch.sigmoid(-(0.3 - 1.2 * b)) if use_mechanism else weights.expand_as(b)
        expected = (weight * b).sum(-1) / weight.sum(-1)
        imputed = impute(fit, table, num_draws=4, num_particles=10_000, use_mechanism=use_mechanism)
        error = 0.6 / np.sqrt(imputed.effective_sample_size[:4])  # 0.6: the deviation of b given a, mechanism or not
        assert (np.abs(imputed.means - expected.numpy()) < z_limit(4) * error).all()
        assert error.max() < 0.02  # the two targets differ by 0.2 and more


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.trace:DeprecationWarning")  # Pyro's way to sample in half the time
def test_imputed_mean_agrees_with_nuts() -> None:
    """The very same model function; NUTS wandered to 8.5e6 where observed entries of x_missing were merely masked."""
    values = torch.tensor([[0.5, torch.nan], [torch.nan, -1.0], [1.5, 0.8], [torch.nan, torch.nan]])
    table, fit = two_columns(values)
    batch = table.batch()
    kernel = NUTS(linear_model, max_tree_depth=4, jit_compile=True, ignore_jit_warnings=True)
    mcmc = MCMC(kernel, num_samples=1_200, warmup_steps=150, disable_progbar=True)
    mcmc.run(batch)
    drawn = mcmc.get_samples()["x_missing"]
    effective = mcmc.diagnostics()["x_missing"]["n_eff"].clamp(max=1_200)

    imputed = impute(fit, table, num_draws=10, num_particles=10_000)
    row, column = imputed.cells
    means = torch.tensor(imputed.means)
    here, size = drawn[:, row, column], effective[row, column]
    error = here.std(0) * (1 / size + 1 / torch.tensor(imputed.effective_sample_size)[row]).sqrt()
    assert ((means - here.mean(0)).abs() < z_limit(len(means)) * error).all()
    assert (error < 0.05).all()

    placeholders, size = drawn[:, batch.mask], effective[batch.mask]
    assert (placeholders.mean(0).abs() < z_limit(len(size)) / size.sqrt()).all()
    assert ((placeholders.var(0) - 1).abs() < 0.3).all()


# What is refused.


def refused(message: str, statement: Callable[[Batch], object]) -> None:
    batch = Batch.of(X)
    with pytest.raises(ValueError, match=message), rows(batch):
        statement(batch)


def test_distributions_over_other_columns_are_refused_by_name() -> None:
    message = (
        r"site 'income': expected a distribution of batch shape \(..., rows, 2\), the columns \[0, 1\], and no event"
        " shape, got batch shape"
    )
    wrong = [
        dist.Normal(torch.zeros(4, 3), 1.0),
        dist.Normal(0.0, 1.0),
        dist.Dirichlet(torch.ones(4, 2)),
        dist.Normal(torch.zeros(4, 2), 1.0).to_event(2),
    ]
    for fn in wrong:
        refused(message, lambda batch, fn=fn: partially_observed("income", fn, batch))
        refused(message, lambda batch, fn=fn: propose_missing("income", fn, batch))


def test_logits_over_other_columns_are_refused_by_name() -> None:
    refused(
        r"site 'r': expected logits of shape \(..., rows, 2\), .*, got shape \(4, 3\)",
        lambda batch: observe_mask("r", torch.zeros(4, 3), batch),
    )


def test_negative_weights_are_refused() -> None:
    refused(
        "weight of the mechanism: expected at least 0, got -1",
        lambda batch: observe_mask("r", torch.zeros(4, 2), batch, weight=-1),
    )


@pytest.mark.parametrize("index", [[0, 1, 2, 4], [-1, 0, 1, 2]])
def test_rows_outside_the_table_are_refused(index: list[int]) -> None:
    batch = replace(Batch.of(X), index=torch.tensor(index))
    with pytest.raises(ValueError, match=f"rows: expected indices from 0 to 3, got {index[0]} to {index[-1]}"):
        rows(batch)
    with pyro.validation_enabled(False):
        rows(batch)


class TestLinks:
    ETA = torch.tensor([[-8.0, 0.3], [2.0, -0.4], [-1.0, 30.0], [0.0, -30.0]], dtype=torch.float64)

    def log_prob(self, given: object, **options: object) -> Tensor:
        def model(batch: Batch) -> None:
            with rows(batch):
                observe_mask("r", given, batch, **options)

        return trace_of(model, Batch.of(X)).nodes["r"]["log_prob"]

    def expected(self, p: Tensor) -> Tensor:
        return torch.where(~X.isnan(), p.log(), torch.log1p(-p)).sum(-1)

    def test_give_the_probability_of_being_observed(self) -> None:
        eta = self.ETA.clamp(-3, 3)
        links = {"probit": torch.special.ndtr(eta), "cloglog": -torch.expm1(-eta.exp()), "logit": eta.sigmoid()}
        for link, p in links.items():
            torch.testing.assert_close(self.log_prob(eta, link=link), self.expected(p))
        own = self.log_prob(eta, link=lambda value: torch.arctan(value) / math.pi + 0.5)
        torch.testing.assert_close(own, self.expected(torch.arctan(eta) / math.pi + 0.5))

    def test_are_finite_far_out(self) -> None:
        for link in ("logit", "probit", "cloglog"):
            eta = self.ETA.float().requires_grad_()
            total = self.log_prob(eta, link=link).sum()
            (gradient,) = torch.autograd.grad(total, eta)
            assert total.isfinite() and gradient.isfinite().all()

    def test_a_bernoulli_needs_none(self) -> None:
        fn = dist.Bernoulli(logits=self.ETA)
        for given in (fn, fn.to_event(1)):
            torch.testing.assert_close(self.log_prob(given), self.log_prob(self.ETA))
        with pytest.raises(ValueError, match="site 'r': expected a Bernoulli or a link, got a Bernoulli and the link"):
            self.log_prob(fn, link="probit")
        with pytest.raises(ValueError, match=r"site 'r': expected log-odds, or a Bernoulli .* got Normal"):
            self.log_prob(dist.Normal(self.ETA, 1.0))
        with pytest.raises(ValueError, match=r"link: expected one of .* got 'loglog'"):
            self.log_prob(self.ETA, link="loglog")


def test_a_distribution_that_is_not_pyros_is_refused_by_site(no_type_checker: None) -> None:
    batch = Batch.of(torch.zeros(3, 1))
    with (
        rows(batch),
        pytest.raises(TypeError, match=r"site 'x': expected a distribution of pyro.distributions, got torch"),
    ):
        partially_observed("x", torch.distributions.Normal(torch.zeros(3, 1), 1.0), batch)


def test_bounds_of_a_family_without_quantiles_are_refused_where_there_are_some() -> None:
    gap = torch.tensor([[torch.nan, torch.nan], [0.4, 0.6]])
    lower = torch.tensor([[0.3, -torch.inf], [-torch.inf, -torch.inf]])
    batch = Batch.of(gap, lower=lower)
    with rows(batch):
        fn = dist.Gamma(2.0, 1.0).expand([2, 1])
        partially_observed("free", fn, batch, columns=1)  # the bounds are another column's
        with pytest.raises(ValueError, match=r"site 'bounded', columns \[0\]: bounds: expected .* got Gamma"):
            partially_observed("bounded", fn, batch, columns=0)
