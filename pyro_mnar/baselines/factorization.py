"""Alias of :mod:`pyro_mnar.baselines.ratings.factorization`, the name by which the guide imports its options."""

from pyro_mnar.baselines.ratings.factorization import Training

__all__ = ["Training"]
