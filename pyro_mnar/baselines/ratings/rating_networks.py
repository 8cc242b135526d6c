"""The paper's VAEs as rating predictors, with the networks of B.2 (Table 1).

Ratings are scaled to run from 0 to 1 in every column alike, the decoder is 20-10-D with tanh and a noise variance of
0.02, the encoder a sum over the ratings given (20 features, 20 numbers for each column's identity), and the mechanism
linear; 400 epochs of batches of 100.  U is what is known of who rates; where nothing is, the mask.

Nothing beyond a minibatch is ever dense.  Predictions are of p(X_u | X_o) (``impute``'s ``use_mechanism=False``): what
would be answered if asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import nn

from pyro_mnar.baselines.protocol import asked_cells, check_ratings, check_table, made_module
from pyro_mnar.guides import PointNet, ZeroImpute
from pyro_mnar.imputation import impute
from pyro_mnar.infer.session import seeded
from pyro_mnar.kinds import Continuous
from pyro_mnar.mechanisms import FullyConnected, General
from pyro_mnar.messages import check_boolean, check_function, check_is, whole_number
from pyro_mnar.models import GINA, NotMIWAE, PartialVAE
from pyro_mnar.nn import MLP
from pyro_mnar.nn.likelihoods import Decoder, GaussianNoise
from pyro_mnar.tables.columns import Column
from pyro_mnar.tables.schema import Schema
from pyro_mnar.tables.sparse import MOST_DENSE_CELLS
from pyro_mnar.tables.summary import auxiliary_of
from pyro_mnar.tables.table import Table
from pyro_mnar.training.fitted import Fit
from pyro_mnar.training.svi import fit

LATENT_DIM, HIDDEN, NOISE = 20, 10, math.sqrt(0.02)  # B.2
TRAINING = {"epochs": 400, "batch_size": 100, "learning_rate": 1e-3}  # B.2; the rate is B.1's, B.2 names none

linear_in_x = partial(FullyConnected, hidden=())
linear_in_x_and_z = partial(General, hidden=())


@dataclass
class RatingNetwork:
    """A model and a guide as a rating predictor.

    Attributes:
        name: What tables and figures call it.
        model: Makes the model, ``model(schema, latent_dim=..., decoder=..., seed=...)``.
        uses_mask: Whether the model has a U: what is known of the rows if :meth:`fit` is told, else the mask.
        guide: Makes the guide, ``guide(schema, latent_dim, seed=...)``.
        fit_options: Options of :func:`~pyro_mnar.fit`.
        num_particles: From which a prediction is averaged.
    """

    name: str
    model: Callable[..., Any]
    uses_mask: bool = False
    guide: Callable[..., Any] = PointNet
    fit_options: dict[str, Any] = field(default_factory=dict)
    num_particles: int = 500

    def __post_init__(self) -> None:
        check_function("model", self.model)
        check_boolean("uses_mask", self.uses_mask)
        check_function("guide", self.guide)
        check_is("fit_options", self.fit_options, Mapping)
        whole_number("num_particles", self.num_particles)

    def fit(
        self,
        train: pd.DataFrame,
        shape: tuple[int, int],
        *,
        seed: int,
        row_features: pd.DataFrame | None = None,
        most_dense_cells: int = MOST_DENSE_CELLS,
    ) -> RatingNetwork:
        """Learn from ratings.

        Args:
            train: As :class:`~pyro_mnar.baselines.RatingPredictor` takes them.
            shape: Number of rows and of columns, rated or not.
            seed: Same seed, same predictions.
            row_features: What is known of each row, one line a row in order, without gaps; U of a model that has one.
            most_dense_cells: As for :meth:`~pyro_mnar.Table.from_sparse`; training and predicting need no dense view.

        Raises:
            ValueError: If the ratings are not of that form, or the features have gaps or other than a line a row.
        """
        check_ratings(train, shape)
        if row_features is not None:
            check_is("row_features", row_features, pd.DataFrame)
        whole_number("most_dense_cells", most_dense_cells, 0)
        self._seed, self._shape = seed, shape
        options = {"row_features": row_features, "most_dense_cells": most_dense_cells}
        self.table = unit_table(train, shape, uses_mask=self.uses_mask, **options)
        self._rated = train.set_index(["row", "column"])["value"]
        self.fitted = self.train(self.table, seed=seed)
        return self

    def train(self, table: Table, *, seed: int) -> Fit:
        """Make the pair in the table's floating type and fit it."""
        check_table(table)
        with seeded(seed):
            decoder = tanh_decoder(table.schema)
        model: Any = made_module(
            "model", self.model(table.schema, latent_dim=LATENT_DIM, decoder=decoder, seed=seed)
        ).to(table.dtype)
        guide = made_module("guide", self.guide(table.schema, LATENT_DIM, seed=seed)).to(table.dtype)
        options = {**TRAINING, "seed": seed, "progress": False, **self.fit_options}
        return fit(model, guide, table, **options)

    def predict(self, rows: Int[NDArray, " cells"], columns: Int[NDArray, " cells"]) -> Float[NDArray, " cells"]:
        """Posterior means given a row's ratings; a cell rated in training comes back as it was rated."""
        asked = pd.MultiIndex.from_arrays(asked_cells(rows, columns, getattr(self, "_shape", None)))
        cells = asked.unique()
        values = self._rated.reindex(cells)
        gaps = values.isna().to_numpy()
        imputations = impute(
            self.fitted,
            self.table,
            cells=tuple(cells[gaps].get_level_values(level).to_numpy(dtype=np.int64) for level in (0, 1)),
            num_draws=1,
            num_particles=self.num_particles,
            use_mechanism=False,
            seed=self._seed,
        )
        values[gaps] = imputations.means
        return values.to_numpy(dtype=np.float64)[cells.get_indexer(asked)]


