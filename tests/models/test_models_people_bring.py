"""Models as modellers write them, each a function of a batch, against a number that does not come from this package.

A weight's mean over particles estimates the evidence of its row, p(x_o, r | u), without bias.  So each model states
that evidence row by row, by closed form, sum or quadrature, and a z-test compares the two (``checks.check_mean``, with
its rate of false alarms).  Where all rows share latents, the objective itself is compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import config_enumerate
from pyro.infer.autoguide import AutoNormal
from pyro.infer.mcmc.util import initialize_model
from torch import Tensor
from torch.nn.functional import logsigmoid
from torch.special import log_ndtr, ndtr

from checks import check_mean
from pyro_mnar import (
    Batch,
    Groups,
    ImportanceWeightedELBO,
    Table,
    fit,
    observe_mask,
    partially_observed,
    rows,
    shared_latents,
)

NAN = torch.nan
LINE = torch.linspace(-12, 12, 4_801, dtype=torch.float64)
PLANE = torch.linspace(-9, 9, 601, dtype=torch.float64)
COUNTS = torch.arange(0, 200, dtype=torch.float64)


def over_line(density: Callable[[Tensor], Tensor]) -> Tensor:
    """∫ over the real line, by the trapezium rule."""
    return torch.trapezoid(density(LINE), LINE)


def batch_of(*values: list[float], aux: list[list[float]] | None = None, **options: Tensor) -> Batch:
    x = torch.tensor(values, dtype=torch.float64)
    return Batch.of(x, aux=None if aux is None else torch.tensor(aux, dtype=torch.float64), **options)


def nothing(batch: Batch) -> None:
    """A guide that leaves everything to the model."""


def check_evidence(
    model: Callable, batch: Batch, expected: list, guide: Callable = nothing, count: int = 20_000
) -> None:
    weights = ImportanceWeightedELBO(count).particles(model, guide, batch).log_weights.exp()
    check_mean(weights, torch.stack([torch.as_tensor(value, dtype=weights.dtype) for value in expected]))
    error = (weights.std(0) / count**0.5 / weights.mean(0)).max()
    assert error < 0.05, "a test that cannot fail"


def normal(x: Tensor | float, mean: Tensor | float, scale: float) -> Tensor:
    return dist.Normal(torch.as_tensor(mean, dtype=torch.float64), scale).log_prob(torch.as_tensor(x)).exp()


def seen(logit: Tensor | float) -> Tensor:
    return torch.sigmoid(torch.as_tensor(logit, dtype=torch.float64))


def gone(logit: Tensor | float) -> Tensor:
    return seen(-torch.as_tensor(logit, dtype=torch.float64))


# Regressions, with gaps in the covariate, in the outcome, or in both.


def test_regression_with_gaps_in_covariate_and_outcome() -> None:
    """brms' mi(): x ~ N(0.3, 1), y ~ N(0.5 + 0.8x, 0.6), each withheld by its own value."""

    def model(batch: Batch) -> None:
        with rows(batch):
            x = partially_observed("x", dist.Normal(0.3, 1.0).expand([len(batch), 1]), batch, columns=0)
            y = partially_observed("y", dist.Normal(0.5 + 0.8 * x, 0.6), batch, columns=1)
            observe_mask("r", torch.cat([0.4 - x, 1.0 + 0.7 * y], -1), batch)

    def of_y(x: Tensor) -> Tensor:
        """p(y gone | x)."""
        y = PLANE[:, None]
        return torch.trapezoid(normal(y, 0.5 + 0.8 * x, 0.6) * gone(1.0 + 0.7 * y), PLANE, dim=0)

    x, y = torch.tensor(0.7), torch.tensor(-0.4)
    expected = [
        normal(x, 0.3, 1) * seen(0.4 - x) * normal(y, 0.5 + 0.8 * x, 0.6) * seen(1 + 0.7 * y),
        over_line(lambda x: normal(x, 0.3, 1) * gone(0.4 - x) * normal(y, 0.5 + 0.8 * x, 0.6)) * seen(1 + 0.7 * y),
        normal(x, 0.3, 1) * seen(0.4 - x) * of_y(x[None])[0],
        over_line(lambda x: normal(x, 0.3, 1) * gone(0.4 - x) * of_y(x)),
    ]
    check_evidence(model, batch_of([0.7, -0.4], [NAN, -0.4], [0.7, NAN], [NAN, NAN]), expected)


