"""Fewer passes, the same log-probabilities and gradients."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from pyro_mnar.distributions import Levels, MissingEntries
from pyro_mnar.distributions.observed_entries import ObservedEntries, ObservedMask, observed_entries
from pyro_mnar.tables.batch import Batch, Entries

FAMILIES = {
    "normal": lambda outputs: dist.Normal(outputs, outputs.new_tensor([0.5, 1.0, 2.0])),
    "student": lambda outputs: dist.StudentT(3.0, outputs, 1.5),
    "levels": lambda outputs: Levels(torch.stack([outputs, -outputs], -1), torch.tensor([[0.0, 1.0]] * 3)),
    "exponential": lambda outputs: dist.Exponential(outputs.exp()),  # of no family that is known by its cells
}


def batch() -> Batch:
    mask = torch.rand(6, 3) < 0.4
    whole = Batch.of(torch.randint(0, 2, (6, 3)).to(torch.float64), mask)
    row, column = mask.nonzero(as_tuple=True)
    return Batch(**{**vars(whole), "entries": Entries(row, column, whole.mask)})


@pytest.mark.parametrize("family", FAMILIES)
def test_observed_entries_are_scored_as_the_masked_row_is(family: str) -> None:
    given = batch()
    value = torch.where(given.mask, given.x, torch.rand(4, 6, 3).round())
    scores, slopes = [], []
    for expanded in (False, True):
        for known in (True, False):
            outputs = torch.linspace(-1, 1, 72).reshape(4, 6, 3).requires_grad_()
            fn = FAMILIES[family](outputs)
            masked: Any = observed_entries(fn, given.mask, given) if known else fn.mask(given.mask)
            assert isinstance(masked, ObservedEntries) == (known and family != "exponential")
            event = masked.to_event(1)
            if expanded:
                event = event.expand((2, 4, 6))
            score = event.log_prob(value)
            assert score.shape == event.batch_shape
            scores.append(score.expand(2, 4, 6))
            slopes.append(torch.autograd.grad(score.square().mean(), outputs)[0])
    for score, slope in zip(scores, slopes, strict=True):
        torch.testing.assert_close(score, scores[1])
        torch.testing.assert_close(slope, slopes[1])


def test_entries_of_another_mask_are_not_used() -> None:
    given = batch()
    fn = dist.Normal(torch.zeros(6, 3), 1.0)
    assert not isinstance(observed_entries(fn, given.mask.clone(), given), ObservedEntries)
    assert not isinstance(observed_entries(dist.Normal(torch.zeros(1, 3), 1.0), given.mask, given), ObservedEntries)


@pytest.mark.parametrize("scale", [1.0, 60.0])
def test_a_masks_score_is_bernoullis(scale: float) -> None:
    logits = (scale * torch.randn(5, 4)).requires_grad_()
    value = torch.randint(0, 2, (5, 4)).to(torch.float64)

    def slope(fn: Any) -> tuple[Tensor, Tensor]:
        score = fn.expand((2, 5, 4)).log_prob(value)
        return score, torch.autograd.grad(score.sum(), logits)[0]

    for one, other in zip(slope(ObservedMask(logits=logits)), slope(dist.Bernoulli(logits=logits)), strict=True):
        torch.testing.assert_close(one, other)


def test_one_normal_number_serves_each_entry() -> None:
    mask = torch.rand(50, 40) < 0.5
    loc, scale = torch.full((40,), 3.0, requires_grad=True), torch.full((40,), 0.5, requires_grad=True)
    drawn = MissingEntries(dist.Normal(loc, scale), mask).rsample((200,))
    assert drawn.shape == (200, 50, 40)
    observed, missing = drawn[:, mask], drawn[:, ~mask]
    for values, mean, std in ((observed, 0.0, 1.0), (missing, 3.0, 0.5)):  # 200,000 numbers each: error 0.0023 std
        assert abs(values.mean().item() - mean) < 5 * 0.0023 * std
        assert values.std().item() == pytest.approx(std, rel=0.01)
    of_loc, of_scale = torch.autograd.grad(missing.sum(), [loc, scale])
    torch.testing.assert_close(of_loc.sum(), torch.tensor(float(missing.numel())))
    torch.testing.assert_close(of_scale.sum(), ((missing - 3.0) / 0.5).sum())
