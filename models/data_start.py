"""Where ``fit(start="data")`` lets our models start: at the maximum of a linear-Gaussian model with the same mechanism.

    x = W z + b + noise,    z = (u, f) + ...,    f ~ N(0, I)

EM finds it.  Where the prior depends on U, the first latents copy U, narrowly, and the others are factors of what U
leaves unexplained, as many as the data speak for.  The decoder's network, which bends its linear map, is set to zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor, nn

from pyro_mnar.graphs import likely
from pyro_mnar.graphs.gap_evidence import nats_of_own_bend
from pyro_mnar.infer.data_start import LatentStart
from pyro_mnar.models.bends import nats_of_bends
from pyro_mnar.models.factor_count import number_of_factors
from pyro_mnar.models.factor_em import OwnLogOdds, fit_factors
from pyro_mnar.models.factor_law import Cells, Factors, canonical, expected_without_own, log_likelihood, posterior
from pyro_mnar.models.mechanism_start import OwnValues, is_told, own_log_odds, own_values, put_mechanism
from pyro_mnar.nn import ResidualMLP
from pyro_mnar.nn.likelihoods import Decoder, GaussianNoise, MixedLikelihood
from pyro_mnar.nn.networks import unconstrained_positive
from pyro_mnar.nn.priors import LinearNormal, StandardNormal
from pyro_mnar.tables.batch import Batch

MOST_COLUMNS = 200  # wider tables stay with their random start
LEAST_ROWS = 10
FARTHEST = 5.0  # standard deviations; a value beyond says no more than one there
WIDTH_OF_COPY, WIDTH_BESIDE = 0.05, 0.1  # standard deviation of a latent that copies U, or what the prior knows beside
IDLE = 0.05  # of its random start, what a latent that the data do not speak for keeps
ROUNDS_BEFORE, ROUNDS = 8, 24  # of EM: before slopes are looked for, and after
TURNS = 3  # slopes and EM take turns

Matrix = Float[NDArray, "_ _"]


def start_from_data(
    batch: Batch,
    prior: nn.Module,
    decoder: nn.Module,
    mechanism: nn.Module | None,
    *,
    shrinkage: bool = False,
    middles: Mapping[int, float] | None = None,
) -> LatentStart | None:
    """Set the parameters of a model's parts from rows; None, and nothing is set, where these do not tell all of them.

    Rows tell them where all columns are normal, the latents are enough to copy U beside the factors of what it leaves,
    and the mechanism has neither networks nor slopes in latents.

    Args:
        batch: The rows.
        prior: p(Z|U).
        decoder: p(X|Z), one of our own.
        mechanism: p(R|X,Z), if there is one.
        shrinkage: Whether the model shrinks the decoder's maps.
        middles: Of columns whose slopes the table itself made likely, by position, where their log-odds are zero.
    """
    decoder = cast(Decoder, decoder)
    linear, noises = _linear_of(decoder), _noises_of(decoder.likelihood)
    u = _features(prior, batch)
    latents, width = linear.in_features, 0 if u is None else u.shape[1]
    if u is None or not (noises and width <= latents and _are_enough(batch) and is_told(mechanism, batch)):
        return None
    seen, gaps = batch.mask.cpu().numpy(), (~batch.mask & batch.mask_modelled).cpu().numpy()
    x = np.where(seen, np.clip(batch.x.double().cpu().numpy(), -FARTHEST, FARTHEST), 0.0)
    fixed = np.full(batch.num_columns, np.nan)
    for noise, positions in noises:
        log_noise = noise.fixed_log_noise.masked_fill(noise.learned, torch.nan)
        fixed[positions] = np.exp(2 * log_noise.double().cpu().numpy())
    own, precision = own_values(mechanism, batch.num_columns), float(latents) if shrinkage else 1.0
    rows = _Rows(batch, x, seen, gaps, fixed, precision, own, middles)
    solved = rows.solved(u, latents - width)
    if solved is None:
        return None
    bend = rows.bend(solved, u)
    if isinstance(prior, LinearNormal) and prior.num_beside:
        # Groups and forests hide some bends, and not those among the columns with gaps, which say if a line is enough.
        plain_u = u[:, : batch.aux.shape[1]]
        plain = rows.solved(plain_u, latents - plain_u.shape[1])
        bend = bend if plain is None else max(bend, rows.bend(plain, plain_u))
    bend = max(bend, rows.own_bend(solved, u))
    factors, cells, of_own = canonical(solved.factors), solved.cells, solved.of_own

    loadings = np.zeros((batch.num_columns, latents))
    maps = np.concatenate([factors.of_covariates, factors.loadings], axis=1)
    loadings[:, : maps.shape[1]] = maps
    with torch.no_grad():
        _put_decoder(decoder, noises, loadings, factors)
        if isinstance(prior, LinearNormal):
            _put_prior(prior)
        if mechanism is not None:
            put_mechanism(mechanism, of_own, own, batch)
    copies, variance = np.zeros((len(u), latents)), np.ones(latents)
    copies[:, :width] = u
    if isinstance(prior, LinearNormal):
        variance[:width] = _widths_of_copies(prior).square().numpy()
    found = posterior(loadings, copies @ loadings.T + factors.offset, factors.variance, cells, variance)
    scale = np.sqrt(np.einsum("nii->ni", found.covariance))
    return LatentStart(
        torch.as_tensor(found.mean + copies).to(batch.x),
        torch.as_tensor(scale).to(batch.x),
        bend,
    )


class _Solved(NamedTuple):
    """Where EM ends, and slopes in own values with it."""

    factors: Factors
    cells: Cells
    of_own: OwnLogOdds


class _Rows(NamedTuple):
    """What the linear-Gaussian model is fitted to.

    Attributes:
        batch: The rows.
        x: Standardised values, zero in the gaps; ``(rows, columns)``.
        seen: Where there are values.
        gaps: Where there is none that the mechanism explains.
        variance: Of the noise where it is fixed, NaN where it is estimated; ``(columns,)``.
        shrinkage: Precision of a prior on the maps.
        own: Which columns mask themselves.
        middles: Of columns whose slopes the table itself made likely, by position, where their log-odds are zero.
    """

    batch: Batch
    x: Matrix
    seen: Bool[NDArray, "rows columns"]
    gaps: Bool[NDArray, "rows columns"]
    variance: Float[NDArray, " columns"]
    shrinkage: float
    own: OwnValues
    middles: Mapping[int, float] | None

    def solved(self, u: Matrix, most: int) -> _Solved | None:
        """Factors beside covariates u, in turn with slopes in own values; None where rows do not tell these, or speak
        for more than so many factors.
        """
        begun = self._begun(u, most)
        if begun is None:
            return None
        factors, cells = begun
        of_own: OwnLogOdds | None = self._no_own
        if not self.own.parents.any():
            return _Solved(*self._fitted(u, of_own, ROUNDS, begun), of_own)
        for turn in range(TURNS):
            expected = expected_without_own(factors, u, cells)
            of_own = own_log_odds(self.own, expected, self.batch, self.middles or {}, of_own if turn else None)
            if of_own is None:
                return None
            factors, cells = self._fitted(u, of_own, ROUNDS // TURNS, (factors, cells))
        return _Solved(factors, cells, of_own)

    def _begun(self, u: Matrix, most: int) -> tuple[Factors, Cells] | None:
        """Some rounds, own values left out, with as many factors as the correlations speak for, and one more as long as
        it makes the seen values likelier than its price: of pairs that few rows show both values of, correlations tell
        little.
        """
        count = number_of_factors(self.x, self.seen, u, most + u.shape[1])
        if count > most:
            return None  # copies of U would take the latents of what it leaves unexplained
        begun = self._fitted(u, self._no_own, ROUNDS_BEFORE, count)
        free = np.isnan(self.variance)  # others are copies of u

        def likelihood(factors: Factors) -> float:
            of_free = Factors(*(part[free] for part in factors))
            return log_likelihood(of_free, self.x[:, free], self.seen[:, free], u)

        found = likelihood(begun[0])
        while count < min(most, free.sum() - 1):
            more = self._fitted(u, self._no_own, ROUNDS_BEFORE, count + 1)
            likelier, price = likelihood(more[0]), 0.5 * np.log(len(self.x)) * (free.sum() - count)
            if likelier - found <= price:
                break
            begun, found, count = more, likelier, count + 1
        return begun

    def _fitted(
        self, u: Matrix, of_own: OwnLogOdds, rounds: int, first: int | tuple[Factors, Cells]
    ) -> tuple[Factors, Cells]:
        """Rounds of EM, from earlier ones on or with so many factors."""
        is_new = isinstance(first, int)
        return fit_factors(
            self.x,
            self.seen,
            u,
            first if is_new else first[0].loadings.shape[1],
            variance=self.variance,
            of_own=of_own,
            masked=self.gaps,
            shrinkage=self.shrinkage,
            rounds=rounds,
            first=None if is_new else first,
        )

    @property
    def _no_own(self) -> OwnLogOdds:
        nothing = np.zeros(self.batch.num_columns)
        return OwnLogOdds(nothing, nothing)

    def bend(self, solved: _Solved, u: Matrix) -> float:
        """Nats by which columns with gaps bend."""
        expected = expected_without_own(solved.factors, u, solved.cells)
        return nats_of_bends(self.x, self.seen, expected, solved.of_own)

    def own_bend(self, solved: _Solved, u: Matrix) -> float:
        """Nats by which columns bend whose slopes were found under a line and are held; values as when they were."""
        if not self.middles:
            return 0.0
        total, x = 0.0, self.batch.x.double().clamp(-likely.FARTHEST, likely.FARTHEST).cpu().numpy()
        others = self.seen.all(0) & np.isnan(self.variance)  # than those that are in u, on a scale of their own
        complete = np.concatenate([self.batch.aux.double().cpu().numpy(), x[:, others]], axis=1)
        rest = None if complete.size else expected_without_own(solved.factors, u, solved.cells).mean
        for at in self.middles:
            used = self.seen[:, at] | self.gaps[:, at]
            told = (complete if rest is None else rest[:, [at]])[used]
            y, seen = x[used, at], self.seen[used, at]
            told = told[:, likely.most_telling(told, y, seen)]
            total += max(nats_of_own_bend(y, seen, told, float(solved.of_own.slope[at])), 0.0)
        return total


def _are_enough(batch: Batch) -> bool:
    """Whether rows are of the kind that EM takes: no bounds, no weights, some value in each of not too many columns."""
    is_plain = batch.bounds is None and batch.weight is None
    return is_plain and batch.num_columns <= MOST_COLUMNS and len(batch) >= LEAST_ROWS and bool(batch.mask.any(0).all())


def _features(prior: nn.Module, batch: Batch) -> Matrix | None:
    """What the first latents copy: what the prior is linear in, of a standard one nothing; None for other priors."""
    if isinstance(prior, LinearNormal):
        with torch.no_grad():
            return prior.features(batch.aux).double().cpu().numpy()
    return np.zeros((len(batch), 0)) if isinstance(prior, StandardNormal) else None


def _linear_of(decoder: Decoder) -> nn.Linear:
    network = decoder.network
    return network.linear if isinstance(network, ResidualMLP) else cast(nn.Linear, cast(nn.Sequential, network)[0])


def _noises_of(likelihood: nn.Module) -> list[tuple[GaussianNoise, list[int]]]:
    """The normal likelihoods and their columns, in the order of the network's outputs; none unless all are normal.

    One scale that several columns share is none that EM finds.
    """
    if isinstance(likelihood, MixedLikelihood):
        parts = [(part, list(at)) for part, at in zip(likelihood.parts, likelihood.positions, strict=True)]
    else:
        parts = [(likelihood, list(range(cast(int, likelihood.num_outputs))))]
    noises = [(part, at) for part, at in parts if type(part) is GaussianNoise and _is_each_its_own(part)]
    return noises if len(noises) == len(parts) else []


def _is_each_its_own(noise: GaussianNoise) -> bool:
    return noise.source.tolist() == list(range(noise.num_outputs))


def _put_decoder(
    decoder: Decoder, noises: list[tuple[GaussianNoise, list[int]]], loadings: Matrix, factors: Factors
) -> None:
    """Set the linear map and the learned scales, and the network to zero."""
    linear = _linear_of(decoder)
    order = [column for _, positions in noises for column in positions]
    is_idle = torch.as_tensor((loadings == 0).all(0)).to(linear.weight.device)
    drawn = torch.where(is_idle, IDLE * linear.weight, 0.0)  # so that training can find a use for it
    linear.weight.copy_(torch.as_tensor(loadings[order]).to(linear.weight) + drawn)
    linear.bias.copy_(torch.as_tensor(factors.offset[order]))
    if isinstance(decoder.network, ResidualMLP):
        decoder.network.reset_parameters()
    for noise, positions in noises:
        log_noise = torch.as_tensor(0.5 * np.log(factors.variance[positions])).to(noise.log_noise)
        noise.log_noise.copy_(torch.where(noise.learned, log_noise, noise.log_noise))


def _put_prior(prior: LinearNormal) -> None:
    """Let the first latents copy u and what tells groups."""
    of_u = prior.parameters_of_u
    width, latents = of_u.in_features, of_u.out_features // 2
    of_u.weight.zero_()
    of_u.bias.zero_()
    of_u.weight[:width] = torch.eye(width).to(of_u.weight)
    of_u.bias[latents : latents + width] = unconstrained_positive(_widths_of_copies(prior)).to(of_u.bias)


def _widths_of_copies(prior: LinearNormal) -> Float[Tensor, " features"]:
    widths = torch.full((prior.parameters_of_u.in_features,), WIDTH_OF_COPY)
    widths[len(widths) - prior.num_beside :] = WIDTH_BESIDE  # a guide knows these less well
    return widths
