"""The sites that a call makes, ``{name}_missing`` and ``{name}_observed``: of each kind of column, or of whole rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, cast

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from pyro_mnar.distributions import Columns, ImportanceRatio, Levels, MissingEntries, OwnValueMechanism, SummedOut
from pyro_mnar.distributions.observed_entries import observed_entries
from pyro_mnar.distributions.own_value import can_be_summed_out, given_missing
from pyro_mnar.distributions.row_parts import MissingPart, ObservedPart, RowPart
from pyro_mnar.distributions.self_masked import SelfMasked
from pyro_mnar.distributions.self_masked_rows import SelfMaskedRow, explained_gaps
from pyro_mnar.distributions.truncation import PartlyCensored, Restricted, restricted_levels
from pyro_mnar.distributions.whole_rows import MissingRow, ObservedRow, WholeRow, check_rows, is_of_rows
from pyro_mnar.tables.batch import Batch, listed


@dataclass(frozen=True)
class Call:
    """What a call of :func:`partially_observed` is about: some columns of a batch, and what explains their gaps."""

    name: str
    columns: tuple[int, ...]
    batch: Batch
    mechanism: OwnValueMechanism | None = None

    @property
    def names(self) -> str:
        """The columns, for a message."""
        return listed([self.batch.names[at] for at in self.columns])

    def at(self, values: Tensor, columns: tuple[int, ...] | None = None) -> Tensor:
        """Of values of the whole row those of some columns, of the call's own if not given."""
        columns = self.columns if columns is None else columns
        return values if columns == tuple(range(self.batch.num_columns)) else values[..., list(columns)]


class Group(NamedTuple):
    """Columns of a call that one distribution is over.

    Attributes:
        name: Prefix of their sites.
        columns: Their positions in the row.
        within: Their positions among the columns of the call.
        fn: p(X|Z) of them.
    """

    name: str
    columns: tuple[int, ...]
    within: tuple[int, ...]
    fn: TorchDistributionMixin


def groups_of(call: Call, fn: TorchDistributionMixin) -> Iterator[Group]:
    """The columns of a call, by kind."""
    if not isinstance(fn, Columns):
        yield Group(call.name, call.columns, tuple(range(len(call.columns))), fn)
        return
    for number, (within, part) in enumerate(fn.parts):
        yield Group(f"{call.name}_{number}", tuple(call.columns[at] for at in within), within, part)


def observe_group(call: Call, group: Group) -> Float[Tensor, "*particles rows columns"]:
    """The two sites of a group of columns, and their completed values."""
    x, mask = call.at(call.batch.x, group.columns), call.at(call.batch.mask, group.columns)
    missing, scored = (_summed_out if _is_summed_out(call, group) else _drawn)(call, group, mask)
    filled = torch.where(mask, x, missing.detach())
    observed = pyro.sample(f"{group.name}_observed", RowPart(scored, ObservedPart(group.columns)), obs=filled)
    if observed is filled and not missing.requires_grad:
        return filled  # nothing intervened, so it is the completed row already
    return torch.where(mask, observed, missing)


def observe_whole_row(call: Call, fn: TorchDistributionMixin) -> Float[Tensor, "*particles rows columns"]:
    """The two sites of a joint law, X_o first, since X_u is drawn given it."""
    whole = WholeRow.of(call.name, fn, call.batch, call.columns)
    part = ObservedPart(call.columns)
    observed = pyro.sample(f"{call.name}_observed", RowPart(ObservedRow(whole), part), obs=call.at(call.batch.x))
    explained = call.at(~call.batch.mask & call.batch.mask_modelled & call.batch.incomplete)
    mechanism = explained_gaps(whole.law, call.mechanism, call.at(call.batch.x), range(len(call.columns)), explained)
    if mechanism is None:
        missing = sample_entries(call, call.name, call.columns, MissingRow(whole, observed))
        return torch.where(whole.mask, observed, missing)
    entries = SelfMaskedRow(whole, observed, mechanism)
    missing = sample_entries(call, call.name, call.columns, entries)
    pyro.factor(f"{call.name}_ratio", entries.log_ratio(missing))
    return torch.where(whole.mask, observed, missing)


def _drawn(call: Call, group: Group, mask: Tensor) -> tuple[Tensor, TorchDistributionMixin]:
    """Missing values from p(x|z), within their bounds, and what is scored of the row."""
    proposal = within_bounds(call, group, group.fn)
    missing = sample_missing(call, group, proposal)
    if isinstance(proposal, Restricted):
        return missing, PartlyCensored(proposal, mask)
    if proposal is group.fn:
        return missing, observed_entries(group.fn, mask, call.batch)
    return missing, ImportanceRatio(group.fn, proposal, mask)


