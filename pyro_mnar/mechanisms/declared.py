"""p(R|X,Z): who causes the missingness of what.

Every mechanism is a module ``(num_columns, latent_dim)`` whose ``forward(x, z)`` gives the log-odds of being
*observed*, per column, on standardised x.  Written Π_d π_d(x,z)^{R_d} (1 - π_d(x,z))^{1-R_d} in the paper's section 4.
Each names its parents, as the missingness graph of the same name does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.distributions import Distribution

from pyro_mnar.mechanisms.parents import Mechanism, Parents
from pyro_mnar.mechanisms.steepness import SteepLines, scale_of, slope_of
from pyro_mnar.messages import has_parts, is_finite, is_one_of, shown, whole_number
from pyro_mnar.nn import MLP
from pyro_mnar.nn.networks import checked_width, hidden_widths
from pyro_mnar.tables.batch import Batch

Values = Float[Tensor, "*batch columns"]
Latent = Float[Tensor, "*batch latent_dim"]
KnownSlopes = float | Distribution | Sequence[float | Distribution | None] | None


class Constant(Mechanism):
    """Nothing causes it (MCAR, Figure 1 a): log-odds a_d.

    Args:
        num_columns: D.
        latent_dim: Not used; every mechanism is made with the same arguments.
    """

    parents = Parents()

    def __init__(self, num_columns: int, latent_dim: int = 0) -> None:
        super().__init__()
        self.intercept = nn.Parameter(torch.zeros(checked_width("num_columns", num_columns)))

    def slope_in_own_value(self, columns: Sequence[int]) -> Float[Tensor, " columns"]:
        """Zero."""
        return torch.zeros_like(self.intercept)

    def forward(self, x: Values, z: Latent) -> Values:
        """Log-odds of being observed."""
        return self.intercept.expand_as(x)


class SelfMasking(SteepLines, Mechanism):
    """Its own value causes it (Figure 1 c): log-odds a_d + b_d·x_d, from flat to a threshold.

    Args:
        num_columns: D.
        latent_dim: Not used; every mechanism is made with the same arguments.
        sign: What is known of the slopes: ``-1`` if high values go missing, ``+1`` if low ones do, 0 if unknown; one
            number, or one per column.
        slope: Slopes that are known, change of the log-odds per standard deviation of the column: one number, or one
            per column, None for those to be learned.  A sign of the same column says which way.  A distribution in
            place of a number is a prior of that slope, sign included: it is learned, and the models' objective holds
            the prior's density (the mode of the posterior, MAP).

    Raises:
        ValueError: If a sign is none of -1, 0 and 1, there are not as many signs or slopes as columns, a slope is
            negative where there is a sign, or a prior is no density of one number.
    """

    parents = Parents(own=True)
    _RAW, _SIGNS = "raw_slope", "sign"

    sign: Int[Tensor, " columns"]
    is_known: Bool[Tensor, " columns"]
    known_slope: Float[Tensor, " columns"]

    def __init__(
        self,
        num_columns: int,
        latent_dim: int = 0,
        *,
        sign: int | Sequence[int] = 0,
        slope: KnownSlopes = None,
    ) -> None:
        super().__init__()
        num_columns = checked_width("num_columns", num_columns)
        given: Any = sign
        signs = list(given) if has_parts(given) else [given] * num_columns
        if len(signs) != num_columns or not all(is_one_of(one, (-1, 0, 1)) for one in signs):
            raise ValueError(f"sign: expected -1, 0 or 1, once or for each of {num_columns} columns, got {shown(sign)}")
        self.register_buffer("sign", torch.tensor(signs))
        known, self.priors = _known_slopes(slope, signs)
        self.register_buffer("is_known", torch.tensor([number is not None for number in known]), persistent=False)
        self.register_buffer("known_slope", torch.tensor([number or 0.0 for number in known]), persistent=False)
        self._make_lines(num_columns)
        self.raw_slope = nn.Parameter(torch.zeros(num_columns))

    def reset_parameters(self) -> None:
        """Draw slopes of size about one, of both signs where no sign is declared, for restarts."""
        nn.init.zeros_(self.raw_intercept)
        nn.init.normal_(self.raw_slope)

    @property
    def slope(self) -> Float[Tensor, " columns"]:
        """b_d, of the declared sign and size."""
        return self._shared(self._as_known(slope_of(self.raw_slope, self.sign)))

    @property
    def _decided_by_data(self) -> Bool[Tensor, " columns"]:
        has_prior = torch.tensor([d in self.priors for d in range(len(self.sign))], device=self.sign.device)
        return (self.sign == 0) & ~self.is_known & ~has_prior

    @property
    def _causes_itself(self) -> Bool[Tensor, " columns"]:
        return torch.ones_like(self.is_known)

    @property
    def _slopes(self) -> Float[Tensor, " columns"]:
        return self.slope

    def _as_known(self, learned: Float[Tensor, " columns"]) -> Float[Tensor, " columns"]:
        return torch.where(self.is_known, self.known_slope, learned)

    def slope_in_own_value(self, columns: Sequence[int]) -> Float[Tensor, " columns"]:
        """b_d, of all columns."""
        return self.slope

    def log_prior(self) -> Float[Tensor, ""] | None:
        """Summed log-density of the slopes that have a prior; None if none has one."""
        if not self.priors:
            return None
        return torch.stack([prior.log_prob(self.slope[column]) for column, prior in self.priors.items()]).sum()

    def forward(self, x: Values, z: Latent) -> Values:
        """Log-odds of being observed."""
        slope = self.slope
        return self.raw_intercept * scale_of(slope) + slope * x


class LatentDependent(SelfMasking):
    """Its own value and the latent cause it: log-odds a_d + b_d·x_d + c_d·z (the paper's data sets B and C).

    Args:
        num_columns: D.
        latent_dim: H.
        sign: What is known of the slopes b_d, as for :class:`SelfMasking`.
        slope: Slopes b_d that are known, or have a prior, likewise.
    """

    parents = Parents(own=True, latent=True)

    def __init__(
        self,
        num_columns: int,
        latent_dim: int,
        *,
        sign: int | Sequence[int] = 0,
        slope: KnownSlopes = None,
    ) -> None:
        super().__init__(num_columns, sign=sign, slope=slope)
        self.of_latent = nn.Linear(checked_width("latent_dim", latent_dim), num_columns, bias=False)
        nn.init.zeros_(self.of_latent.weight)

    def forward(self, x: Values, z: Latent) -> Values:
        """Log-odds of being observed."""
        return super().forward(x, z) + self.of_latent(z)


class FullyConnected(Mechanism):
    """All of X causes each R_d (Figure 1 d): a network of x.

    Args:
        num_columns: D.
        latent_dim: Not used; every mechanism is made with the same arguments.
        hidden: Widths of the hidden layers; none for a linear map.
    """

    parents = Parents(own=True, others=True)

    def __init__(self, num_columns: int, latent_dim: int = 0, *, hidden: Sequence[int] = (10,)) -> None:
        super().__init__()
        self.network = MLP([num_columns, *hidden_widths(hidden), num_columns])

    def forward(self, x: Values, z: Latent) -> Values:
        """Log-odds of being observed."""
        return self.network(x)


class General(Mechanism):
    """All of X and Z cause each R_d (Figure 1 h): a network of (x, z), with 10 hidden units as in B.1.

    Args:
        num_columns: D.
        latent_dim: H.
        hidden: Widths of the hidden layers; none for a linear map.
    """

    parents = Parents(own=True, others=True, latent=True)

    def __init__(self, num_columns: int, latent_dim: int, *, hidden: Sequence[int] = (10,)) -> None:
        super().__init__()
        width = whole_number("num_columns", num_columns) + whole_number("latent_dim", latent_dim, 0)
        self.network = MLP([width, *hidden_widths(hidden), num_columns])

    def forward(self, x: Values, z: Latent) -> Values:
        """Log-odds of being observed."""
        z = z.expand(*x.shape[:-1], z.shape[-1])
        return self.network(torch.cat([x, z], dim=-1))


def _known_slopes(slope: KnownSlopes, signs: Sequence[int]) -> tuple[list[float | None], dict[int, Distribution]]:
    """Known slopes of all columns, None where they are to be learned, and the priors of some of these, by position."""
    slopes = list(slope) if isinstance(slope, Sequence) else [slope] * len(signs)
    if len(slopes) != len(signs):
        raise ValueError(f"slope: expected one number, or one for each of {len(signs)} columns, got {shown(slope)}")
    known: list[float | None] = []
    priors: dict[int, Distribution] = {}
    for column, (given, sign) in enumerate(zip(slopes, signs, strict=True)):
        if isinstance(given, Distribution):
            priors[column] = _checked_prior(given)
        elif given is not None and not (is_finite(given)):
            raise ValueError(f"slope: expected a finite number, a distribution or None, got {shown(given)}")
        elif given is not None and sign and given < 0:
            raise ValueError(f"slope: expected its size, from 0, where the sign is given, got {given} and sign {sign}")
        known.append(None if given is None or isinstance(given, Distribution) else float(given) * (sign or 1))
    return known, priors


def _checked_prior(prior: Distribution) -> Distribution:
    if prior.batch_shape.numel() != 1 or prior.event_shape.numel() != 1:
        shapes = f"batch shape {tuple(prior.batch_shape)} and event shape {tuple(prior.event_shape)}"
        raise ValueError(f"slope: expected a distribution of one number, got {shapes}; a list has one for each column")
    if prior.support is not None and prior.support.is_discrete:
        raise ValueError(f"slope: expected a distribution with a density, got {type(prior).__name__}")
    return prior


DECLARED = (Constant, SelfMasking, LatentDependent, FullyConnected, General)


def build(mechanism: Any, num_columns: int, latent_dim: int) -> nn.Module:
    """A mechanism from a module (taken as it is) or from anything that makes one of ``(num_columns, latent_dim)``."""
    if isinstance(mechanism, nn.Module):
        return mechanism
    if not callable(mechanism):
        raise TypeError(f"mechanism: expected a mechanism or its class, got {shown(mechanism)}")
    make: Any = mechanism
    return make(num_columns, latent_dim)


def log_odds(mechanism: nn.Module, x: Values, z: Float[Tensor, "... latent_dim"], batch: Batch) -> Values:
    """Log-odds of being observed, from a mechanism of (x, z), or of (x, z, mask, aux) if it has ``needs_mask_and_aux``.

    Cells outside ``mask_modelled`` count as observed where their R causes another's: held-out ones were, and of the
    others the mechanism says nothing.
    """
    if not getattr(mechanism, "needs_mask_and_aux", False):
        return mechanism(x, z)
    return mechanism(x, z, batch.mask | ~batch.mask_modelled, batch.aux)
