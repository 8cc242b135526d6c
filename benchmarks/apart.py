"""A function in a process of its own, so that its peak memory is its own and no section leaves anything to the next.

Peak memory is what the process held in RAM at most.  On Linux it is read from /proc, because getrusage starts from what
the parent held when the process was made.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

STATUS = Path("/proc/self/status")


class Apart(NamedTuple):
    """What came of it.

    Attributes:
        result: What the function returned.
        peak: Most memory held, MB.
        base: Of it, what the process held once everything was imported and nothing done, MB.
    """

    result: Any
    peak: float
    base: float

    @property
    def own(self) -> float:
        """What the function's work took, MB."""
        return self.peak - self.base


def apart(
    function: Callable[..., Any], *arguments: Any, start: str = "spawn", environment: Mapping[str, str] | None = None
) -> Apart:
    """Call a function of a module in a process of its own.

    Args:
        function: What to call.
        *arguments: Its arguments.
        start: How the process is made, as ``multiprocessing`` calls it.
        environment: Variables that the process sees from its start, beside those of this one.
    """
    before = dict(os.environ)
    os.environ.update(environment or {})
    try:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(start)) as pool:
            return pool.submit(_measured, function, arguments).result()
    finally:
        os.environ.clear()
        os.environ.update(before)


def peak_memory() -> float:
    """Most memory that this process held so far, MB."""
    if STATUS.exists():
        return int(STATUS.read_text().split("VmHWM:")[1].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def _measured(function: Callable[..., Any], arguments: tuple) -> Apart:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it at once; a fit would return what it has so far
    base = peak_memory()
    return Apart(function(*arguments), peak_memory(), base)
