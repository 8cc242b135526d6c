"""Modules that give distributions: networks, priors p(Z|U), likelihoods p(X|Z); and groups of rows."""

from pyro_mnar.nn.groups import Groups
from pyro_mnar.nn.networks import MLP, ResidualMLP, positive

__all__ = ["MLP", "Groups", "ResidualMLP", "positive"]
