"""How a training shows how far it is: a bar where somebody looks on, a line a tenth where a file or a log listens."""

from __future__ import annotations

import sys
import time
from typing import Any, Protocol, runtime_checkable

from tqdm import tqdm

from pyro_mnar.infer.session import surroundings_kept

PARTS = 10  # lines of a whole training, after the first


@runtime_checkable
class Progress(Protocol):
    """What is told of epochs; a bar of tqdm's is one."""

    def update(self, n: int = 1) -> Any:
        """So many more epochs are done."""

    def set_postfix_str(self, s: str) -> Any:
        """What the last epoch reached."""

    def close(self) -> Any:
        """No more epochs come."""


def progress_of(epochs: int, label: str, *, shown: bool, done: int = 0, unit: str = "epoch") -> Progress:
    """A bar on standard error, or lines where that is no terminal and no notebook; nothing where there is none.

    Args:
        epochs: How many there are in all.
        label: What to call the run.
        shown: Whether to show anything.
        done: How many were done before.
        unit: What to call one.
    """
    # Services and pythonw have no standard error, on which tqdm would fail.
    stream = sys.stderr
    hidden = not shown or stream is None
    if stream is None or hidden or stream.isatty() or "ipykernel" in sys.modules:
        with surroundings_kept():  # tqdm's lock decides how the whole process starts others
            return tqdm(total=epochs, initial=done, unit=unit, desc=label or None, disable=True if hidden else None)
    return Lines(epochs, label, done, unit)


class Lines:
    """A line at the start and after every tenth of the epochs.

    Args:
        epochs: How many there are.
        label: What the lines call the run.
        done: How many were done before.
        unit: What to call one.
    """

    def __init__(self, epochs: int, label: str = "", done: int = 0, unit: str = "epoch") -> None:
        self.epochs, self.label, self.done, self.reached, self.unit = epochs, label or "training", done, "", unit
        self.before = done
        self.start = time.perf_counter()
        self._say(f"{epochs} {unit}s" + (f", of which {done} are done" if done else ""))

    def update(self, n: int = 1) -> None:
        """So many more epochs are done."""
        before, self.done = self.done, self.done + n
        if self.done * PARTS // self.epochs > before * PARTS // self.epochs:
            seconds = time.perf_counter() - self.start
            left = seconds * (self.epochs - self.done) / (self.done - self.before)
            self._say(f"{self.unit} {self.done} of {self.epochs}, {self.reached}, {seconds:.0f} s, {left:.0f} s left")

    def set_postfix_str(self, s: str) -> None:
        """What the last epoch reached."""
        self.reached = s

    def close(self) -> None:
        """The last word, if that was not the end."""
        if self.done < self.epochs:
            self._say(f"ended after {self.unit} {self.done} of {self.epochs}, {self.reached}")

    def _say(self, text: str) -> None:
        sys.stderr.write(f"{self.label}: {text}\n")
        sys.stderr.flush()
