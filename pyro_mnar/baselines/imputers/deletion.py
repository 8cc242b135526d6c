"""Deletion (Appendix A): throw away what is incomplete.  Estimates moments; there is nothing to impute with.

Unbiased where values are missing completely at random, and where they are not it is not.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyro_mnar.baselines.protocol import Moments, values_of
from pyro_mnar.tables.table import Table


@dataclass(frozen=True)
class CompleteCases:
    """Means and covariances of the rows that have no gap (listwise deletion).

    Attributes:
        name: What tables and figures call it.
    """

    name: str = "complete cases"

    def moments(self, table: Table) -> Moments:
        """Means and covariances, with n - 1 in the denominator.

        Raises:
            ValueError: If fewer than two rows have no gap.
        """
        rows = values_of(table).dropna()
        if len(rows) < 2:
            raise ValueError(f"complete cases: expected at least 2 rows without a gap, got {len(rows)}")
        return Moments(rows.mean(), rows.cov())


@dataclass(frozen=True)
class PairwiseDeletion:
    """Every mean from the rows that have the column, every covariance from the rows that have both.

    The covariances need not be those of any distribution: the matrix can have negative eigenvalues.

    Attributes:
        name: What tables and figures call it.
    """

    name: str = "pairwise deletion"

    def moments(self, table: Table) -> Moments:
        """Means and covariances, with n - 1 in the denominator; NaN for columns that no two rows have in common."""
        values = values_of(table)
        return Moments(values.mean(), values.cov(min_periods=2))