def test_logistic_regression_with_a_missing_covariate() -> None:
    def model(batch: Batch) -> None:
        with rows(batch):
            x = partially_observed("x", dist.Normal(0.0, 1.0).expand([len(batch), 1]), batch, columns=0)
            partially_observed("y", dist.Bernoulli(logits=-0.5 + 1.5 * x), batch, columns=1)

    expected = [
        over_line(lambda x: normal(x, 0, 1) * seen(-0.5 + 1.5 * x)),
        over_line(lambda x: normal(x, 0, 1) * gone(-0.5 + 1.5 * x)),
        1.0,
    ]
    check_evidence(model, batch_of([NAN, 1.0], [NAN, 0.0], [NAN, NAN]), expected)


def test_poisson_regression_with_a_missing_covariate() -> None:
    def model(batch: Batch) -> None:
        with rows(batch):
            x = partially_observed("x", dist.Normal(0.0, 1.0).expand([len(batch), 1]), batch, columns=0)
            partially_observed("y", dist.Poisson((0.2 + 0.5 * x).exp()), batch, columns=1)
            observe_mask("r", torch.cat([0.5 + x, torch.ones_like(x)], -1), batch)

    expected = [
        over_line(
            lambda x, y=y: normal(x, 0, 1) * gone(0.5 + x) * dist.Poisson((0.2 + 0.5 * x).exp()).log_prob(y).exp()
        )
        * seen(1.0)
        for y in torch.tensor([0.0, 3.0])
    ]
    check_evidence(model, batch_of([NAN, 0.0], [NAN, 3.0]), expected)


def test_gamma_regression_whose_large_outcomes_are_withheld() -> None:
    def model(batch: Batch) -> None:
        with rows(batch):
            rate = 2.0 / (0.3 + 0.6 * batch.aux).exp()
            y = partially_observed("y", dist.Gamma(2.0, rate), batch)
            observe_mask("r", 1.0 - 0.8 * y, batch)

    at = torch.linspace(1e-6, 60, 200_001, dtype=torch.float64)
    expected = [
        torch.trapezoid(dist.Gamma(2.0, 2.0 / np.exp(0.3 + 0.6 * u)).log_prob(at).exp() * gone(1 - 0.8 * at), at)
        for u in (-1.0, 0.5)
    ]
    check_evidence(model, batch_of([NAN], [NAN], aux=[[-1.0], [0.5]]), expected)


def test_robust_regression_with_a_missing_covariate() -> None:
    def model(batch: Batch) -> None:
        with rows(batch):
            x = partially_observed("x", dist.Normal(0.0, 1.0).expand([len(batch), 1]), batch, columns=0)
            partially_observed("y", dist.StudentT(4.0, 1.0 - x, 0.7), batch, columns=1)

    expected = [
        over_line(lambda x, y=y: normal(x, 0, 1) * dist.StudentT(4.0, 1.0 - x, 0.7).log_prob(y).exp())
        for y in torch.tensor([-2.0, 1.0])
    ]
    check_evidence(model, batch_of([NAN, -2.0], [NAN, 1.0]), expected)


# Counts.


def counted(fn: dist.Distribution, logit: Callable[[Tensor], Tensor], values: Tensor = COUNTS) -> Tensor:
    return (fn.log_prob(values).exp() * gone(logit(values))).sum()


