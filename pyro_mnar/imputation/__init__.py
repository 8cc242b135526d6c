"""A fit to draws: of a table's gaps, of single cells, of new rows."""

from pyro_mnar.imputation.imputations import Imputations
from pyro_mnar.imputation.imputing import impute

__all__ = ["Imputations", "impute"]