def _is_summed_out(call: Call, group: Group) -> bool:
    if call.mechanism is None or not can_be_summed_out(group.fn, call.mechanism, group.within):
        return False
    return call.batch.bounds is None or isinstance(group.fn, Levels)


def _summed_out(call: Call, group: Group, mask: Tensor) -> tuple[Tensor, TorchDistributionMixin]:
    """Missing values from p(x_d | z, r_d = 0), so that the weight holds p(r_d = 0 | z) whichever was drawn."""
    batch, mechanism = call.batch, cast(OwnValueMechanism, call.mechanism)
    explained = call.at(~batch.mask & batch.mask_modelled & batch.incomplete, group.columns)
    found = given_missing(group.fn, mechanism, call.at(batch.x), group.within, explained)
    proposal = found if isinstance(found, SelfMasked) else within_bounds(call, group, found)
    missing = sample_missing(call, group, proposal, summed_out=True)
    if isinstance(proposal, SelfMasked):
        return missing, SummedOut(proposal, mask)
    return missing, ImportanceRatio(group.fn, proposal, mask)


def within_bounds(call: Call, group: Group, fn: TorchDistributionMixin) -> TorchDistributionMixin:
    """``fn`` held between the bounds of the batch's gaps; ``fn`` itself where its columns have none."""
    if call.batch.bounds is None:
        return fn
    lower, upper = (call.at(bound, group.columns) for bound in call.batch.bounds)
    if isinstance(fn, Levels):
        return restricted_levels(fn, lower, upper)
    try:
        return Restricted(fn, lower, upper)
    except ValueError as error:
        bounded = [
            at for at, some in zip(group.columns, (lower.isfinite() | upper.isfinite()).any(0), strict=True) if some
        ]
        if not bounded:  # those of other columns do not concern it
            return fn
        names = listed([call.batch.names[at] for at in bounded])
        raise ValueError(f"site {call.name!r}, columns {names}: {error}") from None


def sample_missing(
    call: Call, group: Group, fn: TorchDistributionMixin, *, summed_out: bool = False
) -> Float[Tensor, "*particles rows columns"]:
    """The latent site of a group of columns."""
    entries = MissingEntries(fn, call.at(call.batch.mask, group.columns))
    return sample_entries(call, group.name, group.columns, entries, summed_out=summed_out)


def sample_entries(
    call: Call,
    name: str,
    columns: tuple[int, ...],
    entries: MissingEntries | MissingRow,
    *,
    summed_out: bool = False,
) -> Float[Tensor, "*particles rows columns"]:
    """The latent site of some columns.

    Args:
        call: What the site is of.
        name: Its prefix.
        columns: Positions of the columns.
        entries: Their distribution.
        summed_out: Whether the weight is the same whichever value is drawn.

    Raises:
        ValueError: If a guide proposes values of another shape.
    """
    site = f"{name}_missing"
    missing = pyro.sample(site, RowPart(entries, MissingPart(columns, summed_out)))
    if missing.shape[-2:] != entries.shape()[-2:]:
        expected = ", ".join(map(str, entries.shape()[-2:]))
        raise ValueError(
            f"site {site!r}: expected values of shape (..., {expected}), a number for each row and column of"
            f" {call.names}, got shape {tuple(missing.shape)}; a guide proposes them by propose_missing({call.name!r},"
            " fn, batch)"
        )
    return missing


def fitting(call: Call, fn: TorchDistributionMixin) -> TorchDistributionMixin:
    """A column-wise distribution, or one of whole rows, of the call's columns.

    Raises:
        TypeError: If it is not one of Pyro's.
        ValueError: If it is neither over these columns; names site and columns.
    """
    if not isinstance(fn, TorchDistributionMixin):
        raise TypeError(
            f"site {call.name!r}: expected a distribution of pyro.distributions, got"
            f" {type(fn).__module__}.{type(fn).__name__}"
        )
    if isinstance(fn, dist.Independent) and len(fn.event_shape) == 1:
        fn = fn.base_dist
    if is_of_rows(fn):
        check_rows(call.name, fn, call.batch, call.columns)
        return fn
    width = len(call.columns)
    if fn.event_shape or not fn.batch_shape or fn.batch_shape[-1] not in (1, width):
        raise ValueError(
            f"site {call.name!r}: expected a distribution of batch shape (..., rows, {width}), the columns"
            f" {call.names}, and no event shape, got batch shape {tuple(fn.batch_shape)} and event shape"
            f" {tuple(fn.event_shape)}; whole rows are MultivariateNormal, LowRankMultivariateNormal and"
            " MixtureSameFamily"
        )
    return fn
