"""The command line: `pyro-mnar impute` completes a CSV file, `pyro-mnar demo` shows the main job on real data,
`pyro-mnar experiment` makes the paper's tables and figures.

What a command needs is imported when it runs, so that help and wrong options are answered at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pyro_mnar.cli.options import parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit status: 0, 2 for an error, 130 after Ctrl-C; either of the latter is one line on standard error.
    """
    options = parser().parse_args(arguments)
    try:
        from pyro_mnar.infer.session import threads

        with threads(options.threads):
            COMMANDS[options.command](options)
    except (ValueError, TypeError, OSError) as error:
        message = " ".join(str(error).split())
        print(f"pyro-mnar: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        print(f"\npyro-mnar: {str(interrupt) or 'interrupted'}", file=sys.stderr)
        return 130  # 128 + SIGINT, as shells have it
    return 0


def _impute(options: argparse.Namespace) -> None:
    from pyro_mnar.cli.completion import complete_file

    complete_file(options)


def _demo(options: argparse.Namespace) -> None:
    from pyro_mnar.cli.demo import run

    run(options.out, options.seed)


def _experiment(options: argparse.Namespace) -> None:
    from pyro_mnar.experiments import EXPERIMENTS, run_experiment

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


COMMANDS = {"impute": _impute, "demo": _demo, "experiment": _experiment}
