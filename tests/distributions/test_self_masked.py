"""p(r = 0 | z) and p(x | z, r = 0), in closed form, by quadrature and by summation, against slower ways to them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from torch import Tensor

from checks import FALSE_ALARM
from pyro_mnar.distributions import StandardizedCounts
from pyro_mnar.distributions.links import link_of
from pyro_mnar.distributions.own_value import OwnValueMechanism, given_missing
from pyro_mnar.distributions.probit_mixtures import PROBITS, mixed
from pyro_mnar.distributions.self_masked import Line, SelfMasked, SelfMaskedNormal
from pyro_mnar.distributions.self_masked_mesh import SelfMaskedByMesh

CELL = torch.ones(1, 1, dtype=torch.bool)
SLOPES = [1e-3, -0.1, 1.0, -3.0, 10.0, -100.0, 1e3, -1e4]
THRESHOLDS = [-3.0, 0.4, 2.5]


def cell(value: float) -> Tensor:
    return torch.full((1, 1), value)


def normal(
    slope: Tensor | float, intercept: Tensor | float, link: str = "logit", loc: Tensor | None = None
) -> SelfMasked:
    fn = dist.Normal(cell(0.4) if loc is None else loc, 0.7)
    line = Line(torch.as_tensor(intercept, dtype=fn.loc.dtype), torch.as_tensor(slope, dtype=fn.loc.dtype))
    return SelfMaskedNormal(fn, line, link_of(link), CELL)


def panels(lowest: float, highest: float, about: float) -> tuple[Tensor, Tensor]:
    """Points and weights of a quadrature that is fine about one place; an independent way to every integral here."""
    fine = 10.0 ** np.linspace(-8, 2, 121)
    edges = np.unique(
        np.clip(np.r_[np.linspace(lowest, highest, 401), about - fine, about, about + fine], lowest, highest)
    )
    points, weights = np.polynomial.legendre.leggauss(10)
    half = np.diff(edges)[:, None] / 2
    x = (edges[:-1, None] + half + half * points).ravel()
    return torch.from_numpy(x)[:, None, None], torch.from_numpy((half * weights).ravel())[:, None, None]


def integrated(found: SelfMasked, lowest: float, highest: float, about: float) -> tuple[Tensor, Tensor]:
    """log p(r = 0 | z) and E[x | z, r = 0]."""
    x, weights = panels(lowest, highest, about)
    log_mass = found.fn.log_prob(x) + found.log_missing_at(x) + weights.log()
    total = log_mass.logsumexp(0)
    return total, ((log_mass - total).exp() * x).sum(0)


class TestProbitMixture:
    def test_coefficients_are_a_logistic_function(self) -> None:
        t = torch.linspace(0, 60, 3001)
        weights, variances = (torch.tensor(values) for values in PROBITS["logit"][:2])
        error = (weights * torch.special.ndtr(-t[:, None] / variances.sqrt())).sum(-1) - torch.sigmoid(-t)
        assert weights.sum() == pytest.approx(1.0, abs=1e-12)
        assert error.abs().max() < 2e-8
        assert (error.abs() * (t / 2).exp()).max() < 4e-8

    def test_its_mean_far_out_in_the_tail(self) -> None:
        """Where E σ(m + s·ε) is e^-1000, its logarithm is still right: by quadrature about the integrand's mode."""
        for s, share in product([0.5, 3.0, 30.0, 300.0], [-2.0, -1.0, -0.5, -0.3]):
            m = share * s**2
            mode = min(max(-m / s, 0.0), s)
            x, weights = panels(mode - 12, mode + 12, -m / s)
            log_mass = stats.norm.logpdf(x) - np.logaddexp(0, -(m + s * x.numpy()))
            expected = (torch.from_numpy(log_mass) + weights.log()).logsumexp(0).item()
            found = mixed(torch.tensor(m), torch.tensor(s**2), PROBITS["logit"]).log_mean().item()
            assert found == pytest.approx(expected, abs=1e-7)


