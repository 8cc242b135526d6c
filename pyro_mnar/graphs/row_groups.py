"""Groups of rows that complete columns tell apart, such as species by their sizes.

A regression over all rows says the opposite of what holds within each group where groups differ in both columns
(Simpson 1951): bills of penguins are deeper the heavier the bird, and yet the heaviest species has the flattest.  What
is taken for the value of a gap is then on the wrong side.  So groups are part of the regression.
"""

from __future__ import annotations

import warnings

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

MOST_GROUPS = 4
LEAST_VALUES = 10  # of a column; fewer are groups by themselves, for which the regression has a slope
LEAST_ROWS = 50
FARTHEST = 4.0  # standard deviations; a value beyond is no group of its own
LEAST_VARIANCE = 1e-2
BEGINNINGS = 2

Columns = Float[NDArray, "rows columns"]


def groups_of_rows(columns: Columns) -> Float[NDArray, "rows groups"]:
    """How far each row belongs to each group but the first, less the mean; no columns where there is one group.

    Normal mixtures of one to four components, of which the one of the least BIC is taken (Fraley & Raftery 2002).

    Args:
        columns: Complete, of spread about one.
    """
    told = columns[:, [len(np.unique(column)) >= LEAST_VALUES for column in columns.T]]
    nothing = np.zeros((len(columns), 0))
    if len(columns) < LEAST_ROWS or not told.shape[1]:
        return nothing
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    told = np.clip(told, -FARTHEST, FARTHEST)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of one that is not taken, or near enough
        mixtures = [
            GaussianMixture(count, n_init=BEGINNINGS, reg_covar=LEAST_VARIANCE, random_state=0).fit(told)
            for count in range(1, MOST_GROUPS + 1)
        ]
    best = min(mixtures, key=lambda mixture: mixture.bic(told))
    belongs = best.predict_proba(told)[:, 1:]
    return belongs - belongs.mean(0)
