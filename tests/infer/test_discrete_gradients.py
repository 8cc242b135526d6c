"""The three ways of `discrete`, measured as `benchmarks/discrete_gradients.py` measures them."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "discrete_gradients.py"


@pytest.mark.parametrize("kind", ["binary", "ordinal", "categorical"])
def test_summed_and_sampled_levels_have_the_enumerated_gradient(kind: str, own_store: None) -> None:
    """Five errors are far out: the squared length of a mean's error is at most a few times what is expected of it."""
    found = runpy.run_path(str(SCRIPT))["measure"](kind, particles=2, draws=25)
    assert found.loc["summed", "bias"] < 1e-10 and found.loc["summed", "noise"] < 1e-10
    assert 0 < found.loc["sampled", "bias"] < 5 * found.loc["sampled", "error"]
    assert found.loc["straight-through", "noise"] < 0.5 * found.loc["sampled", "noise"]
    assert found.loc["summed", "bound"] > found.loc["sampled", "bound"]  # Jensen: drawing loosens the bound


def test_straight_through_is_biased() -> None:
    found = runpy.run_path(str(SCRIPT))["measure"]("categorical", particles=1, draws=60)
    assert found.loc["straight-through", "bias"] > 5 * found.loc["straight-through", "error"]
