"""What the extra ``[scale]`` brings, imported where it is used."""

from __future__ import annotations

import importlib
from typing import Any


def needed(module: str) -> Any:
    """A module of the extra.

    Raises:
        ImportError: Names the extra to install.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{module} is not installed: pip install 'pyro-mnar[scale]'") from error
