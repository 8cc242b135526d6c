"""Log E σ(m + s·ε), ε standard normal, with its derivatives by m and s², in two passes over the mixture of probits.

The mixture of :mod:`pyro_mnar.distributions.probit_mixtures` costs as many special functions a cell as it has probits,
and differentiated step by step many times that.  Here a cell takes an error function and an exponential for each, and
three sums over them.  With u_i = m / √t_i and t_i = 1/a_i² + s², and with φ_i the normal density at u_i,

    F = Σ_i p_i Φ(u_i),   ∂F/∂m = Σ_i p_i φ_i / √t_i,   ∂F/∂s² = -m/2 · Σ_i p_i φ_i / t_i^(3/2);

far out in the tail Φ(u_i) = φ_i / |u_i| · (1 - 1/u_i² + 3/u_i⁴ - ...), whose terms are sums over the same φ_i.

By Python the sums are matrix products over all probits; compiled, they are written out, so that one loop over the cells
does it all (:mod:`pyro_mnar.capture.two_forms`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pyro_mnar.capture.two_forms import two_forms
from pyro_mnar.distributions.densities import without_repeats
from pyro_mnar.distributions.probit_mixtures import PROBITS, mixed
from pyro_mnar.distributions.shapes import broadcast

FAR = 12.0  # standard deviations from which on a tail is computed by its series, to 2e-8; Φ(-12) is normal in float32
# What is held of each probit of so many fits the processor's caches; on a GPU it takes 300 MB.
CELLS_AT_ONCE, CELLS_AT_ONCE_ON_A_GPU = 20_000, 4_000_000
NUMBERS_OF_A_CELL = 75  # that the sums by Python compute
ROOT = 1 / math.sqrt(2 * math.pi)
SERIES = (1.0, -1.0, 3.0, -15.0, 105.0)  # of the normal tail, in 1/u²
WEIGHTS, VARIANCES = PROBITS["logit"][:2]  # p_i and 1/a_i²
FLATTEST = VARIANCES[-1]  # of the last probit, whose u_i is the nearest to zero

Slopes = tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"], Float[Tensor, "*shape"]]


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
        return _value_and_slopes(m, s_squared)  # pyright: ignore

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
    weights, variances = _coefficients(m.dtype, m.device)
    scaled = (variances + s_squared.unsqueeze(-1)).rsqrt()
    bounds = at.unsqueeze(-1) * scaled
    if (bounds[:, -1] < -FAR).any():
        found = _of_lines(m.unsqueeze(-1), s_squared.unsqueeze(-1), _room(m))
        return tuple(part.squeeze(-1) for part in found)  # pyright: ignore
    value = torch.special.erfc(bounds * -math.sqrt(0.5)) @ (weights / 2)
    density = torch.exp(-0.5 * bounds.square()) * scaled
    by_m = density @ weights * ROOT / value
    by_s = (density * scaled.square()) @ weights * at * (-0.5 * ROOT) / value
    by_m, by_s = torch.where(is_flipped, 1 - by_m, by_m), by_s + torch.where(is_flipped, 0.5 - by_m, 0.0)
    return value.log() + (m + half).clamp_max(0.0), by_m, by_s


class _Sums(NamedTuple):
    """What is summed over the probits; φ_i is over that of the flattest one.

    Attributes:
        near: F by the error function; ``(...)``.
        by_m: Σ_i p_i φ_i / √t_i, but for a factor of √(2π); ``(...)``.
        by_s: Σ_i p_i φ_i / t_i^(3/2), the same; ``(...)``.
        far: F in the tail by its series, the same; None where no cell needs it; ``(...)``.
    """

    near: Float[Tensor, "*shape"]
    by_m: Float[Tensor, "*shape"]
    by_s: Float[Tensor, "*shape"]
    far: Float[Tensor, "*shape"] | None


def _by_python(m: Tensor, s_squared: Tensor) -> tuple[Tensor, ...]:
    """Log F, and its derivatives by m and s²: cells of one s² are a line, some lines or parts of them at a time."""
    m, s_squared = _broadcast(m, s_squared)
    dims = range(m.dim())
    order = sorted(dims, key=lambda dim: s_squared.shape[dim] == 1)
    by_line, lines = m.permute(order), s_squared.numel()
    cells, of_lines = by_line.reshape(lines, m.numel() // max(lines, 1)), s_squared.reshape(-1, 1)
    pieces = max(1, m.numel() // (CELLS_AT_ONCE_ON_A_GPU if m.is_cuda else CELLS_AT_ONCE))
    if lines >= pieces:
        dim, parts = 0, list(zip(cells.chunk(pieces), of_lines.chunk(pieces), strict=True))
    else:
        dim, parts = 1, [(part, of_lines) for part in cells.chunk(pieces, dim=1)]
    room = _room(parts[0][0])  # memory is touched for the first time once, which takes as long as the sums
    found = zip(*(_of_lines(*part, room) for part in parts), strict=True)
    joined = (torch.cat(of_parts, dim) if len(parts) > 1 else of_parts[0] for of_parts in found)
    back = sorted(dims, key=order.__getitem__)
    return tuple(part.reshape(by_line.shape).permute(back).contiguous() for part in joined)


def _of_lines(
    m: Float[Tensor, "lines cells"], s_squared: Float[Tensor, "lines 1"], room: Float[Tensor, " numbers"]
) -> Slopes:
    """The same, where s² is one number a line: sums over probits are matrix products.

    Args:
        m: Predictor at the mean.
        s_squared: Its variance.
        room: To be written over with what is computed of each probit.
    """
    at = _nearer(m, s_squared)
    weights, variances = _coefficients(m.dtype, m.device)
    total = variances + s_squared
    scaled, widest = total.rsqrt(), total[:, -1:]
    of_probits = room[: m.numel() * len(WEIGHTS)].view(len(m), len(WEIGHTS), m.shape[1])
    beyond = (FLATTEST - variances) / (total * widest)  # 1/t_i less that of the widest
    density = torch.mul(at.square().unsqueeze(1), (beyond * -0.5).unsqueeze(-1), out=of_probits).exp_()
    factors = [weights * scaled, weights * scaled**3]
    far = None
    if m.is_cuda or (at * scaled[:, -1:] < -FAR).any():  # a GPU's values are not waited for
        ratio, inverse = total / widest, _inverse(at, widest)
        factors += [c * weights * ratio.sqrt() * ratio**k for k, c in enumerate(SERIES)]
        by_m, by_s, *terms = torch.bmm(torch.stack(factors, dim=1), density).unbind(1)
        far = terms[-1]
        for term in terms[-2::-1]:
            far = far * inverse + term
        far = far * inverse.sqrt()
    else:
        by_m, by_s = torch.bmm(torch.stack(factors, dim=1), density).unbind(1)
    below = torch.mul(at.unsqueeze(1), (scaled * -math.sqrt(0.5)).unsqueeze(-1), out=of_probits).erfc_()
    near = torch.bmm((weights / 2).expand(len(m), 1, -1), below).squeeze(1)
    return _finished(m, s_squared, at, _Sums(near, by_m, by_s, far))


def _room(m: Tensor) -> Float[Tensor, " numbers"]:
    """For a number of each cell and probit."""
    return m.new_empty(m.numel() * len(WEIGHTS))


def _compiled(m: Tensor, s_squared: Tensor) -> tuple[Tensor, ...]:
    """The same for a compiler: sums over probits are written out, and cells stand in one row."""
    m, s_squared = _broadcast(m, s_squared)
    shape = m.shape
    s_squared = s_squared.reshape(1) if s_squared.numel() == 1 else _in_memory(s_squared.expand(shape))
    m, widest = _in_memory(m), FLATTEST + s_squared
    at, flattest = _nearer(m, s_squared), widest.reciprocal()
    square, inverse = at.square(), _inverse(at, widest)
    near, by_m, by_s, far = (torch.zeros_like(at) for _ in range(4))
    for weight, variance in zip(WEIGHTS, VARIANCES, strict=True):
        total = variance + s_squared
        scaled = total.rsqrt()
        steep, step = scaled.square(), total * flattest * inverse
        density = weight * scaled * torch.exp(square * ((FLATTEST - variance) * -0.5 * steep * flattest))
        series = SERIES[-1]
        for c in SERIES[-2::-1]:
            series = series * step + c
        near = near + weight / 2 * torch.special.erfc(at * (scaled * -math.sqrt(0.5)))
        by_m, by_s, far = by_m + density, by_s + density * steep, far + density * total * series
    sums = _Sums(near, by_m, by_s, far * (inverse * flattest).sqrt())
    return tuple(part.reshape(shape) for part in _finished(m, s_squared, at, sums))


def _finished(m: Tensor, s_squared: Tensor, at: Tensor, sums: _Sums) -> Slopes:
    """Of the sums over probits, taken at m or on the other side of the tail, log F and its derivatives at m."""
    half, widest = s_squared / 2, FLATTEST + s_squared
    log_widest = at.square() * (-0.5 / widest)
    # Numbers and not conditions, which take several times as long.
    if sums.far is None:
        value, each = sums.near.log(), torch.exp(log_widest) / sums.near * ROOT
    else:
        is_far = (at * widest.rsqrt() < -FAR).to(m.dtype)
        chosen = sums.near + is_far * (sums.far * ROOT - sums.near)
        value = chosen.log() + is_far * log_widest
        each = torch.exp((1 - is_far) * log_widest) / chosen * ROOT
    by_m, by_s = each * sums.by_m, each * sums.by_s * at * -0.5
    flipped = (m < -half).to(m.dtype)
    return value + (m + half).clamp_max(0.0), by_m + flipped * (1 - 2 * by_m), by_s + flipped * (0.5 - by_m)


def _nearer(m: Tensor, s_squared: Tensor) -> Tensor:
    """m, or the other side of the tail where that is the nearer one."""
    return torch.maximum(m, -m - s_squared)


def _inverse(at: Tensor, widest: Tensor) -> Tensor:
    """1/u² of the flattest probit, in which the series of the tail goes."""
    return (widest / at.square()).clamp_max(1.0)


def _broadcast(m: Tensor, s_squared: Tensor) -> tuple[Tensor, Tensor]:
    """The predictor in the shape of both, and s² with as many dimensions."""
    shape = broadcast(m.shape, s_squared.shape)
    return m.expand(shape), s_squared.reshape((1,) * (len(shape) - s_squared.dim()) + s_squared.shape)


def _in_memory(values: Tensor) -> Float[Tensor, " cells"]:
    """Values in one row, which a compiler writes out for ``as_strided``: loops over rows of few columns are slow."""
    return values.clone(memory_format=torch.contiguous_format).as_strided((values.numel(),), (1,))


@functools.cache
def _coefficients(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Weights and variances of the probits; kept, as bringing them to a GPU waits for its work to end."""
    with torch.inference_mode(False):
        weights, variances = (torch.tensor(values, dtype=dtype, device=device) for values in (WEIGHTS, VARIANCES))
    return weights, variances


def _like(m: Tensor, s_squared: Tensor) -> tuple[Tensor, ...]:
    result = (m + s_squared).contiguous()
    return tuple(torch.empty_like(result) for _ in range(3))


def _mapped(
    info: Any, dims: Sequence[int | None], m: Tensor, s_squared: Tensor
) -> tuple[tuple[Tensor, ...], tuple[int, int, int]]:
    """The rule for vmap: what is mapped over is one more dimension, the first."""
    given = list(zip((m, s_squared), dims, strict=True))
    most = max(value.dim() - (dim is not None) for value, dim in given)

    def with_members(value: Tensor, dim: int | None) -> Tensor:
        if dim is None:
            return value
        value = value.movedim(dim, 0)
        return value.reshape(len(value), *(1,) * (most + 1 - value.dim()), *value.shape[1:])

    return _value_and_slopes(*(with_members(*each) for each in given)), (0, 0, 0)


_value_and_slopes = two_forms(
    "logistic_mean(Tensor m, Tensor s_squared) -> (Tensor, Tensor, Tensor)",
    by_python=_by_python,
    compiled=_compiled,
    like=_like,
    mapped=_mapped,
    numbers=NUMBERS_OF_A_CELL // 3,
)
