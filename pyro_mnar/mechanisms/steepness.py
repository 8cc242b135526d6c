"""Lines a + b·x of a column's own value whose slope b may become as steep as a threshold.

    b = sinh(v),    a = c·√(1 + b²)

with v and c the parameters.  Small slopes are what v is, and steep ones take few steps: where everything beyond a value
goes missing, the data ask for slopes of a hundred, which b itself reaches in thousands of Adam's steps.  The middle of
a steep line, where log-odds are zero, is -c, whatever b is, so that it is found together with the slope and not after
it; a flat line has no middle, and its level is c.
"""

from __future__ import annotations

import math
from collections.abc import MutableMapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import softplus

from pyro_mnar.nn.networks import inverse_softplus

STEEPEST = 1e6  # a threshold to what floats hold; beyond, squares of slopes leave single precision
FARTHEST = math.asinh(STEEPEST)
FLATTEST = 1e-6  # of a declared sign


def slope_of(raw: Float[Tensor, "*shape"], signs: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Slopes b of v, and of its softplus where a sign is known."""
    return torch.where(signs == 0, raw, signs * softplus(raw)).clamp(-FARTHEST, FARTHEST).sinh()


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
