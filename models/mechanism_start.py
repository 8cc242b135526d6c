"""Where mechanisms start: intercepts from shares, slopes in complete columns by logistic regression, slopes in own
values from the law of a column given what the others say of it.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor, nn

from pyro_mnar.graphs.gap_evidence import LOGIT_OF_PROBIT, gap_evidence, logistic_regression
from pyro_mnar.graphs.likely import STEEPEST, says_something
from pyro_mnar.mechanisms.compiled import GraphMechanism
from pyro_mnar.mechanisms.declared import Constant, LatentDependent, SelfMasking
from pyro_mnar.models.factor_em import Probits
from pyro_mnar.nn.networks import inverse_softplus
from pyro_mnar.tables.batch import Batch

LEAST_SLOPE = 0.1  # log-odds per standard deviation
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


def own_values(mechanism: nn.Module | None, columns: int) -> OwnValues:
    """What a mechanism says of own values; nothing where it is none of ours."""
    if isinstance(mechanism, SelfMasking):
        known = torch.where(mechanism.is_known, mechanism.known_slope, torch.nan).double().cpu().numpy()
        return OwnValues(np.ones(columns, bool), known, mechanism.sign.cpu().numpy())
    if isinstance(mechanism, GraphMechanism):
        known = mechanism._own_known.double().cpu().numpy()
        return OwnValues(mechanism._own_parents.cpu().numpy(), known, mechanism._own_signs.cpu().numpy())
    return OwnValues(np.zeros(columns, bool), np.full(columns, np.nan), np.zeros(columns, int))


def first_probits(own: OwnValues, told: Float[NDArray, "rows columns"], batch: Batch, mechanism: nn.Module) -> Probits:
    """Mechanisms of own values, each given what the other columns say of the column.

    Single columns are now and then taken for their mirror image.  So one whose free slope has another sign than most
    columns' starts without a slope, for training to find.

    Args:
        own: Which columns have one.
        told: What the rest of its row makes one expect of each cell.
        batch: The rows.
        mechanism: p(R|X,Z); where slopes are known from the table itself, intercepts stand there.
    """
    columns = batch.num_columns
    x, seen = batch.x.double().cpu().numpy(), batch.mask.cpu().numpy()
    gaps = (~batch.mask & batch.mask_modelled).cpu().numpy()
    intercept, slope = np.zeros(columns), np.zeros(columns)
    already = cast(Tensor, mechanism.intercept).detach().double().cpu().numpy()
    for at in np.flatnonzero(own.parents & gaps.any(0)):
        used = seen[:, at] | gaps[:, at]
        values, is_seen = x[used, at], seen[used, at]
        if not np.isnan(own.known[at]):
            slope[at], intercept[at] = own.known[at] / LOGIT_OF_PROBIT, already[at] / LOGIT_OF_PROBIT
            if not already[at]:
                intercept[at] = _middle_for(slope[at], told[used, at], is_seen)
            continue
        if not says_something(values[is_seen], ~is_seen):
            continue
        found = gap_evidence(values, is_seen, told[used][:, [at]])
        steep = float(np.clip(found.slope, -STEEPEST, STEEPEST))
        if own.sign[at]:
            steep = own.sign[at] * max(own.sign[at] * steep, LEAST_SLOPE)
        slope[at] = steep / LOGIT_OF_PROBIT
        intercept[at] = -slope[at] * found.middle
    free = own.parents & np.isnan(own.known) & (own.sign == 0)
    alone = free & (np.sign(slope) != np.sign(np.sign(slope[free]).sum()))
    return Probits(np.where(alone, 0.0, intercept), np.where(alone, 0.0, slope))


def put_mechanism(mechanism: nn.Module, probits: Probits, own: OwnValues, batch: Batch) -> bool:
    """Set a mechanism's parameters; whether all of them start from the data."""
    if not isinstance(mechanism, (Constant, SelfMasking, GraphMechanism)):
        return False
    modelled = batch.mask_modelled.double()
    count = modelled.sum(0).clamp_min(1.0)
    share = ((batch.mask * modelled).sum(0) / count).clamp(LEAST_SHARE, 1 - LEAST_SHARE)
    intercept = torch.logit(share)
    slope = torch.as_tensor(probits.slope * LOGIT_OF_PROBIT).to(intercept)
    has_slope = slope != 0
    intercept = torch.where(has_slope, torch.as_tensor(probits.intercept * LOGIT_OF_PROBIT).to(intercept), intercept)
    is_near = True
    if isinstance(mechanism, GraphMechanism):
        sign, raw = mechanism._own_signs, mechanism.raw_own_slope
        is_near = not mechanism.has_network
        if mechanism._other_parents.any():
            is_near &= _put_given(mechanism, intercept, batch, has_slope)
    elif isinstance(mechanism, SelfMasking):
        sign, raw = mechanism.sign, mechanism.raw_slope
        is_near = not mechanism.priors and not isinstance(mechanism, LatentDependent)
    else:
        mechanism.intercept.copy_(intercept)
        return True
    size = slope.abs().clamp_min(LEAST_SLOPE)
    of_size = inverse_softplus(size)
    learned = torch.as_tensor(own.parents & np.isnan(own.known)).to(raw.device)
    has_gaps = (~batch.mask & batch.mask_modelled).any(0)
    is_near &= not bool((learned & has_gaps & ~has_slope.to(raw.device)).any())  # what is declared has to be trained
    raw.copy_(
        torch.where(learned & (has_slope.to(raw.device) | (sign == 0)), torch.where(sign == 0, slope, of_size), raw)
    )
    mechanism.intercept.copy_(intercept)
    return is_near


