"""The command line: `pyro-mnar impute` completes a CSV file, `pyro-mnar describe` says how it is read, `pyro-mnar demo`
shows the main job on real data, `pyro-mnar experiment` makes the paper's tables and figures.

What a command needs is imported when it runs, so that help and wrong options are answered at once.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyro_mnar.cli.options import parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit status: 0, 2 for an error, 130 after Ctrl-C; either of the latter is one line on standard error.
    """
    options = parser().parse_args(_joined(sys.argv[1:] if arguments is None else arguments))
    try:
        from pyro_mnar.infer.session import threads

        with warnings.catch_warnings(), threads(options.threads):
            warnings.showwarning = _show
            COMMANDS[options.command](options)
    except KeyboardInterrupt as interrupt:
        _say(f"\npyro-mnar: {str(interrupt) or 'interrupted'}")
        return 130  # 128 + SIGINT, as shells have it
    except BrokenPipeError:  # as of `pyro-mnar ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter fails when it flushes
        return 141  # 128 + SIGPIPE
    except MemoryError as error:
        _say(
            f"pyro-mnar: not enough memory: {' '.join(str(error).split()) or 'fewer --draws or --particles take less'}"
        )
        return 2
    except (ValueError, TypeError, OSError) as error:
        _say(f"pyro-mnar: {' '.join(str(error).split())}")
        return 2
    except (RuntimeError, RecursionError) as error:  # torch's: no memory, no device
        _say(f"pyro-mnar: {type(error).__name__}: {' '.join(str(error).split())}")
        return 2
    return 0


def _joined(arguments: Sequence[str]) -> list[str]:
    """Codes such as ``-99,-98`` bound to their option, since they look like one themselves."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] == "--na-values" and re.match(r"-[0-9.]", argument):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _show(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any) -> None:
    """A warning as a line of the command line's own, without the place in this package that gave it."""
    _say(f"pyro-mnar: warning: {' '.join(str(message).split())}")


def _say(message: str) -> None:
    if sys.stderr is not None:  # services have none
        print(message, file=sys.stderr)


def _impute(options: argparse.Namespace) -> None:
    from pyro_mnar.cli.completion import complete_file

    complete_file(options)


def _describe(options: argparse.Namespace) -> None:
    from pyro_mnar.cli.declarations import Declarations
    from pyro_mnar.cli.output_folder import write_new
    from pyro_mnar.cli.schema_file import declarations_in, described, draft

    declared = Declarations.of_options(options)
    if options.schema:
        declared = declared.over(declarations_in(options.schema))
    read, table = declared.read(options.data)
    print(described(read, table))
    if options.write:
        write_new(options.write, draft(read, table, declared).encode())
        print(
            f"{options.write}: a draft; pyro-mnar impute {options.data} --schema {options.write} --out FOLDER reads it"
        )


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


COMMANDS = {"impute": _impute, "describe": _describe, "demo": _demo, "experiment": _experiment}
