"""Missing values that are summed out of the weight are not drawn while training.

:func:`~pyro_mnar.partially_observed` marks their sites, and :mod:`pyro_mnar.infer.level_dependence` has looked whether
anything else depends on them.  The weight is then the same whichever value they have, so the objective takes any likely
one, without random numbers.
"""

from __future__ import annotations

from typing import Any

from pyro.poutine.messenger import Messenger

from pyro_mnar.distributions.own_value import likely_value
from pyro_mnar.infer.sites import is_summed_out


class WithoutDrawing(Messenger):
    """Within it, sites that are summed out take a likely value, unless somebody gave them one.

    Args:
        moving: Names of such sites whose draws move the weight all the same.
        only: Names of the sites that are meant; all if None.
    """

    def __init__(self, moving: frozenset[str] = frozenset(), only: frozenset[str] | None = None) -> None:
        super().__init__()
        self.moving, self.only = moving, only

    def _pyro_sample(self, msg: Any) -> None:
        is_meant = msg["name"] not in self.moving and (self.only is None or msg["name"] in self.only)
        if is_meant and is_summed_out(msg) and msg["value"] is None and not msg["is_observed"]:
            msg["value"] = likely_value(msg["fn"].base_dist.fn)