def _put_given(mechanism: GraphMechanism, intercept: Tensor, batch: Batch, has_slope: Tensor) -> bool:
    """Slopes of columns whose other causes are complete, by logistic regression; whether these are all."""
    columns = batch.num_columns
    zeros = batch.x.new_zeros(len(batch), mechanism.latent_dim)
    inputs = mechanism._others(batch.x, zeros, batch.mask | ~batch.mask_modelled, batch.aux).double()
    used = mechanism._used.cpu()
    complete = batch.mask.all(0).cpu()
    beside = columns + mechanism.latent_dim + (len(mechanism.indicators) if mechanism.indicators is not None else 0)
    fine = torch.tensor([bool(complete[at]) if at < columns else at >= beside + columns for at in used.tolist()])
    allowed = (mechanism._other_parents & mechanism._other_known.isnan()).cpu()
    free = mechanism._other_signs.cpu() == 0
    is_whole = True
    for at in range(columns):
        mine = mechanism._other_parents[at].cpu()
        if not mine.any():
            continue
        if not bool((fine & free & allowed[at] | ~mine).all()) or bool(has_slope[at]):
            is_whole = False
            continue
        rows, chosen = batch.mask_modelled[:, at], mine.nonzero().squeeze(-1).to(inputs.device)
        seen = batch.mask[rows, at].double().cpu().numpy()
        found = logistic_regression(seen, inputs[rows][:, chosen].cpu().numpy())
        mechanism.raw_other_slope[at, chosen] = torch.as_tensor(found.slopes).to(mechanism.raw_other_slope)
        intercept[at] = found.intercept
    return is_whole


def _middle_for(slope: float, told: Float[NDArray, " rows"], seen: Bool[NDArray, " rows"]) -> float:
    """Intercept under which a known slope gives as many gaps as there are."""
    from scipy.optimize import brentq
    from scipy.special import ndtr

    total = np.hypot(1.0, slope)
    far = 10 * (1 + abs(slope))
    wanted = np.clip(seen.mean(), LEAST_SHARE, 1 - LEAST_SHARE)
    return float(brentq(lambda a: ndtr((a + slope * told) / total).mean() - wanted, -far, far))
