"""Matrix factorisation of ratings, five members of one family (the paper's Table 1).

    u_i, v_j → x_ij                     PMF (Mnih & Salakhutdinov 2007); with weights on the entries IPW-PMF
                                        (Schnabel et al. 2016): Σ_ij r_ij / p_ij · log p(x_ij)
    u_i, v_j, â_ij → x_ij               DeconfoundedPMF (Wang et al. 2018), â_ij expected by ExposurePF
    u_i, v_j → x_ij                     OrdinalPMF, x_ij one of L levels: PMF-MAR (Hernández-Lobato et al. 2014)
    u_i, v_j → x_ij → r_ij ← e_i, f_j   NonRandomPMF, their PMF-MNAR: x_ij of an empty cell is summed out

The factors are latents outside of any plate over entries, so plain Pyro trains these: ``Trace_ELBO`` with ``AutoDelta``
(MAP) or ``AutoNormal`` (mean field) on minibatches of entries.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pyro
import pyro.distributions as dist
import pyro.poutine as poutine
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid

from pyro_mnar.memory import check_room
from pyro_mnar.messages import number_from_zero, positive_number, whole_number

Point = dict[str, Tensor]  # a value of every latent, by site


@dataclass(frozen=True, eq=False)
class Cells:
    """Some cells of a ratings matrix, all of them or a minibatch.

    Attributes:
        rows: Who rates; ``(cells,)``.
        columns: What is rated; ``(cells,)``.
        values: Ratings in the model's units, or levels from 0; ``(cells,)``.
        weights: Power of each cell's likelihood: 1, or one over its propensity; ``(cells,)``.
        size: Number of cells that these stand for.
    """

    rows: Int[Tensor, " cells"]
    columns: Int[Tensor, " cells"]
    values: Float[Tensor, " cells"]
    weights: Float[Tensor, " cells"]
    size: int

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, at: Int[Tensor, " cells"]) -> Cells:
        """A minibatch, still aware of how many cells there are."""
        return replace(
            self, rows=self.rows[at], columns=self.columns[at], values=self.values[at], weights=self.weights[at]
        )


class PMF:
    """x_ij ~ N(u_i·v_j + b_i + c_j, noise²), with u, v ~ N(0, scale²) and offsets b, c ~ N(0, offset_scale²).

    Args:
        shape: Number of rows and of columns.
        latent_dim: Width of the factors.
        noise: Standard deviation of a rating about its mean.
        scale: Prior standard deviation of a factor; MAP penalises by (noise / scale)².
        offset_scale: Prior standard deviation of the offsets; 0 leaves them out, as in the paper of 2007.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        latent_dim: int = 10,
        noise: float = 1.0,
        scale: float = 1.0,
        offset_scale: float = 1.0,
    ) -> None:
        self.shape, self.latent_dim = shape, _width("latent_dim", latent_dim, shape)
        self.noise, self.scale = positive_number("noise", noise), positive_number("scale", scale)
        self.offset_scale = number_from_zero("offset_scale", offset_scale)

    def __call__(self, observed: Cells, unobserved: Cells | None = None) -> None:
        """Run the model on observed cells; the others are not looked at."""
        mean = self.mean(self.latents(observed.values), observed.rows, observed.columns)
        with _cells("entries", observed), poutine.scale(scale=observed.weights):
            pyro.sample("ratings", dist.Normal(mean, self.noise), obs=observed.values)

    def latents(self, like: Tensor) -> Point:
        """Draw factors and offsets."""
        drawn = {}
        for name, count in zip(("row", "column"), self.shape, strict=True):
            drawn[f"{name}_factors"] = _normal(f"{name}_factors", (count, self.latent_dim), self.scale, like)
            if self.offset_scale:
                drawn[f"{name}_offsets"] = _normal(f"{name}_offsets", (count,), self.offset_scale, like)
        return drawn

    def mean(self, at: Point, rows: Int[Tensor, " cells"], columns: Int[Tensor, " cells"]) -> Float[Tensor, " cells"]:
        """u_i·v_j + b_i + c_j."""
        mean = (at["row_factors"][rows] * at["column_factors"][columns]).sum(-1)
        return mean + at["row_offsets"][rows] + at["column_offsets"][columns] if self.offset_scale else mean

    def expected(
        self, at: Point, rows: Int[Tensor, " cells"], columns: Int[Tensor, " cells"]
    ) -> Float[Tensor, " cells"]:
        """Expected rating in the model's units, given all latents."""
        return self.mean(at, rows, columns)