@pytest.mark.parametrize(
    ("fn", "values"),
    [
        (dist.ZeroInflatedPoisson(torch.tensor(3.0), gate=torch.tensor(0.3)), COUNTS),
        (dist.NegativeBinomial(torch.tensor(2.0), probs=torch.tensor(0.6)), COUNTS),
        (dist.Binomial(10, probs=torch.tensor(0.35)), torch.arange(0, 11, dtype=torch.float64)),
    ],
    ids=["zero-inflated", "overdispersed", "out of ten"],
)
def test_counts_that_withhold_themselves(fn: dist.Distribution, values: Tensor) -> None:
    def model(batch: Batch) -> None:
        with rows(batch):
            y = partially_observed("y", fn.expand([len(batch), 1]), batch)
            observe_mask("r", 1.0 - 0.5 * y, batch)

    two = torch.tensor(2.0)
    expected = [counted(fn, lambda y: 1 - 0.5 * y, values), fn.log_prob(two).exp() * seen(0.0)]
    check_evidence(model, batch_of([NAN], [2.0]), expected)


def test_hurdle_of_whether_and_how_much() -> None:
    """Whether there is an amount is always known; the amount is withheld where it is large."""

    def model(batch: Batch) -> None:
        with rows(batch):
            some = partially_observed("some", dist.Bernoulli(0.4).expand([len(batch), 1]), batch, columns=0)
            amount = partially_observed("log_amount", dist.Normal(1.0 * some, 0.8), batch, columns=1)
            observe_mask("r", 0.6 - some * amount, batch, columns=1)

    expected = [
        0.4 * over_line(lambda a: normal(a, 1, 0.8) * gone(0.6 - a)),
        0.4 * normal(1.3, 1, 0.8) * seen(0.6 - 1.3),
        0.6 * normal(0.2, 0, 0.8) * seen(0.6),
    ]
    check_evidence(model, batch_of([1.0, NAN], [1.0, 1.3], [0.0, 0.2]), expected)


# Selection, dropout, series.


def test_heckman_selection() -> None:
    """Selected by a probit whose error has correlation ρ with the outcome's; closed form (Heckman, 1979)."""
    rho, sigma = 0.6, 1.5

    def model(batch: Batch) -> None:
        with rows(batch):
            mean, index = 1.0 + 0.5 * batch.aux, 0.3 + 0.8 * batch.aux
            y = partially_observed("y", dist.Normal(mean, sigma), batch)
            at = (index + rho * (y - mean) / sigma) / (1 - rho**2) ** 0.5
            observe_mask("r", log_ndtr(at) - log_ndtr(-at), batch)

    u = torch.tensor([-0.5, 1.0])
    y = torch.tensor(2.2)
    at = (0.3 + 0.8 * u[1] + rho * (y - 1 - 0.5 * u[1]) / sigma) / (1 - rho**2) ** 0.5
    expected = [ndtr(-(0.3 + 0.8 * u[0])), normal(y, 1 + 0.5 * u[1], sigma) * ndtr(at)]
    check_evidence(model, batch_of([NAN], [2.2], aux=[[-0.5], [1.0]]), expected)


def test_dropout_by_the_value_that_is_missing_and_the_one_before() -> None:
    """Diggle and Kenward (1994): logit P(stay) = 1 + 0.4·y₁ - 0.9·y₂."""

    def model(batch: Batch) -> None:
        with rows(batch):
            first = partially_observed("first", dist.Normal(0.0, 1.0).expand([len(batch), 1]), batch, columns=0)
            second = partially_observed("second", dist.Normal(0.7 * first, 0.8), batch, columns=1)
            observe_mask("r", 1.0 + 0.4 * first - 0.9 * second, batch, columns=1)

    expected = [
        normal(0.9, 0, 1) * over_line(lambda y: normal(y, 0.63, 0.8) * gone(1 + 0.36 - 0.9 * y)),
        normal(0.9, 0, 1) * normal(-0.3, 0.63, 0.8) * seen(1 + 0.36 + 0.27),
    ]
    check_evidence(model, batch_of([0.9, NAN], [0.9, -0.3]), expected)


