"""What `pyro-mnar` takes: commands, options, their help.  Nothing heavy is imported here: help appears at once."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

# Names that the help lists and the parser checks.  They are written out, since the registries that hold what they stand
# for load torch; tests/cli compares the two.
MECHANISMS = ("self-masking", "self-masking-high", "self-masking-low", "latent-dependent", "general", "mcar")
GRAPHS = (
    "fully-connected",
    "general",
    "latent",
    "latent-dependent",
    "mar",
    "mcar",
    "no-self-censoring",
    "no-self-censoring-given-z",
    "self-masking",
)
KINDS = (
    "binary",
    "bounded",
    "categorical",
    "continuous",
    "count",
    "datetime",
    "heavy_tailed",
    "ordinal",
    "positive",
    "zero_inflated",
)
EXPERIMENTS = ("ablation", "education", "recommender", "synthetic", "uci")


def parser() -> argparse.ArgumentParser:
    """The parser of the command line; ``command`` of what it returns is the command's name."""
    parser = argparse.ArgumentParser(prog="pyro-mnar", description="Imputation of data that are missing not at random.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_impute(commands)
    _add_describe(commands)
    _add_demo(commands)
    _add_experiment(commands)
    return parser


def _add_impute(commands: Any) -> None:
    complete = commands.add_parser(
        "impute",
        help="complete a CSV file",
        description="Fit GINA to a CSV file and write completed tables (draw_01.csv, ...), their mean (mean.csv) and"
        " the history.",
    )
    complete.add_argument("data", type=Path, help="CSV file with a header; empty cells are gaps")
    complete.add_argument("--out", type=Path, required=True, help="folder for the completed tables (made if absent)")
    _add_declarations(complete)
    cause = complete.add_mutually_exclusive_group()
    cause.add_argument(
        "--mechanism",
        choices=MECHANISMS,
        help="who causes the missingness; by default each column's own value, and one cause for columns that go missing"
        " together",
    )
    cause.add_argument(
        "--graph",
        metavar="FILE|PRESET",
        help=f"the same as a missingness graph: a JSON file, or one of {', '.join(GRAPHS)}",
    )
    complete.add_argument("--draws", type=int, default=20, metavar="N", help="completed tables (default %(default)s)")
    complete.add_argument(
        "--epochs", type=int, metavar="N", help="passes over the table (default: enough for 3,000 steps)"
    )
    complete.add_argument("--particles", type=int, default=20, metavar="K", help="while training (default %(default)s)")
    complete.add_argument("--latent-dim", type=int, metavar="H", help="dimension of the latent")
    complete.add_argument(
        "--seed", type=int, default=0, metavar="N", help="same seed, same tables (default %(default)s)"
    )
    complete.add_argument("--device", default="cpu", help="such as cpu, cuda or cuda:1 (default %(default)s)")
    _add_threads(complete)
    complete.add_argument(
        "--keep-interrupted",
        action="store_true",
        help="after Ctrl-C, impute by what was trained so far; by default nothing is written",
    )
    complete.add_argument("--quiet", action="store_true", help="no progress bar")


def _add_declarations(command: argparse.ArgumentParser) -> None:
    """What is declared of a file and its columns."""
    command.add_argument(
        "--schema",
        type=Path,
        metavar="FILE",
        help="a TOML or JSON file that declares all that the options below do, as 'pyro-mnar describe' drafts it;"
        " options hold over it",
    )
    _add_reading(command)
    command.add_argument(
        "--auxiliary",
        metavar="A,B",
        help="command columns to condition on, or 'mask'; by default the command columns, which are modelled too",
    )
    command.add_argument(
        "--carry",
        action="append",
        default=[],
        metavar="A,B",
        help="columns that no model sees: they stand in every completed table as they came",
    )
    command.add_argument(
        "--na-values",
        action="append",
        default=[],
        metavar="[COLUMN=]CODE,CODE",
        help="codes that stand for a missing value, such as income=-98,-99, or -98,-99 wherever they stand; may be"
        " repeated",
    )
    for reason, which in (
        ("not-applicable", "that a column has no value in this row, which is then not imputed"),
        ("by-design", "that a value was not asked for, which says nothing of it"),
    ):
        command.add_argument(
            f"--{reason}",
            action="append",
            default=[],
            metavar="COLUMN=CODE,CODE",
            help=f"codes that say {which}; once for every such column",
        )
    command.add_argument(
        "--kinds",
        action="append",
        default=[],
        metavar="COLUMN=KIND",
        help=f"how a column is modelled, one of {', '.join(KINDS)}; once for every column that is not what its"
        " values say",
    )
    command.add_argument(
        "--order",
        action="append",
        default=[],
        metavar="COLUMN=LEVEL,LEVEL",
        help="a column's levels in their order, such as education=primary,secondary,tertiary; once for every such"
        " column",
    )
    for end, which in (("lower", "least"), ("upper", "greatest")):
        command.add_argument(
            f"--{end}",
            action="append",
            default=[],
            metavar="COLUMN=NUMBER",
            help=f"the {which} value of a column, to which its imputations keep; once for every such column",
        )
    command.add_argument(
        "--constraint",
        action="append",
        default=[],
        metavar="WORDS",
        help="what every row satisfies, such as 'start <= end' or 'rent + food = spent'; once for each",
    )


def _add_reading(command: argparse.ArgumentParser) -> None:
    """How the file is written."""
    command.add_argument("--sep", metavar="CHARACTER", help="what divides cells, such as ';' or tab (default: found)")
    command.add_argument("--decimal", metavar="CHARACTER", help="the decimal point (default .)")
    command.add_argument("--thousands", metavar="CHARACTER", help="what divides thousands (default: nothing)")
    command.add_argument("--encoding", metavar="CODEC", help="such as utf-8 or cp1252 (default: found)")
    command.add_argument(
        "--na",
        action="append",
        default=[],
        metavar="WORD,WORD",
        help="words that are gaps, such as NA,?; by default only empty cells are",
    )
    command.add_argument(
        "--date-format",
        action="append",
        default=[],
        metavar="COLUMN=FORMAT",
        help="how a column writes dates, such as born=%%d/%%m/%%Y; dates such as 2021-12-31 need none",
    )


def _add_describe(commands: Any) -> None:
    describe = commands.add_parser(
        "describe",
        help="say how a CSV file is read",
        description="Say of each column of a CSV file how it is read and modelled, and why; draft a schema file.",
    )
    describe.add_argument("data", type=Path, help="CSV file with a header; empty cells are gaps")
    describe.add_argument(
        "--write", type=Path, metavar="FILE", help="write a draft of a schema file (TOML), which is not there yet"
    )
    _add_declarations(describe)
    _add_threads(describe)


def _add_demo(commands: Any) -> None:
    demo = commands.add_parser(
        "demo",
        help="compare GINA with the usual imputers",
        description="Fit GINA to a real table whose values are missing not at random, and compare it with the usual"
        " imputers.",
    )
    demo.add_argument("--seed", type=int, default=0, metavar="N", help="(default %(default)s)")
    demo.add_argument(
        "--out", type=Path, default=Path("demo"), help="folder for figure and tables (default %(default)s)"
    )
    _add_threads(demo)


def _add_experiment(commands: Any) -> None:
    experiment = commands.add_parser(
        "experiment",
        help="make a table of the paper",
        description="Run an experiment of the paper: a CSV of its runs, tables beside the published figures, figures."
        " Called again it continues: runs that --out holds are not run again.",
    )
    experiment.add_argument("name", choices=EXPERIMENTS, metavar="NAME", help=", ".join(EXPERIMENTS))
    experiment.add_argument("--seeds", type=int, default=5, metavar="N", help="seeds 0 to N - 1 (default %(default)s)")
    experiment.add_argument("--quick", action="store_true", help="a few minutes, to see that everything runs")
    experiment.add_argument("--data", type=Path, metavar="DIR", help="folder with your copies of the data sets")
    experiment.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for runs, tables and figures (default experiments/NAME, or NAME-quick)",
    )
    _add_threads(experiment)


def _add_threads(command: argparse.ArgumentParser) -> None:
    # With networks of this size a second thread waits longer than it computes, and much longer on a busy machine.
    command.add_argument(
        "--threads",
        type=int,
        default=1,
        metavar="N",
        help="of PyTorch; more pay off for wide tables (default %(default)s)",
    )
