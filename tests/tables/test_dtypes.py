"""Every dtype comes back: dtypes by kinds by gaps, cell by cell, and what else a frame carries."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_mnar import Imputations, Table
from pyro_mnar.kinds import Binary, Ordinal
from pyro_mnar.kinds.dtypes import plain

pa = pytest.importorskip("pyarrow")

DATES = [dt.date(2021, 1, day) for day in (1, 2, 5, 9)]
SYDNEY = [pd.Timestamp(date, tz="Australia/Sydney") for date in DATES]
NUMBERS = [1.5, 2.25, 3.75, 4.5]
AMOUNTS = [Decimal("1.50"), Decimal("2.25"), Decimal("3.75"), Decimal("4.50")]
WHOLE = [3, 5, 8, 9]
WORDS = ["b", "a", "b", "a"]


def arrow(kind: Any) -> pd.ArrowDtype:
    return pd.ArrowDtype(kind)


# Per dtype, values of a column (a gap goes to any place of it), and the kind that is asked for, if one is.
COLUMNS: dict[str, tuple[list[Any], Any, Any]] = {
    "float64": (NUMBERS, "float64", None),
    "float32": (NUMBERS, "float32", None),
    "float16": (NUMBERS, "float16", None),
    "Float64": (NUMBERS, "Float64", "positive"),
    "float64 of codes": ([1.0, 2.0, 1.0, 2.0], "float64", "categorical"),
    "Int64 of codes": ([1, 2, 1, 2], "Int64", "categorical"),
    "float64 of marks, the best first": ([1.0, 2.0, 1.0, 3.0], "float64", Ordinal((3, 2, 1))),
    "Int64 of two codes, backwards": ([20, 10, 10, 20], "Int64", Binary((20, 10))),
    "Int64": (WHOLE, "Int64", "count"),
    "UInt8": (WHOLE, "UInt8", None),
    "objects of numbers": (NUMBERS, object, None),
    "objects of whole numbers": (WHOLE, object, None),
    "objects of booleans": ([True, False, True, False], object, None),
    "boolean": ([True, False, True, False], "boolean", None),
    "str": (WORDS, "str", None),
    "string": (WORDS, "string", None),
    "objects of text": (WORDS, object, "categorical"),
    "category": (WORDS, pd.CategoricalDtype(["b", "a", "c"], ordered=True), None),
    "category of numbers": ([1, 2, 1, 2], pd.CategoricalDtype([1, 2]), None),
    "datetime64[ns]": (DATES, "datetime64[ns]", None),
    "datetime64[us] with a zone": (SYDNEY, "datetime64[us, Australia/Sydney]", None),
    "dates before nanoseconds": ([d.replace(year=1021) for d in DATES], "datetime64[us]", None),
    "timedelta64[us]": ([dt.timedelta(hours=h) for h in WHOLE], "timedelta64[us]", None),
    "objects of dates": (DATES, object, None),
    "objects of dates before nanoseconds": ([d.replace(year=1021) for d in DATES], object, None),
    "objects of dates with a zone": (SYDNEY, object, None),
    "objects of times of an offset": (
        [dt.datetime(1021, 3, day, 1, tzinfo=dt.timezone(dt.timedelta(hours=2))) for day in (1, 2, 5, 9)],
        object,
        None,
    ),
    "objects of decimals": (AMOUNTS, object, None),
    "objects of fractions": ([Fraction(1, 3), Fraction(2, 3), Fraction(7, 5), Fraction(1, 7)], object, None),
    "arrow double": (NUMBERS, arrow(pa.float64()), None),
    "arrow halffloat": ([np.float16(x) for x in NUMBERS], arrow(pa.float16()), None),
    "arrow int64": (WHOLE, arrow(pa.int64()), None),
    "arrow bool": ([True, False, True, False], arrow(pa.bool_()), None),
    "arrow string": (WORDS, arrow(pa.string()), None),
    "arrow large_string": (WORDS, arrow(pa.large_string()), None),
    "arrow dictionary": (WORDS, arrow(pa.dictionary(pa.int32(), pa.string())), None),
    "arrow timestamp": (DATES, arrow(pa.timestamp("ns")), None),
    "arrow timestamp with a zone": (SYDNEY, arrow(pa.timestamp("us", "Australia/Sydney")), None),
    "arrow date32": (DATES, arrow(pa.date32()), None),
    "arrow decimal128": (
        [Decimal("1.50"), Decimal("2.25"), Decimal("3.75"), Decimal("4.50")],
        arrow(pa.decimal128(7, 2)),
        None,
    ),
    "arrow duration": ([dt.timedelta(hours=h) for h in WHOLE], arrow(pa.duration("s")), None),
}


def column_of(case: str, gaps: set[int]) -> pd.Series:
    values, dtype, _ = COLUMNS[case]
    return pd.Series([None if at in gaps else value for at, value in enumerate(values)], dtype=dtype)


def completed_with(frame: pd.DataFrame, table: Table, source: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A completed frame and its means, every gap filled with what the model holds of one observed row."""
    cells = np.stack(np.nonzero(~table.mask.numpy()))
    x = table.x.numpy()[source, cells[1]]
    numbers = np.array([table.schema.columns[d].decode(np.array([x[at]]))[0] for at, d in enumerate(cells[1])])
    imputations = Imputations(table, cells, numbers[None], numbers, np.ones(len(table)))
    return next(imputations.frames()), imputations.mean()


