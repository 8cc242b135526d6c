"""Time of one training step: captured and compiled, plain Pyro, hand-written PyTorch, JAX; one model in all.

    OMP_NUM_THREADS=1 python benchmarks/steps.py  # 100 rows x 3 columns, a small network
    OMP_NUM_THREADS=1 python benchmarks/steps.py --columns 1000 --latent-dim 32 --hidden 128 128 --rows 128
    OMP_NUM_THREADS=1 python benchmarks/steps.py --restarts 8

GINA with one auxiliary column, K = 5, Adam: encoder tanh network, linear decoder plus a correction, learned noise,
self-masking.  All contenders run in one process, in turn, for several rounds; a ratio is the median over the rounds of
the ratios within a round, with quartiles.  With --cpu-time, processor time is counted in place of the clock's, which
other processes on the machine disturb less.  JAX is left out where it is not installed (pip install jax optax).
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, RenyiELBO
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from pyro_mnar import Batch, ImportanceWeightedELBO, Table, propose_missing, rows
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.isolation import Session
from pyro_mnar.models import GINA
from pyro_mnar.parameters import trainable_parameters
from pyro_mnar.steps import Steps
from pyro_mnar.together import StepsTogether

PARTICLES, RATE = 5, 1e-3
UNIT = 0.5413248546129181  # softplus(UNIT) = 1
LEAST_NOISE = 1e-3
Run = Callable[[int], None]  # so many steps


@dataclass(frozen=True)
class Problem:
    """A table and the sizes of the networks.

    Attributes:
        table: One auxiliary column beside the modelled ones; a minibatch is the whole of it.
        latent_dim: H.
        hidden: Widths of the encoder.
    """

    table: Table
    latent_dim: int
    hidden: tuple[int, ...]

    @classmethod
    def of(cls, num_rows: int = 100, columns: int = 3, latent_dim: int = 2, hidden: Sequence[int] = (10,)) -> Problem:
        random = np.random.default_rng(0)
        values = random.normal(size=(num_rows, columns + 1)).astype(np.float32)
        values[:, :columns][random.random((num_rows, columns)) < 0.3] = np.nan
        frame = pd.DataFrame(values, columns=[*(f"x{d}" for d in range(columns)), "u"])
        return cls(Table.from_frame(frame, auxiliary=["u"]), latent_dim, tuple(hidden))

    def pair(self, seed: int = 0) -> tuple[GINA, ZeroImpute]:
        model = GINA(self.table, latent_dim=self.latent_dim, seed=seed)
        return model, ZeroImpute(self.table, self.latent_dim, hidden=self.hidden, seed=seed + 1)

    def loss(self, session: Session, seed: int = 0) -> tuple[Callable[[Batch], Tensor], list[Tensor]]:
        """The loss of a pair, and its parameters."""
        model, guide = self.pair(seed)
        objective = ImportanceWeightedELBO(PARTICLES)

        def loss(batch: Batch) -> Tensor:
            return objective.differentiable_loss(model, guide, batch) / batch.size

        with session.running():
            loss(self.table.batch())
            return loss, trainable_parameters(model, guide)


def captured(problem: Problem, mode: str = "inductor", most: int = 100_000) -> Run:
    """What ``fit(compile=mode)`` runs."""
    batch, session = problem.table.batch(), Session(0)
    loss, parameters = problem.loss(session)
    steps = Steps(loss, parameters, batch, torch.full((most,), RATE).double(), mode)
    everything = torch.arange(len(batch))

    def run(count: int) -> None:
        with session.running():
            for _ in steps.run(everything.expand(count, -1)):
                pass

    run(2)
    if steps.mode != mode:
        raise RuntimeError(f"expected mode {mode!r}, got {steps.mode!r}")
    return run


def restarts(problem: Problem, members: int = 8, mode: str = "inductor", most: int = 100_000) -> Run:
    """What ``fit(restarts=members, compile=mode)`` runs: one step of every member."""
    batch, sessions, steps = problem.table.batch(), [Session(seed) for seed in range(members)], []
    for seed, session in enumerate(sessions):
        loss, parameters = problem.loss(session, seed)
        steps.append(Steps(loss, parameters, batch, torch.full((most,), RATE).double(), mode))
    together = StepsTogether(steps, sessions, len(batch))
    if mode == "inductor":
        together.compile(len(batch))
    everything, done = torch.arange(len(batch)), 0

    def run(count: int) -> None:
        nonlocal done
        for losses in together.run(everything.expand(count, members, -1), done):
            losses.tolist()
        done += count

    run(2)
    return run


def plain_pyro(problem: Problem) -> Run:
    """Pyro's ``SVI`` with ``RenyiELBO``, particles vectorised; its guide has to propose the missing values."""
    model, guide = problem.pair()
    batch, session = problem.table.batch(), Session(0)

    def proposing(batch: Batch) -> None:
        inputs = torch.cat([batch.x, batch.mask.to(batch.x.dtype), batch.aux], dim=-1)
        mean, raw = guide.encoder(inputs).chunk(2, dim=-1)
        with rows(batch):
            z = pyro.sample("z", dist.Normal(mean, softplus(raw + UNIT)).to_event(1))
            propose_missing("x", model.decoder(z), batch)

    objective = RenyiELBO(alpha=0, num_particles=PARTICLES, vectorize_particles=True, max_plate_nesting=1)
    svi = SVI(model, proposing, pyro.optim.Adam({"lr": RATE}), objective)

    def run(count: int) -> None:
        with session.running():
            for _ in range(count):
                svi.step(batch)

    run(2)
    return run


