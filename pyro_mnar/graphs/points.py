"""What can cause an R, values for it, and the log-odds that a model gives its mask there.

A model is run with X, U, Z and R set to chosen values, independently of each other, whatever the decoder makes of Z.
:mod:`pyro_mnar.graphs.recovery` reads off which of them matter, :mod:`pyro_mnar.summaries` how much.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pyro.poutine as poutine
import torch
from jaxtyping import Bool, Float
from pyro.distributions import MaskedDistribution
from torch import Tensor

from pyro_mnar.graphs.nodes import LATENT, Nodes
from pyro_mnar.infer.sites import Site, columns_of, link_of_mask, mechanism_weight, missing_sites, sample_sites
from pyro_mnar.messages import shown
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.table import Table


class Cause(NamedTuple):
    """A node, and where its values enter: a field of :class:`Point` and columns there (all, of the latents)."""

    node: Hashable
    field: str
    columns: list[int]


@dataclass(frozen=True, eq=False)
class Point:
    """Values of all that could cause an R, one point a row."""

    x: Float[Tensor, "rows columns"]
    aux: Float[Tensor, "rows auxiliaries"]
    mask: Bool[Tensor, "rows columns"]
    latents: dict[str, Tensor]
    parameters: dict[str, Tensor]  # latents outside the plate

    def moved(self, cause: Cause, there: Point) -> Point:
        """With one cause's values from another point."""
        if cause.field == "latents":
            return replace(self, latents=there.latents)
        values = getattr(self, cause.field).clone()
        values[:, cause.columns] = getattr(there, cause.field)[:, cause.columns]
        return replace(self, **{cause.field: values})

    def with_slopes(self) -> Point:
        """With leaves to differentiate with respect to."""
        latents = {name: v.clone().requires_grad_(v.is_floating_point()) for name, v in self.latents.items()}
        return replace(self, x=self.x.clone().requires_grad_(), aux=self.aux.clone().requires_grad_(), latents=latents)


@dataclass(frozen=True)
class Roles:
    """What the model's sites are.

    Attributes:
        masks: Of each mask site, the R node of each of its columns (None: cannot go missing).
        values: Of each site that stands for X, the positions of its columns; those that follow ``batch.x`` by
            themselves are left out.
        latents: Sites of Z.
        parameters: Other latent sites.
        shapes: Of the value of every site.
        links: Of every R, in the order of ``masks``, the link that its log-odds come from.
    """

    masks: dict[str, list[str | None]]
    values: dict[str, list[int]]
    latents: list[str]
    parameters: list[str]
    shapes: dict[str, torch.Size]
    links: list[str]

    @classmethod
    def of(cls, trace: poutine.Trace, sites: Mapping[str, Any], nodes: Nodes) -> Roles:
        """From a trace; ``sites`` as for :func:`~pyro_mnar.graphs.missingness_graph_of`.

        Raises:
            ValueError: If there is no mask site, or ``sites`` does not fit the model.
        """
        found, missing = sample_sites(trace), missing_sites(trace)
        masks: dict[str, list[str | None]] = {}
        values: dict[str, list[int]] = {}
        for name, site in found.items():
            if name in sites:
                pass
            elif mechanism_weight(site):
                columns = [nodes.columns[d] for d in columns_of(site)]
                masks[name] = [nodes.r(column) if column in nodes.incomplete else None for column in columns]
            elif name in missing:
                values[name] = columns_of(site)
        for name, named in sites.items():
            if name not in found:
                raise ValueError(f"sites: expected sites of the model, {sorted(found)!r}, got {shown(name)}")
            names = named if isinstance(named, list) else [named]
            roles = {nodes.role(node) for node in names}
            shape = found[name]["value"].shape
            if roles not in ({"R"}, {"X"}) or (len(names) > 1 and shape[-1:] != (len(names),)):
                raise ValueError(
                    f"site {name!r} of shape {tuple(shape)}: expected an R or a column for each of its columns, got"
                    f" {named!r}"
                )
            if roles == {"R"}:
                masks[name] = names
            else:
                values[name] = [nodes.columns.index(node) for node in names]
        if not masks:
            raise ValueError(
                f"the model has no site made by observe_mask (of weight above 0) among {sorted(found)!r}: name its"
                " mask, as in sites={'r': ['R[income]', 'R[age]']}"
            )
        plates = {frame for name in masks for frame in found[name]["cond_indep_stack"]}
        free = [n for n, s in found.items() if n not in masks and n not in values and not s["is_observed"]]
        latents = [n for n in free if not plates or plates & set(found[n]["cond_indep_stack"])]
        shapes = {name: site["value"].shape for name, site in found.items() if isinstance(site["value"], Tensor)}
        links = [link_of_mask(found[name]) for name, r_nodes in masks.items() for _ in r_nodes]
        return cls(masks, values, latents, [name for name in free if name not in latents], shapes, links)


