"""Distributions between bounds: how censored cells are scored, and how their values are drawn."""

from pyro_mnar.distributions.truncation.restricted import PartlyCensored, Restricted, restricted_levels

__all__ = ["PartlyCensored", "Restricted", "restricted_levels"]
