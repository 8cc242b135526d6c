"""Data sets whose truth is known: generators, and values made to go missing by a declared graph."""

from pyro_mnar.datasets.ampute import Amputed, ampute, logistic, quantile, threshold
from pyro_mnar.datasets.anova import anova
from pyro_mnar.datasets.complete import Complete, LinearStructure
from pyro_mnar.datasets.synthetic import Synthetic, synthetic

__all__ = [
    "Amputed",
    "Complete",
    "LinearStructure",
    "Synthetic",
    "ampute",
    "anova",
    "logistic",
    "quantile",
    "synthetic",
    "threshold",
]