class ExposurePF:
    """Poisson factorisation of who rates what: r_ij ~ Poisson(π_i·λ_j), π, λ ~ Gamma(shape 1, rate 1).

    The likelihood of all cells, exactly, at the cost of the observed ones: Σ log(π_i·λ_j) over these, less Σ_i π_i·Σ_j
    λ_j.

    Args:
        shape: Number of rows and of columns.
        latent_dim: Width of the factors.
    """

    def __init__(self, shape: tuple[int, int], *, latent_dim: int = 10) -> None:
        self.shape, self.latent_dim = shape, _width("latent_dim", latent_dim, shape)

    def __call__(self, observed: Cells, unobserved: Cells | None = None) -> None:
        """Run the model on the observed cells."""
        ones = observed.values.new_ones(())
        row, column = (
            pyro.sample(name, dist.Gamma(ones.expand(count, self.latent_dim), ones).to_event(2))
            for name, count in zip(("row_exposure", "column_exposure"), self.shape, strict=True)
        )
        pyro.factor("all_cells", -(row.sum(0) * column.sum(0)).sum())
        with _cells("entries", observed):
            rate = (row[observed.rows] * column[observed.columns]).sum(-1)
            pyro.factor("observed_cells", rate.clamp_min(torch.finfo(rate.dtype).tiny).log())


class DeconfoundedPMF(PMF):
    """PMF with a substitute confounder: x_ij ~ N(u_i·v_j + b_i + c_j + γ_i·â_ij, noise²), γ ~ N(0, scale²).

    Args:
        row_exposure: π̂; ``(rows, exposure_dim)``.
        column_exposure: λ̂; ``(columns, exposure_dim)``; â_ij = π̂_i·λ̂_j.
        **options: As for :class:`PMF`.
    """

    def __init__(
        self, row_exposure: Float[Tensor, "rows dim"], column_exposure: Float[Tensor, "columns dim"], **options: float
    ) -> None:
        super().__init__((len(row_exposure), len(column_exposure)), **options)  # pyright: ignore[reportArgumentType]
        self.row_exposure, self.column_exposure = row_exposure, column_exposure

    def latents(self, like: Tensor) -> Point:
        """Draw factors, offsets and the rows' effects of exposure."""
        return {
            **super().latents(like),
            "exposure_effect": _normal("exposure_effect", self.shape[:1], self.scale, like),
        }

    def mean(self, at: Point, rows: Int[Tensor, " cells"], columns: Int[Tensor, " cells"]) -> Float[Tensor, " cells"]:
        """u_i·v_j + b_i + c_j + γ_i·â_ij."""
        exposure = (self.row_exposure[rows] * self.column_exposure[columns]).sum(-1)
        return super().mean(at, rows, columns) + at["exposure_effect"][rows] * exposure


class OrdinalPMF(PMF):
    """x_ij among levels 0 to L - 1: P(x_ij > l) = sigmoid(u_i·v_j + b_i + c_j - cut_l), the cuts increasing.

    Args:
        shape: Number of rows and of columns.
        num_levels: L.
        **options: As for :class:`PMF`; there is no noise.
    """

    def __init__(self, shape: tuple[int, int], num_levels: int, **options: float) -> None:
        super().__init__(shape, **options)  # pyright: ignore[reportArgumentType]
        self.num_levels = whole_number("num_levels", num_levels, 2)
        check_room("num_levels", self.num_levels, 4 * 4.0, "effects of the levels and what Adam keeps of them")

    def __call__(self, observed: Cells, unobserved: Cells | None = None) -> None:
        """Run the model on observed cells; the others are not looked at."""
        at = self.latents(observed.values)
        with _cells("entries", observed):
            levels = dist.Categorical(logits=self.level_log_probs(at, observed.rows, observed.columns))
            pyro.sample("ratings", levels, obs=observed.values)

    def latents(self, like: Tensor) -> Point:
        """Draw factors, offsets and cuts."""
        first = _normal("first_cut", (1,), 2.0, like)
        zeros = like.new_zeros(self.num_levels - 2)
        gaps = pyro.sample("cut_gaps", dist.LogNormal(zeros, zeros + 1).to_event(1))
        return {**super().latents(like), "first_cut": first, "cut_gaps": gaps}

    def level_log_probs(
        self, at: Point, rows: Int[Tensor, " cells"], columns: Int[Tensor, " cells"]
    ) -> Float[Tensor, "cells levels"]:
        """Log-probabilities of the levels."""
        cuts = torch.cat([at["first_cut"], at["first_cut"] + at["cut_gaps"].cumsum(0)])
        above = torch.sigmoid(self.mean(at, rows, columns)[:, None] - cuts)
        edges = torch.cat([torch.ones_like(above[:, :1]), above, torch.zeros_like(above[:, :1])], dim=-1)
        return (edges[:, :-1] - edges[:, 1:]).clamp_min(1e-12).log()

    def expected(
        self, at: Point, rows: Int[Tensor, " cells"], columns: Int[Tensor, " cells"]
    ) -> Float[Tensor, " cells"]:
        """Expected level, from 0 to L - 1."""
        probs = self.level_log_probs(at, rows, columns).exp()
        return probs @ torch.arange(self.num_levels, dtype=probs.dtype, device=probs.device)


