"""Row constraints in words: ``start <= end``, ``low < middle < high``, ``rent + food = spent``, ``a + b + c = 100``."""

from __future__ import annotations

import re

from pyro_mnar.tables.cell_formats import Numbers
from pyro_mnar.tables.constraints import InOrder, RowConstraint, SumsTo

TOKENS = re.compile(r"`[^`]*`|<=|>=|==|[<>=+]|[^<>=+`]+")


def constraint_of(words: str) -> RowConstraint:
    """A constraint from what a user writes; names with signs in them stand between backticks.

    Raises:
        ValueError: If it is neither an order of columns nor a sum.
    """
    tokens = [token.strip() for token in TOKENS.findall(words) if token.strip()]
    names, signs = [token.strip("`") for token in tokens[::2]], tokens[1::2]
    if (
        len(tokens) >= 3
        and len(tokens) % 2
        and not any(name in ("<", "<=", ">", ">=", "=", "==", "+") for name in names)
    ):
        if set(signs) <= {"<"} or set(signs) <= {"<="}:
            return InOrder(*names, strict=signs[0] == "<")
        if set(signs) <= {">"} or set(signs) <= {">="}:
            return InOrder(*reversed(names), strict=signs[0] == ">")
        if signs[-1] in ("=", "==") and set(signs[:-1]) == {"+"}:
            total = Numbers().read(names[-1])
            return SumsTo(names[:-1], names[-1] if total is None else total)
    raise ValueError(
        f"constraint: expected an order such as 'start <= end', or a sum such as 'rent + food = spent', got {words!r}"
    )
