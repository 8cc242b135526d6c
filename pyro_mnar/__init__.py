"""Imputation of data that are missing not at random, in Pyro."""

from pyro_mnar.acquisition import information_reward, next_best
from pyro_mnar.acquisition.simulation import InformationCurve, simulate_acquisition
from pyro_mnar.diagnostics.comparison import Comparison, compare
from pyro_mnar.diagnostics.identifiability import IdentifiabilityReport, check_identifiability
from pyro_mnar.diagnostics.spread import RestartSpread, restart_spread
from pyro_mnar.diagnostics.twins import TwinSearch, search_twins
from pyro_mnar.graphs.graph import MissingnessGraph
from pyro_mnar.graphs.recovery import missingness_graph_of
from pyro_mnar.imputation import Imputations, impute
from pyro_mnar.infer.objective import ImportanceWeightedELBO
from pyro_mnar.primitives import observe_mask, partially_observed, propose_missing, rows
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.constraints import InOrder, SumsTo
from pyro_mnar.tables.schema import Schema
from pyro_mnar.tables.table import Table
from pyro_mnar.training.fitted import Fit
from pyro_mnar.training.svi import TrainingError, fit

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
