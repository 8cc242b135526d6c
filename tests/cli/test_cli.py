"""The command line: what it writes, and that every error is one line with exit status 2."""

import json
import re
import shlex
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from pyro_mnar.cli import main, options, training, verbs
from pyro_mnar.experiments import EXPERIMENTS
from pyro_mnar.graphs.graph import PRESETS
from pyro_mnar.kinds import KINDS

CSV = """age,sex,income,happy,kids
20,m,1.5,True,1
30,f,,False,
40,f,2.5,,2
50,m,3.25,True,3
60,m,,True,0
"""
COMMANDS = ["describe", "fit", "impute", "check", "compare", "pool", "sensitivity", "report", "experiment", "demo"]
QUICK = ["--epochs", "2", "--draws", "3", "--quiet"]


@pytest.fixture
def survey(tmp_path):
    path = tmp_path / "survey.csv"
    path.write_text(CSV)
    return path


def run(*arguments):
    return main([str(argument) for argument in arguments])


def test_impute_writes_draws_and_mean_and_keeps_what_was_observed(survey, tmp_path):
    out = tmp_path / "completed"
    assert run("impute", survey, "--auxiliary", "age,sex", "--out", out, *QUICK) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "draw_01.csv",
        "draw_02.csv",
        "draw_03.csv",
        "history.csv",
        "manifest.json",
        "mean.csv",
        "model.fit",
    ]
    again = tmp_path / "again"
    assert run("impute", survey, "--fit", out / "model.fit", "--draws", "3", "--out", again) == 0
    assert (again / "draw_01.csv").read_bytes() == (out / "draw_01.csv").read_bytes()
    assert not (again / "model.fit").exists()
    before = pd.read_csv(survey, dtype=str)
    for path in [*out.glob("draw_*.csv"), out / "mean.csv"]:
        after = pd.read_csv(path, dtype=str)
        assert list(after.columns) == list(before.columns)
        assert not after.isna().any().any()
        for column in before:
            seen = before[column].notna()
            assert (after.loc[seen, column] == before.loc[seen, column]).all()
    draw = pd.read_csv(out / "draw_01.csv")
    assert draw["happy"].dtype == bool
    assert pd.api.types.is_integer_dtype(draw["kids"].dtype)


def test_same_seed_same_tables(survey, tmp_path):
    for out, seed in [("a", 1), ("b", 1), ("c", 2)]:
        run("impute", survey, "--auxiliary", "age,sex", "--out", tmp_path / out, "--seed", seed, *QUICK)
    a, b, c = ((tmp_path / out / "draw_01.csv").read_text() for out in "abc")
    assert a == b != c


@pytest.mark.slow
@pytest.mark.parametrize("mechanism", ["self-masking-high", "self-masking-low", "latent-dependent", "general", "mcar"])
def test_every_mechanism_can_be_named(survey, tmp_path, mechanism):
    named = ["--auxiliary", "age,sex", "--mechanism", mechanism, "--no-ignorable"]
    assert run("impute", survey, *named, "--out", tmp_path / "out", *QUICK) == 0


@pytest.mark.slow
def test_what_the_cause_of_gaps_moves_is_told_with_its_evidence(tmp_path, capsys):
    """High values of income go missing, so strongly that the table tells: measured 12 nats and +1.5 sd."""
    random = np.random.default_rng(1)
    years = random.normal(size=300)
    frame = pd.DataFrame({"years": years, "income": 0.8 * years + random.normal(size=300)})
    frame["income"] = frame["income"].mask(frame["income"] > 0.6)
    frame.to_csv(tmp_path / "people.csv", index=False)
    arguments = ["impute", tmp_path / "people.csv", "--draws", 2, "--quiet"]
    assert run(*arguments, "--out", tmp_path / "a", "--json") == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)["against_ignorable"]
    assert found["nats"] > 3 and found["weight"] > 0.95 and found["columns"]["income"]["distance_in_sd"] > 0.8
    assert f"the data prefer this fit by {found['nats']:.1f} nats" in captured.err
    assert f"income: imputed mean {found['columns']['income']['imputed']:.4g}, ignorable" in captured.err
    assert run(*arguments, "--out", tmp_path / "b", "--no-ignorable") == 0
    assert "ignorable" not in capsys.readouterr().out
    assert (tmp_path / "a" / "draw_01.csv").read_bytes() == (tmp_path / "b" / "draw_01.csv").read_bytes()
    assert run(*arguments, "--out", tmp_path / "c", "--fit", tmp_path / "a" / "model.fit", "--no-ignorable") == 2
    assert "--no-ignorable: expected no option of a training beside --fit" in capsys.readouterr().err


