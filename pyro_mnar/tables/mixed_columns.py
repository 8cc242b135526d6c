"""Columns of text that were meant to be numbers or dates: what is in the way, on which line, and what mends it."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence

from pyro_mnar.messages import shown
from pyro_mnar.tables.cell_formats import AFFIX, CURRENCIES, Dates, Numbers

SHOWN = 5
SLASHED = re.compile(r"(\d{1,2})([/.-])(\d{1,2})\2(\d{4}|\d{2})( \d{1,2}:\d{2}(:\d{2})?)?")
YEAR_FIRST = re.compile(r"\d{4}([/.])\d{1,2}\1\d{1,2}")
NAMED_MONTH = re.compile(r"(\d{1,2})([ -])([A-Za-z]{3,9})\2(\d{4}|\d{2})")
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
    others = {line: cell.strip() for line, cell in cells.items() if numbers.read(cell) is None}
    if not others:
        return  # digits after zeros, such as postcodes
    words = {line: cell for line, cell in others.items() if not _reads(cell, numbers)}
    cure = _decimal_cure(others, numbers) or _affix_cure(others, numbers) or _date_cure(others, str(column))
    if not cure and 0 < 2 * len(words) < len(cells):
        cure, others = _word_cure(words, column), words
    if cure:
        line, first = next(iter(others.items()))
        expected = "dates such as 2021-12-31" if cure.startswith("date_format") else "numbers"
        raise ValueError(f"{where.format(line=line)}: expected {expected}, got {shown(first)}; {cure}")


def _reads(cell: str, numbers: Numbers) -> bool:
    """Whether it is a number, perhaps with a sign of currency or percent."""
    match = AFFIX.fullmatch(cell)
    return match is not None and numbers.read(match["number"]) is not None


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
    if any(all(form.fullmatch(cell) for cell in cells.values()) for form in (YEAR_FIRST, NAMED_MONTH)):
        pattern = _pattern_of(next(iter(cells.values())))
        return _said([pattern] if all(Dates(pattern).read(cell) for cell in cells.values()) else [], column)
    found = [SLASHED.fullmatch(cell) for cell in cells.values()]
    parts = [match for match in found if match is not None]
    if len(parts) != len(found) or len({match[2] for match in parts}) != 1:
        return ""
    mark = parts[0][2]
    time = " %H:%M:%S" if parts[0][6] else " %H:%M" if parts[0][5] else ""
    lengths = {len(match[4]) for match in parts}
    year = "%Y" if lengths == {4} else "%y" if lengths == {2} else ""
    if not year:
        return ""
    day_first, month_first = (f"%d{mark}%m{mark}{year}{time}", f"%m{mark}%d{mark}{year}{time}")
    can_be = [
        pattern
        for pattern, at in ((day_first, 3), (month_first, 1))
        if all(1 <= int(match[at]) <= 12 and 1 <= int(match[4 - at]) <= 31 for match in parts)
    ]
    return _said(can_be, column)


def _pattern_of(cell: str) -> str:
    """The pattern of a date with its year first, or its month by name."""
    if match := YEAR_FIRST.fullmatch(cell):
        return f"%Y{match[1]}%m{match[1]}%d"
    match = NAMED_MONTH.fullmatch(cell)
    if match is None:
        return ""
    return f"%d{match[2]}{'%b' if len(match[3]) == 3 else '%B'}{match[2]}{'%Y' if len(match[4]) == 4 else '%y'}"


def _said(patterns: Sequence[str], column: str) -> str:
    """Which patterns read dates; empty without one."""
    options = " or ".join(f"date_format={{{column!r}: {pattern!r}}}" for pattern in patterns)
    return f"{options} reads them, carry=[{column!r}] passes them through" if patterns else ""


def _word_cure(cells: Mapping[int, str], column: Hashable) -> str:
    """Of words among numbers."""
    words = list(dict.fromkeys(cells.values()))
    listed = ", ".join(map(repr, words[:SHOWN])) + (f" and {len(words) - SHOWN} more" if len(words) > SHOWN else "")
    said = f"{len(cells)} cells are {listed}" if len(cells) > 1 else f"one cell is {listed}"
    few = words[:SHOWN]
    return f"{said}: na={few!r} takes such words for gaps, kinds={{{column!r}: 'categorical'}} all cells for levels"
