"""The objective: an importance-weighted bound per row (paper section 4), for any Pyro model and guide.

For a minibatch of B of N rows, with z^k ~ q(z | x_o, r) and x_u^k ~ p(x_u | z^k),

    w_k = p(x_o | z^k) · p(r | x_o, x_u^k, z^k)^β · p(z^k | u) / q(z^k | x_o, r)
    L   = (N / B) · Σ_rows log( (1/K) Σ_k w_k )

The log-mean-exp is per row and the minibatch factor stands outside the logarithm, so L is an unbiased estimate of the
full-table bound.  (Pyro's ``RenyiELBO`` puts the factor inside, where it bounds nothing: pyro-ppl/pyro#2220.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import pyro
import pyro.poutine as poutine
import torch
from jaxtyping import Float
from pyro.distributions.util import scale_and_mask
from pyro.infer import ELBO
from pyro.infer.util import is_validation_enabled
from pyro.poutine import Trace
from pyro.poutine.indep_messenger import CondIndepStackFrame
from pyro.poutine.util import prune_subsample_sites, site_is_subsample
from pyro.util import check_site_shape
from torch import Tensor

from pyro_mnar.densities import log_density
from pyro_mnar.parameters import check_parameters
from pyro_mnar.primitives import ROWS

PARTICLES = "num_particles_vectorized"  # Pyro's own name for the plate over particles
Site = dict[str, Any]  # narrower than Pyro's type of it, in which every entry may be None


class Particles(NamedTuple):
    """One run of guide and model.

    Attributes:
        log_weights: log w_k per row, without the minibatch factor; ``(particles, rows)``.
        scale: The minibatch factor N/B.
        model_trace: The model's sites.
        guide_trace: The guide's sites.
    """

    log_weights: Float[Tensor, "particles rows"]
    scale: float
    model_trace: Trace
    guide_trace: Trace


class ImportanceWeightedELBO(ELBO):
    """Importance-weighted ELBO with one weight per row and particle.

    Works as Pyro's own objectives do: ``SVI(model, guide, optim, loss=ImportanceWeightedELBO(num_particles=5))``, or
    ``ImportanceWeightedELBO(num_particles=5)(model, guide)`` as a ``torch.nn.Module`` that returns the loss.

    A latent site that the model has and the guide leaves out is proposed from the model, so its density cancels and
    is not computed.  Scales set inside the row plate (β, annealing) are part of the weight; the row plate's own
    factor is not. Sites that cannot be reparameterised get a leave-one-out score-function term (VIMCO).

    Args:
        num_particles: K, particles per row.
        estimator: ``"pathwise"``, or ``"doubly-reparameterized"`` for the guide's gradient of Tucker et al. (2018),
            whose signal-to-noise ratio does not fall with K.
        plate: Name of the row plate; every sample site and factor stands inside it.
        vectorize_particles: Run all particles at once, in a plate left of the model's own; False runs them in turn, for
            models that do not broadcast.
        max_plate_nesting: Number of plate dimensions of the model; found by running it once if not given.

    Raises:
        ValueError: If ``num_particles`` is below 1 or the estimator is unknown; when called, if a site stands outside
            the row plate, the guide has a latent that the model lacks, or the parameter store holds another module's
            parameters.

    References:
        Burda et al. (2016), Importance weighted autoencoders; Ipsen et al. (2021), not-MIWAE; Ma & Zhang (2021),
        section 4; Mnih & Rezende (2016), Variational inference for Monte Carlo objectives; Tucker et al. (2018),
        Doubly reparameterized gradient estimators for Monte Carlo objectives.
    """

    def __init__(
        self,
        num_particles: int = 5,
        estimator: str = "pathwise",
        plate: str = ROWS,
        *,
        vectorize_particles: bool = True,
        max_plate_nesting: float = math.inf,
    ) -> None:
        if num_particles < 1:
            raise ValueError(f"num_particles: expected at least 1, got {num_particles}")
        if estimator not in _ESTIMATORS:
            raise ValueError(f"estimator: expected one of {sorted(_ESTIMATORS)}, got {estimator!r}")
        super().__init__(num_particles=num_particles)
        self.vectorize_particles = vectorize_particles
        self.max_plate_nesting = max_plate_nesting
        self.estimator = estimator
        self.plate = plate

    def differentiable_loss(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> Tensor:
        """-L as a scalar whose gradient is an unbiased estimate of the bound's (0-dimensional tensor)."""
        estimator = _ESTIMATORS[self.estimator]
        return -estimator.bound(self._runs(model, guide, args, kwargs, as_leaves=estimator.needs_leaves))

    def loss(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> float:
        """-L as a number, without gradients."""
        with torch.no_grad():
            return -_bound(*self._weights(model, guide, args, kwargs)).item()

    def loss_and_grads(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> float:
        """-L as a number, after adding its gradient to the parameters', as ``SVI`` expects."""
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        if loss.requires_grad:
            loss.backward()
        return loss.item()

    def particles(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> Particles:
        """Run guide and model once over all particles and weigh them, without gradients.

        Raises:
            ValueError: If particles are not vectorised.
        """
        if not self.vectorize_particles:
            raise ValueError("particles are drawn at once: expected vectorize_particles=True")
        with torch.no_grad():
            (run,) = self._runs(model, guide, args, kwargs)
            return Particles(_log_weights(run), run.scale, run.model_trace, run.guide_trace)

    def moved(
        self, run: Particles, values: Mapping[str, Tensor], model: Callable, *args: Any, **kwargs: Any
    ) -> Particles:
        """The same particles with other values of latents of the model, weighed anew, without gradients.

        The proposal's density stays that of the values that were drawn.

        Args:
            run: Of :meth:`particles`, with the same model and arguments.
            values: New values, by site.
            model: The model.
            *args: The model's arguments.
            **kwargs: The same.
        """
        over_particles = pyro.plate(PARTICLES, self.num_particles, dim=-1 - int(self.max_plate_nesting))
        trace = run.model_trace.copy()  # shallow: sites are replaced, not written to
        for name, value in values.items():
            trace.nodes[name] = {**trace.nodes[name], "value": value}
        with torch.no_grad():
            model_trace = poutine.trace(poutine.replay(over_particles(model), trace=trace)).get_trace(*args, **kwargs)
            moved = _Run(model_trace, run.guide_trace, run.guide_trace, self.plate, over_particles.dim)
            return Particles(_log_weights(moved), moved.scale, model_trace, run.guide_trace)

    def is_bound(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> bool:
        """Whether -loss bounds log p(x_o, r): no scale inside the row plate tempers a site."""
        with torch.no_grad():
            run = self._runs(model, guide, args, kwargs)[0]
        return all(bool((torch.as_tensor(s["scale"]) == run.scale).all()) for s in [*run.model_sites, *run.guide_sites])

    def _weights(self, model: Callable, guide: Callable, args: Any, kwargs: Any) -> tuple[Tensor, float]:
        runs = self._runs(model, guide, args, kwargs)
        return torch.cat([_log_weights(run) for run in runs]), runs[0].scale

    def _runs(self, model: Callable, guide: Callable, args: Any, kwargs: Any, *, as_leaves: bool = False) -> list[_Run]:
        check_parameters(model, guide)
        if math.isinf(self.max_plate_nesting):
            self.max_plate_nesting = _find_plate_nesting(model, guide, args, kwargs)
        count, dim = self.num_particles, None
        if self.vectorize_particles:
            count, dim = 1, -1 - int(self.max_plate_nesting)
            over_particles = pyro.plate(PARTICLES, self.num_particles, dim=dim)
            model, guide = over_particles(model), over_particles(guide)

        runs = []
        for _ in range(count):
            drawn, proposal = None, guide
            if as_leaves:
                drawn = poutine.trace(guide).get_trace(*args, **kwargs)
                proposal = poutine.replay(guide, trace=_with_leaves(drawn))
            model_trace, guide_trace = self._get_trace(model, proposal, args, kwargs)
            runs.append(_Run(model_trace, guide_trace, drawn or guide_trace, self.plate, dim))
        return runs

    def _get_trace(self, model: Callable, guide: Callable, args: Any, kwargs: Any) -> tuple[Trace, Trace]:
        guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
        model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(*args, **kwargs)
        return model_trace, guide_trace


def sample_sites(trace: Trace) -> dict[str, Site]:
    """What a trace sampled or observed, by name, without the rows that plates drew."""
    nodes = trace.nodes.items()
    return {n: cast(Site, s) for n, s in nodes if s["type"] == "sample" and not site_is_subsample(s)}


class _Run:
    """Traces of guide and model over one set of particles, and what of them enters the weight.

    ``drawn`` is the guide's trace with the draws as they depend on its parameters; ``guide_trace`` is the same trace,
    or its replay with the draws as leaves of the graph.
    """

    def __init__(
        self, model_trace: Trace, guide_trace: Trace, drawn: Trace, plate: str, particle_dim: int | None
    ) -> None:
        self.model_trace, self.guide_trace, self.drawn = model_trace, guide_trace, drawn
        self.plate, self.particle_dim = plate, particle_dim
        self.guide_sites, sites = _stochastic(guide_trace), _stochastic(model_trace)
        self.model_sites = [s for s in sites if s["is_observed"] or s["name"] in guide_trace]
        self.from_model = [s for s in sites if not s["is_observed"] and s["name"] not in guide_trace]
        self.frame = self._row_frame([*sites, *self.guide_sites])
        self.scale = (self.frame.full_size or self.frame.size) / self.frame.size
        model_names = {s["name"] for s in sites}
        for site in self.guide_sites:
            if site["name"] not in model_names and not site["infer"].get("is_auxiliary"):
                raise ValueError(f"site {site['name']!r}: in the guide, but the model has no such latent site")

    def log_prob(self, site: Site) -> Float[Tensor, "particles rows"]:
        """Log-density of a site per particle and row, with scales and masks, without the minibatch factor."""
        log_prob = log_density(site["fn"], site["value"], *site["args"], **site["kwargs"])
        scale = site["scale"] if self.scale == 1 else site["scale"] / self.scale
        log_prob = scale_and_mask(log_prob, scale, site["mask"])
        kept = {self.frame.dim, self.particle_dim}
        inner = [dim for dim in range(-log_prob.dim(), 0) if dim not in kept]
        log_prob = log_prob.sum(inner) if inner else log_prob
        return log_prob if self.particle_dim is not None else log_prob.unsqueeze(0)

    def total(self, sites: list[Site]) -> Float[Tensor, "particles rows"]:
        """Summed log-density of several sites, at least one."""
        first, *others = (self.log_prob(site) for site in sites)
        return sum(others, start=first)

    def _row_frame(self, sites: list[Site]) -> CondIndepStackFrame:
        frames = []
        for site in sites:
            frame = next((f for f in site["cond_indep_stack"] if f.name == self.plate), None)
            if frame is None:
                raise ValueError(
                    f"site {site['name']!r} stands outside the row plate {self.plate!r}, so rows would share a weight:"
                    " move it inside `with rows(batch):`, make it a parameter, or name the plate with plate=..."
                )
            frames.append(frame)
        if not frames:
            raise ValueError("the model has no sample site, so there is nothing to weigh")
        if any((f.size, f.full_size, f.dim) != (frames[0].size, frames[0].full_size, frames[0].dim) for f in frames):
            raise ValueError(f"model and guide use the row plate {self.plate!r} with different sizes or dimensions")
        return frames[0]


def _stochastic(trace: Trace) -> list[Site]:
    return [site for site in sample_sites(trace).values() if not site["infer"].get("_deterministic")]


def _log_weights(run: _Run) -> Float[Tensor, "particles rows"]:
    log_p = run.total(run.model_sites)
    return log_p - run.total(run.guide_sites) if run.guide_sites else log_p


def _bound(log_weights: Float[Tensor, "particles rows"], scale: float) -> Float[Tensor, ""]:
    return scale * (log_weights.logsumexp(0) - math.log(len(log_weights))).sum()


def _pathwise(runs: list[_Run]) -> Tensor:
    """Gradients through the draws; leave-one-out score-function terms where there is no such way."""
    log_weights = torch.cat([_log_weights(run) for run in runs])
    bound = _bound(log_weights, runs[0].scale)
    if not _unreparameterised(runs[0]):
        return bound
    scores = torch.cat([run.total(_unreparameterised(run)) for run in runs])
    signal = _leave_one_out_signal(log_weights.detach())
    surrogate = runs[0].scale * (signal * scores).sum()
    return bound + surrogate - surrogate.detach()


def _unreparameterised(run: _Run) -> list[Site]:
    """Sites whose draws need a score-function term; one that the weight does not depend on has none."""
    sites = [*run.guide_sites, *run.from_model]
    return [site for site in sites if not (site["fn"].has_rsample or site["infer"].get("summed_out"))]


def _leave_one_out_signal(log_weights: Float[Tensor, "particles rows"]) -> Float[Tensor, "particles rows"]:
    """L minus what L would be with w_k replaced by the geometric mean of the others (VIMCO, equation 7)."""
    count = len(log_weights)
    bound = log_weights.logsumexp(0) - math.log(count)
    if count == 1:
        return bound.expand_as(log_weights)
    others = (log_weights.sum(0) - log_weights) / (count - 1)
    swapped = log_weights.expand(count, *log_weights.shape).clone()  # [k, j, row]: weights with the k-th one replaced
    swapped.diagonal(dim1=0, dim2=1).copy_(others.T)
    return bound - (swapped.logsumexp(1) - math.log(count))


def _doubly_reparameterised(runs: list[_Run]) -> Tensor:
    """With draws z_k as leaves, Σ ŵ_k ∂log p(·, z_k) for the model and Σ ŵ_k² ∂log w_k/∂z_k · ∂z_k for the guide.

    Replaying the guide on the leaves keeps how one latent's density depends on another's value, which detaching the
    distributions' parameters would lose.  Noise of sites proposed from the model counts as part of the model.
    """
    for site in (site for run in runs for site in _unreparameterised(run)):
        raise ValueError(f"site {site['name']!r} cannot be reparameterised: use estimator='pathwise'")
    log_p = torch.cat([run.total(run.model_sites) for run in runs])
    has_guide = bool(runs[0].guide_sites)
    log_weights = log_p - torch.cat([run.total(run.guide_sites) for run in runs]) if has_guide else log_p
    normalised = log_weights.detach().softmax(0)

    surrogate = (normalised * log_p).sum()
    drawn = [sample_sites(run.drawn) for run in runs]
    leaves = [
        (s["value"], of[s["name"]]["value"]) for run, of in zip(runs, drawn, strict=True) for s in run.guide_sites
    ]
    if leaves and torch.is_grad_enabled():
        squared = (normalised.square() * log_weights).sum()
        slopes = torch.autograd.grad(squared, [leaf for leaf, _ in leaves], retain_graph=True)
        surrogate = surrogate + sum((slope * value).sum() for slope, (_, value) in zip(slopes, leaves, strict=True))
    bound = _bound(log_weights.detach(), runs[0].scale)
    return bound + runs[0].scale * (surrogate - surrogate.detach())


def _with_leaves(trace: Trace) -> Trace:
    """The same trace with every draw a leaf that asks for a gradient."""
    leaves = trace.copy()  # shallow: the sites are still the other trace's, so they are replaced, not written to
    for site in _stochastic(trace):
        if site["value"].is_floating_point():
            leaf = leaves.nodes[site["name"]].copy()
            leaf["value"] = site["value"].detach().requires_grad_()
            leaves.nodes[site["name"]] = leaf
    return leaves


class _Estimator(NamedTuple):
    bound: Callable[[list[_Run]], Tensor]
    needs_leaves: bool


_ESTIMATORS = {
    "pathwise": _Estimator(_pathwise, needs_leaves=False),
    "doubly-reparameterized": _Estimator(_doubly_reparameterised, needs_leaves=True),
}


def _find_plate_nesting(model: Callable, guide: Callable, args: Any, kwargs: Any) -> int:
    """Run guide and model once, without particles, to count plate dimensions and check shapes; draws no random numbers.

    Raises:
        ValueError: If a site's shape does not fit its plates (checked while Pyro's validation is enabled).
    """
    with poutine.block(), torch.random.fork_rng():
        guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
        model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(*args, **kwargs)
    guide_trace, model_trace = prune_subsample_sites(guide_trace), prune_subsample_sites(model_trace)
    sites = [site for trace in (model_trace, guide_trace) for site in trace.nodes.values() if site["type"] == "sample"]
    if is_validation_enabled():
        model_trace.compute_log_prob()
        guide_trace.compute_log_prob()
        for site in sites:
            # Declared an int, though Pyro's own ELBO calls it with infinity, as here.
            check_site_shape(site, max_plate_nesting=math.inf)  # pyright: ignore[reportArgumentType]
    return max((-f.dim for site in sites for f in site["cond_indep_stack"] if f.dim is not None), default=0)
