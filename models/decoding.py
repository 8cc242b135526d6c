"""What the VAE models take for p(X|Z) when nothing else is said."""

from __future__ import annotations

from torch import nn

from pyro_mnar.likelihoods import Decoder, GaussianNoise
from pyro_mnar.nn import ResidualMLP
from pyro_mnar.schema import Schema


def default_latent_dim(schema: Schema) -> int:
    """One less than the number of columns, so that the decoder can be injective (A5), and 32 at most."""
    return max(1, min(schema.num_columns - 1, 32))


def default_decoder(schema: Schema, latent_dim: int, *, hidden: int = 128) -> nn.Module:
    """A linear map plus a network that starts at zero, with learned noise where a column is not also U."""
    network = ResidualMLP([latent_dim, hidden, schema.num_columns])
    return Decoder(network, GaussianNoise([not column.is_auxiliary for column in schema.columns]))
