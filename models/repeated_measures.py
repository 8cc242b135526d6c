"""Repeated measures: a multivariate normal of the visits, with means that depend on arm and covariates.

    x_i → Y_i        N(Y_i; Bᵀ x_i, Σ), rows of B by covariate, columns by visit; Σ unstructured

Missing at random: what is not seen of Y_i depends on what is.  Nothing is approximated: the likelihood of the observed
visits is a normal one, restricted maximum likelihood (REML) integrates B out of it, and the posterior is drawn by turns
of two exact conditionals (Schafer 1997, chapter 5).  The prior is flat in B; of Σ it is the inverse Wishart
distribution with J + 2 degrees of freedom, the fewest with a mean, and the REML estimate as its mean.  With complete
visits the posterior mean of Σ is then the REML estimate, where Jeffreys' prior would inflate it by a share
(J + 1) / (N - p - J - 1).  Reference-based imputation (:mod:`pyro_mnar.scenarios`) stands on this model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

FORGOTTEN = 1e-6  # share of its starting point that a chain may still remember when it is read
MOST_TURNS = 2000
GRADIENT = 1e-6  # of the criterion a patient, where a search counts as done


class Parameters(NamedTuple):
    """Values of the parameters, one or several draws of them.

    Attributes:
        coefficients: B; ``(..., covariates, visits)``.
        covariance: Σ; ``(..., visits, visits)``.
    """

    coefficients: Float[NDArray, "*draws covariates visits"]
    covariance: Float[NDArray, "*draws visits visits"]


class Pattern(NamedTuple):
    """Patients who were seen at the same visits, and what the likelihood takes from them.

    Attributes:
        seen: Which visits; ``(visits,)``.
        rows: Which patients, by position.
        xx: Σ x xᵀ; ``(covariates, covariates)``.
        xy: Σ x yᵀ, zero where not seen; ``(covariates, visits)``.
        yy: Σ y yᵀ, likewise; ``(visits, visits)``.
    """

    seen: Bool[NDArray, " visits"]
    rows: Int[NDArray, " rows"]
    xx: Float[NDArray, "covariates covariates"]
    xy: Float[NDArray, "covariates visits"]
    yy: Float[NDArray, "visits visits"]


@dataclass(frozen=True, eq=False)
class RepeatedMeasures:
    """The model of some patients.

    Attributes:
        design: Covariates of each patient, the constant among them; ``(patients, covariates)``.
        outcomes: What was measured, NaN where it was not; ``(patients, visits)``.
        visits: What the visits are called in errors.

    Raises:
        ValueError: If a covariate follows from others, or too few patients were seen at a visit, or at two of them.
    """

    design: Float[NDArray, "patients covariates"]
    outcomes: Float[NDArray, "patients visits"]
    visits: tuple[object, ...]

    def __post_init__(self) -> None:
        seen, num_covariates = ~np.isnan(self.outcomes), self.design.shape[1]
        needed = num_covariates + self.outcomes.shape[1]
        for j, visit in enumerate(self.visits):
            if seen[:, j].sum() <= needed:
                raise ValueError(
                    f"visit {visit!r}: expected more than {needed} patients seen ({num_covariates} coefficients and"
                    f" {self.outcomes.shape[1]} visits are to be estimated), got {int(seen[:, j].sum())}"
                )
            if np.linalg.matrix_rank(self.design[seen[:, j]]) < num_covariates:
                raise ValueError(
                    f"visit {visit!r}: expected covariates of which none follows from the others among the patients"
                    " seen, got some that do (an arm without patients, or a covariate that does not vary)"
                )
            for k in range(j):
                if (seen[:, j] & seen[:, k]).sum() <= needed:
                    raise ValueError(
                        f"visits {self.visits[k]!r} and {visit!r}: expected more than {needed} patients seen at both,"
                        f" got {int((seen[:, j] & seen[:, k]).sum())}, which do not tell the covariance"
                    )

    @property
    def num_visits(self) -> int:
        """J."""
        return self.outcomes.shape[1]

    @cached_property
    def patterns(self) -> list[Pattern]:
        """Patients by the visits at which they were seen; those never seen tell nothing, but stand here too."""
        found, which = np.unique(~np.isnan(self.outcomes), axis=0, return_inverse=True)
        filled = np.nan_to_num(self.outcomes)
        patterns = []
        for code, seen in enumerate(found):
            rows = np.flatnonzero(which.ravel() == code)
            x, y = self.design[rows], filled[rows]
            patterns.append(Pattern(seen, rows, *map(np.ascontiguousarray, (x.T @ x, x.T @ y, y.T @ y))))
        return patterns

    def log_likelihood(self, covariance: Float[Tensor, "visits visits"], *, restricted: bool) -> Float[Tensor, ""]:
        """Of Σ, given what was seen, with B at its best, or integrated out of it (restricted likelihood).

        Up to a constant.
        """
        information, weighted, total = self._normal_equations(covariance)
        factor = torch.linalg.cholesky(information)
        at_best = torch.linalg.solve_triangular(factor, weighted.reshape(-1, 1), upper=False).square().sum()
        value = -0.5 * (total - at_best)
        return value - factor.diagonal().log().sum() if restricted else value

    def estimate(self, *, restricted: bool = True) -> Parameters:
        """(Restricted) maximum likelihood.

        Raises:
            ValueError: If the search does not end at a maximum.
        """
        from scipy import optimize

        lower = np.tril_indices(self.num_visits)
        scale = torch.from_numpy(np.nanstd(self.outcomes, axis=0))
        start = np.zeros(len(lower[0]))

        def covariance_of(flat: Float[Tensor, " entries"]) -> Float[Tensor, "visits visits"]:
            entries = flat.new_zeros(self.num_visits, self.num_visits).index_put(
                (torch.from_numpy(lower[0]), torch.from_numpy(lower[1])), flat
            )
            diagonal = entries.diagonal().exp()
            factor = scale[:, None] * (entries.tril(-1) + diagonal.diag())
            return factor @ factor.T

        def loss(flat: Float[NDArray, " entries"]) -> tuple[float, Float[NDArray, " entries"]]:
            given = torch.from_numpy(flat).requires_grad_()
            value = -self.log_likelihood(covariance_of(given), restricted=restricted) / len(self.outcomes)
            (slope,) = torch.autograd.grad(value, given)
            return value.item(), slope.numpy()

        found = optimize.minimize(loss, start, jac=True, method="BFGS", options={"gtol": 1e-9, "maxiter": 1000})
        if not np.abs(found.jac).max() < GRADIENT:
            raise ValueError(
                f"expected a maximum of the likelihood of {len(self.outcomes)} patients, got a search that ended with"
                f" slope {np.abs(found.jac).max():.1e}: {found.message}"
            )
        covariance = covariance_of(torch.from_numpy(found.x))
        information, weighted, _ = self._normal_equations(covariance)
        best = torch.linalg.solve(information, weighted.reshape(-1)).reshape(self.num_visits, -1).T
        return Parameters(best.numpy(), covariance.numpy())

    def posterior(self, num_draws: int, rng: np.random.Generator) -> Parameters:
        """Independent draws of the parameters: each is the end of a chain of its own, long enough to forget its start.

        A turn completes the visits given the parameters, and draws the parameters given complete visits.  A chain
        forgets at the rate of the missing information (Liu 1994), which is computed at the estimate.
        """
        estimate = self.estimate()
        turns = self._turns(estimate)
        inverse = np.linalg.inv(self.design.T @ self.design)
        half = np.linalg.cholesky(inverse)
        now = Parameters(*(np.broadcast_to(part, (num_draws, *part.shape)) for part in estimate))
        degrees = self.num_visits + 2 + len(self.outcomes) - self.design.shape[1]
        for _ in range(turns):
            y = self.completed(self.design @ now.coefficients, now.covariance, rng)
            xy = self.design.T @ y
            best = inverse @ xy
            residual = y.swapaxes(-1, -2) @ y - xy.swapaxes(-1, -2) @ best
            factor = _inverse_wishart_factor(degrees, residual + estimate.covariance, rng)
            noise = half @ rng.standard_normal(best.shape) @ factor.swapaxes(-1, -2)
            now = Parameters(best + noise, factor @ factor.swapaxes(-1, -2))
        return now

    def completed(
        self,
        means: Float[NDArray, "*draws patients visits"],
        covariance: Float[NDArray, "*#draws visits visits"],
        rng: np.random.Generator | None,
    ) -> Float[NDArray, "*draws patients visits"]:
        """The outcomes with draws at the visits not seen, given those seen; without a generator, with their means."""
        y = np.broadcast_to(self.outcomes, means.shape).copy()
        for seen, rows, *_ in self.patterns:
            if seen.all():
                continue
            gaps = ~seen
            mean = means[..., rows, :]
            of_gaps, left = conditional(covariance, seen)
            given = (self.outcomes[rows][:, seen] - mean[..., seen]) @ of_gaps.swapaxes(-1, -2) + mean[..., gaps]
            if rng is not None:
                given = given + rng.standard_normal(given.shape) @ np.linalg.cholesky(left).swapaxes(-1, -2)
            y[..., rows[:, None], np.flatnonzero(gaps)] = given
        return y

    def _normal_equations(
        self, covariance: Float[Tensor, "visits visits"]
    ) -> tuple[Float[Tensor, "n n"], Float[Tensor, "visits covariates"], Float[Tensor, ""]]:
        """Information on B, visit by visit, Σ Xᵀ V⁻¹ y, and Σ yᵀ V⁻¹ y + log|V|."""
        num_covariates = self.design.shape[1]
        information = covariance.new_zeros(self.num_visits * num_covariates, self.num_visits * num_covariates)
        weighted = covariance.new_zeros(self.num_visits, num_covariates)
        total = covariance.new_zeros(())
        for seen, rows, xx, xy, yy in self.patterns:
            if not seen.any():
                continue
            weight, log_volume = _precision(covariance, seen)
            information = information + torch.kron(weight, torch.from_numpy(xx))
            weighted = weighted + weight @ torch.from_numpy(xy).T
            total = total + (weight * torch.from_numpy(yy)).sum() + len(rows) * log_volume
        return information, weighted, total

    def _turns(self, estimate: Parameters) -> int:
        """How many turns a chain needs, from the largest share of information that is missing of B or of Σ."""
        covariance = torch.from_numpy(estimate.covariance)
        weights = [(len(rows), _precision(covariance, seen)[0]) for seen, rows, *_ in self.patterns if seen.any()]
        full = torch.linalg.inv(covariance).contiguous()
        of_means = self._normal_equations(covariance)[0]
        of_all_means = torch.kron(full, torch.from_numpy(np.ascontiguousarray(self.design.T @ self.design)))
        symmetric = _symmetric(self.num_visits)
        of_covariance = symmetric.T @ sum(n * torch.kron(w, w) for n, w in weights) @ symmetric
        of_all_covariance = symmetric.T @ (len(self.outcomes) * torch.kron(full, full)) @ symmetric
        missing = 0.0
        for got, possible in ((of_means, of_all_means), (of_covariance, of_all_covariance)):
            least = torch.linalg.eigvals(torch.linalg.solve(possible, got)).real.min()
            missing = max(missing, 1.0 - float(least))
        if missing < 1e-9:
            return 1
        turns = math.ceil(math.log(FORGOTTEN) / math.log(min(missing, 1 - 1e-12)))
        if turns > MOST_TURNS:
            raise ValueError(
                f"expected visits of which enough was seen, got {missing:.2%} of the information on a parameter missing"
            )
        return turns + 1


def conditional(
    covariance: Float[NDArray, "*draws visits visits"], seen: Bool[NDArray, " visits"]
) -> tuple[Float[NDArray, "*draws gaps seen"], Float[NDArray, "*draws gaps gaps"]]:
    """Coefficients of the visits not seen on those seen, and the covariance that these leave."""
    gaps = ~seen
    within = covariance[..., seen, :][..., seen]
    across = covariance[..., gaps, :][..., seen]
    slopes = np.linalg.solve(within, across.swapaxes(-1, -2)).swapaxes(-1, -2)
    return slopes, covariance[..., gaps, :][..., gaps] - slopes @ across.swapaxes(-1, -2)


def _precision(
    covariance: Float[Tensor, "visits visits"], seen: Bool[NDArray, " visits"]
) -> tuple[Float[Tensor, "visits visits"], Float[Tensor, ""]]:
    """Inverse covariance of the visits seen, zero elsewhere, and its log-determinant's negative."""
    at = torch.from_numpy(np.flatnonzero(seen))
    factor = torch.linalg.cholesky(covariance[at][:, at])
    inverse = torch.cholesky_inverse(factor)
    whole = covariance.new_zeros(covariance.shape).index_put((at[:, None], at[None, :]), inverse)
    return whole, 2 * factor.diagonal().log().sum()


def _symmetric(size: int) -> Float[Tensor, "squared entries"]:
    """The matrix that unfolds the lower triangle of a symmetric matrix."""
    first, second = np.tril_indices(size)
    unfold = torch.zeros(size * size, len(first), dtype=torch.float64)
    for entry, (i, j) in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
        unfold[i * size + j, entry] = unfold[j * size + i, entry] = 1.0
    return unfold


def _inverse_wishart_factor(
    degrees: int, scale: Float[NDArray, "draws visits visits"], rng: np.random.Generator
) -> Float[NDArray, "draws visits visits"]:
    """F of a draw F Fᵀ of the inverse Wishart distribution, by Bartlett's decomposition."""
    num_draws, size, _ = scale.shape
    bartlett = np.tril(rng.standard_normal((num_draws, size, size)), -1)
    at = np.arange(size)
    bartlett[:, at, at] = np.sqrt(rng.chisquare(degrees - at, (num_draws, size)))
    # Σ⁻¹ = C⁻ᵀ T Tᵀ C⁻¹ with C Cᵀ the scale, so Σ = (C T⁻ᵀ)(C T⁻ᵀ)ᵀ.
    return np.linalg.cholesky(scale) @ np.linalg.inv(bartlett).swapaxes(-1, -2)
