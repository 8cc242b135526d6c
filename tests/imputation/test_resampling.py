"""Resampling: each draw of each row by a number of its own, and means of parts joined by their weights."""

from __future__ import annotations

import numpy as np
import torch
from scipy import stats

from checks import FALSE_ALARM
from pyro_mnar.imputation.averages import Weighted
from pyro_mnar.imputation.resampling import of_own_sets, of_strata


def test_rows_and_draws_are_resampled_independently() -> None:
    """One number for all rows leaves each row's law as it is, and pooled variances wrong: rows then move together."""
    chosen = of_own_sets(torch.zeros(2, 10, 2_000)).numpy()  # two draws, ten like particles
    for one, other in ((chosen[0], chosen[1]), (chosen[0, :-1], chosen[0, 1:])):
        counts = np.histogram2d(one, other, bins=10, range=((-0.5, 9.5), (-0.5, 9.5)))[0]
        assert stats.chisquare(counts.ravel()).pvalue > FALSE_ALARM


def test_rows_that_choose_by_strata_do_not_move_together() -> None:
    chosen = of_strata(torch.zeros(10, 4_000), 4).numpy()
    for draw in chosen:
        counts = np.histogram2d(draw[:-1], draw[1:], bins=10, range=((-0.5, 9.5), (-0.5, 9.5)))[0]
        assert stats.chisquare(counts.ravel()).pvalue > FALSE_ALARM


def test_particles_are_chosen_as_often_as_they_weigh() -> None:
    weights = torch.tensor([0.1, 0.0, 0.6, 0.3])
    chosen = of_own_sets(weights.log()[None, :, None].expand(1, 4, 20_000))
    counts = torch.bincount(chosen.ravel(), minlength=4)
    assert counts[1] == 0
    assert stats.chisquare(counts[[0, 2, 3]], 20_000 * weights[[0, 2, 3]]).pvalue > FALSE_ALARM


def test_parts_are_joined_by_their_weights() -> None:
    """A part of hardly any weight hardly moves the mean; the whole is that of all particles at once."""
    log_weights = torch.randn(7, 5) + torch.tensor([6.0] * 3 + [0.0] * 4)[:, None]
    x = torch.randn(7, 5, 2)
    whole = Weighted.of(log_weights, x)
    joined = Weighted.of(log_weights[:3], x[:3]).joined(Weighted.of(log_weights[3:], x[3:]))
    for found, expected in zip(joined, whole, strict=True):
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(joined.effective_sample_size(), whole.effective_sample_size())
    equal = (Weighted.of(log_weights[:3], x[:3]).mean + Weighted.of(log_weights[3:], x[3:]).mean) / 2
    assert (joined.mean - equal).abs().max() > 0.1
