"""A regression with an incomplete covariate and an incomplete outcome, x → y as plain Pyro: against maximum likelihood.

The likelihood is summed by Gauss-Hermite quadrature over what is missing; its standard errors are those of the observed
information, and of imputed means by the delta method.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from pyro_mnar import Batch, Table, compare, fit, impute, missingness_graph_of, observe_mask, partially_observed, rows
from pyro_mnar.training.evidence import log_evidence

NAMES = ("x_mean", "x_log_sd", "of_u", "intercept", "slope", "y_log_sd", "rx", "rx_slope", "ry", "ry_slope")
SLOPE = NAMES.index("slope")


def frame_of(num_rows: int, *, self_masked: bool, seed: int = 3) -> pd.DataFrame:
    """x ~ N(0.3 + 0.8 u, 1), y ~ N(0.5 + 0.8 x, 0.7²); high values go missing, or those of high u."""
    random = np.random.default_rng(seed)
    u = random.normal(size=num_rows)
    x = 0.3 + 0.8 * u + random.normal(size=num_rows)
    y = 0.5 + 0.8 * x + 0.7 * random.normal(size=num_rows)
    cause_x, cause_y = (x, y) if self_masked else (u, u)
    observed_x = random.random(num_rows) < 1 / (1 + np.exp(-1.2 + 0.9 * cause_x))
    observed_y = random.random(num_rows) < 1 / (1 + np.exp(-1.0 + 0.8 * cause_y))
    return pd.DataFrame({"x": np.where(observed_x, x, np.nan), "y": np.where(observed_y, y, np.nan), "u": u})


def table_of(frame: pd.DataFrame) -> Table:
    return Table.from_frame(frame, auxiliary=["u"], standardize=False)


def parameters() -> list[Tensor]:
    return [pyro.param(name, torch.tensor(0.0)) for name in NAMES]


def model_of(*, self_masked: bool, names: bool = True) -> Callable[[Batch], None]:
    of_x, of_y = (["x"], ["y"]) if names else ([0], [1])

    def model(batch: Batch) -> None:
        x_mean, x_log_sd, of_u, intercept, slope, y_log_sd, rx, rx_slope, ry, ry_slope = parameters()
        with rows(batch):
            x = partially_observed("x", dist.Normal(x_mean + of_u * batch.aux, x_log_sd.exp()), batch, columns=of_x)
            y = partially_observed("y", dist.Normal(intercept + slope * x, y_log_sd.exp()), batch, columns=of_y)
            if self_masked:
                observe_mask("mask_x", rx + rx_slope * x, batch, columns=of_x)
                observe_mask("mask_y", ry + ry_slope * y, batch, columns=of_y)

    return model


def nothing(batch: Batch) -> None:
    pass


class Likelihood(NamedTuple):
    """Log-likelihood of rows, and posterior means of x and y in each row."""

    log_likelihood: Tensor
    x: Tensor
    y: Tensor


def likelihood(theta: Tensor, table: Table, *, self_masked: bool, nodes: int = 24) -> Likelihood:
    """By quadrature over a grid of x and y for each row, around their law given what is observed."""
    x_mean, x_log_sd, of_u, intercept, slope, y_log_sd, rx, rx_slope, ry, ry_slope = theta
    at, weight = (torch.as_tensor(v) for v in np.polynomial.hermite_e.hermegauss(nodes))
    log_weight = weight.log() - weight.sum().log()
    (seen_x, seen_y), (x_seen, y_seen) = table.mask.T, table.x.T
    mean, sd_x, sd_y = x_mean + of_u * table.aux[:, 0], x_log_sd.exp(), y_log_sd.exp()
    # x given y where only y is observed; the marginal of y is then a factor of the likelihood.
    sd_of_y = (sd_y**2 + slope**2 * sd_x**2).sqrt()
    gain = slope * sd_x**2 / sd_of_y**2
    given_y = ~seen_x & seen_y
    center = torch.where(given_y, mean + gain * (y_seen - intercept - slope * mean), mean)
    spread = torch.where(given_y, sd_x * sd_y / sd_of_y, sd_x)
    x = torch.where(seen_x[:, None], x_seen[:, None], center[:, None] + spread[:, None] * at)  # (rows, nodes of x)
    of_x = torch.where(seen_x[:, None], -torch.tensor(float(nodes)).log(), log_weight)
    y = torch.where(seen_y[:, None, None], y_seen[:, None, None], (intercept + slope * x)[..., None] + sd_y * at)
    of_y = torch.where(seen_y[:, None], -torch.tensor(float(nodes)).log(), log_weight)
    log_prob = of_x[:, :, None] + of_y[:, None, :]
    log_prob = log_prob + torch.where(seen_x, dist.Normal(mean, sd_x).log_prob(x_seen), 0.0)[:, None, None]
    both = dist.Normal(intercept + slope * x_seen, sd_y).log_prob(y_seen)
    only_y = dist.Normal(intercept + slope * mean, sd_of_y).log_prob(y_seen)
    log_prob = log_prob + torch.where(seen_y, torch.where(seen_x, both, only_y), 0.0)[:, None, None]
    if self_masked:
        log_prob = log_prob + logsigmoid((2.0 * seen_x - 1)[:, None] * (rx + rx_slope * x))[:, :, None]
        log_prob = log_prob + logsigmoid((2.0 * seen_y - 1)[:, None, None] * (ry + ry_slope * y))
    total = log_prob.flatten(1).logsumexp(1)
    share = (log_prob - total[:, None, None]).exp()
    return Likelihood(total, (share * x[..., None]).sum((1, 2)), (share * y).sum((1, 2)))


class Estimate(NamedTuple):
    """Maximum likelihood of slope and imputed means of x and y, and standard errors."""

    value: Tensor
    error: Tensor
    log_likelihood: Tensor


def maximum_likelihood(table: Table, *, self_masked: bool) -> Estimate:
    free = len(NAMES) if self_masked else NAMES.index("rx")

    def full(theta: Tensor) -> Tensor:
        return torch.cat([theta, torch.zeros(len(NAMES) - free)])

    def loss(theta: Tensor) -> Tensor:
        return -likelihood(full(theta), table, self_masked=self_masked).log_likelihood.sum()

    def wanted(theta: Tensor) -> Tensor:
        found = likelihood(full(theta), table, self_masked=self_masked)
        return torch.stack([theta[SLOPE], found.x[~table.mask[:, 0]].mean(), found.y[~table.mask[:, 1]].mean()])

    theta = torch.zeros(free, requires_grad=True)
    optimiser = torch.optim.LBFGS([theta], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-6)

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss(theta)
        value.backward()
        return value

    optimiser.step(closure)
    best = theta.detach()
    slopes = torch.autograd.functional.jacobian(wanted, best)
    covariance = torch.linalg.inv(torch.autograd.functional.hessian(loss, best))
    error = (slopes @ covariance @ slopes.T).diagonal().sqrt()
    return Estimate(wanted(best).detach(), error, likelihood(full(best), table, self_masked=self_masked).log_likelihood)


@pytest.mark.slow
@pytest.mark.parametrize("self_masked", [True, False], ids=["self-masked", "at random"])
def test_slope_and_imputed_means_are_those_of_maximum_likelihood(self_masked: bool) -> None:
    """2,000 rows; within three standard errors, which chance has nothing to do with: both see the same rows."""
    table = table_of(frame_of(2_000, self_masked=self_masked))
    expected = maximum_likelihood(table, self_masked=self_masked)
    model = model_of(self_masked=self_masked)
    options = {"epochs": 50, "batch_size": 200, "learning_rate": 0.03, "progress": False}
    fitted = fit(model, nothing, table, num_particles=20 if self_masked else 2, **options)
    drawn = impute(fitted, table, num_draws=2, num_particles=100)
    slope = fitted.store["params"]["slope"].detach()
    means = [torch.tensor(drawn.means[drawn.cells[1] == d].mean()) for d in (0, 1)]
    found = torch.stack([slope, *means])
    assert (expected.error < 0.15).all()
    assert ((found - expected.value).abs() < 3 * expected.error).all(), (found, expected)
    observed = torch.tensor(table.frame[["x", "y"]].mean().tolist())
    assert ((found[1:] - observed).abs() > 3 * expected.error[1:]).all()  # filling in column means would be far out


def at_truth(*, self_masked: bool = True) -> dict[str, Tensor]:
    values = (0.3, 0.0, 0.8, 0.5, 0.8, float(np.log(0.7)), 1.2, -0.9, 1.0, -0.8)
    return {name: torch.tensor(value) for name, value in zip(NAMES, values, strict=True)}


def fit_at_truth(table: Table, **options: bool):
    from pyro.distributions import constraints

    from pyro_mnar import Fit

    store = {"params": at_truth(), "constraints": dict.fromkeys(NAMES, constraints.real)}
    return Fit(model_of(self_masked=True, **options), nothing, table.schema, store=store)


@pytest.mark.slow
@pytest.mark.parametrize("names", [True, False], ids=["by name", "by position"])
@pytest.mark.parametrize("compile_", ["eager", "graph"])
def test_imputations_and_evidence_at_given_parameters_are_those_of_quadrature(names: bool, compile_: str) -> None:
    """Posterior means of 40 rows, and log p(x_o, y_o, r); false alarm well below 1e-5 by the limits taken."""
    table = table_of(frame_of(40, self_masked=True, seed=5))
    fitted = fit_at_truth(table, names=names)
    expected = likelihood(torch.stack(list(at_truth().values())), table, self_masked=True)
    found = impute(fitted, table, num_draws=4, num_particles=4_000, compile=compile_)
    exact = torch.stack([expected.x, expected.y], -1)[~table.mask].numpy()
    error = 1.1 / np.sqrt(found.effective_sample_size[found.cells[0]])
    assert (np.abs(found.means - exact) < 5 * error).all() and error.max() < 0.1
    evidence = log_evidence(fitted, table, num_particles=20_000)
    np.testing.assert_allclose(evidence.log_p, expected.log_likelihood.numpy(), atol=0.05)


def test_the_graph_of_such_a_model_is_read_off_it() -> None:
    table = table_of(frame_of(40, self_masked=True))
    graph = missingness_graph_of(model_of(self_masked=True), table)
    assert {(edge.parent, edge.child) for edge in graph.edges} == {("x", "R[x]"), ("y", "R[y]")}


def test_row_conditions_restarts_and_comparison_take_such_a_model() -> None:
    table = table_of(frame_of(60, self_masked=True))
    fitted = fit_at_truth(table)
    drawn = impute(fitted, table, constraints=[lambda frame: frame["x"] < 3.0], num_draws=3, num_particles=50)
    assert (drawn.draws[:, drawn.cells[1] == 0] < 3.0).all()
    several = fit(model_of(self_masked=True), nothing, table, epochs=2, restarts=2, progress=False)
    assert len(several.members) == 2
    compared = compare({"named": fitted, "by position": fit_at_truth(table, names=False)}, table)
    assert abs(compared.bounds["difference"]).max() < 1e-6
