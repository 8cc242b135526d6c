"""What may have been given in place of what was expected, whatever it is, and how a message shows it.

Every room may import it.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Collection, Container, Iterable, Mapping, Sequence, Sized
from os import PathLike
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import pandas as pd
from numpy.typing import NDArray

MOST_CHARACTERS = 300
GREATEST_SEED = 2**63 - 1  # that torch's generators take


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
    except (TypeError, ValueError, RuntimeError):  # what is compared says neither yes nor no
        return False


def is_hashable(value: Any) -> bool:
    """Whether a value can be a name, down to its parts."""
    try:
        hash(value)
    except TypeError:
        return False
    return True


def has_parts(value: Any) -> bool:
    """Whether a value has parts to go through: an array or tensor without dimensions says so, and has none."""
    return isinstance(value, Iterable) and getattr(value, "shape", None) != ()


def is_gap(value: Any) -> bool:
    """Whether a value is one that stands for a missing one: None, NaN, NaT, pandas' NA."""
    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


def is_real(value: Any) -> TypeGuard[float]:
    """Whether a value is one real number, NumPy's included; infinity and NaN are, True is none."""
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def is_finite(value: Any) -> TypeGuard[float]:
    """Whether a value is a real number that a float holds."""
    if isinstance(value, int):
        return is_real(value) and abs(value) <= sys.float_info.max
    return is_real(value) and math.isfinite(value)


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


def positive_number(name: str, value: Any) -> float:
    """A finite number above zero.

    Raises:
        TypeError: If it is no number; names the argument.
        ValueError: If it is zero or less, infinite or NaN.
    """
    if not is_real(value):
        raise TypeError(f"{name}: expected a number above 0, got {shown(value)}")
    if not (value > 0 and is_finite(value)):
        raise ValueError(f"{name}: expected more than 0, and finite, got {shown(value)}")
    return float(value)


def finite_number(name: str, value: Any) -> float:
    """A finite number.

    Raises:
        TypeError: If it is no number, or not finite; names the argument.
    """
    if not is_finite(value):
        raise TypeError(f"{name}: expected a finite number, got {shown(value)}")
    return float(value)


def number_from_zero(name: str, value: Any) -> float:
    """A finite number that is not below zero.

    Raises:
        ValueError: If it is none; names the argument.
    """
    if not is_finite(value) or value < 0:
        raise ValueError(f"{name}: expected a finite number from 0, got {shown(value)}")
    return float(value)


def share_of(name: str, value: Any) -> float:
    """A share: more than none, and less than all.

    Raises:
        ValueError: If it is no number between 0 and 1; names the argument.
    """
    if not is_real(value) or not 0 < value < 1:
        raise ValueError(f"{name}: expected a share above 0 and below 1, got {shown(value)}")
    return float(value)


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


def check_is(name: str, value: Any, expected: type | tuple[type, ...], how: str = "") -> None:
    """TypeError unless a value is an instance of a class, or of one of some.

    Args:
        name: Of the argument.
        value: What came.
        expected: The classes.
        how: What the message adds to their names, such as where one comes from.
    """
    if not isinstance(value, expected):
        known = " or ".join(kind.__name__ for kind in (expected if isinstance(expected, tuple) else (expected,)))
        article = "an" if known[0] in "AEIOU" else "a"
        raise TypeError(f"{name}: expected {article} {known}{how}, got {type(value).__name__}")


def real_array(name: str, value: Any) -> NDArray[np.float64]:
    """Real numbers, of any shape.

    Raises:
        TypeError: If they are none, such as words, dates or complex numbers; names the argument.
    """
    try:
        found = np.asarray(value)
        if found.dtype.kind not in "cmM":
            return found.astype(np.float64, copy=False)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # NumPy's, or that of a tensor with a gradient
        pass
    raise TypeError(f"{name}: expected numbers, got {shown(value)}")


def check_function(name: str, value: Any) -> None:
    """TypeError unless a value can be called, as a function, a class or a module can."""
    if not callable(value):
        raise TypeError(f"{name}: expected something to call, got {shown(value)}")


def check_list(name: str, value: Any) -> Sequence[Any]:
    """A list or tuple of one thing or more.

    Raises:
        TypeError: If it is neither.
        ValueError: If there is nothing in it.
    """
    check_is(name, value, (list, tuple))
    if not value:
        raise ValueError(f"{name}: expected at least one, got none")
    return value


def names_of(name: str, value: Any) -> Iterable[Any]:
    """Several names: something to go through that is no text and no mapping, of what can be a name.

    Raises:
        TypeError: If it is none; names the argument.
    """
    is_list = isinstance(value, Iterable) and isinstance(value, Sized) and has_parts(value)
    if isinstance(value, (str, bytes)) or not is_list:
        raise TypeError(f"{name}: expected a list, got {shown(value)}")
    for one in value:
        if not is_hashable(one) or is_gap(one):
            raise TypeError(f"{name}: expected names, got {shown(one)}")
    return value


def mapping_of(name: str, value: Any) -> Mapping[Any, Any]:
    """A mapping, empty for None; TypeError for anything else."""
    if value is not None:
        check_is(name, value, Mapping)
    return {} if value is None else value


def check_one_of(name: str, value: Any, known: Collection[Any]) -> None:
    """ValueError unless a value is among those known."""
    if not is_one_of(value, known):
        raise ValueError(f"{name}: expected one of {list(known)}, got {shown(value)}")


def path_of(name: str, value: Any) -> Path:
    """Where a file stands.

    Raises:
        TypeError: If it is neither text nor a path.
        ValueError: If it names no file.
    """
    path = place_of(name, value)
    if not path.name:
        raise ValueError(f"{name}: expected the path of a file, got {shown(value)}")
    return path


def place_of(name: str, value: Any) -> Path:
    """Where a file or a folder stands.

    Raises:
        TypeError: If it is neither text nor a path.
        ValueError: If no file system takes it: it has a zero character, or half of one of two.
    """
    if not isinstance(value, (str, PathLike)) or not isinstance(os.fspath(value), str):
        raise TypeError(f"{name}: expected the path of a file, got {shown(value)}")
    try:
        is_taken = b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:
        is_taken = False
    if not is_taken:
        raise ValueError(f"{name}: expected the path of a file, got {shown(value)}")
    return Path(value)
