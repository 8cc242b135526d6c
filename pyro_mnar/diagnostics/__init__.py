"""What may be believed of a fit."""

from pyro_mnar.diagnostics.comparison import Comparison, compare
from pyro_mnar.diagnostics.diagnosis import Diagnosis, diagnose
from pyro_mnar.diagnostics.identifiability import IdentifiabilityReport, check_identifiability
from pyro_mnar.diagnostics.ignorable import AgainstIgnorable, against_ignorable
from pyro_mnar.diagnostics.spread import RestartSpread, restart_spread
from pyro_mnar.diagnostics.twins import TwinSearch, search_twins

__all__ = [
    "AgainstIgnorable",
    "Comparison",
    "Diagnosis",
    "IdentifiabilityReport",
    "RestartSpread",
    "TwinSearch",
    "against_ignorable",
    "check_identifiability",
    "compare",
    "diagnose",
    "restart_spread",
    "search_twins",
]
