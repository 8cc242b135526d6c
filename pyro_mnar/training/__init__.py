"""A table and a model/guide pair to a fit."""

from pyro_mnar.training.fitted import Fit
from pyro_mnar.training.run import TrainingError, TrainingRun
from pyro_mnar.training.svi import fit
from pyro_mnar.training.trainer import Trainer

__all__ = ["Fit", "Trainer", "TrainingError", "TrainingRun", "fit"]
