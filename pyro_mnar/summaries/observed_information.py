"""Standard errors from one fit: the curvature of log p(x_o, r | u) in the model's parameters.

With J = -∂² Σ_rows log p(x_o, r | u; λ, φ), λ the parameters that the mask sees and φ the rest, the variance of λ is

    (J_λλ - J_λφ J_φφ⁻¹ J_φλ)⁻¹

(observed information; Efron and Hinkley, 1978), and that of a function of λ by the delta method.  The evidence is the
mean weight of particles that stay where the fit drew them (:meth:`~pyro_mnar.ImportanceWeightedELBO.reweighed`), so
their noise is the same at every parameter; J is made of differences of its gradients, which any likelihood has.

Factor models have directions of φ that move nothing, as rotations of the latent do, and an estimate of J is noise
there.  Two independent sets of particles tell how large that is: no direction of φ counts as less curved than the
noise, nor as less than one, as if its standard deviation were one unit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from pyro_mnar.distributions import Levels
from pyro_mnar.infer.level_dependence import sites_that_move_weights
from pyro_mnar.infer.objective import ImportanceWeightedELBO
from pyro_mnar.infer.parameters import buffers_kept, trainable_parameters
from pyro_mnar.infer.particles import Particles
from pyro_mnar.infer.sites import columns_of, is_summed_out, missing_sites
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.table import Table
from pyro_mnar.training.fitted import Fit

PARTICLES = (500, 200, 100, 50)  # of each of the two sets, as many as time allows
PARTICLES_SUMMED = (10,)  # where numbers are summed out, which leaves weights less spread
COST_OF_SUMMING = 40  # times that of drawing them
MOST_PARAMETERS = 300
# Of fewer rows, those directions come out too curved that the data say little of.
LEAST_ROWS, MOST_ROWS = 1000, 2000
ELEMENTS = 60_000_000  # particles × rows × columns with gaps, over all evaluations: some ten seconds
ELEMENTS_AT_ONCE = 2_000_000


class Errors(NamedTuple):
    """Standard errors, or why there are none.

    Attributes:
        of_terms: One for each term; None if there are none.
        words: What they are from.
    """

    of_terms: Float[NDArray, " terms"] | None
    words: str


class _Draws(NamedTuple):
    """Some rows and two independent sets of particles."""

    batch: Batch
    sets: tuple[Particles, Particles]


def information_errors(
    fit: Fit,
    table: Table,
    terms: Callable[[], Float[Tensor, " terms"]],
    log_odds: Callable[[], Tensor],
    device: torch.device,
) -> Errors:
    """Standard errors of functions of a fit's parameters; within a session.

    Args:
        fit: The fit, whose parameters no latent of all rows is among.
        table: The rows that it was fitted to.
        terms: The functions.
        log_odds: Those of the mask at fixed values, which tell the parameters that it sees.
        device: Where to compute.
    """
    parameters = trainable_parameters(fit.model)
    if not parameters:
        return Errors(None, "none: the model has no parameters")
    with torch.enable_grad():
        slopes = _slopes(terms(), parameters)
        sees = _slopes(log_odds().tanh().sum().unsqueeze(0), parameters)[0]
    of_mask = (slopes.abs().sum(0) + sees.abs()) > 0
    count = int(of_mask.sum())
    if not count:
        return Errors(None, "none: the mask depends on no parameter")
    if count > MOST_PARAMETERS:
        return Errors(None, f"none: the mask depends on {count} parameters; fit(..., bootstrap=M) gives some")
    curvature = _Curvature(fit, table, parameters, device)
    if not curvature.can_afford(count):
        return Errors(None, f"none: {count} parameters of the mask take too long; fit(..., bootstrap=M) gives some")
    with buffers_kept(fit.model):
        curvature.draw(count)
        rest = (curvature.score()[2] != 0) & ~of_mask
        everything = count + int(rest.sum())
        held = everything > MOST_PARAMETERS or not curvature.can_afford(everything)
        chosen = torch.cat([of_mask.nonzero(), rest.nonzero()[: 0 if held else None]]).squeeze(-1)
        if not held:
            curvature.draw(everything)
        found = curvature.at(chosen).double().cpu().numpy()
    return _errors(slopes[:, chosen].double().cpu().numpy(), found, count, held=held)


def _errors(
    slopes: Float[NDArray, "terms parameters"],
    found: Float[NDArray, "3 parameters parameters"],
    count: int,
    *,
    held: bool,
) -> Errors:
    """From curvature by two sets of particles and by both together, the mask's parameters first."""
    information, difference = found[2], (found[0] - found[1]) / 2
    used = np.abs(np.diag(information)[:count]) > 1e-9 * max(1e-300, np.abs(np.diag(information)).max())
    own = np.flatnonzero(used)
    rest = np.arange(count, len(information))
    of_own = information[np.ix_(own, own)]
    if len(rest):
        noise = np.abs(np.linalg.eigvalsh(difference[np.ix_(rest, rest)])).max()
        values, vectors = np.linalg.eigh(information[np.ix_(rest, rest)])
        across = information[np.ix_(own, rest)] @ vectors
        of_own = of_own - (across / np.maximum(values, max(1.0, noise))) @ across.T
    least, greatest = np.linalg.eigvalsh(of_own)[[0, -1]] if len(own) else (0.0, 0.0)
    if least <= 1e-6 * greatest or not np.isfinite(greatest):
        return Errors(
            None,
            "none: the bound does not fall off in every direction of the mask's parameters, so the data say little of"
            " some, or the fit has not converged; fit(..., bootstrap=M) gives intervals",
        )
    variances = np.einsum("ti,ij,tj->t", slopes[:, own], np.linalg.inv(of_own), slopes[:, own])
    unseen = np.abs(slopes[:, np.flatnonzero(~used)]).sum(1) > 0
    errors = np.where(unseen, np.nan, np.sqrt(variances))
    if held:
        return Errors(
            errors, "observed information of the mechanism's parameters alone, all others held, so too narrow"
        )
    return Errors(errors, "observed information of the model's parameters, the guide's draws held")


