"""Ways to take a training step of one model: captured, by Python, plain Pyro, PyTorch by hand, restarts at once.

Every contender takes the same rows in the same order, draws its own noise and runs Adam; contenders_jax.py has JAX.
All sum missing numbers out of their bound but two, which draw each of them: plain Pyro, and one of those by hand.
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
from torch.nn.functional import logsigmoid, softplus

from pyro_mnar import Batch, propose_missing, rows
from pyro_mnar.distributions.probit_mixtures import PROBITS
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
    """Pyro's ``SVI`` with ``RenyiELBO``, particles vectorised; its guide draws the missing values, so that its bound is
    the noisier one of :class:`HandWrittenDrawing`.
    """

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
    """The bound by hand, missing numbers summed out, on the layers of a pair, which are torch's own."""

    def __init__(self, model: GINA, guide: ZeroImpute) -> None:
        super().__init__()
        self.encoder, self.prior = guide.encoder, model.prior.parameters_of_u
        self.linear, self.correction = model.decoder.network.linear, model.decoder.network.correction
        self.log_noise = model.decoder.likelihood.log_noise
        self.middle, self.steepness = model.mechanism.raw_intercept, model.mechanism.raw_slope
        self.latent_dim = model.latent_dim
        # The logistic function as a mixture of probits.
        weights, variances = (torch.tensor(values, device=self.middle.device) for values in PROBITS["logit"][:2])
        self.register_buffer("log_weights", weights.log().to(self.middle.dtype))
        self.register_buffer("variances", variances.to(self.middle.dtype))

    def forward(self, x: Tensor, mask: Tensor, aux: Tensor) -> Tensor:
        """The negative bound per row."""
        mean, raw = self.encoder(torch.cat([x, mask.to(x.dtype), aux], -1)).chunk(2, -1)
        scale = softplus(raw + UNIT)
        noise = torch.randn(PARTICLES, len(x), self.latent_dim, dtype=x.dtype, device=x.device)
        z = mean + scale * noise
        prior_mean, prior_raw = self.prior(aux).chunk(2, -1)
        prior_scale = softplus(prior_raw + UNIT)
        location = self.linear(z) + self.correction(z)
        sigma = self.log_noise.exp().clamp_min(LEAST_NOISE)
        log_z = -0.5 * ((z - prior_mean) / prior_scale).square() - prior_scale.log()
        log_q = -0.5 * noise.square() - scale.log()
        log_w = self.log_cells(x, mask, location, sigma).sum(-1) + (log_z - log_q).sum(-1)
        return -(log_w.logsumexp(0) - math.log(PARTICLES)).mean()

    def log_cells(self, x: Tensor, mask: Tensor, location: Tensor, sigma: Tensor) -> Tensor:
        """Log p(x, r = 1 | z) of what is observed, log p(r = 0 | z) of what is missing."""
        log_p = torch.where(mask, log_normal(x, location, sigma) + logsigmoid(self.log_odds(x)), 0.0)
        of_log_odds = (self.steepness.sinh() * sigma).square().expand_as(x)
        log_p[:, ~mask] = self.log_missing(-self.log_odds(location)[:, ~mask], of_log_odds[~mask])
        return log_p

    def log_missing(self, m: Tensor, s_squared: Tensor) -> Tensor:
        """Log Σ_i p_i Φ(m / √(1/a_i² + s²)): m and s² are mean and variance of a cell's log-odds of being missing."""
        bounds = m.unsqueeze(-1) * (self.variances + s_squared.unsqueeze(-1)).rsqrt()
        return (self.log_weights + torch.special.log_ndtr(bounds)).logsumexp(-1)

    def log_odds(self, x: Tensor) -> Tensor:
        """Of being observed."""
        return self.middle * self.steepness.cosh() + self.steepness.sinh() * x


class HandWrittenDrawing(HandWritten):
    """The same with each missing number drawn: another bound, noisier, for less work a step."""

    def log_cells(self, x: Tensor, mask: Tensor, location: Tensor, sigma: Tensor) -> Tensor:
        """Log p(x, r | z) / q(x | z), where q draws what is missing as the model does."""
        drawn = torch.where(mask, x, location + sigma * torch.randn_like(location))
        log_x = torch.where(mask, log_normal(drawn, location, sigma), 0.0)
        log_odds = self.log_odds(drawn)
        return log_x + logsigmoid(torch.where(mask, log_odds, -log_odds))


class ByHand:
    """PyTorch by hand, with fused Adam."""

    def __init__(
        self, problem: Problem, written: type[HandWritten] = HandWritten, *, rate: float = RATE, seed: int = 0
    ) -> None:
        batch, self._pair = problem.batch(), problem.pair(seed)
        self.fields = batch.x, batch.mask, batch.aux
        self.model, self.session = written(*self._pair), Session(seed, problem.device)
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


def log_normal(x: Tensor, location: Tensor, sigma: Tensor) -> Tensor:
    """The log-density of a normal law."""
    return -0.5 * ((x - location) / sigma).square() - sigma.log() - 0.5 * math.log(2 * math.pi)


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
