"""Memory: what a call will need, estimated before anything is allocated, so that what cannot fit is refused by name.

Estimates are low: what they refuse cannot fit, what they let pass may still be too much.  Every room may import it.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import torch

from pyro_mnar.messages import shown

GIB = 2**30
GREATEST = 10**200  # that is multiplied: a float holds no more
# Copies of a table's cells, particle by particle, that are alive at once: a training step was measured to hold 15 to 35
# of them, weighing particles 12 to 14.
COPIES_OF_A_STEP, COPIES_OF_A_DRAW = 8, 6


def check_room(name: str, value: int, bytes_each: float, what: str) -> None:
    """Refuse a number that needs more memory than there is.

    Args:
        name: The argument.
        value: What was given.
        bytes_each: What one needs at least.
        what: What the memory holds, in words.

    Raises:
        ValueError: Names the argument, what it needs, what there is, and the greatest number that would fit.
    """
    free, bytes_each = available_memory(), float(min(bytes_each, GREATEST)) or 1.0
    if value > free / bytes_each:
        needed = min(value, GREATEST) * bytes_each / GIB
        raise ValueError(
            f"{name}: {shown(value)} need at least {needed:.3g} GiB of memory ({what}), and {free / GIB:.3g} GiB are"
            f" free: expected at most {int(free // bytes_each)}"
        )


def available_memory() -> float:
    """Bytes that this process may still take: what the system has free, or what is left of its container's limit.

    Infinite where the system does not say.
    """
    left = _system(), _container()
    return min(left)


def _system() -> float:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        known = dict(line.split(":", 1) for line in lines)
        return 1024.0 * float(known["MemAvailable"].split()[0])
    except (OSError, ValueError, KeyError):
        pass
    try:
        return float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return math.inf


def _container() -> float:
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        return math.inf if limit == "max" else float(limit) - float((folder / "memory.current").read_text("ascii"))
    except (OSError, ValueError):
        return math.inf


def keep_freed_memory() -> None:
    """Let glibc keep the memory of one run of particles for the next.

    It gives back to the system what is free at the end of the heap and more than twice the largest block that was ever
    freed, and then gets it anew, page by page.  One block of nearly 32 MB, the largest that counts, raises the mark;
    where the C library is another, nothing happens.  Imputing 20,000 rows of 20 columns (K = 100, two draws, a thread)
    takes 3.6 s of the processor with it and 4.2 s without, by a captured graph 4.7 s and 5.4 s; peak memory is the same
    to 6%.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)
