"""How far outside of what was seen a value is imputed.

Amounts above zero and counts are modelled by logarithms, and an exponential makes much of little: where a network goes
a step too far, a draw is a hundred times the greatest value that anybody saw, and a mean over draws is that draw.
Where gaps do not depend on what is missing, missing values have the law of the seen ones given what is seen, of which
hardly any lies beyond the greatest of many.  So particles of such a column count only within

    least seen - width  ≤  x  ≤  greatest seen + width,    width = greatest seen - least seen

so that draws follow p(x_u | x_o, r) given that x_u lies there.  Where a column's own value, another gap or a latent
causes its gaps, or nobody knows what does, what is missing may well lie out there, and ten widths are allowed: of a
law of logarithms of which one end was never seen, what lies farther is a mean of thousands made by a few draws.

Where a row has no such particle, its law lies beyond, and nearly all of what is left of it within at the end: there the
value is put, and the log says so.  Rows with more than twenty such gaps are not held, of which few particles would have
all inside and those few would stand for all.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import NamedTuple

import numpy as np
import pyro.poutine as poutine
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from pyro_mnar.imputation.ranges import FAR_OF_ONE
from pyro_mnar.imputation.target import Target
from pyro_mnar.infer.session import Session
from pyro_mnar.infer.sites import holds_columns, is_shared, mechanism_weight, stochastic_sites
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.columns import Column
from pyro_mnar.tables.dense import DenseStorage
from pyro_mnar.tables.schema import Schema
from pyro_mnar.tables.table import Table
from pyro_mnar.training.fitted import Fit

MOST_GAPS = 20  # of a row that is held
OUTSIDE = 200.0  # nats that a particle loses for a gap outside: all its weight, unless all others are there too
AT_THE_END = 1e-4  # of the width, by rounding


class Held(NamedTuple):
    """Particles of a batch within reach.

    Attributes:
        x: Their missing entries, those outside at the nearer end; ``(particles, rows, columns)``.
        penalty: What is taken off their log weights, for gaps that were outside; ``(particles, rows)``.
    """

    x: Float[Tensor, "particles rows columns"]
    penalty: Float[Tensor, "particles rows"]


class Reach:
    """The ends of what is imputed, by column.

    Args:
        schema: The columns.
        widths: Positions of those that are held, and how many widths of the range seen each may lie outside of it.
        applicable: Of these columns, cells that have a value; ``(rows, columns)``.  None where all have.
    """

    def __init__(
        self,
        schema: Schema,
        widths: dict[int, float],
        applicable: Bool[Tensor, "rows columns"] | None = None,
    ) -> None:
        self.schema, self.widths, self.columns, self.applicable = schema, widths, list(widths), applicable
        ends = (_ends(schema.columns[position], of) for position, of in widths.items())
        self.lower, self.upper = zip(*ends, strict=True)

    @classmethod
    def of(cls, fit: Fit, table: Table, target: Target, with_gaps: Iterable[int]) -> Reach | None:
        """Of the columns modelled by logarithms; None if none of them has gaps.

        Args:
            fit: What imputes.
            table: The rows to impute.
            target: The law that draws are to follow.
            with_gaps: Positions of the columns that have gaps to impute.
        """
        columns = table.schema.columns
        held = [d for d in sorted(set(with_gaps)) if _can_be_held(columns[d])]
        if not held:
            return None
        of_values = set() if target is Target.WITHOUT_MASK else _not_at_random(fit, table)
        widths = {d: FAR_OF_ONE if of_values is None or columns[d].name in of_values else 1.0 for d in held}
        is_whole = not isinstance(table.storage, DenseStorage) or bool(table.applicable.all())
        return cls(table.schema, widths, None if is_whole else table.applicable[:, held].to(fit.device))

    def hold(self, x: Float[Tensor, "particles rows columns"], batch: Batch) -> Held:
        """Put gaps that lie outside at the end, and say what their particles lose for it."""
        own, gaps = x[..., self.columns], ~batch.mask[:, self.columns]
        if self.applicable is not None:
            gaps = gaps & self.applicable[batch.index]
        gaps = gaps & (gaps.sum(-1, keepdim=True) <= MOST_GAPS)
        within = torch.maximum(torch.minimum(own, own.new_tensor(self.upper)), own.new_tensor(self.lower))
        outside = (own != within) & gaps
        at = torch.tensor(self.columns, device=x.device)
        return Held(x.index_copy(-1, at, torch.where(gaps, within, own)), OUTSIDE * outside.sum(-1).to(x.dtype))

    def said(self, cells: Int[NDArray, "2 cells"], draws: Float[NDArray, "draws cells"]) -> list[str]:
        """Of columns with gaps most of whose draws lie at an end, in a sentence each.

        Args:
            cells: Row and column position of each cell.
            draws: In the user's units.
        """
        said = []
        for position, widths in self.widths.items():
            column, own = self.schema.columns[position], draws[:, cells[1] == position]
            low, high = _ends_in_units(column, widths)
            times = "" if widths == 1 else f"{widths:g} times "
            slack = AT_THE_END * (column.greatest - column.least) + 0.5 * column.kind.is_whole
            for is_there, end in ((own >= high - slack, high), (own <= low + slack, low)):
                if count := int((is_there.mean(0) > 0.5).sum()):
                    said.append(
                        f"{count} of {column.name}'s {own.shape[1]} gaps are imputed at {end:.4g}, {times}as far"
                        " outside of the range seen as that is wide: the model expects them farther out, where nothing"
                        " seen says how its law goes on, so declare what you know of it (bounds, another kind), or see"
                        " impute(extrapolate=True)"
                    )
        return said


def _can_be_held(column: Column) -> bool:
    is_known = bool(np.isfinite([column.least, column.greatest]).all()) and column.greatest > column.least
    return column.kind.is_exponential and is_known


def _ends_in_units(column: Column, widths: float) -> tuple[float, float]:
    far = widths * (column.greatest - column.least)
    return column.least - far, column.greatest + far


def _ends(column: Column, widths: float) -> tuple[float, float]:
    ends = np.array(_ends_in_units(column, widths))
    lower, upper = (column.kind.scale.ends(ends) - column.mean) / column.std
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
