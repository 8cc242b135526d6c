"""Who answers for which column: each column with gaps belongs to one site, which draws it once for every row.

Sites are known by the marks of their distributions (:mod:`pyro_mnar.distributions.row_parts`).  What is checked is the
model by itself: handlers around it (condition, do, block, mask, scale) can take a site away from the trace, or fix it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from pyro.poutine import Trace

from pyro_mnar.distributions.row_parts import MaskPart, MissingPart, ObservedPart, Part
from pyro_mnar.infer.sites import Site, part_of, sample_sites
from pyro_mnar.tables.batch import Batch

_CURE = "give it to one call of partially_observed(..., columns=[...])"


def check_claims(trace: Trace, batch: Batch, incomplete: Iterable[int] = ()) -> None:
    """Refuse a model in which a column belongs to two calls, or one with gaps to none.

    A model without any marked site treats its columns in its own way, and is let be.

    Args:
        trace: Of the model.
        batch: What it ran on.
        incomplete: Positions of the columns with gaps.

    Raises:
        ValueError: Names column and sites.
    """
    claims = {kind: _claims(trace, kind) for kind in (MissingPart, ObservedPart, MaskPart)}
    for of_columns in claims.values():
        for column, sites in of_columns.items():
            if len(sites) > 1:
                raise ValueError(
                    f"column {batch.names[column]!r}: expected one site, got {_listed(sites)}; name the columns of"
                    " each call by columns=[...]"
                )
    if any(claims[kind] for kind in (MissingPart, ObservedPart)):
        for column in incomplete:
            if column not in claims[MissingPart] and column not in claims[ObservedPart]:
                raise ValueError(f"column {batch.names[column]!r}: has gaps, and no site of the model has it; {_CURE}")


def check_drawn(trace: Trace, batch: Batch, with_gaps: Iterable[int]) -> None:
    """Refuse a model that does not draw every column with gaps exactly once, given what is observed.

    Args:
        trace: Of the model alone, without its guide.
        batch: What it ran on.
        with_gaps: Positions of the columns that have gaps to fill.

    Raises:
        ValueError: Names column and site, and the handler that it may be due to.
    """
    wanted = list(with_gaps)
    if not _claims(trace, MissingPart) and not _claims(trace, ObservedPart):
        raise ValueError(
            "the model has no site made by partially_observed, so nothing tells which values are missing ones"
        )
    for name in _intervened(trace):
        raise ValueError(f"site {name!r}: expected no intervention, got one (poutine.do): take the handler off")
    for site in _marked(trace, (MissingPart, ObservedPart)):
        _check_intact(site, batch)
    check_claims(trace, batch, wanted)
    missing, observed = _claims(trace, MissingPart), _claims(trace, ObservedPart)
    for column in wanted:
        if column not in missing:
            raise ValueError(
                f"column {batch.names[column]!r}: expected a site that draws its missing values, got none among"
                f" {sorted(sample_sites(trace))!r} (poutine.block hides sites); {_CURE}"
            )
        if column not in observed:
            raise ValueError(
                f"column {batch.names[column]!r}: expected a site that scores its observed values beside"
                f" {missing[column][0]!r}, got none (poutine.block hides sites): take the handler off"
            )


def check_proposals(model_trace: Trace, guide_trace: Trace) -> None:
    """Refuse a guide that proposes missing values of another sort than the model has: numbers for levels.

    Args:
        model_trace: Of the model, replayed.
        guide_trace: Of its guide.

    Raises:
        ValueError: Names the site, and the cure.
    """
    proposed = sample_sites(guide_trace)
    for name, site in sample_sites(model_trace).items():
        if not isinstance(part_of(site), MissingPart) or name not in proposed:
            continue
        if site["fn"].support.is_discrete and not proposed[name]["fn"].support.is_discrete:
            variable = name.removesuffix("_missing")
            raise ValueError(
                f"site {name!r}: the model's values are levels or counts, the guide proposes numbers of a density;"
                f" leave the site out of the guide, or propose it by propose_missing({variable!r}, fn, batch)"
            )


def _check_intact(site: Site, batch: Batch) -> None:
    """Refuse a site that a handler fixed, freed, masked or scaled away."""
    is_missing = isinstance(part_of(site), MissingPart)
    name, told = site["name"], _listed_columns(part_of(site), batch)
    if is_missing and site["is_observed"]:
        raise ValueError(
            f"site {name!r}{told}: expected missing values to be drawn, got fixed ones (poutine.condition, or obs=):"
            " take the handler off"
        )
    if not is_missing and not site["is_observed"]:
        raise ValueError(
            f"site {name!r}{told}: expected the observed values, got draws (poutine.uncondition): take the handler off"
        )
    if not is_missing and _differs(site, batch):
        raise ValueError(
            f"site {name!r}{told}: expected the table's observed values, got others (poutine.do or poutine.condition):"
            " take the handler off"
        )
    mask = site["mask"]
    if mask is not None and not bool(torch.as_tensor(mask).all()):
        raise ValueError(
            f"site {name!r}{told}: rows are masked out (poutine.mask), so nothing would be known of them; leave such"
            " rows out of the table"
        )
    if bool((torch.as_tensor(site["scale"]) == 0).any()):
        raise ValueError(
            f"site {name!r}{told}: has scale 0 (poutine.scale), so nothing would be known of its columns: take the"
            " handler off"
        )


def _differs(site: Site, batch: Batch) -> bool:
    columns = list(part_of(site).columns)  # pyright: ignore[reportOptionalMemberAccess]
    mask, x = batch.mask[:, columns], batch.x[:, columns]
    if x.is_meta:
        return False
    return bool(((site["value"] != x) & mask).any())


def _intervened(trace: Trace) -> list[str]:
    """Marked sites that ``poutine.do`` has split: the trace has what was drawn, the model went on with another."""
    sites = _marked(trace, (MissingPart, ObservedPart, MaskPart))
    return [site["name"] for site in sites if site.get("_intervener_id") is not None]


def _marked(trace: Trace, kinds: tuple[type, ...]) -> list[Site]:
    return [site for site in sample_sites(trace).values() if isinstance(part_of(site), kinds)]


def _claims(trace: Trace, kind: type[Part]) -> Mapping[int, list[str]]:
    """Of each column, the sites that stand for it."""
    claims: dict[int, list[str]] = {}
    for site in _marked(trace, (kind,)):
        for column in part_of(site).columns:  # pyright: ignore[reportOptionalMemberAccess]
            claims.setdefault(column, []).append(site["name"])
    return claims


def _listed_columns(part: Any, batch: Batch) -> str:
    names = [repr(batch.names[at]) for at in part.columns[:5]]
    return f" (columns {', '.join(names)}{', ...' if len(part.columns) > 5 else ''})"


def _listed(sites: Sequence[str]) -> str:
    return " and ".join(map(repr, sites))
