"""p(x_d | z, r_d = 0): a value that is missing, where its own size is among the reasons.

The weight of a row holds p(r_d = 0 | z) = ∫ p(x_d | z) p(r_d = 0 | x_d, z) dx_d; with this law as the proposal of x_d
it does so exactly, whichever value is drawn.  What is normal has both in closed form under a logistic, probit or
threshold mechanism that is linear in the value; the other families stand in
:mod:`pyro_mnar.distributions.self_masked_mesh`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from pyro_mnar.distributions.densities import without_repeats
from pyro_mnar.distributions.links import Link
from pyro_mnar.distributions.logistic_means import LogisticMean, logistic_mean
from pyro_mnar.distributions.probit_mixtures import PROBITS, Mixed, mixed
from pyro_mnar.distributions.shapes import broadcast
from pyro_mnar.distributions.truncation import tails

Cells = Float[Tensor, "*batch rows columns"]


class SelfMasked(TorchDistribution):
    """``fn`` given that the value is missing, at the cells whose gaps the mechanism explains; ``fn`` at the others.

    Draws have no gradient: the weight does not depend on them.

    Args:
        fn: p(x|z); batch shape ``(..., rows, columns)``.
        predictor: The mechanism's linear predictor as a function of the values, each cell's of its own value alone.
        link: From the predictor to the probability of being observed.
        explained: Cells that count as missing for their value; ``(rows, columns)``.
    """

    arg_constraints: dict[str, Any] = {}
    has_rsample = False

    def __init__(
        self,
        fn: TorchDistributionMixin,
        predictor: Callable[[Tensor], Tensor],
        link: Link,
        explained: Bool[Tensor, "rows columns"],
        validate_args: bool | None = None,
    ) -> None:
        shape = broadcast(fn.batch_shape, explained.shape)
        self.fn = fn if fn.batch_shape == shape else fn.expand(shape)
        self.predictor, self.link, self.explained = predictor, link, explained
        super().__init__(shape, torch.Size(), validate_args=validate_args)

    @property
    def support(self) -> Any:
        """The support of ``fn``."""
        return self.fn.support

    @cached_property
    def log_missing(self) -> Cells:
        """Log p(r = 0 | z); zero at cells that the mechanism does not explain."""
        return torch.where(self.explained, self._log_missing(), 0.0)

    @property
    def mean(self) -> Cells:
        """Expected value."""
        return torch.where(self.explained, self._mean(), self.fn.mean)

    def expand(self, batch_shape: Any, _instance: Any = None) -> SelfMasked:
        """Expand to a larger batch shape."""
        fn = self.fn.expand(torch.Size(batch_shape))
        return type(self)(fn, self.predictor, self.link, self.explained, validate_args=False)

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Draw without gradient; ``sample_shape + batch_shape``."""
        with torch.no_grad():
            larger = self.expand(torch.Size(sample_shape) + self.batch_shape) if sample_shape else self
            return torch.where(self.explained, larger._draw(), larger.fn.sample())

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density per entry."""
        tilt = torch.where(self.explained, self.log_missing_at(value), 0.0)
        return self.fn.log_prob(value) + tilt - self.log_missing

    def log_ratio(self, value: Tensor) -> Tensor:
        """Log p(r = 0 | z) / p(r = 0 | x, z); zero at cells that the mechanism does not explain."""
        return torch.where(self.explained, self._log_missing() - self.log_missing_at(value), 0.0)

    def log_missing_at(self, value: Tensor) -> Tensor:
        """Log p(r = 0 | x, z)."""
        return self.link.log_missing(self.predictor(value))

    def likely(self) -> Tensor:
        """A value that is likely to be missing, for who needs any: without gradient and without random numbers."""
        raise NotImplementedError

    def _log_missing(self) -> Tensor:
        raise NotImplementedError

    def _mean(self) -> Tensor:
        raise NotImplementedError

    def _draw(self) -> Tensor:
        raise NotImplementedError


class Line:
    """A predictor that is linear in each cell's own value.

    Args:
        intercept: Its value at 0; ``(..., rows, columns)``.
        slope: Per unit of the value; broadcasts with it.
    """

    def __init__(self, intercept: Tensor, slope: Tensor) -> None:
        self.intercept, self.slope = intercept, slope

    def __call__(self, value: Tensor) -> Tensor:
        """The predictor at some values."""
        return self.intercept + self.slope * value


class SelfMaskedNormal(SelfMasked):
    """A normal value whose predictor is a line, under a logistic, probit or threshold link.

    With the link as a mixture of probits Φ(a_i t), a value is missing where y = t(x) + ε / a_i > 0 for the predictor t
    of being missing.  x and y are jointly normal, so a draw is a component, then y > 0, then x given y.

    Args:
        fn: As for :class:`SelfMasked`.
        predictor: The same.
        link: The same.
        explained: The same.
        telling: Positions of the columns that have such cells; all if None.  Nothing is computed of the others.
    """

    fn: Any
    predictor: Line  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(
        self,
        fn: TorchDistributionMixin,
        predictor: Line,
        link: Link,
        explained: Bool[Tensor, "rows columns"],
        telling: Sequence[int] | None = None,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(fn, predictor, link, explained, validate_args)
        self._computed: dict[bool, LogisticMean] = {}
        self.telling = None if telling is None or len(telling) == self.batch_shape[-1] else list(telling)

    def expand(self, batch_shape: Any, _instance: Any = None) -> SelfMaskedNormal:
        """Expand to a larger batch shape; itself if that is its own, so that nothing is computed twice."""
        if torch.Size(batch_shape) == self.batch_shape:
            return self
        fn = self.fn.expand(torch.Size(batch_shape))
        return SelfMaskedNormal(fn, self.predictor, self.link, self.explained, self.telling, validate_args=False)

    def taken(self, chosen: Int[Tensor, "draws rows"]) -> SelfMaskedNormal:
        """Of some particles of each row; batch shape ``(draws, rows, columns)``.

        Args:
            chosen: Their positions in the first dimension, which has the particles; all between it and the rows have
                size one.
        """

        def of_chosen(values: Tensor) -> Tensor:
            of_rows = values.expand(self.batch_shape).reshape(self.batch_shape[0], *self.batch_shape[-2:])
            return of_rows[chosen, torch.arange(chosen.shape[1], device=chosen.device)]

        slope = self.predictor.slope
        if slope.dim() > 1:
            slope = of_chosen(slope)
        line = Line(of_chosen(self.predictor.intercept), slope)
        fn = type(self.fn)(of_chosen(self.fn.loc), of_chosen(self.fn.scale), validate_args=False)
        return SelfMaskedNormal(fn, line, self.link, self.explained, self.telling, validate_args=False)

    def log_ratio(self, value: Tensor) -> Tensor:
        """As of the class above; zeros that take no memory where no column tells anything."""
        return value.new_zeros(()).expand(self.batch_shape) if self.telling == [] else super().log_ratio(value)

    def likely(self) -> Tensor:
        """The mean, or a value just beyond the predictor's zero if the mean is unlikely to go missing."""
        if self.telling == []:
            return self.fn.loc.detach()
        with torch.no_grad():
            at_mean, slope, scale = self.predictor(self.fn.loc), self.predictor.slope, self.fn.scale
            shift = at_mean.clamp_min(0.0) / slope.abs().clamp_min(torch.finfo(slope.dtype).tiny)
            if self.link.name != "threshold":  # a flat predictor has its zero too far away to be of use
                shift = shift.minimum(scale * (10 + slope.abs() * scale))
            return self.fn.loc - torch.where(slope >= 0, 1, -1) * (shift + 0.01 * scale)

    @property
    def _at_mean(self) -> tuple[Tensor, Tensor]:
        """The predictor of being missing at the mean, and its variance."""
        scale = without_repeats(self.fn.scale)
        return self._telling(-self.predictor(self.fn.loc)), self._telling((self.predictor.slope * scale).square())

    def _telling(self, values: Tensor) -> Tensor:
        """Of values by column those of the columns that tell something; numbers for all columns as they are."""
        return values if self.telling is None or values.dim() == 0 else values[..., self.telling]

    def _everywhere(self, values: Tensor) -> Tensor:
        """Values of the columns that tell something in the places of these, and zero."""
        if self.telling is None:
            return values
        at = torch.tensor(self.telling, dtype=torch.long, device=values.device)
        return values.new_zeros(self.batch_shape).index_copy(-1, at, values)

    def _mixed(self) -> Mixed:
        return mixed(*self._at_mean, PROBITS[self.link.name])

    def _logistic(self) -> LogisticMean:
        """Computed once; what was computed without gradients serves those alone who want none."""
        wanted = [True] if torch.is_grad_enabled() else [True, False]
        for with_gradient in wanted:
            if with_gradient in self._computed:
                return self._computed[with_gradient]
        return self._computed.setdefault(wanted[-1], logistic_mean(*self._at_mean))

    def _log_missing(self) -> Tensor:
        if self.telling == []:
            return torch.zeros_like(self.fn.loc)
        return self._everywhere(self._logistic().log_mean if self.link.name == "logit" else self._mixed().log_mean())

    def _mean(self) -> Tensor:
        if self.telling == []:
            return self.fn.loc
        known = self.link.name == "logit" and not torch.is_grad_enabled()
        by_predictor = self._everywhere(self._logistic().by_m if known else self._mixed().slope())
        return self.fn.loc - self.predictor.slope * self.fn.scale.square() * by_predictor

    def _draw(self) -> Tensor:
        if self.telling == []:
            return self.fn.loc
        laws = self.fn.loc, self.fn.scale, self.predictor.slope
        parts, (fn_loc, scale, steep) = self._mixed(), map(self._telling, laws)
        shares = parts.log_terms().softmax(-1).cumsum(-1)
        uniform = torch.rand_like(fn_loc)
        chosen = (shares[..., :-1] <= uniform.unsqueeze(-1)).sum(-1, keepdim=True)
        bound = parts.bounds.gather(-1, chosen).squeeze(-1)
        scaled = parts.scaled.expand(parts.bounds.shape).gather(-1, chosen).squeeze(-1)
        # In double precision, as far tails underflow in single precision; in single one of 2^24 numbers is zero.
        share = torch.rand_like(fn_loc).double().clamp_min(2.0**-25)
        below = tails.normal_quantile(share.log() + torch.special.log_ndtr(bound.double())).to(bound.dtype)
        # Where the other side of the tail is taken, the mean is tilted and the predictor is that of being observed.
        slope = torch.where(parts.flipped, steep, -steep)
        loc = fn_loc - torch.where(parts.flipped, steep * scale.square(), 0.0)
        rest = (1 - (slope * scale * scaled).square()).clamp_min(0.0).sqrt()
        return self._everywhere(loc - slope * scale.square() * scaled * below + scale * rest * torch.randn_like(loc))
