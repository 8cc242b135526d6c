"""E F(m + s·ε), ε standard normal, for the links F of mechanisms: how likely a normal value is to go missing.

A probit gives Φ(m / √(1 + s²)), a threshold its limit Φ(m / s).  A logistic function is a mixture of probits
Σ_i p_i Φ(a_i t) to ten digits' accuracy (Monahan & Stefanski 1992), so that it gives Σ_i p_i Φ(m / √(1/a_i² + s²)).

The coefficients here are not the paper's.  Its eight are within 2.1e-9 of the logistic function everywhere, but in the
lower tail, where that function is below 1e-9, their ratio to it is arbitrary, and the weight needs its logarithm.
These ten are within 1.9e-8, and within 3.5e-8 · e^(-|t|/2), which is what is needed: further out,

    E σ(m + s·ε) = exp(m + s²/2) · E σ(-m - s² - s·ε)

moves the tail to the other side wherever m < -s²/2, as σ(t) = e^t · σ(-t).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class Probits(NamedTuple):
    """A function of t as a mixture of Φ(a_i t).

    Attributes:
        weights: p_i, which sum to one.
        variances: 1 / a_i².
        is_logistic: Whether it stands for the logistic function, whose lower tail is exponential.
    """

    weights: tuple[float, ...]
    variances: tuple[float, ...]
    is_logistic: bool = False


_STEEPNESS = (
    1.3518594021162436, 1.0421564799965983, 0.816861005856255, 0.6449427779682146, 0.5129386398214499,
    0.4119806486930299, 0.33460941337384525, 0.27435938659706544, 0.22599838684556509, 0.18478910639521334,
)  # fmt: skip
_WEIGHTS = (
    0.0039014863934393454, 0.05941024042489972, 0.20354618572183844, 0.30036027834921414, 0.25177045740704507,
    0.13218743615992648, 0.041633828386931984, 0.0067579145904203, 0.000426674748355538, 5.497817929055855e-06,
)  # fmt: skip

PROBITS = {
    "probit": Probits((1.0,), (1.0,)),
    "threshold": Probits((1.0,), (0.0,)),
    "logit": Probits(_WEIGHTS, tuple(a**-2 for a in _STEEPNESS), is_logistic=True),
}  # by the name of the link

FAR = 9.0  # standard deviations from which on a tail is computed by its asymptotic series, to 1e-9


class Mixed(NamedTuple):
    """The terms of E F(m + s·ε), on the side of the tail where they are accurate.

    Attributes:
        flipped: Where the other side of the tail was taken, so that m is -m - s²; ``(...)``.
        log_factor: What the sum is to be multiplied by, log; ``(...)``.
        scaled: 1 / √(1/a_i² + s²); ``(..., components)``.
        bounds: u_i = m · scaled_i, of which the sum takes Φ; ``(..., components)``.
        log_weights: log p_i; ``(components,)``.
    """

    flipped: Bool[Tensor, "*shape"]
    log_factor: Float[Tensor, "*shape"]
    scaled: Float[Tensor, "*s components"]
    bounds: Float[Tensor, "*shape components"]
    log_weights: Float[Tensor, " components"]

    def log_mean(self) -> Float[Tensor, "*shape"]:
        """Log E F(m + s·ε)."""
        return self.log_factor + _log_sum(self.bounds, self.log_weights)

    def log_terms(self) -> Float[Tensor, "*shape components"]:
        """Log p_i Φ(u_i), the unnormalised probabilities of the components given that the value is missing."""
        return torch.special.log_ndtr(self.bounds) + self.log_weights

    def slope(self) -> Float[Tensor, "*shape"]:
        """The derivative of the logarithm by m."""
        inner = self._pulls().sum(-1)
        return torch.where(self.flipped, 1 - inner, inner)

    def curvature(self) -> Float[Tensor, "*shape"]:
        """The second derivative of the logarithm by m."""
        pulls = self._pulls()
        return -(pulls * self.bounds * self.scaled).sum(-1) - pulls.sum(-1).square()

    def _pulls(self) -> Float[Tensor, "*shape components"]:
        """Derivatives of the terms by their means, over the sum."""
        log_density = -0.5 * self.bounds.square() - 0.5 * math.log(2 * math.pi)
        ratio = (log_density - torch.special.log_ndtr(self.bounds)).exp()
        return self.log_terms().softmax(-1) * ratio * self.scaled


def mixed(m: Float[Tensor, "*shape"], s_squared: Float[Tensor, "*s"], probits: Probits) -> Mixed:
    """The terms of E F(m + s·ε).

    Args:
        m: Predictor at the mean.
        s_squared: Its variance; broadcasts with ``m``.
        probits: F.
    """
    options = {"dtype": m.dtype, "device": m.device}
    variances = torch.tensor(probits.variances, **options)
    log_weights = torch.tensor(probits.weights, **options).log()
    if probits.is_logistic:
        flipped = m < -s_squared / 2
        log_factor = torch.where(flipped, m + s_squared / 2, 0.0)
        m = torch.where(flipped, -m - s_squared, m)
    else:
        flipped, log_factor = torch.zeros_like(m, dtype=torch.bool), torch.zeros_like(m)
    scaled = (variances + s_squared.unsqueeze(-1)).rsqrt()
    return Mixed(flipped, log_factor, scaled, m.unsqueeze(-1) * scaled, log_weights)


def _log_sum(u: Float[Tensor, "*shape components"], log_weights: Float[Tensor, " components"]) -> Tensor:
    """Log Σ_i p_i Φ(u_i): by the error function, and where all u_i are far below zero by a common exponent."""
    nearest = u.detach().amax(-1)
    weights = log_weights.exp()
    near = (weights * 0.5 * torch.special.erfc(-u.clamp_min(-FAR - 3) * math.sqrt(0.5))).sum(-1).log()
    far, exponent = u.clamp_max(-FAR), nearest.clamp_max(-FAR).square() / 2
    inverse = far.square().reciprocal()
    series = torch.ones_like(inverse)
    for odd in range(15, 0, -2):  # 1 - 1/u² + 3/u⁴ - 15/u⁶ ...
        series = 1 - odd * inverse * series
    terms = weights * (exponent.unsqueeze(-1) - far.square() / 2).exp() * series / (-far * math.sqrt(2 * math.pi))
    return torch.where(nearest < -FAR, terms.sum(-1).log() - exponent, near)
