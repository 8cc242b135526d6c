"""Imputation of data that are missing not at random, in Pyro.

A public name is loaded when it is first used, and with it the room that holds it: a user of tables waits for no graph,
and the command line prints its help before torch is there.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyro_mnar.acquisition import InformationCurve, information_reward, next_best, simulate_acquisition
    from pyro_mnar.diagnostics import (
        Comparison,
        Diagnosis,
        IdentifiabilityReport,
        RestartSpread,
        TwinSearch,
        check_identifiability,
        compare,
        diagnose,
        restart_spread,
        search_twins,
    )
    from pyro_mnar.estimator import MNARImputer
    from pyro_mnar.graphs import MissingnessGraph, missingness_graph_of
    from pyro_mnar.imputation import Imputations, Pooled, impute, pool_frames, pool_scalar
    from pyro_mnar.infer import ImportanceWeightedELBO, shared_latents
    from pyro_mnar.nn import Groups
    from pyro_mnar.primitives import OwnValueMechanism, observe_mask, partially_observed, propose_missing, rows
    from pyro_mnar.reports import Report, report, report_trial
    from pyro_mnar.scenarios import (
        Sensitivity,
        TippingPoint,
        TrialImputations,
        impute_trial,
        sensitivity,
        tipping_point,
    )
    from pyro_mnar.tables import Batch, InOrder, Schema, SumsTo, Table
    from pyro_mnar.training import Fit, TrainingError, fit

__all__ = [
    "Batch",
    "Comparison",
    "Diagnosis",
    "Fit",
    "Groups",
    "IdentifiabilityReport",
    "ImportanceWeightedELBO",
    "Imputations",
    "InOrder",
    "InformationCurve",
    "MNARImputer",
    "MissingnessGraph",
    "OwnValueMechanism",
    "Pooled",
    "Report",
    "RestartSpread",
    "Schema",
    "Sensitivity",
    "SumsTo",
    "Table",
    "TippingPoint",
    "TrainingError",
    "TrialImputations",
    "TwinSearch",
    "check_identifiability",
    "compare",
    "diagnose",
    "fit",
    "impute",
    "impute_trial",
    "information_reward",
    "missingness_graph_of",
    "next_best",
    "observe_mask",
    "partially_observed",
    "pool_frames",
    "pool_scalar",
    "propose_missing",
    "report",
    "report_trial",
    "restart_spread",
    "rows",
    "search_twins",
    "sensitivity",
    "shared_latents",
    "simulate_acquisition",
    "tipping_point",
]
__version__ = "0.1.0"

# The imports above, for Python; tests/test_layout.py compares the two.
_NAMES_OF_ROOMS = {
    "acquisition": ("InformationCurve", "information_reward", "next_best", "simulate_acquisition"),
    "diagnostics": (
        "Comparison",
        "Diagnosis",
        "IdentifiabilityReport",
        "RestartSpread",
        "TwinSearch",
        "check_identifiability",
        "compare",
        "diagnose",
        "restart_spread",
        "search_twins",
    ),
    "estimator": ("MNARImputer",),
    "graphs": ("MissingnessGraph", "missingness_graph_of"),
    "imputation": ("Imputations", "Pooled", "impute", "pool_frames", "pool_scalar"),
    "infer": ("ImportanceWeightedELBO", "shared_latents"),
    "nn": ("Groups",),
    "primitives": ("OwnValueMechanism", "observe_mask", "partially_observed", "propose_missing", "rows"),
    "reports": ("Report", "report", "report_trial"),
    "scenarios": (
        "Sensitivity",
        "TippingPoint",
        "TrialImputations",
        "impute_trial",
        "sensitivity",
        "tipping_point",
    ),
    "tables": ("Batch", "InOrder", "Schema", "SumsTo", "Table"),
    "training": ("Fit", "TrainingError", "fit"),
}
_ROOM_OF = {name: room for room, names in _NAMES_OF_ROOMS.items() for name in names}
# Rooms that hold no public name of the package itself, as attributes: `pyro_mnar.models.GINA` after `import pyro_mnar`.
_ROOMS = (*_NAMES_OF_ROOMS, "baselines", "datasets", "guides", "kinds", "mechanisms", "models", "plots")


def __getattr__(name: str) -> Any:
    if name in _ROOM_OF:
        value = getattr(import_module(f"{__name__}.{_ROOM_OF[name]}"), name)
    elif name in _ROOMS:
        value = import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value  # found without this function from now on
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_ROOMS})