class NonRandomPMF(OrdinalPMF):
    """OrdinalPMF with the mask modelled: log-odds of being rated e_i·f_j + g_i + h_j + k_{x_ij}.

    The effects k of the levels are common to all rows and columns, where Hernández-Lobato et al. (2014) give each row
    and each column its own.
    """

    def __call__(self, observed: Cells, unobserved: Cells | None = None) -> None:
        """Run the model on observed cells and on unobserved ones, whose levels are summed out.

        Raises:
            ValueError: If there are no unobserved cells to learn from.
        """
        if unobserved is None:
            raise ValueError("unobserved: expected cells without ratings, got none")
        at = self.latents(observed.values)
        levels = self.level_log_probs(at, observed.rows, observed.columns)
        log_odds = self.log_odds(at, observed.rows, observed.columns)
        level = observed.values.long()[:, None]
        with _cells("entries", observed):
            pyro.sample("ratings", dist.Categorical(logits=levels), obs=observed.values)
            pyro.factor("rated", logsigmoid(log_odds.gather(-1, level).squeeze(-1)))
        levels = self.level_log_probs(at, unobserved.rows, unobserved.columns)
        log_odds = self.log_odds(at, unobserved.rows, unobserved.columns)
        with _cells("gaps", unobserved):
            pyro.factor("not_rated", (levels + logsigmoid(-log_odds)).logsumexp(-1))

    def latents(self, like: Tensor) -> Point:
        """Draw what OrdinalPMF has, and the same for the mask."""
        drawn = super().latents(like)
        for name, count in zip(("row", "column"), self.shape, strict=True):
            drawn[f"{name}_mask_factors"] = _normal(f"{name}_mask_factors", (count, self.latent_dim), self.scale, like)
            drawn[f"{name}_mask_offsets"] = _normal(f"{name}_mask_offsets", (count,), 2.0, like)
        return {**drawn, "level_effects": _normal("level_effects", (self.num_levels,), 2.0, like)}

    def log_odds(
        self, at: Point, rows: Int[Tensor, " cells"], columns: Int[Tensor, " cells"]
    ) -> Float[Tensor, "cells levels"]:
        """Log-odds of being rated, for every level that the cell could have."""
        of_cell = (at["row_mask_factors"][rows] * at["column_mask_factors"][columns]).sum(-1)
        of_cell = of_cell + at["row_mask_offsets"][rows] + at["column_mask_offsets"][columns]
        return of_cell[:, None] + at["level_effects"]


def _width(name: str, value: int, shape: tuple[int, int]) -> int:
    """A width of factors, 0 for none, with which there is memory for them and for what training keeps of each."""
    width = whole_number(name, value, 0)
    check_room(name, width, 4 * 4.0 * sum(shape), "factors and what Adam keeps of them")
    return width


def _normal(name: str, shape: tuple[int, ...], scale: float, like: Tensor) -> Tensor:
    zeros = like.new_zeros(shape)
    return pyro.sample(name, dist.Normal(zeros, zeros + scale).to_event(len(shape)))


def _cells(name: str, cells: Cells) -> pyro.plate:
    """The plate over cells, scaled by their number over the minibatch's."""
    return pyro.plate(name, cells.size, subsample=torch.arange(len(cells), device=cells.rows.device), dim=-1)
