"""What may come of input that nobody thought of, and the checks of it."""

from __future__ import annotations

import contextlib
import io
import signal
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import pyro_mnar
from bad_inputs.case import untrained
from pyro_mnar import Fit, Table, guides, impute, models
from pyro_mnar.cli import main

HOMES = tuple(str(Path(package.__file__).parent) for package in (pyro_mnar, models, guides))
REFUSALS = (ValueError, TypeError, OSError)
LONGEST = 30  # seconds of the processor; what takes longer hangs
TRIED: Counter[str] = Counter()  # calls, by how they were answered


class Hangs(BaseException):
    """A call that took too long: no ``except`` of the package may take it for an error of its own."""


def judged(call: Callable[[], Any], also: str | None = None) -> Any:
    """What comes of a call; None if it was refused as it should be.  Any other end is an exception here.

    A refusal is one line, raised by the package and not by what it calls (of files, the system's own will do).  No
    warning but the package's own words, UserWarnings, comes out.

    Args:
        call: What is tried.
        also: A library whose own refusals will do, in as many lines as it has.
    """
    with warnings.catch_warnings(record=True) as said, limited():
        warnings.simplefilter("always")
        try:
            found = call()
        except REFUSALS as error:
            check_refusal(error, also)
            TRIED["refused"] += 1
            found = None
        else:
            TRIED["answered"] += 1
    for one in said:
        assert issubclass(one.category, UserWarning), f"{one.category.__name__}: {one.message} ({one.filename})"
        assert not str(one.filename).startswith("/usr"), one
    return found


def check_refusal(error: Exception, also: str | None = None) -> None:
    """One line of our own."""
    message = str(error)
    assert message.strip(), f"{type(error).__name__} without a message"
    last = traceback.extract_tb(error.__traceback__)[-1]
    if also and f"/{also}/" in last.filename:
        return
    assert "\n" not in message, f"more than one line: {message!r}"
    is_ours = last.filename.startswith(HOMES) or isinstance(error, OSError)
    assert is_ours, f"{type(error).__name__} of {last.filename}, line {last.lineno}: {message!r}"


@contextlib.contextmanager
def limited(seconds: float = LONGEST) -> Iterator[None]:
    """Raise Hangs in what takes longer: of the processor's time, as others may be busy; ten times as long of a clock's."""

    def hangs(number: int, _: Any) -> None:
        raise Hangs(
            f"more than {seconds:g} s of the processor" if number == signal.SIGPROF else f"more than {10 * seconds:g} s"
        )

    clocks = {signal.SIGPROF: signal.ITIMER_PROF, signal.SIGALRM: signal.ITIMER_REAL}
    before = {number: signal.signal(number, hangs) for number in clocks}
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, 10 * seconds)
    try:
        yield
    finally:
        for number, clock in clocks.items():
            signal.setitimer(clock, 0)
            signal.signal(number, before[number])


@contextlib.contextmanager
def unchanged(frame: pd.DataFrame) -> Iterator[None]:
    """Whatever happens, the caller's frame is as it was: values, dtypes, labels."""
    before = frame.copy(deep=True)
    yield
    assert same(before, frame), "the caller's frame was changed"


def same(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    """To the last bit, lists in cells and columns of one name included."""
    if one.shape != other.shape or list(one.dtypes) != list(other.dtypes):
        return False
    labels = all(repr(a) == repr(b) for a, b in ((list(one.index), list(other.index)), (list(one), list(other))))
    return labels and all(same_cells(one.iloc[:, at], other.iloc[:, at]) for at in range(one.shape[1]))


def same_cells(one: pd.Series, other: pd.Series) -> bool:
    if one.dtype == object or other.dtype == object:
        return [repr(cell) for cell in one] == [repr(cell) for cell in other]
    return bool(one.array.equals(other.array)) if one.dtype == other.dtype else False


def completed(fit: Fit, table: Any, **options: Any) -> Any:
    """Draws by a fit; finite in every gap that was to be filled, and elsewhere as the frame came."""
    given = {"num_draws": 2, "num_particles": 3, "compile": "eager", **options}
    found = judged(lambda: impute(fit, table, **given))
    if found is None or (isinstance(table, Table) and not hasattr(table.storage, "frame")):
        return found
    frame = table.frame if isinstance(table, Table) else table
    schema = fit.schema
    coded = {name for _, name, _ in schema.codes} | {one.column for one in schema.derived}
    plain = [name for name in schema.names if name not in coded]
    for done in [*found.pandas_frames(), found.mean()]:
        assert list(map(repr, done.columns)) == list(map(repr, frame.columns))
        assert len(done) == len(frame)
    for done in found.pandas_frames():
        for name in plain:
            before, after = frame[name], done[name]
            seen = before.notna().to_numpy()
            # New rows may have the dtype of words where they have no value and training had numbers.
            holds_words = not seen.any() and pd.api.types.is_string_dtype(before.dtype)
            assert before.dtype == after.dtype or holds_words, f"{name!r}: {before.dtype} became {after.dtype}"
            assert same_cells(before[seen], after[seen]), f"{name!r}: an observed cell was changed"
    inapplicable = ~found.table.applicable.numpy()
    for number, name in enumerate(schema.names):
        if name in coded or inapplicable[:, number].any():
            continue
        for done in [*found.pandas_frames(), found.mean()]:
            values = done[name]
            assert values.notna().all(), f"{name!r}: a gap is left"
            if pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_complex_dtype(values.dtype):
                assert np.isfinite(values.to_numpy(dtype=float)).all(), f"{name!r}: not finite"
    return found


def check_table(table: Table) -> None:
    """What models see is finite; an untrained model completes it."""
    batch = table.batch()
    for name in ("x", "aux"):
        assert bool(getattr(batch, name).isfinite().all()), f"{name} is not finite"
    fit = judged(lambda: untrained(table))
    if fit is not None:
        completed(fit, table)


def shell(arguments: list[str]) -> int:
    """A command's exit status: 0, or 2 with one line on standard error and no result on standard output."""
    said, printed = io.StringIO(), io.StringIO()
    with (
        limited(),
        warnings.catch_warnings(),
        contextlib.redirect_stderr(said),
        contextlib.redirect_stdout(printed),
    ):
        warnings.simplefilter("default")
        try:
            status = main(arguments)
        except SystemExit as end:  # argparse's: usage, and a line
            status = int(str(end.code))
    # Notes say how a file was read; errors of argparse come with its usage.
    notes = ("pyro-mnar: warning: ", "usage", " ", "--", f"{arguments[1]}: ")
    lines = [line for line in said.getvalue().split("\n") if line and not line.startswith(notes)]
    assert status in (0, 2), f"status {status}: {said.getvalue()}"
    expected = 1 if status else 0
    assert len(lines) == expected and all(line.startswith("pyro-mnar") for line in lines), lines
    results = [line for line in printed.getvalue().split("\n") if line and not line.startswith(notes)]
    assert not (status and results), results
    assert "RuntimeError" not in said.getvalue() and "RecursionError" not in said.getvalue(), said.getvalue()
    TRIED["refused" if status else "answered"] += 1
    return status
