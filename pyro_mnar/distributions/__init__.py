"""The Pyro distributions that a partly observed row needs."""

from pyro_mnar.distributions.columns import Columns, joined
from pyro_mnar.distributions.counts import StandardizedCounts
from pyro_mnar.distributions.importance_ratio import ImportanceRatio
from pyro_mnar.distributions.levels import Levels, codes_of
from pyro_mnar.distributions.missing_entries import MissingEntries
from pyro_mnar.distributions.of_column import distribution_for
from pyro_mnar.distributions.own_value import OwnValueMechanism, SummedOut
from pyro_mnar.distributions.zero_inflated import PointOrDensity

__all__ = [
    "Columns",
    "ImportanceRatio",
    "Levels",
    "MissingEntries",
    "OwnValueMechanism",
    "PointOrDensity",
    "StandardizedCounts",
    "SummedOut",
    "codes_of",
    "distribution_for",
    "joined",
]