class TestNormal:
    @pytest.mark.parametrize("link", ["logit", "probit"])
    def test_integrals_and_means(self, link: str) -> None:
        for slope, threshold in product(SLOPES, THRESHOLDS):
            found = normal(slope, -slope * threshold, link)
            log_missing, mean = integrated(found, -9.0, 9.0, threshold)
            torch.testing.assert_close(found.log_missing, log_missing, rtol=0, atol=1e-7)
            torch.testing.assert_close(found.mean, mean, rtol=0, atol=1e-7)

    def test_a_threshold_is_the_limit(self) -> None:
        for sign, threshold in product([-1.0, 1.0], THRESHOLDS):
            found = normal(sign, -sign * threshold, "threshold")
            below = torch.special.log_ndtr(sign * (cell(threshold) - 0.4) / 0.7)
            torch.testing.assert_close(found.log_missing, below)
            steep = normal(1e9 * sign, -1e9 * sign * threshold)
            torch.testing.assert_close(steep.log_missing, below, rtol=0, atol=1e-8)

    @pytest.mark.parametrize("link", ["logit", "probit"])
    def test_gradients(self, link: str) -> None:
        """By the mean, the intercept and the slope, against those of the quadrature."""
        for slope, threshold in product([1e-3, 1.0, -3.0, 100.0, -1e4], THRESHOLDS):
            inputs = [cell(0.4), torch.tensor(-slope * threshold), torch.tensor(slope)]
            for value in inputs:
                value.requires_grad_()
            found = normal(inputs[2], inputs[1], link, loc=inputs[0])
            expected = torch.autograd.grad(integrated(found, -9.0, 9.0, threshold)[0].sum(), inputs)
            # In units of what the predictor changes over a standard deviation; the mixture's slope is within 1e-7.
            for got, wanted in zip(torch.autograd.grad(found.log_missing.sum(), inputs), expected, strict=True):
                torch.testing.assert_close(got, wanted, rtol=2e-7, atol=2e-7 * max(1.0, abs(slope)))

    def test_single_precision_has_finite_gradients_everywhere(self) -> None:
        for link, slope, threshold in product(PROBITS, [0.0, 1e-3, 1.0, 1e4, 1e8], [-50.0, 0.0, 50.0]):
            if link == "threshold" and slope == 0:
                continue
            inputs = [
                torch.tensor(v, dtype=torch.float32, requires_grad=True) for v in (-slope * threshold, slope, 0.4)
            ]
            loc = inputs[2].expand(1, 1)
            found = SelfMaskedNormal(dist.Normal(loc, loc.new_tensor(0.7)), Line(*inputs[:2]), link_of(link), CELL)
            gradients = torch.autograd.grad(found.log_missing.sum(), inputs)
            assert found.log_missing.isfinite().all() and all(g.isfinite().all() for g in gradients)
            assert found.sample().isfinite().all() and found.likely().isfinite().all()
            assert found.log_missing_at(found.likely()).isfinite().all()

    @pytest.mark.parametrize("link", ["logit", "probit", "threshold"])
    def test_draws(self, link: str) -> None:
        """Kolmogorov and Smirnov's test of 4,000 draws for each of fifteen slopes and thresholds."""
        for slope, threshold in product([0.5, -2.0, 10.0, -100.0, 1e4], THRESHOLDS):
            found = normal(slope, -slope * threshold, link)
            x, weights = panels(-9.0, 9.0, threshold)
            mass = (found.log_prob(x).exp() * weights).flatten()
            assert mass.sum() == pytest.approx(1.0, abs=1e-6)
            reached = np.interp(found.sample((4000,)).flatten(), x.flatten(), mass.cumsum(0) - mass / 2)
            assert stats.kstest(reached, "uniform").pvalue > FALSE_ALARM

    def test_unexplained_cells_are_as_ever(self) -> None:
        explained = torch.tensor([[True, False]])
        fn = dist.Normal(torch.zeros(1, 2), 1.0)
        found = SelfMaskedNormal(fn, Line(torch.zeros(()), torch.tensor(5.0)), link_of("logit"), explained)
        assert found.log_missing[0, 1] == 0 and found.log_missing[0, 0] < 0
        assert found.mean[0, 1] == 0 and found.mean[0, 0] < -0.5
        assert found.log_prob(torch.ones(1, 2))[0, 1] == fn.log_prob(torch.ones(1, 2))[0, 1]


