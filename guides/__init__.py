"""Guides, one family a file."""

from pyro_mnar.guides.anova import ANOVAConditional
from pyro_mnar.guides.from_model import FromModel
from pyro_mnar.guides.mean_field import MeanField
from pyro_mnar.guides.point_net import PointNet
from pyro_mnar.guides.zero_impute import ZeroImpute

__all__ = ["ANOVAConditional", "FromModel", "MeanField", "PointNet", "ZeroImpute"]
