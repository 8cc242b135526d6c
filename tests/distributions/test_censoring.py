"""Cells between bounds: probabilities, draws and gradients of each family, and the bound against quadrature."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from scipy import stats
from torch import Tensor

from checks import FALSE_ALARM, check_mean
from pyro_mnar import Batch, ImportanceWeightedELBO, observe_mask, partially_observed, propose_missing, rows
from pyro_mnar.distributions import Columns, Levels, StandardizedCounts
from pyro_mnar.distributions.truncation import Restricted
from pyro_mnar.distributions.truncation.tails import log_poisson_tail, normal_quantile, student_quantile

INF = math.inf
# Open on either side, straddling the centre, far out on either side, narrow.
LOWER = torch.tensor([[-INF, 0.5, -1.0, 12.0, -40.0, 2.0]], dtype=torch.float64)
UPPER = torch.tensor([[-0.7, INF, 2.0, INF, -39.0, 2.000001]], dtype=torch.float64)
LOC, SCALE, DF = 0.3, 1.2, 5.0
COUNT_LOWER = torch.tensor([[0.0, 5.0, 10.0, 60.0, 7.0]], dtype=torch.float64)
COUNT_UPPER = torch.tensor([[2.0, INF, 20.0, INF, 7.0]], dtype=torch.float64)

CONTINUOUS: dict[str, tuple[Callable[..., TorchDistributionMixin], tuple[float, ...], stats.rv_continuous]] = {
    "normal": (dist.Normal, (LOC, SCALE), stats.norm(LOC, SCALE)),
    "student": (lambda loc, scale, df: dist.StudentT(df, loc, scale), (LOC, SCALE, DF), stats.t(DF, LOC, SCALE)),
    "laplace": (dist.Laplace, (LOC, SCALE), stats.laplace(LOC, SCALE)),
}
COUNTS = {
    "poisson": dist.Poisson(torch.tensor(4.0, dtype=torch.float64)),
    "negative binomial": dist.NegativeBinomial(
        torch.tensor(3.0, dtype=torch.float64), logits=torch.tensor(0.3, dtype=torch.float64)
    ),
}

pytestmark = pytest.mark.usefixtures("own_store")


def restricted(fn: TorchDistributionMixin, lower: Tensor = LOWER, upper: Tensor = UPPER) -> Restricted:
    return Restricted(fn.expand(lower.shape), lower, upper)


def log_mass(law: stats.rv_continuous, lower: float, upper: float) -> float:
    """In the nearer tail."""
    if lower > law.median():
        larger, smaller = law.logsf(lower), law.logsf(upper)
    else:
        larger, smaller = law.logcdf(upper), law.logcdf(lower)
    return larger + math.log(-math.expm1(smaller - larger))


def no_latents(batch: Batch) -> None:
    """A guide that leaves everything to the model."""


# Each family.


@pytest.mark.parametrize("family", ["normal", "student"])
def test_the_probability_of_lying_inside_is_scipys_out_to_forty_scales(family: str) -> None:
    make, parameters, law = CONTINUOUS[family]
    found = restricted(make(*map(torch.tensor, parameters))).log_mass[0]
    expected = [log_mass(law, a, b) for a, b in zip(LOWER[0].tolist(), UPPER[0].tolist(), strict=True)]
    assert found.tolist() == pytest.approx(expected, rel=1e-9)


def test_families_with_a_cdf_alone_are_right_where_it_can_tell_tails_from_zero() -> None:
    make, parameters, law = CONTINUOUS["laplace"]
    found = restricted(make(*map(torch.tensor, parameters)), LOWER[:, :3], UPPER[:, :3]).log_mass[0]
    assert found.exp().tolist() == pytest.approx((law.cdf(UPPER[0, :3]) - law.cdf(LOWER[0, :3])).tolist(), rel=1e-12)


@pytest.mark.parametrize("family", COUNTS)
def test_the_probability_of_counts_inside_is_the_sum_of_theirs(family: str) -> None:
    fn = COUNTS[family]
    count = torch.arange(0.0, 2000.0)
    expected = [
        fn.log_prob(count[(count >= a) & (count <= b)]).logsumexp(0).item()
        for a, b in zip(COUNT_LOWER[0].tolist(), COUNT_UPPER[0].tolist(), strict=True)
    ]
    assert restricted(fn, COUNT_LOWER, COUNT_UPPER).log_mass[0].tolist() == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("count", [2e5, 1e7])
@pytest.mark.parametrize("deviations", [0.0, 3.9, 4.1, 8.0, 36.0])
def test_tails_of_large_poisson_counts_are_those_of_a_long_sum(count: float, deviations: float) -> None:
    """Near the mean, at the change of method, and where probabilities underflow."""
    far = deviations * math.sqrt(count)
    for upper, rate in ((True, count - far), (False, count + far)):
        steps = torch.arange(1.0, 50_000.0)
        ratios = rate / (count + steps) if upper else (count + 1 - steps) / rate
        log_sum = torch.cat([torch.zeros(1), ratios.log().cumsum(0)]).logsumexp(0)
        expected = count * math.log(rate) - rate - math.lgamma(count + 1) + log_sum
        found = log_poisson_tail(torch.tensor(count), torch.tensor(rate), upper)
        assert found.item() == pytest.approx(expected.item(), rel=3e-8)


@pytest.mark.parametrize("family", CONTINUOUS)
def test_draws_follow_the_law_between_the_bounds(family: str) -> None:
    make, parameters, law = CONTINUOUS[family]
    kept = 6 if family != "laplace" else 3
    drawn = restricted(make(*map(torch.tensor, parameters)), LOWER[:, :kept], UPPER[:, :kept]).sample((2000,))[:, 0]
    assert (drawn >= LOWER[0, :kept]).all()
    assert (drawn <= UPPER[0, :kept]).all()
    for cell, (a, b) in enumerate(zip(LOWER[0, :kept].tolist(), UPPER[0, :kept].tolist(), strict=True)):

        def share_below(x: np.ndarray, a: float = a, b: float = b) -> np.ndarray:
            if a > law.median():
                return (law.sf(a) - law.sf(x)) / (law.sf(a) - law.sf(b))
            return (law.cdf(x) - law.cdf(a)) / (law.cdf(b) - law.cdf(a))

        assert stats.kstest(drawn[:, cell].numpy(), share_below).pvalue > FALSE_ALARM


@pytest.mark.parametrize("family", COUNTS)
def test_counts_follow_their_law_between_the_bounds(family: str) -> None:
    fn = COUNTS[family]
    drawn = restricted(fn, COUNT_LOWER, COUNT_UPPER).sample((4000,))[:, 0]
    for cell, (a, b) in enumerate(zip(COUNT_LOWER[0].tolist(), COUNT_UPPER[0].tolist(), strict=True)):
        assert ((drawn[:, cell] >= a) & (drawn[:, cell] <= b)).all()
        count = torch.arange(a, min(b, a + 200) + 1)
        expected = len(drawn) * fn.log_prob(count).softmax(0)
        pooled = expected.cumsum(0) < len(drawn) - 20  # the last cells together
        cut = max(int(pooled.sum()), 1)
        seen = torch.stack([(drawn[:, cell] == value).sum() for value in count]).double()
        observed, due = (torch.cat([v[:cut], v[cut:].sum()[None]]) for v in (seen, expected))
        if a != b:
            statistic = float(((observed - due) ** 2 / due).sum())
            assert stats.chi2.sf(statistic, len(due) - 1) > FALSE_ALARM


@pytest.mark.parametrize("family", ["normal", "student"])
def test_gradients_of_probability_and_draws_are_those_of_finite_differences(family: str) -> None:
    """In parameters, at a fixed stream of random numbers; in far tails and narrow intervals too."""
    make, parameters, _ = CONTINUOUS[family]

    def mass_and_draw(*values: Tensor) -> Tensor:
        with torch.random.fork_rng():
            fn = restricted(make(*values))
            return torch.cat([fn.log_mass, fn.rsample()])

    values = [torch.tensor(value, requires_grad=True) for value in parameters]
    found = torch.autograd.functional.jacobian(mass_and_draw, tuple(values))
    step = 1e-5
    for at, slope in enumerate(found):
        moved = [
            mass_and_draw(*(v.detach() + sign * step * (at == other) for other, v in enumerate(values)))
            for sign in (1, -1)
        ]
        assert slope.flatten().tolist() == pytest.approx(
            ((moved[0] - moved[1]) / (2 * step)).flatten().tolist(), rel=2e-5, abs=2e-7
        )


@pytest.mark.parametrize("family", COUNTS)
def test_gradients_of_probabilities_of_counts_are_those_of_finite_differences(family: str) -> None:
    make = (
        (lambda a: dist.Poisson(a.exp()))
        if family == "poisson"
        else (lambda a: dist.NegativeBinomial(a.exp(), logits=a))
    )
    at, step = torch.tensor(0.4, requires_grad=True), 1e-5
    for cell in range(COUNT_LOWER.shape[1]):
        bounds = COUNT_LOWER[:, cell : cell + 1], COUNT_UPPER[:, cell : cell + 1]
        (slope,) = torch.autograd.grad(restricted(make(at), *bounds).log_mass.sum(), at)
        moved = [restricted(make(at.detach() + sign * step), *bounds).log_mass.item() for sign in (1, -1)]
        assert slope.item() == pytest.approx((moved[0] - moved[1]) / (2 * step), rel=1e-6)


def test_quantiles_of_tail_probabilities_that_round_to_zero() -> None:
    log_p = torch.tensor([-1e4, -900.0, -5.0001, -5.0, -1.0, -1e-3])
    assert torch.special.log_ndtr(normal_quantile(log_p)).tolist() == pytest.approx(log_p.tolist(), rel=1e-12)
    law = stats.t(40.0)
    x = [-1e6, -50.0, -1.0, 0.5]
    found = student_quantile(torch.tensor(law.logcdf(x)), torch.full((4,), 40.0))
    assert found.tolist() == pytest.approx(x, rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_lie_inside_after_rounding(dtype: torch.dtype) -> None:
    lower = torch.tensor([[0.1, 1000.1, -5.3]], dtype=dtype)
    upper = torch.nextafter(lower, torch.full_like(lower, INF))
    for fn in (dist.Normal, dist.LogNormal):
        drawn = Restricted(fn(torch.zeros(1, 3, dtype=dtype), 1.0), lower, upper)
        value = drawn.sample((100,))
        kept = slice(None) if fn is dist.Normal else slice(0, 2)  # nothing of a log-normal lies below zero
        assert value.dtype == dtype
        assert ((value >= lower) & (value <= upper))[..., kept].all()


def test_families_that_cannot_be_held_between_bounds_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="Gamma"):
        restricted(dist.Gamma(torch.ones(()), 1.0))


def test_without_bounds_nothing_is_paid() -> None:
    x = torch.tensor([[1.0, torch.nan]])
    for batch, expected in ((Batch.of(x), False), (Batch.of(x, upper=torch.zeros(1, 2)), True)):

        def model(batch: Batch) -> None:
            with rows(batch):
                partially_observed("x", dist.Normal(torch.zeros(1, 2), 1.0), batch)

        trace = pyro.poutine.trace(model).get_trace(batch)
        assert isinstance(trace.nodes["x_missing"]["fn"].base_dist.fn, Restricted) is expected


# The bound. One latent, so that quadrature over z is exact.

LOADING = torch.tensor([0.8, -0.6, 0.5, 0.7, 0.9], dtype=torch.float64)
POINTS = torch.tensor([[-1.0, 0.0, 1.0]], dtype=torch.float64)
LOGITS = torch.tensor([0.2, -0.4, 0.6], dtype=torch.float64)


def decoder(z: Tensor) -> Columns:
    """Normal, log-normal and Student's t columns, levels, and counts on a line."""
    mean = z.unsqueeze(-1) * LOADING
    counts = StandardizedCounts(dist.Poisson(mean[..., 4:].exp() * 3), torch.tensor([3.0]), torch.tensor([2.0]))
    return Columns(
        [
            ((0,), dist.Normal(mean[..., :1], 0.7)),
            ((1,), dist.LogNormal(mean[..., 1:2], 0.5)),
            ((2,), dist.StudentT(4.0, mean[..., 2:3], 0.6)),
            ((3,), Levels(LOGITS + mean[..., 3:4, None] * POINTS, POINTS)),
            ((4,), counts),
        ]
    )


