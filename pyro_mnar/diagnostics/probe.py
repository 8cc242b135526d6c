"""What a model function says of its latents at the rows of a table: how many there are, their prior, the decoder's
slopes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import pyro.poutine as poutine
import torch
from jaxtyping import Float
from pyro.poutine import Trace
from torch import Tensor

from pyro_mnar.infer.session import Session
from pyro_mnar.infer.sites import (
    Site,
    column_distribution,
    columns_of,
    holds_columns,
    is_shared,
    sample_sites,
    stochastic_sites,
)
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.positions import spread_evenly
from pyro_mnar.tables.table import Table

MOST_ROWS = 512
MOST_COLUMNS = 200  # a slope costs one backward pass a column


@dataclass(frozen=True, eq=False)
class ModelProbe:
    """One run of a model over some rows of a table, latents from the guide where it proposes them.

    Attributes:
        batch: The rows.
        latent_dim: H, over all latents of a row that are not missing values.
        prior: Mean and scale of p(Z|U) per row, ``(rows, latent_dim)`` each; None if it is no product of normals.
        jacobian: ∂E[x|z]/∂z, standardised, ``(rows, columns, latent_dim)``; None if there is no ``partially_observed``
            site with a mean, or more than 200 columns.
        scores_mask: Whether the model observes anything beside the columns.
    """

    batch: Batch
    latent_dim: int
    prior: tuple[Float[Tensor, "rows latent_dim"], Float[Tensor, "rows latent_dim"]] | None
    jacobian: Float[Tensor, "rows columns latent_dim"] | None
    scores_mask: bool

    @classmethod
    def of(
        cls, model: Callable[[Batch], Any], guide: Callable[[Batch], Any], table: Table, session: Session
    ) -> ModelProbe:
        """Run the pair on up to 512 rows, spread evenly over the table."""
        chosen = spread_evenly(len(table), MOST_ROWS)
        batch = table.source().take(torch.from_numpy(chosen)).to(session.device)
        with session.running():
            with torch.no_grad():
                drawn = poutine.trace(guide).get_trace(batch)
                trace = poutine.trace(poutine.replay(model, trace=drawn)).get_trace(batch)
            sites = _latents(trace)
            jacobian = _jacobian(model, sites, batch) if sites and batch.num_columns <= MOST_COLUMNS else None
        widths = [_flat(site["value"], batch).shape[-1] for site in sites.values()]
        prior = _normal_prior(sites, batch)
        return cls(batch, sum(widths), prior, jacobian, scores_mask(trace))


def scores_mask(trace: Trace) -> bool:
    """Whether a model observes something in the rows' plate beside the columns."""
    observed = [s for s in stochastic_sites(trace).values() if s["is_observed"] and not is_shared(s)]
    return not all(holds_columns(site) for site in observed)


def _latents(trace: Trace) -> dict[str, Site]:
    """Real latents of a row that stand for no column."""
    return {
        name: site
        for name, site in sample_sites(trace).items()
        if not site["is_observed"]
        and not is_shared(site)
        and not holds_columns(site)
        and site["value"].is_floating_point()
    }


def empty_guide(batch: Batch) -> None:
    """A guide without sites: every latent is proposed from the model."""


def _flat(value: Tensor, batch: Batch) -> Float[Tensor, "rows width"]:
    return value.reshape(len(batch), -1)


def _normal_prior(sites: dict[str, Site], batch: Batch) -> tuple[Tensor, Tensor] | None:
    means, scales = [], []
    for site in sites.values():
        fn = site["fn"]
        while isinstance(fn, (dist.Independent, dist.MaskedDistribution)):
            fn = fn.base_dist
        if not isinstance(fn, dist.Normal):
            return None
        means.append(_flat(fn.loc.detach().expand(site["value"].shape), batch))
        scales.append(_flat(fn.scale.detach().expand(site["value"].shape), batch))
    return (torch.cat(means, -1), torch.cat(scales, -1)) if means else None


def _jacobian(model: Callable, sites: dict[str, Site], batch: Batch) -> Tensor | None:
    with torch.enable_grad():
        leaves = {name: site["value"].detach().clone().requires_grad_() for name, site in sites.items()}
        means = _means(poutine.trace(poutine.condition(model, data=leaves)).get_trace(batch), batch)
        if means is None:
            return None
        rows = []
        for d in range(batch.num_columns):
            if means[:, d].requires_grad:
                found = torch.autograd.grad(
                    means[:, d].sum(), list(leaves.values()), retain_graph=True, allow_unused=True
                )
            else:
                found = [None] * len(leaves)
            slopes = [torch.zeros_like(z) if g is None else g for g, z in zip(found, leaves.values(), strict=True)]
            rows.append(torch.cat([_flat(slope, batch) for slope in slopes], -1))
    return torch.stack(rows, dim=1)


def _means(trace: Trace, batch: Batch) -> Tensor | None:
    """E[x|z] of the columns, or None if a site has none."""
    means = torch.zeros_like(batch.x)
    found = False
    for site in sample_sites(trace).values():
        if not (holds_columns(site) and site["is_observed"]):
            continue
        try:
            mean = column_distribution(site["fn"]).mean
        except NotImplementedError:
            return None
        at = torch.tensor(columns_of(site), device=mean.device)
        means = means + torch.zeros_like(batch.x).index_copy(-1, at, mean.expand(len(batch), -1))
        found = True
    return means if found else None
