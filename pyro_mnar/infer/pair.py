"""Whether a model and a guide are what they have to be, and belong together: what is said before Pyro says less.

A pair that does not fit fails deep inside, in a matrix product or a broadcast, where no site has a name any more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro.poutine as poutine
import torch
from pyro.poutine import Trace

from pyro_mnar.infer.session import random_numbers_kept
from pyro_mnar.infer.shared import refuse_left_out
from pyro_mnar.infer.sites import is_shared, part_of, sample_sites


def check_shapes(model_trace: Trace, guide_trace: Trace) -> None:
    """Refuse latents whose values in the guide have another shape than in the model.

    Args:
        model_trace: Of the model, replayed or not.
        guide_trace: Of the guide.

    Raises:
        ValueError: Names the site and both shapes.
    """
    proposed = sample_sites(guide_trace)
    for name, site in sample_sites(model_trace).items():
        event = tuple(site["fn"].event_shape)
        if name not in proposed or not event or part_of(site) is not None:  # the words of a model check their own
            continue
        got = tuple(proposed[name]["value"].shape)
        if got[-len(event) :] != event:
            raise ValueError(
                f"site {name!r}: the model's has shape (..., {', '.join(map(str, event))}), the guide's"
                f" {_shape(got, len(event))}: make both with the same latent_dim, such as"
                " ZeroImpute(table, model.latent_dim)"
            )


def explain(error: Exception, model: Callable, guide: Callable, plate: str, args: Any, kwargs: Any) -> None:
    """Where a run of the pair has failed, say why if the two by themselves tell; otherwise return.

    Args:
        error: What was raised.
        model: The model.
        guide: Its guide.
        plate: Name of the row plate.
        args: Arguments of both.
        kwargs: The same.

    Raises:
        ValueError: Names the site, and the cure.
    """
    with torch.no_grad(), random_numbers_kept(), poutine.block():
        traces = [_trace_of(one, args, kwargs) for one in (model, guide)]
    try:
        shared = [site for site in sample_sites(traces[0]).values() if is_shared(site, plate)]
        refuse_left_out(shared, set(sample_sites(traces[1])))
        check_shapes(*traces)
    except ValueError as reason:
        raise reason from error


def _trace_of(one: Callable, args: Any, kwargs: Any) -> Trace:
    """As far as it came."""
    tracer = poutine.trace(one)
    try:
        return tracer.get_trace(*args, **kwargs)
    except Exception:  # what it came to before is what can be told
        return tracer.msngr.trace


def _shape(got: tuple[int, ...], count: int) -> str:
    return f"(..., {', '.join(map(str, got[-count:]))})" if len(got) >= count else str(got)