class _Curvature:
    """Gradients of Σ log p(x_o, r | u) by two sets of particles, and their differences."""

    def __init__(self, fit: Fit, table: Table, parameters: list, device: torch.device) -> None:
        self.fit, self.table, self.parameters, self.device = fit, table, parameters, device
        self.draws: list[_Draws] = []
        few = table.source(device).take(torch.arange(min(2, len(table)), device=device))
        run = ImportanceWeightedELBO(10).particles(fit.model, fit.guide, few)
        sites = missing_sites(run.model_trace).values()
        sums = any(is_summed_out(site) and not isinstance(site["fn"].base_dist.fn, Levels) for site in sites)
        of_one = (COST_OF_SUMMING if sums else 1) * 2 * max(1, sum(len(columns_of(site)) for site in sites))
        # Where nothing is drawn that weights depend on, one particle is the exact likelihood.
        is_exact = sums and bool((run.log_weights.amax(0) - run.log_weights.amin(0) < 1e-6).all())
        self.counts = (1,) if is_exact else PARTICLES_SUMMED if sums else PARTICLES
        self.cost = of_one

    def can_afford(self, evaluations: int) -> bool:
        """Whether enough rows can be looked at so many times."""
        return self._rows(self.counts[-1], evaluations) >= min(LEAST_ROWS, len(self.table))

    def draw(self, evaluations: int) -> None:
        """Draw the particles, as many as so many evaluations allow, for rows spread evenly over the table."""
        least = min(LEAST_ROWS, len(self.table))
        particles = next((n for n in self.counts if self._rows(n, evaluations) >= least), self.counts[-1])
        chosen = np.linspace(0, len(self.table) - 1, self._rows(particles, evaluations)).round().astype(int)
        self.factor = len(self.table) / len(chosen)
        at_once = max(1, ELEMENTS_AT_ONCE // (particles * self.table.schema.num_columns))
        self.objective, source = ImportanceWeightedELBO(particles), self.table.source(self.device)
        self.draws = []
        for rows in torch.from_numpy(chosen).to(self.device).split(at_once):
            batch = source.take(rows)
            run = [self.objective.particles(self.fit.model, self.fit.guide, batch) for _ in range(2)]
            self.draws.append(_Draws(batch, (run[0], run[1])))
        self.moving = sites_that_move_weights(self.fit.model, self.fit.guide, (self.draws[0].batch,), {})

    def _rows(self, particles: int, evaluations: int) -> int:
        return min(MOST_ROWS, len(self.table), max(1, ELEMENTS // (self.cost * particles * evaluations)))

    def score(self) -> Float[Tensor, "3 parameters"]:
        """The gradient, by each set of particles and by both together."""
        total: Any = 0.0
        for number, (batch, sets) in enumerate(self.draws):
            with torch.enable_grad():
                (first, prior), (second, _) = (
                    self.objective.reweighed(run, self.fit.model, batch, moving=self.moving) for run in sets
                )
                first, second = first.logsumexp(0), second.logsumexp(0)
                both = torch.stack([first.sum(), second.sum(), torch.logaddexp(first, second).sum()])
                total = total + _slopes(self.factor * both + (prior if number == 0 else 0.0), self.parameters)
        return total

    def at(self, chosen: Int[Tensor, " chosen"]) -> Float[Tensor, "3 chosen chosen"]:
        """-∂² in the chosen parameters, by differences of the gradient, made symmetric."""
        columns, here = [], self.score()
        for position in chosen.tolist():
            with _moved(self.parameters, position) as step:
                columns.append(-(self.score() - here)[:, chosen] / step)
        found = torch.stack(columns, dim=1)
        return (found + found.mT) / 2


@contextlib.contextmanager
def _moved(parameters: list, position: int) -> Iterator[float]:
    """One number among the parameters, moved a little and put back; gives by how much.

    Memory is exchanged and not written to, for traces hold views of parameters as they were drawn with.
    """
    for parameter in parameters:
        if position < parameter.numel():
            break
        position -= parameter.numel()
    kept = parameter.data
    moved = kept.clone().flatten()
    # A third derivative of the size of the second one makes the error 0.05 %, and 0.5 % where rounding forbids less.
    step = (1e-3 if parameter.dtype == torch.float64 else 1e-2) * max(1.0, abs(float(moved[position])))
    moved[position] += step
    try:
        parameter.data = moved.view_as(kept)
        yield step
    finally:
        parameter.data = kept


def _slopes(values: Float[Tensor, " values"], parameters: list) -> Float[Tensor, "values parameters"]:
    """The gradient of each value in all parameters side by side, zero in those that it does not depend on."""
    rows = []
    for value in values.unbind():
        found: list[Tensor | None] = [None] * len(parameters)
        if value.requires_grad:
            found = list(torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True))
        pairs = zip(found, parameters, strict=True)
        rows.append(torch.cat([(torch.zeros_like(p) if g is None else g).detach().flatten() for g, p in pairs]))
    return torch.stack(rows)
