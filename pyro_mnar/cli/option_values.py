"""What stands behind an option of a table: pairs, words, codes, kinds and conditions, as a shell has them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pyro_mnar.kinds import KINDS
from pyro_mnar.tables.cell_formats import Numbers
from pyro_mnar.tables.row_functions import is_condition

NUMBERS = Numbers()


def value_of(text: str) -> Any:
    """A code or a bound: a number, if it is written as one."""
    number = NUMBERS.read(text)
    return text if number is None else number


def says(cell: Any, code: Any) -> bool:
    """Whether a cell holds a code, as a number or as it is written."""
    if not isinstance(cell, str):
        return not isinstance(code, str) and cell == code
    return cell == str(code) or (not isinstance(code, str) and NUMBERS.read(cell) == code)


def kind_of(given: Any, column: str) -> Any:
    """A kind's name, or its name and arguments."""
    if not isinstance(given, Mapping):
        return given
    arguments = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    name = arguments.pop("name", None)
    if name not in KINDS:
        raise ValueError(f"column {column!r}: expected a kind among {sorted(KINDS)}, got {name!r}")
    try:
        return KINDS[name](**arguments)
    except TypeError as error:
        raise ValueError(f"column {column!r}: kind {name!r}: {error}") from None


def words_of(given: Iterable[str]) -> tuple[str, ...]:
    """The words of lists with commas between; one that holds a comma stands in quotes, as in a CSV file."""
    found = (word.strip() for words in given for word in _divided(words))
    return tuple(word for word in found if word)


def _divided(words: str) -> list[str]:
    try:
        return next(csv.reader([words], skipinitialspace=True, strict=True), [])
    except csv.Error:  # a quote that is a character of the word
        return words.split(",")


def pair_of(given: str, option: str, what: str, *, first: bool = False) -> tuple[str, str]:
    """``COLUMN=WHAT``; ValueError names the option if it is none."""
    column, equals, value = given.partition("=") if first else given.rpartition("=")
    if not (column and equals and value):
        raise ValueError(f"{option}: expected COLUMN={what}, got {given!r}")
    return column, value


def pairs_of(given: Sequence[str], option: str, what: str) -> list[tuple[str, str]]:
    """All of them."""
    return [pair_of(each, option, what) for each in given]


def codes_of(given: Sequence[str], option: str) -> dict[str, tuple[Any, ...]]:
    """Codes by column, of options that may be repeated."""
    codes: dict[str, tuple[Any, ...]] = {}
    for column, entries in pairs_of(given, option, "CODE,CODE"):
        codes[column] = (*codes.get(column, ()), *map(value_of, words_of([entries])))
    return codes


def conditions_of(given: Sequence[str], option: str) -> dict[str, Any]:
    """Codes by column, or a condition such as ``moved == 0``."""
    conditions = {}
    for each in given:
        column, equals, rest = each.partition("=")
        if equals and is_condition(rest.strip()):
            conditions[column] = rest.strip()
    coded = [each for each in given if each.partition("=")[0] not in conditions]
    return {**codes_of(coded, option), **conditions}
