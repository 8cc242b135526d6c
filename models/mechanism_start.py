"""Where ``fit(start="data")`` lets mechanisms start: intercepts from shares, slopes in complete columns by logistic
regression, slopes in own values at the maximum of the law of a column given what the others say of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor, nn

from pyro_mnar.graphs.gap_regressions import logistic_regression
from pyro_mnar.graphs.likely import says_something
from pyro_mnar.mechanisms.compiled import GraphMechanism
from pyro_mnar.mechanisms.declared import Constant, SelfMasking
from pyro_mnar.models.factor_em import OwnLogOdds
from pyro_mnar.models.factor_law import Expected
from pyro_mnar.models.own_value_fit import fit_own_value
from pyro_mnar.tables.batch import Batch

LEAST_SHARE = 1e-3


class OwnValues(NamedTuple):
    """Which columns' own values cause their gaps, and what is known of it.

    Attributes:
        parents: Columns whose own value is among the causes; ``(columns,)``.
        known: Slopes that are held, NaN where they are learned; ``(columns,)``.
        sign: -1, 0 or 1; ``(columns,)``.
    """

    parents: Bool[NDArray, " columns"]
    known: Float[NDArray, " columns"]
    sign: NDArray[np.int_]

    @property
    def learned(self) -> Bool[NDArray, " columns"]:
        """Columns whose slope is to be learned; ``(columns,)``."""
        return self.parents & np.isnan(self.known)


def is_told(mechanism: nn.Module | None, batch: Batch) -> bool:
    """Whether rows can tell all parameters of a mechanism.

    Not those of networks, priors, slopes in latents or incomplete columns, and not slopes in a column's own value and
    in complete columns at once.
    """
    if isinstance(mechanism, GraphMechanism):
        return not mechanism.has_network and _are_others_told(mechanism, batch)
    if type(mechanism) is SelfMasking:
        return not mechanism.priors
    return mechanism is None or type(mechanism) is Constant


def _are_others_told(mechanism: GraphMechanism, batch: Batch) -> bool:
    """Whether causes beside a column's own value are complete columns or u, of unknown sign, and the only ones."""
    columns, parents, used = batch.num_columns, mechanism._other_parents, mechanism._used
    first_of_u = 2 * columns + mechanism.latent_dim  # behind x, z and r
    is_complete = batch.mask.all(0)[used.clamp_max(columns - 1)] & (used < columns)
    fine = (is_complete | (used >= first_of_u)) & (mechanism._other_signs == 0) & mechanism._other_known.isnan()
    has_gaps = (~batch.mask & batch.mask_modelled).any(0)
    masks_itself = mechanism._own_parents & has_gaps & (mechanism._own_known != 0)
    return bool((fine | ~parents).all()) and not bool((masks_itself & parents.any(1)).any())


def own_values(mechanism: nn.Module | None, columns: int) -> OwnValues:
    """What a mechanism says of own values."""
    if isinstance(mechanism, SelfMasking):
        known = torch.where(mechanism.is_known, mechanism.known_slope, torch.nan).double().cpu().numpy()
        return OwnValues(np.ones(columns, bool), known, mechanism.sign.cpu().numpy())
    if isinstance(mechanism, GraphMechanism):
        known = mechanism._own_known.double().cpu().numpy()
        return OwnValues(mechanism._own_parents.cpu().numpy(), known, mechanism._own_signs.cpu().numpy())
    return OwnValues(np.zeros(columns, bool), np.full(columns, np.nan), np.zeros(columns, int))


