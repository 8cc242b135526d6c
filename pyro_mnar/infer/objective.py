"""The objective: an importance-weighted bound per row (paper section 4), for any Pyro model and guide.

For a minibatch of B of N rows, with z^k ~ q(z | x_o, r) and x_u^k ~ p(x_u | z^k),

    w_k = p(x_o | z^k) · p(r | x_o, x_u^k, z^k)^β · p(z^k | u) / q(z^k | x_o, r)
    L   = (N / B) · Σ_rows v · log( (1/K) Σ_k w_k )

with v the row's weight, :attr:`Batch.weight <pyro_mnar.Batch>`, 1 by default.  Latents outside the row plate, θ, add
log p(θ) - log q(θ) once (:mod:`pyro_mnar.infer.shared`).
The log-mean-exp is per row; its weight and the minibatch factor stand outside the logarithm, so L is an unbiased
estimate of the full-table bound.  (Pyro's ``RenyiELBO`` puts the factor inside, where it bounds nothing:
pyro-ppl/pyro#2220.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, cast

import pyro.poutine as poutine
import torch
from jaxtyping import Float
from pyro.infer import ELBO
from pyro.poutine import Trace
from torch import Tensor

from pyro_mnar.infer.arguments import check_callable
from pyro_mnar.infer.estimators import ESTIMATORS, with_leaves
from pyro_mnar.infer.level_dependence import sites_that_move_weights
from pyro_mnar.infer.parameters import check_parameters
from pyro_mnar.infer.particles import Particles
from pyro_mnar.infer.plates import plate_nesting
from pyro_mnar.infer.row_independence import check_rows_alone
from pyro_mnar.infer.shared import OverParticles, shared_part
from pyro_mnar.infer.sites import Site, is_summed_out
from pyro_mnar.infer.undrawn import WithoutDrawing
from pyro_mnar.infer.weights import TracePair, bound_of
from pyro_mnar.messages import check_boolean, check_is, check_one_of, is_one_of, shown, whole_number
from pyro_mnar.primitives import ROWS
from pyro_mnar.tables.batch import Batch

PARTICLES = "num_particles_vectorized"  # Pyro's own name for the plate over particles


class ImportanceWeightedELBO(ELBO):
    """Importance-weighted ELBO with one weight per row and particle.

    Works as Pyro's own objectives do: ``SVI(model, guide, optim, loss=ImportanceWeightedELBO(num_particles=5))``, or
    ``ImportanceWeightedELBO(num_particles=5)(model, guide)`` as a ``torch.nn.Module`` that returns the loss.

    A latent site that the model has and the guide leaves out is proposed from the model, so its density cancels and
    is not computed.  Scales set inside the row plate (β, annealing) are part of the weight; the row plate's own
    factor is not. Sites that cannot be reparameterised get a leave-one-out score-function term (VIMCO).

    Latents outside the row plate (priors on parameters, effects of groups) are shared by all rows: each is drawn once
    and its terms count once, unscaled.  The guide has to hold them; ``AutoNormal(shared_latents(model))`` does.

    Args:
        num_particles: K, particles per row.
        estimator: ``"pathwise"``, or ``"doubly-reparameterized"`` for the guide's gradient of Tucker et al. (2018),
            whose signal-to-noise ratio does not fall with K.
        plate: Name of the row plate; what stands outside it is shared by all rows.
        vectorize_particles: Run all particles at once, in a plate left of the model's own; False runs them in turn, for
            models that do not broadcast.
        max_plate_nesting: Number of plate dimensions of the model; found by running it once if not given.

    Raises:
        ValueError: If ``num_particles`` is below 1 or the estimator is unknown; when called, if the guide leaves out a
            latent outside the row plate or has one that the model lacks, a site outside the row plate depends on the
            rows' latents, or the parameter store holds another module's parameters.

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
        num_particles = whole_number("num_particles", num_particles)
        check_one_of("estimator", estimator, sorted(ESTIMATORS))
        check_is("plate", plate, str)
        check_boolean("vectorize_particles", vectorize_particles)
        if not is_one_of(max_plate_nesting, (math.inf,)):
            whole_number("max_plate_nesting", max_plate_nesting, 0)
        super().__init__(num_particles=num_particles)
        self.vectorize_particles = vectorize_particles
        self.max_plate_nesting = max_plate_nesting
        self.estimator = estimator
        self.plate = plate
        self._moving: frozenset[str] | None = None  # sites whose values move the weight, once that is known

    def settle(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> None:
        """Find out once what does not depend on the rows: the plates, whether rows stand for themselves, and whether
        missing values are summed out.

        The first loss does so by itself, if it is not captured.
        """
        self._find_plates(model, guide, args, kwargs)
        if self._moving is None:
            self.check_rows(model, guide, *args, **kwargs)
            self._moving = sites_that_move_weights(model, guide, args, kwargs)

    def check_rows(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> None:
        """Refuse a model in which rows or particles depend on each other, or a density on a gap's placeholder.

        Raises:
            ValueError: Names the site (:mod:`pyro_mnar.infer.row_independence`).
        """
        self._find_plates(model, guide, args, kwargs)
        three = OverParticles(PARTICLES, 3, self._over_particles().dim, self.plate)
        check_rows_alone(model, guide, args, kwargs, self.plate, three if self.vectorize_particles else None)

    def differentiable_loss(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> Tensor:
        """-L as a scalar whose gradient is an unbiased estimate of the bound's (0-dimensional tensor)."""
        estimator = ESTIMATORS[self.estimator]
        return -estimator.bound(self._runs(model, guide, args, kwargs, as_leaves=estimator.needs_leaves))

    def loss(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> float:
        """-L as a number, without gradients."""
        with torch.no_grad():
            runs = self._runs(model, guide, args, kwargs)
            log_weights = torch.cat([run.log_weights() for run in runs])
            return -float(bound_of(runs, log_weights) + runs[0].shared())

    def loss_and_grads(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> float:
        """-L as a number, after adding its gradient to the parameters', as ``SVI`` expects."""
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        if loss.requires_grad:
            loss.backward()
        return loss.item()

    def particles(
        self, model: Callable, guide: Callable, *args: Any, undrawn: frozenset[str] = frozenset(), **kwargs: Any
    ) -> Particles:
        """Run guide and model once over all particles and weigh them, without gradients.

        Args:
            model: The model.
            guide: Its guide.
            *args: Arguments of both.
            undrawn: Sites whose values are summed out and not needed: they take a likely value.
            **kwargs: The same.

        Raises:
            ValueError: If particles are not vectorised.
        """
        self._check_vectorised()
        with torch.no_grad():
            with WithoutDrawing(only=undrawn) if undrawn else nullcontext():
                (run,) = self._runs(model, guide, args, kwargs, draws_all=True)
            return Particles(run.log_weights(), run.scale, run.model_trace, run.guide_trace, self.plate)

    def log_weights(
        self, model: Callable, guide: Callable, *args: Any, **kwargs: Any
    ) -> Float[Tensor, "particles rows"]:
        """Weights of :meth:`particles` alone, without gradients; values that are summed out of them are not drawn.

        Raises:
            ValueError: If particles are not vectorised.
        """
        self._check_vectorised()
        with torch.no_grad():
            self._find_plates(model, guide, args, kwargs)
        if self._moving is None:
            self._moving = sites_that_move_weights(model, guide, args, kwargs, quiet=True)
        with torch.no_grad():
            (run,) = self._runs(model, guide, args, kwargs)
            return run.log_weights()

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
        check_is("run", run, Particles, ", as particles() gives one")
        check_callable(model, "model")
        over_particles = self._over_particles()
        trace = run.model_trace.copy()  # shallow: sites are replaced, not written to
        for name, value in _tensors(values).items():
            if not is_one_of(name, trace.nodes):
                raise ValueError(f"values: expected sites of the model, got {shown(name)}")
            trace.nodes[name] = {**trace.nodes[name], "value": value}
        with torch.no_grad():
            model_trace = poutine.trace(poutine.replay(over_particles(model), trace=trace)).get_trace(*args, **kwargs)
            moved = TracePair(model_trace, run.guide_trace, run.guide_trace, self.plate, over_particles.dim)
            return Particles(moved.log_weights(), moved.scale, model_trace, run.guide_trace, self.plate)

    def log_joint(
        self, values: Mapping[str, Tensor], model: Callable, *args: Any, **kwargs: Any
    ) -> Float[Tensor, "particles rows"]:
        """Log p(x_o, r, latents) at given values of latents, with gradients, without the minibatch factor.

        Other latents are proposed from the model, so they cancel; values that are summed out take a likely value.

        Args:
            values: By site; the particles are their first dimension.
            model: The model.
            *args: The model's arguments.
            **kwargs: The same.
        """
        self._check_vectorised()
        check_callable(model, "model")
        over_particles = self._over_particles()
        with WithoutDrawing():
            given = poutine.condition(over_particles(model), data=dict(_tensors(values)))
            trace = poutine.trace(given).get_trace(*args, **kwargs)
        return TracePair(trace, Trace(), Trace(), self.plate, over_particles.dim).log_weights()

    def reweighed(
        self, run: Particles, model: Callable, *args: Any, moving: frozenset[str] = frozenset(), **kwargs: Any
    ) -> tuple[Float[Tensor, "particles rows"], Float[Tensor, ""] | float]:
        """Log-weights of the same draws at other parameters of the model than they were drawn at, with gradients.

        Draws and the guide's densities stay what they are.  What was proposed from the model is weighed by its density
        over the one that it was drawn from.  Beside them, the density of what stands outside the rows, such as the
        prior of a slope.

        Args:
            run: Of :meth:`particles`, with the same model and arguments.
            model: The model.
            *args: The model's arguments.
            moving: Sites whose draws move the weight although their values were to be summed out
                (:func:`~pyro_mnar.infer.level_dependence.sites_that_move_weights`).
            **kwargs: The same.
        """
        check_is("run", run, Particles, ", as particles() gives one")
        check_callable(model, "model")
        over_particles = self._over_particles()
        model_trace = poutine.trace(poutine.replay(over_particles(model), trace=run.model_trace)).get_trace(
            *args, **kwargs
        )
        now = TracePair(model_trace, run.guide_trace, run.guide_trace, self.plate, over_particles.dim)
        log_weights = now.log_weights()
        for site in now.from_model:
            if site["name"] in moving or not is_summed_out(site):
                with torch.no_grad():
                    proposed = now.log_prob(cast(Site, run.model_trace.nodes[site["name"]]))
                log_weights = log_weights + now.log_prob(site) - proposed
        return log_weights, now.shared()

    def is_bound(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> bool:
        """Whether -loss bounds log p(x_o, r): see :attr:`Particles.is_bound`."""
        with torch.no_grad():
            run = self._runs(model, guide, args, kwargs)[0]
            return Particles(run.log_weights(), run.scale, run.model_trace, run.guide_trace, self.plate).is_bound

    def _runs(
        self,
        model: Callable,
        guide: Callable,
        args: Any,
        kwargs: Any,
        *,
        as_leaves: bool = False,
        draws_all: bool = False,
    ) -> list[TracePair]:
        if torch.is_grad_enabled():
            self.settle(model, guide, *args, **kwargs)
        else:
            self._find_plates(model, guide, args, kwargs)
        count, dim = self.num_particles, None
        if self.vectorize_particles:
            count, over_particles = 1, self._over_particles()
            dim = over_particles.dim
            model, guide = over_particles(model), over_particles(guide)
        draws_all = draws_all or self._moving is None  # what moves the weight has to be drawn
        undrawn = nullcontext() if draws_all else WithoutDrawing(self._moving or frozenset())

        weights = [value.weight for value in (*args, *kwargs.values()) if isinstance(value, Batch)]
        row_weight = weights[0] if weights else None
        runs = []
        for _ in range(count):
            drawn, proposal = None, guide
            if as_leaves:
                drawn = poutine.trace(guide).get_trace(*args, **kwargs)
                proposal = poutine.replay(guide, trace=with_leaves(drawn, self.plate))
            with undrawn:
                model_trace, guide_trace = self._get_trace(model, proposal, args, kwargs)
            moving = self._moving or frozenset()
            proposed = drawn or guide_trace
            runs.append(TracePair(model_trace, guide_trace, proposed, self.plate, dim, moving, row_weight))
            if len(runs) == 1 and runs[0].shared_guide_sites:  # all particles share one draw of what all rows share
                guide = poutine.replay(guide, trace=shared_part(proposed, self.plate))
        return runs

    def _find_plates(self, model: Callable, guide: Callable, args: Any, kwargs: Any) -> None:
        """Refuse what is no pair, and count the plates where nobody has."""
        check_callable(model, "model")
        check_callable(guide, "guide")
        check_parameters(model, guide)
        if math.isinf(self.max_plate_nesting):
            self.max_plate_nesting = plate_nesting(model, guide, self.plate, args, kwargs)

    def _check_vectorised(self) -> None:
        if not self.vectorize_particles:
            raise ValueError("particles are drawn at once: expected vectorize_particles=True")

    def _over_particles(self) -> OverParticles:
        if math.isinf(self.max_plate_nesting):
            raise ValueError("max_plate_nesting: expected a number where no particles were drawn before, got inf")
        dim = -1 - int(self.max_plate_nesting)
        return OverParticles(PARTICLES, self.num_particles, dim, self.plate)

    def _get_trace(self, model: Callable, guide: Callable, args: Any, kwargs: Any) -> tuple[Trace, Trace]:
        guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
        model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(*args, **kwargs)
        return model_trace, guide_trace


def _tensors(values: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Values of sites; TypeError unless they are tensors by name."""
    check_is("values", values, Mapping)
    for name, value in values.items():
        check_is(f"values of {shown(name)}", value, Tensor)
    return values
