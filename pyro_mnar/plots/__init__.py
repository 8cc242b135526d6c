"""Pictures of tables, fits, imputations and results; each function takes an Axes and returns it."""

from pyro_mnar.plots.checks import pareto_k, predictive_checks, twin_means
from pyro_mnar.plots.draws import draws_strip, draws_trace, intervals_against_truth
from pyro_mnar.plots.gaps import co_missingness, missingness_pattern
from pyro_mnar.plots.imputed import imputed_against_ignorable, imputed_against_observed
from pyro_mnar.plots.responses import response_curve
from pyro_mnar.plots.results import contours, forest
from pyro_mnar.plots.training import bound_curve

__all__ = [
    "bound_curve",
    "co_missingness",
    "contours",
    "draws_strip",
    "draws_trace",
    "forest",
    "imputed_against_ignorable",
    "imputed_against_observed",
    "intervals_against_truth",
    "missingness_pattern",
    "pareto_k",
    "predictive_checks",
    "response_curve",
    "twin_means",
]
