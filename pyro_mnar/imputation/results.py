"""What imputations of whole tables and of single cells have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy.typing import NDArray

from pyro_mnar.tables.table import Table


@dataclass(frozen=True)
class ImputedCells(ABC):
    """Draws and means of some cells of a table, in the user's units.

    Attributes:
        table: The table that was imputed.
        cells: Row and column position of each imputed cell; ``(2, cells)``.
        draws: Joint draws of all cells of a row, independent between rows; ``(draws, cells)``.
        means: Σ_k w_k x_u^k over all particles of all draws; of words, the position of the most probable;
            ``(cells,)``.
        effective_sample_size: 1 / Σ w_k² over all particles of a row; a few mean that the row's draws repeat values.
    """

    table: Table
    cells: Int[NDArray, "2 cells"]
    draws: Float[NDArray, "draws cells"]
    means: Float[NDArray, " cells"]
    effective_sample_size: Float[NDArray, " _"]

    @property
    def num_draws(self) -> int:
        """Number of draws."""
        return len(self.draws)

    def mean(self) -> pd.DataFrame:
        """Posterior means; words have none, so a gap gets the most probable one."""
        return self._frame(self.means, keep_integers=False)

    def frames(self) -> Iterator[pd.DataFrame]:
        """The draws, one frame each."""
        for draw in self.draws:
            yield self._frame(draw, keep_integers=True)

    @abstractmethod
    def _frame(self, values: Float[NDArray, " cells"], *, keep_integers: bool) -> pd.DataFrame:
        """Values of the cells as a frame; whole numbers stay whole where they are kept."""


def mean_over(parts: Sequence[Float[NDArray, "*shape"]]) -> Float[NDArray, "*shape"]:
    """Mean over fits, which all count the same."""
    return np.mean(parts, axis=0)


def joint_sample_size(parts: Sequence[Float[NDArray, " _"]]) -> Float[NDArray, " _"]:
    """Effective sample size of the particles of several fits, which all count the same: M² / Σ_m (1 / ess_m)."""
    with np.errstate(divide="ignore"):  # rows with nothing to impute are infinite in every part
        return len(parts) ** 2 / np.sum([1 / part for part in parts], axis=0)
