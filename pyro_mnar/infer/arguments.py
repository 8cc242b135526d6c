"""Numbers and devices that users give: checked in one place, before anything runs."""

from __future__ import annotations

import math
import os
import sys
from typing import Any

import numpy as np
import torch

from pyro_mnar.messages import is_real, shown

GREATEST_SEED = 2**63 - 1  # that torch's generators take
THREADS_PER_CORE = 16  # far beyond use; torch ends the process where the system refuses a thread


def whole_number(name: str, value: Any, least: int = 1) -> int:
    """A whole number, NumPy's included.

    Raises:
        TypeError: If it is none, such as True, 1.5 or text; names the argument.
        ValueError: If it is less than the least.
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: expected a whole number, got {shown(value)}")
    if value < least:
        raise ValueError(f"{name}: expected at least {least}, got {value}")
    return int(value)


def check_boolean(name: str, value: Any) -> None:
    """TypeError unless it is True or False: a word such as "no" would count as yes."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected True or False, got {shown(value)}")


def seed_of(value: Any) -> int:
    """A seed of random numbers.

    Raises:
        ValueError: If it is no whole number from 0, or too large for torch's generators.
    """
    is_whole = isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.bool_))
    if not is_whole or not 0 <= value <= GREATEST_SEED:
        most = " below 2**63" if is_whole and value > 0 else ""
        raise ValueError(f"seed: expected a whole number from 0{most}, got {shown(value)}")
    return int(value)


def positive_number(name: str, value: Any) -> float:
    """A finite number above zero.

    Raises:
        TypeError: If it is no number; names the argument.
        ValueError: If it is zero or less, infinite or NaN.
    """
    if not is_real(value):
        raise TypeError(f"{name}: expected a number above 0, got {shown(value)}")
    is_finite = abs(value) <= sys.float_info.max if isinstance(value, int) else math.isfinite(value)
    if not (value > 0 and is_finite):
        raise ValueError(f"{name}: expected more than 0, and finite, got {shown(value)}")
    return float(value)


def device_of(given: Any, name: str = "device") -> torch.device:
    """A device that is there.

    Raises:
        TypeError: If it is neither a name nor a device, such as 3.5 or True.
        ValueError: If there is none of that name on this machine.
    """
    if not isinstance(given, (str, torch.device)):
        raise TypeError(f"{name}: expected a name such as 'cpu' or 'cuda:0', or a torch.device, got {shown(given)}")
    try:
        device = torch.device(given)
    except RuntimeError:
        raise ValueError(f"{name}: expected a name such as 'cpu' or 'cuda:0', got {shown(given)}") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise ValueError(
            f"{name}: cannot use {str(given)!r}: this machine has {count} CUDA devices; 'cpu' is always there"
        )
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"{name}: cannot use {str(given)!r}: {str(error).splitlines()[0]}") from None
    return device


def check_holds_numbers(device: torch.device) -> None:
    """ValueError for ``meta``, on which a step can be tried, and which has nothing to give back."""
    if device.type == "meta":
        raise ValueError("device: expected one that holds numbers, such as 'cpu', got 'meta'")


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