def test_a_graph_comes_by_name_or_from_a_file(survey, tmp_path):
    named = ["--auxiliary", "age,sex", "--graph", "latent-dependent"]
    assert run("impute", survey, *named, "--out", tmp_path / "a", "--no-ignorable", *QUICK) == 0
    file = tmp_path / "graph.json"
    file.write_text(json.dumps({"edges": [["income", "R[income]", {"sign": "high"}], ["Z", "R[kids]"]]}))
    named = ["--auxiliary", "age,sex", "--graph", file, "--no-ignorable"]
    assert run("impute", survey, *named, "--out", tmp_path / "b", *QUICK) == 0
    assert (tmp_path / "a" / "mean.csv").read_text() != (tmp_path / "b" / "mean.csv").read_text()


def test_codes_are_imputed(survey, tmp_path):
    arguments = ["--auxiliary", "age,sex", "--na-values", "income=2.5", "--na-values", "kids=0,1", *QUICK]
    assert run("impute", survey, *arguments, "--out", tmp_path / "out") == 0
    mean = pd.read_csv(tmp_path / "out" / "mean.csv")
    assert mean.loc[2, "income"] != 2.5
    assert mean.loc[[0, 4], "kids"].tolist() != [1, 0]


def test_a_mixed_survey_keeps_its_kinds(tmp_path, capsys):
    """Words, booleans, ranks, counts and amounts, each with gaps; categories come out as words, counts whole."""
    rng = np.random.default_rng(0)
    rows = 80
    truth = pd.DataFrame(
        {
            "age": rng.integers(18, 90, rows),
            "town": rng.choice(["Ayr", "Bath", "Cork"], rows),
            "smokes": rng.choice(["yes", "no"], rows),
            "happy": rng.random(rows) < 0.5,
            "stars": rng.integers(1, 6, rows),
            "sex": rng.integers(0, 2, rows),
            "visits": rng.poisson(3, rows),
            "income": np.exp(rng.normal(8, 1, rows)).round(2),
            "agreement": rng.uniform(0, 1, rows).round(3),
            "change": rng.normal(size=rows).round(3),
        }
    )
    survey = truth.astype(object).mask(rng.random(truth.shape) < 0.2)
    survey["age"] = truth["age"]
    survey.to_csv(tmp_path / "survey.csv", index=False)
    kinds = ["visits=count", "income=positive", "agreement=bounded", "change=heavy-tailed"]
    declared = [word for kind in kinds for word in ("--kinds", kind)]
    assert run("impute", tmp_path / "survey.csv", "--out", tmp_path / "out", *declared, *QUICK) == 0

    said = capsys.readouterr().out
    assert "80 rows, 10 modelled columns;" in said and "conditioned on, since complete: age" in said
    assert "R[income]    ← nothing" in said and "gaps of 'income': caused by nothing that is seen" in said
    assert "kinds: town categorical (3 words), smokes binary (2 words), happy binary (booleans)," in said
    assert "stars ordinal (5 whole numbers), sex binary (2 whole numbers); --kinds COLUMN=KIND overrules" in said
    before = pd.read_csv(tmp_path / "survey.csv", dtype=str)
    for name in ("draw_01.csv", "draw_02.csv", "draw_03.csv", "mean.csv"):
        text = pd.read_csv(tmp_path / "out" / name, dtype=str)
        assert text.notna().all(axis=None)
        for column in truth:
            seen = before[column].notna()
            assert (text.loc[seen, column] == before.loc[seen, column]).all()
        after = pd.read_csv(tmp_path / "out" / name)
        assert set(after["town"]) <= {"Ayr", "Bath", "Cork"} and set(after["smokes"]) <= {"yes", "no"}
        assert (after["income"] > 0).all() and after["agreement"].between(0, 1).all() and (after["visits"] >= 0).all()
        if name != "mean.csv":  # a mean of counts is no count
            assert after["happy"].dtype == bool
            assert set(after["stars"]) <= {1, 2, 3, 4, 5} and set(after["sex"]) <= {0, 1}
            assert pd.api.types.is_integer_dtype(after["visits"].dtype)


