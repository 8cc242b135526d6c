"""Columns of text that were meant to be numbers or dates: what is in the way, on which line, and what mends it."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping

from pyro_mnar.tables.cell_formats import AFFIX, CURRENCIES, Numbers

SHOWN = 5
SLASHED = re.compile(r"(\d{1,2})([/.-])(\d{1,2})\2(\d{4})( \d{2}:\d{2}(:\d{2})?)?")
GROUPED = re.compile(r"[+-]?\d{1,3}([,.' \u00a0\u202f])\d{3}(\1\d{3})*([.,]\d+)?")


def check_words(cells: Mapping[int, str], numbers: Numbers, column: Hashable, where: str) -> None:
    """Raise ValueError if a column of words is one of numbers, or of dates, but for what an option mends.

    Args:
        cells: What the cells say that are no gaps, by line.
        numbers: How numbers are written in this file.
        column: The column's name.
        where: What the message begins with; ``{line}`` is for the line.
    """
    if not cells:
        return
    is_number = {line: numbers.read(cell) is not None for line, cell in cells.items()}
    others = {line: cell.strip() for line, cell in cells.items() if not is_number[line]}
    if not others:
        return  # digits after zeros, such as postcodes
    line, first = next(iter(others.items()))
    cure = (
        _decimal_cure(others, numbers)
        or _affix_cure(others, numbers)
        or _date_cure(others, str(column))
        or (_word_cure(others, column) if sum(is_number.values()) > len(others) else "")
    )
    if cure:
        expected = "dates such as 2021-12-31" if SLASHED.fullmatch(first) else "numbers"
        raise ValueError(f"{where.format(line=line)}: expected {expected}, got {first!r}; {cure}")


def _decimal_cure(cells: Mapping[int, str], numbers: Numbers) -> str:
    """Of a decimal comma, or thousands that something divides."""
    other = "," if numbers.decimal == "." else "."
    with_other = Numbers(other, "" if numbers.thousands == other else numbers.thousands)
    grouped = {match[1] for cell in cells.values() if (match := GROUPED.fullmatch(cell))}
    mark = grouped.pop() if len(grouped) == 1 else None
    if mark is not None:
        for decimal in (numbers.decimal, other):
            if mark != decimal and all(Numbers(decimal, mark).read(cell) is not None for cell in cells.values()):
                cure = f"thousands={mark!r} takes {mark!r} for what divides thousands"
                if decimal != numbers.decimal:
                    cure += f", and decimal={decimal!r} for the decimal point"
                elif mark == other and all(with_other.read(cell) is not None for cell in cells.values()):
                    cure += f", or decimal={mark!r} for the decimal point"
                return cure
    if all(with_other.read(cell) is not None for cell in cells.values()):
        return f"decimal={other!r} takes {other!r} for the decimal point"
    return ""


def _affix_cure(cells: Mapping[int, str], numbers: Numbers) -> str:
    """Of signs of percent or currency that not all cells have alike."""
    for cell in cells.values():
        match = AFFIX.fullmatch(cell)
        if match is None or not (match["before"] or match["after"]):
            return ""
        if numbers.read(match["number"]) is None:
            return _decimal_cure({0: match["number"]}, numbers)
    return f"a column of amounts or shares has the same sign of {CURRENCIES}% in every cell, or in none: make it so"


def _date_cure(cells: Mapping[int, str], column: str) -> str:
    """Of dates that are not written by ISO 8601."""
    found = [SLASHED.fullmatch(cell) for cell in cells.values()]
    parts = [match for match in found if match is not None]
    if len(parts) != len(found) or len({match[2] for match in parts}) != 1:
        return ""
    mark = parts[0][2]
    time = " %H:%M:%S" if parts[0][6] else " %H:%M" if parts[0][5] else ""
    day_first, month_first = (f"%d{mark}%m{mark}%Y{time}", f"%m{mark}%d{mark}%Y{time}")
    can_be = [
        pattern
        for pattern, at in ((day_first, 3), (month_first, 1))
        if all(1 <= int(match[at]) <= 12 and 1 <= int(match[4 - at]) <= 31 for match in parts)
    ]
    options = " or ".join(f"date_format={{{column!r}: {pattern!r}}}" for pattern in can_be)
    return f"{options} reads them, carry=[{column!r}] passes them through" if can_be else ""


def _word_cure(cells: Mapping[int, str], column: Hashable) -> str:
    """Of words among numbers."""
    words = list(dict.fromkeys(cells.values()))
    listed = ", ".join(map(repr, words[:SHOWN])) + (f" and {len(words) - SHOWN} more" if len(words) > SHOWN else "")
    said = f"{len(cells)} cells are {listed}" if len(cells) > 1 else f"one cell is {listed}"
    few = words[:SHOWN]
    return f"{said}: na={few!r} takes such words for gaps, kinds={{{column!r}: 'categorical'}} all cells for levels"
