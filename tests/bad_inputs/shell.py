"""The command line: exit status 2 and one line on standard error."""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path
from typing import Any

from bad_inputs.case import Case, refused, taken
from pyro_mnar.cli import main

CSV = "age,income,town\n20,1.5,Ely\n30,,Ely\n40,2.5,Bath\n50,3.25,Bath\n60,,Ely\n"


class Refusal(ValueError):
    """What the command line wrote before it ended with status 2."""


def run(*options: str, content: str = CSV, command: str = "impute", files: dict[str, str] | None = None) -> int:
    """Run a command in a folder of its own on a file t.csv; Refusal with what it says if it ends with status 2."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "t.csv").write_text(content)
        for file, text in (files or {}).items():
            (folder / file).write_text(text)
        given = [option.replace("FOLDER", name) for option in options]
        out = ["--out", str(folder / "out")] if command == "impute" and "--out" not in given else []
        trains = command == "impute" and not {"--epochs", "--fit"} & set(given)
        quiet = ["--quiet", "--epochs", "1"] if trains else []
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            try:
                status = main([command, str(folder / "t.csv"), *out, *quiet, *given])
            except SystemExit as end:  # argparse's: usage, and a line
                status = end.code
        lines = [
            line
            for line in said.getvalue().splitlines()
            if "warning:" not in line and not line.startswith(("usage", " "))
        ]
        if status == 2 and len(lines) == 1:
            raise Refusal(lines[0].replace(name, "FOLDER"))
        assert status == 0, (status, said.getvalue())
        return status


def option(given: str, *parts: str, **more: Any) -> Case:
    """An option that is refused."""
    return refused(f"pyro-mnar impute t.csv {given}", lambda: run(*given.split(" "), **more), *parts)


CASES: list[Case] = [
    option("--draws 0", "--draws", "at least 1", "0"),
    option("--draws -5", "--draws", "-5"),
    option("--draws many", "--draws", "many"),
    option("--draws 1.5", "--draws", "1.5"),
    option("--draws 1000000000", "--draws", "GiB", "at most"),
    option("--draws 1000000000000000000", "--draws", "GiB", "at most"),
    option("--epochs 0", "epochs", "at least 1", "0"),
    option("--epochs -1", "epochs", "-1"),
    option("--epochs x", "--epochs", "x"),
    option("--particles 0", "num_particles", "at least 1"),
    option("--particles 100000000000", "num_particles", "GiB", "at most"),
    option("--latent-dim 0", "latent_dim", "at least 1"),
    option("--latent-dim 10000000000", "latent_dim", "GiB"),
    option("--seed -1", "seed", "-1"),
    option("--seed x", "--seed", "x"),
    option("--device nope", "--device", "nope"),
    option("--device cuda:99", "--device", "cuda:99"),
    option("--threads 0", "threads", "at least 1"),
    option("--threads 100000", "threads", "at most"),
    option("--mechanism random", "--mechanism", "random"),
    option("--graph random", "'random'"),
    option("--graph FOLDER/g.json", "graph", "JSON", files={"g.json": "{"}),
    option("--graph FOLDER/absent.json", "absent.json"),
    option("--graph FOLDER/deep.json", "graph", "nested", files={"deep.json": "[" * 100_000}),
    option("--auxiliary sex", "'sex'"),
    option("--auxiliary income", "'income'", "every row"),
    option("--carry sex", "'sex'"),
    option("--kinds income=nominal", "'income'", "'nominal'"),
    option("--kinds income", "--kinds", "income"),
    option("--kinds sex=count", "'sex'"),
    option("--kinds income=count", "'income'", "1.5"),
    option("--kinds town=continuous", "'town'", "'Ely'"),
    option("--order town=Ely", "'town'"),
    option("--order town=Ely,Ely", "'Ely'"),
    option("--lower income=x", "income", "x"),
    option("--lower income=9", "'income'"),
    option("--lower sex=1", "sex"),
    option("--constraint nothing", "nothing"),
    option("--constraint age<=sex", "sex"),
    option("--constraint age<=age", "'age'"),
    option("--na-values sex=-9", "'sex'"),
    option("--schema FOLDER/absent.toml", "absent.toml"),
    option("--schema FOLDER/s.toml", "s.toml", files={"s.toml": "]"}),
    option("--schema FOLDER/s.json", "s.json", files={"s.json": "["}),
    option("--schema FOLDER/d.json", "d.json", files={"d.json": "[" * 100_000}),
    option("--out FOLDER/t.csv", "FOLDER/t.csv"),
    option("--fit FOLDER/t.csv", "t.csv", "Fit.save"),
    option("--fit FOLDER/absent.fit", "absent.fit"),
    option("--checkpoint FOLDER/absent/c", "checkpoint", "absent"),
    option("--checkpoint FOLDER/t.csv", "t.csv", "checkpoint"),
    option("--nonsense 3", "--nonsense"),
    refused("pyro-mnar impute of an empty file", lambda: run(content=""), "t.csv", "empty"),
    refused("pyro-mnar impute of a header alone", lambda: run(content="a,b\n"), "at least one row"),
    refused("pyro-mnar impute of a word among numbers", lambda: run(content="a,b\n1,2\n2,lots\n3,4\n4,\n"), "line 3", "'lots'"),
    refused("pyro-mnar impute of infinity", lambda: run(content="a,b\n1,2\n2,inf\n3,4.5\n4,\n5,7\n"), "'b'", "inf"),
    refused("pyro-mnar impute of lines of other lengths", lambda: run(content="a,b\n1,2\n1\n3,\n"), "line 3"),
    refused("pyro-mnar describe of an empty file", lambda: run(content="", command="describe"), "empty"),
    refused("pyro-mnar describe --write over a file", lambda: run("--write", "FOLDER/t.csv", command="describe"), "t.csv", "not there yet"),
    taken("pyro-mnar describe", lambda: run(command="describe"), "status 0", lambda status: status == 0),
    taken("pyro-mnar impute", lambda: run("--draws", "1"), "status 0", lambda status: status == 0),
]  # fmt: skip
