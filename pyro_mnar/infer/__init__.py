"""The objective: traces of a model and a guide to importance weights, and those to a bound."""

from pyro_mnar.infer.objective import ImportanceWeightedELBO

__all__ = ["ImportanceWeightedELBO"]