def test_random_walk_with_informative_gaps() -> None:
    def model(batch: Batch) -> None:
        with rows(batch):
            before = torch.zeros(len(batch), 1)
            for step in range(3):
                before = partially_observed(f"x{step}", dist.Normal(before, 1.0), batch, columns=step)
                observe_mask(f"r{step}", 0.5 - 0.8 * before, batch, columns=step)

    def at(x: Tensor | float) -> Tensor:
        return seen(0.5 - 0.8 * torch.as_tensor(x))

    def out(x: Tensor) -> Tensor:
        return gone(0.5 - 0.8 * x)

    middle = over_line(lambda x: normal(x, 0.4, 1) * out(x) * normal(-0.6, x, 1))
    one, two = PLANE[:, None], PLANE[None]
    both = normal(one, 0, 1) * out(one) * normal(two, one, 1) * out(two) * normal(1.1, two, 1)
    expected = [
        normal(0.4, 0, 1) * at(0.4) * middle * at(-0.6),
        torch.trapezoid(torch.trapezoid(both, PLANE), PLANE) * at(1.1),
    ]
    check_evidence(model, batch_of([0.4, NAN, -0.6], [NAN, NAN, 1.1]), expected)


# Latents of rows.


def test_item_response_with_skips_by_ability() -> None:
    """Rasch: ability z, difficulties b; an item is skipped the likelier the lower z - b."""
    difficulty = torch.tensor([-0.5, 0.4, 1.0])

    def model(batch: Batch) -> None:
        with rows(batch):
            ability = pyro.sample("ability", dist.Normal(0.0, 1.0))
            logit = ability[..., None] - difficulty
            partially_observed("y", dist.Bernoulli(logits=logit), batch)
            observe_mask("r", 0.8 + logit, batch)

    def of(answers: list[float]) -> Tensor:
        def density(z: Tensor) -> Tensor:
            total = normal(z, 0, 1)
            for answer, b in zip(answers, difficulty, strict=True):
                if np.isnan(answer):
                    total = total * gone(0.8 + z - b)
                else:
                    total = total * seen(0.8 + z - b) * (seen(z - b) if answer else gone(z - b))
            return total

        return over_line(density)

    answers = [[1.0, 0.0, NAN], [NAN, NAN, NAN], [0.0, NAN, 1.0]]
    check_evidence(model, batch_of(*answers), [of(row) for row in answers])


def test_factor_analysis_under_mar_is_the_normal_of_the_observed_columns() -> None:
    loading, noise = torch.tensor([1.0, -0.7, 0.5]), torch.tensor([0.6, 0.8, 0.5])

    def model(batch: Batch) -> None:
        with rows(batch):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            partially_observed("x", dist.Normal(z[..., None] * loading, noise), batch)

    covariance = loading.outer(loading) + noise.square().diag()
    x = torch.tensor([[0.8, -0.2, 0.1], [NAN, 0.5, -0.9], [0.3, NAN, NAN]])
    expected = []
    for row in x:
        at = (~row.isnan()).nonzero()[:, 0]
        expected.append(dist.MultivariateNormal(torch.zeros(len(at)), covariance[at][:, at]).log_prob(row[at]).exp())
    check_evidence(model, Batch.of(x), expected)


def test_measurement_error_with_a_truth_that_nobody_sees() -> None:
    """w = x + e, y = 2x + ε: (w, y) is normal."""

    def model(batch: Batch) -> None:
        with rows(batch):
            x = pyro.sample("x", dist.Normal(0.0, 1.0))[..., None]
            partially_observed("w", dist.Normal(x, 0.5), batch, columns=0)
            partially_observed("y", dist.Normal(2 * x, 1.0), batch, columns=1)

    joint = dist.MultivariateNormal(torch.zeros(2), torch.tensor([[1.25, 2.0], [2.0, 5.0]]))
    expected = [joint.log_prob(torch.tensor([0.6, 1.4])).exp(), normal(1.4, 0, 5**0.5)]
    check_evidence(model, batch_of([0.6, 1.4], [NAN, 1.4]), expected)


def test_latent_classes_that_decide_what_is_answered() -> None:
    share, mean, logit = torch.tensor([0.3, 0.7]), torch.tensor([-1.0, 1.0]), torch.tensor([-0.5, 1.5])

    def model(batch: Batch) -> None:
        with rows(batch):
            kind = pyro.sample("kind", dist.Categorical(share))
            x = partially_observed("x", dist.Normal(mean[kind][..., None], 1.0), batch)
            observe_mask("r", logit[kind][..., None].expand_as(x), batch)

    expected = [(share * gone(logit)).sum(), (share * seen(logit) * normal(0.3, mean, 1.0)).sum()]
    check_evidence(model, batch_of([NAN], [0.3]), expected)


