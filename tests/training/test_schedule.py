"""How long is trained where nothing is said."""

from __future__ import annotations

import pytest

from pyro_mnar.training.schedule import (
    DEFAULT_STEPS,
    LEAST_EPOCHS,
    STEPS_FROM_NEAR,
    default_epochs,
    steps_per_epoch,
)


@pytest.mark.parametrize("is_near", [True, False])
@pytest.mark.parametrize(("num_rows", "batch_size"), [(30, 128), (30, 10**400), (128, 128), (1, 1), (500, 128)])
def test_a_table_smaller_than_a_batch_trains_for_as_many_steps_as_others(num_rows, batch_size, is_near):
    steps = steps_per_epoch(num_rows, batch_size) * default_epochs(num_rows, batch_size, is_near=is_near)
    wanted = STEPS_FROM_NEAR if is_near else DEFAULT_STEPS
    assert wanted <= steps < 1.4 * wanted


def test_a_large_table_is_passed_at_least_so_often():
    assert default_epochs(10**7, 128, is_near=False) == LEAST_EPOCHS
    assert default_epochs(10**7, 128, is_near=True) == 1
