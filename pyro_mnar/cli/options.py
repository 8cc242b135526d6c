"""Options that several commands share, each declared once.  Nothing heavy is imported here: help appears at once."""

from __future__ import annotations

import argparse
from pathlib import Path

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


def add_declarations(command: argparse.ArgumentParser) -> None:
    """What is declared of a file and its columns."""
    command.add_argument(
        "--schema",
        type=Path,
        metavar="FILE",
        help="a TOML or JSON file that declares all that the options below do, as 'pyro-mnar describe' drafts it;"
        " options hold over it",
    )
    add_reading(command)
    command.add_argument(
        "--auxiliary",
        metavar="A,B",
        help="complete columns to condition on, 'mask', or '' for none; by default the complete columns, which are"
        " modelled too",
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
    for reason, which, also in (
        (
            "not-applicable",
            "that a column has no value in this row, which is then not imputed",
            ", or a condition on other columns, such as 'age_at_move=moved == 0'",
        ),
        ("by-design", "that a value was not asked for, which says nothing of it", ""),
    ):
        command.add_argument(
            f"--{reason}",
            action="append",
            default=[],
            metavar="COLUMN=CODE,CODE",
            help=f"codes that say {which}{also}; once for every such column",
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
    command.add_argument(
        "--derived",
        action="append",
        default=[],
        metavar="COLUMN=FORMULA",
        help="a column that is a formula of others, such as 'bmi=weight / height**2': not modelled, and computed in"
        " every completed table",
    )
    for role, what in (
        ("weights", "how many people a row stands for"),
        ("cluster", "the cluster (primary sampling unit) that a row was sampled with"),
        ("strata", "the stratum that it was sampled from"),
    ):
        command.add_argument(f"--{role}", metavar="COLUMN", help=f"column that says {what}")


def add_reading(command: argparse.ArgumentParser) -> None:
    """How the file is written."""
    command.add_argument("--sep", metavar="CHARACTER", help="what divides cells, such as ';' or tab (default: found)")
    command.add_argument("--decimal", metavar="CHARACTER", help="the decimal point (default .)")
    command.add_argument("--thousands", metavar="CHARACTER", help="what divides thousands (default: nothing)")
    command.add_argument("--encoding", metavar="CODEC", help="such as utf-8 or cp1252 (default: found)")
    command.add_argument("--sheet", metavar="NAME", help="a sheet of a workbook (default: the first)")
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


def add_threads(command: argparse.ArgumentParser) -> None:
    """How many threads PyTorch has."""
    # With networks of this size a second thread waits longer than it computes, and much longer on a busy machine.
    command.add_argument(
        "--threads",
        type=int,
        default=1,
        metavar="N",
        help="of PyTorch; more pay off for wide tables (default %(default)s)",
    )


TRAINING = (
    "mechanism",
    "graph",
    "epochs",
    "particles",
    "latent_dim",
    "restarts",
    "bootstrap",
    "checkpoint",
    "no_ignorable",
)


def add_training(command: argparse.ArgumentParser) -> None:
    """The model and how it is trained; None where nothing is said, so that a saved fit is known to need none of it."""
    cause = command.add_mutually_exclusive_group()
    cause.add_argument(
        "--mechanism",
        choices=MECHANISMS,
        help="who causes the missingness; by default what the table makes likely, which is printed, and one cause for"
        " columns that go missing together",
    )
    cause.add_argument(
        "--graph",
        metavar="FILE|PRESET",
        help=f"the same as a missingness graph: a JSON file, or one of {', '.join(GRAPHS)}",
    )
    command.add_argument(
        "--epochs", type=int, metavar="N", help="passes over the table (default: enough for 3,000 steps)"
    )
    command.add_argument("--particles", type=int, metavar="K", help="while training (default 20)")
    command.add_argument("--latent-dim", type=int, metavar="H", help="dimension of the latent")
    command.add_argument("--restarts", type=int, metavar="R", help="initialisations, of which the best is kept")
    command.add_argument(
        "--bootstrap",
        type=int,
        metavar="M",
        help="fit M sets of bootstrap weights too, one for each draw: pooled intervals then have the right width",
    )
    command.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="keep there what the training has reached, and go on from it if it is there: after Ctrl-C or a kill the"
        " same command ends with the same files",
    )
    command.add_argument(
        "--no-ignorable",
        action="store_true",
        default=None,
        help="no fit beside it that takes gaps for ignorable, which says how far the cause of the gaps moves what is"
        " imputed, and on what evidence: up to twice as fast",
    )


def add_draws(command: argparse.ArgumentParser) -> None:
    """How many tables are drawn."""
    command.add_argument(
        "--draws", type=int, metavar="N", help="completed tables (default 20, or one from each bootstrap fit)"
    )


def add_running(command: argparse.ArgumentParser, *, has_json: bool = True) -> None:
    """Where and how loudly a command runs, and how it says what it found."""
    command.add_argument(
        "--seed", type=int, default=0, metavar="N", help="same seed, same numbers (default %(default)s)"
    )
    command.add_argument("--device", default="cpu", help="such as cpu, cuda or cuda:1 (default %(default)s)")
    add_threads(command)
    command.add_argument("--quiet", action="store_true", help="no progress")
    if has_json:
        add_json(command)


def add_json(command: argparse.ArgumentParser) -> None:
    """A command's result for machines."""
    command.add_argument(
        "--json",
        action="store_true",
        help="one JSON document on standard output, and everything else on standard error",
    )
