"""Inverse-probability weighting of complete cases (Appendix A; Horvitz & Thompson 1952, Seaman & White 2013).

A row without gaps stands for 1 / P(no gap | complete columns) rows.  Estimates moments and imputes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from pyro_mnar.baselines.protocol import Moments, predictors_of, values_of
from pyro_mnar.messages import real_array
from pyro_mnar.tables.table import Table


@dataclass(frozen=True)
class InverseProbabilityWeighting:
    """Weighted means and covariances of the rows that have no gap, the weights normalised to sum to one (Hájek).

    Consistent where the probability of having no gap depends on the complete columns alone, or is given.

    Attributes:
        name: What tables and figures call it.
        propensities: Per row, the known probability of having no gap, ``(rows,)``; by default a logistic regression on
            the complete and the auxiliary columns gives it.
    """

    name: str = "IPW of complete cases"
    propensities: ArrayLike | None = None

    def moments(self, table: Table) -> Moments:
        """Means and covariances of the modelled columns, in the user's units.

        Raises:
            ValueError: If fewer than two rows have no gap; if the given propensities are not one a row between 0 and 1;
                or if none are given and no column is complete.
        """
        values = values_of(table)
        cases = values.notna().all(axis=1).to_numpy()
        if cases.sum() < 2:
            raise ValueError(f"{self.name}: expected at least 2 rows without a gap, got {cases.sum()}")
        weights = (1.0 / self._probabilities(table, cases)[cases])[:, None]
        weights /= weights.sum()
        rows = values.to_numpy()[cases]
        mean = (weights * rows).sum(axis=0)
        centred = rows - mean
        covariance = (weights * centred).T @ centred
        return Moments(pd.Series(mean, values.columns), pd.DataFrame(covariance, values.columns, values.columns))

    def _probabilities(self, table: Table, cases: NDArray[np.bool_]) -> NDArray[np.float64]:
        from sklearn.linear_model import LogisticRegression

        if self.propensities is not None:
            given = real_array("propensities", self.propensities)
            if given.shape != cases.shape or not ((given > 0) & (given <= 1)).all():
                raise ValueError(
                    f"propensities: expected {len(cases)} numbers above 0 and up to 1, got shape {given.shape}"
                    + (f" from {given.min()} to {given.max()}" if given.size else "")
                )
            return given
        predictors = predictors_of(table)
        predictors = predictors[:, ~np.isnan(predictors).any(axis=0)]
        if not predictors.shape[1]:
            raise ValueError(f"{self.name}: expected a complete column to predict gaps from, or propensities; got none")
        if cases.all():
            return np.ones(len(cases))
        # scikit-learn always penalises; a large C leaves maximum likelihood but for separable rows.
        regression = LogisticRegression(C=1e4, max_iter=1000).fit(predictors, cases)
        return regression.predict_proba(predictors)[:, 1]
