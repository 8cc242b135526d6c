"""Who causes the missingness of what: the Jacobian of the log-odds is exactly zero where its graph has no edge."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pyro_mnar import mechanisms

COLUMNS, LATENT = 4, 3
NONE = torch.zeros(COLUMNS, COLUMNS, dtype=torch.bool)
SELF = torch.eye(COLUMNS, dtype=torch.bool)
NO_LATENT = torch.zeros(COLUMNS, LATENT, dtype=torch.bool)

# Edges X_j → R_d and Z_h → R_d, as (columns, columns) and (columns, latent_dim).
GRAPHS = {
    mechanisms.Constant: (NONE, NO_LATENT),
    mechanisms.SelfMasking: (SELF, NO_LATENT),
    mechanisms.TwoSided: (SELF, NO_LATENT),
    mechanisms.LatentDependent: (SELF, ~NO_LATENT),
    mechanisms.FullyConnected: (~NONE, NO_LATENT),
    mechanisms.General: (~NONE, ~NO_LATENT),
}


def with_random_parameters(mechanism: torch.nn.Module) -> torch.nn.Module:
    """Slopes start at zero, where every graph would look empty."""
    for parameter in mechanism.parameters():
        torch.nn.init.normal_(parameter)
    return mechanism


def edges(mechanism: torch.nn.Module) -> tuple[Tensor, Tensor]:
    """Whether each log-odds changes at all with each x and z, at any of 20 points."""
    of_x, of_z = torch.zeros(COLUMNS, COLUMNS), torch.zeros(COLUMNS, LATENT)
    for _ in range(20):
        at = torch.randn(COLUMNS), torch.randn(LATENT)
        by_x, by_z = torch.autograd.functional.jacobian(mechanism, at)
        of_x, of_z = of_x + by_x.abs(), of_z + by_z.abs()
    return of_x != 0, of_z != 0


@pytest.mark.parametrize("mechanism", GRAPHS)
def test_the_jacobian_is_the_graph(mechanism: type) -> None:
    of_x, of_z = edges(with_random_parameters(mechanism(COLUMNS, LATENT)))
    assert torch.equal(of_x, GRAPHS[mechanism][0])
    assert torch.equal(of_z, GRAPHS[mechanism][1])


@pytest.mark.parametrize("mechanism", GRAPHS)
def test_each_names_the_parents_that_it_has(mechanism: type) -> None:
    of_x, of_z = GRAPHS[mechanism]
    for d in range(COLUMNS):
        named = mechanism.parents.names(d, range(COLUMNS), "Z")
        assert named == [*of_x[d].nonzero().flatten().tolist(), *(["Z"] if of_z[d].all() else [])]
    reaches_others = bool((of_x & ~SELF).any())
    assert mechanism(COLUMNS, LATENT).causes_only_own([0, 2]) is not reaches_others


@pytest.mark.parametrize("mechanism", GRAPHS)
def test_rows_and_particles_do_not_mix(mechanism: type) -> None:
    """Every cell of a (particles, rows, columns) call is what a call with that row alone gives."""
    module = with_random_parameters(mechanism(COLUMNS, LATENT))
    x, z = torch.randn(3, 5, COLUMNS), torch.randn(3, 5, LATENT)
    together = module(x, z)
    assert together.shape == x.shape
    for particle in range(3):
        for row in range(5):
            torch.testing.assert_close(together[particle, row], module(x[particle, row], z[particle, row]))


@pytest.mark.parametrize("mechanism", [mechanisms.SelfMasking, mechanisms.LatentDependent])
def test_declared_signs_hold_whatever_the_parameters(mechanism: type) -> None:
    for _ in range(20):
        slope = with_random_parameters(mechanism(3, LATENT, sign=[-1, 1, 0])).slope
        assert slope[0] < 0 < slope[1]
    free = torch.stack([with_random_parameters(mechanism(3, LATENT, sign=[-1, 1, 0])).slope[2] for _ in range(20)])
    assert (free < 0).any() and (free > 0).any()


def test_one_sign_serves_all_columns() -> None:
    assert (with_random_parameters(mechanisms.SelfMasking(COLUMNS, sign=-1)).slope < 0).all()


@pytest.mark.parametrize("sign", [2, [-1, 1], [0.5] * COLUMNS])
def test_other_signs_are_refused(sign: object) -> None:
    with pytest.raises((ValueError, TypeError), match="sign"):
        mechanisms.SelfMasking(COLUMNS, sign=sign)


def test_a_mechanism_is_taken_as_it_is_or_made() -> None:
    made = mechanisms.SelfMasking(COLUMNS)
    assert mechanisms.build(made, COLUMNS, LATENT) is made
    assert isinstance(mechanisms.build(mechanisms.General, COLUMNS, LATENT), mechanisms.General)
    assert isinstance(mechanisms.build(lambda d, h: mechanisms.Constant(d, h), COLUMNS, LATENT), mechanisms.Constant)


@pytest.mark.parametrize("mechanism", [mechanisms.SelfMasking, mechanisms.LatentDependent])
def test_known_slopes_stay_as_they_are(mechanism: type) -> None:
    made = with_random_parameters(mechanism(3, LATENT, sign=[-1, 0, 1], slope=[0.5, -2.0, None]))
    assert made.slope[:2].tolist() == [-0.5, -2.0] and made.slope[2] > 0
    x = torch.zeros(3)
    raised = made(x + torch.eye(3), torch.zeros(3, LATENT)).diagonal() - made(x, torch.zeros(LATENT))
    torch.testing.assert_close(raised, made.slope)
    assert "known_slope" not in made.state_dict()
    assert all(tensor.isfinite().all() for tensor in made.buffers())  # members of a batched fit compare theirs


@pytest.mark.parametrize(("sign", "slope"), [(-1, -0.5), (0, [1.0, 2.0])])
def test_other_slopes_are_refused(sign: int, slope: object) -> None:
    with pytest.raises(ValueError, match="slope: expected"):
        mechanisms.SelfMasking(COLUMNS, sign=sign, slope=slope)
