"""Tipping points against closed forms: a mean moves by share missing times delta, so where it tips is known."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pyro_mnar import Imputations, Table, impute_trial, tipping_point

ROWS, GAPS = 80, 24


def imputations(num_draws: int = 12, seed: int = 0, shift: float = 0.5) -> Imputations:
    """Normal draws of a normal column, and of a column of 0s and 1s."""
    data, rng = np.random.default_rng(0), np.random.default_rng([seed, num_draws])
    y, b = data.normal(shift, 2.0, ROWS), (data.random(ROWS) < 0.4).astype(float)
    y[:GAPS] = b[:GAPS] = np.nan
    table = Table.from_frame(pd.DataFrame({"y": y, "b": b}), auxiliary=[])
    cells = np.stack(np.nonzero(~table.mask.numpy()))
    of_y = cells[1] == 0
    draws = np.where(of_y, rng.normal(shift, 2.0, (num_draws, len(of_y))), rng.random((num_draws, len(of_y))) < 0.4)
    shares = {1: np.tile([0.6, 0.4], (GAPS, 1))}
    return Imputations(table, cells, draws.astype(float), draws.mean(0), np.full(ROWS, 9.0), shares)


def mean(name: str = "y") -> Any:
    return lambda frame: (pd.Series({"mean": frame[name].mean()}), frame[name].std() / ROWS**0.5)


def per_delta(drawn: Imputations) -> float:
    """By how much a delta of one moves the mean of y."""
    return GAPS / ROWS * drawn.table.schema.columns[0].std


def test_sign_tips_where_the_mean_is_zero() -> None:
    drawn = imputations()
    found = tipping_point(mean(), drawn, "y", "sign", between=(0, -4))
    pooled = drawn.pool(mean())
    assert found.delta == pytest.approx(-pooled.estimates[0] / per_delta(drawn), rel=1e-9)
    assert found.monte_carlo_error == pytest.approx(pooled.monte_carlo_errors[0] / per_delta(drawn), rel=1e-9)
    assert found.found and found.at.estimates[0] == pytest.approx(0.0, abs=1e-9)
    assert found.start.estimates[0] == pooled.estimates[0]
    assert repr(found).startswith("the sign of 'mean' changes at a delta of -")


@pytest.mark.parametrize("conclusion", [1.2, lambda pooled: pooled.estimates[0] - 1.2])
def test_margin_by_number_and_by_function(conclusion: Any) -> None:
    drawn = imputations()
    found = tipping_point(mean(), drawn, {"y": 2.0}, conclusion, between=(0, 3))
    assert found.delta == pytest.approx((1.2 - drawn.pool(mean()).estimates[0]) / per_delta(drawn) / 2, rel=1e-9)


def test_significance_tips_where_p_is_at_its_level() -> None:
    drawn = imputations(shift=0.1)
    up, down = (tipping_point(mean(), drawn, "y", between=between) for between in ((0, 4), (0, -8)))
    assert down.delta < 0 < up.delta
    for found, end in ((up, 0), (down, 1)):  # the interval's end that meets zero
        assert found.at.p[0] == pytest.approx(0.05, abs=1e-4)
        assert found.at.interval[0, end] == pytest.approx(0.0, abs=1e-3)
    wide = tipping_point(mean(), drawn, "y", between=(1, 4), confidence=0.8)
    assert not wide.found and wide.start.p[0] < 0.2


def test_what_is_moved_may_be_a_function_or_differ_by_row() -> None:
    drawn = imputations()
    rows = np.arange(ROWS) % 2
    by_row = tipping_point(mean(), drawn, {"y": rows}, "sign", between=(0, -8))
    half = (rows[:GAPS]).sum() / ROWS * drawn.table.schema.columns[0].std
    assert by_row.delta == pytest.approx(-drawn.pool(mean()).estimates[0] / half, rel=1e-9)
    made = tipping_point(mean(), drawn, lambda number: {"y": number * rows}, "sign", between=(0, -8))
    assert made.delta == by_row.delta
    units = tipping_point(mean(), drawn, "y", "sign", between=(0, -8), delta_scale="outcome")
    assert units.delta == pytest.approx(-drawn.pool(mean()).estimates[0] / (GAPS / ROWS), rel=1e-9)


def test_levels_move_smoothly_with_the_same_random_numbers() -> None:
    drawn = imputations(num_draws=40)
    found = tipping_point(mean("b"), drawn, "b", 0.5, between=(0, 3))
    curve = found.curve.sort_values("delta")
    assert (np.diff(curve.estimate) >= 0).all()
    observed = drawn.table.frame.b.sum()
    # P(b = 1) of a gap has log-odds log(0.4 / 0.6) + delta, so the mean's expectation is 0.5 at a known delta.
    needed = (0.5 * ROWS - observed) / GAPS
    expected = np.log(needed / (1 - needed)) - np.log(0.4 / 0.6)
    assert abs(found.delta - expected) < 4 * found.monte_carlo_error
    assert 0 < found.monte_carlo_error < 0.5


def test_survey_weights_enter_the_monte_carlo_error_as_they_enter_the_estimate() -> None:
    plain = imputations()
    frame = plain.table.frame.assign(w=np.where(np.arange(ROWS) % 3, 1.0, 4.0))
    weighted = replace(plain, table=Table.from_frame(frame, auxiliary=[], weights="w"))
    found = tipping_point("y ~ 1", weighted, "y", "sign", between=(0, -6), num_steps=1, tolerance=0.2)
    share = frame.w[:GAPS].sum() / frame.w.sum()
    pooled, moves = weighted.pool("y ~ 1"), share * weighted.table.schema.columns[0].std
    assert found.delta == pytest.approx(-pooled.estimates[0] / moves, rel=1e-6)
    assert found.monte_carlo_error == pytest.approx(pooled.monte_carlo_errors[0] / moves, rel=1e-6)


def test_what_does_not_change_is_said() -> None:
    found = tipping_point(mean(), imputations(), "y", "sign", between=(0, 2))
    assert not found.found and np.isnan(found.delta)
    assert repr(found) == "the sign of 'mean' does not change between deltas of 0 and 2"
    assert not found.plot().get_legend()


def test_first_change_from_the_start_is_found() -> None:
    drawn = imputations()
    twice = tipping_point(
        mean(), drawn, "y", lambda pooled: (pooled.estimates[0] - 1.0) * (pooled.estimates[0] - 1.8), between=(0, 4)
    )
    assert twice.at.estimates[0] == pytest.approx(1.0, abs=1e-3)


def test_of_a_trial() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(0, 1, (60, 2)).cumsum(1), columns=["one", "two"])
    frame["arm"] = np.where(np.arange(60) % 2, "drug", "control")
    frame.loc[frame.arm == "drug", "two"] -= 2.0
    frame.loc[frame.index % 6 < 2, "two"] = np.nan
    trial = impute_trial(frame, arm="arm", control="control", outcome=["one", "two"], num_draws=10)

    def effect(frame: pd.DataFrame) -> tuple[float, float]:
        arms = [frame.two[frame.arm == arm] for arm in ("drug", "control")]
        return arms[0].mean() - arms[1].mean(), (arms[0].var() / 30 + arms[1].var() / 30) ** 0.5

    found = tipping_point(effect, trial, "drug", between=(0, 10), dfcom=58)
    assert found.at.p[0] == pytest.approx(0.05, abs=1e-4)
    assert found.start.p[0] < 0.05 < trial.shifted({"drug": found.delta + 0.1}).pool(effect, dfcom=58).p[0]
    figure = found.plot()
    assert figure.get_legend().get_texts()[0].get_text().startswith("the significance changes at")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"between": (1, 1)}, ValueError, "between: expected two different finite deltas, got (1, 1)"),
        ({"delta": "z"}, ValueError, "delta of column 'z': expected one of the modelled columns"),
        (
            {"conclusion": "p"},
            ValueError,
            "conclusion: expected 'significance', 'sign', a margin or a function, got",
        ),
        ({"coefficient": "x"}, ValueError, "coefficient: expected one of ['mean'], got 'x'"),
        (
            {"conclusion": lambda pooled: pooled.p[0] < 0.05},
            TypeError,
            "conclusion: expected a function to a finite number",
        ),
        ({"tolerance": 0.0}, ValueError, "tolerance: expected a share above 0 and below 1"),
    ],
)
def test_refuses(options: dict[str, Any], error: type[Exception], message: str) -> None:
    settings: dict[str, Any] = {"delta": "y", "conclusion": "sign", "between": (0, -4)}
    with pytest.raises(error, match=re.escape(message)):
        tipping_point(mean(), imputations(), **{**settings, **options})


@pytest.mark.slow
def test_monte_carlo_error_is_the_spread_over_other_draws() -> None:
    """Over 80 sets of draws; the chi-square limits fail by chance once in 1,000, the jackknife's bias aside."""
    found = [
        tipping_point(mean(), imputations(10, seed, 0.1), "y", between=(0, 4), tolerance=0.01) for seed in range(80)
    ]
    spread = np.var([point.delta for point in found], ddof=1)
    told = np.mean([point.monte_carlo_error**2 for point in found])
    low, high = stats.chi2.ppf([0.0005, 0.9995], 29) / 29
    assert 0.9 * low < spread / told < high / 0.9
