"""Try input made at random for as long as told: ``make fuzz``.

    make fuzz                                    for an hour
    make fuzz ARGS="--minutes 5 frames csv"      for five minutes, these two

Hypothesis makes it, target by target, in rounds of a seed each, and shrinks what it finds to the least such input.
Where atheris is installed (extra ``fuzz``), half of the time goes to readers of files by :mod:`fuzz.covered`, which follows the
branches that input takes.  Findings are printed once each, with what was given; examples stay in ``build/fuzz``, and
come first in the next run.  What was found and mended is a case of ``tests/bad_inputs``.  Ends with status 1 after a
finding.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase
from hypothesis.internal.conjecture import engine

from fuzz.oracle import TRIED, Hangs
from fuzz.targets import Target, targets

engine.MAX_SHRINKING_SECONDS = 20  # in place of 300: the next input waits
ROOT = Path(__file__).parents[2]
KEPT = ROOT / "build" / "fuzz"
EXAMPLES = 100  # of a round: then the next target has its turn


def tried(
    name: str, target: Target, seed: int, examples: int = EXAMPLES, *, is_kept: bool = True, begins: bool = True
) -> list[BaseException]:
    """A round; what was found, shrunk.  What was found before is tried where the run begins."""

    @hypothesis.settings(
        phases=[phase for phase in Phase if begins or phase is not Phase.reuse],
        max_examples=examples,
        deadline=None,
        database=DirectoryBasedExampleDatabase(KEPT / "examples" / name) if is_kept else None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @hypothesis.seed(seed)  # below the settings, whose database it would take away
    @hypothesis.given(st.data())
    def run(data: st.DataObject) -> None:
        try:
            target(data)
        except Hangs as error:
            raise AssertionError(str(error)) from error

    try:
        run()
    except BaseExceptionGroup as group:
        return list(group.exceptions)
    except Exception as error:
        return [error]
    return []


def place(error: BaseException) -> str:
    """What makes two findings one: where they come from."""
    frames = [one for one in traceback.extract_tb(error.__traceback__) if "hypothesis" not in one.filename]
    return f"{type(error).__name__} {frames[-1].filename}:{frames[-1].lineno} {str(error)[:60]}"


def told(name: str, error: BaseException) -> str:
    """A finding, with what was drawn and the end of its traceback."""
    lines = traceback.format_exception(error, limit=-6)
    return "\n".join([f"== {name}: {place(error)}", *getattr(error, "__notes__", []), "".join(lines)])


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make fuzz")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("targets", nargs="*", choices=[*targets(), []], metavar="TARGET", help=", ".join(targets()))
    given = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    chosen = {name: targets()[name] for name in given.targets} or targets()
    covers = importlib.util.find_spec("atheris") is not None and not given.targets
    ends = time.monotonic() + 60 * given.minutes * (0.5 if covers else 1.0)
    found: dict[str, str] = {}
    spent: dict[str, list[Any]] = {name: [0.0, 0, 0] for name in chosen}
    seed = given.seed
    while time.monotonic() < ends:
        seed += 1
        for name, target in chosen.items():
            if time.monotonic() >= ends:
                break
            began, before = time.monotonic(), dict(TRIED)
            for error in tried(name, target, seed, begins=seed == given.seed + 1):
                if place(error) not in found:
                    found[place(error)] = told(name, error)
                    print(found[place(error)], flush=True)
            new = [TRIED[how] - before.get(how, 0) for how in ("answered", "refused")]
            spent[name] = [a + b for a, b in zip(spent[name], [time.monotonic() - began, *new], strict=True)]
    for name, (seconds, answered, refused) in spent.items():
        print(f"{name:14}{seconds / 60:6.1f} min  {answered:7} answered  {refused:7} refused")
    print(f"{sum(TRIED.values())} calls, {len(found)} findings")
    status = bool(found)
    if covers:
        command = [sys.executable, "-m", "fuzz.covered", "--minutes", str(given.minutes / 2)]
        status |= bool(subprocess.call(command))
    return int(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
