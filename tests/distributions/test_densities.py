"""The densities of fewer passes are the distributions' own."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_mnar.distributions import MissingEntries
from pyro_mnar.distributions.densities import log_density, without_repeats

PARTICLES, ROWS, COLUMNS = 4, 3, 2
SHAPES = [(), (COLUMNS,), (ROWS, COLUMNS), (ROWS, 1), (PARTICLES, 1, 1), (PARTICLES, ROWS, COLUMNS)]


@pytest.fixture(autouse=True)
def without_validation():
    with pyro.validation_enabled(False):
        yield


def normal(loc_shape, scale_shape):
    return dist.Normal(torch.randn(loc_shape), torch.rand(scale_shape) + 0.1)


@pytest.mark.parametrize("scale_shape", SHAPES)
@pytest.mark.parametrize("loc_shape", SHAPES)
def test_a_normals_density_is_its_own_whatever_was_expanded(loc_shape, scale_shape):
    fn = normal(loc_shape, scale_shape)
    wide = fn.expand([PARTICLES, ROWS, COLUMNS])
    mask = torch.rand(ROWS, COLUMNS) < 0.5
    for value in (torch.randn(PARTICLES, ROWS, COLUMNS), torch.randn(ROWS, COLUMNS)):
        for given in (fn, wide, wide.to_event(1), wide.mask(mask), wide.mask(mask).to_event(1), wide.mask(False)):
            expected = given.log_prob(value)
            computed = log_density(given, value)
            assert computed.shape == expected.shape
            torch.testing.assert_close(computed, expected, rtol=1e-12, atol=1e-12)


def test_gradients_are_the_same():
    loc = torch.randn(ROWS, COLUMNS, requires_grad=True)
    scale = (torch.rand(COLUMNS) + 0.1).requires_grad_()
    value = torch.randn(PARTICLES, ROWS, COLUMNS, requires_grad=True)
    fn = dist.Normal(loc, scale).expand([PARTICLES, ROWS, COLUMNS]).mask(torch.rand(ROWS, COLUMNS) < 0.5).to_event(1)
    weights = torch.randn(PARTICLES, ROWS)
    found = torch.autograd.grad((weights * log_density(fn, value)).sum(), [loc, scale, value])
    expected = torch.autograd.grad((weights * fn.log_prob(value)).sum(), [loc, scale, value])
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_a_density_of_ones_own_is_asked():
    class Doubled(dist.Normal):
        def log_prob(self, value):
            return 2 * super().log_prob(value)

    value = torch.randn(ROWS)
    fn = Doubled(torch.zeros(ROWS), 1.0)
    torch.testing.assert_close(log_density(fn.to_event(1), value), fn.log_prob(value).sum())


def test_what_is_outside_the_support_is_refused_under_validation():
    with pyro.validation_enabled(True):
        fn = dist.Normal(torch.zeros(ROWS), 1.0)
        with pytest.raises(ValueError, match="within the support"):
            log_density(fn, torch.full((ROWS,), torch.nan))


def test_repeats_are_dropped_and_nothing_else():
    assert without_repeats(torch.ones(COLUMNS).expand(PARTICLES, ROWS, COLUMNS)).shape == (1, 1, COLUMNS)
    assert without_repeats(torch.ones(PARTICLES, ROWS)).shape == (PARTICLES, ROWS)


def test_missing_entries_of_a_normal_take_one_number_an_entry():
    mask = torch.tensor([[True, False], [False, True]])
    loc = torch.randn(PARTICLES, 2, 2, requires_grad=True)
    scale = torch.tensor([0.5, 2.0], requires_grad=True)
    fn = MissingEntries(dist.Normal(loc, scale), mask)
    state = torch.get_rng_state()
    noise = torch.randn(PARTICLES, 2, 2)
    torch.set_rng_state(state)
    value = fn.rsample()
    torch.testing.assert_close(value, torch.where(mask, noise, loc + scale * noise))
    of_loc, of_scale = torch.autograd.grad(value.sum(), [loc, scale])
    torch.testing.assert_close(of_loc, (~mask).double().expand_as(loc))
    torch.testing.assert_close(of_scale, (noise * ~mask).sum((0, 1)))
