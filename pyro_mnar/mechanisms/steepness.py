"""Lines a + b·x of a column's own value whose slope b may become as steep as a threshold.

    b = sinh(v),    a = c·√(1 + b²)

with v and c the parameters.  Small slopes are what v is, and steep ones take few steps: where everything beyond a value
goes missing, the data ask for slopes of a hundred, which b itself reaches in thousands of Adam's steps.  The middle of
a steep line, where log-odds are zero, is -c, whatever b is, so that it is found together with the slope and not after
it; a flat line has no middle, and its level is c.

Some columns may have no say in their slopes and follow the others: v is then the mean of theirs.  Their gaps still find
their own c.
"""

from __future__ import annotations

import math
from collections.abc import MutableMapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import softplus

from pyro_mnar.nn.networks import inverse_softplus

STEEPEST = 1e6  # a threshold to what floats hold; beyond, squares of slopes leave single precision
FARTHEST = math.asinh(STEEPEST)
FLATTEST = 1e-6  # of a declared sign


def slope_of(raw: Float[Tensor, "*shape"], signs: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Slopes b of v, and of its softplus where a sign is known."""
    return steep(torch.where(signs == 0, raw, signs * softplus(raw)))


def steep(v: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """sinh(v), up to what counts as a threshold."""
    return v.clamp(-FARTHEST, FARTHEST).sinh()


def raw_of(slope: Float[Tensor, "*shape"], signs: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Parameters v of b; of its size where a sign is known."""
    size = slope.abs().clamp_min(FLATTEST).asinh()
    return torch.where(signs == 0, slope.asinh(), inverse_softplus(size))


def scale_of(slope: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """What c is multiplied by."""
    return (1 + slope.square()).sqrt()


class SteepLines(nn.Module):
    """A mechanism with such a line for each column.

    States of earlier versions, whose parameters were a and b themselves, are taken by ``load_state_dict`` as they were
    meant: the lines are the same.

    Subclasses name the parameter v in ``_RAW`` and the buffer of signs in ``_SIGNS``.
    """

    _RAW: str
    _SIGNS: str
    raw_intercept: nn.Parameter
    _follows: Float[Tensor, " columns"]  # numbers, so that files keep what no schema says
    _leads: Float[Tensor, " columns"]
    _has_followers = False

    def _make_lines(self, num_columns: int) -> None:
        self.raw_intercept = nn.Parameter(torch.zeros(num_columns))
        for name in ("_follows", "_leads"):
            self.register_buffer(name, torch.zeros(num_columns))

    def share_slopes(self, followers: Sequence[int], leaders: Sequence[int]) -> list[int]:
        """Let the slopes of some columns be those of others, on average over v; nothing changes if none of these leads.

        Args:
            followers: Positions of the columns; those of a declared sign or slope stay as they are.
            leaders: Positions of the others; those that are no cause of their own gaps do not count.

        Returns:
            Positions of those that follow.
        """
        free = self._decided_by_data
        own = [d for d in followers if free[d]]
        of_others = [d for d in leaders if d not in own and self._causes_itself[d]]
        if own and of_others:
            self._follows[own], self._leads[of_others] = 1.0, 1.0
            self._has_followers = True
        return own if of_others else []

    @property
    def _decided_by_data(self) -> Bool[Tensor, " columns"]:
        """Columns whose slope is learned, and of whose slope nothing is declared."""
        raise NotImplementedError

    @property
    def _causes_itself(self) -> Bool[Tensor, " columns"]:
        """Columns whose value is among the causes of their gaps."""
        raise NotImplementedError

    def _shared(self, slope: Float[Tensor, " columns"]) -> Float[Tensor, " columns"]:
        """Slopes with those of the columns that follow.

        These pull at nobody's slope.  The gradient goes to the column's own v, which nothing depends on, so that what
        looks for standard errors finds that the data do not tell it one.
        """
        if not self._has_followers:
            return slope
        mean = (slope.detach().asinh() * self._leads).sum() / self._leads.sum()
        raw = getattr(self, self._RAW)
        return torch.where(self._follows > 0, mean.sinh() + raw - raw.detach(), slope)

    @property
    def _slopes(self) -> Float[Tensor, " columns"]:
        """b, known ones too."""
        raise NotImplementedError

    @property
    def intercept(self) -> Float[Tensor, " columns"]:
        """a, the log-odds where the value, and all else that causes the gap, is zero.  :meth:`put_lines` sets it."""
        return self.raw_intercept * scale_of(self._slopes)

    def put_lines(
        self, intercept: Float[Tensor, " columns"] | None = None, slope: Float[Tensor, " columns"] | None = None
    ) -> None:
        """Set lines, in place.

        Args:
            intercept: a; by default as they are.
            slope: b, of which known ones are not taken, and of those of a declared sign the size; by default as they
                are.
        """
        with torch.no_grad():
            wanted = (self.intercept if intercept is None else intercept).clone()
            if slope is not None:
                raw = getattr(self, self._RAW)
                raw.copy_(raw_of(slope.to(raw), getattr(self, self._SIGNS)))
            self.raw_intercept.copy_(wanted.to(self.raw_intercept) / scale_of(self._slopes))

    def renew_state(self, state: MutableMapping[str, Any], prefix: str = "") -> None:
        """Turn parameters of an earlier version, a and b, into those of today, in place; others are left alone.

        Args:
            state: Parameters by name, as ``state_dict`` gives them.
            prefix: What stands before the names of this mechanism's.
        """
        for name in ("_follows", "_leads"):
            if f"{prefix}raw_intercept" in state or f"{prefix}intercept" in state:
                state.setdefault(prefix + name, torch.zeros_like(getattr(self, name)))
        old, raw = f"{prefix}intercept", state.get(prefix + self._RAW)
        if raw is None or old not in state or f"{prefix}raw_intercept" in state:
            return
        signs = getattr(self, self._SIGNS)
        slope = self._as_known(torch.where(signs == 0, raw, signs * softplus(raw)))
        state[prefix + self._RAW] = raw_of(slope, signs)
        state[f"{prefix}raw_intercept"] = state.pop(old) / scale_of(slope)

    def _as_known(self, learned: Float[Tensor, " columns"]) -> Float[Tensor, " columns"]:
        """Learned slopes, and those that are known in place of them."""
        raise NotImplementedError

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        self.renew_state(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._has_followers = bool((self._follows > 0).any())
