"""p(R|X,Z) compiled from a graph: Π_d p(R_d | parents of R_d), every column in one computation.

Log-odds of being observed,

    a_d + Σ_p w_dp·v_p + Σ_m softplus(o_dm)·tanh(Σ_p h_dmp·v_p + c_dm),

with v = (x, z, r, u) side by side, w zero off the graph's edges and h zero off the nonlinear ones.  A sign known of an
edge is that of its w and h, by construction; o is positive, so log-odds are monotone in that parent.  (For the others
this is no restriction, tanh being odd.)  A column's own value has weights of its own, so self-masking costs D weights
and not D²; a and its slope are a line of :mod:`pyro_mnar.mechanisms.steepness`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from numpy import ndarray
from torch import Tensor, nn
from torch.nn.functional import softplus

from pyro_mnar.mechanisms.steepness import SteepLines, scale_of, slope_of
from pyro_mnar.messages import whole_number
from pyro_mnar.nn.indicators import Indicators
from pyro_mnar.nn.networks import inverse_softplus

SMALL = 0.1


class GraphMechanism(SteepLines):
    """The mechanism of a :class:`~pyro_mnar.MissingnessGraph`; made by its ``mechanism(latent_dim)``.

    The linear part starts at slope zero, or at ±log 2 or a little above where the sign is known (as
    :class:`~pyro_mnar.mechanisms.declared.SelfMasking` does); the nonlinear part starts small and random.

    Args:
        parents: Which inputs cause each R; ``(columns, inputs)``, inputs being x, z, r, u in this order.
        signs: -1, 0 or 1 for each of these; ``(columns, inputs)``.
        nonlinear: Which of these enter the network; ``(columns, inputs)``.
        slopes: Slopes that are known, NaN where they are to be learned; ``(columns, inputs)``.
        latent_dim: H.
        hidden: Hidden units per column.
        indicators: Makes further inputs of x, which stand between z and r; without, there are none.

    Attributes:
        needs_mask_and_aux: Whether another R or an auxiliary causes an R, so that ``forward`` needs ``mask`` and
            ``aux``.

    Raises:
        ValueError: If ``latent_dim`` or ``hidden`` is below 1.
    """

    _RAW, _SIGNS = "raw_own_slope", "_own_signs"

    _own_parents: Bool[Tensor, " columns"]
    _own_signs: Int[Tensor, " columns"]
    _own_nonlinear: Bool[Tensor, " columns"]
    _own_known: Float[Tensor, " columns"]
    _other_parents: Bool[Tensor, "columns used"]
    _other_signs: Int[Tensor, "columns used"]
    _other_nonlinear: Bool[Tensor, "columns used"]
    _other_known: Float[Tensor, "columns used"]
    _used: Int[Tensor, " used"]
    _level_inputs: Int[Tensor, "columns levels"]

    def __init__(
        self,
        parents: Bool[ndarray, "columns inputs"],
        signs: Int[ndarray, "columns inputs"],
        nonlinear: Bool[ndarray, "columns inputs"],
        slopes: Float[ndarray, "columns inputs"] | None = None,
        *,
        latent_dim: int,
        hidden: int,
        indicators: Indicators | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("latent_dim", latent_dim), ("hidden", hidden)):
            whole_number(name, value)
        columns = len(parents)
        self.latent_dim = latent_dim
        self.indicators = indicators if indicators is not None and len(indicators) else None
        beside = columns + latent_dim + (len(self.indicators) if self.indicators is not None else 0)
        self.needs_mask_and_aux = bool(parents[:, beside:].any())
        self._causing_others = self._columns_causing_others(parents)
        self._causing_own = self._columns_causing_own(parents)
        self._bent_levels = self._columns_causing_own(nonlinear)
        self._bent = frozenset(np.flatnonzero(nonlinear[range(columns), range(columns)]).tolist())
        self._is_constant = not parents.any()
        across = parents.copy()
        across[range(columns), range(columns)] = False
        used = np.flatnonzero(across.any(0))
        self._uses_indicators = bool(((used >= columns + latent_dim) & (used < beside)).any())
        for name, values in (("parents", parents), ("signs", signs), ("nonlinear", nonlinear)):
            self.register_buffer(f"_own_{name}", torch.from_numpy(values[range(columns), range(columns)]))
            self.register_buffer(f"_other_{name}", torch.from_numpy((values * across)[:, used]))
        self.register_buffer("_used", torch.from_numpy(used))
        known = np.full(parents.shape, np.nan) if slopes is None else slopes
        numbers = torch.tensor(known, dtype=torch.get_default_dtype())
        own, other = numbers.diagonal().clone(), numbers[:, used.tolist()]
        itself = torch.arange(columns)[:, None] == self._used  # a column among the others' causes is none of its own's
        self.register_buffer("_own_known", own, persistent=False)
        self.register_buffer("_other_known", other.masked_fill(itself, torch.nan), persistent=False)

        self._make_lines(columns)
        self.register_buffer("_level_inputs", self._inputs_of_levels(used), persistent=False)
        self.raw_own_slope = nn.Parameter(torch.zeros(columns))
        self.raw_other_slope = nn.Parameter(torch.zeros(columns, len(used)))
        self.has_network = bool(nonlinear.any())
        if self.has_network:
            self.raw_own_weight = nn.Parameter(torch.empty(hidden, columns))
            self.raw_other_weight = nn.Parameter(torch.empty(hidden, columns, len(used)))
            self.bias = nn.Parameter(torch.empty(hidden, columns))
            self.raw_output = nn.Parameter(torch.empty(hidden, columns))
            self._draw_network()

    def reset_parameters(self) -> None:
        """Draw slopes of size about one, of both signs where no sign is known, and a new network, for restarts."""
        nn.init.zeros_(self.raw_intercept)
        nn.init.normal_(self.raw_own_slope)
        nn.init.normal_(self.raw_other_slope, std=max(1, self.raw_other_slope.shape[-1]) ** -0.5)
        if self.has_network:
            self._draw_network()

    def causes_only_own(self, columns: Sequence[int]) -> bool:
        """Whether the values of these columns cause no R but their own; by position."""
        return self._causing_others.isdisjoint(columns)

    def causes_own(self, column: int) -> bool:
        """Whether the value of this column, or an indicator of it, causes its own R; by position."""
        return column in self._causing_own

    def effects_of_levels(
        self, columns: Sequence[int], points: Float[Tensor, "columns levels"]
    ) -> Float[Tensor, "columns levels"] | None:
        """What each level adds to its own R's log-odds; None where one of these columns enters the network."""
        if not self._bent_levels.isdisjoint(columns):
            return None
        effects = self.own_slope[list(columns), None] * points
        if self.indicators is None:
            return effects
        at = self._level_inputs[list(columns)][:, : points.shape[1]]
        at = torch.nn.functional.pad(at, (0, points.shape[1] - at.shape[1]), value=self.other_slope.shape[1])
        slopes = torch.nn.functional.pad(self.other_slope[list(columns)], (0, 1))
        return effects + slopes.gather(-1, at)

    def slope_in_own_value(self, columns: Sequence[int]) -> Float[Tensor, " columns"] | None:
        """Slope of each column's log-odds in its own value; None where one of these columns enters the network."""
        return self.own_slope if self._bent.isdisjoint(columns) else None

    @property
    def own_slope(self) -> Float[Tensor, " columns"]:
        """Slope of each column's linear part in its own value, zero where the graph has no such edge."""
        return self._shared(self._as_known(slope_of(self.raw_own_slope, self._own_signs)))

    @property
    def _decided_by_data(self) -> Bool[Tensor, " columns"]:
        return self._own_parents & ~self._own_nonlinear & (self._own_signs == 0) & self._own_known.isnan()

    @property
    def _causes_itself(self) -> Bool[Tensor, " columns"]:
        return self._own_parents

    @property
    def _slopes(self) -> Float[Tensor, " columns"]:
        return self.own_slope

    def _as_known(self, learned: Float[Tensor, " columns"]) -> Float[Tensor, " columns"]:
        return torch.where(self._own_known.isnan(), learned * self._own_parents, self._own_known)

    @property
    def other_slope(self) -> Float[Tensor, "columns used"]:
        """Slopes of each column's linear part in the inputs that some R has beside its own column."""
        learned = _signed(self.raw_other_slope, self._other_signs, self._other_parents)
        return torch.where(self._other_known.isnan(), learned, self._other_known)

    def forward(
        self,
        x: Float[Tensor, "*batch columns"],
        z: Float[Tensor, "... latent_dim"],
        mask: Shaped[Tensor, "... columns"] | None = None,
        aux: Float[Tensor, "... auxiliaries"] | None = None,
    ) -> Float[Tensor, "*batch columns"]:
        """Log-odds of being observed.

        Args:
            x: Completed rows, standardised; ``(..., rows, columns)``.
            z: Latents; ``(..., rows, latent_dim)``.
            mask: R, for edges R → R; ``(rows, columns)``.
            aux: U, for edges U → R; ``(rows, auxiliaries)``.

        Raises:
            ValueError: If another R or an auxiliary causes an R, and ``mask`` or ``aux`` is not given.
        """
        slope = self.own_slope
        if self._is_constant:
            return (self.raw_intercept * scale_of(slope)).expand(x.shape)
        others = self._others(x, z, mask, aux)
        logits = self.raw_intercept * scale_of(slope) + slope * x
        logits = logits + others @ self.other_slope.T
        return logits + self._network(x, others) if self.has_network else logits

    def _columns_causing_others(self, parents: Bool[ndarray, "columns inputs"]) -> frozenset[int]:
        """Columns whose value, or an indicator of it, causes the R of another column."""
        columns = len(parents)
        inputs, of_column = [*range(columns)], [*range(columns)]
        if self.indicators is not None:
            inputs += range(columns + self.latent_dim, columns + self.latent_dim + len(self.indicators))
            of_column += self.indicators.sources
        caused, own = parents[:, inputs].sum(0), parents[of_column, inputs]
        return frozenset(np.array(of_column)[caused > own].tolist())

    def _columns_causing_own(self, edges: Bool[ndarray, "columns inputs"]) -> frozenset[int]:
        """Columns whose value, or an indicator of it, has one of these edges to the column's own R."""
        columns = len(edges)
        own = set(np.flatnonzero(edges[range(columns), range(columns)]).tolist())
        sources = [] if self.indicators is None else self.indicators.sources
        first = columns + self.latent_dim
        return frozenset(own | {d for at, d in enumerate(sources, first) if edges[d, at]})

    def _inputs_of_levels(self, used: ndarray) -> Int[Tensor, "columns levels"]:
        """Of each level beyond a column's first, the place of its indicator among the others' inputs; else none's."""
        columns, sources = len(self.raw_intercept), [] if self.indicators is None else self.indicators.sources
        place = {at: number for number, at in enumerate(used.tolist())}
        most = max((sources.count(d) for d in set(sources)), default=0)
        table = torch.full((columns, most + 1), len(used))
        level = [0] * columns
        for at, d in enumerate(sources, columns + self.latent_dim):
            level[d] += 1
            table[d, level[d]] = place.get(at, len(used))
        return table

    def _draw_network(self) -> None:
        small = inverse_softplus(torch.tensor(SMALL)).item()
        with torch.no_grad():
            self.raw_own_weight.normal_(std=SMALL).add_(small * (self._own_signs != 0))
            self.raw_other_weight.normal_(std=SMALL).add_(small * (self._other_signs != 0))
            self.bias.uniform_(-1, 1)  # spread, so that units are not copies of each other
            self.raw_output.fill_(small)

    def _network(self, x: Float[Tensor, "*batch columns"], others: Float[Tensor, "*batch used"]) -> Tensor:
        own = _signed(self.raw_own_weight, self._own_signs, self._own_nonlinear)
        other = _signed(self.raw_other_weight, self._other_signs, self._other_nonlinear)
        units = torch.tanh(own * x.unsqueeze(-2) + torch.einsum("...p,mdp->...md", others, other) + self.bias)
        is_used = self._own_nonlinear | self._other_nonlinear.any(-1)
        return (softplus(self.raw_output) * is_used * units).sum(-2)

    def _others(self, x: Tensor, z: Tensor, mask: Tensor | None, aux: Tensor | None) -> Tensor:
        """The inputs that some R has beside its own column, side by side; others are not computed."""
        if not len(self._used):
            return x.new_zeros(*x.shape[:-1], 0)
        parts = [x, z]
        if self.indicators is not None:
            parts.append(self.indicators(x) if self._uses_indicators else x.new_zeros(len(self.indicators)))
        if self.needs_mask_and_aux:
            if mask is None or aux is None:
                raise ValueError("this graph has edges R → R or U → R: expected mask and aux beside x and z")
            parts += [mask.to(x.dtype), aux]
        joined = torch.cat([part.expand(*x.shape[:-1], part.shape[-1]) for part in parts], dim=-1)
        return joined.index_select(-1, self._used)


def _signed(raw: Tensor, signs: Tensor, allowed: Tensor) -> Tensor:
    """Weights of the known signs, and exactly zero where there is no edge."""
    return torch.where(signs == 0, raw, signs * softplus(raw)) * allowed
