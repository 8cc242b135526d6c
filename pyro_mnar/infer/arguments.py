"""What users give to inference, models, guides and numbers: checked in one place, before anything runs."""

from __future__ import annotations

import os
from typing import Any

from pyro_mnar.messages import shown, whole_number

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


def check_callable(value: Any, role: str) -> None:
    """Refuse what is no model or guide.

    Args:
        value: What was given.
        role: ``"model"`` or ``"guide"``.

    Raises:
        TypeError: If it is a class, or cannot be called.
    """
    if isinstance(value, type):
        raise TypeError(f"{role}: expected an object, got the class {value.__name__}: make one, {value.__name__}(...)")
    if not callable(value):
        cure = "; a guide without sites is `lambda batch: None`" if role == "guide" else ""
        raise TypeError(f"{role}: expected a function or module of a batch, got {shown(value)}{cure}")
