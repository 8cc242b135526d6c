"""Columns and frames of every dtype, small enough to shrink."""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from hypothesis import strategies as st

from bad_inputs.case import FRAME

EXTREME = [0.0, -0.0, 1e-308, 5e-324, 1e-12, 1e6, 1e12, 1e100, 1e305, 1e308, -1e308, 0.1, 2.0**53 + 2, 3.5e38]
NUMBERS = st.one_of(
    st.integers(-4, 9).map(float),
    st.floats(-100, 100, allow_nan=False),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(EXTREME),
    st.sampled_from([np.inf, -np.inf]),
)
WHOLE = st.one_of(st.integers(-3, 8), st.integers(-(2**63), 2**63 - 1), st.sampled_from([2**53 + 1, -(2**63), 10**15]))
WORDS = st.one_of(
    st.sampled_from(
        ["", " ", "a", "b", "c", "NA", "nan", "1", "2.5", "1e999", "True", "ja\nnein", "Ärger", "0", "x,y"]
    ),
    st.text(max_size=4),
)
MOMENTS = st.one_of(
    st.datetimes(dt.datetime(1999, 1, 1), dt.datetime(2001, 1, 1)),
    st.sampled_from([dt.datetime(1677, 10, 1), dt.datetime(2262, 1, 1), dt.datetime(2020, 10, 25, 2, 30)]),
)
ODD: list[Callable[[], Any]] = [
    lambda: [1],
    lambda: {"x": 1},
    lambda: (1, 2),
    lambda: {1},
    lambda: b"x",
    lambda: 1j,
    lambda: len,
    lambda: np.array([1.0, 2.0]),
    lambda: decimal.Decimal("1.10"),
    lambda: decimal.Decimal("NaN"),
    lambda: decimal.Decimal("1E+500"),
    lambda: Fraction(1, 3),
    lambda: 10**400,
    lambda: True,
    lambda: dt.date(2020, 1, 1),
    lambda: dt.time(1, 2),
    lambda: dt.timedelta(1),
    lambda: pd.Timestamp("2020-01-01", tz="UTC"),
    lambda: pd.Period("2020-03", freq="M"),
    lambda: pd.Interval(0, 1),
    lambda: np.datetime64("NaT"),
    lambda: np.str_("a"),
    lambda: np.int64(3),
    lambda: pd.NA,
    lambda: float("inf"),
    lambda: object,
    lambda: "a",
    lambda: 2,
]
# What a column is made of, by the name of what comes of it.
MAKERS: dict[str, tuple[st.SearchStrategy[Any], Callable[[list[Any]], pd.Series]]] = {
    "float64": (NUMBERS, lambda v: pd.Series(v, dtype="float64")),
    "float32": (NUMBERS, lambda v: _quietly(lambda: pd.Series(v, dtype="float64").astype("float32"))),
    "float16": (NUMBERS, lambda v: _quietly(lambda: pd.Series(v, dtype="float64").astype("float16"))),
    "Float64": (NUMBERS, lambda v: pd.Series(v, dtype="Float64")),
    "double[pyarrow]": (NUMBERS, lambda v: pd.Series(v, dtype="double[pyarrow]")),
    "Sparse": (NUMBERS, lambda v: pd.Series(v, dtype="Sparse[float64]")),
    "int64": (WHOLE, lambda v: pd.Series([0 if x is None else x for x in v], dtype="int64")),
    "uint8": (st.integers(0, 255), lambda v: pd.Series([0 if x is None else x for x in v], dtype="uint8")),
    "Int64": (WHOLE, lambda v: pd.Series(v, dtype="Int64")),
    "Int8": (st.integers(-128, 127), lambda v: pd.Series(v, dtype="Int8")),
    "int64[pyarrow]": (WHOLE, lambda v: pd.Series(v, dtype="int64[pyarrow]")),
    "bool": (st.booleans(), lambda v: pd.Series([bool(x) for x in v], dtype="bool")),
    "boolean": (st.booleans(), lambda v: pd.Series(v, dtype="boolean")),
    "bool[pyarrow]": (st.booleans(), lambda v: pd.Series(v, dtype="bool[pyarrow]")),
    "object of booleans": (st.booleans(), lambda v: pd.Series(v, dtype=object)),
    "object of numbers": (st.one_of(WHOLE, NUMBERS), lambda v: pd.Series(v, dtype=object)),
    "object of words": (WORDS, lambda v: pd.Series(v, dtype=object)),
    "object of anything": (st.sampled_from(ODD).map(lambda make: make()), lambda v: _objects(v)),
    "string": (WORDS, lambda v: pd.Series(v, dtype="string")),
    "str": (WORDS, lambda v: pd.Series(v, dtype="str")),
    "category": (WORDS, lambda v: pd.Series(pd.Categorical(v))),
    "category of numbers": (NUMBERS, lambda v: pd.Series(pd.Categorical(v))),
    "ordered": (st.integers(0, 5), lambda v: pd.Series(pd.Categorical(v, categories=[5, 3, 1, 0, 2, 4], ordered=True))),
    "datetime64": (MOMENTS, lambda v: pd.Series(pd.to_datetime(pd.Series(v, dtype="object")))),
    "datetime64[s]": (MOMENTS, lambda v: pd.Series(v, dtype="datetime64[s]")),
    "datetime of a zone": (MOMENTS, lambda v: _zoned(v)),
    "timedelta": (st.timedeltas(dt.timedelta(-9), dt.timedelta(9)), lambda v: pd.Series(v, dtype="timedelta64[ns]")),
    "period": (
        st.integers(0, 9),
        lambda v: pd.Series([None if x is None else pd.Period(str(2000 + x), "Y") for x in v]),
    ),
    "interval": (st.integers(0, 9), lambda v: pd.Series([None if x is None else pd.Interval(x, x + 1) for x in v])),
    "complex": (NUMBERS, lambda v: pd.Series([np.nan if x is None else complex(x, 1) for x in v])),
    "bytes": (st.binary(max_size=2), lambda v: pd.Series(v, dtype=object)),
    "dates": (st.dates(dt.date(2000, 1, 1), dt.date(2000, 2, 1)), lambda v: pd.Series(v, dtype=object)),
    "Decimals": (st.decimals(-9, 9, places=2), lambda v: pd.Series(v, dtype=object)),
}
LABELS = st.one_of(
    st.sampled_from(["a", "b", "c", "d", "e", "u"]),
    st.sampled_from(["a", 0, 1, None, ("a", 1), 1.5, float("nan"), "", "a b", "R[a]", "draw", "Z", "ä", True]),
)


