"""The same step in JAX: ``jit`` over ``lax.scan``, Optax's Adam, random numbers drawn inside; pip install jax optax."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import replace

import torch
from contenders import LEAST_NOISE, RATE, UNIT, Run
from problem import PARTICLES, Problem
from torch import nn


def have_jax() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in ("jax", "optax"))


def jax_scan(problem: Problem) -> Run:
    """Steps of which each takes the whole table by its rows; as many in one call as are asked for."""
    import jax
    import jax.numpy as jnp
    import optax

    batch = problem.table.batch()
    table = [jnp.asarray(value.numpy()) for value in (batch.x, batch.mask, batch.aux)]
    model, guide = replace(problem, device="cpu").pair()
    dtype, latent = table[0].dtype, problem.latent_dim

    def dense(layer: nn.Linear) -> tuple[jax.Array, jax.Array]:
        return jnp.asarray(layer.weight.detach().numpy().T, dtype), jnp.asarray(layer.bias.detach().numpy(), dtype)

    def array(parameter: torch.Tensor) -> jax.Array:
        return jnp.asarray(parameter.detach().numpy(), dtype)

    parameters = {
        "encoder": [dense(layer) for layer in guide.encoder if isinstance(layer, nn.Linear)],
        "prior": [dense(model.prior.parameters_of_u)],
        "linear": [dense(model.decoder.network.linear)],
        "correction": [dense(layer) for layer in model.decoder.network.correction if isinstance(layer, nn.Linear)],
        "log_noise": array(model.decoder.likelihood.log_noise),
        "middle": array(model.mechanism.raw_intercept),
        "steepness": array(model.mechanism.raw_slope),
    }

    def network(layers: list, values: jax.Array) -> jax.Array:
        for weight, bias in layers[:-1]:
            values = jnp.tanh(values @ weight + bias)
        weight, bias = layers[-1]
        return values @ weight + bias

    def loss(p: dict, key: jax.Array, rows: jax.Array) -> jax.Array:
        x, mask, u = (value[rows] for value in table)
        observed = mask.astype(dtype)
        key_z, key_x = jax.random.split(key)
        mean, raw = jnp.split(network(p["encoder"], jnp.concatenate([x, observed, u], -1)), 2, -1)
        scale = jax.nn.softplus(raw + UNIT)
        noise = jax.random.normal(key_z, (PARTICLES, len(x), latent), dtype)
        z = mean + scale * noise
        prior_mean, prior_raw = jnp.split(network(p["prior"], u), 2, -1)
        prior_scale = jax.nn.softplus(prior_raw + UNIT)
        location = network(p["linear"], z) + network(p["correction"], z)
        sigma = jnp.maximum(jnp.exp(p["log_noise"]), LEAST_NOISE)
        drawn = jnp.where(mask, x, location + sigma * jax.random.normal(key_x, location.shape, dtype))
        logits = p["middle"] * jnp.cosh(p["steepness"]) + jnp.sinh(p["steepness"]) * drawn
        log_x = -0.5 * ((drawn - location) / sigma) ** 2 - jnp.log(sigma) - 0.5 * math.log(2 * math.pi)
        log_r = observed * jax.nn.log_sigmoid(logits) + (1 - observed) * jax.nn.log_sigmoid(-logits)
        log_z = -0.5 * ((z - prior_mean) / prior_scale) ** 2 - jnp.log(prior_scale)
        log_q = -0.5 * noise**2 - jnp.log(scale)
        log_w = (jnp.where(mask, log_x, 0.0) + log_r).sum(-1) + (log_z - log_q).sum(-1)
        return -(jax.scipy.special.logsumexp(log_w, 0) - math.log(PARTICLES)).mean()

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
