"""Groups of rows that complete columns tell apart, such as species by their sizes.

A regression over all rows says the opposite of what holds within each group where groups differ in both columns
(Simpson 1951): bills of penguins are deeper the heavier the bird, and yet the heaviest species has the flattest.  What
is taken for the value of a gap is then on the wrong side.  So groups are part of the regression.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

MOST_GROUPS = 4
LEAST_VALUES = 10  # of a column; fewer are groups by themselves, for which the regression has a slope
LEAST_ROWS = 50
MOST_COLUMNS = 100  # of more a group's covariance has more numbers than rows tell
FARTHEST = 4.0  # standard deviations; a value beyond is no group of its own
LEAST_VARIANCE = 1e-2
BEGINNINGS = 2

Columns = Float[NDArray, "rows columns"]


class RowGroups(nn.Module):
    """How far a row belongs to each group but the first, less the mean over the rows that groups were found in.

    It is a function of numbers that stand still: nothing in it is learned by training.

    Args:
        num_columns: Width of a row.
        num_groups: Groups but the first.
    """

    log_share: Tensor
    middle: Tensor
    root: Tensor
    used: Tensor
    usual: Tensor

    def __init__(self, num_columns: int, num_groups: int) -> None:
        super().__init__()
        self.num_columns, self.num_groups, count = num_columns, num_groups, num_groups + 1
        self.register_buffer("log_share", torch.zeros(count))
        self.register_buffer("middle", torch.zeros(count, num_columns))
        self.register_buffer("root", torch.eye(num_columns).expand(count, -1, -1).clone())  # L Lᵀ is the precision
        self.register_buffer("used", torch.ones(num_columns))
        self.register_buffer("usual", torch.zeros(num_groups))

    def forward(self, columns: Float[Tensor, "*rows columns"]) -> Float[Tensor, "*rows groups"]:
        """Probabilities, centred."""
        away = (columns.clamp(-FARTHEST, FARTHEST) - self.middle.unsqueeze(-2)) * self.used
        squares = (away @ self.root).square().sum(-1)
        log_root = self.root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        belongs = ((self.log_share + log_root).unsqueeze(-1) - 0.5 * squares).softmax(0)
        return belongs[1:].T - self.usual

    @classmethod
    def found(cls, columns: Columns, counts: Iterable[int] = range(1, MOST_GROUPS + 1)) -> RowGroups:
        """Components of normal mixtures, of which the one of the least BIC is taken (Fraley & Raftery 2002).

        There may be one group alone, in which all rows are; so it is where rows or different values are few, or columns
        many.

        Args:
            columns: Complete, of spread about one.
            counts: How many groups there may be.
        """
        used = np.array([len(np.unique(column)) >= LEAST_VALUES for column in columns.T], dtype=bool)
        if len(columns) < LEAST_ROWS or not 0 < used.sum() <= MOST_COLUMNS:
            return cls(columns.shape[1], 0).double()
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture

        told = np.clip(columns[:, used], -FARTHEST, FARTHEST)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # of one that is not taken, or near enough
            mixtures = [
                GaussianMixture(count, n_init=BEGINNINGS, reg_covar=LEAST_VARIANCE, random_state=0).fit(told)
                for count in counts
            ]
        best = min(mixtures, key=lambda mixture: mixture.bic(told))
        groups = cls(columns.shape[1], best.n_components - 1).double()
        at = torch.as_tensor(np.flatnonzero(used))
        groups.used.copy_(torch.as_tensor(used))
        groups.log_share.copy_(torch.as_tensor(np.log(best.weights_)))
        groups.middle[:, at] = torch.as_tensor(best.means_)
        groups.root[:, at[:, None], at] = torch.as_tensor(best.precisions_cholesky_)
        groups.usual.copy_(groups(torch.as_tensor(columns)).mean(0))
        return groups
