"""Columns that are not to be modelled: declared, or found to be identifiers and text; they come back as they were."""

from __future__ import annotations

import re
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_mnar import Fit, Schema, Table, fit, impute
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.kinds.identifiers import why_carried
from pyro_mnar.models import GINA

ROWS = 60


@pytest.fixture
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    age = rng.normal(50.0, 10.0, ROWS)
    return pd.DataFrame(
        {
            "id": [f"{at:03d}" for at in rng.permutation(ROWS)],
            "age": age,
            "comment": [None if at % 7 == 0 else f"a remark {at}" for at in range(ROWS)],
            "income": np.where(rng.random(ROWS) < 0.7, age + rng.normal(0.0, 5.0, ROWS), np.nan),
            "seen": pd.date_range("2021-01-01", periods=ROWS, tz="Europe/Berlin"),
        },
        index=pd.Index(range(7, 7 + ROWS), name="line"),
    )


def fitted_to(table: Table) -> Fit:
    model = GINA(table, seed=0)
    return fit(model, ZeroImpute(table, model.latent_dim, seed=0), table, seed=0, epochs=2, progress=False)


def test_carried_columns_stand_in_every_completed_frame_as_they_came(frame: pd.DataFrame) -> None:
    table = Table.from_frame(frame, carry=["id", "comment", "seen"])
    assert table.schema.names == ["age", "income"]
    assert table.schema.names_of("carried") == ["id", "comment", "seen"]
    assert "carried: 3" in repr(table)
    imputations = impute(fitted_to(table), table, num_draws=2, num_particles=5)
    for completed in (imputations.mean(), *imputations.frames()):
        assert completed["income"].notna().all()
        pd.testing.assert_frame_equal(completed.drop(columns="income"), frame.drop(columns="income"))
        assert list(completed.columns) == list(frame.columns)


def test_no_model_sees_them(frame: pd.DataFrame) -> None:
    """The same draws, bit by bit, whatever stands in the carried columns, and without them."""
    carried = ["id", "comment", "seen"]
    others = [frame.drop(columns=carried), frame.assign(id=range(ROWS), comment="x", seen=np.nan)]
    table = Table.from_frame(frame, carry=carried)
    draws = impute(fitted_to(table), table, num_draws=2, num_particles=5).draws
    for other in others:
        table = Table.from_frame(other, carry=[name for name in carried if name in other])
        np.testing.assert_array_equal(impute(fitted_to(table), table, num_draws=2, num_particles=5).draws, draws)


def test_new_rows_may_lack_them_and_bring_others(frame: pd.DataFrame) -> None:
    result = fitted_to(Table.from_frame(frame, carry=["id", "comment", "seen"]))
    new = frame[["income", "age"]].head(5).assign(note=list("abcde"))
    (completed,) = impute(result, new, num_draws=1, num_particles=5).frames()
    assert list(completed.columns) == ["income", "age", "note"]
    assert completed["income"].notna().all()
    assert completed["note"].tolist() == list("abcde")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"carry": ["age"], "kinds": {"age": "count"}}, "'age': expected a kind or to be carried, got both"),
        ({"carry": ["age"], "auxiliary": ["age"]}, "'age': expected one role, got auxiliary and carried"),
        ({"carry": ["rent"]}, "'rent': expected one of"),
        ({"carry": ["age", "income"]}, "expected at least one column to model, got auxiliary and carried columns only"),
        ({"carry": ["age"], "by_design": {"age": [False] * ROWS}}, None),
        ({"carry": ["income"], "by_design": {"income": [-1]}}, None),
    ],
)
@pytest.mark.filterwarnings("ignore:by_design of column", "ignore:no auxiliary columns")
def test_a_column_has_one_role(frame: pd.DataFrame, options: dict[str, object], message: str | None) -> None:
    table = frame[["age", "income"]]
    if message is None:  # nothing is marked, so there is nothing to refuse
        assert len(Table.from_frame(table, **options).schema.names) == 1
        return
    with pytest.raises(ValueError, match=message):
        Table.from_frame(table, **options)
    with pytest.raises(TypeError, match="carry: expected a list of column names, got 'age'"):
        Table.from_frame(table, carry="age")


def test_the_schema_keeps_them(frame: pd.DataFrame, tmp_path: Path) -> None:
    schema = Table.from_frame(frame, carry=["id", "comment", "seen"]).schema
    assert Schema.from_dict(schema.to_dict()) == schema
    torch.save(schema.to_dict(), tmp_path / "schema")
    assert Schema.from_dict(torch.load(tmp_path / "schema", weights_only=True)) == schema
    assert schema.describe_kinds().loc["id", ["kind", "because"]].tolist() == ["carried", "declared"]


