"""Parts of torch that its versions promise nothing about: looked up when they are used, and only in this room.

What a version of torch lacks is a reason not to capture, and no reason for anything else to fail.
"""

from __future__ import annotations

import importlib
from typing import Any

import torch


class CannotCapture(Exception):
    """Why a function of a batch is no fixed graph."""


def internal(module: str, name: str) -> Any:
    """A name in a module of torch.

    Raises:
        CannotCapture: If this version of torch has no such module, or no such name in it.
    """
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise CannotCapture(f"torch {torch.__version__} has no {module}.{name}") from error
