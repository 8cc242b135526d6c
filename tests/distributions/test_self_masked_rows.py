"""Rows whose values mask themselves: weights, gradients and draws against quadrature."""

from __future__ import annotations

from functools import partial

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn
from torch.special import log_ndtr

from checks import check_mean
from pyro_mnar import Batch, ImportanceWeightedELBO, observe_mask, partially_observed, propose_missing, rows
from pyro_mnar.distributions import OwnValueMechanism

pytestmark = pytest.mark.usefixtures("own_store")

SEEN, GAPS = 0.7, torch.tensor([[torch.nan, torch.nan, 0.7]])


class Masked(nn.Module):
    """A normal, or a mixture of two, whose first two columns mask themselves."""

    def __init__(self, num_classes: int, slope: float) -> None:
        super().__init__()
        shape = (num_classes,) if num_classes else ()
        sigma = torch.tensor([[1.0, 0.6, 0.3], [0.6, 1.2, -0.2], [0.3, -0.2, 0.8]])
        shift = torch.tensor([[0.8], [-0.5]]) if num_classes else 0.0
        self.loc = nn.Parameter(torch.tensor([0.3, -0.2, 0.1]).expand(*shape, 3) + shift)
        self.root = nn.Parameter(torch.linalg.cholesky(sigma).expand(*shape, 3, 3).clone())
        self.intercept = nn.Parameter(torch.tensor([0.4, -0.3, 0.0]))
        self.slope = nn.Parameter(torch.tensor([-slope, slope, 0.0]))

    def law(self) -> dist.Distribution:
        normal = dist.MultivariateNormal(self.loc, scale_tril=self.root.tril())
        if self.loc.dim() == 1:
            return normal
        return dist.MixtureSameFamily(dist.Categorical(torch.tensor([0.6, 0.4])), normal)

    def predictor(self, x: Tensor) -> Tensor:
        return self.intercept + self.slope * x

    def forward(self, batch: Batch) -> None:
        own = OwnValueMechanism(self.predictor, slope=self.slope, link="probit")
        with rows(batch):
            x = partially_observed("x", self.law(), batch, mechanism=own)
            observe_mask("r", self.predictor(x), batch, link="probit")

    def by_quadrature(self, num: int = 401) -> tuple[Tensor, Tensor]:
        """Of a row without its first two values, points and p(x, r) with their weights."""
        points = torch.linspace(-9.0, 9.0, num)
        plane = torch.cartesian_prod(points, points)
        every = torch.cat([plane, torch.full((len(plane), 1), SEEN)], -1)
        signs = torch.tensor([-1.0, -1.0, 1.0])
        log_joint = self.law().log_prob(every) + log_ndtr(signs * self.predictor(every)).sum(-1)
        return every, log_joint.exp() * (points[1] - points[0]).square()


def empty_guide(batch: Batch) -> None:
    """Everything is proposed from the model."""


CASES = [(0, 1.0), (2, 1.0), (0, 30.0), (2, 30.0)]


@pytest.mark.parametrize(("num_classes", "slope"), CASES)
def test_weights_and_draws_are_those_of_quadrature(num_classes: int, slope: float) -> None:
    """False alarms: 1e-5 each for weights and products."""
    model, batch, many = Masked(num_classes, slope), Batch.of(GAPS), 20_000
    with torch.no_grad():
        run = ImportanceWeightedELBO(many).particles(model, empty_guide, batch)
        every, density = model.by_quadrature(1001 if slope > 10 else 401)
    weights = run.log_weights[:, 0].exp()
    # A grid cuts sharp borders somewhere within a cell.
    check_mean(weights * (1 + 1e-3 * torch.randn(many)), density.sum())
    assert weights.std() < 0.6 * weights.mean()
    drawn = run.model_trace.nodes["x_missing"]["value"].reshape(many, 3)[:, :2]
    products = torch.cat([drawn, drawn[:, :1] * drawn[:, 1:]], -1) * weights[:, None]
    exact = torch.cat([every[:, :2], every[:, :1] * every[:, 1:2]], -1) * density[:, None]
    check_mean(products, exact.sum(0))


def test_one_missing_value_is_summed_out_exactly() -> None:
    for num_classes in (0, 2):
        model = Masked(num_classes, 2.0)
        batch = Batch.of(torch.tensor([[torch.nan, 0.2, SEEN]]))
        with torch.no_grad():
            weights = ImportanceWeightedELBO(50).particles(model, empty_guide, batch).log_weights[:, 0]
        assert weights.std() < (1e-12 if num_classes == 0 else 0.2)
        points = torch.linspace(-9.0, 9.0, 4001)
        row = torch.tensor([0.0, 0.2, SEEN]).repeat(4001, 1)
        row[:, 0] = points
        signs = torch.tensor([-1.0, 1.0, 1.0])
        log_joint = model.law().log_prob(row) + log_ndtr(signs * model.predictor(row)).sum(-1)
        exact = float((log_joint.exp().sum() * (points[1] - points[0])).detach())
        assert float(weights.exp().mean()) == pytest.approx(exact, rel=1e-9 if num_classes == 0 else 0.1)


@pytest.mark.parametrize("num_classes", [0, 2])
def test_gradients_are_those_of_quadrature(num_classes: int) -> None:
    """Within five standard errors of twelve batches; the bound at K = 1,000 is the evidence to three digits."""
    model, batch = Masked(num_classes, 1.0), Batch.of(GAPS)
    parameters = list(model.parameters())
    _, density = model.by_quadrature()
    exact = torch.autograd.grad(density.sum().log(), parameters)
    objective = ImportanceWeightedELBO(1000)
    found = [
        torch.autograd.grad(-objective.differentiable_loss(model, empty_guide, batch), parameters) for _ in range(20)
    ]
    for at, slope in enumerate(exact):
        sample = torch.stack([one[at] for one in found])
        error = sample.std(0) / len(sample) ** 0.5
        assert ((sample.mean(0) - slope).abs() <= 5 * error + 5e-3).all(), (sample.mean(0), slope, error)


def test_a_value_that_is_given_counts_as_any_proposal() -> None:
    """False alarms: 1e-5.  A guide's own proposal gives weights of the same mean."""
    model, batch, many = Masked(2, 1.0), Batch.of(GAPS), 40_000

    def guide(batch: Batch) -> None:
        with rows(batch):
            propose_missing("x", dist.Normal(torch.zeros(1, 3), 2.0), batch)

    with torch.no_grad():
        of = partial(ImportanceWeightedELBO(many).particles, model)
        weights = of(guide, batch).log_weights[:, 0].exp()
        _, density = model.by_quadrature()
    check_mean(weights, density.sum())


def test_gaps_without_a_mechanism_and_other_links_are_drawn_as_ever() -> None:
    """False alarms: 1e-5.  Cells that the mechanism does not explain follow p(x_u | x_o)."""
    model = Masked(0, 1.0)
    whole = Batch.of(GAPS.repeat(20_000, 1))
    blind = whole.without_mechanism()
    with torch.no_grad():
        run = ImportanceWeightedELBO(1).particles(model, empty_guide, blind)
    assert run.log_weights.std() < 1e-12
    drawn = run.model_trace.nodes["x_missing"]["value"].reshape(-1, 3)[:, :2]
    sigma = model.root.detach() @ model.root.detach().mT
    check_mean(drawn, (model.loc[:2] + sigma[:2, 2] / sigma[2, 2] * (SEEN - model.loc[2])).detach())
