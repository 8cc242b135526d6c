"""From a fit in a file to results: each command reads what the one before it wrote, and says the same to machines."""

from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import pytest

from pyro_mnar import Fit, pool_frames
from pyro_mnar.cli import main

FORMULA = "income ~ age"
RUNNING = ["--quiet", "--seed", "1"]


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def json_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict:
    """What a command says to machines; nothing else may stand on standard output."""
    capsys.readouterr()
    status = run(*arguments, "--json")
    printed = capsys.readouterr()
    assert status in (0, 1), printed.err
    return {**json.loads(printed.out), "status": status}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory):
    """A survey with decimal commas and codes, two fits to it that hold out the same rows, and completed tables."""
    here = tmp_path_factory.mktemp("verbs")
    random = np.random.default_rng(0)
    age = random.normal(45, 12, 120).round(1)
    income = (40 * age + random.normal(0, 300, 120)).round(1)
    survey = pd.DataFrame({"id": [f"p{at:03}" for at in range(120)], "age": age, "income": income})
    survey["income"] = survey["income"].mask(income > 2200)
    survey["rooms"] = np.where(np.arange(120) < 12, -97, random.integers(1, 5, 120))
    survey.loc[random.random(120) < 0.1, "rooms"] = np.nan
    text = survey.to_csv(index=False, sep=";", decimal=",", float_format="%.1f").replace("-97,0", "-97")
    (here / "survey.csv").write_text(text)
    declared = ["--sep", ";", "--decimal", ",", "--carry", "id", "--auxiliary", "age", "--not-applicable", "rooms=-97"]
    for name, mechanism in (("own", "self-masking"), ("latent", "latent-dependent")):
        options = ["--mechanism", mechanism, "--epochs", 2, "--held-out", 0.25, "--no-ignorable", *RUNNING]
        assert run("fit", here / "survey.csv", *declared, *options, "--out", here / f"{name}.fit") == 0
    fit = ["--fit", here / "own.fit", "--draws", 4]
    assert run("impute", here / "survey.csv", *fit, "--out", here / "done", *RUNNING) == 0
    return here


def test_a_fit_in_a_file_is_read_with_its_own_declarations(folder, capsys):
    fit = Fit.load(folder / "own.fit")
    assert fit.schema.names_of("carried") == ["id"] and len(fit.notes["held_out"]) == 30
    before, draw = (
        pd.read_csv(folder / name, sep=";", dtype=str, keep_default_na=False)
        for name in ("survey.csv", "done/draw_01.csv")
    )
    assert draw.where(before != "", "").equals(before) and (draw != "").all(axis=None)
    arguments = ["impute", folder / "survey.csv", "--fit", folder / "own.fit", "--out", folder / "x"]
    for option, value in (("--epochs", 3), ("--carry", "id")):
        assert run(*arguments, option, value) == 2
        assert option in capsys.readouterr().err
    assert run("fit", folder / "survey.csv", "--sep", ";", "--out", folder / "own.fit") == 2
    assert "--force" in capsys.readouterr().err
    assert run("fit", folder / "survey.csv", "--out", folder / "survey.csv", "--force") == 2
    assert "is the file that is read" in capsys.readouterr().err


def test_pooled_tables_are_those_of_the_files(folder, capsys):
    found = json_of(capsys, "pool", folder / "done", "income ~ age + rooms")
    frames = []
    for at in range(1, 5):
        text = (folder / "done" / f"draw_0{at}.csv").read_text()
        frame = pd.read_csv(io.StringIO(text), sep=";", decimal=",")
        frames.append(frame[frame["rooms"] != -97])  # a code is no number of rooms
    pooled = pool_frames(frames, "income ~ age + rooms").to_frame()
    told = pd.DataFrame(found["coefficients"]).set_index("coefficient")
    assert list(told.index) == ["Intercept", "age", "rooms"]
    np.testing.assert_allclose(told[["estimate", "lower", "fmi"]], pooled[["estimate", "lower", "fmi"]], rtol=1e-9)
    assert "same parameters" in found["note"]
    assert run("pool", folder / "done", "income ~ age") == 0
    assert "age" in capsys.readouterr().out


def test_tables_that_were_changed_are_not_pooled(folder, tmp_path, capsys):
    assert run("pool", tmp_path, FORMULA) == 2
    assert "manifest.json" in capsys.readouterr().err
    for place in (folder / "done").iterdir():
        (tmp_path / place.name).write_bytes(place.read_bytes())
    (tmp_path / "draw_02.csv").write_text((tmp_path / "draw_01.csv").read_text())
    assert run("pool", tmp_path, FORMULA) == 2
    assert "draw_02.csv" in capsys.readouterr().err


