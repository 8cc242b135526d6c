"""The sites of a trace, and what each stands for: X_u, X_o, R, or something of the model's own.

The marks are those of :mod:`pyro_mnar.distributions.row_parts`; everything that reads them does it here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pyro.distributions as dist
from jaxtyping import Bool
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.poutine import Trace
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from pyro_mnar.distributions import ImportanceRatio, SummedOut
from pyro_mnar.distributions.row_parts import MaskPart, MissingPart, ObservedPart, Part, RowPart
from pyro_mnar.distributions.whole_rows import MissingRow, ObservedRow
from pyro_mnar.primitives import ROWS

Site = dict[str, Any]  # narrower than Pyro's type of it, in which every entry may be None


def sample_sites(trace: Trace) -> dict[str, Site]:
    """What a trace sampled or observed, by name, without the rows that plates drew."""
    nodes = trace.nodes.items()
    return {n: cast(Site, s) for n, s in nodes if s["type"] == "sample" and not site_is_subsample(s)}


def stochastic_sites(trace: Trace) -> dict[str, Site]:
    """The sites of a trace that have a density, by name."""
    return {name: site for name, site in sample_sites(trace).items() if not site["infer"].get("_deterministic")}


def is_shared(site: Mapping[str, Any], plate: str = ROWS) -> bool:
    """Whether a site, or the message of one, stands outside the row plate, so that all rows share it."""
    return all(frame.name != plate for frame in site["cond_indep_stack"])


def missing_sites(trace: Trace) -> dict[str, Site]:
    """The latent sites of X_u, by name."""
    return {name: s for name, s in sample_sites(trace).items() if holds_columns(s) and not s["is_observed"]}


def mechanism_weights(trace: Trace) -> list[float]:
    """β of each site of R, 0 where it is left out of the density."""
    weights = [mechanism_weight(site) for site in sample_sites(trace).values()]
    return [weight for weight in weights if weight is not None]


def part_of(site: Mapping[str, Any]) -> Part | None:
    """What a site, or the message of one, stands for; None for one that no primitive made."""
    fn = site["fn"]
    return fn.part if isinstance(fn, RowPart) else None


def holds_columns(site: Mapping[str, Any]) -> bool:
    """Whether a site stands for X, missing or observed."""
    return isinstance(part_of(site), MissingPart | ObservedPart)


def columns_of(site: Mapping[str, Any]) -> list[int]:
    """Positions of the columns that a marked site stands for."""
    part = part_of(site)
    if part is None:
        raise ValueError(f"site {site['name']!r}: expected one made by partially_observed or observe_mask")
    return list(part.columns)


def holds_observed(site: Mapping[str, Any]) -> bool:
    """Whether a site stands for X_o, whether or not it is observed in this trace."""
    return isinstance(part_of(site), ObservedPart)


def is_summed_out(site: Mapping[str, Any]) -> bool:
    """Whether the importance weight does not depend on a site's draws."""
    part = part_of(site)
    return isinstance(part, MissingPart) and part.summed_out


def mechanism_weight(site: Mapping[str, Any]) -> float | None:
    """β of a site that stands for R, 0 where it is left out of the density; None for other sites."""
    part = part_of(site)
    return part.weight if isinstance(part, MaskPart) else None


def link_of_mask(site: Mapping[str, Any]) -> str:
    """Name of the link that a site of R was written with; ``"logit"`` for sites that no primitive made."""
    part = part_of(site)
    return part.link if isinstance(part, MaskPart) else "logit"


def scored_in(fn: RowPart, kept: Bool[Tensor, " columns"]) -> RowPart:
    """A marked site's distribution, of whose columns only those that are kept are scored.

    Of a distribution of whole rows, the others are then taken as given.

    Args:
        fn: The distribution.
        kept: Of every column of the table, whether it is kept.
    """
    of_columns = kept[list(fn.part.columns)]
    if isinstance(fn.base_dist, ObservedRow):
        return RowPart(fn.base_dist.scored_in(of_columns), fn.part)
    return RowPart(fn.base_dist.mask(of_columns), fn.part)


def is_whole_row(site: Mapping[str, Any]) -> bool:
    """Whether a site draws the missing values of a row together, given the observed ones."""
    fn = site["fn"]
    return isinstance(fn, RowPart) and isinstance(fn.base_dist, MissingRow)


def column_distribution(fn: Any) -> TorchDistributionMixin:
    """Of a site's distribution what it is column by column, without events, masks and importance ratios.

    Of a distribution of whole rows, what the model was given.
    """
    if isinstance(fn, RowPart) and isinstance(fn.base_dist, ObservedRow | MissingRow):
        return fn.base_dist.fn
    while isinstance(fn, dist.Independent | dist.MaskedDistribution | ImportanceRatio | SummedOut):
        fn = fn.base_dist
    return fn
