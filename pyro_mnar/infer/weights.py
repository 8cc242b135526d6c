"""The importance weights of one run of guide and model, per particle and row.

log w_k = log p(x_o, r, z^k) - log q(z^k),    L = (N / B) · Σ_rows v · log( (1/K) Σ_k w_k )

with v the number of times that a row counts: a survey's weight, a bootstrap's, 1 by default.  It stands outside the
logarithm, so that a row of weight two is the row twice (a weighted pseudo-likelihood; Skinner, 1989).  Latents that all
rows share add their own terms once (:mod:`pyro_mnar.infer.shared`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from jaxtyping import Float
from pyro.distributions.util import scale_and_mask
from pyro.poutine import Trace
from pyro.poutine.indep_messenger import CondIndepStackFrame
from torch import Tensor

from pyro_mnar.distributions.densities import log_density
from pyro_mnar.infer.shared import refuse_left_out, shared_density
from pyro_mnar.infer.sites import Site, is_shared, stochastic_sites


class TracePair:
    """Traces of guide and model over one set of particles, and which of their sites enter the weight.

    ``model_sites``, ``guide_sites`` and ``from_model`` stand in the row plate; ``shared_model_sites`` and
    ``shared_guide_sites`` outside it.  ``drawn`` is the guide's trace with the draws as they depend on its parameters;
    ``guide_trace`` is the same trace, or its replay with the draws as leaves of the graph.  ``moving`` names sites
    whose values were to be summed out, and move the weight all the same (:mod:`pyro_mnar.infer.level_dependence`).
    """

    def __init__(
        self,
        model_trace: Trace,
        guide_trace: Trace,
        drawn: Trace,
        plate: str,
        particle_dim: int | None,
        moving: frozenset[str] = frozenset(),
        row_weight: Float[Tensor, " rows"] | None = None,
    ) -> None:
        self.model_trace, self.guide_trace, self.drawn = model_trace, guide_trace, drawn
        self.plate, self.particle_dim, self.moving, self.row_weight = plate, particle_dim, moving, row_weight
        of_guide, of_model = (list(stochastic_sites(trace).values()) for trace in (guide_trace, model_trace))
        self.guide_sites, sites = (
            [s for s in of_trace if not is_shared(s, plate)] for of_trace in (of_guide, of_model)
        )
        self.shared_guide_sites, self.shared_model_sites = (
            [s for s in of_trace if is_shared(s, plate)] for of_trace in (of_guide, of_model)
        )
        self.model_sites = [s for s in sites if s["is_observed"] or s["name"] in guide_trace]
        self.from_model = [s for s in sites if not s["is_observed"] and s["name"] not in guide_trace]
        model_names = {s["name"] for s in of_model}
        for site in of_guide:
            if site["name"] not in model_names and not site["infer"].get("is_auxiliary"):
                raise ValueError(f"site {site['name']!r}: in the guide, but the model has no such latent site")
        refuse_left_out(self.shared_model_sites, set(guide_trace.nodes))
        self.frame = self._row_frame([*sites, *self.guide_sites])
        self.scale = (self.frame.full_size or self.frame.size) / self.frame.size

    def log_prob(self, site: Site) -> Float[Tensor, "particles rows"]:
        """Log-density of a site per particle and row, with scales and masks, without the minibatch factor."""
        log_prob = log_density(site["fn"], site["value"], *site["args"], **site["kwargs"])
        scale = site["scale"] if self.scale == 1 else site["scale"] / self.scale
        log_prob = scale_and_mask(log_prob, scale, site["mask"])
        kept = {self.frame.dim, self.particle_dim}
        inner = [dim for dim in range(-log_prob.dim(), 0) if dim not in kept]
        log_prob = log_prob.sum(inner) if inner else log_prob
        return log_prob if self.particle_dim is not None else log_prob.unsqueeze(0)

    def log_weights(self) -> Float[Tensor, "particles rows"]:
        """Per row, log w_k without the minibatch factor."""
        log_p = self.total(self.model_sites)
        return log_p - self.total(self.guide_sites) if self.guide_sites else log_p

    def over_rows(self, values: Float[Tensor, "*particles rows"]) -> Float[Tensor, ""]:
        """(N / B) Σ v · values: each row as often as it counts."""
        return self.scale * (values if self.row_weight is None else self.row_weight * values).sum()

    def shared(self) -> Float[Tensor, ""] | float:
        """Of the latents that all rows share, log p(θ) - log q(θ); 0.0 if there are none."""
        return shared_density(self.shared_model_sites) - shared_density(self.shared_guide_sites)

    def total(self, sites: list[Site]) -> Float[Tensor, "particles rows"]:
        """Summed log-density of several sites, at least one."""
        first, *others = (self.log_prob(site) for site in sites)
        return sum(others, start=first)

    def _row_frame(self, sites: list[Site]) -> CondIndepStackFrame:
        frames = [f for site in sites for f in site["cond_indep_stack"] if f.name == self.plate]
        if not frames:
            raise ValueError(
                f"the model has no sample site in the row plate {self.plate!r}, so there is nothing to weigh: write it"
                " inside `with rows(batch):`, or name its plate with plate=..."
            )
        if any((f.size, f.full_size, f.dim) != (frames[0].size, frames[0].full_size, frames[0].dim) for f in frames):
            raise ValueError(f"model and guide use the row plate {self.plate!r} with different sizes or dimensions")
        return frames[0]


def bound_of(runs: Sequence[TracePair], log_weights: Float[Tensor, "particles rows"]) -> Float[Tensor, ""]:
    """L of a minibatch: of the weights of some runs, all particles together."""
    return runs[0].over_rows(log_weights.logsumexp(0) - math.log(len(log_weights)))
