"""Gradients through missing levels: bias and noise of the three ways of `discrete`, against enumeration.

    python benchmarks/discrete_gradients.py --draws 400

One self-masked column of levels, three auxiliary ones; the latent is drawn once, so that what is left to chance
are the levels.  With K particles the objective of drawn levels is E log (1/K) Σ_k w(z_k, x_k) over x_k ~ p(x | z_k),
which is summed over all combinations of levels; that of summed levels is log (1/K) Σ_k Σ_x p(x | z_k) w(z_k, x).
"""

from __future__ import annotations

import argparse
import itertools
from typing import NamedTuple

import pandas as pd
import pyro
import pyro.poutine as poutine
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from pyro_mnar import ImportanceWeightedELBO, Table
from pyro_mnar.datasets.one_kind import OF_KIND, one_kind
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.models import LatentDependent
from pyro_mnar.models.decoding import DISCRETE

LEVELS = ("binary", "ordinal", "categorical")
ROWS = 40


class Setting(NamedTuple):
    """A table, models that differ in what becomes of missing levels, a guide, and noise of z of shape
    ``(particles, rows, latent_dim)``.
    """

    table: Table
    models: dict[str, LatentDependent]
    guide: ZeroImpute
    noise: Tensor

    def parameters(self, model: LatentDependent) -> list[Tensor]:
        """Of model and guide."""
        return [*model.parameters(), *self.guide.parameters()]


def setting(kind: str, particles: int, seed: int = 0) -> Setting:
    """The same parameters in all models, none of them at zero, and masks that depend on levels strongly."""
    data = one_kind(kind, seed, rows=ROWS)
    table = Table.from_frame(data.frame, kinds={"y": OF_KIND[kind]}, auxiliary=["c0", "c1", "c2"])
    models = {name: LatentDependent(table, latent_dim=1, seed=seed, discrete=name) for name in DISCRETE}
    guide = ZeroImpute(table, 1, hidden=[5], seed=seed)
    for module in (*models.values(), guide):
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                spread = 2.0 if name.startswith("mechanism") else 0.5
                parameter.add_(spread * torch.randn(parameter.shape, generator=generator))
    noise = torch.randn(particles, ROWS, 1, generator=torch.Generator().manual_seed(seed + 1))
    return Setting(table, models, guide, noise)


def enumerated(given: Setting, *, summed: bool) -> tuple[float, Tensor]:
    """Bound per row in nats, and its gradient, summing over levels (each particle's, or all particles' together)."""
    batch, model = given.table.batch(), given.models["summed"]
    z, log_proposal = _latent(given)
    fn = model.decoder(z)
    points = torch.as_tensor(given.table.schema.columns[0].points, dtype=batch.x.dtype)
    missing = ~batch.mask[:, 0]

    proposed = model.prior(batch.aux).log_prob(z) - log_proposal
    log_level, log_given_level = [], []
    for point in points:
        x = batch.x.masked_fill(missing.unsqueeze(-1), point.item()).expand(*z.shape[:-1], 1)
        log_level.append(fn.log_prob(x).squeeze(-1))
        logits = model.mechanism(x, z).squeeze(-1)
        log_given_level.append(torch.where(missing, logsigmoid(-logits), logsigmoid(logits)))
    levels = torch.stack(log_level)  # [level, particle, row]; at observed cells every level is the observed one
    weights = proposed + torch.stack(log_given_level)
    count = len(z)
    observed_bound = (weights[0] + levels[0]).logsumexp(0)
    if summed:
        missing_bound = (weights + levels).logsumexp(0).logsumexp(0)
    else:
        missing_bound = torch.zeros(len(batch))
        for chosen in itertools.product(range(len(points)), repeat=count):
            each = list(range(count))
            probability = levels[list(chosen), each].sum(0).exp()
            missing_bound = missing_bound + probability * weights[list(chosen), each].logsumexp(0)
    bound = (torch.where(missing, missing_bound, observed_bound) - torch.tensor(float(count)).log()).sum()
    return bound.item() / len(batch), _flat(
        torch.autograd.grad(bound, given.parameters(model), allow_unused=True), given
    )


def drawn(given: Setting, discrete: str, draws: int) -> Tensor:
    """Gradients of the objective's estimate; ``(draws, parameters)``."""
    batch, model = given.table.batch(), given.models[discrete]
    objective, found = ImportanceWeightedELBO(len(given.noise), max_plate_nesting=1), []
    for _ in range(draws):
        trace = poutine.trace(given.guide).get_trace(batch)
        trace.nodes["z"]["value"] = _latent(given)[0]
        bound = -objective.differentiable_loss(model, poutine.replay(given.guide, trace=trace), batch)
        found.append(_flat(torch.autograd.grad(bound, given.parameters(model), allow_unused=True), given))
    return torch.stack(found)


def measure(kind: str, particles: int, draws: int, seed: int = 0) -> pd.DataFrame:
    """A line for each of ``DISCRETE``: ``bias`` of the mean gradient and ``noise`` of one, in lengths of the exact one.

    ``error`` is what chance alone would make of the bias; ``bound`` is the objective in nats per row.
    """
    lines = {}
    torch.manual_seed(seed)
    given = setting(kind, particles, seed)
    for discrete in DISCRETE:
        with pyro.get_param_store().scope():  # one model each
            bound, gradient = enumerated(given, summed=discrete == "summed")
        with pyro.get_param_store().scope():
            found = drawn(given, discrete, draws)
        noise = found.var(0).sum().sqrt()
        length = gradient.norm()
        bias = (found.mean(0) - gradient).norm() / length
        lines[discrete] = [bound, bias.item(), (noise / draws**0.5 / length).item(), (noise / length).item()]
    return pd.DataFrame.from_dict(lines, orient="index", columns=["bound", "bias", "error", "noise"])


def _latent(given: Setting) -> tuple[Tensor, Tensor]:
    """z and log q(z)."""
    fn = poutine.trace(given.guide).get_trace(given.table.batch()).nodes["z"]["fn"]
    z = fn.base_dist.loc + fn.base_dist.scale * given.noise
    return z, fn.log_prob(z)


def _flat(gradients: tuple[Tensor | None, ...], given: Setting) -> Tensor:
    parameters = given.parameters(given.models["summed"])
    filled = [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, parameters, strict=True)]
    return torch.cat([gradient.flatten() for gradient in filled])


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    for kind, particles in itertools.product(LEVELS, (1, 5)):
        table = measure(kind, particles, options.draws, options.seed)
        print(f"{kind}, K = {particles}", table.round(4).to_string(), sep="\n", flush=True)


if __name__ == "__main__":
    main()
