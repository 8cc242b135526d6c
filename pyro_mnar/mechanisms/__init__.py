"""p(R|X,Z): who causes the missingness of what."""

from pyro_mnar.mechanisms.blocks import Blocks
from pyro_mnar.mechanisms.declared import (
    DECLARED,
    Constant,
    FullyConnected,
    General,
    LatentDependent,
    SelfMasking,
    build,
    log_odds,
)
from pyro_mnar.mechanisms.parents import (
    AddsByLevel,
    LinearInOwnValue,
    Mechanism,
    NamesOwnCauses,
    NamesParents,
    Parents,
)
from pyro_mnar.mechanisms.two_sided import TwoSided

__all__ = [
    "DECLARED",
    "AddsByLevel",
    "Blocks",
    "Constant",
    "FullyConnected",
    "General",
    "LatentDependent",
    "LinearInOwnValue",
    "Mechanism",
    "NamesOwnCauses",
    "NamesParents",
    "Parents",
    "SelfMasking",
    "TwoSided",
    "build",
    "log_odds",
]
