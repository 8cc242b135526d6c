"""Observed values that stop at a threshold are told from those that fade out, whatever a fit makes of the gaps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from pyro_mnar import Table, check_identifiability
from pyro_mnar.models import SelfMasking
from pyro_mnar.tables.ends import abrupt_ends, is_abrupt

LAWS: dict[str, Callable] = {
    "normal": lambda random, n: random.normal(size=n),
    "Student": lambda random, n: random.standard_t(4, n),
    "logistic": lambda random, n: random.logistic(size=n),
    "steeply masked": lambda random, n: (x := random.normal(size=4 * n))[
        random.random(4 * n) < 1 / (1 + np.exp(3 * x))
    ],
}


@pytest.mark.parametrize("law", LAWS)
def test_values_that_fade_out_are_no_threshold(law: str) -> None:
    """Normal values of 1,000 cross the limit less than once in a thousand; at most 2 of 200 here."""
    random = np.random.default_rng(0)
    assert sum(is_abrupt(LAWS[law](random, 1_000)) for _ in range(200)) <= 2


@pytest.mark.parametrize(("count", "found"), [(100, 25), (150, 45), (300, 80), (600, 95)])
def test_few_excesses_need_a_higher_ratio(count: int, found: int) -> None:
    """Normal values stop by chance in one of a hundred columns, however few: at most 12 of 500 here.  Of uniform ones
    35% are found at 100 values, 55, 91 and 99% at the others.
    """
    random = np.random.default_rng(count)
    assert sum(is_abrupt(random.normal(size=count), share=0.2, fewest=20) for _ in range(500)) <= 12
    assert sum(is_abrupt(random.random(count), share=0.2, fewest=20) for _ in range(100)) >= found


@pytest.mark.parametrize("side", [1, -1])
def test_a_threshold_shows_at_its_end_alone(side: int) -> None:
    """Two fits, one on each side of 0, could not tell; found in at least 95 of 100 tables of 1,000 values."""
    random = np.random.default_rng(1)
    kept = [values[values < 0] for values in random.normal(size=(100, 2_000))]
    assert sum(is_abrupt(values) for values in kept) >= 95
    assert sum(is_abrupt(-values) for values in kept) <= 2
    x = 20 * side * random.normal(size=2_000) + 100
    frame = pd.DataFrame({"x": np.where(side * (x - 100) < 0, x, np.nan), "u": random.normal(size=2_000)})
    (end,) = abrupt_ends(Table.from_frame(frame, auxiliary=["u"]))
    assert (end.column, end.is_upper) == ("x", side > 0) and end.at == pytest.approx(100, abs=0.5)


def test_the_report_names_the_end_without_a_fit() -> None:
    random = np.random.default_rng(2)
    x = random.normal(size=(2_000, 2))
    x[x[:, 0] > 0, 0] = np.nan
    table = Table.from_numpy(x, columns=["a", "b"], auxiliary=[])
    frame = check_identifiability(SelfMasking(table, latent_dim=1, seed=0), table, search=False).to_frame()
    found = frame[frame["paper"].str.startswith("positivity")].iloc[0]
    assert found["verdict"] == "violated" and "none of a above -0.00" in found["evidence"]


def test_few_values_and_rounded_ones_are_not_judged() -> None:
    random = np.random.default_rng(0)
    assert not is_abrupt(random.random(400))
    assert not is_abrupt(random.integers(0, 5, 2_000).astype(float))
