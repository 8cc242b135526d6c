"""Log E σ(m + s·ε), ε standard normal, with its derivatives by m and s², in two passes over the mixture of probits.

The mixture of :mod:`pyro_mnar.distributions.probit_mixtures` costs as many special functions a cell as it has probits,
and differentiated step by step many times that.  Here a cell takes an error function and an exponential for each, and
three sums over them.  With u_i = m / √t_i and t_i = 1/a_i² + s², and with φ_i the normal density at u_i,

    F = Σ_i p_i Φ(u_i),   ∂F/∂m = Σ_i p_i φ_i / √t_i,   ∂F/∂s² = -m/2 · Σ_i p_i φ_i / t_i^(3/2);

far out in the tail Φ(u_i) = φ_i / |u_i| · (1 - 1/u_i² + 3/u_i⁴ - ...), whose terms are sums over the same φ_i.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pyro_mnar.distributions.densities import without_repeats
from pyro_mnar.distributions.probit_mixtures import PROBITS, mixed
from pyro_mnar.distributions.shapes import broadcast

FAR = 12.0  # standard deviations from which on a tail is computed by its series, to 2e-8; Φ(-12) is normal in float32
CELLS_AT_ONCE, MOST_PIECES = 50_000, 4
ROOT = 1 / math.sqrt(2 * math.pi)
SERIES = (1.0, -1.0, 3.0, -15.0, 105.0)  # of the normal tail, in 1/u²


class LogisticMean(NamedTuple):
    """A value and its derivatives.

    Attributes:
        log_mean: Log E σ(m + s·ε), with gradients of any order; ``(...)``.
        by_m: Its derivative by m, without a gradient; ``(...)``.
    """

    log_mean: Float[Tensor, "*shape"]
    by_m: Float[Tensor, "*shape"]


def logistic_mean(m: Float[Tensor, "*shape"], s_squared: Float[Tensor, "*s"]) -> LogisticMean:
    """Log E σ(m + s·ε).

    Args:
        m: Predictor at the mean.
        s_squared: Its variance; broadcasts with ``m``.  It costs less where all rows have the same.
    """
    log_mean, by_m, _ = _WithSlopes.apply(m, without_repeats(s_squared))  # pyright: ignore
    return LogisticMean(log_mean, by_m)


class _WithSlopes(torch.autograd.Function):
    """The value, whose gradient was computed with it; the gradient's own gradient is that of the mixture."""

    generate_vmap_rule = True

    @staticmethod
    def forward(m: Tensor, s_squared: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # pyright: ignore
        return _value_and_slopes(m, s_squared)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:  # pyright: ignore
        ctx.save_for_backward(*inputs, *output[1:])
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor, Tensor]:  # pyright: ignore
        m, s_squared, by_m, by_s = ctx.saved_tensors
        if torch.is_grad_enabled():
            value = mixed(m, s_squared, PROBITS["logit"]).log_mean()
            return torch.autograd.grad(value, (m, s_squared), gradient, create_graph=True)  # pyright: ignore
        return gradient * by_m, (gradient * by_s).sum_to_size(s_squared.shape)


def of_cells(m: Float[Tensor, " cells"], s_squared: Float[Tensor, " cells"]) -> tuple[Tensor, Tensor, Tensor]:
    """Log E σ(m + s·ε) of cells each of which has a variance of its own, and its derivatives by m and s².

    Args:
        m: Predictor at the mean.
        s_squared: Its variance.
    """
    half = s_squared / 2
    at, is_flipped = torch.maximum(m, -m - s_squared), m < -half
    weights, variances = (torch.tensor(values, dtype=m.dtype, device=m.device) for values in PROBITS["logit"][:2])
    scaled = (variances + s_squared.unsqueeze(-1)).rsqrt()
    bounds = at.unsqueeze(-1) * scaled
    if (bounds[:, -1] < -FAR).any():
        return tuple(part.squeeze(-1) for part in _of_lines(m.unsqueeze(-1), s_squared.unsqueeze(-1)))  # pyright: ignore
    value = torch.special.erfc(bounds * -math.sqrt(0.5)) @ (weights / 2)
    density = torch.exp(-0.5 * bounds.square()) * scaled
    by_m = density @ weights * ROOT / value
    by_s = (density * scaled.square()) @ weights * at * (-0.5 * ROOT) / value
    by_m, by_s = torch.where(is_flipped, 1 - by_m, by_m), by_s + torch.where(is_flipped, 0.5 - by_m, 0.0)
    return value.log() + (m + half).clamp_max(0.0), by_m, by_s


