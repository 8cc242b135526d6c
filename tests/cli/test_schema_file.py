"""Schema files: a draft says what was found, declares the same again, and a wrong entry is named."""

from __future__ import annotations

import json
import tomllib

import numpy as np
import pandas as pd
import pytest

from pyro_mnar.cli import main
from pyro_mnar.cli.declarations import Declarations
from pyro_mnar.cli.schema_file import declarations_in, draft

SURVEY = """id;school;income;kids;born;"a ""b"" = c"
007;primary;1,5;1;14/03/1990;x
008;tertiary;;-99;15/03/1990;y
009;;2,5;2;;x
010;secondary;3,25;3;01/02/1991;y
011;primary;-98;0;02/02/1991;x
"""
OPTIONS = [
    *("--decimal", ",", "--na-values", "-99,-98", "--date-format", "born=%d/%m/%Y", "--carry", "id"),
    *("--order", "school=primary,secondary,tertiary", "--kinds", "income=positive", "--lower", "income=0.5"),
]
QUICK = ["--epochs", "2", "--draws", "2", "--quiet"]


@pytest.fixture
def survey(tmp_path):
    path = tmp_path / "survey.csv"
    path.write_text(SURVEY)
    return path


def run(*arguments):
    return main([str(argument) for argument in arguments])


@pytest.mark.slow
def test_a_draft_declares_what_the_options_did(survey, tmp_path, capsys):
    assert run("describe", survey, *OPTIONS, "--write", tmp_path / "schema.toml") == 0
    said = capsys.readouterr().out
    assert "carried" in said and "ordinal" in said and "primary, secondary, tertiary" in said
    assert run("impute", survey, *OPTIONS, "--out", tmp_path / "a", *QUICK) == 0
    assert run("impute", survey, "--schema", tmp_path / "schema.toml", "--out", tmp_path / "b", *QUICK) == 0
    as_json = tmp_path / "schema.json"
    as_json.write_text(json.dumps(tomllib.loads((tmp_path / "schema.toml").read_text())))
    assert run("impute", survey, "--schema", as_json, "--out", tmp_path / "c", *QUICK) == 0
    for name in ("draw_01.csv", "draw_02.csv", "mean.csv"):
        texts = {(tmp_path / out / name).read_text() for out in "abc"}
        assert len(texts) == 1


def test_a_draft_of_a_draft_is_the_same(survey, tmp_path):
    assert run("describe", survey, *OPTIONS, "--write", tmp_path / "schema.toml") == 0
    declared = declarations_in(tmp_path / "schema.toml")
    again = draft(*declared.read(survey), declared)

    def entries(text):
        return [line.split("  #")[0] for line in text.splitlines()]

    assert entries(again) == entries((tmp_path / "schema.toml").read_text())


def test_options_hold_over_the_file(survey, tmp_path):
    assert run("describe", survey, *OPTIONS, "--write", tmp_path / "schema.toml") == 0
    in_file = declarations_in(tmp_path / "schema.toml")
    merged = Declarations(kinds={"school": "categorical"}, decimal=".", carry=("kids",)).over(in_file)
    assert (merged.kinds["school"], merged.kinds["income"], merged.decimal) == ("categorical", "positive", ".")
    assert "school" not in merged.order
    assert merged.carry == ("id", "kids")


def test_what_is_there_is_not_overwritten(survey, tmp_path, capsys):
    assert run("describe", survey, *OPTIONS, "--write", survey) == 2
    assert "not there yet" in capsys.readouterr().err
    assert survey.read_text() == SURVEY