ROW = np.arange(200)
UNLEARNABLE = {
    "names": ("name", [f"person {i}" for i in ROW], "200 different words in 200 rows"),
    "nearly all different": ("name", [f"person {i // 2}" for i in ROW], "100 different words in 200 rows"),
    "names beside gaps": ("name", [None if i % 2 else f"person {i}" for i in ROW], "100 different words in 100 rows"),
    "a category of names": ("name", pd.Categorical([f"p{i}" for i in ROW]), "200 different words in 200 rows"),
    "eight texts": ("comment", [f"I went there {i} times or more" for i in range(8)], "free text, 8 different words"),
    "a frame's index": ("Unnamed: 0", ROW + 5000, "the index of a frame, written to a file"),
    "a separator too many": ("Unnamed: 3", [None] * 200, "neither a name nor a value"),
    "rows counted from one": ("row", ROW + 1, "the rows, counted from 1"),
    "rows counted, nullable": ("row", pd.array(ROW, dtype="Int64"), "the rows, counted from 0"),
    "an identifier by its name": ("person_id", 10_000 + 17 * ROW, "an identifier by its name"),
    "an identifier beside gaps": (
        "id",
        np.where(ROW % 5, 10_000.0 + 17 * ROW, np.nan),
        "an identifier by its name, 160 different numbers in 160 rows",
    ),
    "nearly all different numbers": (
        "ID",
        10_000 + 17 * np.minimum(ROW, 185),
        "an identifier by its name, 186 different numbers in 200 rows",
    ),
}


@pytest.mark.parametrize("case", UNLEARNABLE)
def test_what_rows_cannot_teach_is_carried_and_said(case: str) -> None:
    name, values, reason = UNLEARNABLE[case]
    frame = pd.DataFrame({name: values, "x": np.linspace(0.0, 1.0, len(values)) ** 2})
    with pytest.warns(UserWarning, match=re.escape(f"carried through, neither modelled nor used: '{name}' ({reason}")):
        schema = Table.from_frame(frame, auxiliary=[]).schema
    assert schema.names == ["x"]
    assert schema.names_of("carried") == [name]
    with warnings.catch_warnings(action="error"):
        assert Table.from_frame(frame, auxiliary=[], carry=[name]).schema.names == ["x"]


LEARNABLE = {
    "few words": ("town", ["a", "b", "c", "d"] * 50),
    "forty words, five rows each": ("town", [f"t{i % 40}" for i in ROW]),
    "three words in three rows": ("town", ["a", "b", "c"]),
    "years": ("year", ROW + 1800),
    "different whole numbers": ("income", 10_000 + 17 * ROW),
    "numbers called an identifier, seen twice": ("person_id", ROW // 2),
    "counted from 0 but for gaps": ("wave", np.where(ROW % 5, ROW, np.nan)),
    "floats": ("id", ROW + 0.5),
    "a word that ends in id": ("paid", 10_000 + 17 * ROW),
    "dates": ("id", pd.date_range("2021-01-01", periods=200)),
    "booleans": ("Unnamed: 0", ROW % 2 == 0),
}


@pytest.mark.parametrize("case", LEARNABLE)
def test_what_rows_can_teach_is_modelled(case: str) -> None:
    name, values = LEARNABLE[case]
    assert why_carried(pd.Series(values), name) == ""


def test_a_kind_overrules() -> None:
    frame = pd.DataFrame({"row": ROW, "x": np.linspace(0.0, 1.0, 200) ** 2})
    with warnings.catch_warnings(action="error"):
        schema = Table.from_frame(frame, auxiliary=[], kinds={"row": "continuous"}).schema
    assert schema.names == ["row", "x"]


@pytest.mark.parametrize("options", [{"kinds": {"name": "categorical"}}, {"auxiliary": ["name"]}], ids=["kind", "U"])
def test_more_levels_than_rows_can_teach_are_refused_before_memory_is_taken(options: dict[str, object]) -> None:
    frame = pd.DataFrame({"name": [f"p{i}" for i in range(1500)], "x": np.linspace(0.0, 1.0, 1500) ** 2})
    tracemalloc.start()
    message = (
        r"'name': expected at least 2 rows for each level on average, got 1500 levels in 1500 rows \(about .* in a"
        r" training step\); carry=\['name'\]"
    )
    with pytest.raises(ValueError, match=message):
        Table.from_frame(frame, **options)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


def test_the_memory_of_levels_is_that_of_a_training_step() -> None:
    """Five particles of 128 rows, for each level an indicator of every level: 640 · 1500² · 8 bytes."""
    frame = pd.DataFrame({"name": [f"p{i}" for i in range(1500)]})
    with pytest.raises(ValueError, match=rf"about {640 * 1500**2 * 8 / 1e9:.1f} GB"):
        Table.from_frame(frame, kinds={"name": "categorical"})


def test_levels_beyond_the_machines_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyro_mnar.kinds.identifiers._memory", lambda: 1e6)
    frame = pd.DataFrame({"town": [f"t{i % 40}" for i in ROW], "x": ROW + 0.5})
    with pytest.raises(
        ValueError, match=r"'town': expected levels that fit into memory, got 40, which take about 8.2 MB"
    ):
        Table.from_frame(frame)