def test_mixture_of_normals_that_masks_itself() -> None:
    mean, scale = torch.tensor([-1.5, 1.0]), torch.tensor([0.5, 0.8])

    def model(batch: Batch) -> None:
        with rows(batch):
            part = pyro.sample("part", dist.Categorical(torch.tensor([0.4, 0.6])))
            x = partially_observed("x", dist.Normal(mean[part][..., None], scale[part][..., None]), batch)
            observe_mask("r", 0.2 + 1.5 * x, batch)

    def density(x: Tensor) -> Tensor:
        return 0.4 * normal(x, -1.5, 0.5) + 0.6 * normal(x, 1.0, 0.8)

    at = torch.tensor(0.5)
    expected = [over_line(lambda x: density(x) * gone(0.2 + 1.5 * x)), density(at) * seen(0.2 + 0.75)]
    check_evidence(model, batch_of([NAN], [0.5]), expected)


@pytest.mark.parametrize("of", ["normal", "Poisson"])
def test_a_mixture_in_each_column_that_masks_itself(of: str) -> None:
    """As a distribution of single values, not as a latent of the row; the parts are summed over."""
    share, mean = torch.tensor([0.3, 0.7]), torch.tensor([1.0, 6.0])

    def law(*shape: int) -> dist.MixtureSameFamily:
        at = mean.expand(*shape, 2)
        return dist.MixtureSameFamily(
            dist.Categorical(share.expand(*shape, 2)), dist.Normal(at, 0.8) if of == "normal" else dist.Poisson(at)
        )

    def model(batch: Batch) -> None:
        with rows(batch):
            x = partially_observed("x", law(len(batch), 1), batch)
            observe_mask("r", 1.5 - 0.5 * x, batch)

    def density(x: Tensor) -> Tensor:
        parts = [normal(x, m, 0.8) if of == "normal" else dist.Poisson(m).log_prob(x).exp() for m in mean]
        return share[0] * parts[0] + share[1] * parts[1]

    def of_gap(x: Tensor) -> Tensor:
        return density(x) * gone(1.5 - 0.5 * x)

    missing = over_line(of_gap) if of == "normal" else of_gap(COUNTS).sum()
    check_evidence(model, batch_of([NAN], [2.0]), [missing, density(torch.tensor(2.0)) * seen(0.5)])


def test_classes_that_are_missing_and_lifetimes_that_tell_them() -> None:
    """A group is unknown for some and every lifetime known: Bayes' rule gives what is missing."""

    def model(batch: Batch) -> None:
        with rows(batch):
            group = partially_observed("group", dist.Bernoulli(0.4).expand([len(batch), 1]), batch, columns=0)
            partially_observed("time", dist.Exponential(torch.where(group > 0.5, 0.2, 2.0)), batch, columns=1)

    def lifetime(time: float, rate: float) -> float:
        return rate * np.exp(-rate * time)

    expected = [0.4 * lifetime(3.0, 0.2)]
    expected += [0.4 * lifetime(time, 0.2) + 0.6 * lifetime(time, 2.0) for time in (3.0, 0.1)]
    check_evidence(model, batch_of([1.0, 3.0], [NAN, 3.0], [NAN, 0.1]), expected)


def test_a_state_space_model_is_the_normal_of_the_kalman_filter() -> None:
    """Latent states of an autoregression, seen with noise at some of three times."""

    def model(batch: Batch) -> None:
        with rows(batch):
            state = pyro.sample("z0", dist.Normal(0.0, 1.0))
            for step in range(3):
                partially_observed(f"x{step}", dist.Normal(state[..., None], 0.5), batch, columns=step)
                state = pyro.sample(f"z{step + 1}", dist.Normal(0.8 * state, 0.6))

    covariance = 0.8 ** (torch.arange(3)[:, None] - torch.arange(3)).abs() + 0.25 * torch.eye(3)  # it is stationary
    ends = covariance[[0, 2]][:, [0, 2]]
    expected = [
        dist.MultivariateNormal(torch.zeros(2), ends).log_prob(torch.tensor([0.3, -0.6])).exp(),
        normal(0.4, 0.0, 1.25**0.5),
    ]
    check_evidence(model, batch_of([0.3, NAN, -0.6], [NAN, NAN, 0.4]), expected)


