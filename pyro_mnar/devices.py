"""Devices that users name: checked in one place, before anything runs."""

from __future__ import annotations

from typing import Any

import torch

from pyro_mnar.messages import shown


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
