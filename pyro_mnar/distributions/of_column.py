"""The distribution of one column in the units in which a model sees it, from parameters in the units one thinks in.

Models see standardised values.  A normal is as good there as anywhere, but counts and levels are points of the line,
and a Poisson or a Bernoulli does not know them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor
from torch.nn.functional import logsigmoid

from pyro_mnar.distributions.counts import StandardizedCounts
from pyro_mnar.distributions.levels import Levels
from pyro_mnar.tables.columns import Column
from pyro_mnar.tables.schema import Schema
from pyro_mnar.tables.table import Table, schema_of


def distribution_for(
    table: Table | Schema, column: Hashable, parameters: Mapping[str, Tensor | float]
) -> TorchDistributionMixin:
    """p(X_d | parameters) of a column, for :func:`~pyro_mnar.partially_observed` with ``columns=[column]``.

    Args:
        table: The table (or its schema).
        column: The column's name.
        parameters: By name, each of shape ``(..., rows, 1)`` or a number.  By the column's kind:

            * numbers (continuous, positive, bounded, dates): ``loc`` and ``scale`` of a normal, with ``df`` of
              Student's t, on the scale that the model sees (standardised, of logarithms or logits for positive and
              bounded ones);
            * counts: ``rate`` of a Poisson, with ``gate`` or ``gate_logits`` zero-inflated; or ``total_count`` and
              ``logits`` or ``probs`` of a negative binomial; in the column's own units;
            * two levels: ``logits`` or ``probs`` of the second one;
            * more levels: ``logits`` or ``probs`` of each, ``(..., rows, 1, levels)``; or, in order, ``predictor`` and
              ``cutpoints`` (``(levels - 1,)``, ascending) of an ordered logistic.

    Returns:
        Of batch shape ``(..., rows, 1)``, over standardised values.

    Raises:
        ValueError: If the column is not there, or the parameters are none of its kind's; names what is.
    """
    schema = schema_of(table)
    if column not in schema.names:
        raise ValueError(f"column {column!r}: expected one of {schema.names!r}")
    of = schema.columns[schema.names.index(column)]
    given = frozenset(parameters)
    if of.kind.has_levels:
        forms = _OF_TWO_LEVELS if len(of.kind.levels) == 2 else _OF_LEVELS
    else:
        forms = _OF_COUNTS if of.kind.is_discrete else _OF_NUMBERS
    if given not in forms:
        expected = " or ".join(str(sorted(names)) for names in forms)
        raise ValueError(f"column {column!r} of kind {of.kind.name!r}: expected {expected}, got {sorted(given)}")
    return forms[given](of, parameters)


def _normal(column: Column, parameters: Mapping[str, Any]) -> TorchDistributionMixin:
    return dist.Normal(**parameters)


def _student(column: Column, parameters: Mapping[str, Any]) -> TorchDistributionMixin:
    return dist.StudentT(**parameters)


def _counts(family: Callable[..., Any]) -> Callable[[Column, Mapping[str, Any]], TorchDistributionMixin]:
    def standardised(column: Column, parameters: Mapping[str, Any]) -> TorchDistributionMixin:
        like = next(value for value in parameters.values() if isinstance(value, Tensor))
        return StandardizedCounts(family(**parameters), like.new_tensor([column.mean]), like.new_tensor([column.std]))

    return standardised


def _two_levels(column: Column, parameters: Mapping[str, Any]) -> TorchDistributionMixin:
    logits = parameters["logits"] if "logits" in parameters else torch.logit(torch.as_tensor(parameters["probs"]))
    return _levels(column, {"logits": torch.stack([logsigmoid(-logits), logsigmoid(logits)], dim=-1)})


def _levels(column: Column, parameters: Mapping[str, Any]) -> TorchDistributionMixin:
    logits = parameters["logits"] if "logits" in parameters else parameters["probs"].log()
    points = logits.new_tensor(column.points)
    if logits.shape[-2:] != (1, len(points)):
        raise ValueError(
            f"column {column.name!r}: expected (..., rows, 1, {len(points)}) numbers, one for each level of"
            f" {list(column.kind.levels)!r}, got shape {tuple(logits.shape)}"
        )
    return Levels(logits, points[None])


def _ordered(column: Column, parameters: Mapping[str, Any]) -> TorchDistributionMixin:
    return _levels(column, {"logits": dist.OrderedLogistic(**parameters).logits})


Form = Callable[[Column, Mapping[str, Any]], TorchDistributionMixin]
_OF_NUMBERS: dict[frozenset[str], Form] = {
    frozenset({"loc", "scale"}): _normal,
    frozenset({"df", "loc", "scale"}): _student,
}
_OF_COUNTS: dict[frozenset[str], Form] = {
    frozenset({"rate"}): _counts(dist.Poisson),
    frozenset({"rate", "gate"}): _counts(dist.ZeroInflatedPoisson),
    frozenset({"rate", "gate_logits"}): _counts(dist.ZeroInflatedPoisson),
    frozenset({"total_count", "logits"}): _counts(dist.NegativeBinomial),
    frozenset({"total_count", "probs"}): _counts(dist.NegativeBinomial),
}
_OF_TWO_LEVELS: dict[frozenset[str], Form] = {frozenset({"logits"}): _two_levels, frozenset({"probs"}): _two_levels}
_OF_LEVELS: dict[frozenset[str], Form] = {
    frozenset({"logits"}): _levels,
    frozenset({"probs"}): _levels,
    frozenset({"predictor", "cutpoints"}): _ordered,
}
