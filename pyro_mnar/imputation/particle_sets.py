"""Particles of some rows: their missing entries, what is known of these, and which particles were resampled."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pyro_mnar.distributions import Levels
from pyro_mnar.distributions.self_masked import SelfMaskedNormal
from pyro_mnar.distributions.whole_rows import MissingRow
from pyro_mnar.imputation.averages import NOT_SUMMED, Given
from pyro_mnar.infer.sites import Site, columns_of
from pyro_mnar.tables.batch import Batch


class ParticleSet(NamedTuple):
    """Particles of some rows, and which of them were resampled.

    Attributes:
        log_weights: ``(particles, rows)``.
        x: Their missing entries, standardised; observed entries hold placeholders; ``(particles, rows, columns)``.
        given: Moments of the missing entries given the rest of the particle.
        draws: Missing entries of the particles that were resampled; ``(draws, rows, columns)``.
    """

    log_weights: Float[Tensor, "particles rows"]
    x: Float[Tensor, "particles rows columns"]
    given: Given
    draws: Float[Tensor, "draws rows columns"]

    def possible(self) -> Bool[Tensor, "draws rows"]:
        """Whether any particle of a draw has a weight that is not zero."""
        return self.log_weights.unflatten(0, (len(self.draws), -1)).isfinite().any(1)


class Weighed(NamedTuple):
    """Particles before any of them is resampled.

    Attributes:
        log_weights: ``(particles, rows)``.
        x: As of :class:`ParticleSet`.
        given: The same.
        late: Laws of missing entries that are drawn once a particle is resampled, with their columns.
    """

    log_weights: Float[Tensor, "particles rows"]
    x: Float[Tensor, "particles rows columns"]
    given: Given = NOT_SUMMED
    late: tuple[tuple[list[int], SelfMaskedNormal], ...] = ()


def missing_entries(
    sites: dict[str, Site], shape: tuple[int, int], batch: Batch
) -> Float[Tensor, "particles rows columns"]:
    """Values of the latent sites, each in its columns; the only one's own tensor, if one has them all."""
    drawn = [(columns_of(site), site["value"].to(batch.dtype)) for site in sites.values()]
    if [columns for columns, _ in drawn] == [list(range(batch.num_columns))]:
        return drawn[0][1].reshape(*shape, batch.num_columns)
    x = batch.x.new_zeros(*shape, batch.num_columns)
    for columns, value in drawn:
        x.index_copy_(-1, torch.tensor(columns, device=x.device), value.reshape(*shape, len(columns)))
    return x


def given_moments(sites: dict[str, Site], x: Float[Tensor, "particles rows columns"]) -> Given:
    """Moments of the numbers on which the weight does not depend: they are summed out of it, or nothing sees them."""
    mean = None
    for site in sites.values():
        entries, columns = site["fn"].base_dist, columns_of(site)
        law = entries if isinstance(entries, MissingRow) else entries.fn
        if isinstance(law, Levels) or (isinstance(law, MissingRow) and law.is_discrete):
            continue
        mean = x.clone() if mean is None else mean
        with torch.no_grad():
            expected = law.mean
        expected = expected.expand(*expected.shape[:-1], len(columns))
        mean[..., columns] = expected.to(x.dtype).reshape(*x.shape[:-1], len(columns))
    return Given(mean)
