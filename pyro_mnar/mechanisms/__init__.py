"""p(R|X,Z): who causes the missingness of what."""

from pyro_mnar.mechanisms.declared import (
    Constant,
    FullyConnected,
    General,
    LatentDependent,
    SelfMasking,
    build,
    log_odds,
)

__all__ = ["Constant", "FullyConnected", "General", "LatentDependent", "SelfMasking", "build", "log_odds"]