def test_draws_of_another_run_are_not_left_beside_new_ones(survey, tmp_path, capsys):
    arguments = ["impute", survey, "--auxiliary", "age,sex", "--out", tmp_path / "out", "--epochs", "1", "--quiet"]
    assert run(*arguments, "--draws", "3") == 0
    assert run(*arguments, "--draws", "3") == 0
    assert run(*arguments, "--draws", "2") == 2
    assert "draw_03.csv" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--auxiliary", "age,wealth"], "'wealth'"),
        (["--kinds", "sex=continuous"], "'sex': expected numbers, got 'm' in line 2"),
        (["--kinds", "sex"], "--kinds"),
        (["--kinds", "sex=nominal"], "'nominal'"),
        (["--auxiliary", "age,sex,income"], "'income'"),
        (["--auxiliary", "age,sex", "--draws", "0"], "--draws"),
        (["--auxiliary", "age,sex", "--na-values", "income"], "--na-values"),
        (["--auxiliary", "age,sex", "--na-values", "wealth=-99"], "'wealth'"),
        (["--auxiliary", "age,sex", "--epochs", "0"], "epochs"),
        (["--auxiliary", "age,sex", "--particles", "0"], "num_particles"),
        (["--auxiliary", "age,sex", "--seed", "-1"], "seed"),
        (["--auxiliary", "age,sex", "--threads", "0"], "threads"),
        (["--auxiliary", "age,sex", "--device", "nowhere"], "'nowhere'"),
        (["--auxiliary", "age,sex", "--graph", "nothing"], "'nothing'"),
        (["--auxiliary", "age,sex", "--graph", "absent.json"], "absent.json"),
    ],
)
def test_errors_are_one_line_and_status_two(survey, tmp_path, capsys, arguments, told):
    assert run("impute", survey, "--out", tmp_path / "out", *arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert told in error
    assert not list((tmp_path / "out").glob("*.csv"))


def test_a_file_that_is_not_there_is_an_error_of_one_line(tmp_path, capsys):
    assert run("impute", tmp_path / "none.csv", "--out", tmp_path / "out") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_words_off_end_with_status_two(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["impute"])
    assert stopped.value.code == 2


def test_help_appears_before_anything_heavy_is_loaded():
    code = f"""
import sys
from pyro_mnar.cli import main
for command in {[[], *([name] for name in COMMANDS)]}:
    try:
        main([*command, "--help"])
    except SystemExit as stopped:
        assert stopped.code == 0
    heavy = {{"numpy", "pandas", "pyro", "torch"}} & set(sys.modules)
    assert not heavy, (command, heavy)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in COMMANDS:
        (shown,) = re.findall(rf"^usage: pyro-mnar {command} .*?(?=^usage:|\Z)", done.stdout, re.MULTILINE | re.DOTALL)
        examples = re.findall(rf"^  (pyro-mnar {command}(?: .*)?)$", shown.split("examples:")[1], re.MULTILINE)
        assert len(examples) == 2
        for example in examples:  # names options and commands that there are
            assert verbs.parsed(shlex.split(example)[1:]).command == command


def test_the_names_that_help_lists_are_those_of_the_package():
    assert list(options.MECHANISMS) == list(training.MECHANISMS)
    assert list(options.GRAPHS) == sorted(name.replace("_", "-") for name in PRESETS)
    assert list(options.KINDS) == sorted(KINDS)
    assert list(options.EXPERIMENTS) == sorted(EXPERIMENTS)


def test_negative_values_where_none_was_seen_are_told_with_the_option_that_keeps_them_away(tmp_path, capsys):
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"dose": random.uniform(0.01, 1.0, 80), "b": random.normal(size=80)})
    frame.loc[:39, "dose"] = np.nan
    frame.to_csv(tmp_path / "doses.csv", index=False)
    assert run("impute", tmp_path / "doses.csv", "--out", tmp_path / "a", *QUICK) == 0
    assert re.search(
        r"warning: \d+% of dose's imputations are negative; .*--kinds dose=positive", capsys.readouterr().out
    )
    assert run("impute", tmp_path / "doses.csv", "--kinds", "dose=positive", "--out", tmp_path / "b", *QUICK) == 0
    assert "are negative" not in capsys.readouterr().out
