"""Models, one missingness graph a file."""

from pyro_mnar.models.gina import GINA
from pyro_mnar.models.not_miwae import NotMIWAE
from pyro_mnar.models.partial_vae import PartialVAE

__all__ = ["GINA", "NotMIWAE", "PartialVAE"]
