"""Averages over models that extrapolate differently: three decoders with a self-masking mechanism.

What lies beyond the values that were seen is the decoder's extrapolation, and no bound on what was seen judges that.  A
linear map, a linear map with a correction, and the same under p(Z|U) differ there, so their mean errs less than most
of them (Hoeting et al. 1999, Bayesian model averaging; with equal weights, since evidence says little of what is not
seen).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from pyro_mnar.baselines.pairs import Fitted, not_miwae_ppca_known_sign
from pyro_mnar.baselines.protocol import Imputer, completed
from pyro_mnar.evidence import log_evidence
from pyro_mnar.isolation import seeded
from pyro_mnar.kinds import Categorical
from pyro_mnar.likelihoods import GaussianNoise
from pyro_mnar.mechanisms import SelfMasking
from pyro_mnar.models import GINA, NotMIWAE
from pyro_mnar.models.decoding import default_decoder, default_latent_dim
from pyro_mnar.table import Table

NUM_PARTICLES = 20
SIGNS = (-1, 1)


@dataclass(frozen=True)
class Averaged:
    """The mean of several imputers' completed tables.

    Attributes:
        name: What tables and figures call it.
        members: The imputers.
    """

    name: str
    members: Sequence[Imputer]

    def complete(self, table: Table, *, seed: int) -> pd.DataFrame:
        """Let every member fill the gaps, and average.

        Raises:
            ValueError: If a column holds words or levels without an order, which have no mean.
        """
        _check_numbers(table)
        return _mean(table, [member.complete(table, seed=seed) for member in self.members])


@dataclass(frozen=True)
class SignByBound:
    """Self-masking whose direction is the same in all columns and not told: both are fitted, the better bound decides.

    Attributes:
        name: What tables and figures call it.
        decide: The system whose bounds decide, for a sign.
        others: Systems to average with it, given the sign that it found.
        num_particles: K of the bounds.
    """

    name: str
    decide: Callable[[int], Fitted]
    others: Callable[[int], Sequence[Imputer]] = field(default=lambda sign: ())
    num_particles: int = 100

    def complete(self, table: Table, *, seed: int) -> pd.DataFrame:
        """Fit with both signs, complete with the better one.

        Raises:
            ValueError: If a column holds words or levels without an order, which have no mean.
        """
        _check_numbers(table)
        fits = {sign: self.decide(sign).train(table, seed=seed) for sign in SIGNS}
        bounds = {
            sign: log_evidence(fit, table, num_particles=self.num_particles, seed=seed).log_p.mean()
            for sign, fit in fits.items()
        }
        sign = max(SIGNS, key=lambda sign: bounds[sign])
        first = self.decide(sign).completed_by(fits[sign], table, seed=seed)
        return _mean(table, [first, *(member.complete(table, seed=seed) for member in self.others(sign))])


def averaged_known_sign(sign: int = -1, **options: Any) -> Averaged:
    """Three decoders averaged, told the sign: -1 if high values go missing, +1 if low ones do.

    Options are those of `fit`.
    """
    members = (_gina(sign, **options), *_not_miwaes(sign, **options))
    return Averaged("average of three, known sign", members)


def averaged_common_sign(**options: Any) -> SignByBound:
    """Three decoders averaged, the sign not told but common to all columns; GINA's bounds decide on it."""
    return SignByBound("average of three, common sign", partial(_gina, **options), partial(_not_miwaes, **options))


def _gina(sign: int, **options: Any) -> Fitted:
    model = partial(GINA, mechanism=partial(SelfMasking, sign=sign))
    return Fitted("GINA, self-masking", model, fit_options={"num_particles": NUM_PARTICLES, **options})


def _not_miwaes(sign: int, **options: Any) -> tuple[Fitted, ...]:
    residual = partial(_residual, sign=sign)
    options = {"num_particles": NUM_PARTICLES, **options}
    return not_miwae_ppca_known_sign(sign, **options), Fitted("residual", residual, fit_options=options)


def _residual(table: Table, *, sign: int, seed: int) -> nn.Module:
    """Not-MIWAE, a linear decoder with a correction, noise learned for every column: none serves as U here."""
    schema, latent_dim = table.schema, default_latent_dim(table.schema)
    with seeded(seed):
        decoder = default_decoder(schema, latent_dim)
    if isinstance(decoder.likelihood, GaussianNoise):
        decoder.likelihood = GaussianNoise([True] * schema.num_columns)
    mechanism = partial(SelfMasking, sign=sign)
    return NotMIWAE(table, latent_dim=latent_dim, mechanism=mechanism, decoder=decoder, seed=seed)


def _mean(table: Table, frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    names = list(table.schema.names)
    values = np.mean([frame[names].to_numpy(dtype=np.float64) for frame in frames], axis=0)
    encoded = [column.encode(values[:, [at]]) for at, column in enumerate(table.schema.columns)]
    return completed(table, np.concatenate(encoded, axis=1))


def _check_numbers(table: Table) -> None:
    for column in table.schema.columns:
        if isinstance(column.kind, Categorical) and (column.is_nominal or column.kind.holds_words):
            raise ValueError(f"column {column.name!r}: expected numbers, which can be averaged, got levels or words")