@st.composite
def columns(draw: st.DrawFn, num_rows: int) -> pd.Series:
    """A column, with gaps: of few different values, as tables have them, or of all kinds of them."""
    strategy, make = MAKERS[draw(st.sampled_from(sorted(MAKERS)))]
    some = draw(st.lists(strategy, min_size=1, max_size=draw(st.sampled_from([1, 2, 4, 12]))))
    random = np.random.default_rng(draw(st.integers(0, 2**16)))
    share = draw(st.sampled_from([0.0, 0.0, 0.3, 0.6, 0.95, 1.0]))
    gaps = random.random(num_rows) < share
    values = [None if gap else some[at] for gap, at in zip(gaps, random.integers(0, len(some), num_rows), strict=True)]
    return make(values)


@st.composite
def frames(draw: st.DrawFn) -> pd.DataFrame:
    """A frame of a few of them, labels of columns and rows among the usual and others."""
    num_rows = draw(st.sampled_from([0, 1, 2, 5, 12, 30, 30, 60]))
    labels = draw(st.lists(LABELS, max_size=5, unique_by=repr) | st.sampled_from([["a", "b"], ["a", "b", "c", "u"]]))
    made = [draw(columns(num_rows)) for _ in labels]
    if not made:
        return pd.DataFrame(index=range(num_rows))
    frame = pd.concat(made, axis=1, ignore_index=True)
    frame.columns = pd.Index(labels, dtype=object, tupleize_cols=False)
    index = draw(st.sampled_from(["range", "repeated", "words", "moments", "two levels", "gaps"]))
    if index == "repeated":
        frame.index = pd.Index([7] * num_rows)
    elif index == "words":
        frame.index = pd.Index([f"r{at}" for at in range(num_rows)], name="a")
    elif index == "moments":
        frame.index = pd.date_range("2020-01-01", periods=num_rows, tz="UTC")
    elif index == "two levels":
        frame.index = pd.MultiIndex.from_arrays([range(num_rows), ["x"] * num_rows], names=["a", None])
    elif index == "gaps" and num_rows:
        frame.index = pd.Index([np.nan, *range(1, num_rows)])
    return frame