class MaskLogOdds:
    """Runs a model at chosen points, one point a row, and gives the log-odds of every R there.

    Args:
        model: Any callable of a batch.
        batch: Rows to run it on.
        roles: What its sites are.
    """

    def __init__(self, model: Callable[[Batch], Any], batch: Batch, roles: Roles) -> None:
        self.model, self.batch, self.roles = model, batch, roles

    def __call__(self, point: Point) -> Float[Tensor, "rows masks"]:
        """Log-odds of being observed, in the order of ``roles.masks``."""
        batch = replace(self.batch, x=point.x, aux=point.aux, mask=point.mask)
        values = {name: point.x[:, at].reshape(self.roles.shapes[name]) for name, at in self.roles.values.items()}
        model = poutine.condition(self.model, data={**point.latents, **point.parameters, **values})
        sites = sample_sites(poutine.trace(model).get_trace(batch))
        return torch.cat([_log_odds_of(sites[n], len(batch), len(r)) for n, r in self.roles.masks.items()], dim=-1)


def nodes_of(batch: Batch | Table, latent: str | None = None) -> tuple[Nodes, list[Hashable | None]]:
    """The nodes, and which of them each auxiliary variable is."""
    if isinstance(batch, Table):
        nodes, schema = Nodes.of_schema(batch.schema, latent), batch.schema
        if schema.auxiliary_source == "mask":
            return nodes, [nodes.r(column.name) if column.incomplete else None for column in schema.columns]
        return nodes, [auxiliary.name for auxiliary in schema.auxiliaries for _ in range(auxiliary.width)]
    columns = range(batch.num_columns)
    aux = [f"U{at}" for at in range(batch.aux.shape[-1])]
    incomplete = tuple(d for d in columns if batch.incomplete[d])
    return Nodes(tuple(columns), incomplete, tuple((name, 1) for name in aux), latent or LATENT), list(aux)


def causes_of(nodes: Nodes, aux_nodes: list[Hashable | None]) -> Iterator[Cause]:
    """Everything that could cause an R: each field of a point that a node's values enter."""
    for at, column in enumerate(nodes.columns):
        yield Cause(column, "x", [at])
        if column in nodes.incomplete:
            yield Cause(nodes.r(column), "mask", [at])
    for name in dict.fromkeys(name for name in aux_nodes if name is not None):
        yield Cause(name, "aux", [at for at, other in enumerate(aux_nodes) if other == name])
    yield Cause(nodes.latent, "latents", [])


def _log_odds_of(site: Site, rows: int, columns: int) -> Float[Tensor, "rows columns"]:
    fn = site["fn"]
    while fn.event_shape or isinstance(fn, MaskedDistribution):
        if not hasattr(fn, "base_dist"):
            raise ValueError(f"site {site['name']!r}: expected a distribution over 0 and 1 for each column, got {fn}")
        fn = fn.base_dist
    one = torch.ones(site["fn"].shape(), dtype=site["value"].dtype, device=site["value"].device)
    return (fn.log_prob(one) - fn.log_prob(torch.zeros_like(one))).reshape(rows, columns)
