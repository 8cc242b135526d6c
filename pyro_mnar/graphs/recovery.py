"""From a model to its graph: which X, U, Z and R each R_d depends on in the code, to check that it says what was meant.

The log-odds log p(r_d = 1) - log p(r_d = 0) of every mask site are watched while X, U, Z and R are set, independently
of each other, to many random values: one of them at a time is moved (which finds thresholds and categories), and slopes
are taken.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pyro.poutine as poutine
import torch
from pyro.distributions import constraints
from torch import Tensor

from pyro_mnar.graphs.graph import MissingnessGraph
from pyro_mnar.graphs.points import Cause, MaskLogOdds, Point, Roles, causes_of, nodes_of
from pyro_mnar.infer.arguments import check_callable
from pyro_mnar.infer.parameters import perturbed, trainable_parameters, unmirrored
from pyro_mnar.infer.session import Session, callers_store
from pyro_mnar.infer.sites import Site, sample_sites
from pyro_mnar.messages import check_is, number_from_zero, whole_number
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.table import Table

MOST_ROWS = 256


def missingness_graph_of(
    model: Callable[[Batch], Any],
    batch: Batch | Table,
    *,
    sites: Mapping[str, Any] | None = None,
    num_points: int = 500,
    perturbation: float = 0.3,
    seed: int = 0,
    latent: str | None = None,
) -> MissingnessGraph:
    """Recover the missingness graph of any Pyro model function.

    Only direct dependence counts: X and Z are set apart from each other, whatever the decoder does, and x to the same
    value whether seen or not.  Latents outside the rows' plate count as parameters.

    Args:
        model: Any callable of a :class:`~pyro_mnar.Batch`.
        batch: Rows to run it on, or a table, whose names the graph then has; columns of a batch are numbered, and its
            auxiliary variables called ``"U0"``, ``"U1"``, ....
        sites: What the sites of a model not made with ``partially_observed`` and ``observe_mask`` are: the names of the
            nodes that a site's columns are, or the one name of a site without columns, such as ``{"r": ["R[income]",
            "R[age]"], "x": ["income", "age"]}``.  Other latents in the rows' plate are Z.
        num_points: Random points to look at, at least.
        perturbation: Standard deviation of noise added to the parameters of the model while looking, and taken back
            afterwards, for slopes often start at zero; 0 looks at the parameters as they are.
        seed: Of the points; the caller's generators stay as they are.
        latent: Name of the latent's node; ``"Z"`` by default, or ``"latent"`` beside a column ``"Z"``.

    Returns:
        The graph; nothing is said of signs and forms.

    Raises:
        ValueError: If the model has no mask site, ``sites`` does not fit it, a number is out of range, or an R depends
            on itself (on ``batch.mask`` of its own column), so that it is no p(R|X, Z).
    """
    check_callable(model, "model")
    check_is("batch", batch, (Batch, Table))
    num_points = whole_number("num_points", num_points)
    perturbation = number_from_zero("perturbation", perturbation)
    if sites is not None:
        check_is("sites", sites, Mapping, ", from names of sites to what they are")
    nodes, aux_nodes = nodes_of(batch, latent)
    batch = batch.batch() if isinstance(batch, Table) else batch
    batch = batch.take(torch.arange(min(len(batch), MOST_ROWS), device=batch.x.device))
    batch = replace(batch, mask_modelled=torch.ones_like(batch.mask))
    # Many points at once: the rows of a small table serve several times over.
    at_once = min(MOST_ROWS, num_points)
    repeated = batch.take(torch.arange(at_once, device=batch.x.device) % len(batch))
    repeated = replace(repeated, size=max(batch.size, at_once))
    edges: set[tuple[Hashable, Hashable]] = set()
    with Session(seed, batch.x.device, _store_without(model)).running():
        Roles.of(poutine.trace(model).get_trace(batch), sites or {}, nodes)  # what is wrong has the user's own shapes
        roles = Roles.of(poutine.trace(model).get_trace(repeated), sites or {}, nodes)
        probe = _Probe(model, repeated, roles, list(causes_of(nodes, aux_nodes)))
        with perturbed(trainable_parameters(model), perturbation):
            for _ in range(-(-num_points // at_once)):
                edges |= probe.edges_seen()
    for parent, child in edges:
        if parent == child:
            raise ValueError(
                f"the log-odds of {child} depend on {child} itself (on batch.mask), so they are no p(R|X, Z)"
            )
    order = {name: at for at, name in enumerate(nodes.inputs)}
    return MissingnessGraph.of_nodes(nodes, sorted(edges, key=lambda edge: (order[edge[1]], order[edge[0]])))


class _Probe:
    """Runs the model at chosen points and compares log-odds."""

    def __init__(self, model: Callable[[Batch], Any], batch: Batch, roles: Roles, causes: list[Cause]) -> None:
        self.model, self.batch, self.roles = model, batch, roles
        self._log_odds = MaskLogOdds(model, batch, roles)
        self.causes = [cause for cause in causes if cause.field != "latents" or roles.latents]
        self.r_nodes = [r for named in roles.masks.values() for r in named]

    def edges_seen(self) -> set[tuple[Hashable, Hashable]]:
        """Edges that show at one random point per row."""
        here, there = self._draw(), self._draw()
        there = replace(there, mask=~here.mask)
        edges: set[tuple[Hashable, Hashable]] = set()
        with torch.no_grad():
            before = self._log_odds(here)
            rounding = 1e3 * torch.finfo(before.dtype).eps
            for cause in self.causes:
                after = self._log_odds(here.moved(cause, there))
                changed = ~torch.isclose(before, after, rtol=rounding, atol=rounding, equal_nan=True)
                edges |= {
                    (cause.node, r) for r, moved in zip(self.r_nodes, changed.any(0).tolist(), strict=True) if moved
                }
        return {(parent, r) for parent, r in edges | self._slopes(here, rounding) if r is not None}

    def _slopes(self, here: Point, rounding: float) -> set[tuple[Hashable, Hashable]]:
        edges: set[tuple[Hashable, Hashable]] = set()
        with torch.enable_grad():
            point = here.with_slopes()
            leaves = {
                "x": [point.x],
                "aux": [point.aux],
                "latents": [v for v in point.latents.values() if v.requires_grad],
            }
            flat = [leaf for some in leaves.values() for leaf in some]
            log_odds = self._log_odds(point)
            for r, of_r in zip(self.r_nodes, log_odds.unbind(-1), strict=True):
                if not of_r.requires_grad:  # a threshold
                    continue
                found = torch.autograd.grad(of_r.sum(), flat, retain_graph=True, allow_unused=True)
                slopes = {id(leaf): slope for leaf, slope in zip(flat, found, strict=True) if slope is not None}
                for cause in self.causes:
                    for leaf in leaves.get(cause.field, ()):
                        slope = slopes.get(id(leaf))
                        if slope is not None and cause.field != "latents":
                            slope = slope[:, cause.columns]
                        if slope is not None and bool((slope.abs() > rounding).any()):
                            edges.add((cause.node, r))
        return edges

    def _draw(self) -> Point:
        """A point per row: around the data where numbers are real, or else values that data or model have taken."""
        batch = self.batch
        with torch.no_grad():
            sites = sample_sites(poutine.trace(self.model).get_trace(batch))
        x, is_real = batch.x.clone(), True
        for name, at in self.roles.values.items():
            drawn = sites[name]["value"].detach().reshape(len(batch), len(at)).to(x.dtype)
            x[:, at] = torch.where(batch.mask[:, at], x[:, at], drawn)
            is_real = is_real and _is_real(sites[name]["fn"].support)
        pool = torch.cat([x, *(self._drawn_x(sites, x) if not is_real else [])])
        mask = (torch.rand_like(batch.x) < 0.5) | ~batch.incomplete
        return Point(
            x=_around(x) if is_real else _resampled(pool, len(batch)),
            aux=_resampled(batch.aux, len(batch))
            if bool((batch.aux == batch.aux.round()).all())
            else _around(batch.aux),
            mask=mask,
            latents={name: _spread(sites[name]) for name in self.roles.latents},
            parameters={name: sites[name]["value"].detach() for name in self.roles.parameters},
        )

    def _drawn_x(self, sites: Mapping[str, Site], x: Tensor) -> Iterator[Tensor]:
        """X as the model draws it, so that columns seen with one value only move too."""
        drawn = x.clone()
        for name, at in self.roles.values.items():
            drawn[:, at] = sites[name]["fn"].sample().reshape(len(x), len(at)).to(x.dtype)
        yield drawn


def _is_real(support: Any) -> bool:
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support is constraints.real


def _spread(site: Site) -> Tensor:
    value = site["value"].detach()
    return _around(value) if _is_real(site["fn"].support) else value


def _around(values: Tensor) -> Tensor:
    """Normal, with the mean of the rows and twice their standard deviation."""
    spread = values.std(0, correction=0)
    return values.mean(0) + 2 * torch.where(spread > 0, spread, 1.0) * torch.randn_like(values)


def _resampled(pool: Tensor, rows: int) -> Tensor:
    """Each column resampled by itself."""
    return pool.gather(0, torch.randint(len(pool), (rows, pool.shape[-1]), device=pool.device))


def _store_without(model: Any) -> dict[str, Any]:
    """Pyro's store, less what stands there under names of the model's own tensors and would be taken for them."""
    state = callers_store()
    own = unmirrored(state, model)
    return {part: {name: some[name] for name in own} for part, some in state.items()}
