"""The paper's VAEs for right and wrong answers, with the networks of B.3 (Table 2).

Answers are 0 and 1 as they are, the decoder is 50-20-50-D with ReLU and a Bernoulli likelihood, the encoder a sum over
the answers given (50 features, 10 numbers for each question's identity), and p(R|·) has the power β = 0.5.  B.3 names
no mechanism; B.2's, linear in X, is taken.  What is known of the students is U, for GINA alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pandas as pd
from torch import nn

from pyro_mnar.baselines.protocol import check_table, made_module
from pyro_mnar.baselines.ratings.rating_networks import linear_in_x
from pyro_mnar.guides import PointNet
from pyro_mnar.infer.session import seeded
from pyro_mnar.kinds import Binary
from pyro_mnar.messages import check_boolean, check_function, check_is
from pyro_mnar.models import GINA, NotMIWAE, PartialVAE
from pyro_mnar.nn import MLP
from pyro_mnar.nn.likelihoods import Decoder, likelihood_of
from pyro_mnar.tables.columns import Column
from pyro_mnar.tables.schema import Schema
from pyro_mnar.tables.summary import auxiliary_of
from pyro_mnar.tables.table import Table
from pyro_mnar.training.fitted import Fit
from pyro_mnar.training.svi import fit

LATENT_DIM, HIDDEN = 50, (20, 50)  # B.3
MECHANISM_WEIGHT = 0.5  # B.3
TRAINING = {"epochs": 1000, "batch_size": 100, "learning_rate": 1e-3, "num_particles": 5}  # B.3; the rate is B.1's
GUIDE = partial(PointNet, embedding_dim=10, features=50)  # B.3


@dataclass(frozen=True)
class ResponseNetwork:
    """A model and a guide of answers.

    Attributes:
        name: What tables and figures call it.
        model: Makes the model, ``model(schema, latent_dim=..., decoder=..., seed=...)``.
        uses_features: Whether what is known of the students serves as U.
        guide: Makes the guide, ``guide(schema, latent_dim, seed=...)``.
        fit_options: Options of :func:`~pyro_mnar.fit`.
    """

    name: str
    model: Callable[..., Any]
    uses_features: bool = False
    guide: Callable[..., Any] = GUIDE
    fit_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_function("model", self.model)
        check_boolean("uses_features", self.uses_features)
        check_function("guide", self.guide)
        check_is("fit_options", self.fit_options, Mapping)

    def table(self, answers: pd.DataFrame, features: pd.DataFrame | None = None) -> Table:
        """Answers as 0, 1 and NaN, students × questions, with what is known of the students.

        Raises:
            ValueError: If an answer is another number.
            TypeError: If answers or features are no DataFrame.
        """
        check_is("answers", answers, pd.DataFrame)
        if answers.empty:
            raise ValueError(f"answers: expected a student and a question at least, got shape {answers.shape}")
        if features is not None:
            check_is("features", features, pd.DataFrame)
        columns = tuple(Column(name, Binary((0.0, 1.0)), 0.0, 1.0, incomplete=True) for name in answers.columns)
        if not self.uses_features or features is None or features.empty:
            return Table.from_frame(answers, schema=Schema(columns, (), "none"))
        auxiliaries = tuple(auxiliary_of(features[name], name) for name in features.columns)
        frame = pd.concat([answers, features], axis=1)
        return Table.from_frame(frame, schema=Schema(columns, auxiliaries, "named"))

    def train(self, table: Table, *, seed: int) -> Fit:
        """Make the pair in the table's floating type and fit it."""
        check_table(table)
        with seeded(seed):
            decoder = relu_decoder(table.schema)
        model: Any = made_module(
            "model", self.model(table.schema, latent_dim=LATENT_DIM, decoder=decoder, seed=seed)
        ).to(table.dtype)
        guide = made_module("guide", self.guide(table.schema, LATENT_DIM, seed=seed)).to(table.dtype)
        return fit(model, guide, table, **{**TRAINING, "seed": seed, "progress": False, **self.fit_options})


def relu_decoder(schema: Schema) -> Decoder:
    """50-20-50-D, then the columns' kinds."""
    likelihood, width = likelihood_of(schema)
    return Decoder(MLP([LATENT_DIM, *HIDDEN, width], nn.ReLU), likelihood)


def response_pvae(**options: Any) -> ResponseNetwork:
    """Partial VAE, importance-weighted.  Options are those of `fit`."""
    return ResponseNetwork("PVAE", PartialVAE, fit_options=options)


def response_not_miwae(mechanism: Any = linear_in_x, *, name: str = "Not-MIWAE", **options: Any) -> ResponseNetwork:
    """Not-MIWAE, β = 0.5."""
    model = partial(NotMIWAE, mechanism=mechanism, mechanism_weight=MECHANISM_WEIGHT)
    return ResponseNetwork(name, model, fit_options=options)


def response_gina(mechanism: Any = linear_in_x, *, name: str = "GINA", **options: Any) -> ResponseNetwork:
    """GINA with what is known of the students for U, β = 0.5."""
    model = partial(GINA, mechanism=mechanism, mechanism_weight=MECHANISM_WEIGHT)
    return ResponseNetwork(name, model, uses_features=True, fit_options=options)