def test_dropout_by_a_random_slope() -> None:
    """A shared-parameter model (Wu and Carroll, 1988): each row's own trend decides how long it is seen."""
    spread = torch.tensor([[1.0, 0.3], [0.3, 0.5]])

    def model(batch: Batch) -> None:
        with rows(batch):
            line = pyro.sample("line", dist.MultivariateNormal(torch.zeros(2), spread))
            mean = line[..., :1] + line[..., 1:] * torch.arange(3.0)
            partially_observed("y", dist.Normal(mean, 0.7), batch)
            observe_mask("r", (1.0 - line[..., 1:]).expand(mean.shape), batch)

    def of(row: list[float]) -> Tensor:
        at = torch.linspace(-6, 6, 301, dtype=torch.float64)
        start, slope = torch.meshgrid(at, at, indexing="ij")
        density = dist.MultivariateNormal(torch.zeros(2), spread).log_prob(torch.stack([start, slope], -1)).exp()
        for time, y in enumerate(row):
            of_cell = gone(1 - slope) if np.isnan(y) else seen(1 - slope) * normal(y, start + slope * time, 0.7)
            density = density * of_cell
        return torch.trapezoid(torch.trapezoid(density, at), at)

    answers = [[0.5, NAN, NAN], [0.2, 0.9, NAN]]
    check_evidence(model, batch_of(*answers), [of(row) for row in answers])


def test_a_count_and_a_number_that_share_a_latent() -> None:
    def model(batch: Batch) -> None:
        with rows(batch):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))[..., None]
            visits = partially_observed("visits", dist.Poisson((0.5 + 0.6 * z).exp()), batch, columns=0)
            partially_observed("score", dist.Normal(z, 0.7), batch, columns=1)
            observe_mask("r", 1.0 - 0.3 * visits, batch, columns=0)

    def of_gap(z: Tensor) -> Tensor:
        return (dist.Poisson((0.5 + 0.6 * z).exp()[:, None]).log_prob(COUNTS).exp() * gone(1 - 0.3 * COUNTS)).sum(-1)

    expected = [over_line(lambda z: normal(z, 0, 1) * normal(0.8, z, 0.7) * of_gap(z))]
    check_evidence(model, batch_of([NAN, 0.8]), expected)


# Bounds, fixed mechanisms, weights.


def test_tobit_with_a_limit_of_detection() -> None:
    def model(batch: Batch) -> None:
        with rows(batch):
            partially_observed("y", dist.Normal(1.0 + 0.5 * batch.aux, 0.9), batch)

    batch = batch_of([NAN], [1.7], aux=[[0.4], [-1.0]], upper=torch.tensor([[0.2], [torch.inf]], dtype=torch.float64))
    expected = [ndtr(torch.tensor((0.2 - 1.2) / 0.9)), normal(1.7, 0.5, 0.9)]
    check_evidence(model, batch, expected)


def test_a_mechanism_that_is_known() -> None:
    """Nonresponse at a known threshold, soft by a probit: ∫ N(x) Φ(a + bx) = Φ(a / √(1 + b²))."""

    def model(batch: Batch) -> None:
        with rows(batch):
            x = partially_observed("x", dist.Normal(0.0, 1.0).expand([len(batch), 1]), batch)
            at = 0.5 - 2.0 * x
            observe_mask("r", log_ndtr(at) - log_ndtr(-at), batch)

    check_evidence(model, batch_of([NAN]), [ndtr(torch.tensor(-0.5 / 5**0.5))])


