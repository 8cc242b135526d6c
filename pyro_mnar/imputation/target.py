"""What is drawn from: does an imputation know that its value was withheld?

Given the mask, p(X_u | X_o, R): completed tables, pooling and intervals need this one.  Without, p(X_u | X_o), the
paper's formula in section 4: what would be seen had we chosen what to ask.  A table completed that way stays biased
even at the true parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

import pyro.poutine as poutine
from pyro.poutine.messenger import Messenger

from pyro_mnar.infer.sites import holds_columns, is_shared, mechanism_weight, mechanism_weights, stochastic_sites
from pyro_mnar.tables.batch import Batch


class Target(Enum):
    """The law of the missing values that draws are to follow."""

    GIVEN_MASK = "p(X_u | X_o, R)"
    """The posterior, whatever power of p(R|X,Z) the training used."""

    GIVEN_TEMPERED_MASK = "p(X_u | X_o, R), of p(R|X,Z)^β as in training"
    """What the training's weights mean."""

    WITHOUT_MASK = "p(X_u | X_o)"
    """R tells nothing; cells count as absent by design."""

    @classmethod
    def of(cls, *, use_mechanism: bool, keep_mechanism_weight: bool = False) -> Target:
        """The target that the options of :func:`pyro_mnar.impute` name."""
        if not use_mechanism:
            return cls.WITHOUT_MASK
        return cls.GIVEN_TEMPERED_MASK if keep_mechanism_weight else cls.GIVEN_MASK

    def model(self, model: Callable) -> Callable:
        """The model, with R scored as the target takes it."""
        if self is Target.WITHOUT_MASK:
            return poutine.block(model, hide_fn=_is_mechanism)
        return model if self is Target.GIVEN_TEMPERED_MASK else _Untempered()(model)

    def rows(self, batch: Batch) -> Batch:
        """The rows, as model and guide are to see them."""
        return batch.without_mechanism() if self is Target.WITHOUT_MASK else batch

    def check(self, model: Callable, batch: Batch) -> None:
        """Refuse a model in which nothing tells what is to be left out; within a running session."""
        if self is not Target.WITHOUT_MASK:
            return
        trace = poutine.trace(model).get_trace(batch)
        observed = [s for s in stochastic_sites(trace).values() if s["is_observed"] and not is_shared(s)]
        if not any(mechanism_weights(trace)) and not all(holds_columns(site) for site in observed):
            raise ValueError(
                "use_mechanism=False: the model has no site made by observe_mask, so nothing tells what to leave out"
            )


def _is_mechanism(msg: Any) -> bool:
    return msg["type"] == "sample" and mechanism_weight(msg) is not None


class _Untempered(Messenger):
    """Score the mask at full weight: β belongs to training, not to the posterior."""

    def _pyro_sample(self, msg: Any) -> None:
        if weight := mechanism_weight(msg):
            msg["scale"] = msg["scale"] / weight
