"""What a column's values are: numbers, levels, counts, dates."""

from pyro_mnar.kinds.choice import Choice, choice_of
from pyro_mnar.kinds.numbers import (
    KINDS,
    LEAST_NOISE,
    Binary,
    Bounded,
    Categorical,
    Continuous,
    Count,
    Datetime,
    HeavyTailed,
    Kind,
    Ordinal,
    Positive,
    from_plain,
    to_plain,
)

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
    "choice_of",
    "from_plain",
    "to_plain",
]
