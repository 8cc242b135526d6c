"""What conclusions stand on: other assumptions about what is missing, one after the other."""

from pyro_mnar.sensitivity.trial_imputations import TrialImputations, impute_trial

__all__ = ["TrialImputations", "impute_trial"]
