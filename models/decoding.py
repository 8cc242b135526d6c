"""What the models take for p(Z|U) and p(X|Z) when nothing else is said."""

from __future__ import annotations

from torch import nn

from pyro_mnar import priors
from pyro_mnar.likelihoods import Decoder, GaussianNoise
from pyro_mnar.nn import MLP, ResidualMLP
from pyro_mnar.schema import Schema


def default_latent_dim(schema: Schema) -> int:
    """One less than the number of columns, so that the decoder can be injective (A5), and 32 at most."""
    return max(1, min(schema.num_columns - 1, 32))


def default_decoder(schema: Schema, latent_dim: int, *, hidden: int = 10) -> nn.Module:
    """A linear map plus a network that starts at zero, with learned noise where a column is not also U."""
    network = ResidualMLP([latent_dim, hidden, schema.num_columns])
    return Decoder(network, GaussianNoise([not column.is_auxiliary for column in schema.columns]))


def linear_decoder(schema: Schema, latent_dim: int) -> nn.Module:
    """Linear in z (factor analysis), with learned noise where a column is not also U."""
    network = MLP([latent_dim, schema.num_columns])
    return Decoder(network, GaussianNoise([not column.is_auxiliary for column in schema.columns]))


def default_prior(schema: Schema, latent_dim: int) -> nn.Module:
    """A factorised normal whose mean and scale are linear in u, or a standard normal where there is no U."""
    if schema.num_auxiliaries == 0:
        return priors.StandardNormal(latent_dim)
    return priors.LinearNormal(schema.num_auxiliaries, latent_dim)
