"""How far outside of what was seen a value is imputed.

Amounts above zero and counts are modelled by logarithms, and an exponential makes much of little: where a network goes
a step too far, a draw is a hundred times the greatest value that anybody saw, and a mean over draws is that draw.
Where gaps do not depend on what is missing, missing values have the law of the seen ones given what is seen, of which
hardly any lies beyond the greatest of many.  So particles of such a column count only within

    least seen - width  ≤  x  ≤  greatest seen + width,    width = greatest seen - least seen

unless a row has no other: draws follow p(x_u | x_o, r) given that x_u lies there.  Rows with more than twenty such gaps
are not held, of which few particles would have all inside and those few would stand for all.  Where a column's own
value, another gap or a latent causes its gaps, nothing is held: what is missing may lie anywhere.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import numpy as np
import pyro.poutine as poutine
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pyro_mnar.imputation.target import Target
from pyro_mnar.infer.session import Session
from pyro_mnar.infer.sites import holds_columns, is_shared, mechanism_weight, stochastic_sites
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.columns import Column
from pyro_mnar.tables.dense import DenseStorage
from pyro_mnar.tables.table import Table
from pyro_mnar.training.fitted import Fit

MOST_GAPS = 20  # of a row that is held
OUTSIDE = 200.0  # nats that a particle loses outside: all its weight, unless all others are there too


class Reach:
    """The ends of what is imputed, by column.

    Args:
        ends: Positions of columns, and the least and greatest value of each, standardised.
        applicable: Of these columns, cells that have a value; ``(rows, columns)``.  None where all have.
    """

    def __init__(
        self, ends: dict[int, tuple[float, float]], applicable: Bool[Tensor, "rows columns"] | None = None
    ) -> None:
        self.columns, self.applicable = list(ends), applicable
        self.lower, self.upper = zip(*ends.values(), strict=True)

    @classmethod
    def of(cls, fit: Fit, table: Table, target: Target, with_gaps: Iterable[int]) -> Reach | None:
        """Of the columns modelled by logarithms whose gaps nothing causes that is missing; None if there are none.

        Args:
            fit: What imputes.
            table: The rows to impute.
            target: The law that draws are to follow.
            with_gaps: Positions of the columns that have gaps to impute.
        """
        columns = table.schema.columns
        ends = {d: _ends(columns[d]) for d in sorted(set(with_gaps)) if _can_be_held(columns[d])}
        if ends and target is not Target.WITHOUT_MASK:
            own = _not_at_random(fit, table)
            ends = {} if own is None else {d: of for d, of in ends.items() if columns[d].name not in own}
        if not ends:
            return None
        is_whole = not isinstance(table.storage, DenseStorage) or bool(table.applicable.all())
        return cls(ends, None if is_whole else table.applicable[:, list(ends)].to(fit.device))

    def penalty(self, x: Float[Tensor, "particles rows columns"], batch: Batch) -> Float[Tensor, "particles rows"]:
        """What is taken off a particle's log weight, for its gaps."""
        own, gaps = x[..., self.columns], ~batch.mask[:, self.columns]
        if self.applicable is not None:
            gaps = gaps & self.applicable[batch.index]
        gaps = gaps & (gaps.sum(-1, keepdim=True) <= MOST_GAPS)
        outside = (own < own.new_tensor(self.lower)) | (own > own.new_tensor(self.upper))
        return OUTSIDE * (outside & gaps).any(-1).to(x.dtype)


def _can_be_held(column: Column) -> bool:
    is_known = bool(np.isfinite([column.least, column.greatest]).all()) and column.greatest > column.least
    return column.kind.is_exponential and is_known


def _ends(column: Column) -> tuple[float, float]:
    width = column.greatest - column.least
    ends = column.kind.scale.ends(np.array([column.least - width, column.greatest + width]))
    lower, upper = (ends - column.mean) / column.std
    return float(lower), float(upper)


def _not_at_random(fit: Fit, table: Table) -> set[Hashable] | None:
    """Columns whose gaps depend on what is missing, as the model says; None where it cannot be asked."""
    from pyro_mnar.training.fitted_graph import known_graph  # networkx, where no model has loaded it

    if not _scores_mask(fit, table):
        return set()
    try:
        graph = known_graph(fit, table)
    except ValueError:  # sites that are not of this package: what they mean is not known
        return None
    if graph is None:
        return None
    return {name for name, column in graph.kind().columns.items() if column.kind == "MNAR"}


def _scores_mask(fit: Fit, table: Table) -> bool:
    """Whether a model has sites that say something of R, or of what is not known here."""
    few = table.source(fit.device).take(torch.arange(min(len(table), 8), device=fit.device))
    with Session(0, fit.device, fit.store).running(), torch.no_grad():
        sites = stochastic_sites(poutine.trace(fit.model).get_trace(few)).values()
    observed = [site for site in sites if site["is_observed"] and not is_shared(site)]
    return any(mechanism_weight(site) is not None or not holds_columns(site) for site in observed)