ORDINARY = {
    "float64": lambda random, n: random.normal(size=n),
    "float32": lambda random, n: random.normal(size=n).astype("float32"),
    "Float64": lambda random, n: pd.array(random.lognormal(size=n), dtype="Float64"),
    "double[pyarrow]": lambda random, n: pd.array(random.normal(size=n), dtype="double[pyarrow]"),
    "Int64": lambda random, n: pd.array(random.integers(0, 5, n), dtype="Int64"),
    "int64[pyarrow]": lambda random, n: pd.array(random.integers(0, 90, n), dtype="int64[pyarrow]"),
    "boolean": lambda random, n: pd.array(random.random(n) < 0.4, dtype="boolean"),
    "object": lambda random, n: random.choice(np.array(["ash", "elm", "oak"], dtype=object), n),
    "str": lambda random, n: pd.array(random.choice(["ash", "elm", "oak"], n), dtype="str"),
    "string": lambda random, n: pd.array(random.choice(["ash", "elm", "oak"], n), dtype="string"),
    "arrow": lambda random, n: pd.array(random.choice(["ash", "elm", "oak"], n), dtype=pd.ArrowDtype(pa.string())),
    "category": lambda random, n: pd.Categorical(random.choice(["ash", "elm", "oak"], n)),
    "ordered": lambda random, n: pd.Categorical(random.choice([3, 1, 2], n), [3, 1, 2], ordered=True),
    "dates": lambda random, n: pd.Timestamp("2020-01-01") + pd.to_timedelta(random.integers(0, 900, n), unit="D"),
    "dates of a zone": lambda random, n: pd.date_range("2020-01-01", periods=n, tz="Europe/Paris"),
}


@st.composite
def ordinary_frames(draw: st.DrawFn) -> pd.DataFrame:
    """A frame as people have them: forty rows, values that are all of one kind, at most half of them missing."""
    random = np.random.default_rng(draw(st.integers(0, 2**16)))
    made = draw(st.lists(st.sampled_from(sorted(ORDINARY)), min_size=1, max_size=5))
    frame = pd.DataFrame({f"x{at}": ORDINARY[name](random, 40) for at, name in enumerate(made)})
    for name in frame:
        gaps = random.random(40) < draw(st.sampled_from([0.0, 0.2, 0.5]))
        frame[name] = frame[name].where(~gaps)
    return frame


PLAIN = st.one_of(st.just(FRAME), frames())


def _objects(values: list[Any]) -> pd.Series:
    array = np.empty(len(values), dtype=object)
    for at, value in enumerate(values):
        array[at] = value
    return pd.Series(array, dtype=object)


def _zoned(values: list[Any]) -> pd.Series:
    moments = pd.Series(pd.to_datetime(pd.Series(values, dtype="object")), dtype="datetime64[us]")
    return moments.dt.tz_localize("UTC").dt.tz_convert("Europe/Paris")


def _quietly(make: Callable[[], pd.Series]) -> pd.Series:
    with np.errstate(all="ignore"):
        return make()
