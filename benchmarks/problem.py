"""The tables that are measured on, and the pair of model and guide that the contenders share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pyro_mnar import Batch, Fit, ImportanceWeightedELBO, Table
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.infer.parameters import trainable_parameters
from pyro_mnar.infer.session import Session
from pyro_mnar.mechanisms import SelfMasking
from pyro_mnar.models import GINA

PARTICLES = 5
BLOCK = 10_000  # rows of a survey that are drawn at a time


@dataclass(frozen=True)
class Problem:
    """A table and the sizes of the networks: GINA with one auxiliary column, K = 5, self-masking.

    Attributes:
        table: One auxiliary column beside the modelled ones.
        latent_dim: H.
        hidden: Widths of the encoder; the decoder is linear plus a network of width 10.
        device: Where to compute.
    """

    table: Table
    latent_dim: int
    hidden: tuple[int, ...]
    device: str = "cpu"

    @classmethod
    def of(
        cls,
        num_rows: int = 100,
        columns: int = 3,
        latent_dim: int = 2,
        hidden: Sequence[int] = (10,),
        device: str = "cpu",
    ) -> Problem:
        """Noise, three in ten values missing by chance: time does not depend on what the numbers are."""
        random = np.random.default_rng(0)
        values = random.normal(size=(num_rows, columns + 1)).astype(np.float32)
        values[:, :columns][random.random((num_rows, columns)) < 0.3] = np.nan
        frame = pd.DataFrame(values, columns=[*(f"x{d}" for d in range(columns)), "u"])
        return cls(Table.from_frame(frame, auxiliary=["u"]), latent_dim, tuple(hidden), device)

    def pair(self, seed: int = 0) -> tuple[GINA, ZeroImpute]:
        """Model and guide with starting values."""
        model = GINA(self.table, latent_dim=self.latent_dim, mechanism=SelfMasking, seed=seed)
        guide = ZeroImpute(self.table, self.latent_dim, hidden=self.hidden, seed=seed + 1)
        return model.to(self.device), guide.to(self.device)

    def batch(self) -> Batch:
        """All rows, where they are computed with."""
        return self.table.batch(self.device)

    def loss(self, session: Session, pair: tuple[GINA, ZeroImpute]) -> tuple[Callable[[Batch], Tensor], list[Tensor]]:
        """-L / N of a pair, and its parameters."""
        objective = ImportanceWeightedELBO(PARTICLES)

        def loss(batch: Batch) -> Tensor:
            return objective.differentiable_loss(*pair, batch) / batch.size

        with session.running():
            loss(self.batch())
            return loss, trainable_parameters(*pair)


def survey(num_rows: int, columns: int = 20, seed: int = 0, *, masks_itself: bool = False) -> pd.DataFrame:
    """Five factors; three in ten values missing, by chance or the likelier the higher they are.

    Made a block of rows at a time, so that making it takes no more memory than it does.
    """
    random = np.random.default_rng(seed)
    loadings = random.normal(size=(5, columns)).astype(np.float32)
    spread = np.sqrt(1 + np.square(loadings).sum(0))
    x = np.empty((num_rows, columns), np.float32)
    for block in np.array_split(x, max(1, num_rows // BLOCK)):
        block[:] = random.standard_normal((len(block), 5), np.float32) @ loadings
        block += random.standard_normal(block.shape, np.float32)
        chance = 1 / (1 + np.exp(1.3 - 2 * block / spread)) if masks_itself else 0.3
        block[random.random(block.shape) < chance] = np.nan
    return pd.DataFrame(x, columns=[f"x{d}" for d in range(columns)], copy=False)


def untrained(frame: pd.DataFrame, latent_dim: int | None = None) -> tuple[Table, Fit]:
    """A fit of starting values, for what costs the same whatever they are."""
    table = Table.from_frame(frame, auxiliary=[], dtype=torch.float32)
    model = GINA(table, latent_dim=latent_dim, mechanism=SelfMasking, seed=0).to(torch.float32)
    guide = ZeroImpute(table, model.latent_dim, seed=0).to(torch.float32)
    return table, Fit(model, guide, table.schema)
