"""Proposals of a row's latents near its own mode, in place of what a guide knows of all rows.

A guide learns one function of the row.  Where that is off by more than the posterior's width, few of its particles have
a weight.  At imputation the parameters stand still, and log p(x_o, r, z) of a row and its gradient cost little: so
Newton's method looks for its mode from where the guide is, and the normal law with the curvature there (Tierney &
Kadane 1986) is what particles come from, together with the guide's own: no weight is then larger than under the guide
alone by more than one over the guide's share (defensive mixtures; Hesterberg 1995).  Weights are exact whatever is
proposed.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pyro.distributions as dist
import pyro.poutine as poutine
import torch
from jaxtyping import Bool, Float, Int
from pyro.distributions import TorchDistribution
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import constraints

from pyro_mnar.infer.objective import ImportanceWeightedELBO
from pyro_mnar.infer.session import random_numbers_kept
from pyro_mnar.infer.sites import is_shared, stochastic_sites
from pyro_mnar.infer.trial_runs import differ
from pyro_mnar.tables.batch import Batch

log = logging.getLogger(__name__)

ROUNDS = 4  # of Newton's method, each with a matrix of second derivatives of its own
FRACTIONS = (1.0, 0.5, 0.2, 0.05)  # of a step of Newton's that are tried
NEAR = 0.02  # nats, twice which another step may promise where a row is through
STRIDE = 0.5  # over which gradients are compared, in standard deviations of the guide
WIDEST = 10.0  # times as wide as the guide's widest direction a direction may be that does not curve downwards


class RowNormals(NamedTuple):
    """A normal law of each row's latents.

    Attributes:
        loc: ``(rows, latents)``.
        factor: L of the precision L Lᵀ, lower triangular; ``(rows, latents, latents)``.
    """

    loc: Float[Tensor, "rows latents"]
    factor: Float[Tensor, "rows latents latents"]

    def take(self, rows: Int[Tensor, " some"] | slice) -> RowNormals:
        """Of some of the rows, by position."""
        return RowNormals(self.loc[rows], self.factor[rows])


class NearModes(TorchDistribution):
    """A mixture of a guide's own law and of normal laws of the rows; event shape ``(latents,)``.

    Draws come in twins, on opposite sides of the mean of their normal law (antithetic variates; Hammersley & Morton
    1956): the mean of what is linear in the latents then hardly depends on how many there are.

    Args:
        of_guide: The guide's, independent normal; batch shape ``(..., rows)``.
        normals: The rows'.
        share: Of the guide.
    """

    arg_constraints: dict[str, Any] = {}
    support: Any = constraints.real_vector
    has_rsample = False

    def __init__(
        self, of_guide: dist.Independent, normals: RowNormals, share: float, batch_shape: torch.Size | None = None
    ) -> None:
        self.of_guide, self.normals, self.share = of_guide, normals, share
        super().__init__(batch_shape or of_guide.batch_shape, of_guide.event_shape, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> NearModes:
        """Expand to a larger batch shape."""
        return NearModes(self.of_guide, self.normals, self.share, torch.Size(batch_shape))

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Draw; ``sample_shape + batch_shape + (latents,)``."""
        fn, (loc, factor) = self.of_guide.base_dist, self.normals
        shape, options = torch.Size(sample_shape) + self.batch_shape, {"dtype": loc.dtype, "device": loc.device}
        with torch.no_grad():
            is_of_guide = _paired(torch.rand, shape, options) < self.share
            noise = _paired(torch.randn, shape + self.event_shape, options, sign=-1)
            eye = torch.eye(loc.shape[-1], **options).expand_as(factor)
            root = torch.linalg.solve_triangular(factor, eye, upper=False)  # of the covariance, transposed
            return torch.where(is_of_guide.unsqueeze(-1), fn.loc + fn.scale * noise, loc + _by_row(noise, root))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density."""
        fn, (loc, factor) = self.of_guide.base_dist, self.normals
        guides = -0.5 * ((value - fn.loc) / fn.scale).square().sum(-1) - fn.scale.log().sum(-1)
        log_root = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        rows = -0.5 * _by_row(value - loc, factor).square().sum(-1) + log_root
        mixed = torch.logaddexp(guides + math.log(self.share), rows + math.log1p(-self.share))
        return mixed - 0.5 * loc.shape[-1] * math.log(2 * math.pi)


class Sharpened(Messenger):
    """Within it, a site of a guide is proposed near the rows' modes.

    Args:
        site: Its name.
        normals: The rows' laws.
        share: Of the guide's own particles.
    """

    def __init__(self, site: str, normals: RowNormals, share: float) -> None:
        super().__init__()
        self.site, self.normals, self.share = site, normals, share

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] == self.site:
            msg["fn"] = NearModes(msg["fn"], self.normals, self.share)


def _paired(draw: Callable[..., Tensor], shape: torch.Size, options: dict[str, Any], sign: int = 1) -> Tensor:
    """Random numbers of which the second half along the first dimension repeats the first, times a sign."""
    half = draw(((shape[0] + 1) // 2, *shape[1:]), **options)
    return torch.cat([half, sign * half])[: shape[0]]


def site_to_sharpen(model: Callable, guide: Callable, batch: Batch) -> str | None:
    """The guide's only site, if it is an independent normal law of each row and nothing else that is drawn moves the
    weight; within a running session, without drawing from it.

    Args:
        model: The model.
        guide: Its guide.
        batch: Some rows.
    """
    with random_numbers_kept(), torch.no_grad():
        sites = stochastic_sites(poutine.trace(guide).get_trace(batch))
        if len(sites) != 1:
            return None
        ((name, site),) = sites.items()
        fn = site["fn"]
        is_normal = type(fn) is dist.Independent and type(fn.base_dist) is dist.Normal
        if not is_normal or is_shared(site) or site["infer"].get("is_auxiliary") or len(fn.event_shape) != 1:
            return None
        if fn.batch_shape != (len(batch),) or not fn.event_shape[0]:
            return None
        at = fn.base_dist.loc.unsqueeze(0)
        try:
            runs = [_gradient(model, name, batch, at) for _ in range(2)]
        except RuntimeError as error:  # one that numbers go through, or nothing flows back from
            log.info("imputation: rows have no proposals of their own (%s)", error)
            return None
        (first, slopes), (second, _) = runs
        is_fine = bool((first + slopes.sum(-1) + fn.base_dist.scale.log().sum(-1)).isfinite().all())
        return name if is_fine and not differ(first, second) else None


def row_normals(model: Callable, guide: Callable, site: str, batch: Batch) -> RowNormals:
    """Normal laws of the rows' latents at their modes; within a running session.

    Args:
        model: The model.
        guide: Its guide.
        site: As :func:`site_to_sharpen` gives it.
        batch: The rows.
    """
    with torch.no_grad():
        fn: Any = poutine.trace(guide).get_trace(batch).nodes[site]["fn"].base_dist  # pyright: ignore
        at, scale = fn.loc.clone(), fn.scale
        found, active = torch.diag_embed(scale.reciprocal()), torch.arange(len(batch), device=at.device)
        for _ in range(ROUNDS):
            here, start, width = batch.take(active), at[active], scale[active]
            gradient, precision = _curvature(model, site, here, start, width)
            factor = _factor(precision, width)
            step = torch.cholesky_solve(gradient.unsqueeze(-1), factor).squeeze(-1)
            tried = torch.stack([start, *(start + fraction * step for fraction in FRACTIONS)])
            values, slopes = _gradient(model, site, here, tried)
            best = values.argmax(0)
            rows = torch.arange(len(active), device=at.device)
            at[active], found[active] = tried[best, rows], factor
            left = torch.linalg.solve_triangular(factor, slopes[best, rows].unsqueeze(-1), upper=False)
            active = active[(left.square().sum((-2, -1)) > 2 * NEAR) & (best > 0)]
            if not len(active):
                break
    return RowNormals(at, found)


def _curvature(
    model: Callable, site: str, batch: Batch, at: Float[Tensor, "rows latents"], scale: Float[Tensor, "rows latents"]
) -> tuple[Float[Tensor, "rows latents"], Float[Tensor, "rows latents latents"]]:
    """Gradient of the rows' log-densities, and their negative second derivatives, by differences of gradients."""
    stride = STRIDE * scale
    points = torch.cat([at.unsqueeze(0), at + torch.diag_embed(stride).transpose(0, 1)])
    slopes = _gradient(model, site, batch, points)[1]
    precision = ((slopes[0] - slopes[1:]) / stride.T.unsqueeze(-1)).transpose(0, 1)
    return slopes[0], 0.5 * (precision + precision.mT)