def test_rows_count_as_often_as_their_weights_say() -> None:
    def model(batch: Batch) -> None:
        with rows(batch):
            partially_observed("x", dist.Normal(0.3, 1.2).expand([len(batch), 1]), batch)

    weight = torch.tensor([2.0, 0.5, 1.0], dtype=torch.float64)
    batch = replace(batch_of([0.1], [-1.0], [2.0]), weight=weight)
    expected = (weight * dist.Normal(0.3, 1.2).log_prob(batch.x[:, 0])).sum()
    assert -ImportanceWeightedELBO(3).loss(model, nothing, batch) == pytest.approx(expected.item(), abs=1e-10)


# What all rows share.


def test_random_slopes_of_groups() -> None:
    """Intercept and slope of each group are normal: the evidence is one of normals, and the guide exact."""
    group = torch.tensor([0, 0, 0, 1, 1])
    u = torch.tensor([-1.0, 0.0, 1.5, 0.3, -0.7])
    y = torch.tensor([0.2, NAN, 1.9, -0.4, 0.1])
    design = torch.stack([torch.ones(5), u], -1)
    spread = torch.tensor([0.8, 0.5])

    def model(batch: Batch) -> None:
        with pyro.plate("groups", 2):
            effect = pyro.sample("effect", dist.Normal(torch.zeros(2), spread).to_event(1))
        with rows(batch):
            mean = (effect[group[batch.index]] * torch.cat([torch.ones_like(batch.aux), batch.aux], -1)).sum(-1)
            partially_observed("y", dist.Normal(mean[:, None], 0.6), batch)

    def exact(batch: Batch) -> None:
        precisions, means = [], []
        for g in range(2):
            here = (group == g) & ~y.isnan()
            precision = design[here].T @ design[here] / 0.36 + spread.pow(-2).diag()
            means.append(torch.linalg.solve(precision, design[here].T @ y[here] / 0.36))
            precisions.append(precision)
        with pyro.plate("groups", 2):
            pyro.sample("effect", dist.MultivariateNormal(torch.stack(means), precision_matrix=torch.stack(precisions)))

    at = ~y.isnan()
    same = group[at][:, None] == group[at]
    covariance = same * ((design[at] * spread**2) @ design[at].T) + 0.36 * torch.eye(int(at.sum()))
    expected = dist.MultivariateNormal(torch.zeros(int(at.sum())), covariance).log_prob(y[at])
    found = -ImportanceWeightedELBO(2).loss(model, exact, Batch.of(y[:, None], aux=u[:, None]))
    assert found == pytest.approx(expected.item(), abs=1e-9)


def test_an_informative_prior_on_a_sign() -> None:
    """High values go missing: the slope is -s with s ~ LogNormal.  E over the guide by quadrature, in logarithms."""

    def model(batch: Batch) -> None:
        strength = pyro.sample("strength", dist.LogNormal(0.0, 0.5))
        with rows(batch):
            x = partially_observed("x", dist.Normal(0.0, 1.0).expand([len(batch), 1]), batch)
            observe_mask("r", -strength * x, batch)

    def guide(batch: Batch) -> None:
        pyro.sample("strength", dist.LogNormal(0.2, 0.3))

    log_s = torch.linspace(-2.0, 2.4, 401, dtype=torch.float64)
    s = log_s.exp()[:, None]
    x = torch.tensor([0.4, -1.1])
    gap = torch.trapezoid(normal(LINE, 0, 1) * gone(-s * LINE), LINE)
    at = gap.log() + (dist.Normal(0.0, 1.0).log_prob(x) + logsigmoid(-s * x)).sum(-1)
    q, p = dist.Normal(0.2, 0.3).log_prob(log_s), dist.Normal(0.0, 0.5).log_prob(log_s)
    expected = torch.trapezoid(q.exp() * (at + p - q), log_s)
    objective, batch = ImportanceWeightedELBO(500), batch_of([0.4], [NAN], [-1.1])
    check_mean(torch.tensor([-objective.loss(model, guide, batch) for _ in range(100)]), expected)


