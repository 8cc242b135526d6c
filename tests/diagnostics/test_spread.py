"""Distances between imputed means are in standard deviations of what was observed, in the user's own units."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pyro_mnar import Table
from pyro_mnar.diagnostics.spread import spread_of
from pyro_mnar.kinds import Bounded


def frame_of() -> pd.DataFrame:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "income": 1_000 * random.lognormal(sigma=0.8, size=200),
            "share": 100 / (1 + np.exp(-random.normal(size=200))),
            "height": random.normal(170, 10, 200),
        }
    )
    frame.iloc[::4] = np.nan
    return frame


@pytest.mark.parametrize("sparse", [False, True])
def test_ranges_are_in_observed_standard_deviations_whatever_the_scale(sparse: bool) -> None:
    """A positive column's deviation is that of its values: of its logarithms it said 504 where 0.2 is the truth."""
    frame = frame_of()
    kinds = {"income": "positive", "share": Bounded(0, 100)}
    if sparse:
        long = frame.rename_axis("row").reset_index().melt("row", var_name="column").dropna()
        table = Table.from_long(long, rows=range(200), auxiliary=[], kinds=kinds)
    else:
        table = Table.from_frame(frame, auxiliary=[], kinds=kinds)
    means = pd.DataFrame({"income": [900.0, 1_000.0], "share": [40.0, 60.0], "height": [170.0, 171.0]})
    found = spread_of(means, pd.Series([True, True]), table)
    np.testing.assert_allclose(found["range_in_sd"], [100, 20, 1] / frame.std(ddof=0))
    column = table.schema.columns[0]
    assert column.std_in_units == pytest.approx(frame["income"].std(ddof=0))
    assert column.std == pytest.approx(np.log(frame["income"]).std(ddof=0))
    assert column.mean_in_units == pytest.approx(frame["income"].mean())


def test_the_range_is_over_members_with_an_equal_bound() -> None:
    """A start that stopped at a worse bound says nothing of what the data leave open."""
    table = Table.from_frame(frame_of(), auxiliary=[], kinds={"share": Bounded(0, 100)})
    means = pd.DataFrame({"income": [900.0, 1_000.0, 5_000.0], "share": [40.0, 60.0, 50.0], "height": [170.0] * 3})
    found = spread_of(means, pd.Series([True, True, False]), table)
    assert found["range"].tolist() == [100.0, 20.0, 0.0]
    assert found["range_all"].tolist() == [4_100.0, 20.0, 0.0]
