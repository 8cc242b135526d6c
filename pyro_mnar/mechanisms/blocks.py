"""Columns that go missing together, as one event with an R of its own.

    p(R | X, Z) = Π_blocks σ(c_k)^{b_k} (1 - σ(c_k))^{1 - b_k} · Π_{d outside the events} p(R_d | X, Z)

with b_k whether a row lacks all columns of block k.  Nothing in the row causes the event, so its gaps are imputed as
missing at random; the mechanism explains the others.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pyro_mnar.messages import check_is
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.blocks import events, members_of
from pyro_mnar.tables.schema import Schema


class Blocks(nn.Module):
    """The events of a table's blocks.

    Args:
        schema: The columns, and which of them go missing together.

    Attributes:
        log_odds: Of each event; ``(blocks,)``.
    """

    members: Bool[Tensor, "blocks columns"]

    def __init__(self, schema: Schema) -> None:
        super().__init__()
        check_is("schema", schema, Schema, ", table.schema")
        self.register_buffer("members", members_of(schema.blocks, schema.names), persistent=False)
        self.log_odds = nn.Parameter(torch.zeros(len(schema.blocks)))

    def forward(self, batch: Batch) -> tuple[Float[Tensor, " blocks"], Bool[Tensor, "rows blocks"], Batch]:
        """Log-odds of the events, which of them each row has, and the batch without the gaps that they explain."""
        found = events(self.members, batch.mask, batch.mask_modelled)
        explained = (found.unsqueeze(-1) & self.members).any(-2)
        return self.log_odds, found, replace(batch, mask_modelled=batch.mask_modelled & ~explained)
