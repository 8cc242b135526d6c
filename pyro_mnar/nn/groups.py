"""Groups of rows by a column of the table, for effects that the rows of a group share (random intercepts, slopes)."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import pyro
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from pyro_mnar.distributions import codes_of
from pyro_mnar.messages import in_line, is_one_of, shown
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.schema import Schema
from pyro_mnar.tables.table import Table, schema_of


class Groups(nn.Module):
    """The levels of a complete column, and which of them each row has.

    A plate over the levels holds their effects; it stands outside the row plate, so each effect counts once and all
    rows of its group share it.  Rows carry their group with them, in minibatches, held-out parts and new tables alike::

        interviewer = Groups(table, "interviewer")

        def model(batch):
            spread = pyro.sample("spread", dist.HalfNormal(1.0))
            with interviewer.plate():
                effect = pyro.sample("effect", dist.Normal(0.0, spread))
            with rows(batch):
                mean = effect[interviewer.of(batch)].unsqueeze(-1)
                y = partially_observed("y", dist.Normal(mean, 1.0), batch)

    Args:
        table: The table (or its schema) that the model is for.
        column: A column with a value in every row, of text, categories or booleans: an auxiliary column, or a modelled
            one that has levels.

    Attributes:
        levels: The groups, in the order of the plate.

    Raises:
        ValueError: If the column is not there, has gaps, or holds numbers.
    """

    points: Float[Tensor, " levels"]

    def __init__(self, table: Table | Schema, column: Hashable) -> None:
        super().__init__()
        schema = schema_of(table)
        self.name, self.levels, self._in_aux = in_line(column), (), True
        self._at, self._width = 0, 0
        points: Any = []
        auxiliaries = {auxiliary.name: auxiliary for auxiliary in schema.auxiliaries}
        if is_one_of(column, auxiliaries):
            names = [auxiliary.name for auxiliary in schema.auxiliaries]
            self.levels, self._width = auxiliaries[column].levels, auxiliaries[column].width
            self._at = sum(auxiliary.width for auxiliary in schema.auxiliaries[: names.index(column)])
        elif is_one_of(column, schema.names):
            self._at, self._in_aux = schema.names.index(column), False
            modelled = schema.columns[self._at]
            if modelled.incomplete:
                raise ValueError(f"column {column!r}: expected a group in every row, got a column with gaps")
            self.levels, points = modelled.kind.levels, modelled.points
        else:
            raise ValueError(f"column {shown(column)}: expected one of {[*auxiliaries, *schema.names]!r}")
        if not self.levels:
            raise ValueError(
                f"column {column!r}: expected levels, got numbers: make it text or a category in the frame"
            )
        self.register_buffer("points", torch.as_tensor(points, dtype=torch.get_default_dtype()))

    def __len__(self) -> int:
        return len(self.levels)

    def plate(self) -> pyro.plate:
        """The plate over the groups, called as the column is; enter it outside ``with rows(batch):``."""
        return pyro.plate(self.name, len(self))

    def of(self, batch: Batch) -> Int[Tensor, " rows"]:
        """Position of each row's group in the plate."""
        if self._in_aux:  # an indicator of every level but the first
            indicators = batch.aux[:, self._at : self._at + self._width]
            # The first where no other shows.  Rows between groups, as a graph's recovery tries, get the nearest one.
            first = batch.aux.new_full((len(batch), 1), 0.5)
            return torch.cat([first, indicators], dim=-1).argmax(-1)
        return codes_of(batch.x[:, self._at : self._at + 1], self.points.to(batch.x)[None]).squeeze(-1)
