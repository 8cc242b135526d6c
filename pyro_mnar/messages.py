"""What may have been given in place of what was expected, whatever it is, and how a message shows it.

Every room may import it.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any, TypeGuard

import numpy as np
import pandas as pd

MOST_CHARACTERS = 300


def shown(value: Any) -> str:
    """A value in one line: of a frame, a module or a long text its beginning."""
    try:
        text = repr(value)
    except Exception:  # of a class of the caller's own, or a number of too many digits to be written
        text = f"a value of type {type(value).__name__}"
    if "\n" in text:
        text = " ".join(text.split())
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}... ({type(value).__name__})"


def in_line(name: Any) -> str:
    """A name as it is, or in quotes if it has line ends."""
    text = str(name)
    return shown(name) if "\n" in text else text


def is_one_of(value: Any, known: Container[Any]) -> bool:
    """Whether a value is among those known; False of what cannot be compared with them, such as a list or an array."""
    try:
        return is_hashable(value) and value in known
    except (TypeError, ValueError):  # what is compared says neither yes nor no
        return False


def is_hashable(value: Any) -> bool:
    """Whether a value can be a name, down to its parts."""
    try:
        hash(value)
    except TypeError:
        return False
    return True


def is_gap(value: Any) -> bool:
    """Whether a value is one that stands for a missing one: None, NaN, NaT, pandas' NA."""
    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


def is_real(value: Any) -> TypeGuard[float]:
    """Whether a value is one real number, NumPy's included; infinity and NaN are, True is none."""
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
