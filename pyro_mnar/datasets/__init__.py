"""Data sets whose truth is known, made by generators or by making values go missing, and loaders of public ones."""

from pyro_mnar.datasets.amputation import Amputed, ampute, logistic, quantile, threshold
from pyro_mnar.datasets.anova import anova
from pyro_mnar.datasets.coat_ratings import coat
from pyro_mnar.datasets.complete import Complete, LinearStructure
from pyro_mnar.datasets.eedi_answers import eedi
from pyro_mnar.datasets.long_files import long_csv
from pyro_mnar.datasets.ratings import Ratings, Source
from pyro_mnar.datasets.simulated_answers import ItemResponses, item_responses
from pyro_mnar.datasets.simulated_ratings import SyntheticRatings, synthetic_ratings
from pyro_mnar.datasets.synthetic_tables import Synthetic, synthetic
from pyro_mnar.datasets.yahoo_ratings import yahoo_r3

__all__ = [
    "Amputed",
    "Complete",
    "ItemResponses",
    "LinearStructure",
    "Ratings",
    "Source",
    "Synthetic",
    "SyntheticRatings",
    "ampute",
    "anova",
    "coat",
    "eedi",
    "item_responses",
    "logistic",
    "long_csv",
    "quantile",
    "synthetic",
    "synthetic_ratings",
    "threshold",
    "yahoo_r3",
]