WRONG = {
    "no TOML": ("sep = ", ["expected TOML"]),
    "an unknown entry": ("colour = 1", ["'colour'", "'columns'"]),
    "a number for text": ("sep = 1", ["'sep'", "text"]),
    "text for a list": ("na = 'NA'", ["'na'", "list"]),
    "auxiliary by name": ("auxiliary = ['kids']", ["'auxiliary'", "role"]),
    "columns that are none": ("columns = 3", ["'columns'"]),
    "a column that is none": ("[columns]\nkids = 3", ["'kids'"]),
    "an unknown entry of a column": ("[columns.kids]\ncolour = 1", ["'kids'", "'colour'", "'kind'"]),
    "an unknown role": ("[columns.kids]\nrole = 'spare'", ["'kids'", "'spare'", "'carry'"]),
    "an unknown kind": ("[columns.kids]\nkind = 'nominal'", ["'kids'", "'nominal'", "'count'"]),
    "a kind that is none": ("[columns.kids]\nkind = 3", ["'kids'", "kind"]),
    "an argument that a kind has not": ("[columns.kids]\nkind = {name = 'count', x = 2}", ["'kids'", "'x'"]),
    "levels of a count": ("[columns.kids]\nkind = 'count'\nlevels = [1, 2]", ["'kids'", "levels", "'ordinal'"]),
    "codes that are none": ("[columns.kids]\nna_values = [[1]]", ["'kids'", "na_values"]),
    "a column that is not there": ("[columns.cats]\nrole = 'carry'", ["'cats'"]),
    "two sources of U": ("auxiliary = 'mask'\n[columns.kids]\nrole = 'auxiliary'", ["both"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_entry_is_named(case, survey, tmp_path, capsys):
    text, parts = WRONG[case]
    (tmp_path / "schema.toml").write_text(text)
    assert run("describe", survey, "--decimal", ",", "--schema", tmp_path / "schema.toml") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert [part for part in parts if part not in said] == [], said


def test_a_file_that_is_no_json_is_named(survey, tmp_path, capsys):
    (tmp_path / "schema.json").write_text("[" * 100_000)
    assert run("describe", survey, "--schema", tmp_path / "schema.json") == 2
    assert "schema.json: expected JSON" in capsys.readouterr().err


def test_skip_patterns_derived_columns_and_weights(tmp_path, capsys):
    frame = pd.DataFrame({"x": np.arange(40) % 7, "moved": ["yes", "no"] * 20, "a": 2 + np.arange(40) % 5, "w": 1})
    frame["age"] = pd.Series(np.arange(40) + 30, dtype="Int64").where(frame["moved"] == "yes")
    frame["a"], frame["b"] = frame["a"].astype("Int64"), 2 * frame["a"]
    frame.loc[[3, 6, 8], "moved"] = pd.NA  # of whom number 6 has an age
    frame.loc[[4, 8], "age"] = pd.NA
    frame.loc[[1, 2, 9], "a"] = pd.NA
    frame.loc[5, "b"] = -9
    frame.to_csv(tmp_path / "t.csv", index=False)
    options = ["--not-applicable", "age=moved == 'no'", "--derived", "b=2 * a", "--na-values", "b=-9", "--weights", "w"]
    schema = tmp_path / "t.toml"
    assert main(["describe", str(tmp_path / "t.csv"), *options, "--write", str(schema)]) == 0
    written = schema.read_text()
    assert "not_applicable = \"moved == 'no'\"" in written and 'derived = "2 * a"' in written
    assert 'role = "weights"' in written
    quick = ["--epochs", "1", "--draws", "3", "--quiet", "--particles", "2"]
    given = ["--schema", str(schema), "--out", str(tmp_path / "out"), *quick]
    assert main(["impute", str(tmp_path / "t.csv"), *given]) == 0
    for path in (tmp_path / "out").glob("draw_*.csv"):
        completed = pd.read_csv(path)
        assert ((completed["moved"] == "no") == completed["age"].isna()).all()
        assert (completed["b"] == 2 * completed["a"]).all()
        assert completed.loc[6, "moved"] == "yes"
    schema.write_text('[columns."w"]\nrole = "weights"\n[columns."x"]\nrole = "weights"\n')
    assert main(["describe", str(tmp_path / "t.csv"), "--schema", str(schema)]) == 2
    assert "expected one column of role 'weights'" in capsys.readouterr().err
