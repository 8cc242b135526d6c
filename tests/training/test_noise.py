"""Epochs have noise of their own: at parameters that stand still, bounds are independent estimates of one number."""

from __future__ import annotations

import pytest

from checks import gina_pair, table_with_gaps
from pyro_mnar import fit


@pytest.mark.slow
@pytest.mark.parametrize("compile_", ["eager", "graph"])
def test_noise_moves_on_between_epochs(compile_: str) -> None:
    # The same row forty times: of different ones another order would make another bound of the same noise.
    row = int((~table_with_gaps().mask).any(1).nonzero()[0])
    table = table_with_gaps().take([row] * 40)
    options = {"epochs": 8, "batch_size": 40, "learning_rate": 1e-12, "progress": False, "compile": compile_}
    bounds = fit(*gina_pair(table), table, **options).history["bound"]
    assert bounds.nunique() == len(bounds) and bounds.std() > 1e-4
    again = fit(*gina_pair(table), table, **options).history["bound"]
    assert (again == bounds).all()  # and the seed decides it