class TestMesh:
    def test_student(self) -> None:
        """Over 0.7 scales about 0.4; tails beyond 1e5 scales hold less than 1e-9."""
        for df, slope, threshold in product([2.5, 8.0], [1e-3, -1.0, 30.0, -1e4], [-3.0, 0.4]):
            fn = dist.StudentT(df, cell(0.4), 0.7)
            found = SelfMaskedByMesh(fn, Line(cell(-slope * threshold), torch.tensor(slope)), link_of("logit"), CELL)
            v, weights = panels(-12.0, 12.0, np.arcsinh((threshold - 0.4) / 0.7))
            x = 0.4 + 0.7 * v.sinh()
            log_mass = fn.log_prob(x) + found.log_missing_at(x) + (0.7 * v.cosh() * weights).log()
            torch.testing.assert_close(found.log_missing, log_mass.logsumexp(0), rtol=0, atol=5e-7)

    @pytest.mark.parametrize(
        ("predictor", "link"),
        [
            (lambda x: 3 - 2 * x.square(), "logit"),
            (lambda x: 5 * torch.tanh(6 * x) - 1, "logit"),
            (lambda x: 30 * (x - 0.5), "logit"),
            (lambda x: 1 - x.square(), "cloglog"),
            (lambda x: torch.sin(3 * x), "probit"),
        ],
        ids=["two-sided", "network", "steep", "cloglog", "wave"],
    )
    def test_any_mechanism_of_a_normal_value(self, predictor: Callable[[Tensor], Tensor], link: str) -> None:
        found = SelfMaskedByMesh(dist.Normal(cell(0.4), 1.0), predictor, link_of(link), CELL)
        log_missing, mean = integrated(found, -9.0, 9.8, 0.5)
        torch.testing.assert_close(found.log_missing, log_missing, rtol=0, atol=1e-6)
        torch.testing.assert_close(found.mean, mean, rtol=0, atol=1e-5)
        x, weights = panels(-9.0, 9.8, 0.5)
        mass = (found.log_prob(x).exp() * weights).flatten()
        reached = np.interp(found.sample((4000,)).flatten(), x.flatten(), mass.cumsum(0) - mass / 2)
        assert stats.kstest(reached, "uniform").pvalue > FALSE_ALARM

    def test_a_line_under_a_function_of_a_normal_value(self) -> None:
        fn = dist.LogNormal(cell(0.4), 0.5)
        found = SelfMaskedByMesh(fn, Line(cell(-8.0), torch.tensor(4.0)), link_of("logit"), CELL)
        log_missing, mean = integrated(found, 1e-3, 40.0, 2.0)
        torch.testing.assert_close(found.log_missing, log_missing, rtol=0, atol=1e-7)
        draws = found.sample((4000,)).flatten()
        assert (draws.mean() - mean).abs() < 4.5 * draws.std() / 4000**0.5

    @pytest.mark.parametrize(
        ("made", "accuracy"),
        [
            (lambda: dist.Poisson(cell(3.0)), 1e-12),
            (lambda: dist.Poisson(cell(400.0)), 1e-5),
            (lambda: dist.NegativeBinomial(cell(2.0), logits=torch.tensor(1.0)), 1e-12),
            (lambda: dist.NegativeBinomial(cell(1.0), logits=torch.tensor(5.0)), 1e-3),
            (lambda: dist.ZeroInflatedPoisson(cell(3.0), gate=torch.tensor(0.3)), 1e-12),
        ],
        ids=["few", "many", "overdispersed", "many overdispersed", "zero-inflated"],
    )
    def test_counts(self, made: Callable[[], dist.TorchDistribution], accuracy: float) -> None:
        """Against the sum over 3,000 counts, and 4,000 draws by Pearson's test."""
        counts = made()
        mean, std = counts.mean.item(), counts.variance.item() ** 0.5
        fn = StandardizedCounts(counts, torch.tensor([mean]), torch.tensor([std]))
        x = (torch.arange(3000.0)[:, None, None] - mean) / std
        for slope in (0.1, -3.0):
            found = SelfMaskedByMesh(fn, Line(cell(0.3), torch.tensor(slope)), link_of("logit"), CELL)
            log_mass = fn.log_prob(x) + found.log_missing_at(x)
            torch.testing.assert_close(found.log_missing, log_mass.logsumexp(0), rtol=0, atol=accuracy)
            expected = 4_000 * log_mass.softmax(0).flatten()
            drawn = (found.sample((4_000,)) * std + mean).round().long().flatten().bincount(minlength=3000)
            often = expected > 8
            statistic = ((drawn - expected).square() / expected)[often].sum().item()
            assert stats.chi2.sf(statistic, int(often.sum())) > FALSE_ALARM

    @pytest.mark.parametrize("made", [lambda: dist.StudentT(4.0, cell(3.0), 0.7), lambda: dist.Poisson(cell(3.0))])
    def test_nothing_is_integrated_of_what_no_mechanism_explains(self, made: Callable[[], Any]) -> None:
        def never(row: Tensor) -> Tensor:
            raise AssertionError

        fn = made() if isinstance(made(), dist.StudentT) else StandardizedCounts(made(), cell(3.0)[0], cell(2.0)[0])
        found = given_missing(fn, OwnValueMechanism(never, telling=frozenset()), cell(0.0), (0,), CELL)
        assert isinstance(found, SelfMasked)
        for given in (found, found.expand((5, 1, 1))):
            value = given.sample((3,))
            torch.testing.assert_close(given.log_prob(value), fn.log_prob(value))
            assert bool((given.log_ratio(value) == 0).all())
            torch.testing.assert_close(given.mean, fn.mean.expand(given.batch_shape))
            assert bool(fn.log_prob(given.likely()).isfinite().all())

    def test_gradients_are_those_of_the_integral(self) -> None:
        loc, slope = cell(0.4).requires_grad_(), torch.tensor(2.0, requires_grad=True)
        fn = dist.StudentT(4.0, loc, 0.7)
        found = SelfMaskedByMesh(fn, Line(cell(-1.0), slope), link_of("logit"), CELL)
        expected = torch.autograd.grad(integrated(found, -200.0, 200.0, 0.5)[0].sum(), [loc, slope])
        got = torch.autograd.grad(found.log_missing.sum(), [loc, slope])
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)

    @pytest.mark.parametrize("made", [dist.Normal, lambda loc, scale: dist.StudentT(4.0, loc, scale), None])
    def test_gradients_do_not_depend_on_whether_a_value_was_drawn_before(self, made: Callable | None) -> None:
        """Nor is there one in a likely value, through which a weight would have it that does not depend on values."""
        loc = cell(0.4).requires_grad_()
        found = []
        for is_drawn in (False, True):
            fn = (
                made(loc, cell(0.7))
                if made is not None
                else StandardizedCounts(dist.Poisson(loc.exp()), cell(3.0)[0], cell(2.0)[0])
            )
            masked = given_missing(fn, OwnValueMechanism(lambda x: 0.5 - 1.2 * x), cell(0.0), (0,), CELL)
            assert isinstance(masked, SelfMaskedByMesh)
            if is_drawn:
                masked.sample()
                assert not masked.likely().requires_grad
            (slope,) = torch.autograd.grad(masked.log_ratio(cell(0.1)).sum(), loc)
            found.append(slope)
        torch.testing.assert_close(*found)
        assert found[0].abs() > 0.1
