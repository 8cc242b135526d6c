"""Models, one missingness graph a file."""

from pyro_mnar.models.anova import ANOVA
from pyro_mnar.models.gina import GINA
from pyro_mnar.models.ignorable import Ignorable
from pyro_mnar.models.latent_dependent import LatentDependent
from pyro_mnar.models.normal_mixture import NormalMixture
from pyro_mnar.models.not_miwae import NotMIWAE
from pyro_mnar.models.partial_vae import PartialVAE
from pyro_mnar.models.self_masking import SelfMasking

__all__ = [
    "ANOVA",
    "GINA",
    "Ignorable",
    "LatentDependent",
    "NormalMixture",
    "NotMIWAE",
    "PartialVAE",
    "SelfMasking",
]
