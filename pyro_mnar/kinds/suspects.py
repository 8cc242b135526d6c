"""Values that are seldom what they seem: numbers and words that look like codes for a missing value."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

LIKE_A_CODE = re.compile(r"-?(9{1,5}|8{1,5}|7{2,5}|9{1,4}[78])")  # 9, 99, 98, 97, 88, 999, 998, 8888, and negative ones
FOR_NOTHING = {"n/a", "#n/a", "nan", "null", "missing", "?", ".", "-", "--"}
LONGEST_ABBREVIATION = 5  # of upper case
FEWEST = 10  # values among which one may stand far outside


def codes_among(numbers: Float[NDArray, " numbers"]) -> list[float]:
    """Whole numbers of the form of a survey's codes that stand far outside all others.

    Far is more than the range of the others; or below zero where all others are not, if the code stands in two rows.

    Args:
        numbers: Observed numbers of one column.
    """
    different, counts = np.unique(numbers, return_counts=True)
    has_form = np.array([_has_the_form(number) for number in different], dtype=bool)
    rest = different[~has_form]
    if len(numbers) < FEWEST or not has_form.any() or len(rest) < 2:
        return []
    least, greatest = rest[0], rest[-1]
    away = np.maximum(least - different, different - greatest)
    is_negative_alone = (different < 0) & (least >= 0) & (counts >= 2)
    return different[has_form & ((away > greatest - least) | is_negative_alone)].tolist()


def words_among(levels: Iterable[Any]) -> list[str]:
    """Levels that are hardly ever answers, such as ``"n/a"`` and ``"?"``; ``"NA"`` beside other than abbreviations.

    Among these it may be Namibia, or North America.
    """
    words = [level for level in levels if isinstance(level, str)]
    are_short = all(word.isupper() and len(word) <= LONGEST_ABBREVIATION for word in words)
    unlikely = FOR_NOTHING if are_short else {*FOR_NOTHING, "na", "<na>"}
    return [word for word in words if word.strip().lower() in unlikely]


def _has_the_form(number: float) -> bool:
    return float(number).is_integer() and LIKE_A_CODE.fullmatch(str(int(number))) is not None
