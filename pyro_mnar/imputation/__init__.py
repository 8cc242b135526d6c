"""A fit to draws: of a table's gaps, of single cells, of new rows; and draws to conclusions."""

from pyro_mnar.imputation.analyses import pool_frames
from pyro_mnar.imputation.imputations import Imputations
from pyro_mnar.imputation.imputing import impute
from pyro_mnar.imputation.pooled import Pooled, pool_scalar

__all__ = ["Imputations", "Pooled", "impute", "pool_frames", "pool_scalar"]
