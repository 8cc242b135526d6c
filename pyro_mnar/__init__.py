"""Imputation of data that are missing not at random, in Pyro."""

from pyro_mnar.acquisition import information_reward, next_best
from pyro_mnar.batch import Batch
from pyro_mnar.comparison import Comparison, compare
from pyro_mnar.constraints import InOrder, SumsTo
from pyro_mnar.elbo import ImportanceWeightedELBO
from pyro_mnar.fitted import Fit
from pyro_mnar.graph import MissingnessGraph
from pyro_mnar.graph_recovery import missingness_graph_of
from pyro_mnar.identifiability import IdentifiabilityReport, check_identifiability
from pyro_mnar.imputation import Imputations, impute
from pyro_mnar.information_curve import InformationCurve, simulate_acquisition
from pyro_mnar.primitives import observe_mask, partially_observed, propose_missing, rows
from pyro_mnar.restart_spread import RestartSpread, restart_spread
from pyro_mnar.schema import Schema
from pyro_mnar.svi import TrainingError, fit
from pyro_mnar.table import Table
from pyro_mnar.twins import TwinSearch, search_twins

__all__ = [
    "Batch",
    "Comparison",
    "Fit",
    "IdentifiabilityReport",
    "ImportanceWeightedELBO",
    "Imputations",
    "InOrder",
    "InformationCurve",
    "MissingnessGraph",
    "RestartSpread",
    "Schema",
    "SumsTo",
    "Table",
    "TrainingError",
    "TwinSearch",
    "check_identifiability",
    "compare",
    "fit",
    "impute",
    "information_reward",
    "missingness_graph_of",
    "next_best",
    "observe_mask",
    "partially_observed",
    "propose_missing",
    "restart_spread",
    "rows",
    "search_twins",
    "simulate_acquisition",
]
__version__ = "0.1.0"
