"""Imputation of data that are missing not at random, in Pyro."""

from pyro_mnar.batch import Batch
from pyro_mnar.elbo import ImportanceWeightedELBO
from pyro_mnar.imputation import Imputations, impute
from pyro_mnar.primitives import observe_mask, partially_observed, propose_missing, rows
from pyro_mnar.schema import Schema
from pyro_mnar.svi import Fit, TrainingError, fit
from pyro_mnar.table import Table

__all__ = [
    "Batch",
    "Fit",
    "ImportanceWeightedELBO",
    "Imputations",
    "Schema",
    "Table",
    "TrainingError",
    "fit",
    "impute",
    "observe_mask",
    "partially_observed",
    "propose_missing",
    "rows",
]
__version__ = "0.1.0"
