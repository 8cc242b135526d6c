"""The commands of `pyro-mnar`, in the order of an analysis, each with its options and two examples."""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyro_mnar.cli.options import (
    EXPERIMENTS,
    add_declarations,
    add_draws,
    add_json,
    add_reading,
    add_running,
    add_threads,
    add_training,
)

WIDTH = 100
STATUSES = """exit status:
  0    done
  1    check: something speaks against the fit
  2    an error, told in one line
  130  interrupted (Ctrl-C)
  141  whoever read the output went away"""


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of a command line; SystemExit if they are wrong, or help was asked for."""
    return parser().parse_args(_joined(arguments))


def parser() -> argparse.ArgumentParser:
    """The parser of the command line; ``command`` of what it returns is the command's name."""
    parser = argparse.ArgumentParser(
        prog="pyro-mnar",
        description="Imputation of data that are missing not at random.",
        epilog=f"{STATUSES}\n\n'pyro-mnar COMMAND --help' has examples.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (_describe, _fit, _impute, _check, _compare, _pool, _sensitivity, _report, _experiment, _demo):
        add(commands)
    return parser


def _joined(arguments: Sequence[str]) -> list[str]:
    """Codes such as ``-99,-98`` bound to their option, since they look like one themselves."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] == "--na-values" and re.match(r"-[0-9.]", argument):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _describe(commands: Any) -> None:
    command = _added(
        commands,
        "describe",
        "say how a CSV file is read",
        "Say of each column of a CSV file how it is read and modelled, and why; draft a schema file.",
        "pyro-mnar describe survey.csv",
        "pyro-mnar describe survey.csv --na-values -99,-98 --carry id --write survey.toml",
    )
    _add_data(command)
    command.add_argument(
        "--write", type=Path, metavar="FILE", help="write a draft of a schema file (TOML), which is not there yet"
    )
    add_declarations(command)
    add_threads(command)
    add_json(command)


def _fit(commands: Any) -> None:
    command = _added(
        commands,
        "fit",
        "fit a model and keep it",
        "Fit GINA to a CSV file and write the fit to a file, which impute, check, compare, sensitivity and report read."
        " The file holds how the CSV file is read, too, and no rows of it.",
        "pyro-mnar fit survey.csv --schema survey.toml --out survey.fit",
        "pyro-mnar fit survey.csv --graph self-masking --bootstrap 20 --held-out 0.2 --out own.fit",
    )
    _add_data(command)
    command.add_argument("--out", type=Path, required=True, metavar="FILE", help="file for the fit, not there yet")
    command.add_argument("--force", action="store_true", help="write over a fit that is there")
    add_declarations(command)
    add_training(command)
    command.add_argument(
        "--held-out",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="of the rows, left out of the training and used by 'compare' (the same rows for the same --seed)",
    )
    add_running(command)


def _impute(commands: Any) -> None:
    command = _added(
        commands,
        "impute",
        "complete a CSV file",
        "Fit GINA to a CSV file, or take a fit, and write completed tables (draw_01.csv, ...), their mean (mean.csv)"
        " and the history.",
        "pyro-mnar impute survey.csv --auxiliary age,sex --out completed/",
        "pyro-mnar impute survey.csv --fit survey.fit --out completed/",
    )
    _add_data(command)
    command.add_argument("--out", type=Path, required=True, help="folder for the completed tables (made if absent)")
    _add_fit(command, "instead of fitting, a file that 'fit' wrote: the rows are read and encoded as its own were")
    add_declarations(command)
    add_training(command)
    add_draws(command)
    command.add_argument(
        "--keep-interrupted",
        action="store_true",
        help="after Ctrl-C, impute by what was trained so far; by default nothing is written",
    )
    add_running(command)


def _check(commands: Any) -> None:
    command = _added(
        commands,
        "check",
        "say what speaks against a fit",
        "Say what speaks against a fit and its imputations, worst first, and what the data cannot tell. Ends with"
        " status 1 if there is a problem.",
        "pyro-mnar check survey.csv --fit survey.fit",
        "pyro-mnar check survey.csv --fit survey.fit --no-twins --json",
    )
    _add_data(command)
    _add_fit(command, "a file that 'fit' wrote", required=True)
    add_reading(command)
    add_draws(command)
    command.add_argument(
        "--no-twins",
        action="store_true",
        help="no search for other parameters that fit as well and impute otherwise: two or three trainings less",
    )
    command.add_argument("--detail", action="store_true", help="name the assumptions as the literature does")
    add_running(command)


def _compare(commands: Any) -> None:
    command = _added(
        commands,
        "compare",
        "rank fits by rows that none of them saw",
        "Rank fits by what they say of rows that none of them saw: all rows of another file, or of their own the ones"
        " that 'fit --held-out' left out.",
        "pyro-mnar compare survey.csv own.fit latent.fit",
        "pyro-mnar compare next_year.csv own.fit latent.fit --particles 2000",
    )
    _add_data(command)
    command.add_argument("fits", type=Path, nargs="+", metavar="FIT", help="files that 'fit' wrote, at least two")
    command.add_argument("--particles", type=int, default=1000, metavar="K", help="at least 1000 (default %(default)s)")
    add_reading(command)
    add_running(command)


def _pool(commands: Any) -> None:
    command = _added(
        commands,
        "pool",
        "run a regression on completed tables",
        "Run a regression on each of the completed tables that impute wrote, and combine the results by Rubin's rules.",
        "pyro-mnar pool completed/ 'income ~ age + sex'",
        "pyro-mnar pool completed/ 'income ~ age' --confidence 0.9 --json",
    )
    command.add_argument("folder", type=Path, help="folder that 'impute' wrote")
    _add_formula(command)
    _add_inference(command)
    add_json(command)
    add_threads(command)


def _sensitivity(commands: Any) -> None:
    command = _added(
        commands,
        "sensitivity",
        "redo a regression under other assumptions",
        "Pool a regression under several assumptions about what is missing: several fits, missing values moved by"
        " deltas, or both; or find the delta at which the conclusion changes.",
        "pyro-mnar sensitivity survey.csv 'income ~ age' --fit survey.fit --delta income=-0.5,0,0.5",
        "pyro-mnar sensitivity survey.csv 'income ~ age' --fit survey.fit --tipping income=0,-3 --coefficient age",
    )
    _add_data(command)
    _add_formula(command)
    command.add_argument(
        "--fit",
        type=Path,
        action="append",
        required=True,
        metavar="FILE",
        help="a file that 'fit' wrote; may be repeated, to compare what fits of several graphs say",
    )
    _add_deltas(command)
    _add_inference(command)
    add_reading(command)
    add_draws(command)
    add_running(command)


def _report(commands: Any) -> None:
    command = _added(
        commands,
        "report",
        "write down what was assumed, done and found",
        "Write a page, HTML or Markdown, of what is missing, what was assumed, how it was imputed, what speaks against"
        " it, what came out, and how far that depends on the assumptions.",
        "pyro-mnar report survey.csv --fit survey.fit --out report.html",
        "pyro-mnar report survey.csv --fit survey.fit --formula 'income ~ age' --delta income=-0.5,0.5 --out report.md",
    )
    _add_data(command)
    _add_fit(command, "a file that 'fit' wrote", required=True)
    command.add_argument("--out", type=Path, required=True, metavar="FILE", help="page to write, .html or .md")
    command.add_argument("--force", action="store_true", help="write over a page that is there")
    command.add_argument("--formula", metavar="FORMULA", help="regression to pool and report")
    command.add_argument("--no-checks", action="store_true", help="leave out the checks of the fit, which take a while")
    _add_deltas(command)
    _add_inference(command)
    add_reading(command)
    add_draws(command)
    add_running(command)


def _experiment(commands: Any) -> None:
    command = _added(
        commands,
        "experiment",
        "make a table of the paper",
        "Run an experiment of the paper: a CSV of its runs, tables beside the published figures, figures. Called again"
        " it continues: runs that --out holds are not run again.",
        "pyro-mnar experiment synthetic --quick",
        "pyro-mnar experiment uci --seeds 5 --out uci/",
    )
    command.add_argument("name", choices=EXPERIMENTS, metavar="NAME", help=", ".join(EXPERIMENTS))
    command.add_argument("--seeds", type=int, default=5, metavar="N", help="seeds 0 to N - 1 (default %(default)s)")
    command.add_argument("--quick", action="store_true", help="a few minutes, to see that everything runs")
    command.add_argument("--data", type=Path, metavar="DIR", help="folder with your copies of the data sets")
    command.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for runs, tables and figures (default experiments/NAME, or NAME-quick)",
    )
    add_threads(command)


def _demo(commands: Any) -> None:
    command = _added(
        commands,
        "demo",
        "compare GINA with the usual imputers",
        "Fit GINA to a real table whose values are missing not at random, and compare it with the usual imputers.",
        "pyro-mnar demo",
        "pyro-mnar demo --seed 1 --out demo_1/",
    )
    command.add_argument("--seed", type=int, default=0, metavar="N", help="(default %(default)s)")
    command.add_argument(
        "--out", type=Path, default=Path("demo"), help="folder for figure and tables (default %(default)s)"
    )
    add_threads(command)


def _added(commands: Any, name: str, short: str, long: str, *examples: str) -> argparse.ArgumentParser:
    """A command, with its examples below its options."""
    return commands.add_parser(
        name,
        help=short,
        description=textwrap.fill(long, WIDTH),
        epilog="examples:\n" + "\n".join(f"  {example}" for example in examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_data(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "data",
        type=Path,
        help="CSV file with a header, in which empty cells are gaps; or .xlsx, .parquet, .feather, .dta, .sav",
    )


def _add_formula(command: argparse.ArgumentParser) -> None:
    command.add_argument("formula", help="least squares, as statsmodels writes them: 'income ~ age + C(town)'")


def _add_fit(command: argparse.ArgumentParser, what: str, *, required: bool = False) -> None:
    command.add_argument("--fit", type=Path, metavar="FILE", required=required, help=what)


def _add_deltas(command: argparse.ArgumentParser) -> None:
    """By what imputed values are moved."""
    command.add_argument(
        "--delta",
        action="append",
        default=[],
        metavar="COLUMN=NUMBER,NUMBER",
        help="move a column's imputed values by each of these; may be repeated",
    )
    command.add_argument(
        "--delta-scale",
        choices=("sd", "outcome", "factor"),
        default="sd",
        help="what a number means: so many observed standard deviations, so much in the column's units, so many times"
        " the value (default %(default)s)",
    )
    command.add_argument(
        "--tipping",
        metavar="COLUMN=FROM,TO",
        help="find the delta of this column between two numbers at which the conclusion changes",
    )
    command.add_argument(
        "--conclusion",
        default="significance",
        metavar="significance|sign|NUMBER",
        help="which conclusion: whether p is small, the sign, or whether the estimate is above a number (default"
        " %(default)s)",
    )
    command.add_argument("--coefficient", metavar="NAME", help="whose conclusion")


def _add_inference(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--confidence", type=float, default=0.95, metavar="LEVEL", help="of the intervals (default %(default)s)"
    )
