"""Guides, one family a file."""

from pyro_mnar.guides.zero_impute import ZeroImpute

__all__ = ["ZeroImpute"]
