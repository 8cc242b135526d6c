"""The command line: `pyro-mnar impute` completes a CSV file, `pyro-mnar demo` shows the main job on real data,
`pyro-mnar experiment` makes the paper's tables and figures.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pyro_mnar import mechanisms
from pyro_mnar.experiments import EXPERIMENTS, run_experiment
from pyro_mnar.graphs.graph import PRESETS, MissingnessGraph
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.imputation import impute
from pyro_mnar.infer.session import threads
from pyro_mnar.kinds import KINDS
from pyro_mnar.models import GINA
from pyro_mnar.tables.table import Table
from pyro_mnar.training.svi import fit

SHOWN = 10  # columns whose kind is said
MECHANISMS = {
    "self-masking": mechanisms.SelfMasking,
    "self-masking-high": partial(mechanisms.SelfMasking, sign=-1),
    "self-masking-low": partial(mechanisms.SelfMasking, sign=1),
    "latent-dependent": mechanisms.LatentDependent,
    "general": mechanisms.General,
    "mcar": mechanisms.Constant,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit status: 0, 2 for an error, 130 after Ctrl-C; either of the latter is one line on standard error.
    """
    options = _parser().parse_args(arguments)
    try:
        with threads(options.threads):
            options.run(options)
    except (ValueError, TypeError, OSError) as error:
        message = " ".join(str(error).split())
        print(f"pyro-mnar: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        print(f"\npyro-mnar: {str(interrupt) or 'interrupted'}", file=sys.stderr)
        return 130  # 128 + SIGINT, as shells have it
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pyro-mnar", description="Imputation of data that are missing not at random.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    complete = commands.add_parser("impute", help="complete a CSV file", description=_impute.__doc__)
    complete.add_argument("data", type=Path, help="CSV file with a header; empty cells are gaps")
    complete.add_argument("--out", type=Path, required=True, help="folder for the completed tables (made if absent)")
    complete.add_argument(
        "--auxiliary",
        metavar="A,B",
        help="complete columns to condition on, or 'mask'; by default the complete columns, which are modelled too",
    )
    cause = complete.add_mutually_exclusive_group()
    cause.add_argument(
        "--mechanism",
        choices=MECHANISMS,
        default="self-masking",
        help="who causes the missingness (default %(default)s)",
    )
    cause.add_argument(
        "--graph",
        metavar="FILE|PRESET",
        help=f"the same as a missingness graph: a JSON file, or one of {', '.join(sorted(PRESETS))}".replace("_", "-"),
    )
    complete.add_argument("--draws", type=int, default=20, metavar="N", help="completed tables (default %(default)s)")
    complete.add_argument(
        "--na-values",
        action="append",
        default=[],
        metavar="COLUMN=CODE,CODE",
        help="codes that stand for a missing value, such as income=-98,-99; once for every such column",
    )
    complete.add_argument(
        "--kinds",
        action="append",
        default=[],
        metavar="COLUMN=KIND",
        help=f"how a column is modelled, one of {', '.join(sorted(KINDS))}; once for every column that is not what its"
        " values say",
    )
    for end, which in (("lower", "least"), ("upper", "greatest")):
        complete.add_argument(
            f"--{end}",
            action="append",
            default=[],
            metavar="COLUMN=NUMBER",
            help=f"the {which} value of a column, to which its imputations keep; once for every such column",
        )
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
    complete.add_argument("--quiet", action="store_true", help="no progress bar")
    complete.set_defaults(run=_impute)

    demo = commands.add_parser("demo", help="compare GINA with the usual imputers", description=_demo.__doc__)
    demo.add_argument("--seed", type=int, default=0, metavar="N", help="(default %(default)s)")
    demo.add_argument(
        "--out", type=Path, default=Path("demo"), help="folder for figure and tables (default %(default)s)"
    )
    _add_threads(demo)
    demo.set_defaults(run=_demo)

    experiment = commands.add_parser("experiment", help="make a table of the paper", description=_experiment.__doc__)
    experiment.add_argument("name", choices=sorted(EXPERIMENTS), metavar="NAME", help=", ".join(sorted(EXPERIMENTS)))
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
    experiment.set_defaults(run=_experiment)
    return parser


def _add_threads(command: argparse.ArgumentParser) -> None:
    # With networks of this size a second thread waits longer than it computes, and much longer on a busy machine.
    command.add_argument(
        "--threads",
        type=int,
        default=1,
        metavar="N",
        help="of PyTorch; more pay off for wide tables (default %(default)s)",
    )


def _impute(options: argparse.Namespace) -> None:
    """Fit GINA to a CSV file and write completed tables (draw_01.csv, ...), their mean (mean.csv) and the history."""
    codes = dict(_codes(given) for given in options.na_values)
    table = Table.from_csv(
        options.data,
        auxiliary=_auxiliary(options.auxiliary),
        na_values=codes,
        kinds=dict(map(_kind, options.kinds)),
        lower=dict(_bound(given, "lower") for given in options.lower),
        upper=dict(_bound(given, "upper") for given in options.upper),
    )
    _say_kinds(table)
    if options.draws < 1:
        raise ValueError(f"--draws: expected at least 1, got {options.draws}")
    cause: dict[str, Any] = {"mechanism": MECHANISMS[options.mechanism]}
    if options.graph:
        cause = {"graph": _graph(options.graph, table)}
    device = _device(options.device)
    _make_folder(options.out, options.draws)
    model = GINA(table, latent_dim=options.latent_dim, seed=options.seed, **cause)
    guide = ZeroImpute(table, model.latent_dim, seed=options.seed)
    result = fit(
        model,
        guide,
        table,
        epochs=options.epochs,
        num_particles=options.particles,
        seed=options.seed,
        device=device,
        progress=not options.quiet,
    )
    imputations = impute(result, table, num_draws=options.draws, seed=options.seed)
    for name, frame in zip(_draw_names(options.draws), imputations.frames(), strict=True):
        frame.to_csv(options.out / name, index=False)
    imputations.mean().to_csv(options.out / "mean.csv", index=False)
    result.history.to_csv(options.out / "history.csv", index=False)
    print(f"{options.out}: {options.draws} completed tables and their mean; {imputations.cells.shape[1]} cells imputed")


def _demo(options: argparse.Namespace) -> None:
    """Fit GINA to a real table whose values are missing not at random, and compare it with the usual imputers."""
    from pyro_mnar.cli.demo import run

    run(options.out, options.seed)


def _experiment(options: argparse.Namespace) -> None:
    """Run an experiment of the paper: a CSV of its runs, tables beside the published figures, figures.

    Called again it continues: runs that --out holds are not run again.
    """
    if options.seeds < 1:
        raise ValueError(f"--seeds: expected at least 1, got {options.seeds}")
    experiment = EXPERIMENTS[options.name](folder=options.data, quick=options.quick)
    out = options.out or Path("experiments") / (f"{options.name}-quick" if options.quick else options.name)
    try:
        run_experiment(experiment, out, seeds=range(options.seeds))
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted; {out} keeps what is finished, the same command goes on from there"
        ) from None
    print(f"{out}: runs.csv, tables.md and the figures")


