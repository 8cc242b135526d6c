"""Modules that give distributions: networks, priors p(Z|U), likelihoods p(X|Z)."""

from pyro_mnar.nn.networks import MLP, ResidualMLP, positive

__all__ = ["MLP", "ResidualMLP", "positive"]
