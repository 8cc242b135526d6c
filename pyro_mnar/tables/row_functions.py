"""Functions of a row: a Python function of a frame, or an expression of column names such as ``"weight / height**2"``.

Expressions are evaluated by pandas (``DataFrame.eval``).  What they may hold is a closed list of operators and
mathematical functions, so that one from a file runs no code: no attribute, no call of a method, no variable of Python.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from pyro_mnar.messages import shown

MATHEMATICS = ("abs", "sqrt", "exp", "expm1", "log", "log1p", "log10", "sin", "cos", "tan", "floor", "ceil")
_OPERATORS = (
    ast.Expression,
    ast.BoolOp,
    ast.BinOp,
    ast.UnaryOp,
    ast.Compare,
    ast.Constant,
    ast.List,
    ast.Tuple,
    ast.operator,
    ast.unaryop,
    ast.boolop,
    ast.cmpop,
    ast.expr_context,
)
_QUOTED = re.compile(r"`([^`]+)`")

Source = str | Callable[[pd.DataFrame], Any]


@dataclass(frozen=True)
class RowFunction:
    """A function of a frame's rows, and the columns that it reads.

    Attributes:
        source: As the user gave it.
        names: The columns; empty if nothing tells which.
    """

    source: Source
    names: tuple[Hashable, ...]

    @classmethod
    def of(cls, source: Source, frame: pd.DataFrame, what: str) -> RowFunction:
        """From what a user gives.

        Args:
            source: An expression or a function.
            frame: The rows that it is to be of.
            what: What it is for, in messages.

        Raises:
            ValueError: If it is no expression, or of no column of the frame.
            TypeError: If it is neither text nor a function.
        """
        if callable(source):
            return cls(source, _columns_read(source, frame))
        if not isinstance(source, str):
            raise TypeError(f"{what}: expected an expression or a function of a frame, got {shown(source)}")
        names = names_in(source, what)
        absent = [name for name in names if name not in frame.columns]
        if absent:
            raise ValueError(f"{what}: {source!r}: expected columns among {list(frame.columns)!r}, got {absent[0]!r}")
        return cls(source, names)

    @classmethod
    def of_file(cls, source: Any, names: Any, what: str) -> RowFunction:
        """As a file keeps one: an expression, which holds what an expression may and nothing else.

        Raises:
            ValueError: If it holds anything else, which is then not evaluated.
        """
        if not isinstance(source, str):
            raise ValueError(f"{what}: expected an expression, got {shown(source)}")
        read = names_in(source, what)
        if tuple(names) != read:
            raise ValueError(f"{what}: {source!r}: expected the columns {list(read)!r}, got {list(names)!r}")
        return cls(source, read)

    def __str__(self) -> str:
        return self.source if isinstance(self.source, str) else getattr(self.source, "__name__", repr(self.source))

    def __call__(self, frame: pd.DataFrame) -> Any:
        """What it says of each row."""
        if not isinstance(self.source, str):
            return self.source(frame)
        read = frame[list(self.names)] if self.names else frame
        return read.eval(self.source, engine="python", local_dict={}, global_dict={})

    def booleans(self, frame: pd.DataFrame, what: str) -> Bool[NDArray, " rows"]:
        """Whether it is so, row by row; not so where a gap leaves it open.

        Raises:
            ValueError: If it is no boolean for each row.
        """
        found = np.asarray(pd.array(self._of_rows(frame, what), dtype="object"), dtype=object)
        found = np.where(pd.isna(found), False, found)
        if not all(isinstance(value, (bool, np.bool_)) for value in found):
            wrong = next(value for value in found if not isinstance(value, (bool, np.bool_)))
            raise ValueError(f"{what}: {self}: expected a boolean for each row, got {shown(wrong)}")
        return found.astype(bool)

    def numbers(self, frame: pd.DataFrame, what: str) -> Float[NDArray, " rows"]:
        """What it gives, row by row, NaN where a gap leaves it open or it is not finite.

        Raises:
            ValueError: If it is no number for each row.
        """
        with np.errstate(all="ignore"):
            found = pd.Series(self._of_rows(frame, what))
        try:
            numbers = found.to_numpy(dtype=np.float64, na_value=np.nan)
        except (TypeError, ValueError):
            raise ValueError(f"{what}: {self}: expected a number for each row, got {found.dtype}") from None
        return np.where(np.isfinite(numbers), numbers, np.nan)

    def _of_rows(self, frame: pd.DataFrame, what: str) -> Any:
        try:
            found = self(frame)
        except Exception as error:  # whatever the user's function, or pandas, raises
            raise ValueError(f"{what}: {self}: {type(error).__name__}: {' '.join(str(error).split())}") from error
        if np.shape(found) != (len(frame),):
            raise ValueError(
                f"{what}: {self}: expected one value for each of {len(frame)} rows, got shape {np.shape(found)}"
            )
        return found


def is_condition(text: str) -> bool:
    """Whether text is an expression that compares something, as no code for a gap is."""
    try:
        tree = _parsed(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    nodes = list(ast.walk(tree))
    return any(isinstance(node, ast.Compare) for node in nodes) and any(isinstance(node, ast.Name) for node in nodes)


def names_in(text: str, what: str) -> tuple[str, ...]:
    """The columns that an expression reads, in order.

    Raises:
        ValueError: If it is none, or holds what an expression may not.
    """
    quoted = _QUOTED.findall(text)
    try:
        tree = _parsed(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last two of deep nesting
        raise ValueError(
            f"{what}: expected an expression of column names such as 'weight / height**2', names with spaces between"
            f" backticks, got {shown(text)}"
        ) from None
    called = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for node in ast.walk(tree):
        is_mathematics = isinstance(node, ast.Call) and getattr(node.func, "id", None) in MATHEMATICS
        if not isinstance(node, (*_OPERATORS, ast.Name)) and not (is_mathematics and not getattr(node, "keywords", ())):
            raise ValueError(
                f"{what}: {text!r}: expected columns, numbers, operators and {', '.join(MATHEMATICS)}, got"
                f" {ast.unparse(node)!r}"
            )
    read = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node not in called]
    names = [node.id for node in sorted(read, key=lambda node: (node.lineno, node.col_offset))]
    return tuple(dict.fromkeys(quoted[int(n[9:])] if n.startswith("_column_b") else n for n in names))


def _parsed(text: str) -> ast.Expression:
    numbers = iter(range(text.count("`")))
    if "@" in text:
        raise ValueError("a variable of Python")
    return ast.parse(_QUOTED.sub(lambda _: f"_column_b{next(numbers)}", text).strip(), mode="eval")


class _Recorder:
    """A frame that notes which of its columns are read, and whether anything else is."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.__dict__.update(_frame=frame, _read=[], _other=[])

    def __getitem__(self, key: Any) -> Any:
        names = key if isinstance(key, list) else [key]
        known = self._frame.columns
        if all(isinstance(name, Hashable) and name in known for name in names):
            self._read.extend(names)
        else:
            self._other.append(key)
        return self._frame[key]

    def __getattr__(self, name: str) -> Any:
        (self._read if name in self._frame.columns else self._other).append(name)
        return getattr(self._frame, name)


def _columns_read(function: Callable[[pd.DataFrame], Any], frame: pd.DataFrame) -> tuple[Hashable, ...]:
    """The columns that a function reads; none where it reads a frame otherwise than by name."""
    recorder: Any = _Recorder(frame)
    try:
        function(recorder)
    except Exception:  # it asks for more than the recorder has: then for all columns
        return ()
    read: Sequence[Hashable] = recorder._read
    return () if recorder._other else tuple(dict.fromkeys(read))
