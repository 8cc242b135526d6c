"""Formulas of derived columns against the rows that show them."""

import warnings

import numpy as np
import pandas as pd
import pytest

from pyro_mnar import Table

FORMULA = "weight / height**2"


def people(factor=1.0, shift=0.0, decimals=None):
    """Sixty of them; the body mass is the formula's, times a factor and with a shift, or rounded."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"weight": random.normal(70, 12, 60).round(1), "height": random.normal(1.7, 0.1, 60).round(2)})
    frame["bmi"] = factor * frame["weight"] / frame["height"] ** 2 + shift
    if decimals is not None:
        frame["bmi"] = frame["bmi"].round(decimals)
    frame.loc[random.random(60) < 0.2, "weight"] = np.nan
    frame.loc[random.random(60) < 0.2, "height"] = np.nan
    return frame


def read(frame, formula=FORMULA, **options):
    return Table.from_frame(frame, derived={"bmi": formula}, auxiliary=[], **options)


def quietly(frame):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read(frame)


@pytest.mark.parametrize(
    ("factor", "shift", "offset"),
    [(2.2046, 0.0, "2.205 times"), (1e-4, 0.0, "0.0001 times"), (1.0, 9.5, "9.5 more"), (1.0, -9.5, "9.5 less")],
)
def test_formula_of_another_unit_is_refused_with_the_factor_or_the_difference(factor, shift, offset):
    frame = people(factor, shift)
    shown = int(frame.notna().all(axis=1).sum())
    wanted = rf"'bmi': .*weight / height\*\*2.* {shown} of {shown} rows .*{offset}.*carry=\['bmi'\]"
    with pytest.raises(ValueError, match=wanted):
        read(frame)


def test_typing_errors_are_named_and_the_formula_is_used():
    frame = people()
    at = frame.index[frame.notna().all(axis=1)][5]
    frame.loc[at, "bmi"] = 240.0
    with pytest.warns(UserWarning, match=rf"in row {at}, where 240 stands \(1 such rows of \d+\)"):
        table = read(frame)
    alone = frame["weight"].isna() & frame["height"].notna()
    expected = (frame["bmi"] * frame["height"] ** 2)[alone]
    np.testing.assert_allclose(table.frame["weight"][alone], expected, rtol=1e-6)


def test_rows_that_many_contradict_are_no_typing_errors():
    frame = people()
    of_pounds = frame.index % 3 == 0  # as where two clinics write in two units
    frame.loc[of_pounds, "bmi"] *= 2.2
    with pytest.raises(ValueError, match=r"'bmi'.*2\.2 times"):
        read(frame)


def test_rounding_is_no_contradiction():
    quietly(people(decimals=1))
    with pytest.warns(UserWarning, match="such rows of"):  # to whole numbers: 2 % of 24
        read(people(decimals=0))


def test_new_rows_may_hold_a_few_typing_errors_and_no_other_unit():
    table, others = quietly(people()), people(2.2)
    complete = others.dropna()
    with pytest.warns(UserWarning, match="2 such rows of 2"):
        table.new_rows(complete.iloc[:2])
    with pytest.raises(ValueError, match=r"'bmi'.*2\.2 times"):
        table.new_rows(others)


def test_without_a_row_that_shows_both_medians_are_compared():
    frame, other = people(), people(2.2)
    frame["bmi"] = other["bmi"].where(frame[["weight", "height"]].isna().any(axis=1))
    with pytest.warns(UserWarning, match=r"no row shows both .* is it in another unit"):
        read(frame)
    frame["bmi"] /= 2.2
    quietly(frame)