def _say_kinds(table: Table) -> None:
    """What was taken for levels or words, so that it can be overruled before the training rather than after."""
    kinds = table.schema.describe_kinds()
    inferred = kinds[(kinds["because"] != "declared") & (kinds["kind"] != "continuous")]
    if len(inferred):
        said = [f"{name} {kind} ({because})" for name, kind, because, _ in inferred.head(SHOWN).itertuples()]
        more = f" and {len(inferred) - SHOWN} more" if len(inferred) > SHOWN else ""
        print(f"kinds: {', '.join(said)}{more}; --kinds COLUMN=KIND overrules")


def _auxiliary(given: str | None) -> Any:
    return given if given is None or given == "mask" else [name.strip() for name in given.split(",") if name.strip()]


def _draw_names(draws: int) -> list[str]:
    digits = max(2, len(str(draws)))
    return [f"draw_{number:0{digits}}.csv" for number in range(1, draws + 1)]


def _make_folder(out: Path, draws: int) -> None:
    """Before any training: make the folder, and refuse to leave draws of another run beside the new ones."""
    out.mkdir(parents=True, exist_ok=True)
    left = {path.name for path in out.glob("draw_*.csv")} - set(_draw_names(draws))
    if left:
        raise ValueError(f"--out: {out} holds {min(left)} of another run, which would stay beside these draws")


def _codes(given: str) -> tuple[str, list[Any]]:
    column, equals, codes = given.partition("=")
    if not (column and equals and codes):
        raise ValueError(f"--na-values: expected COLUMN=CODE,CODE, got {given!r}")
    return column, [_number(code) for code in codes.split(",")]


def _kind(given: str) -> tuple[str, str]:
    column, equals, kind = given.rpartition("=")
    if not (column and equals and kind):
        raise ValueError(f"--kinds: expected COLUMN=KIND, got {given!r}")
    return column, kind.replace("-", "_")


def _bound(given: str, end: str) -> tuple[str, Any]:
    column, equals, bound = given.rpartition("=")
    if not (column and equals and bound):
        raise ValueError(f"--{end}: expected COLUMN=NUMBER, got {given!r}")
    return column, _number(bound)


def _number(text: str) -> Any:
    """A code as the file's reader would read it: a number if it is one."""
    try:
        return float(text)
    except ValueError:
        return text


def _graph(given: str, table: Table) -> MissingnessGraph:
    path = Path(given)
    if path.suffix == ".json":
        return MissingnessGraph.from_json(path.read_text(encoding="utf-8"), table)
    return MissingnessGraph.preset(given, table)


def _device(name: str) -> Any:
    import torch

    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device: cannot use {name!r}: {str(error).splitlines()[0]}") from None
    return device