class HandWritten(nn.Module):
    """The same model without Pyro."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        batch = problem.table.batch()
        columns, latent = batch.num_columns, problem.latent_dim
        widths = [2 * columns + 1, *problem.hidden]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.Tanh()]
        self.encoder = nn.Sequential(*layers, nn.Linear(widths[-1], 2 * latent))
        self.prior = nn.Linear(1, 2 * latent)
        self.linear = nn.Linear(latent, columns)
        self.correction = nn.Sequential(nn.Linear(latent, 10), nn.Tanh(), nn.Linear(10, columns))
        self.log_noise = nn.Parameter(torch.full((columns,), -2.0))
        self.intercept, self.slope = nn.Parameter(torch.zeros(columns)), nn.Parameter(torch.zeros(columns))
        self.x, self.mask, self.observed, self.aux = batch.x, batch.mask, batch.mask.float(), batch.aux
        self.latent = latent

    def forward(self) -> Tensor:
        """The negative bound per row."""
        mean, raw = self.encoder(torch.cat([self.x, self.observed, self.aux], -1)).chunk(2, -1)
        scale = softplus(raw + UNIT)
        noise = torch.randn(PARTICLES, len(self.x), self.latent)
        z = mean + scale * noise
        prior_mean, prior_raw = self.prior(self.aux).chunk(2, -1)
        prior_scale = softplus(prior_raw + UNIT)
        location = self.linear(z) + self.correction(z)
        sigma = self.log_noise.exp().clamp_min(LEAST_NOISE)
        x = torch.where(self.mask, self.x, location + sigma * torch.randn_like(location))
        logits = self.intercept + self.slope * x
        log_x = -0.5 * ((self.x - location) / sigma).square() - sigma.log() - 0.5 * math.log(2 * math.pi)
        log_r = -binary_cross_entropy_with_logits(logits, self.observed.expand_as(logits), reduction="none")
        log_z = -0.5 * ((z - prior_mean) / prior_scale).square() - prior_scale.log()
        log_q = -0.5 * noise.square() - scale.log()
        log_w = (torch.where(self.mask, log_x, 0.0) + log_r).sum(-1) + (log_z - log_q).sum(-1)
        return -(log_w.logsumexp(0) - math.log(PARTICLES)).mean()


def hand_written(problem: Problem) -> Run:
    """PyTorch by hand, with fused Adam."""
    torch.manual_seed(0)
    model = HandWritten(problem)
    optimiser = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)

    def run(count: int) -> None:
        for _ in range(count):
            loss = model()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    run(2)
    return run


def jax_scan(problem: Problem, per_call: int = 100) -> Run:
    """JAX: ``jit`` over ``lax.scan``, with Optax's Adam and random numbers drawn inside."""
    import jax
    import jax.numpy as jnp
    import optax

    batch = problem.table.batch()
    x, mask, u = (jnp.asarray(value.numpy()) for value in (batch.x, batch.mask, batch.aux))
    observed = mask.astype(x.dtype)
    columns, latent = x.shape[1], problem.latent_dim
    random = np.random.default_rng(0)

    def dense(before: int, after: int) -> tuple[jax.Array, jax.Array]:
        bound = 1 / math.sqrt(before)
        return jnp.asarray(random.uniform(-bound, bound, (before, after)), x.dtype), jnp.zeros(after, x.dtype)

    widths = [2 * columns + 1, *problem.hidden, 2 * latent]
    parameters = {
        "encoder": [dense(a, b) for a, b in pairwise(widths)],
        "prior": dense(1, 2 * latent),
        "linear": dense(latent, columns),
        "correction": [dense(latent, 10), dense(10, columns)],
        "log_noise": jnp.full(columns, -2.0, x.dtype),
        "intercept": jnp.zeros(columns, x.dtype),
        "slope": jnp.zeros(columns, x.dtype),
    }

    def network(layers: list, values: jax.Array) -> jax.Array:
        for weight, bias in layers[:-1]:
            values = jnp.tanh(values @ weight + bias)
        weight, bias = layers[-1]
        return values @ weight + bias

    def loss(p: dict, key: jax.Array) -> jax.Array:
        key_z, key_x = jax.random.split(key)
        mean, raw = jnp.split(network(p["encoder"], jnp.concatenate([x, observed, u], -1)), 2, -1)
        scale = jax.nn.softplus(raw + UNIT)
        noise = jax.random.normal(key_z, (PARTICLES, len(x), latent), x.dtype)
        z = mean + scale * noise
        prior_mean, prior_raw = jnp.split(network([p["prior"]], u), 2, -1)
        prior_scale = jax.nn.softplus(prior_raw + UNIT)
        location = network([p["linear"]], z) + network(p["correction"], z)
        sigma = jnp.maximum(jnp.exp(p["log_noise"]), LEAST_NOISE)
        drawn = jnp.where(mask, x, location + sigma * jax.random.normal(key_x, location.shape, x.dtype))
        logits = p["intercept"] + p["slope"] * drawn
        log_x = -0.5 * ((x - location) / sigma) ** 2 - jnp.log(sigma) - 0.5 * math.log(2 * math.pi)
        log_r = observed * jax.nn.log_sigmoid(logits) + (1 - observed) * jax.nn.log_sigmoid(-logits)
        log_z = -0.5 * ((z - prior_mean) / prior_scale) ** 2 - jnp.log(prior_scale)
        log_q = -0.5 * noise**2 - jnp.log(scale)
        log_w = (jnp.where(mask, log_x, 0.0) + log_r).sum(-1) + (log_z - log_q).sum(-1)
        return -(jax.scipy.special.logsumexp(log_w, 0) - math.log(PARTICLES)).mean()

    optimiser = optax.adam(RATE)

    def step(carry: tuple, key: jax.Array) -> tuple:
        p, state = carry
        value, gradient = jax.value_and_grad(loss)(p, key)
        update, state = optimiser.update(gradient, state)
        return (optax.apply_updates(p, update), state), value

    scan = jax.jit(lambda carry, key: jax.lax.scan(step, carry, jax.random.split(key, per_call)))
    held = {"carry": (parameters, optimiser.init(parameters)), "key": jax.random.PRNGKey(0)}

    def run(count: int) -> None:
        for _ in range(max(1, count // per_call)):
            held["key"], key = jax.random.split(held["key"])
            held["carry"], values = scan(held["carry"], key)
            values.block_until_ready()

    run(per_call)
    return run


def have_jax() -> bool:
    try:
        import jax
        import optax
    except ImportError:
        return False
    return bool(jax and optax)


def contenders(problem: Problem, members: int = 8) -> dict[str, Run]:
    """Every way to take a step, ready to run; with members, that many restarts at once too."""
    runs: dict[str, Run] = {
        "captured, inductor": captured(problem),
        "captured, graph": captured(problem, "graph"),
        "eager": captured(problem, "eager"),
        "plain Pyro, RenyiELBO": plain_pyro(problem),
        "hand-written PyTorch": hand_written(problem),
    }
    if have_jax():
        runs["JAX"] = jax_scan(problem)
    if members:
        runs[f"{members} restarts, inductor"] = restarts(problem, members)
        runs[f"{members} restarts, graph"] = restarts(problem, members, "graph")
    return runs


def measure(runs: dict[str, Run], rounds: int = 9, count: int = 100, cpu_time: bool = False) -> pd.DataFrame:
    """Milliseconds a step; one row a round, one column a contender."""
    clock = time.process_time if cpu_time else time.perf_counter
    measured = []
    for _ in range(rounds):
        row = {}
        for name, run in runs.items():
            start = clock()
            run(count)
            row[name] = (clock() - start) / count * 1e3
        measured.append(row)
    return pd.DataFrame(measured)


def ratios(measured: pd.DataFrame, of: str = "captured, inductor") -> pd.DataFrame:
    """Median and quartiles over the rounds of one contender's time over each other's."""
    quotients = measured[[of]].to_numpy() / measured
    table = quotients.quantile([0.5, 0.25, 0.75]).T
    table.columns = ["ratio", "lower quartile", "upper quartile"]
    return table.assign(**{"ms a step": measured.median()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--columns", type=int, default=3)
    parser.add_argument("--latent-dim", type=int, default=2)
    parser.add_argument("--hidden", type=int, nargs="+", default=[10])
    parser.add_argument("--restarts", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--cpu-time", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    problem = Problem.of(options.rows, options.columns, options.latent_dim, options.hidden)
    measured = measure(contenders(problem, options.restarts), options.rounds, options.steps, options.cpu_time)
    print("captured, inductor over the others")
    print(ratios(measured).round(3).to_string())
    if options.restarts:
        for mode in ("inductor", "graph"):
            name = f"{options.restarts} restarts, {mode}"
            print(f"\n{name} over the others, and over {options.restarts} runs in turn")
            measured["in turn"] = measured[f"captured, {mode}"] * options.restarts
            print(ratios(measured, name).round(3).to_string())


if __name__ == "__main__":
    main()
