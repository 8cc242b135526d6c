"""A table in a table: what each column is, how much of it is missing, and what goes missing together."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pandas as pd
from jaxtyping import Bool
from torch import Tensor

from pyro_mnar.tables.blocks import events, members_of
from pyro_mnar.tables.schema import Schema

Cells = Bool[Tensor, "rows columns"]


def described(schema: Schema, mask: Cells, mask_modelled: Cells, applicable: Cells) -> pd.DataFrame:
    """One row a modelled column; see :meth:`pyro_mnar.Table.describe`."""
    frame = schema.describe_kinds().loc[schema.names, ["kind", "because"]]
    frame["missing"] = (~mask & applicable).sum(0).numpy()
    frame["share_missing"] = frame["missing"] / np.maximum(applicable.sum(0).numpy(), 1)
    frame["serves_as_u"] = [column.is_auxiliary for column in schema.columns]
    together = defaultdict(list)
    if schema.blocks:
        rows = events(members_of(schema.blocks, schema.names), mask, mask_modelled).sum(0).tolist()
        for block, count in zip(schema.blocks, rows, strict=True):
            for name in block:
                others = ", ".join(str(other) for other in block if other != name)
                together[name].append(f"{count} rows with {others}")
    frame["missing_together"] = ["; ".join(together[name]) for name in schema.names]
    return frame
