"""What a row's densities may depend on: its own values and latents, and what all rows share.

The weight w_k of a row is one of its own particle alone, and the bound a sum over rows.  A model that reaches into
other rows or particles breaks both without an error: with particles in the first dimension, ``x[:, :1]`` is the first
row's value and ``x.mean(0)`` a mean over particles.  So does one that takes the zeros of ``batch.x`` in gaps for
values.  What a model does is looked at, not asserted: parameters are moved (slopes often start at zero), and a few rows
are run together, then some of them in another order, with the same latents and other numbers in the gaps.  No density
may move.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import pyro
import pyro.poutine as poutine
import torch
from jaxtyping import Float
from pyro.distributions.util import scale_and_mask
from pyro.poutine import Trace
from torch import Tensor, nn

from pyro_mnar.distributions.densities import log_density
from pyro_mnar.infer.parameters import buffers_kept, perturbed, trainable_parameters
from pyro_mnar.infer.session import random_numbers_kept
from pyro_mnar.infer.shared import OverParticles, is_shared
from pyro_mnar.infer.sites import Site, sample_sites, stochastic_sites
from pyro_mnar.infer.trial_runs import differ, opened
from pyro_mnar.tables.batch import Batch

MOST_ROWS = 6
PERTURBATION = 0.3

Densities = dict[str, Float[Tensor, "particles rows"]]


class _Part(NamedTuple):
    """Some rows and particles of those that were run together."""

    rows: list[int]
    particles: list[int]


def check_rows_alone(
    model: Callable, guide: Callable, args: Any, kwargs: Mapping[str, Any], plate: str, over: OverParticles | None
) -> None:
    """Refuse a model in which the density of a row depends on another row, another particle, or a gap's placeholder.

    Draws no random numbers of the caller's, and leaves parameters as they are.  A model that cannot be run on few rows,
    or that has random numbers of its own beside its sites, is let be.

    Args:
        model: The model.
        guide: Its guide.
        args: Arguments of both, among them a batch.
        kwargs: The same.
        plate: Name of the row plate.
        over: The plate over particles, of three of them; None if they are run in turn.

    Raises:
        ValueError: Names the site, and the cure.
    """
    batches = [value for value in (*args, *kwargs.values()) if isinstance(value, Batch)]
    if len(batches) != 1 or batches[0].x.is_meta:
        return
    (batch,) = batches
    has_gaps = batch.incomplete if len(batch) < batch.size else ~batch.mask.all(0)
    few = batch.take(torch.arange(min(len(batch), MOST_ROWS), device=batch.device))
    runs = _Runs(model, guide, args, kwargs, plate, over)
    with ExitStack() as stack:
        for context in (torch.no_grad(), random_numbers_kept(), poutine.block(), pyro.validation_enabled(False)):
            stack.enter_context(context)
        stack.enter_context(buffers_kept(model, guide))
        stack.enter_context(_as_imputing(model, guide))
        reason = None
        for perturbation in (PERTURBATION, 0.0):
            try:
                with perturbed(trainable_parameters(model, guide), perturbation):
                    reason = runs.reason(few, has_gaps.tolist())
                break
            except Exception:  # a scale below zero, or rows that a model cannot do without
                continue
    if reason is not None:
        raise ValueError(reason)


class _Runs:
    """Runs of a model on the same latents, of all rows together and of parts."""

    def __init__(
        self,
        model: Callable,
        guide: Callable,
        args: Any,
        kwargs: Mapping[str, Any],
        plate: str,
        over: OverParticles | None,
    ) -> None:
        self.model, self.guide, self.args, self.kwargs = model, guide, args, kwargs
        self.plate, self.over, self.count = plate, over, 1 if over is None else over.size

    def reason(self, batch: Batch, has_gaps: list[bool]) -> str | None:
        """Why rows do not stand for themselves; None if they do.

        Args:
            batch: Some rows.
            has_gaps: Of each column, whether it has gaps in the table.
        """
        batch = opened(batch, [at for at, has in enumerate(has_gaps) if has], every=2)
        trace = self.drawn(batch)
        whole = self.densities(trace, len(batch), self.count)
        all_of_it = _Part(list(range(len(batch))), list(range(self.count)))
        inner = _Part(_inside(len(batch)), _inside(self.count))
        if not self.moved(trace, whole, _other_placeholders(batch, range(batch.num_columns)), inner):
            return None
        if self.moved(trace, whole, batch, all_of_it):
            return None  # it draws numbers of its own, so nothing can be told
        return (
            self._reason_in_gaps(trace, whole, batch, all_of_it)
            or self._reason_in_part(trace, whole, batch, _Part(inner.rows, all_of_it.particles), "row")
            or self._reason_in_part(trace, whole, batch, _Part(all_of_it.rows, inner.particles), "particle")
        )

    def _reason_in_gaps(self, trace: Trace, whole: Densities, batch: Batch, all_rows: _Part) -> str | None:
        for column in range(batch.num_columns):
            found = self.moved(trace, whole, _other_placeholders(batch, [column]), all_rows)
            if found:
                return (
                    f"site {found[0]!r}: its density depends on what stands in the gaps of column"
                    f" {batch.names[column]!r} in batch.x, zeros in place of values that nobody knows: take what"
                    " partially_observed returns, or batch.x * batch.mask where zeros are meant"
                )
        return None

    def _reason_in_part(self, trace: Trace, whole: Densities, batch: Batch, part: _Part, what: str) -> str | None:
        found = self.moved(trace, whole, batch, part)
        if not found:
            return None
        return (
            f"site {found[0]!r}: its density of one {what} depends on other {what}s, so no {what} has a weight of its"
            " own.  Particles stand in dimensions before the rows: write x[..., 0] and not x[:, 0], x.sum(-1) and not"
            " x.sum(1).  What the whole table tells (a mean over rows) is computed before the model, and rows that"
            " depend on each other are columns of one row"
        )

    def drawn(self, batch: Batch) -> Trace:
        """A run with latents of its own."""
        over = self.over or (lambda fn: fn)
        guide_trace = self._traced(over(self.guide), batch)
        return self._traced(poutine.replay(over(self.model), trace=guide_trace), batch)

    def moved(self, trace: Trace, whole: Densities, batch: Batch, part: _Part) -> list[str]:
        """Sites whose densities are others where a part is run alone."""
        latents = Trace()
        for name, site in sample_sites(trace).items():
            if not site["is_observed"]:
                latents.add_node(name, **{**site, "value": self._of_part(site, part)})
        over: Any = self.over and OverParticles(self.over.name, len(part.particles), self.over.dim, self.plate)
        model = self.model if over is None else over(self.model)
        rows = batch.take(torch.tensor(part.rows, device=batch.device))
        there = self._traced(poutine.replay(model, trace=latents), rows)
        alone = self.densities(there, len(part.rows), len(part.particles))
        return [name for name in alone if differ(whole[name][part.particles][:, part.rows], alone[name])]

    def densities(self, trace: Trace, num_rows: int, num_particles: int) -> Densities:
        """Of every site in the row plate, its log-density per particle and row."""
        found: Densities = {}
        for name, site in stochastic_sites(trace).items():
            if not is_shared(site, self.plate):
                log_prob = log_density(site["fn"], site["value"], *site["args"], **site["kwargs"])
                log_prob = scale_and_mask(log_prob, 1.0, site["mask"])
                kept = {dim for dim in self._dims(site) if dim is not None}
                inner = [dim for dim in range(-log_prob.dim(), 0) if dim not in kept]
                log_prob = log_prob.sum(inner) if inner else log_prob
                found[name] = log_prob.expand(num_particles, num_rows)
        return found

    def _dims(self, site: Site) -> tuple[int | None, int | None]:
        """Of the batch dimensions of a site, those of particles and of rows."""
        of_rows = [frame.dim for frame in site["cond_indep_stack"] if frame.name == self.plate]
        return (None if self.over is None else self.over.dim), (of_rows[0] if of_rows else None)

    def _of_part(self, site: Site, part: _Part) -> Tensor:
        value, events = site["value"], len(site["fn"].event_shape)
        if is_shared(site, self.plate):
            return value
        for dim, chosen in zip(self._dims(site), (part.particles, part.rows), strict=True):
            if dim is not None and events - dim <= value.dim() and value.shape[dim - events] > 1:
                value = value.index_select(dim - events, torch.tensor(chosen, device=value.device))
        return value

    def _traced(self, program: Callable, batch: Batch) -> Trace:
        args = [batch if isinstance(value, Batch) else value for value in self.args]
        kwargs = {name: batch if isinstance(value, Batch) else value for name, value in self.kwargs.items()}
        return poutine.trace(program).get_trace(*args, **kwargs)


def _inside(count: int) -> list[int]:
    """Neither the first nor the last of so many if there are others, and not in their order."""
    return [count - 1] if count < 3 else list(range(count - 2, 0, -1))


def _other_placeholders(batch: Batch, columns: Iterable[int]) -> Batch:
    """The same rows with other numbers in the gaps of some columns: one that the column has, so it has a density."""
    x = batch.x.clone()
    for column in columns:
        seen, gaps = batch.x[batch.mask[:, column], column], ~batch.mask[:, column]
        x[gaps, column] = seen[seen.abs().argmax()] if len(seen) and bool(seen.any()) else 1.0
    return replace(batch, x=x)


@contextmanager
def _as_imputing(*modules: Any) -> Iterator[None]:
    """Modules as they are when nothing is trained: a batch norm then has moments of its own, not of the batch."""
    inside = [part for module in modules if isinstance(module, nn.Module) for part in module.modules()]
    were_training = [part.training for part in inside]
    try:
        for part in inside:
            part.training = False
        yield
    finally:
        for part, was_training in zip(inside, were_training, strict=True):
            part.training = was_training
