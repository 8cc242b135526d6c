"""How the rows of a survey were sampled: weights, clusters, strata, read off columns that no model sees."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy.typing import NDArray

from pyro_mnar.kinds.reading import numbers_of, row_label
from pyro_mnar.tables.columns import OtherColumn
from pyro_mnar.tables.schema import Schema

WEIGHTS, CLUSTER, STRATA = "weights", "cluster", "strata"  # roles of columns, and options of Table.from_frame


class SurveyDesign(NamedTuple):
    """Who was sampled how.

    Attributes:
        weight: How many people a row stands for, 1 on average; ``(rows,)``.
        unit: Code from 0 of the sampling unit that each row belongs to, its cluster or itself; ``(rows,)``.
        stratum: Code from 0 of each row's stratum; ``(rows,)``.
        strata: Labels of the strata.
    """

    weight: Float[NDArray, " rows"]
    unit: Int[NDArray, " rows"]
    stratum: Int[NDArray, " rows"]
    strata: tuple[Hashable, ...]


def design_columns(weights: Hashable | None, cluster: Hashable | None, strata: Hashable | None) -> list[OtherColumn]:
    """The columns that say how rows were sampled, with their roles."""
    given = ((weights, WEIGHTS), (cluster, CLUSTER), (strata, STRATA))
    return [OtherColumn(name, role) for name, role in given if name is not None]


def has_design(schema: Schema) -> bool:
    """Whether a table's columns say how its rows were sampled."""
    return any(schema.names_of(role) for role in (WEIGHTS, CLUSTER, STRATA))


def design_of(frame: pd.DataFrame, schema: Schema) -> SurveyDesign:
    """Read the design off a frame; rows count once, are units of their own and of one stratum where nothing says else.

    Raises:
        ValueError: If a weight is no number from 0, all are 0, or a row has no weight, cluster or stratum.
    """
    count = len(frame)
    stratum, strata = np.zeros(count, dtype=np.int64), ("all rows",)
    if (name := _column(frame, schema, STRATA)) is not None:
        stratum, labels = pd.factorize(_complete(frame[name], name, STRATA), sort=False)
        strata = tuple(labels)
    unit = np.arange(count)
    if (name := _column(frame, schema, CLUSTER)) is not None:
        cluster, _ = pd.factorize(_complete(frame[name], name, CLUSTER), sort=False)
        # Clusters are often numbered anew in every stratum.
        unit = np.unique(np.stack([stratum, cluster]), axis=1, return_inverse=True)[1].reshape(-1)
    weight = np.ones(count)
    if (name := _column(frame, schema, WEIGHTS)) is not None:
        weight = numbers_of(_complete(frame[name], name, WEIGHTS), name)
        if (weight < 0).any():
            at = int((weight < 0).argmax())
            raise ValueError(
                f"weights column {name!r}: expected numbers from 0, got {weight[at]} in row {row_label(frame, at)!r}"
            )
        if not weight.any():
            raise ValueError(f"weights column {name!r}: expected a number above 0 in some row, got none")
        weight = weight / weight.mean()
    return SurveyDesign(weight, unit, stratum, strata)


def _column(frame: pd.DataFrame, schema: Schema, role: str) -> Hashable | None:
    """The column of a role, if the frame has it: new rows may lack it."""
    return next((name for name in schema.names_of(role) if name in frame.columns), None)


def _complete(values: pd.Series, name: Hashable, role: str) -> pd.Series:
    if values.isna().any():
        row = row_label(values, int(values.isna().to_numpy().argmax()))
        raise ValueError(f"{role} column {name!r}: expected a value in every row, got none in row {row!r}")
    return values
