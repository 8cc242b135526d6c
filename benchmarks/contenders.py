"""Ways to take a training step of one model: captured, by Python, plain Pyro, PyTorch by hand, restarts at once.

Every contender takes the same rows in the same order, draws its own noise and runs Adam; contenders_jax.py has JAX.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import pyro
import pyro.distributions as dist
import torch
from problem import PARTICLES, Problem
from pyro.infer import SVI, RenyiELBO
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from pyro_mnar import Batch, propose_missing, rows
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.infer.session import Session
from pyro_mnar.models import GINA
from pyro_mnar.training.stepper import Optimisation
from pyro_mnar.training.steps import Steps
from pyro_mnar.training.vectorised import VectorisedSteps

RATE = 1e-3
UNIT = 0.5413248546129181  # softplus(UNIT) = 1
LEAST_NOISE = 1e-3
MOST_STEPS = 100_000  # that a contender may take in all
Pair = tuple[GINA, ZeroImpute]
Run = Callable[[int], None]  # so many steps


class Contender(Protocol):
    """A way to train."""

    def train(self, order: Tensor) -> None:
        """Take a step on the rows of each minibatch; ``(steps, size)``."""
        ...

    def pair(self) -> Pair:
        """Model and guide with the parameters as they are now."""
        ...


class Captured:
    """What ``fit(compile=mode)`` runs."""

    def __init__(self, problem: Problem, mode: str, *, rate: float = RATE, seed: int = 0) -> None:
        self.problem, self.mode, self._pair = problem, mode, problem.pair(seed)
        self.session = Session(seed, problem.device)
        self.loss, self.parameters = problem.loss(self.session, self._pair)
        self.rates = torch.full((MOST_STEPS,), rate, dtype=torch.float64)
        self.steps: Steps | None = None

    def train(self, order: Tensor) -> None:
        with self.session.running():
            self.steps = self.steps or self._steps(order.shape[1])
            for _ in self.steps.run(order):
                pass
            self.steps.synchronise()
        if self.steps.mode != self.mode:
            raise RuntimeError(f"expected mode {self.mode!r}, got {self.steps.mode!r}")

    def _steps(self, size: int) -> Steps:
        table = self.problem.batch()
        return Steps(Optimisation(self.loss, self.parameters, table, size, self.rates), self.mode)

    def pair(self) -> Pair:
        return self._pair


class PlainPyro:
    """Pyro's ``SVI`` with ``RenyiELBO``, particles vectorised; its guide has to propose the missing values."""

    def __init__(self, problem: Problem, *, rate: float = RATE, seed: int = 0) -> None:
        self.batch, self._pair, self.session = problem.batch(), problem.pair(seed), Session(seed, problem.device)
        model, guide = self._pair

        def proposing(batch: Batch) -> None:
            pyro.module("encoder", guide.encoder)
            inputs = torch.cat([batch.x, batch.mask.to(batch.x.dtype), batch.aux], dim=-1)
            mean, raw = guide.encoder(inputs).chunk(2, dim=-1)
            with rows(batch):
                z = pyro.sample("z", dist.Normal(mean, softplus(raw + UNIT)).to_event(1))
                propose_missing("x", model.decoder(z), batch)

        objective = RenyiELBO(alpha=0, num_particles=PARTICLES, vectorize_particles=True, max_plate_nesting=1)
        self.svi = SVI(model, proposing, pyro.optim.Adam({"lr": rate}), objective)

    def train(self, order: Tensor) -> None:
        with self.session.running():
            for at in order:
                few = self.batch.take(at)
                # RenyiELBO takes the factor N/B into the logarithm, so a minibatch has to pass for the whole.
                self.svi.step(replace(few, size=len(few)))

    def pair(self) -> Pair:
        return self._pair


class HandWritten(nn.Module):
    """The bound by hand, on the layers of a pair, which are torch's own."""

    def __init__(self, model: GINA, guide: ZeroImpute) -> None:
        super().__init__()
        self.encoder, self.prior = guide.encoder, model.prior.parameters_of_u
        self.linear, self.correction = model.decoder.network.linear, model.decoder.network.correction
        self.log_noise = model.decoder.likelihood.log_noise
        self.middle, self.steepness = model.mechanism.raw_intercept, model.mechanism.raw_slope
        self.latent_dim = model.latent_dim

    def forward(self, x: Tensor, mask: Tensor, aux: Tensor) -> Tensor:
        """The negative bound per row."""
        observed = mask.to(x.dtype)
        mean, raw = self.encoder(torch.cat([x, observed, aux], -1)).chunk(2, -1)
        scale = softplus(raw + UNIT)
        noise = torch.randn(PARTICLES, len(x), self.latent_dim, dtype=x.dtype, device=x.device)
        z = mean + scale * noise
        prior_mean, prior_raw = self.prior(aux).chunk(2, -1)
        prior_scale = softplus(prior_raw + UNIT)
        location = self.linear(z) + self.correction(z)
        sigma = self.log_noise.exp().clamp_min(LEAST_NOISE)
        drawn = torch.where(mask, x, location + sigma * torch.randn_like(location))
        logits = self.middle * self.steepness.cosh() + self.steepness.sinh() * drawn
        log_x = -0.5 * ((drawn - location) / sigma).square() - sigma.log() - 0.5 * math.log(2 * math.pi)
        log_r = -binary_cross_entropy_with_logits(logits, observed.expand_as(logits), reduction="none")
        log_z = -0.5 * ((z - prior_mean) / prior_scale).square() - prior_scale.log()
        log_q = -0.5 * noise.square() - scale.log()
        log_w = (torch.where(mask, log_x, 0.0) + log_r).sum(-1) + (log_z - log_q).sum(-1)
        return -(log_w.logsumexp(0) - math.log(PARTICLES)).mean()


class ByHand:
    """PyTorch by hand, with fused Adam."""

    def __init__(self, problem: Problem, *, rate: float = RATE, seed: int = 0) -> None:
        batch, self._pair = problem.batch(), problem.pair(seed)
        self.fields = batch.x, batch.mask, batch.aux
        self.model, self.session = HandWritten(*self._pair), Session(seed, problem.device)
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=rate, fused=True)

    def train(self, order: Tensor) -> None:
        with self.session.running():
            for at in order:
                loss = self.model(*(field[at] for field in self.fields))
                self.optimiser.zero_grad()
                loss.backward()
                self.optimiser.step()

    def pair(self) -> Pair:
        return self._pair


def whole(contender: Contender, problem: Problem) -> Run:
    """Steps of which each takes the whole table."""
    everything = torch.arange(len(problem.table), device=problem.device)
    return lambda count: contender.train(everything.expand(count, -1))


def restarts(problem: Problem, members: int, mode: str) -> Run:
    """What ``fit(restarts=members, compile=mode)`` runs: one step of every member."""
    batch, sessions, own = problem.batch(), [Session(seed, problem.device) for seed in range(members)], []
    for seed, session in enumerate(sessions):
        loss, parameters = problem.loss(session, problem.pair(seed))
        rates = torch.full((MOST_STEPS,), RATE, dtype=torch.float64)
        own.append(Optimisation(loss, parameters, batch, len(batch), rates))
    steps = VectorisedSteps(own, sessions)
    if mode == "inductor":
        steps.compile()
    everything = torch.arange(len(batch), device=problem.device)

    def run(count: int) -> None:
        torch.stack(list(steps.run(everything.expand(count, members, -1)))).tolist()

    return run
