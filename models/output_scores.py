"""A decoder's outputs as standardised scores: what a linear-Gaussian model of the scores says of the outputs.

    f_k(z) = c_k + Σ_l G_kl s_l(z),    s(z) linear

Normal columns are scores themselves.  A level's indicator, standardised, gives the level's log-odds to first order in
the probabilities; an ordinal column's code the cumulative logits of a normal behind it; a count its log mean.  What has
no such relation keeps its outputs as they were.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from pyro_mnar.distributions.levels import codes_of
from pyro_mnar.nn.level_likelihoods import LevelLikelihood, OrdinalLikelihood
from pyro_mnar.nn.likelihoods import CountLikelihood, GaussianNoise, MixedLikelihood, StudentNoise

FARTHEST = 5.0  # standard deviations; a value beyond says no more than one there
LEAST_SHARE = 0.01  # of a level
LOGIT_OF_NORMAL = 1.7  # standard deviations of a logistic law in those of a normal one, nearly

Matrix = Float[NDArray, "rows columns"]


class ScoredLaw(NamedTuple):
    """What was found of some scores.

    Attributes:
        loadings: Of each score on z; ``(scores, latents)``.
        offset: Where z is zero; ``(scores,)``.
        variance: About that; ``(scores,)``.
    """

    loadings: Float[NDArray, "scores latents"]
    offset: Float[NDArray, " scores"]
    variance: Float[NDArray, " scores"]


@dataclass(frozen=True)
class Scores:
    """Scores of some columns, and what becomes of their law.

    Attributes:
        values: Any number in the gaps; ``(rows, scores)``.
        seen: ``(rows, scores)``.
        fixed: Variances that are not learned, NaN where they are; ``(scores,)``.
        column: The column of each; ``(scores,)``.
        is_normal: Whether the score is the column's own value, standardised.
        put: Takes the law to rows of the network's linear map, ``(outputs, latents)`` and ``(outputs,)``, and sets what
            the likelihood itself learns; a row of NaN stays as it was.
    """

    values: Matrix
    seen: Bool[NDArray, "rows scores"]
    fixed: Float[NDArray, " scores"]
    column: Int[NDArray, " scores"]
    is_normal: bool
    put: Callable[[ScoredLaw], tuple[Matrix, Float[NDArray, " outputs"]]]


def scores_of(
    likelihood: nn.Module, x: Float[Tensor, "rows columns"], mask: Bool[Tensor, "rows columns"]
) -> list[Scores]:
    """Scores of all columns, in the order of the network's outputs.

    Args:
        likelihood: That of the default decoder.
        x: Standardised values.
        mask: Where they are seen.
    """
    if not isinstance(likelihood, MixedLikelihood):
        return [_scores(likelihood, x, mask, np.arange(x.shape[1]))]
    return [
        _scores(part, x[:, list(positions)], mask[:, list(positions)], np.array(positions))
        for part, positions in zip(likelihood.parts, likelihood.positions, strict=True)
    ]


def _scores(part: nn.Module, x: Tensor, mask: Tensor, columns: Int[NDArray, " columns"]) -> Scores:
    values, seen = x.double().cpu().numpy(), mask.cpu().numpy()
    if isinstance(part, GaussianNoise):
        return _normal(part, values, seen, columns)
    if isinstance(part, OrdinalLikelihood):
        return _ordinal(part, x, values, seen, columns)
    if isinstance(part, LevelLikelihood):
        return _levels(part, x, seen, columns)
    if isinstance(part, CountLikelihood):
        return _counts(part, values, seen, columns)
    width = cast(int, part.num_outputs)
    nothing = np.zeros((len(values), 0))

    def put(law: ScoredLaw) -> tuple[Matrix, Float[NDArray, " outputs"]]:
        return np.full((width, law.loadings.shape[1]), np.nan), np.full(width, np.nan)

    return Scores(nothing, nothing.astype(bool), np.zeros(0), columns[:0], False, put)


def _normal(part: GaussianNoise, values: Matrix, seen: NDArray[np.bool_], columns: Int[NDArray, " columns"]) -> Scores:
    learned = part.learned.cpu().numpy()
    fixed = np.where(learned, np.nan, np.exp(2 * part.fixed_log_noise.double().cpu().numpy()))

    def put(law: ScoredLaw) -> tuple[Matrix, Float[NDArray, " outputs"]]:
        log_noise = torch.as_tensor(0.5 * np.log(law.variance)).to(part.log_noise)
        part.log_noise.copy_(torch.where(part.learned, log_noise, part.log_noise))
        return law.loadings, law.offset

    is_normal = not isinstance(part, StudentNoise)
    return Scores(np.clip(values, -FARTHEST, FARTHEST), seen, fixed, columns, is_normal, put)


def _counts(
    part: CountLikelihood, values: Matrix, seen: NDArray[np.bool_], columns: Int[NDArray, " columns"]
) -> Scores:
    mean, std = part.offset.double().cpu().numpy(), part.unit.double().cpu().numpy()
    relative = part.relative.double().cpu().numpy()

    def put(law: ScoredLaw) -> tuple[Matrix, Float[NDArray, " outputs"]]:
        gain = np.minimum(std / np.maximum(mean, 0.1), 1.0) / relative
        loadings = law.loadings * gain[:, None]
        return loadings, law.offset * gain - 0.5 * relative * (loadings**2).sum(1)

    return Scores(np.clip(values, -FARTHEST, FARTHEST), seen, np.full(len(mean), np.nan), columns, False, put)


def _levels(part: LevelLikelihood, x: Tensor, seen: NDArray[np.bool_], columns: Int[NDArray, " columns"]) -> Scores:
    codes = codes_of(x, part.points).cpu().numpy()
    has_level, width = part.has_level.cpu().numpy(), part.outputs_per_column
    pairs = [(at, level) for at in range(len(columns)) for level in range(1, width + 1) if has_level[at, level]]
    share = np.stack([np.bincount(codes[seen[:, at], at], minlength=width + 1) for at in range(len(columns))]) + 0.5
    share = np.maximum(share * has_level / (share * has_level).sum(1, keepdims=True), LEAST_SHARE)
    of_pair = np.array([share[pair] for pair in pairs])
    spread = np.sqrt(of_pair * (1 - of_pair))
    values = np.stack([codes[:, at] == level for at, level in pairs], axis=1)
    at_column = np.array([at for at, _ in pairs])

    def put(law: ScoredLaw) -> tuple[Matrix, Float[NDArray, " outputs"]]:
        loadings = np.zeros((len(columns), width, law.loadings.shape[1]))
        offset = np.zeros((len(columns), width))
        moved = law.loadings * spread[:, None]  # of each probability
        for number, (at, level) in enumerate(pairs):
            of_first = -moved[at_column == at].sum(0)
            loadings[at, level - 1] = moved[number] / of_pair[number] - of_first / share[at, 0]
            offset[at, level - 1] = math.log(of_pair[number] / share[at, 0])
        return loadings.reshape(-1, loadings.shape[-1]), offset.reshape(-1)

    standardised = (values - of_pair) / spread
    return Scores(standardised, seen[:, at_column], np.full(len(pairs), np.nan), columns[at_column], False, put)


def _ordinal(
    part: OrdinalLikelihood, x: Tensor, values: Matrix, seen: NDArray[np.bool_], columns: Int[NDArray, " columns"]
) -> Scores:
    codes = codes_of(x, part.points).cpu().numpy()
    has_level = part.has_level.cpu().numpy()
    mean = np.array([values[seen[:, at], at].mean() if seen[:, at].any() else 0.0 for at in range(len(columns))])
    spread = np.array([values[seen[:, at], at].std() if seen[:, at].any() else 1.0 for at in range(len(columns))])
    spread = np.where(spread > 0, spread, 1.0)

    def put(law: ScoredLaw) -> tuple[Matrix, Float[NDArray, " outputs"]]:
        gain = LOGIT_OF_NORMAL / np.sqrt(np.maximum(law.variance, 0.1))
        raw = part.raw_cutpoints.detach().double().clone()
        for at in range(len(columns)):
            count = int(has_level[at].sum())
            found = np.bincount(codes[seen[:, at], at], minlength=count)[:count] + 0.5
            below = np.clip(np.cumsum(found / found.sum())[:-1], LEAST_SHARE, 1 - LEAST_SHARE)
            cut = gain[at] * torch.special.ndtri(torch.from_numpy(below))
            raw[at, : count - 1] = torch.cat([cut[:1], cut.diff().clamp_min(1e-3).expm1().log()])
        part.raw_cutpoints.copy_(raw)
        return law.loadings * gain[:, None], law.offset * gain

    return Scores((values - mean) / spread, seen, np.full(len(columns), np.nan), columns, False, put)
