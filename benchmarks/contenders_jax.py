"""The same step in JAX: ``jit`` over ``lax.scan``, Optax's Adam, random numbers drawn inside; pip install jax optax.

Missing numbers are summed out.  Shapes are fixed under ``jit``, so what that takes is computed of observed cells too.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from contenders import LEAST_NOISE, RATE, UNIT, Run
from problem import PARTICLES, Problem
from torch import Tensor, nn

from pyro_mnar.distributions.probit_mixtures import PROBITS
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.models import GINA

Array = Any  # JAX's, which may be missing


def have_jax() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in ("jax", "optax"))


def parameters_of(model: GINA, guide: ZeroImpute) -> dict[str, Any]:
    """Those of a pair, as arrays: weights and biases of each layer, numbers by column."""
    import jax.numpy as jnp

    def array(parameter: Tensor) -> Array:
        return jnp.asarray(parameter.detach().numpy())

    def dense(layers: Iterable[nn.Module]) -> list[tuple[Array, Array]]:
        return [(array(layer.weight.T), array(layer.bias)) for layer in layers if isinstance(layer, nn.Linear)]

    return {
        "encoder": dense(guide.encoder),
        "prior": dense([model.prior.parameters_of_u]),
        "linear": dense([model.decoder.network.linear]),
        "correction": dense(model.decoder.network.correction),
        "log_noise": array(model.decoder.likelihood.log_noise),
        "middle": array(model.mechanism.raw_intercept),
        "steepness": array(model.mechanism.raw_slope),
    }


def negative_bound(p: dict[str, Any], x: Array, mask: Array, u: Array, noise: Array) -> Array:
    """Per row, given the latents' standard normal numbers; ``(particles, rows, latents)``."""
    import jax
    import jax.numpy as jnp

    log_weights, variances = jnp.log(jnp.asarray(PROBITS["logit"].weights, x.dtype)), PROBITS["logit"].variances

    def network(layers: list[tuple[Array, Array]], values: Array) -> Array:
        for weight, bias in layers[:-1]:
            values = jnp.tanh(values @ weight + bias)
        weight, bias = layers[-1]
        return values @ weight + bias

    def log_odds(values: Array) -> Array:
        return p["middle"] * jnp.cosh(p["steepness"]) + jnp.sinh(p["steepness"]) * values

    mean, raw = jnp.split(network(p["encoder"], jnp.concatenate([x, mask.astype(x.dtype), u], -1)), 2, -1)
    scale = jax.nn.softplus(raw + UNIT)
    z = mean + scale * noise
    prior_mean, prior_raw = jnp.split(network(p["prior"], u), 2, -1)
    prior_scale = jax.nn.softplus(prior_raw + UNIT)
    location = network(p["linear"], z) + network(p["correction"], z)
    sigma = jnp.maximum(jnp.exp(p["log_noise"]), LEAST_NOISE)
    log_x = -0.5 * ((x - location) / sigma) ** 2 - jnp.log(sigma) - 0.5 * math.log(2 * math.pi)
    spread = jnp.asarray(variances, x.dtype) + jnp.square(jnp.sinh(p["steepness"]) * sigma)[:, None]
    bounds = -log_odds(location)[..., None] * jax.lax.rsqrt(spread)
    log_missing = jax.scipy.special.logsumexp(log_weights + jax.scipy.special.log_ndtr(bounds), -1)
    log_cells = jnp.where(mask, log_x + jax.nn.log_sigmoid(log_odds(x)), log_missing)
    log_z = -0.5 * ((z - prior_mean) / prior_scale) ** 2 - jnp.log(prior_scale)
    log_q = -0.5 * noise**2 - jnp.log(scale)
    log_w = log_cells.sum(-1) + (log_z - log_q).sum(-1)
    return -(jax.scipy.special.logsumexp(log_w, 0) - math.log(PARTICLES)).mean()


def jax_scan(problem: Problem) -> Run:
    """Steps of which each takes the whole table by its rows; as many in one call as are asked for."""
    import jax
    import jax.numpy as jnp
    import optax

    batch = problem.table.batch()
    table = [jnp.asarray(value.numpy()) for value in (batch.x, batch.mask, batch.aux)]
    dtype, latent = table[0].dtype, problem.latent_dim
    parameters = parameters_of(*replace(problem, device="cpu").pair())

    def loss(p: dict, key: Array, rows: Array) -> Array:
        few = [value[rows] for value in table]
        return negative_bound(p, *few, jax.random.normal(key, (PARTICLES, len(few[0]), latent), dtype))

    optimiser = optax.adam(RATE)

    def step(carry: tuple, varying: tuple) -> tuple:
        p, state = carry
        value, gradient = jax.value_and_grad(loss)(p, *varying)
        update, state = optimiser.update(gradient, state)
        return (optax.apply_updates(p, update), state), value

    scan = jax.jit(lambda carry, key, rows: jax.lax.scan(step, carry, (jax.random.split(key, len(rows)), rows)))
    carry, key = (parameters, optimiser.init(parameters)), jax.random.PRNGKey(0)

    def run(count: int) -> None:
        nonlocal carry, key
        rows = jnp.tile(jnp.arange(len(batch)), (count, 1))
        key, fresh = jax.random.split(key)
        carry, values = scan(carry, fresh, rows)
        values.block_until_ready()

    return run
