"""One case of bad or extreme input, and the small table that most cases are about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pyro_mnar import Fit, Table
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.models import GINA

GAP = [1.0, np.nan, 3.0, 4.0]
SEEN = [1.0, 2.0, 3.0, 5.0]
FRAME = pd.DataFrame({"age": SEEN, "income": GAP})
Answer = tuple[str, ...] | Callable[[Any], bool]


class Case(NamedTuple):
    """Something that a user might give.

    Attributes:
        given: What it is, as the documentation shows it.
        call: What is done with it.
        answer: What the message of the error says, in parts; or whether an answer is right.
        right: The right answer in words, where there is no error.
    """

    given: str
    call: Callable[[], Any]
    answer: Answer
    right: str = ""


def refused(given: str, call: Callable[[], Any], *parts: str) -> Case:
    """Answered by a ValueError or TypeError of one line that says all of these."""
    return Case(given, call, parts)


def taken(given: str, call: Callable[[], Any], right: str, check: Callable[[Any], bool]) -> Case:
    """Answered rightly, as words and a check say."""
    return Case(given, call, check, right)


def of_frame(columns: Any, **options: Any) -> Table:
    """A table without U, unless it is asked for."""
    options.setdefault("auxiliary", [])
    return Table.from_frame(pd.DataFrame(columns), **options)


def pair(table: Table | None = None) -> tuple[GINA, ZeroImpute]:
    """Our model and guide, untrained."""
    table = of_frame(FRAME) if table is None else table
    return GINA(table, latent_dim=1, seed=0), ZeroImpute(table, 1, hidden=[3], seed=0)


def untrained(table: Table | None = None) -> Fit:
    """A fit of them."""
    table = of_frame(FRAME) if table is None else table
    return Fit(*pair(table), table.schema)
