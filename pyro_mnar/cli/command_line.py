"""The command line: an analysis in commands, from `describe` and `fit` to `pool` and `report`; a demo; the paper's
experiments.

What a command needs is imported when it runs, so that help and wrong options are answered at once.  Results go to
standard output, warnings and progress to standard error.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

from pyro_mnar.cli.outcome import Outcome
from pyro_mnar.cli.verbs import parsed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit status: 0; 1 if ``check`` found a problem; 2 for an error, 130 after Ctrl-C, either of which is one
        line on standard error; 141 if the reader of the output is gone.
    """
    options = parsed(sys.argv[1:] if arguments is None else arguments)
    try:
        from pyro_mnar.infer.session import threads

        with warnings.catch_warnings(), _logged(), threads(options.threads):
            warnings.showwarning = _show
            return _run(options)
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


def _run(options: argparse.Namespace) -> int:
    command = COMMANDS[options.command]
    if not getattr(options, "json", False):
        return command(options).status
    with redirect_stdout(sys.stderr):
        outcome = command(options)
    print(outcome.to_json())
    return outcome.status


def _show(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any) -> None:
    """A warning as a line of the command line's own, without the place in this package that gave it."""
    _say(f"pyro-mnar: warning: {' '.join(str(message).split())}")


class _Log(logging.Handler):
    """The package's log as lines of the command line's own."""

    def emit(self, record: logging.LogRecord) -> None:
        _say(f"pyro-mnar: {record.getMessage()}")


@contextmanager
def _logged() -> Iterator[None]:
    """Show what the package's log warns of."""
    log, handler = logging.getLogger("pyro_mnar"), _Log(logging.WARNING)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


def _say(message: str) -> None:
    from pyro_mnar.cli.option_words import in_options

    if sys.stderr is not None:  # services have none
        print(in_options(message), file=sys.stderr)


def _module(name: str) -> Any:
    return import_module(f"pyro_mnar.cli.{name}")


def _describe(options: argparse.Namespace) -> Outcome:
    from pyro_mnar.cli.output_folder import write_new

    inputs, schema_file = _module("inputs"), _module("schema_file")
    source = inputs.read(options)
    print(schema_file.described(source.text, source.table))
    if options.write:
        write_new(options.write, schema_file.draft(source.text, source.table, source.declared).encode())
        print(
            f"{options.write}: a draft; pyro-mnar impute {options.data} --schema {options.write} --out FOLDER reads it"
        )
    return Outcome(schema_file.as_data(source.text, source.table))


def _demo(options: argparse.Namespace) -> Outcome:
    scores = _module("demo").run(options.out, options.seed)
    return Outcome({score.method: score.rmse for score in scores})


def _experiment(options: argparse.Namespace) -> Outcome:
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
    return Outcome({"folder": str(out)})


# Where a command's function is; its module loads torch, and so waits until the command runs.
COMMANDS: dict[str, Callable[[argparse.Namespace], Outcome]] = {
    "describe": _describe,
    "fit": lambda options: _module("completion").fit_file(options),
    "impute": lambda options: _module("completion").complete_file(options),
    "check": lambda options: _module("checking").check(options),
    "compare": lambda options: _module("checking").compare_fits(options),
    "pool": lambda options: _module("analysis").pool(options),
    "sensitivity": lambda options: _module("analysis").vary(options),
    "report": lambda options: _module("analysis").write_report(options),
    "experiment": _experiment,
    "demo": _demo,
}
