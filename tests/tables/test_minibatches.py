"""Minibatches: N/B stands outside the logarithm, so their average is an unbiased estimate of the full table's bound."""

from __future__ import annotations

import math
from dataclasses import replace

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import RenyiELBO, Trace_ELBO
from torch import Tensor

from checks import NormalGuide, check_mean, gina_pair, table_with_gaps, z_limit
from pyro_mnar import Batch, ImportanceWeightedELBO, rows

pytestmark = pytest.mark.usefixtures("own_store")

ROWS, SIZE = 200, 20


def test_a_minibatch_has_every_field_of_its_rows() -> None:
    """Values, mask, U, bounds and weight all tell which row they stand in, so none may come from another one."""
    number = torch.arange(7.0)
    some = torch.tensor([4, 1, 6])
    whole = replace(
        Batch.of(
            number[:, None].clone(),
            (number % 2 > 0)[:, None],
            torch.stack([10 + number, 20 + number], -1),
            lower=-1 - number[:, None],
            upper=number[:, None] + 1,
        ),
        weight=0.5 + number,
    )
    for part in (whole.take(some), Batch.joined([whole.take(some[:1]), whole.take(some[1:])])):
        assert part.index.tolist() == [4, 1, 6] and part.size == 7
        assert part.x[:, 0].tolist() == [0, 1, 0]  # even rows are gaps
        assert part.mask[:, 0].tolist() == [False, True, False]
        assert part.aux.tolist() == [[14, 24], [11, 21], [16, 26]]
        assert part.lower[:, 0].tolist() == [-5, -2, -7] and part.upper[:, 0].tolist() == [5, 2, 7]
        assert part.weight.tolist() == [4.5, 1.5, 6.5]


def conjugate(batch: Batch) -> None:
    """z ~ N(0, 1), x ~ N(z, 1)."""
    with rows(batch):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=batch.x[:, 0])


def table_of_200() -> Batch:
    return Batch.of(torch.randn(ROWS, 1) * math.sqrt(2))


def excess(objective: pyro.infer.ELBO, guide: NormalGuide, batch: Batch, repeats: int = 60) -> Tensor:
    """Loss averaged over the minibatches of one pass, minus a loss of the full batch with noise of its own."""
    generator = torch.Generator().manual_seed(0)
    differences = []
    for _ in range(repeats):
        passes = [objective.loss(conjugate, guide, b) for b in batch.minibatches(SIZE, generator)]
        differences.append(sum(passes) / len(passes) - objective.loss(conjugate, guide, batch))
    return torch.tensor(differences)


def test_minibatches_average_to_the_loss_of_the_full_batch() -> None:
    check_mean(excess(ImportanceWeightedELBO(5), NormalGuide(0.4, 0.9), table_of_200()), 0.0)


def test_renyis_objective_fails_the_same_test() -> None:
    """Why this package has an objective of its own (pyro-ppl/pyro#2220)."""
    objective = RenyiELBO(alpha=0, num_particles=5, vectorize_particles=True, max_plate_nesting=1)
    difference = excess(objective, NormalGuide(0.4, 0.9), table_of_200())
    z = difference.mean() / (difference.std() / len(difference) ** 0.5)
    assert z.abs() > 10 * z_limit()


def test_with_an_exact_guide_minibatches_partition_the_evidence() -> None:
    """Every weight is p(x) then, so the factor N/B can be read off to 1e-9; inside the logarithm it could not."""
    batch, guide, objective = table_of_200(), NormalGuide(0.5, math.sqrt(0.5)), ImportanceWeightedELBO(5)
    evidence = dist.Normal(0.0, math.sqrt(2)).log_prob(batch.x[:, 0])
    assert objective.loss(conjugate, guide, batch) == pytest.approx(-evidence.sum().item(), abs=1e-9)
    for minibatch in batch.minibatches(SIZE):
        expected = -ROWS / SIZE * evidence[minibatch.index].sum().item()
        assert objective.loss(conjugate, guide, minibatch) == pytest.approx(expected, abs=1e-9)


def test_weights_of_particles_carry_no_minibatch_factor() -> None:
    batch, guide = table_of_200(), NormalGuide(0.5, math.sqrt(0.5))
    run = ImportanceWeightedELBO(3).particles(conjugate, guide, next(batch.minibatches(SIZE)))
    evidence = dist.Normal(0.0, math.sqrt(2)).log_prob(batch.x[:SIZE, 0])
    assert run.scale == ROWS / SIZE
    torch.testing.assert_close(run.log_weights, evidence.expand(3, SIZE), rtol=0, atol=1e-10)


@pytest.mark.parametrize("estimator", ["pathwise", "doubly-reparameterized"])
def test_the_gradient_of_a_minibatch_has_the_same_factor_as_its_loss(estimator: str) -> None:
    """The same rows as a table of their own, and as a tenth of a larger one."""
    table = table_with_gaps(num_rows=40)
    model, guide = gina_pair(table)
    part = table.batch().take(torch.arange(4))
    alone = Batch.of(part.x, part.mask, part.aux)
    results = []
    for batch in (part, alone):
        torch.manual_seed(0)
        loss = ImportanceWeightedELBO(5, estimator).differentiable_loss(model, guide, batch)
        results.append([loss.detach(), *torch.autograd.grad(loss, [*model.parameters(), *guide.parameters()])])
    torch.testing.assert_close(results[0], [10 * value for value in results[1]], rtol=1e-10, atol=1e-10)


def test_score_function_terms_have_the_same_factor_as_the_loss() -> None:
    logit = torch.tensor(0.3, requires_grad=True)

    def model(batch: Batch) -> None:
        with rows(batch):
            c = pyro.sample("c", dist.Bernoulli(torch.tensor(0.4)))
            pyro.sample("x", dist.Normal(c, 1.0), obs=batch.x[:, 0] * batch.mask[:, 0])

    def guide(batch: Batch) -> None:
        with rows(batch):
            pyro.sample("c", dist.Bernoulli(logits=logit.expand(len(batch))))

    table = table_of_200()
    part = table.take(torch.arange(SIZE))
    grads = []
    for batch in (part, Batch.of(part.x)):
        torch.manual_seed(0)
        loss = ImportanceWeightedELBO(3).differentiable_loss(model, guide, batch)
        grads.append(torch.autograd.grad(loss, logit)[0])
    torch.testing.assert_close(grads[0], 10 * grads[1], rtol=1e-10, atol=1e-10)


def test_one_particle_on_a_minibatch_is_pyros_elbo() -> None:
    guide, minibatch = NormalGuide(0.4, 0.9), next(table_of_200().minibatches(SIZE))
    torch.manual_seed(0)
    expected = Trace_ELBO().loss(conjugate, guide, minibatch)
    torch.manual_seed(0)
    assert ImportanceWeightedELBO(1).loss(conjugate, guide, minibatch) == pytest.approx(expected, abs=1e-9)
