"""Pictures of tables, fits and imputations; each function takes an Axes and returns it."""

from pyro_mnar.plots.gaps import missingness_pattern
from pyro_mnar.plots.imputed import imputed_against_observed
from pyro_mnar.plots.training import bound_curve

__all__ = ["bound_curve", "imputed_against_observed", "missingness_pattern"]
