"""Levels count as summed out where nothing else sees them, and have a score-function term where something does."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from checks import check_mean
from pyro_mnar import Batch, ImportanceWeightedELBO, observe_mask, partially_observed, rows
from pyro_mnar.distributions import Levels
from pyro_mnar.infer.level_dependence import sites_that_move_weights

pytestmark = pytest.mark.usefixtures("own_store")

NAN = torch.nan
POINTS = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
START = {"share": 0.3, "intercept": 0.4, "slope": -1.5, "outcome": -0.2, "effect": 1.1}


def parameters() -> dict[str, Tensor]:
    return {name: pyro.param(name, torch.tensor(value)) for name, value in START.items()}


def covariate(batch: Batch, p: dict[str, Tensor], weight: float = 1.0) -> Tensor:
    """x in two levels, which masks itself, in column 0."""

    def log_odds(x: Tensor) -> Tensor:
        return p["intercept"] + p["slope"] * x

    logits = torch.stack([torch.zeros_like(p["share"]), p["share"]]).expand(len(batch), 1, 2)
    x = partially_observed("x", Levels(logits, POINTS), batch, columns=[0], mechanism=log_odds)
    observe_mask("r", log_odds(x), batch, columns=[0], weight=weight)
    return x


def with_outcome(batch: Batch) -> None:
    """The outcome, column 1, depends on x."""
    p = parameters()
    with rows(batch):
        x = covariate(batch, p)
        y = p["outcome"] + p["effect"] * x[..., 0]
        pyro.sample("y", dist.Bernoulli(logits=y), obs=batch.x[:, 1])


def outcome_of_log_prob(p: dict[str, Tensor], y: Tensor, x: Tensor) -> Tensor:
    return logsigmoid((2 * y - 1) * (p["outcome"] + p["effect"] * x))


def of_other_weight(batch: Batch) -> None:
    """The mask is scored at half the weight that the levels were drawn by."""
    with rows(batch):
        covariate(batch, parameters(), weight=0.5)


def nothing(batch: Batch) -> None:
    pass


def enumerated(model: Callable, y: float, particles: int) -> Tensor:
    """Gradient of E log (1/K) Σ_k w(x_k), x_k ~ p(x | r = 0), for a row whose x is missing; summed over all x."""
    p = {name: torch.tensor(value, requires_grad=True) for name, value in START.items()}
    x = POINTS[0]
    prior = torch.stack([torch.zeros_like(p["share"]), p["share"]]).log_softmax(0)
    missing = logsigmoid(-(p["intercept"] + p["slope"] * x))
    proposal = (prior + missing).log_softmax(0)
    if model is with_outcome:
        weights = prior + missing - proposal + outcome_of_log_prob(p, torch.tensor(y), x)
    else:
        weights = prior + 0.5 * missing - proposal
    bound = torch.tensor(0.0)
    for chosen in itertools.product((0, 1), repeat=particles):
        at = list(chosen)
        bound = bound + proposal[at].sum().exp() * (weights[at].logsumexp(0) - torch.tensor(float(particles)).log())
    found = torch.autograd.grad(bound, list(p.values()), allow_unused=True)
    return torch.stack([torch.tensor(0.0) if slope is None else slope for slope in found])


def estimated(model: Callable, y: float, particles: int, draws: int = 60, size: int = 400) -> Tensor:
    """Gradients per row, each the mean of a batch of like rows; ``(draws, parameters)``."""
    batch = Batch.of(torch.tensor([[NAN, y]]).expand(size, 2).clone())
    objective, found = ImportanceWeightedELBO(particles), []
    for _ in range(draws):
        bound = -objective.differentiable_loss(model, nothing, batch) / size
        leaves = [pyro.get_param_store()._params[name] for name in START if name in pyro.get_param_store()]
        slopes = torch.autograd.grad(bound, leaves, allow_unused=True)
        found.append(torch.stack([torch.tensor(0.0) if slope is None else slope for slope in slopes]))
    return torch.stack(found)


@pytest.mark.parametrize("model", [with_outcome, of_other_weight])
@pytest.mark.parametrize(("y", "particles"), [(1.0, 1), (0.0, 1), (1.0, 3)])
def test_a_level_that_moves_the_weight_has_the_enumerated_gradient(
    model: Callable, y: float, particles: int, caplog: pytest.LogCaptureFixture
) -> None:
    """False alarm at 1e-5; without the score-function term the share's slope is off by half of itself."""
    with caplog.at_level(logging.WARNING):
        found = estimated(model, y, particles)
    check_mean(found, enumerated(model, y, particles))
    (record,) = caplog.records  # said once, however many steps
    assert "site 'x_missing': its missing values are sampled" in record.getMessage()
    assert ("'y'" if model is with_outcome else "'r'") in record.getMessage()


def alone(batch: Batch) -> None:
    with rows(batch):
        covariate(batch, parameters())


def test_levels_that_nothing_else_sees_have_no_noise(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = estimated(alone, 1.0, 2, draws=3)
    assert (found.std(0) < 1e-12).all() and not caplog.records


def of_latent(batch: Batch) -> None:
    """A latent that the model proposes itself: its own density cancels, and yet it carries the level on."""
    p = parameters()
    with rows(batch):
        x = covariate(batch, p)
        z = pyro.sample("z", dist.Normal(p["effect"] * x[..., 0], 1.0))
        pyro.sample("y", dist.Normal(z, 1.0), obs=batch.x[:, 1])


def of_other_mask(batch: Batch) -> None:
    """The mask of column 1 sees the level, with a slope that starts at zero."""
    p, slope = parameters(), pyro.param("other", torch.tensor(0.0))
    with rows(batch):
        x = covariate(batch, p)
        observe_mask("s", slope * x, batch, columns=[1])


@pytest.mark.parametrize(("model", "other"), [(of_latent, "z"), (of_other_mask, "s"), (alone, None)])
def test_what_sees_a_level_is_found(model: Callable, other: str | None, caplog: pytest.LogCaptureFixture) -> None:
    """Also on rows in which nothing is missing, and without moving a generator or a parameter for good."""
    batch = Batch.of(torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]))
    model(batch)
    values = {name: value.clone() for name, value in pyro.get_param_store().items()}
    before = torch.get_rng_state()
    with caplog.at_level(logging.WARNING):
        found = sites_that_move_weights(model, nothing, (batch,), {})
    assert found == (frozenset() if other is None else frozenset({"x_missing"}))
    assert other is None or f"'{other}'" in caplog.text
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, values[name]) for name, value in pyro.get_param_store().items())


def test_the_other_estimator_refuses_such_a_site() -> None:
    batch = Batch.of(torch.tensor([[NAN, 1.0], [0.0, 1.0]]))
    with pytest.raises(ValueError, match="site 'x_missing' cannot be reparameterised: use estimator='pathwise'"):
        ImportanceWeightedELBO(2, "doubly-reparameterized").differentiable_loss(with_outcome, nothing, batch)
