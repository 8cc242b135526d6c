"""How much each R depends on what causes it, at imputed values: changes of its log-odds, or on the scale of its link.

A cause is changed and everything else of a row held: the other columns, the latent, the other R.  Where the log-odds
are linear in it, the change is the slope and the same in every row; where they are not, it is a mean over rows.  So one
measure serves every model that scores its mask, whoever wrote it.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pyro.poutine as poutine
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import softplus

from pyro_mnar.graphs.graph import MissingnessGraph
from pyro_mnar.graphs.points import Cause, MaskLogOdds, Point, Roles, causes_of, nodes_of
from pyro_mnar.infer.objective import ImportanceWeightedELBO
from pyro_mnar.infer.particles import Particles
from pyro_mnar.infer.session import Session
from pyro_mnar.infer.sites import Site, sample_sites
from pyro_mnar.summaries.contrasts import Contrast, contrasts_of
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.table import Table
from pyro_mnar.training.fitted import Fit
from pyro_mnar.training.fitted_graph import recovered_graph

PARTICLES = 50  # of which each row takes one


class Term(NamedTuple):
    """One number of a summary: how the R of a column depends on a cause.

    Attributes:
        column: Whose R it is.
        cause: What it depends on.
        link: The scale of the number: ``"logit"`` (log-odds of being observed), ``"probit"``, ``"cloglog"``.
        contrast: What is changed; None for the latent, of which it is the standard deviation of what it adds.
        at: Position of the R among those of the model.
    """

    column: Hashable
    cause: Hashable
    link: str
    contrast: Contrast | None
    at: int


class Imputed(NamedTuple):
    """Where a mask is looked at.

    Attributes:
        point: A value of everything that could cause an R, for each row.
        neighbours: Of each latent, the values of the row before.
    """

    point: Point
    neighbours: dict[str, Tensor]


@dataclass(frozen=True)
class MaskDependence:
    """What is measured of a model's mask, and on which rows.

    Attributes:
        terms: One for each number.
        graph: What causes each R.
        rows: Rows to measure on.
        roles: What the model's sites are.
    """

    terms: tuple[Term, ...]
    graph: MissingnessGraph
    rows: Table
    roles: Roles

    @classmethod
    def of(cls, fit: Fit, rows: Table, *, without: Sequence[Hashable] = (), seed: int = 0) -> MaskDependence:
        """Look up what causes what.

        Args:
            fit: The fit.
            rows: Some rows in its units.
            without: Columns whose R is not asked for.
            seed: Of the points at which the model is looked at.

        Raises:
            ValueError: If the model has no mask site.
        """
        fit = fit.on("cpu")  # what a graph says of a model does not depend on where it computes
        model, graph = fit.model, recovered_graph(fit, rows, seed=seed)
        nodes, aux_nodes = nodes_of(rows, graph.nodes.latent)
        with Session(seed, store=fit.store).running(), torch.no_grad():
            roles = Roles.of(poutine.trace(model).get_trace(rows.batch()), {}, nodes)
        places: dict[Hashable, list[Cause]] = {}
        for cause in causes_of(nodes, aux_nodes):
            places.setdefault(cause.node, []).append(cause)
        r_nodes = [r for named in roles.masks.values() for r in named]
        column_of = {nodes.r(column): column for column in nodes.incomplete if column not in without}
        contrasts: dict[Hashable, list[Contrast | None]] = {nodes.latent: [None]}
        terms = []
        for at, (r, link) in enumerate(zip(r_nodes, roles.links, strict=True)):
            if r not in column_of:
                continue
            for parent in graph.parents(column_of[r]):
                if parent not in contrasts:
                    contrasts[parent] = list(contrasts_of(parent, places[parent], rows))
                terms += [Term(column_of[r], parent, link, contrast, at) for contrast in contrasts[parent]]
        return cls(tuple(terms), graph, rows, roles)

    def imputed(self, fit: Fit, batch: Batch) -> Imputed:
        """The rows with their gaps filled, and their latents, one draw of the posterior a row; within a session."""
        objective = ImportanceWeightedELBO(PARTICLES)
        run = objective.particles(fit.model, fit.guide, batch)
        # Where no particle explains a row, as under a hard threshold, one is as good as another.
        possible = run.log_weights.isfinite().any(0)
        weights = torch.where(possible, run.log_weights, 0.0).softmax(0)
        chosen = torch.multinomial(weights.T, 1).squeeze(-1)
        sites = sample_sites(run.model_trace)
        x = batch.x.clone()
        for name, columns in self.roles.values.items():
            drawn = _of_chosen(sites[name], run, chosen).to(x.dtype).reshape(len(batch), len(columns))
            x[:, columns] = torch.where(batch.mask[:, columns], x[:, columns], drawn)
        latents = {
            name: _of_chosen(sites[name], run, chosen).reshape(self.roles.shapes[name]) for name in self.roles.latents
        }
        neighbours = {name: value.roll(1, -1 - sites[name]["fn"].event_dim) for name, value in latents.items()}
        shared = {name: sites[name]["value"] for name in self.roles.parameters}
        return Imputed(Point(x, batch.aux, batch.mask, latents, shared), neighbours)

    def log_odds(self, fit: Fit, batch: Batch) -> MaskLogOdds:
        """Of every R, as a function of a point; within a session."""
        # Cells that nothing explains have log-odds too, and a block's event takes none of them away.
        everywhere = replace(batch, mask_modelled=torch.ones_like(batch.mask))
        return MaskLogOdds(fit.model, everywhere, self.roles)

    def by_row(self, fit: Fit, batch: Batch, at: Imputed) -> Float[Tensor, "rows terms"]:
        """What each term is in each row, differentiable in the model's parameters; within a session."""
        log_odds, point, links = self.log_odds(fit, batch), at.point, self.roles.links
        found: dict[int, Tensor] = {}
        for contrast in dict.fromkeys(term.contrast for term in self.terms):
            if contrast is None:
                # A row's latent against its neighbour's: two draws, whose difference has twice the variance.
                others = replace(point, latents=at.neighbours)
                change = _on(links, log_odds(others)) - _on(links, log_odds(point))
                found[id(None)] = (change.square().mean(0, keepdim=True) / 2).clamp_min(1e-12).sqrt().expand_as(change)
            else:
                change = _on(links, log_odds(contrast.high(point))) - _on(links, log_odds(contrast.low(point)))
                found[id(contrast)] = change / contrast.steps
        values = [found[id(term.contrast)][:, term.at] for term in self.terms]
        return torch.stack(values, dim=-1) if values else point.x.new_zeros(len(batch), 0)


def _on(links: list[str], log_odds: Float[Tensor, "rows masks"]) -> Float[Tensor, "rows masks"]:
    """Log-odds on the scale of the links that the model was written with."""
    columns = []
    for link, of_r in zip(links, log_odds.unbind(-1), strict=True):
        if link == "probit":  # the smaller of the two probabilities is the accurate one
            quantile = torch.special.ndtri(torch.sigmoid(-of_r.abs()))
            of_r = torch.where(of_r > 0, -quantile, quantile)
        elif link == "cloglog":
            of_r = softplus(of_r).log()
        columns.append(of_r)
    return torch.stack(columns, dim=-1)


def _of_chosen(site: Site, run: Particles, chosen: Int[Tensor, " rows"]) -> Any:
    """A site's values in the particle that each row takes, as they are without particles."""
    value, count = site["value"], len(run.log_weights)
    row_axis = value.dim() - site["fn"].event_dim - 1
    axes = [axis for axis in range(row_axis) if value.shape[axis] == count]
    if row_axis < 0 or value.shape[row_axis] != len(chosen) or not axes:
        return value
    first = value.movedim((axes[0], row_axis), (0, 1))[chosen, torch.arange(len(chosen), device=chosen.device)]
    return first.movedim(0, row_axis - 1)
