"""The words a model is written in (:mod:`~pyro_mnar.primitives.words`), and the sites that they make."""

from pyro_mnar.distributions import OwnValueMechanism
from pyro_mnar.primitives.words import ROWS, observe_events, observe_mask, partially_observed, propose_missing, rows

__all__ = [
    "ROWS",
    "OwnValueMechanism",
    "observe_events",
    "observe_mask",
    "partially_observed",
    "propose_missing",
    "rows",
]