def unit_table(
    train: pd.DataFrame,
    shape: tuple[int, int],
    *,
    uses_mask: bool,
    row_features: pd.DataFrame | None = None,
    most_dense_cells: int = MOST_DENSE_CELLS,
) -> Table:
    """Ratings as a table whose columns all run from 0 (the lowest rating) to 1 (the highest).

    Args:
        train: One line a rating.
        shape: Number of rows and of columns.
        uses_mask: Whether there is a U: the features, or else the mask.
        row_features: One line a row.
        most_dense_cells: As for :meth:`~pyro_mnar.Table.from_sparse`.
    """
    values = train["value"].to_numpy(dtype=np.float64)
    low, unit = float(values.min()), float(np.ptp(values)) or 1.0
    columns = tuple(Column(j, Continuous(), low, unit, incomplete=True) for j in range(shape[1]))
    lines = {"rows": range(shape[0]), "columns": range(shape[1]), "most_dense_cells": most_dense_cells}
    if not uses_mask or row_features is None:
        return Table.from_long(train, schema=Schema(columns, (), "mask" if uses_mask else "none"), **lines)
    if len(row_features) != shape[0]:
        raise ValueError(f"row_features: expected a line for each of {shape[0]} rows, got {len(row_features)}")
    auxiliaries = tuple(auxiliary_of(row_features[name], name) for name in row_features.columns)
    features = row_features.set_axis(lines["rows"], axis=0)
    return Table.from_long(train, schema=Schema(columns, auxiliaries, "named"), auxiliary=features, **lines)


def tanh_decoder(schema: Schema) -> Decoder:
    """20-10-D, the same fixed noise everywhere."""
    num_columns = schema.num_columns
    return Decoder(MLP([LATENT_DIM, HIDDEN, num_columns], nn.Tanh), GaussianNoise([False] * num_columns, NOISE))


def rating_pvae(**options: Any) -> RatingNetwork:
    """Partial VAE, importance-weighted.  Options are those of `fit`."""
    return RatingNetwork("PVAE", PartialVAE, fit_options={"num_particles": 5, **options})


def rating_pvae_without_weights(**options: Any) -> RatingNetwork:
    """Partial VAE trained by the plain bound, K = 1."""
    return RatingNetwork("PVAE w/o IW", PartialVAE, fit_options={"num_particles": 1, **options})


def rating_miwae(**options: Any) -> RatingNetwork:
    """MIWAE: the same model with zeros for the gaps in its encoder, K = 20."""
    return RatingNetwork("MIWAE", PartialVAE, guide=ZeroImpute, fit_options={"num_particles": 20, **options})


def rating_not_miwae(mechanism: Any = linear_in_x, *, name: str = "Not-MIWAE", **options: Any) -> RatingNetwork:
    """Not-MIWAE, log-odds of each R linear in all of X as in B.2, unless another mechanism is given."""
    return RatingNetwork(name, partial(NotMIWAE, mechanism=mechanism), fit_options={"num_particles": 5, **options})


def rating_gina(mechanism: Any = linear_in_x, *, name: str = "GINA", **options: Any) -> RatingNetwork:
    """GINA with U = R or what is known of the rows; log-odds of each R as those of :func:`rating_not_miwae`."""
    model = partial(GINA, mechanism=mechanism)
    return RatingNetwork(name, model, uses_mask=True, fit_options={"num_particles": 5, **options})
