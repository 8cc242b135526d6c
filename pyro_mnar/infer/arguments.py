"""Numbers that users give to inference: checked in one place, before anything runs."""

from __future__ import annotations

import os
from typing import Any

from pyro_mnar.messages import whole_number

THREADS_PER_CORE = 16  # far beyond use; torch ends the process where the system refuses a thread


def thread_count(value: Any) -> int:
    """A number of threads that a process may start.

    Raises:
        TypeError: If it is no whole number.
        ValueError: If it is below 1, or far above the number of cores.
    """
    count, most = whole_number("threads", value), THREADS_PER_CORE * (os.cpu_count() or 1)
    if count > most:
        raise ValueError(f"threads: expected at most {most} on a machine of {os.cpu_count()} cores, got {count}")
    return count
