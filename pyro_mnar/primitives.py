"""The words a model is written in: a plate over rows, a row that is partly observed, a mask that is observed.

    with rows(batch):
        z = pyro.sample("z", prior(batch.aux))
        x = partially_observed("x", decoder(z), batch)
        observe_mask("r", mechanism(x, z), batch)

Each is a few Pyro statements, so that a model made of them runs under plain Pyro: trace, replay, condition,
``Predictive``, ``render_model``, NUTS on a small table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyro
import pyro.distributions as dist
import pyro.poutine as poutine
import torch
from jaxtyping import Float
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.infer.util import is_validation_enabled
from torch import Tensor

from pyro_mnar.distributions import Columns, ImportanceRatio, Levels, MissingEntries, joined
from pyro_mnar.distributions.observed_entries import ObservedMask, observed_entries
from pyro_mnar.distributions.row_parts import MaskPart, MissingPart, ObservedPart, RowPart
from pyro_mnar.distributions.truncation import PartlyCensored, Restricted, restricted_levels
from pyro_mnar.tables.batch import Batch

ROWS = "rows"


def rows(batch: Batch) -> pyro.plate:
    """The plate over the rows of a minibatch: ``dim=-1``, scaled by N/B.

    The plate gets the batch's own indices, so Pyro draws no permutation of N on every step.

    Raises:
        ValueError: If an index lies outside the table (checked while Pyro's validation is enabled).
    """
    if is_validation_enabled() and batch.index.numel() and not batch.index.is_meta:
        low, high = batch.index.min().item(), batch.index.max().item()
        if low < 0 or high >= batch.size:
            raise ValueError(f"rows: expected indices from 0 to {batch.size - 1}, got {low} to {high}")
    return pyro.plate(ROWS, batch.size, subsample=batch.index, dim=-1)


def partially_observed(
    name: str,
    fn: TorchDistributionMixin,
    batch: Batch,
    *,
    mechanism: Callable[[Tensor], Tensor] | None = None,
) -> Float[Tensor, "*particles rows columns"]:
    """Score X_o, let X_u be latent, return the completed row.

    Two sites, or two for each kind of column where ``fn`` is a :class:`~pyro_mnar.distributions.Columns` of several;
    these are called ``{name}_0_missing``, ``{name}_0_observed``, ``{name}_1_missing`` and so on, in the order of its
    parts.  ``{name}_missing`` is latent and covers the row: at missing entries it has the density of ``fn``, at
    observed entries that of a fixed placeholder (:class:`~pyro_mnar.distributions.MissingEntries`).
    ``{name}_observed`` is ``fn`` masked to the observed entries and observed there; at missing entries its value is
    the detached draw, which lies in the support whatever ``fn`` is.

    Where the batch has bounds for a gap, ``{name}_missing`` has the density of ``fn`` between them, and
    ``{name}_observed`` scores their probability, log p(lower ≤ x ≤ upper | z): the cell is a censored observation.

    :class:`~pyro_mnar.ImportanceWeightedELBO` proposes ``{name}_missing`` from the model where the guide leaves it out.
    Pyro's own objectives do not: with these the guide has to propose it, by :func:`propose_missing`.

    Args:
        name: Name of the variable, such as ``"x"``.
        fn: Column-wise distribution p(X|Z) of batch shape ``(..., rows, columns)``; an ``Independent`` over the
            columns is unwrapped.
        batch: The rows.
        mechanism: Log-odds of being observed, as a function of the row, ``(..., rows, columns)`` to the same.  Give it
            where no R depends on another column's level than its own (and as it is given to :func:`observe_mask`, with
            weight 1).  Missing levels are then drawn from p(x_d | z, r_d = 0), so that they are summed out of the
            weight exactly: it holds p(r_d = 0 | z) = Σ_x p(x|z) p(r_d = 0 | x, z), whichever level was drawn.

    Returns:
        The value of ``{name}_observed`` where observed and of ``{name}_missing`` elsewhere; ``(..., rows, columns)``.

    Raises:
        ValueError: If ``fn`` is not column-wise over the batch's columns, or the batch has bounds and ``fn`` is of a
            family that cannot be held between some (:class:`~pyro_mnar.distributions.truncation.Restricted`).
    """
    parts = list(_parts(name, _columnwise(name, fn, batch), batch))
    values = [_observe_part(*part, batch, mechanism) for part in parts]
    return joined([columns for _, columns, _ in parts], values)


def propose_missing(name: str, fn: TorchDistributionMixin, batch: Batch) -> Float[Tensor, "*particles rows columns"]:
    """For guides that propose X_u themselves: the latent site of :func:`partially_observed`.

    Arguments as there; the placeholders of model and guide cancel exactly, and bounds hold in both.  A guide that
    leaves the site out gets it proposed from the model.
    """
    parts = list(_parts(name, _columnwise(name, fn, batch), batch))
    drawn = []
    for prefix, columns, part in parts:
        proposal = _within_bounds(part, columns, batch)
        drawn.append(_sample_missing(prefix, proposal, _at(batch.mask, columns, batch), MissingPart(columns)))
    return joined([columns for _, columns, _ in parts], drawn)


def observe_mask(
    name: str, logits: Float[Tensor, "*particles rows columns"], batch: Batch, *, weight: float = 1.0
) -> None:
    """Score the mask: R_d ~ Bernoulli(logits_d), in the modelled cells of columns that can go missing.

    Args:
        name: Name of the site, such as ``"r"``.
        logits: Log-odds of being *observed*; ``(..., rows, columns)``.
        batch: The rows.
        weight: β, the power to which p(R|X,Z) enters the importance weight (B.3); 0 leaves the site without a density,
            and imputations then know nothing of the mask.

    Raises:
        ValueError: If the logits are not over the batch's columns, or the weight is negative.
    """
    if weight < 0:
        raise ValueError(f"weight of the mechanism: expected at least 0, got {weight}")
    if logits.shape[-1] != batch.num_columns:
        raise ValueError(f"site {name!r}: expected logits for {batch.num_columns} columns, got {logits.shape[-1]}")
    part, mask = MaskPart(tuple(range(batch.num_columns)), weight), batch.mask.to(logits.dtype)
    if weight == 0:  # what pyro.deterministic makes, with a mark
        infer: Any = {"_deterministic": True}  # Pyro's type lists other keys alone
        pyro.sample(name, RowPart(dist.Delta(mask).mask(False), part), obs=mask, infer=infer)
        return
    fn = ObservedMask(logits=logits).mask(batch.mask_modelled & batch.incomplete)
    with poutine.scale(scale=weight):
        pyro.sample(name, RowPart(fn, part), obs=mask)


def _parts(
    name: str, fn: TorchDistributionMixin, batch: Batch
) -> Iterator[tuple[str, tuple[int, ...], TorchDistributionMixin]]:
    """Name, columns and distribution of each kind of column."""
    if isinstance(fn, Columns):
        for number, (columns, part) in enumerate(fn.parts):
            yield f"{name}_{number}", columns, part
    else:
        yield name, tuple(range(batch.num_columns)), fn


def _observe_part(
    name: str,
    columns: tuple[int, ...],
    fn: TorchDistributionMixin,
    batch: Batch,
    mechanism: Callable[[Tensor], Tensor] | None,
) -> Float[Tensor, "*particles rows columns"]:
    x, mask = _at(batch.x, columns, batch), _at(batch.mask, columns, batch)
    scored: TorchDistributionMixin
    if mechanism is not None and isinstance(fn, Levels):
        proposal = _within_bounds(_given_missing(fn, columns, batch, mechanism), columns, batch)
        missing = _sample_missing(name, proposal, mask, MissingPart(columns, summed_out=True))
        scored = ImportanceRatio(fn, proposal, mask)
    else:
        proposal = _within_bounds(fn, columns, batch)
        missing = _sample_missing(name, proposal, mask, MissingPart(columns))
        if isinstance(proposal, Restricted):
            scored = PartlyCensored(proposal, mask)
        else:
            scored = observed_entries(fn, mask, batch) if proposal is fn else ImportanceRatio(fn, proposal, mask)
    filled = torch.where(mask, x, missing.detach())
    observed = pyro.sample(f"{name}_observed", RowPart(scored, ObservedPart(columns)), obs=filled)
    if observed is filled and not missing.requires_grad:
        return filled  # nothing intervened, so it is the completed row already
    return torch.where(mask, observed, missing)


def _given_missing(fn: Levels, columns: tuple[int, ...], batch: Batch, mechanism: Callable[[Tensor], Tensor]) -> Levels:
    """p(x_d | z, r_d = 0) where the mechanism explains the gap, p(x_d | z) elsewhere; one pass of it per level."""
    row = batch.x.expand(*fn.batch_shape[:-1], batch.num_columns)
    at = torch.tensor(columns, device=row.device)
    log_missing = []
    for level in fn.points.unbind(-1):
        moved = row.index_copy(-1, at, level.expand(*row.shape[:-1], len(columns)))
        log_missing.append(torch.nn.functional.logsigmoid(-mechanism(moved).index_select(-1, at)))
    explained = _at(~batch.mask & batch.mask_modelled & batch.incomplete, columns, batch)
    tilt = torch.stack(log_missing, dim=-1).masked_fill(~explained.unsqueeze(-1), 0.0)
    return Levels(fn.logits + tilt, fn.points)


def _within_bounds(fn: TorchDistributionMixin, columns: tuple[int, ...], batch: Batch) -> TorchDistributionMixin:
    """``fn`` held between the bounds of the batch's gaps; ``fn`` itself where its columns have none."""
    if batch.bounds is None:
        return fn
    lower, upper = (_at(bound, columns, batch) for bound in batch.bounds)
    if isinstance(fn, Levels):
        return restricted_levels(fn, lower, upper)
    return Restricted(fn, lower, upper)


def _sample_missing(name: str, fn: TorchDistributionMixin, mask: Tensor, part: MissingPart) -> Tensor:
    return pyro.sample(f"{name}_missing", RowPart(MissingEntries(fn, mask), part))


def _at(values: Tensor, columns: tuple[int, ...], batch: Batch) -> Tensor:
    return values if columns == tuple(range(batch.num_columns)) else values[..., list(columns)]


def _columnwise(name: str, fn: TorchDistributionMixin, batch: Batch) -> TorchDistributionMixin:
    if isinstance(fn, dist.Independent) and len(fn.event_shape) == 1:
        fn = fn.base_dist
    if fn.event_shape or not fn.batch_shape or fn.batch_shape[-1] not in (1, batch.num_columns):
        raise ValueError(
            f"site {name!r}: expected a distribution of batch shape (..., rows, {batch.num_columns}) and no event"
            f" shape, got batch shape {tuple(fn.batch_shape)} and event shape {tuple(fn.event_shape)}"
        )
    return fn
