"""What conclusions stand on: other assumptions about what is missing, one after the other."""

from pyro_mnar.scenarios.pooled_scenarios import Sensitivity, sensitivity
from pyro_mnar.scenarios.tipping import TippingPoint, tipping_point
from pyro_mnar.scenarios.trial_imputations import TrialImputations, impute_trial

__all__ = ["Sensitivity", "TippingPoint", "TrialImputations", "impute_trial", "sensitivity", "tipping_point"]