def test_pooled_regressions_have_the_survey_s_weights(tmp_path, capsys):
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"age": random.normal(45, 12, 60).round(1), "people": random.choice([1, 9], 60)})
    frame["income"] = (frame["age"] * np.where(frame["people"] == 9, 3, 1) + random.normal(size=60)).round(2)
    frame.loc[::7, "income"] = np.nan
    frame.to_csv(tmp_path / "survey.csv", index=False)
    arguments = ["--weights", "people", "--auxiliary", "age", "--epochs", 1, "--draws", 3, "--out", tmp_path / "done"]
    assert run("impute", tmp_path / "survey.csv", *arguments, *RUNNING) == 0
    found = json_of(capsys, "pool", tmp_path / "done", FORMULA)
    told = pd.DataFrame(found["coefficients"]).set_index("coefficient")["estimate"]
    slopes = []
    for at in (1, 2, 3):
        draw = pd.read_csv(tmp_path / "done" / f"draw_0{at}.csv")
        slopes.append(np.polyfit(draw["age"], draw["income"], 1, w=np.sqrt(draw["people"]))[0])
    assert told["age"] == pytest.approx(np.mean(slopes), rel=1e-9)


def test_fits_are_compared_on_rows_that_none_saw(folder, tmp_path, capsys):
    fits = [folder / "own.fit", folder / "latent.fit"]
    found = json_of(capsys, "compare", folder / "survey.csv", *fits, *RUNNING)
    assert found["rows"] == 30 and {row["fit"] for row in found["fits"]} == {"own", "latent"}
    lines = (folder / "survey.csv").read_text().splitlines(keepends=True)
    (tmp_path / "others.csv").write_text("".join(lines[:50]))  # another file, so that nothing says that they were seen
    assert json_of(capsys, "compare", tmp_path / "others.csv", *fits, *RUNNING)["rows"] == 49
    whole = tmp_path / "whole.fit"
    declared = ["--sep", ";", "--decimal", ",", "--carry", "id", "--auxiliary", "age", "--not-applicable", "rooms=-97"]
    assert run("fit", folder / "survey.csv", *declared, "--epochs", 1, "--out", whole, *RUNNING) == 0
    assert run("compare", folder / "survey.csv", fits[0], whole, *RUNNING) == 2
    assert "whole: was trained on all rows" in capsys.readouterr().err


def test_scenarios_are_fits_and_deltas(folder, capsys):
    fits = ["--fit", folder / "own.fit", "--fit", folder / "latent.fit"]
    deltas = ["--delta", "income=-1,0", "--draws", 3]
    found = json_of(capsys, "sensitivity", folder / "survey.csv", FORMULA, *fits, *deltas, *RUNNING)
    frame = pd.DataFrame(found["scenarios"])
    assert list(zip(frame["scenario"], frame["delta"], strict=True))[::2] == [
        ("own", "income -1"), ("own", "income +0"), ("latent", "income -1"), ("latent", "income +0"),
    ]  # fmt: skip
    at_age = frame[frame["coefficient"] == "age"].set_index(["scenario", "delta"])["estimate"]
    assert at_age["own", "income -1"] < at_age["own", "income +0"]
    tipping = ["--tipping", "income=0,-3", "--conclusion", at_age["own", "income -1"], "--coefficient", "age"]
    one = ["--fit", folder / "own.fit", "--draws", 3]
    found = json_of(capsys, "sensitivity", folder / "survey.csv", FORMULA, *one, *tipping, *RUNNING)
    assert found["tipping_point"]["delta"] == pytest.approx(-1, abs=0.02)
    assert run("sensitivity", folder / "survey.csv", FORMULA, *one) == 2
    assert "--delta" in capsys.readouterr().err


def test_a_report_is_written_once(folder, tmp_path, capsys):
    page = tmp_path / "report.md"
    arguments = [
        "report",
        folder / "survey.csv",
        "--fit",
        folder / "own.fit",
        "--out",
        page,
        "--no-checks",
        "--draws",
        3,
    ]
    assert run(*arguments, "--formula", FORMULA, "--delta", "income=0.5", *RUNNING) == 0
    text = page.read_text()
    assert "## Pooled results" in text and "income +0.5" in text and "seed of fit" in text
    assert run(*arguments) == 2
    assert "--force" in capsys.readouterr().err


@pytest.mark.slow
def test_a_check_ends_with_status_one_where_there_is_a_problem(folder, capsys):
    """Two epochs leave a model whose values and gaps are not those that were seen."""
    found = json_of(
        capsys, "check", folder / "survey.csv", "--fit", folder / "own.fit", "--no-twins", "--draws", 3, *RUNNING
    )
    assert found["problems"] and found["status"] == 1
    assert {"verdict", "evidence"} <= set(found["diagnosis"][0]) and len(found["identifiability"]) > 5