def mechanism(x: Tensor) -> Tensor:
    return 0.3 - 0.8 * x


def mixed_batch() -> Batch:
    """Ends on either side, both sides, none; one gap that the mechanism does not explain."""
    nan = torch.nan
    x = torch.tensor([[nan, nan, nan, nan, nan], [0.4, nan, 1.0, nan, nan], [nan, 0.8, nan, 0.0, -0.5]])
    lower = torch.tensor([[-INF, 0.5, 1.0, -0.5, -INF], [0.5, -INF, 2.0, -0.5, 0.75], [-INF, 1.0, -1.0, 0.5, 0.0]])
    upper = torch.tensor([[-0.5, 2.0, INF, INF, 0.25], [1.0, 0.4, 3.0, 0.5, INF], [INF, 2.0, 0.2, INF, 1.0]])
    batch = Batch.of(x, lower=lower, upper=upper)
    batch.mask_modelled[0, 0] = False
    return batch


def evidence(batch: Batch) -> Tensor:
    """p(x_o, bounds, r) per row by quadrature over z and over what is missing."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    z, weights = torch.tensor(nodes), torch.tensor(weights) / math.sqrt(2 * math.pi)
    total = weights.expand(len(batch), -1).clone()
    parts = decoder(z).parts
    for row in range(len(batch)):
        for column in range(5):
            fn, modelled = parts[column][1], bool(batch.mask_modelled[row, column])
            if batch.mask[row, column]:
                x = batch.x[row, column]
                term = fn.log_prob(x.expand(80, 1)).exp()[:, 0] * (mechanism(x).sigmoid() if modelled else 1.0)
            else:
                low, high = batch.lower[row, column], batch.upper[row, column]
                if column < 3:
                    grid, width = legendre(max(low.item(), 1e-9 if column == 1 else -60.0), min(high.item(), 60.0))
                elif column == 3:
                    grid, width = POINTS[0], torch.ones(3)
                else:
                    grid, width = (torch.arange(0.0, 120.0) - 3) / 2, torch.ones(120)
                density = fn.expand([80, 1]).log_prob(grid[:, None, None].expand(-1, 80, 1)).exp()[..., 0]
                inside = width * ((grid >= low) & (grid <= high))
                missing = (-mechanism(grid)).sigmoid() if modelled else torch.ones_like(grid)
                term = (density * (inside * missing)[:, None]).sum(0)
            total[row] *= term
    return total.sum(-1)


def legendre(low: float, high: float) -> tuple[Tensor, Tensor]:
    """Nodes and weights over an interval, in pieces."""
    nodes, weights = np.polynomial.legendre.leggauss(40)
    edges = np.linspace(low, high, 61 if high - low > 10 else 4)
    half, middle = np.diff(edges)[:, None] / 2, (edges[1:] + edges[:-1])[:, None] / 2
    return torch.tensor((middle + half * nodes).ravel()), torch.tensor((half * weights).ravel())


@pytest.mark.parametrize(
    ("proposes", "summed"), [("nothing", True), ("z", False), ("z and x", False), ("z and x", True)]
)
def test_weights_are_unbiased_for_the_evidence_by_quadrature(proposes: str, summed: bool) -> None:
    batch = mixed_batch()

    def model(batch: Batch) -> None:
        with rows(batch):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            x = partially_observed("x", decoder(z), batch, mechanism=mechanism if summed else None)
            observe_mask("r", mechanism(x), batch)

    def guide(batch: Batch) -> None:
        with rows(batch):
            z = pyro.sample("z", dist.Normal(torch.tensor([0.1, 0.3, -0.2]), 1.1))
            if proposes == "z and x":
                propose_missing("x", decoder(z + 0.2), batch)

    objective = ImportanceWeightedELBO(4000)
    run = objective.particles(model, no_latents if proposes == "nothing" else guide, batch)
    check_mean(run.log_weights.exp(), evidence(batch))
    drawn = {name: site["value"] for name, site in run.model_trace.nodes.items() if name.endswith("_missing")}
    for column in range(5):
        value = drawn[f"x_{column}_missing"][..., 0]
        gap = ~batch.mask[:, column]
        assert (value >= batch.lower[:, column])[:, gap].all()
        assert (value <= batch.upper[:, column])[:, gap].all()


@pytest.mark.slow
def test_the_gradient_of_the_loss_is_that_of_finite_differences() -> None:
    """Of continuous columns, at a fixed stream of random numbers, the mechanism looking at what was drawn."""
    x = torch.tensor([[torch.nan, 0.4, torch.nan], [0.2, torch.nan, torch.nan]])
    lower, upper = torch.full((2, 3), -INF), torch.tensor([[-0.5, 0.0, 0.3], [0.0, 0.6, INF]])
    lower[1, 2] = 1.5
    batch = Batch.of(x, lower=lower, upper=upper)

    def loss(theta: Tensor) -> Tensor:
        def model(batch: Batch) -> None:
            with rows(batch):
                z = pyro.sample("z", dist.Normal(0.0, 1.0))
                mean = z[..., None] * theta[:3]
                part = dist.StudentT(theta[3].exp() + 2, mean[..., 2:], theta[4].exp())
                fn = Columns([((0, 1), dist.Normal(mean[..., :2], theta[4].exp())), ((2,), part)])
                row = partially_observed("x", fn, batch)
                observe_mask("r", theta[5] + theta[6] * row, batch)

        def guide(batch: Batch) -> None:
            with rows(batch):
                pyro.sample("z", dist.Normal(theta[7] + batch.x[:, 0] * theta[8], theta[9].exp()))

        with torch.random.fork_rng():
            return ImportanceWeightedELBO(4).differentiable_loss(model, guide, batch)

    theta = torch.tensor([0.8, -0.5, 0.6, 0.7, -0.4, 0.2, -0.9, 0.1, 0.3, -0.2], requires_grad=True)
    (found,) = torch.autograd.grad(loss(theta), theta)
    step = 1e-5
    for at in range(len(theta)):
        move = torch.zeros_like(theta).index_fill(0, torch.tensor(at), step)
        expected = (loss(theta.detach() + move) - loss(theta.detach() - move)).item() / (2 * step)
        assert found[at].item() == pytest.approx(expected, rel=1e-5, abs=1e-7)
