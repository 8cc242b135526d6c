"""The objective: traces of a model and a guide to importance weights, and those to a bound."""

from pyro_mnar.infer.objective import ImportanceWeightedELBO
from pyro_mnar.infer.shared import shared_latents

__all__ = ["ImportanceWeightedELBO", "shared_latents"]
