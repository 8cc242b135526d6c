"""A survey from its file to completed tables, by the shell alone and by Python alone: an analyst's first evening.

1,500 people, of whom high earners rather than others withhold their income; codes, words that look like gaps, weights.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

ROWS = 1_500
CODES = {"income": -99, "hours": -98, "satisfaction": -99}
GRAPH = '{"edges": [["income", "R[income]", {"sign": "high"}]]}'
LEVELS = ["primary", "secondary", "tertiary"]
MEGABYTES, SECONDS = 1_000, 120  # of the processor, since a busy machine waits
# The greatest size of this program alone: ru_maxrss of a child has that of whoever started it, too.
REPORT = """
import resource
from pathlib import Path

used, status = resource.getrusage(resource.RUSAGE_SELF), Path("/proc/self/status")
lines = status.read_text().splitlines() if status.exists() else []
own = next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), used.ru_maxrss)
print(own / 1e3, used.ru_utime)
"""
IN_PYTHON = """
import sys
from pathlib import Path
from pyro_mnar import MissingnessGraph, Table, fit, impute
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.kinds import Ordinal
from pyro_mnar.models import GINA

folder = Path(sys.argv[1])
table = Table.from_csv(
    folder / "survey.csv",
    auxiliary=["age", "sex"],
    carry=["id", "comment"],
    weights="weight",
    kinds={"education": Ordinal(("primary", "secondary", "tertiary")), "income": "positive"},
    na_values={"income": -99, "hours": -98, "satisfaction": -99},
)
model = GINA(table, graph=MissingnessGraph.from_json((folder / "graph.json").read_text(), table), seed=0)
guide = ZeroImpute(table, model.latent_dim, seed=0)
fitted = fit(model, guide, table, epochs=40, num_particles=10, seed=0, progress=False)
(folder / "python").mkdir()
for number, frame in enumerate(impute(fitted, table, num_draws=5, num_particles=50).frames(), start=1):
    assert (frame.dtypes == table.frame.dtypes).all(), frame.dtypes
    table.write(frame, folder / "python" / f"draw_{number:02}.csv")
"""


class Survey(NamedTuple):
    """A folder with a survey's file, and the truth behind its gaps."""

    folder: Path
    truth: pd.DataFrame


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    rng = np.random.default_rng(0)
    skill, age = rng.normal(size=ROWS), np.clip(np.rint(45 + 14 * rng.normal(size=ROWS)), 18, 90).astype(int)
    log_income = 7.6 + 0.5 * skill + 0.01 * (age - 45) + 0.35 * rng.normal(size=ROWS)
    truth = pd.DataFrame(
        {
            "id": [f"{row:06d}" for row in rng.permutation(ROWS)],
            "age": age,
            "sex": rng.choice(["f", "m"], ROWS),
            "region": rng.choice(["north", "south", "east", "NA"], ROWS),
            "education": np.array(LEVELS)[np.digitize(skill + 0.3 * rng.normal(size=ROWS), [-0.6, 0.7])],
            "hours": np.clip(np.rint(36 + 5 * skill + 4 * rng.normal(size=ROWS)), 1, 80).astype(int),
            "income": np.round(np.exp(log_income), 2),
            "satisfaction": np.clip(np.rint(3 + skill + 0.8 * rng.normal(size=ROWS)), 1, 5).astype(int),
            "moved": (pd.Timestamp("2021-01-01") + pd.to_timedelta(rng.integers(0, 365, ROWS), unit="D")).strftime(
                "%F"
            ),
            "comment": [f'{row} reasons, "more" or less, and so on' for row in rng.permutation(ROWS)],
            "weight": np.round(rng.uniform(0.5, 2, ROWS), 3),
        }
    )
    seen = truth.astype(object)
    standardised = (log_income - log_income.mean()) / log_income.std()
    seen.loc[rng.random(ROWS) < 1 / (1 + np.exp(0.8 - 1.5 * standardised)), "income"] = -99
    for column, share in {"hours": 0.1, "satisfaction": 0.1, "education": 0.05, "region": 0.05, "moved": 0.05}.items():
        seen.loc[rng.random(ROWS) < share, column] = CODES.get(column, "")
    folder = tmp_path_factory.mktemp("survey")
    seen.to_csv(folder / "survey.csv", index=False)
    (folder / "graph.json").write_text(GRAPH)
    return Survey(folder, truth)


def run(code: str, *arguments: str) -> None:
    """Run Python in a process of its own, within an analyst's memory and patience."""
    done = subprocess.run([sys.executable, "-c", f"{code}\n{REPORT}", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    megabytes, seconds = map(float, done.stdout.split()[-2:])
    assert megabytes < MEGABYTES and seconds < SECONDS, done.stdout


def cells_of(path: Path) -> tuple[list[str], list[list[str]]]:
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    return header, rows


def check(survey: Survey, draws: list[Path]) -> None:
    """Every cell that was no gap is the file's; the others are what a column can hold; the mean of income is right."""
    header, before = cells_of(survey.folder / "survey.csv")
    codes = {str(code) for code in CODES.values()}
    means = []
    assert len(draws) == 5
    for path in draws:
        names, after = cells_of(path)
        assert names == header and len(after) == len(before)
        for one, other in zip(before, after, strict=True):
            for name, cell, filled in zip(header, one, other, strict=True):
                is_gap = not cell or (name in CODES and cell in codes)
                assert filled if is_gap else filled == cell, (name, cell, filled)
        frame = pd.read_csv(path, keep_default_na=False, dtype={"id": str})
        assert set(frame["region"]) == {"north", "south", "east", "NA"} and set(frame["education"]) == {*LEVELS}
        assert set(frame["satisfaction"]) == {1, 2, 3, 4, 5} and frame["hours"].dtype == np.int64
        assert (frame["income"] > 0).all() and frame["moved"].str.fullmatch(r"\d{4}-\d\d-\d\d").all()
        means.append(frame["income"].mean())
    income = survey.truth["income"]
    known = pd.read_csv(survey.folder / "survey.csv")["income"]
    assert abs(np.mean(means) - income.mean()) < 0.15 * income.std()
    assert known[known > 0].mean() < income.mean() - 0.3 * income.std()  # what those who answered say


@pytest.mark.slow
def test_from_the_file_to_completed_tables_by_the_shell(survey: Survey) -> None:
    given = [
        *("--na-values", "-99,-98", "--carry", "id,comment", "--weights", "weight", "--auxiliary", "age,sex"),
        *("--order", "education=primary,secondary,tertiary", "--kinds", "income=positive"),
    ]
    data, schema = str(survey.folder / "survey.csv"), str(survey.folder / "survey.toml")
    shell = "import json, sys; from pyro_mnar.cli import main; assert main(json.loads(sys.argv[1])) == 0"
    run(shell, json.dumps(["describe", data, *given, "--write", schema]))
    cause = ["--graph", str(survey.folder / "graph.json"), "--epochs", "40", "--particles", "10", "--draws", "5"]
    out = str(survey.folder / "shell")
    run(shell, json.dumps(["impute", data, "--schema", schema, *cause, "--out", out, "--quiet"]))
    check(survey, sorted((survey.folder / "shell").glob("draw_*.csv")))


@pytest.mark.slow
def test_from_the_file_to_completed_tables_by_python(survey: Survey) -> None:
    run(IN_PYTHON, str(survey.folder))
    check(survey, sorted((survey.folder / "python").glob("draw_*.csv")))
