"""The plates of a model and its guide, and what is wrong with either, found by one run of both."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pyro.poutine as poutine
from pyro.infer.util import is_validation_enabled
from pyro.poutine import Trace
from pyro.poutine.util import prune_subsample_sites
from pyro.util import check_site_shape

from pyro_mnar.infer.coverage import check_claims, check_proposals
from pyro_mnar.infer.pair import check_shapes, explain
from pyro_mnar.infer.session import random_numbers_kept
from pyro_mnar.infer.sites import stochastic_sites
from pyro_mnar.tables.batch import Batch


def plate_nesting(model: Callable, guide: Callable, plate: str, args: Any, kwargs: Any) -> int:
    """Run guide and model once, without particles, to count plate dimensions and check shapes; draws no random numbers.

    Raises:
        ValueError: If the row plate has another size than the batch says, two sites stand for one column, the guide
            proposes numbers for levels, or a site's shape does not fit its plates (checked while Pyro's validation is
            enabled).
    """
    try:
        with poutine.block(), random_numbers_kept():
            guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
            model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(*args, **kwargs)
    except Exception as error:
        explain(error, model, guide, plate, args, kwargs)
        raise
    check_shapes(model_trace, guide_trace)
    check_proposals(model_trace, guide_trace)
    for batch in (value for value in (*args, *kwargs.values()) if isinstance(value, Batch)):
        check_claims(model_trace, batch)
        _check_row_plate(model_trace, batch, plate)
    guide_trace, model_trace = prune_subsample_sites(guide_trace), prune_subsample_sites(model_trace)
    sites = [site for trace in (model_trace, guide_trace) for site in trace.nodes.values() if site["type"] == "sample"]
    if is_validation_enabled():
        model_trace.compute_log_prob()
        guide_trace.compute_log_prob()
        for site in sites:
            # Declared an int, though Pyro's own ELBO calls it with infinity, as here.
            check_site_shape(site, max_plate_nesting=math.inf)  # pyright: ignore[reportArgumentType]
    return max((-f.dim for site in sites for f in site["cond_indep_stack"] if f.dim is not None), default=0)


def _check_row_plate(trace: Trace, batch: Batch, plate: str) -> None:
    """Refuse a row plate without the factor N/B, beside which what rows share would count N/B times."""
    for name, site in stochastic_sites(trace).items():
        for frame in site["cond_indep_stack"]:
            size = frame.full_size or frame.size
            if frame.name == plate and (frame.size, size) != (len(batch), batch.size):
                raise ValueError(
                    f"site {name!r}: expected a plate {plate!r} of {len(batch)} rows out of {batch.size}, got"
                    f" {frame.size} out of {size}: write `with rows(batch):`"
                )
