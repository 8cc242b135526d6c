"""Where our models start: at the maximum of a linear-Gaussian model with the same mechanism, found by EM.

    scores = W z + b + noise,    z = (u, f) + ...,    f ~ N(0, I)

Where the prior depends on U, the first latents copy U, narrowly, and the others are factors of what U leaves
unexplained, as many as the data speak for.  The decoder's network, which bends its linear map, stays at zero.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import nn

from pyro_mnar.infer.data_start import LatentStart
from pyro_mnar.models.factor_count import number_of_factors
from pyro_mnar.models.factor_em import (
    Cells,
    Factors,
    Posterior,
    Probits,
    canonical,
    expected_without_own,
    fit_factors,
    posterior,
)
from pyro_mnar.models.mechanism_start import first_probits, own_values, put_mechanism
from pyro_mnar.models.output_scores import ScoredLaw, Scores, scores_of
from pyro_mnar.nn import MLP, ResidualMLP
from pyro_mnar.nn.likelihoods import Decoder
from pyro_mnar.nn.networks import unconstrained_positive
from pyro_mnar.nn.priors import LinearNormal
from pyro_mnar.tables.batch import Batch

MOST_COLUMNS = 200  # scores; wider tables stay with their random start
LEAST_ROWS = 20
WIDTH_OF_COPY = 0.05  # standard deviation of a latent that copies U
IDLE = 0.05  # of its random start, what a latent that the data do not speak for keeps
ROUNDS_BEFORE, ROUNDS = 8, 25  # of EM: before slopes are looked for, and in all

Matrix = Float[NDArray, "_ _"]


def start_from_data(
    batch: Batch, prior: nn.Module, decoder: nn.Module, mechanism: nn.Module | None, *, shrinkage: bool, of_mask: bool
) -> LatentStart | None:
    """Set the parameters of a model's parts from rows; None, and nothing is set, where they do not allow it.

    Args:
        batch: The rows.
        prior: p(Z|U).
        decoder: p(X|Z), the default one.
        mechanism: p(R|X,Z), if there is one.
        shrinkage: Whether the model shrinks the decoder's maps.
        of_mask: Whether U is the mask, which no latent copies.
    """
    linear = _linear_of(decoder)
    if linear is None or batch.bounds is not None or len(batch) < LEAST_ROWS or not batch.mask.any(0).all():
        return None
    parts = scores_of(cast(Decoder, decoder).likelihood, batch.x, batch.mask)
    law = _Law.of(parts, batch, prior, linear.weight.shape[1], shrinkage=shrinkage, of_mask=of_mask)
    if not 0 < law.values.shape[1] <= MOST_COLUMNS:
        return None
    probits = Probits(np.zeros(batch.num_columns), np.zeros(batch.num_columns))
    own = own_values(mechanism, batch.num_columns)
    if mechanism is not None and (own.parents & law.can_mask).any():
        told = law.told(*law.fitted(law.of_scores(probits), ROUNDS_BEFORE))
        own = own._replace(parents=own.parents & law.can_mask)
        probits = first_probits(own, told, batch, mechanism)
    factors, cells = law.fitted(law.of_scores(probits), ROUNDS)
    with torch.no_grad():
        turn = law.turn(factors)
        loadings = law.loadings_of_latents(factors, turn)
        is_near = _put_decoder(parts, linear, loadings, factors)
        if isinstance(prior, LinearNormal) and len(turn):
            _put_prior(prior, turn)
        is_near &= len(turn) == prior_width(prior) and batch.weight is None
        is_near &= bool(law.can_mask.all())  # what is said of levels and counts holds to first order
        if mechanism is not None:
            is_near &= put_mechanism(mechanism, probits, own, batch)
    found = law.latents(factors, cells, turn, loadings)
    scale = np.sqrt(np.einsum("nii->ni", found.covariance))
    return LatentStart(torch.as_tensor(found.mean).to(batch.x), torch.as_tensor(scale).to(batch.x), bool(is_near))


def prior_width(prior: nn.Module) -> int:
    """Width of the u that a prior sees."""
    return prior.parameters_of_u.in_features if isinstance(prior, LinearNormal) else 0


class _Law(NamedTuple):
    """Scores of rows and what they are explained by.

    Attributes:
        values: Scores, any number in the gaps.
        seen: Where there are some.
        gaps: Those of normal columns that a mechanism is to explain.
        fixed: Variances that are not learned, NaN where they are.
        u: What latents copy; of width zero where the prior does not see U.
        num_latents: H.
        num_factors: Factors beside the copies of U.
        shrinkage: Precision of a normal prior on the maps.
        at: The score of each normal column, -1 of the others; ``(columns,)``.
    """

    values: Matrix
    seen: Bool[NDArray, "rows columns"]
    gaps: Bool[NDArray, "rows columns"]
    fixed: Float[NDArray, " columns"]
    u: Matrix
    num_latents: int
    num_factors: int
    shrinkage: float
    at: Int[NDArray, " columns"]

    @classmethod
    def of(
        cls, parts: list[Scores], batch: Batch, prior: nn.Module, latents: int, *, shrinkage: bool, of_mask: bool
    ) -> _Law:
        """The scores of all parts, side by side."""
        values, seen = (np.concatenate([getattr(part, name) for part in parts], axis=1) for name in ("values", "seen"))
        column = np.concatenate([part.column for part in parts])
        normal = np.concatenate([np.full(len(part.column), part.is_normal) for part in parts])
        at = np.full(batch.num_columns, -1)
        at[column[normal]] = np.flatnonzero(normal)
        gaps = (~batch.mask & batch.mask_modelled).cpu().numpy()[:, column] & normal
        sees_u = isinstance(prior, LinearNormal) and not of_mask
        u = batch.aux.double().cpu().numpy() if sees_u else np.zeros((len(values), 0))
        left = latents - min(latents, u.shape[1])
        count = number_of_factors(values, seen, u, left) if 0 < values.shape[1] <= MOST_COLUMNS else 0
        fixed = np.concatenate([part.fixed for part in parts])
        precision = float(latents) if shrinkage else 1.0
        return cls(np.where(seen, values, 0.0), seen, gaps, fixed, u, latents, count, precision, at)

    @property
    def can_mask(self) -> Bool[NDArray, " columns"]:
        """Columns that are normal, so that their own values can be said to cause their gaps."""
        return self.at >= 0

    def of_scores(self, of_columns: Probits) -> Probits:
        """Mechanisms of columns as mechanisms of scores."""
        normal = self.can_mask
        intercept, slope = np.zeros(self.values.shape[1]), np.zeros(self.values.shape[1])
        intercept[self.at[normal]] = of_columns.intercept[normal]
        slope[self.at[normal]] = of_columns.slope[normal]
        return Probits(intercept, slope)

    def fitted(self, probits: Probits, rounds: int) -> tuple[Factors, Cells]:
        """The maximum under these mechanisms."""
        factors, cells = fit_factors(
            self.values,
            self.seen,
            self.u,
            self.num_factors,
            variance=self.fixed,
            probits=probits,
            masked=self.gaps,
            shrinkage=self.shrinkage,
            rounds=rounds,
        )
        return canonical(factors), cells

    def told(self, factors: Factors, cells: Cells) -> Matrix:
        """What the other columns and U make one expect of each normal column; zeros of the others."""
        expected = expected_without_own(factors, self.u, cells)
        return np.where(self.can_mask, expected[:, np.maximum(self.at, 0)], 0.0)

    def turn(self, factors: Factors) -> Float[NDArray, "copies covariates"]:
        """What of u the first latents copy: all of it, or where there are too few, what the columns follow most."""
        width = self.u.shape[1]
        if width <= self.num_latents:
            return np.eye(width)
        spread = self.u.std(0) + 1e-9
        direction = np.linalg.svd(factors.of_covariates * spread)[2][: self.num_latents] / spread
        return direction / ((self.u @ direction.T).std(0) + 1e-9)[:, None]

    def loadings_of_latents(self, factors: Factors, turn: Matrix) -> Float[NDArray, "scores latents"]:
        """Loadings on copies and factors; zero on what is left."""
        loadings = np.zeros((self.values.shape[1], self.num_latents))
        loadings[:, : len(turn)] = factors.of_covariates @ np.linalg.pinv(turn) if len(turn) else 0.0
        loadings[:, len(turn) : len(turn) + self.num_factors] = factors.loadings
        return loadings

    def latents(self, factors: Factors, cells: Cells, turn: Matrix, loadings: Matrix) -> Posterior:
        """The posterior of z."""
        mean, variance = np.zeros((len(self.u), self.num_latents)), np.ones(self.num_latents)
        mean[:, : len(turn)] = self.u @ turn.T
        variance[: len(turn)] = WIDTH_OF_COPY**2
        found = posterior(loadings, mean @ loadings.T + factors.offset, factors.variance, cells, variance)
        return found._replace(mean=found.mean + mean)


def _linear_of(decoder: nn.Module) -> nn.Linear | None:
    """The linear map of a default decoder."""
    network = decoder.network if isinstance(decoder, Decoder) else None
    if isinstance(network, ResidualMLP):
        return network.linear
    if isinstance(network, MLP) and len(network) == 1:
        return cast(nn.Linear, network[0])
    return None


def _put_decoder(parts: list[Scores], linear: nn.Linear, loadings: Matrix, factors: Factors) -> bool:
    """Set the linear map and what the likelihoods learn; whether this is all of the decoder."""
    weights, biases, at = [], [], 0
    for part in parts:
        here = slice(at, at := at + part.values.shape[1])
        weight, bias = part.put(ScoredLaw(loadings[here], factors.offset[here], factors.variance[here]))
        weights.append(weight)
        biases.append(bias)
    weight, bias = (torch.as_tensor(np.concatenate(rows)).to(linear.weight) for rows in (weights, biases))
    is_idle = torch.as_tensor((loadings == 0).all(0)).to(weight.device)
    drawn = torch.where(is_idle, IDLE * linear.weight, 0.0)  # so that training can find a use for it
    is_left = bias.isnan()
    linear.weight.copy_(torch.where(is_left.unsqueeze(-1), linear.weight, weight.nan_to_num() + drawn))
    linear.bias.copy_(torch.where(is_left, linear.bias, bias.nan_to_num()))
    return not bool(is_left.any())


def _put_prior(prior: LinearNormal, turn: Matrix) -> None:
    """Let the first latents copy what they are to copy of u."""
    of_u, latents = prior.parameters_of_u, prior.parameters_of_u.out_features // 2
    of_u.weight.zero_()
    of_u.bias.zero_()
    of_u.weight[: len(turn)] = torch.as_tensor(turn).to(of_u.weight)
    of_u.bias[latents : latents + len(turn)] = unconstrained_positive(torch.tensor(WIDTH_OF_COPY)).to(of_u.bias)
