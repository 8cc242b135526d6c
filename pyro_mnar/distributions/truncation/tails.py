"""Logarithms of tail probabilities, accurate where the probabilities themselves round to 0 or 1.

A limit of detection can lie far out in a distribution's tail, above all early in training.  The score there is
log p(a < x < b), whose gradient must neither vanish nor be NaN.  All functions take and return tensors of equal shape.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

Numbers = Float[Tensor, "*shape"]

MOST_TERMS = 20_000  # of a series or fraction: about 5 sqrt(count) for a count 4 deviations from the mean
MANY = 100_000  # from which on, near the mean, torch's asymptotic expansion is closer than a long series


def log_difference(larger: Numbers, smaller: Numbers) -> Numbers:
    """log(e^larger - e^smaller); ``smaller`` may be -inf."""
    return larger + torch.log(-torch.expm1(smaller - larger))


def log_normal_tail(z: Numbers) -> Numbers:
    """Log P(Z ≤ z), Z standard normal."""
    return torch.special.log_ndtr(z)


def normal_quantile(log_p: Numbers) -> Numbers:
    """The z with log P(Z ≤ z) = log_p, Z standard normal; no gradient."""
    with torch.no_grad():
        central = torch.special.ndtri(log_p.clamp_min(-5.0).exp())
        far = log_p.clamp_max(-5.0)
        z = -torch.sqrt(-2 * far)
        for _ in range(6):  # Newton: log P is nearly a parabola here, so it converges quadratically
            log_tail = torch.special.log_ndtr(z)
            log_density = -0.5 * z.square() - 0.5 * math.log(2 * math.pi)
            z = z - (log_tail - far) * (log_tail - log_density).exp()
        return torch.where(log_p < -5.0, z, central)


def log_student_tail(z: Numbers, df: Numbers) -> Numbers:
    """Log P(T ≤ z), T of Student's t with ``df`` degrees of freedom."""
    # 2 P(T ≤ -|z|) = I_x(df/2, 1/2) at x = df / (df + z²); its gradient is undefined at z = 0.
    z = torch.where(z.abs() < 1e-8, z - 1e-8, z)
    total = df + z.square()
    half = torch.full_like(df, 0.5)
    log_outer = log_incomplete_beta(df / 2, half, df / total, z.square() / total) - math.log(2.0)
    inner = torch.where(z > 0, log_outer, -torch.ones_like(z))  # so that the branch not taken has no NaN
    return torch.where(z > 0, torch.log1p(-inner.exp()), log_outer)


def student_quantile(log_p: Numbers, df: Numbers) -> Numbers:
    """The t with log P(T ≤ t) = log_p, T of Student's t; no gradient.  Computed on the CPU."""
    from scipy.special import betaincinv  # slow to import, for this kind alone

    p, nu = log_p.detach().exp().cpu().numpy(), df.detach().cpu().numpy()
    outer = torch.as_tensor(betaincinv(nu / 2, 0.5, 2 * p.clip(max=0.5)))
    inner = torch.as_tensor(betaincinv(0.5, nu / 2, abs(1 - 2 * p)))
    # The smaller of x and 1 - x is the accurate one.
    x, rest = torch.where(outer < 0.5, outer, 1 - inner), torch.where(outer < 0.5, 1 - outer, inner)
    size = torch.sqrt(torch.as_tensor(nu) * rest / x).to(log_p)
    size = torch.where(size.isfinite(), size, _far_student_quantile(log_p, df))
    return torch.where(log_p > math.log(0.5), size, -size)


def _far_student_quantile(log_p: Numbers, df: Numbers) -> Numbers:
    """Absolute value of the quantile in the far tail, where SciPy's inverse fails.

    Newton's method on log P as a function of the quantile's logarithm, which is concave.
    """
    with torch.no_grad():
        log_p = log_p.clamp_max(-10.0)
        size = -normal_quantile(log_p)
        normaliser = torch.lgamma((df + 1) / 2) - torch.lgamma(df / 2) - 0.5 * (df * math.pi).log()
        for _ in range(12):
            log_tail = log_student_tail(-size, df)
            log_density = normaliser - (df + 1) / 2 * torch.log1p(size.square() / df)
            size = size * ((log_tail - log_p) * (log_tail - log_density).exp() / size).exp()
        return size


