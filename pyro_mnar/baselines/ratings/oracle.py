"""Oracle-test: the mean of the test ratings for every cell, the best constant (Hernández-Lobato et al. 2014)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy.typing import NDArray

from pyro_mnar.baselines.protocol import asked_cells, check_values

ANY = 2**63  # rows and columns: it takes all for alike


@dataclass(frozen=True, eq=False)
class OracleTest:
    """Knows the marginal distribution of the test ratings, and nothing else.

    Attributes:
        test: The test ratings, with their ``value``.
        name: What tables and figures call it.
    """

    test: pd.DataFrame
    name: str = "Oracle-test"

    def __post_init__(self) -> None:
        check_values(self.test)

    def fit(self, train: pd.DataFrame, shape: tuple[int, int], *, seed: int) -> OracleTest:
        """Learns nothing from training ratings."""
        return self

    def predict(self, rows: Int[NDArray, " cells"], columns: Int[NDArray, " cells"]) -> Float[NDArray, " cells"]:
        """The mean test rating."""
        rows, _ = asked_cells(rows, columns, (ANY, ANY))
        return np.full(len(rows), float(self.test["value"].mean()))