def _value_and_slopes(m: Tensor, s_squared: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log F, and its derivatives by m and s²."""
    if s_squared.dim() and s_squared.numel() == s_squared.shape[-1] == m.shape[-1]:  # a line for each column
        by_column = m.movedim(-1, 0).contiguous()
        found = _of_pieces(by_column.flatten(1), s_squared.reshape(-1, 1))
        return tuple(part.reshape(by_column.shape).movedim(0, -1).contiguous() for part in found)  # pyright: ignore
    shape = broadcast(m.shape, s_squared.shape)
    if s_squared.numel() == 1:
        found = _of_pieces(m.reshape(1, -1), s_squared.reshape(1, 1))
    else:
        found = _of_lines(*(value.expand(shape).reshape(-1, 1) for value in (m, s_squared)))
    return tuple(part.reshape(shape) for part in found)  # pyright: ignore


def _of_pieces(m: Float[Tensor, "lines cells"], s_squared: Float[Tensor, "lines 1"]) -> tuple[Tensor, ...]:
    """The same, some cells at a time, so that what is held of each probit stays in the processor's caches."""
    pieces = min(MOST_PIECES, m.numel() // CELLS_AT_ONCE) if m.numel() else 1
    if pieces <= 1:
        return _of_lines(m, s_squared)
    parts = [_of_lines(part, s_squared) for part in m.chunk(pieces, dim=1)]
    return tuple(torch.cat(of_parts, dim=1) for of_parts in zip(*parts, strict=True))


def _of_lines(
    m: Float[Tensor, "lines cells"], s_squared: Float[Tensor, "lines 1"]
) -> tuple[Float[Tensor, "lines cells"], Float[Tensor, "lines cells"], Float[Tensor, "lines cells"]]:
    """Log F, and its derivatives by m and s², where s² is one number a line: sums over probits are matrix products."""
    half = s_squared / 2
    at = torch.maximum(m, -m - s_squared)  # the other side of the tail where that is the nearer one
    flipped = (m < -half).to(m.dtype)  # numbers and not conditions, which take several times as long
    square = at.square()

    weights, variances = (torch.tensor(values, dtype=m.dtype, device=m.device) for values in PROBITS["logit"][:2])
    total = variances + s_squared
    scaled, widest = total.rsqrt(), total[:, -1:]  # the last probit is the flattest: of all u_i the nearest to zero
    beyond = (variances[-1] - variances) / (total * widest)  # 1/t_i less that of the widest
    density = torch.exp(square.unsqueeze(1) * (beyond * -0.5).unsqueeze(-1))  # φ_i over that of the widest
    below = torch.special.erfc(at.unsqueeze(1) * (scaled * -math.sqrt(0.5)).unsqueeze(-1))
    near = torch.bmm((weights / 2).expand(len(m), 1, -1), below).squeeze(1)

    ratio = total / widest
    terms = [c * weights * ratio.sqrt() * ratio**k for k, c in enumerate(SERIES)]
    factors = torch.stack([weights * scaled, weights * scaled**3, *terms], dim=1)
    by_scaled, by_cubed, *terms = torch.bmm(factors, density).unbind(1)
    inverse = (widest / square).clamp_max(1.0)
    far = terms[-1]
    for term in terms[-2::-1]:
        far = far * inverse + term
    far = far * inverse.sqrt() * ROOT

    is_far = (at * scaled[:, -1:] < -FAR).to(m.dtype)
    log_widest = square * (-0.5 / widest)
    chosen = near + is_far * (far - near)
    value = chosen.log() + is_far * log_widest
    each = torch.exp((1 - is_far) * log_widest) / chosen * ROOT
    by_m = each * by_scaled
    by_s = each * by_cubed * at * -0.5
    return value + (m + half).clamp_max(0.0), by_m + flipped * (1 - 2 * by_m), by_s + flipped * (0.5 - by_m)
