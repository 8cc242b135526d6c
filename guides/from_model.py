"""No proposal: every latent comes from the model, q = p.

For models whose latents are all missing values, such as :class:`~pyro_mnar.models.NormalMixture`: these are drawn from
exact conditionals, so nothing is left for a guide to learn.
"""

from __future__ import annotations

from pyro.nn import PyroModule

from pyro_mnar.infer.construction import remembered
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.schema import Schema
from pyro_mnar.tables.table import Table


@remembered
class FromModel(PyroModule):
    """A guide without sites.

    Args:
        table: Not used; guides are made alike.
        latent_dim: H of the model, ``model.latent_dim``; not used.
        seed: Not used.
    """

    def __init__(self, table: Table | Schema | None = None, latent_dim: int = 0, *, seed: int | None = None) -> None:
        super().__init__()

    def forward(self, batch: Batch) -> None:
        """Propose nothing."""
