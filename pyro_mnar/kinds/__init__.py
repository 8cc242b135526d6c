"""What a column's values are: numbers, levels, counts, dates."""

from pyro_mnar.kinds.choice import Choice, choice_of
from pyro_mnar.kinds.counts import Count
from pyro_mnar.kinds.dates import Datetime
from pyro_mnar.kinds.kind import Kind
from pyro_mnar.kinds.levels import Binary, Categorical, Ordinal
from pyro_mnar.kinds.numbers import LEAST_NOISE, Bounded, Continuous, HeavyTailed, Positive
from pyro_mnar.kinds.registry import KINDS, from_plain, register, to_plain
from pyro_mnar.kinds.zero_inflated import ZeroInflated

__all__ = [
    "KINDS",
    "LEAST_NOISE",
    "Binary",
    "Bounded",
    "Categorical",
    "Choice",
    "Continuous",
    "Count",
    "Datetime",
    "HeavyTailed",
    "Kind",
    "Ordinal",
    "Positive",
    "ZeroInflated",
    "choice_of",
    "from_plain",
    "register",
    "to_plain",
]
