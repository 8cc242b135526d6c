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
from pyro_mnar.infer.objective import ImportanceWeightedELBO, Particles
from pyro_mnar.infer.parameters import buffers_kept, trainable_parameters
from pyro_mnar.infer.sites import is_summed_out, missing_sites
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.table import Table
from pyro_mnar.training.fitted import Fit

PARTICLES = 200  # of each of the two sets
PARTICLES_SUMMED = 10  # where numbers are summed out, which leaves weights less spread
COST_OF_SUMMING = 40  # times that of drawing them
MOST_PARAMETERS = 300
LEAST_ROWS, MOST_ROWS = 200, 2000
ELEMENTS = 20_000_000  # particles × rows × columns, over all evaluations: some five seconds
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
    if 4 * curvature.affordable(count) < min(LEAST_ROWS, len(table)):
        return Errors(None, f"none: {count} parameters of the mask take too long; fit(..., bootstrap=M) gives some")
    with buffers_kept(fit.model):
        curvature.draw(count)
        first = curvature.score().sum(0)
        rest = (first != 0) & ~of_mask
        everything = count + int(rest.sum())
        held = everything > MOST_PARAMETERS or curvature.affordable(everything) < LEAST_ROWS
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
        sites = missing_sites(ImportanceWeightedELBO(1).particles(fit.model, fit.guide, few).model_trace).values()
        sums = any(is_summed_out(site) and not isinstance(site["fn"].base_dist.fn, Levels) for site in sites)
        self.particles = PARTICLES_SUMMED if sums else PARTICLES
        self.cost = 2 * self.particles * table.schema.num_columns * (COST_OF_SUMMING if sums else 1)
        self.objective = ImportanceWeightedELBO(self.particles)

    def affordable(self, evaluations: int) -> int:
        """How many rows can be looked at."""
        return min(MOST_ROWS, len(self.table), max(1, ELEMENTS // (self.cost * evaluations)))

    def draw(self, evaluations: int) -> None:
        """Draw the particles, for as many rows as so many evaluations allow, spread evenly over the table."""
        count = min(len(self.table), max(LEAST_ROWS, self.affordable(evaluations)))
        chosen = np.unique(np.linspace(0, len(self.table) - 1, count).round().astype(int))
        self.factor = len(self.table) / len(chosen)
        at_once = max(1, ELEMENTS_AT_ONCE // (self.particles * self.table.schema.num_columns))
        source = self.table.source(self.device)
        self.draws = []
        for rows in torch.from_numpy(chosen).to(self.device).split(at_once):
            batch = source.take(rows)
            run = [self.objective.particles(self.fit.model, self.fit.guide, batch) for _ in range(2)]
            self.draws.append(_Draws(batch, (run[0], run[1])))
        self.moving = sites_that_move_weights(self.fit.model, self.fit.guide, (self.draws[0].batch,), {})

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
