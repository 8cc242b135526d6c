"""Log E σ(m + s·ε) with its derivatives, against the mixture of probits differentiated step by step."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import Tensor

from pyro_mnar.capture.inductor import compiled
from pyro_mnar.capture.two_forms import OPERATIONS
from pyro_mnar.distributions import logistic_means
from pyro_mnar.distributions.logistic_means import logistic_mean, of_cells
from pyro_mnar.distributions.probit_mixtures import PROBITS, mixed

OPERATION = torch.ops.pyro_mnar.logistic_mean.default
WRITTEN_OUT = OPERATIONS[OPERATION].compiled
SIZES = torch.cat([torch.zeros(1), torch.logspace(-3, 4, 30)]).double()  # s, slope times standard deviation


def places() -> Tensor:
    """m near zero, about where s² flips the tail, and beyond both; a column for each s."""
    share = torch.linspace(-2, 2, 81).double()[:, None]
    return torch.cat(
        [torch.linspace(-60, 60, 81).double()[:, None].expand(-1, len(SIZES)), share * SIZES**2, share * 30 * SIZES]
    )


def by_mixture(m: Tensor, s_squared: Tensor) -> Tensor:
    return mixed(m, s_squared, PROBITS["logit"]).log_mean()


@pytest.mark.parametrize(("dtype", "accuracy"), [(torch.float64, 5e-9), (torch.float32, 5e-6)])
def test_value_and_gradients(dtype: torch.dtype, accuracy: float) -> None:
    """In units of their own size: a logarithm of -1e7 has seven digits in single precision."""
    rounded = [places().to(dtype), (SIZES**2).to(dtype)]
    found, expected = ([value.to(kind).requires_grad_() for value in rounded] for kind in (dtype, torch.float64))
    got, wanted = logistic_mean(*found).log_mean, by_mixture(*expected)
    for one, other in [
        (got, wanted),
        *zip(torch.autograd.grad(got.sum(), found), torch.autograd.grad(wanted.sum(), expected), strict=True),
    ]:
        assert one.isfinite().all()
        assert ((one - other).abs() / (1 + other.abs())).max() < accuracy


def test_the_derivative_by_m_comes_beside_it() -> None:
    m, s_squared = places().requires_grad_(), SIZES**2
    found = logistic_mean(m, s_squared)
    torch.testing.assert_close(found.by_m, torch.autograd.grad(found.log_mean.sum(), m)[0])
    assert not found.by_m.requires_grad


def test_gradients_of_gradients() -> None:
    """A Hessian is right too, though the first gradient is computed with the value."""
    m = torch.tensor([[-3.0, 0.4], [1.0, -8.0]], dtype=torch.float64, requires_grad=True)
    s_squared = torch.tensor([0.7, 4.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda m, s: logistic_mean(m, s).log_mean, (m, s_squared))


@pytest.mark.parametrize("shape", [(5, 4, 3), (1, 4, 1), (4, 3), (3,), (1,), ()])
def test_variances_of_any_shape(shape: tuple[int, ...]) -> None:
    """Of each cell, row or column, and one for all; the gradient has the same shape."""
    random = torch.Generator().manual_seed(0)
    m = torch.randn(5, 4, 3, generator=random).double() * 3
    s_squared = (torch.rand(shape, generator=random).double() * 4).requires_grad_()
    found, expected = logistic_mean(m, s_squared).log_mean, by_mixture(m, s_squared)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    of_found, of_expected = (torch.autograd.grad(value.sum(), s_squared)[0] for value in (found, expected))
    torch.testing.assert_close(of_found, of_expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("cells_at_once", [7, 20])
def test_many_cells_are_computed_in_pieces(monkeypatch: pytest.MonkeyPatch, cells_at_once: int) -> None:
    """Of as many columns at a time, and of more pieces than there are columns; one is far out, the others are not."""
    m, s_squared = torch.linspace(-90, 9, 60).double().reshape(4, 5, 3), torch.tensor([0.5, 2.0, 9.0]).double()
    whole = logistic_mean(m, s_squared)
    monkeypatch.setattr(logistic_means, "CELLS_AT_ONCE", cells_at_once)
    torch.testing.assert_close(logistic_mean(m, s_squared), whole)


@pytest.mark.parametrize("shape", [(0, 3), (4, 0)])
def test_no_cells(shape: tuple[int, int]) -> None:
    m, s_squared = torch.ones(shape), torch.ones(shape[1])
    for form in (OPERATION, WRITTEN_OUT):
        assert [part.shape for part in form(m, s_squared)] == [shape] * 3


@pytest.mark.parametrize(("dtype", "accuracy"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_the_form_to_compile_is_the_form_by_python(dtype: torch.dtype, accuracy: float) -> None:
    """Near, far and on the other side of the tail, with a variance for all, for columns and for cells."""
    m, s_squared = places().to(dtype), (SIZES**2).to(dtype)
    for own in (s_squared, s_squared[3], s_squared.expand_as(m), s_squared[3:4].expand(len(m), 1)):
        for one, other in zip(WRITTEN_OUT(m, own), OPERATION(m, own), strict=True):
            assert one.isfinite().all()
            assert ((one - other).abs() / (1 + other.abs())).max() < accuracy


@pytest.mark.parametrize(
    "dims", [(0, 0), (1, None), (None, 0), (2, 1)], ids=["both", "m alone", "s alone", "later dimensions"]
)
def test_mapped_over_members(dims: tuple[int | None, int | None]) -> None:
    random = torch.Generator().manual_seed(0)
    given = [torch.randn(5, 4, 3, generator=random).double() * 9, torch.rand(3, generator=random).double() * 4]
    stacked = [
        value if dim is None else torch.stack([value, value / 2], dim) for value, dim in zip(given, dims, strict=True)
    ]
    found = torch.vmap(OPERATION, dims)(*stacked)
    for member, factor in enumerate((1.0, 0.5)):
        alone = OPERATION(*(value if dim is None else value * factor for value, dim in zip(given, dims, strict=True)))
        torch.testing.assert_close(tuple(part[member] for part in found), alone)


@pytest.mark.parametrize("shape", [(3,), (4, 3), ()])
def test_torch_can_trace_it(shape: tuple[int, ...]) -> None:
    torch.library.opcheck(OPERATION, (torch.randn(5, 4, 3), torch.rand(shape)))


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="inductor needs a C++ compiler")
def test_compiled() -> None:
    """Of tensors that are parts of others, as parameters are."""

    def of_parts(theta: Tensor) -> tuple[Tensor, ...]:
        return OPERATION(theta[7:37].view(5, 2, 3), theta[60:63].square())

    theta = torch.linspace(-40, 9, 100)
    for one, other in zip(compiled(of_parts, [theta])([theta]), of_parts(theta), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("far", [True, False])
def test_cells_with_a_variance_each(far: bool) -> None:
    m, s_squared = (value.flatten() for value in torch.broadcast_tensors(places(), SIZES**2))
    is_far = -(m.maximum(-m - s_squared)) > 12 * s_squared.add(PROBITS["logit"].variances[-1]).sqrt()
    assert is_far.any()  # beside these the others are computed another way
    given = [value if far else value[~is_far] for value in (m, s_squared)]
    at = [value.clone().requires_grad_() for value in given]
    value = by_mixture(*at)
    expected = [value.detach(), *torch.autograd.grad(value.sum(), at)]
    for one, other in zip(of_cells(*given), expected, strict=True):
        assert ((one - other).abs() / (1 + other.abs())).max() < 5e-9
