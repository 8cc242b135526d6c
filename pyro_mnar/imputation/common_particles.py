"""Draws of a row from particles that they have in common, near the row's own mode and as many as it takes.

A draw from K particles of its own follows the posterior to about (K / ESS - 1) / K, so what counts is how many there
are in all.  Draws that share a set of K are as close to it as one that has all of them; that two of them take the same
particle is what binds them, and where each draw has a stratum of the summed weights of its own (Kitagawa 1996) that
hardly happens.

A quarter of a set is the guide's own, the others come from :mod:`pyro_mnar.imputation.row_proposals`.  So a set serves
whatever a quarter as many of the guide's alone would, and most rows much better.  Of those whose effective sample size
says otherwise a new set is drawn, of 2,000.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pyro_mnar.capture.row_noise import rows_at
from pyro_mnar.imputation.averages import Weighted
from pyro_mnar.imputation.resampling import of_strata
from pyro_mnar.imputation.row_proposals import RowNormals, Sharpened, row_normals, site_to_sharpen
from pyro_mnar.imputation.sampler import Chunk, Sampler, refuse_unusable
from pyro_mnar.tables.batch import Batch

DRAWS_OF_A_SET = 20
POINTS_OF_A_ROW = 20  # about as many as Newton's method looks at at once


OF_GUIDE = 0.25  # share of a set that is the guide's own
MORE = 2_000  # particles of a second set
LEAST_EFFECTIVE = 0.7  # sample size of a first set, of its particles; below, there are more.  A useless guide's: 0.75


def first_size(num_draws: int) -> int:
    """49 particles for one draw, 144 for twenty, so that an effective sample size that is enough is five a draw."""
    return 44 + 5 * num_draws


class Found(NamedTuple):
    """Some draws of some rows.

    Attributes:
        draws: ``(draws, rows, columns)``.
        weighted: Mean over the particles, in the features of :class:`~pyro_mnar.imputation.averages.Averages`.
    """

    draws: Float[Tensor, "draws rows columns"]
    weighted: Weighted


class CommonParticles:
    """What imputes rows so.

    Args:
        sampler: Draws and weighs particles; without conditions, skip patterns and latents that all rows share.
        site: The guide's, which is proposed near the rows' modes.
    """

    def __init__(self, sampler: Sampler, site: str) -> None:
        self.sampler, self.site = sampler, site

    @classmethod
    def of(cls, sampler: Sampler, batch: Batch) -> CommonParticles | None:
        """None where that is not to be: rows are bound by conditions or shared latents, or the guide is no normal law
        of each row's latents.

        Args:
            sampler: As of the class.
            batch: Rows to impute.
        """
        if sampler.conditions is not None or sampler.applicability is not None or not len(batch):
            return None
        with sampler.session.running():
            sampler.settle(batch)
            if sampler.shared or sampler.max_plate_nesting != 1:
                return None
            site = site_to_sharpen(sampler.model, sampler.fit.guide, sampler.target.rows(batch))
        return None if site is None else cls(sampler, site)

    def chunks(self, batch: Batch) -> Iterator[Chunk]:
        """Impute rows, some at a time, in order."""
        with self.sampler.session.running():
            normals = row_normals(
                self.sampler.model, self.sampler.fit.guide, self.site, self.sampler.target.rows(batch)
            )
        particles = first_size(min(DRAWS_OF_A_SET, self.sampler.num_draws))
        size = max(1, self.sampler.limits.elements // (particles * self.sampler.averages.num_features))
        for rows in torch.arange(len(batch), device=batch.device).split(size):
            yield self.impute(batch.take(rows), normals.take(rows))

    def impute(self, batch: Batch, normals: RowNormals) -> Chunk:
        """All draws of some rows.

        Raises:
            ValueError: If a weight is not a number, or all of a row's are zero.
        """
        numbers = range(0, self.sampler.num_draws, DRAWS_OF_A_SET)
        sets = [self._set(batch, normals, start) for start in numbers]
        of_all = reduce(Weighted.joined, [found.weighted for found in sets])
        return Chunk(torch.cat([found.draws for found in sets]), of_all.mean, of_all.effective_sample_size())

    def _set(self, batch: Batch, normals: RowNormals, start: int) -> Found:
        """Draws from a number on that have their particles in common."""
        size = first_size(min(DRAWS_OF_A_SET, self.sampler.num_draws - start))
        found = self._found(batch, normals, start, size)
        enough = found.weighted.effective_sample_size() >= LEAST_EFFECTIVE * size
        few = (~enough).nonzero().squeeze(-1)
        most = max(1, self.sampler.limits.elements // (MORE * self.sampler.averages.num_features))
        for rows in few.split(most) if len(few) else ():
            again = self._found(batch.take(rows), normals.take(rows), start, MORE)
            found.draws[:, rows] = again.draws
            for all_rows, some in zip(found.weighted, again.weighted, strict=True):
                all_rows[rows] = some
        log_total = found.weighted.log_total
        refuse_unusable(log_total, torch.isfinite(log_total).unsqueeze(0))
        return found

    def _found(self, batch: Batch, normals: RowNormals, start: int, size: int) -> Found:
        sampler = self.sampler
        guide = Sharpened(self.site, normals, OF_GUIDE)(sampler.fit.guide)
        count = min(DRAWS_OF_A_SET, sampler.num_draws - start)
        with sampler.session.running():
            noise = sampler.noise(batch, size, start, size)
            with noise:
                weighed = sampler.particles(batch, size, guide)
            with noise, rows_at(noise, 1):
                chosen = of_strata(weighed.log_weights, count)
            draws = sampler.resampled(weighed, chosen, noise)
        features = sampler.averages.features(weighed.x, weighed.given)
        return Found(draws, Weighted.of(weighed.log_weights, features))