def _gradient(
    model: Callable, site: str, batch: Batch, at: Float[Tensor, "points rows latents"]
) -> tuple[Float[Tensor, "points rows"], Float[Tensor, "points rows latents"]]:
    """Log-densities of the rows and their gradients; where one is no number, it is low and flat."""
    at = at.detach().requires_grad_()
    with torch.enable_grad():
        values = ImportanceWeightedELBO(len(at), max_plate_nesting=1).log_joint({site: at}, model, batch)
        (slopes,) = torch.autograd.grad(values.sum(), at)
    return values.detach().nan_to_num(-torch.inf), slopes.nan_to_num(0.0, 0.0, 0.0)


def _factor(
    precision: Float[Tensor, "rows latents latents"], scale: Float[Tensor, "rows latents"]
) -> Float[Tensor, "rows latents latents"]:
    """Cholesky factors; directions that do not curve downwards are taken as if they did (Dauphin et al. 2014)."""
    factor, info = torch.linalg.cholesky_ex(precision)
    bad: Bool[Tensor, " rows"] = (info > 0) | ~factor.isfinite().all(-1).all(-1)
    if bad.any():
        curves, directions = torch.linalg.eigh(precision[bad].nan_to_num(0.0, 0.0, 0.0))
        least = (WIDEST * scale[bad].amax(-1, keepdim=True)).square().reciprocal()
        curves = curves.abs().maximum(least)
        factor[bad] = torch.linalg.cholesky_ex(directions @ torch.diag_embed(curves) @ directions.mT).L
    return factor


def _by_row(
    values: Float[Tensor, "*particles rows latents"], matrices: Float[Tensor, "rows latents latents"]
) -> Float[Tensor, "*particles rows latents"]:
    """Each row's values times its matrix."""
    flat = values.reshape(-1, *values.shape[-2:]).transpose(0, 1)
    return (flat @ matrices).transpose(0, 1).reshape(values.shape)
