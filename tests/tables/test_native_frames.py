"""Frames of other makes: polars in, polars out, and Arrow; columns without gaps are the frame's own."""

from __future__ import annotations

import datetime as dt
import decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pyro_mnar import Fit, Imputations, Table, fit, impute
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.models import GINA

pl = pytest.importorskip("polars")
pytest.importorskip("narwhals")

ROWS = 24
RNG = np.random.default_rng(0)
DAY = dt.datetime(2020, 10, 1)
COLUMNS: dict[str, Any] = {
    "x": pl.Series(RNG.normal(size=ROWS)),
    "int8": pl.Series(RNG.integers(20, 60, ROWS), dtype=pl.Int8),
    "uint64": pl.Series(RNG.integers(0, 9, ROWS), dtype=pl.UInt64),
    "float32": pl.Series(RNG.normal(size=ROWS), dtype=pl.Float32),
    "boolean": pl.Series(RNG.random(ROWS) < 0.5),
    "text": pl.Series(RNG.choice(["A", "B", "NA"], ROWS)),
    "categorical": pl.Series(RNG.choice(["p", "q", "r"], ROWS), dtype=pl.Categorical),
    "enum": pl.Series(RNG.choice(["low", "mid", "high"], ROWS), dtype=pl.Enum(["low", "mid", "high"])),
    "date": pl.Series([DAY.date() + dt.timedelta(days=int(d)) for d in RNG.integers(0, 90, ROWS)]),
    "sydney": pl.Series([DAY + dt.timedelta(days=int(d)) for d in RNG.integers(0, 9, ROWS)]).dt.replace_time_zone(
        "Australia/Sydney"
    ),
    "time": pl.Series([DAY + dt.timedelta(hours=float(h)) for h in RNG.normal(size=ROWS)], dtype=pl.Datetime("ms")),
    "duration": pl.Series([dt.timedelta(hours=int(h)) for h in RNG.integers(0, 99, ROWS)]),
    "decimal": pl.Series([decimal.Decimal(int(d)) / 4 for d in RNG.integers(0, 99, ROWS)], dtype=pl.Decimal(10, 2)),
}


def with_gaps() -> Any:
    frame = pl.DataFrame(COLUMNS)
    at = pl.int_range(ROWS)
    gaps = [
        pl.when(at % 7 != number % 7).then(pl.col(name)).alias(name) for number, name in enumerate(list(COLUMNS)[1:])
    ]
    return frame.with_columns(gaps).with_columns(note=pl.Series([[1, 2]] * ROWS), id=pl.int_range(ROWS).cast(pl.String))


def fitted(table: Table) -> Fit:
    model = GINA(table, latent_dim=1, seed=0)
    return fit(model, ZeroImpute(table, 1, hidden=(4,), seed=0), table, epochs=1, seed=0, progress=False)


def imputed(frame: Any, **options: Any) -> Imputations:
    table = Table.from_frame(frame, auxiliary=["x"], **options)
    return impute(fitted(table), table, num_draws=2, num_particles=5)


def test_every_dtype_comes_back() -> None:
    frame = with_gaps()
    imputations = imputed(frame, carry=["note", "id"])
    completed = next(imputations.frames())
    assert isinstance(completed, pl.DataFrame) and completed.schema == frame.schema
    assert completed.null_count().sum_horizontal().item() == 0
    for name in frame.columns:
        seen = frame[name].is_not_null()
        assert completed[name].filter(seen).equals(frame[name].filter(seen))
    assert set(completed["text"]) <= {"A", "B", "NA"}
    assert (completed["sydney"].dt.hour() == 0).all()  # midnights there, as all that were seen
    mean = imputations.mean()
    assert mean.schema["int8"] == pl.Float64 and mean.schema["enum"] == frame.schema["enum"]
    assert mean.null_count().sum_horizontal().item() == 0


def test_kinds_are_those_of_the_dtypes() -> None:
    kinds = Table.from_frame(with_gaps(), auxiliary=["x"], carry=["note", "id"]).schema.kinds
    expected = {"enum": "ordinal", "boolean": "binary", "date": "datetime", "categorical": "categorical"}
    assert {name: kinds[name] for name in expected} == expected


def test_the_same_numbers_as_from_pandas() -> None:
    frame = with_gaps().select("x", "float32", "text")
    by_pandas = frame.to_pandas()
    for one, other in zip(imputed(frame).frames(), imputed(by_pandas).frames(), strict=True):
        np.testing.assert_array_equal(one["float32"].to_numpy(), other["float32"].to_numpy())
        assert one["text"].to_list() == other["text"].tolist()


def test_columns_without_gaps_are_not_copied() -> None:
    frame = with_gaps().select("x", "float32").with_columns(y=pl.Series(RNG.normal(size=ROWS)))
    (completed, _) = imputed(frame).frames()
    for name in ("x", "y"):
        before, after = (one[name].to_numpy(allow_copy=False) for one in (frame, completed))
        assert before.__array_interface__["data"] == after.__array_interface__["data"]


def test_nan_is_a_gap_too() -> None:
    frame = pl.DataFrame({"x": [1.0, 2.0, 3.0, 4.0], "y": [1.0, float("nan"), None, 2.5]})
    for completed in imputed(frame).frames():
        assert np.isfinite(completed["y"].to_numpy()).all()


def test_new_rows_codes_skip_patterns_and_derived_columns() -> None:
    frame = with_gaps().select("x", "int8", "text", "float32").with_columns(double=2 * pl.col("float32"))
    options: dict[str, Any] = {"not_applicable": {"int8": "text == 'b'"}, "derived": {"double": "2 * float32"}}
    frame = frame.with_columns(int8=pl.when(pl.col("text") != "b").then(pl.col("int8")))
    table = Table.from_frame(frame, auxiliary=["x"], **options)
    for completed in impute(fitted(table), frame.head(9), num_draws=2).frames():
        assert completed["int8"].is_null().equals(completed["text"] == "b")
        np.testing.assert_allclose(completed["double"], 2 * completed["float32"], rtol=1e-6)
    coded = frame.with_columns(float32=pl.col("float32").fill_null(-99), double=None)
    for completed in imputed(coded, na_values={"float32": -99}, carry=["double"]).frames():
        assert (completed["float32"] != -99).all()


def test_a_formula_is_pooled_and_a_function_sees_polars() -> None:
    pytest.importorskip("statsmodels")
    imputations = imputed(with_gaps().select("x", "float32"))
    assert imputations.pool("float32 ~ x").names

    def mean(frame: Any) -> tuple[float, float]:
        assert isinstance(frame, pl.DataFrame)
        return frame["float32"].mean(), 0.1

    assert len(imputations.pool(mean).names) == 1


def test_arrow_tables_come_back_as_such() -> None:
    arrow = pytest.importorskip("pyarrow")
    table = with_gaps().select("x", "int8", "text", "sydney", "date", "decimal").to_arrow()
    completed = next(imputed(table).frames())
    assert isinstance(completed, arrow.Table) and completed.schema.types == table.schema.types
    assert all(column.null_count == 0 for column in completed.columns)


def test_what_is_no_eager_frame_is_refused() -> None:
    with pytest.raises(TypeError, match=r"expected a pandas DataFrame, got LazyFrame, whose collect\(\) gives"):
        Table.from_frame(with_gaps().lazy())
    with pytest.raises(TypeError, match="got list"):
        Table.from_frame([1, 2])
    assert isinstance(Table.from_frame(pd.DataFrame({"a": [1.0, 2.0, None]}), auxiliary=[]).frame, pd.DataFrame)