def log_poisson_tail(count: Numbers, rate: Numbers, upper: bool) -> Numbers:
    """Log P(N ≥ count) if ``upper``, else log P(N ≤ count), N Poisson; gradient in the rate.

    P(N ≥ k) is the regularised incomplete gamma function at (k, rate).  It is computed by a series if the rate is below
    k, and by a continued fraction for its complement if above.  These hold in far tails, where torch's function
    underflows.  Torch's is used for large counts near the mean, where they converge slowly and it is accurate.
    """
    shape = count if upper else count + 1
    with torch.no_grad():
        shape, rate_ = torch.broadcast_tensors(shape, rate)
        positive = shape.clamp_min(1.0)
        log_edge = positive * rate_.log() - rate_ - torch.lgamma(positive)
        small = rate_ < positive + 1
        central = (positive > MANY) & ((rate_ - positive).square() < 16 * positive)
        # Where a series or fraction is not used, it is computed at a rate at which it soon converges.
        series = log_edge + _gamma_series(positive, torch.where(small & ~central, rate_, positive / 2)).log()
        fraction = log_edge + _gamma_fraction(positive, torch.where(small | central, 2 * positive + 2, rate_)).log()
        if upper:
            value = torch.where(small, series, _log_complement(fraction, ~small))
        else:
            value = torch.where(small, _log_complement(series, small), fraction)
        incomplete_gamma = torch.special.gammainc if upper else torch.special.gammaincc
        value = torch.where(central, incomplete_gamma(positive, rate_).log(), value)
        # d/d rate of P(N ≥ k) is the probability of k - 1.
        slope = (log_edge - rate_.log() - value).exp() * (1.0 if upper else -1.0)
        everything = shape < 1  # P(N ≥ 0), or P(N ≤ -1), which nobody asks
        value, slope = value.masked_fill(everything, 0.0), slope.masked_fill(everything, 0.0)
    return value + slope * (rate - rate.detach())


def log_negative_binomial_tail(count: Numbers, total: Numbers, log_odds: Numbers, upper: bool) -> Numbers:
    """Log P(N ≥ count) if ``upper``, else log P(N ≤ count), N negative binomial; gradients in both parameters.

    The parameters are torch's: N counts the successes before ``total`` failures, ``log_odds`` is that of a success.
    """
    success, failure = log_odds.sigmoid(), (-log_odds).sigmoid()
    if not upper:
        return log_incomplete_beta(total, count + 1, failure, success)
    everything = count < 1
    value = log_incomplete_beta(count.clamp_min(1.0), total, success, failure)
    return value.masked_fill(everything, 0.0)


def log_incomplete_beta(a: Numbers, b: Numbers, x: Numbers, rest: Numbers) -> Numbers:
    """Log I_x(a, b), the regularised incomplete beta function, where ``rest`` = 1 - x.

    Gradients in all arguments, through the continued fraction.

    References:
        Press et al. (2007), Numerical Recipes, section 6.4.  The fraction is evaluated by Lentz's method.
    """
    a, b, x, rest = torch.broadcast_tensors(a, b, x, rest)
    swapped = x > (a + 1) / (a + b + 2)
    first, second = torch.where(swapped, b, a), torch.where(swapped, a, b)
    near, far = torch.where(swapped, rest, x), torch.where(swapped, x, rest)
    tiny = torch.finfo(x.dtype).tiny
    log_edge = first * near.clamp_min(tiny).log() + second * far.clamp_min(tiny).log() - first.log()
    log_beta = torch.lgamma(first) + torch.lgamma(second) - torch.lgamma(first + second)
    value = log_edge - log_beta + _beta_fraction(first, second, near).log()
    return torch.where(swapped, _log_complement(value, swapped), value)


def _log_complement(log_p: Numbers, where: Tensor) -> Numbers:
    """log(1 - p) at the cells of ``where``; a constant elsewhere, where its gradient could be NaN."""
    log_p = torch.where(where, log_p, -1.0).clamp_max(-torch.finfo(log_p.dtype).eps)
    return torch.where(log_p < -0.7, torch.log1p(-log_p.exp()), torch.log(-torch.expm1(log_p)))


def _beta_fraction(a: Numbers, b: Numbers, x: Numbers) -> Numbers:
    c = torch.ones_like(x)
    d = 1 / _off_zero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, MOST_TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d, c = 1 / _off_zero(1 + even * d), _off_zero(1 + even / c)
        value = value * d * c
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d, c = 1 / _off_zero(1 + odd * d), _off_zero(1 + odd / c)
        value = value * d * c
        if m % 5 == 0 and _is_one(d * c):
            break
    return value


def _gamma_series(shape: Numbers, rate: Numbers) -> Numbers:
    """Σ_n rate^n / (shape (shape + 1) ... (shape + n))."""
    term = value = 1 / shape
    for n in range(1, MOST_TERMS):
        term = term * rate / (shape + n)
        value = value + term
        if n % 10 == 0 and bool((term <= torch.finfo(value.dtype).eps * value).all()):
            break
    return value


def _gamma_fraction(shape: Numbers, rate: Numbers) -> Numbers:
    b = rate + 1 - shape
    c = torch.full_like(b, 1 / torch.finfo(b.dtype).tiny)
    d = 1 / _off_zero(b)
    value = d
    for n in range(1, MOST_TERMS):
        factor = -n * (n - shape)
        b = b + 2
        d, c = 1 / _off_zero(factor * d + b), _off_zero(b + factor / c)
        value = value * d * c
        if n % 5 == 0 and _is_one(d * c):
            break
    return value


def _off_zero(value: Numbers) -> Numbers:
    tiny = torch.finfo(value.dtype).tiny
    return torch.where(value.abs() < tiny, tiny, value)


def _is_one(factor: Numbers) -> bool:
    return bool(((factor - 1).abs() <= 4 * torch.finfo(factor.dtype).eps).all())