@pytest.mark.parametrize("case", COLUMNS)
@given(gaps=st.sets(st.integers(0, 3), max_size=2))
@settings(max_examples=8, deadline=None)
@pytest.mark.filterwarnings("ignore:constant columns")
def test_a_gap_gets_the_value_of_another_row_in_the_columns_own_dtype(case: str, gaps: set[int]) -> None:
    """Reading, standardising and filling in, there and back: the other row's very value, and all others untouched."""
    values, kind = column_of(case, gaps), COLUMNS[case][2]
    frame = pd.DataFrame({"x": values, "y": [0.5, 1.5, 2.5, 3.25]}, index=[4, 4, 5, 6])
    frame["x"] = values.array
    source = min(set(range(4)) - gaps)
    if plain(values).nunique() < 2 and (
        kind in ("categorical", "ordinal") or not pd.api.types.is_numeric_dtype(plain(values).dtype)
    ):
        return  # one word tells nothing; what is said then stands in test_codes
    table = Table.from_frame(frame, auxiliary=[], kinds={} if kind is None else {"x": kind})
    completed, mean = completed_with(frame, table, source)
    assert completed["x"].dtype == frame["x"].dtype
    assert mean["x"].notna().all()
    expected, found = frame["x"].tolist(), completed["x"].tolist()
    for at in range(4):
        want = expected[source] if at in gaps else expected[at]
        assert type(found[at]) is type(want)
        assert found[at] == want, (at, gaps)
    pd.testing.assert_index_equal(completed.index, frame.index)


@pytest.mark.parametrize("case", COLUMNS)
def test_a_column_without_any_value_is_refused_by_name_and_carried_if_asked(case: str) -> None:
    frame = pd.DataFrame({"x": column_of(case, {0, 1, 2, 3}), "y": [0.5, 1.5, None, 3.25]})
    with pytest.raises(ValueError, match=r"'x': expected at least one observed value, got none.*carry=\['x'\]"):
        Table.from_frame(frame, auxiliary=[])
    table = Table.from_frame(frame, auxiliary=[], carry=["x"])
    pd.testing.assert_series_equal(completed_with(frame, table, 0)[0]["x"], frame["x"])


@pytest.mark.parametrize("case", COLUMNS)
def test_as_an_auxiliary(case: str) -> None:
    frame = pd.DataFrame({"x": column_of(case, set()), "y": [0.5, 1.5, None, 3.25]})
    table = Table.from_frame(frame, auxiliary=["x"])
    assert table.aux.isfinite().all()
    pd.testing.assert_series_equal(completed_with(frame, table, 0)[0]["x"], frame["x"])


def test_a_zones_dates_are_imputed_by_its_own_clock() -> None:
    """A column of Sydney midnights gets midnights, in summer and in winter time, whoever holds it."""
    days = pd.date_range("2021-01-01", periods=200, tz="Australia/Sydney")
    for dtype in ("datetime64[us, Australia/Sydney]", arrow(pa.timestamp("us", "Australia/Sydney"))):
        values = pd.Series(days).astype(dtype).mask(np.arange(200) % 5 == 1)
        frame = pd.DataFrame({"day": values, "y": np.linspace(0, 1, 200) ** 2})
        table = Table.from_frame(frame, auxiliary=[])
        for source in (0, 150):
            completed = completed_with(frame, table, source)[0]["day"]
            assert {stamp.hour for stamp in completed.tolist()} == {0}
            assert completed[frame["day"].isna()].tolist() == [completed.iloc[source]] * 40


def test_decimals_keep_their_digits_and_means_have_more() -> None:
    values = pd.Series([Decimal("1.50"), None, Decimal("4.25"), Decimal("0.10")])
    for dtype, number, expected in ((object, 1.23456789, "1.23"), (arrow(pa.decimal128(4, 2)), 1234.56789, "99.99")):
        frame = pd.DataFrame({"x": values.astype(dtype), "y": [0.5, 1.5, 2.5, 3.25]})
        table = Table.from_frame(frame, auxiliary=[])
        cells, draw = np.array([[1], [0]]), np.array([number])
        imputations = Imputations(table, cells, draw[None], draw, np.ones(4))
        assert next(imputations.frames())["x"].iloc[1] == Decimal(expected)
        assert float(imputations.mean()["x"].iloc[1]) == number


def test_attributes_of_the_frame_and_text_in_complete_columns_stay() -> None:
    frame = pd.DataFrame({"note": pd.Series([*"abab"], dtype=object), "y": [0.5, 1.5, None, 3.25]})
    frame.attrs["source"] = "survey"
    completed, mean = completed_with(frame, Table.from_frame(frame), 0)
    assert (completed.attrs, mean.attrs) == ({"source": "survey"}, {"source": "survey"})
    assert completed["note"].dtype == object


def test_draws_beyond_the_dates_that_nanoseconds_hold_end_there() -> None:
    frame = pd.DataFrame({"day": pd.Series([*DATES[:3], None], dtype="datetime64[ns]"), "y": [0.5, 1.5, 2.5, 3.25]})
    table = Table.from_frame(frame, auxiliary=[])
    imputations = Imputations(table, np.array([[3], [0]]), np.array([[1e6]]), np.array([-1e6]), np.ones(4))
    assert next(imputations.frames())["day"].iloc[3] == pd.Timestamp("2262-04-11")
    assert imputations.mean()["day"].iloc[3] == pd.Timestamp("1677-09-22")