def test_nuts_with_a_gap_of_two_levels() -> None:
    """A covariate of two levels is missing; the slope has a prior.  The potential against a sum by hand."""
    y, x = torch.tensor([0.9, -0.2, 1.4]), torch.tensor([1.0, NAN, NAN])

    def model(batch: Batch) -> None:
        slope = pyro.sample("slope", dist.Normal(0.0, 2.0))
        with rows(batch):
            x = partially_observed("x", dist.Bernoulli(0.4).expand([len(batch), 1]), batch, columns=0)
            partially_observed("y", dist.Normal(slope * x, 0.7), batch, columns=1)
            observe_mask("r", 0.3 + x, batch, columns=0)

    _, potential, _, _ = initialize_model(
        config_enumerate(model), (Batch.of(torch.stack([x, y], -1)),), max_plate_nesting=1
    )

    def by_hand(slope: Tensor) -> Tensor:
        of_one = 0.4 * normal(0.9, slope, 0.7) * seen(1.3)
        total = dist.Normal(0.0, 2.0).log_prob(slope) + of_one.log()
        for value in y[1:]:
            total = (
                total + (0.4 * normal(value, slope, 0.7) * gone(1.3) + 0.6 * normal(value, 0, 0.7) * gone(0.3)).log()
            )
        return -total

    at = torch.tensor([-1.0, 0.0, 0.8, 2.5])
    found = torch.stack([potential({"slope": slope, "y_missing": torch.zeros(3, 1)}) for slope in at])
    expected = torch.stack([by_hand(slope) for slope in at])
    torch.testing.assert_close(found - found[0], expected - expected[0], rtol=0, atol=1e-6)


@pytest.mark.slow
def test_a_linear_mixed_model_with_gaps_at_random_against_statsmodels() -> None:
    """Effects given the parameters are independent normals: the normal guide is exact, the fit maximum likelihood."""
    statsmodels = pytest.importorskip("statsmodels.formula.api")
    random = np.random.default_rng(3)
    group = np.repeat(np.arange(20), 12)
    u = random.normal(size=240)
    y = 1.0 + 0.7 * u + random.normal(0, 0.9, 20)[group] + random.normal(0, 0.6, 240)
    frame = pd.DataFrame({"y": y, "u": u, "group": [f"g{g:02d}" for g in group]})
    frame.loc[random.random(240) < 0.25, "y"] = np.nan
    table = Table.from_frame(frame, auxiliary=["u", "group"])
    groups = Groups(table, "group")
    assert groups.of(table.batch()).tolist() == group.tolist() and len(groups) == 20

    class Mixed(pyro.nn.PyroModule):
        def __init__(self) -> None:
            super().__init__()
            self.beta = torch.nn.Parameter(torch.zeros(2))
            self.log_scales = torch.nn.Parameter(torch.zeros(2))
            self.groups = groups

        def forward(self, batch: Batch) -> None:
            of_group, noise = self.log_scales.exp()
            with self.groups.plate():
                effect = pyro.sample("effect", dist.Normal(batch.x.new_zeros(()), of_group))
            with rows(batch):
                mean = self.beta[0] + self.beta[1] * batch.aux[:, 0] + effect[self.groups.of(batch)]
                partially_observed("y", dist.Normal(mean[:, None], noise), batch)

    model = Mixed()
    fit(
        model,
        AutoNormal(shared_latents(model)),
        table,
        epochs=1_500,
        batch_size=240,
        num_particles=1,
        learning_rate=0.03,
        progress=False,
        compile="graph",
    )
    reference = statsmodels.mixedlm("y ~ u", frame.dropna(), groups=frame.dropna()["group"]).fit(reml=False)
    std, std_u = table.schema.columns[0].std, table.schema.auxiliaries[0].std
    slope = model.beta[1].item() * std / std_u
    scales = model.log_scales.exp().detach().numpy() * std
    assert slope == pytest.approx(reference.params["u"], abs=0.25 * reference.bse["u"])
    assert scales[1] == pytest.approx(reference.scale**0.5, rel=0.03)
    assert scales[0] == pytest.approx(float(reference.cov_re.iloc[0, 0]) ** 0.5, rel=0.06)
