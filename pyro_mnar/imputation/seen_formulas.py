"""Derived values that were seen where several arguments are missing: one of these follows from the others.

With d = g(a, b) seen, b is drawn and a = a(d, b) solved for, so that

    p(d | z, b) = p(a(d, b) | z) · |∂a/∂d|

is the particle's factor: importance sampling of the law on the surface g = d.  Where g is d whatever a is, as 0 · a is
0, a stays as it was drawn; that has a probability, beside which a density counts for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from pyro_mnar.imputation.determined_entries import Determined
from pyro_mnar.kinds.dtypes import plain
from pyro_mnar.tables.completion import as_held, completed
from pyro_mnar.tables.derived import Derived
from pyro_mnar.tables.derived_arguments import Following, OneArgument
from pyro_mnar.tables.table import Table

Values = Mapping[int, Float[NDArray, "particles rows"]]  # numbers in the user's units, by position of the column


class SeenFormulas:
    """The derived values of one table that several missing arguments have to give.

    Args:
        table: The table.
        found: What follows in its rows.
        wanted: True where a value is imputed.
    """

    def __init__(self, table: Table, found: Sequence[Following], wanted: Bool[NDArray, "rows columns"]) -> None:
        self.table, self.wanted = table, wanted
        self.found = [each for each in found if (each.at >= 0).any()]

    def __bool__(self) -> bool:
        return bool(self.found)

    @property
    def names(self) -> set[object]:
        """The columns that the formulas read."""
        return {name for each in self.found for name in each.derived.formula.names}

    @property
    def what(self) -> list[str]:
        """What messages call them."""
        return list(dict.fromkeys(each.derived.what for each in self.found))

    def rows(self) -> Bool[NDArray, " rows"]:
        """Rows in which something follows."""
        return np.any([each.at >= 0 for each in self.found], axis=0)

    def determined(self, values: Values, rows: Int[NDArray, " rows"]) -> Iterator[Determined]:
        """What follows in some rows, one column after the other; each may read what was put in before it.

        Args:
            values: Of the columns that the formulas read.
            rows: The rows, by position in the table.
        """
        for one in self.found:
            for at in np.unique(one.at[rows][one.at[rows] >= 0]).tolist():
                here = np.flatnonzero(one.at[rows] == at)
                column, count = self.table.schema.columns[at], len(values[at])
                others = self._arguments(one.derived, values, rows[here], here)
                solution = OneArgument(one.derived, column, others).solve(np.tile(one.seen[rows[here]], count))
                numbers = as_held(column.decode(solution.point), self.table.frame[column.name].dtype)
                of_particles = (each.reshape(count, -1) for each in (numbers, *solution[1:]))
                yield Determined(at, here, *of_particles)

    def hold(self, values: Values, rows: Int[NDArray, " rows"]) -> Bool[NDArray, "particles rows"]:
        """Whether arguments are what the others leave to them."""
        ok = np.ones(next(iter(values.values())).shape, dtype=bool)
        for each in self.determined(values, rows):
            unit = self.table.schema.columns[each.at].std_in_units
            same = np.isclose(each.numbers, values[each.at][:, each.here], rtol=1e-6, atol=1e-6 * unit)
            ok[:, each.here] &= each.is_free | (each.is_found & same)
        return ok

    def _arguments(
        self, one: Derived, values: Values, rows: Int[NDArray, " here"], here: Int[NDArray, " here"]
    ) -> pd.DataFrame:
        """Arguments of candidate rows, particle by particle, in plain dtypes."""
        schema, names = self.table.schema, list(one.formula.names)
        count = len(next(iter(values.values())))
        frame = self.table.frame[names].iloc[np.tile(rows, count)].reset_index(drop=True)
        parts = [at for at, name in enumerate(schema.names) if name in names]
        is_drawn = self.wanted[rows] & np.isin(np.arange(len(schema.names)), parts)
        cells = np.stack(np.nonzero(np.tile(is_drawn, (count, 1))))
        drawn = np.empty((count, len(here), len(schema.names)))
        for at in parts:
            drawn[..., at] = values[at][:, here]
        frame = completed(frame, schema, cells, drawn.reshape(-1, len(schema.names))[tuple(cells)], keep_integers=True)
        return pd.DataFrame({name: plain(frame[name]) for name in names})
