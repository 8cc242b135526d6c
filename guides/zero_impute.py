"""The paper's zero-imputing encoder (Appendix B): q(Z | x·r, r, u), a diagonal normal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import nn

from pyro_mnar.guides.last_layer import put_last_layer
from pyro_mnar.infer.construction import remembered
from pyro_mnar.infer.data_start import LatentStart
from pyro_mnar.infer.session import seeded
from pyro_mnar.memory import check_room
from pyro_mnar.messages import shown, whole_number
from pyro_mnar.nn import MLP, positive
from pyro_mnar.nn.indicators import Indicators
from pyro_mnar.nn.networks import check_widths
from pyro_mnar.primitives import rows
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.schema import Schema
from pyro_mnar.tables.table import Table, schema_of

SMALLER = 0.5


@remembered
class ZeroImpute(PyroModule):
    """Amortised posterior of z from the row with zeros for its gaps, the mask, and u.

    A gap with bounds gets the value nearest to zero between them, so that the encoder knows of a limit of detection.

    Args:
        table: The table (or its schema) that the guide is for.
        latent_dim: H of the model, ``model.latent_dim``.
        hidden: Widths of the hidden layers.
        activation: Class of the activation.
        seed: Of the initial parameters; None draws them from torch's global generator.
    """

    def __init__(
        self,
        table: Table | Schema,
        latent_dim: int,
        *,
        hidden: Sequence[int] = (128, 128),
        activation: type[nn.Module] = nn.Tanh,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.schema = schema = schema_of(table)
        self.indicators = Indicators(schema)
        inputs = 2 * schema.num_columns + len(self.indicators) + schema.num_auxiliaries
        latent_dim = whole_number("latent_dim", latent_dim)
        if not isinstance(hidden, Sequence) or isinstance(hidden, str):
            raise TypeError(f"hidden: expected a list of widths, such as (128, 128), got {shown(hidden)}")
        check_widths([inputs, *hidden])
        check_room("latent_dim", latent_dim, 8 * (hidden[-1] if hidden else inputs), "parameters of the encoder")
        with seeded(seed):
            self.encoder = MLP([inputs, *hidden, 2 * latent_dim], activation)

    def forward(self, batch: Batch) -> torch.Tensor:
        """Draw z; ``(..., rows, latent_dim)``."""
        with rows(batch):
            mean, scale = self.encoder(self._inputs(batch)).chunk(2, dim=-1)
            return pyro.sample("z", dist.Normal(mean, positive(scale)).to_event(1))

    def learn_latents(self, batch: Batch, start: LatentStart) -> bool:
        """Let the posterior begin where a model puts it.

        The encoder's hidden layers are drawn anew, always the same, and the first is made smaller, so that features are
        close to linear; the last layer is regressed on them.
        """
        layers: list[Any] = list(self.encoder)
        if layers[-1].out_features != 2 * start.mean.shape[1]:
            return False
        with torch.no_grad():
            hidden = layers[:-1:2]
            with seeded(0):
                drawn = [nn.Linear(layer.in_features, layer.out_features) for layer in hidden]
            for layer, new in zip(hidden, drawn, strict=True):
                layer.load_state_dict(new.state_dict())
            if hidden:
                hidden[0].weight.mul_(SMALLER)
                hidden[0].bias.mul_(SMALLER)
            features = self._inputs(batch)
            for layer in layers[:-1]:
                features = layer(features)
            put_last_layer(layers[-1], features, start)
        return True

    def _inputs(self, batch: Batch) -> torch.Tensor:
        observed = self.indicators.observed_features(batch.x_or_nearest, batch.mask)
        return torch.cat([observed, batch.mask.to(batch.x.dtype), batch.aux], dim=-1)