def own_log_odds(
    own: OwnValues, expected: Expected, batch: Batch, middles: Mapping[int, float], first: OwnLogOdds | None = None
) -> OwnLogOdds | None:
    """Mechanisms of own values, each given what the other columns say of the column.

    None where a slope that is to be learned is not told: by a column of few values or gaps, or by free slopes of
    different signs, since single columns are now and then taken for their mirror image.

    Args:
        own: Which columns have one.
        expected: The law of each cell given the rest of its row.
        batch: The rows.
        middles: Where the log-odds of known slopes are zero, as far as that is known, by position.
        first: Earlier ones, to go on from.
    """
    columns = batch.num_columns
    x, seen = batch.x.double().cpu().numpy(), batch.mask.cpu().numpy()
    gaps = (~batch.mask & batch.mask_modelled).cpu().numpy()
    intercept, slope = np.zeros(columns), np.zeros(columns)
    for at in np.flatnonzero(own.parents & gaps.any(0)).tolist():
        used = seen[:, at] | gaps[:, at]
        values, is_seen, is_learned = x[used, at], seen[used, at], bool(own.learned[at])
        if is_learned and not says_something(values[is_seen], ~is_seen):
            return None
        if at in middles and not is_learned:
            slope[at], intercept[at] = own.known[at], -own.known[at] * middles[at]
            continue
        found = fit_own_value(
            values,
            is_seen,
            expected.mean[used, at],
            expected.variance[used, at],
            sign=int(own.sign[at]) if is_learned else 0,
            slope=None if is_learned else float(own.known[at]),
            first=None if first is None else (float(first.intercept[at]), float(first.slope[at])),
        )
        slope[at], intercept[at] = found.slope, found.intercept
    free = np.sign(slope[own.learned & gaps.any(0) & (own.sign == 0)])
    return OwnLogOdds(intercept, slope) if abs(free.sum()) == len(free) else None


def put_mechanism(mechanism: nn.Module, of_own: OwnLogOdds, own: OwnValues, batch: Batch) -> None:
    """Set the parameters of a mechanism that is told."""
    modelled = batch.mask_modelled.double()
    count = modelled.sum(0).clamp_min(1.0)
    share = ((batch.mask * modelled).sum(0) / count).clamp(LEAST_SHARE, 1 - LEAST_SHARE)
    intercept = torch.logit(share)
    slope = torch.as_tensor(of_own.slope).to(intercept)
    has_slope = slope != 0
    intercept = torch.where(has_slope, torch.as_tensor(of_own.intercept).to(intercept), intercept)
    if isinstance(mechanism, GraphMechanism):
        _put_given(mechanism, intercept, batch)
        mechanism.put_lines(intercept, _own_slopes(mechanism.own_slope, slope, own))
    elif isinstance(mechanism, SelfMasking):
        mechanism.put_lines(intercept, _own_slopes(mechanism.slope, slope, own))
    else:
        cast(Tensor, mechanism.intercept).copy_(intercept)


def _own_slopes(before: Tensor, slope: Float[Tensor, " columns"], own: OwnValues) -> Float[Tensor, " columns"]:
    """Slopes in own values, where they are learned; those of a declared sign that rows do not tell as before."""
    learned, is_free = (torch.as_tensor(where).to(before.device) for where in (own.learned, own.sign == 0))
    return torch.where(learned & ((slope != 0) | is_free), slope, before.to(slope))


def _put_given(mechanism: GraphMechanism, intercept: Float[Tensor, " columns"], batch: Batch) -> None:
    """Slopes in complete columns and u, and the intercepts beside them, by logistic regression."""
    zeros = batch.x.new_zeros(len(batch), mechanism.latent_dim)
    inputs = mechanism._others(batch.x, zeros, batch.mask, batch.aux).double()
    for at in mechanism._other_parents.any(1).nonzero().squeeze(-1).tolist():
        rows, chosen = batch.mask_modelled[:, at], mechanism._other_parents[at].nonzero().squeeze(-1)
        seen = batch.mask[rows, at].double().cpu().numpy()
        found = logistic_regression(seen, inputs[rows][:, chosen].cpu().numpy())
        mechanism.raw_other_slope[at, chosen] = torch.as_tensor(found.slopes).to(mechanism.raw_other_slope)
        intercept[at] = found.intercept
