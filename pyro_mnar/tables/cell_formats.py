"""How the cells of a column of text are written: numbers, booleans, dates or words; text to values and back."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd

CURRENCIES = "$€£¥₹₽₩"
AFFIX = re.compile(rf"(?P<before>[{CURRENCIES}]\s?|)(?P<number>[^{CURRENCIES}%\s]+)(?P<after>\s?[{CURRENCIES}%]|)")
ISO_DATE = re.compile(
    r"\d{4}-\d{2}-\d{2}((?P<between>[T ])\d{2}:\d{2}(?P<seconds>:\d{2}(?P<fraction>\.\d{1,6})?)?(?P<zone>Z)?)?"
)
LARGEST = 2**63


@runtime_checkable
class CellFormat(Protocol):
    """A way of writing values."""

    def read(self, text: str) -> Any:
        """The value of a cell that is no gap; None if it is not written so."""
        ...

    def write(self, value: Any) -> str:
        """A value as the column's cells are written."""
        ...

    def series(self, values: Sequence[Any]) -> pd.Series:
        """A column of values, None where there are gaps."""
        ...


@dataclass(frozen=True)
class Numbers:
    """Numbers, perhaps with a sign of currency or percent.

    Attributes:
        decimal: The decimal point.
        thousands: What divides thousands, or nothing.
        before: What stands before every number, such as ``"$"``.
        after: What stands behind every number, such as ``"%"``.
    """

    decimal: str = "."
    thousands: str = ""
    before: str = ""
    after: str = ""

    def read(self, text: str) -> int | float | None:
        """A whole number as an int, another as a float."""
        text = text.strip()
        if not (text.startswith(self.before) and text.endswith(self.after)):
            return None
        text = text[len(self.before) : len(text) - len(self.after)]
        if self.thousands and self.thousands in text:
            groups = rf"[+-]?\d{{1,3}}(?:{re.escape(self.thousands)}\d{{3}})+(?:{re.escape(self.decimal)}\d*)?"
            if not re.fullmatch(groups, text):
                return None
            text = text.replace(self.thousands, "")
        if self.decimal != ".":
            if "." in text:
                return None
            text = text.replace(self.decimal, ".")
        if re.fullmatch(r"[+-]?[0-9]+", text):
            return int(text) if len(text) <= 20 and abs(int(text)) < LARGEST else None
        if re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text):
            number = float(text)
            return number if np.isfinite(number) else None
        return None

    def write(self, value: Any) -> str:
        """Whole numbers by their digits, others by as many digits as tell them apart."""
        text = str(int(value)) if isinstance(value, (int, np.integer)) else repr(float(value))
        if self.thousands and "e" not in text:
            whole, point, rest = text.partition(".")
            text = f"{int(whole):,}".replace(",", "\0") + point + rest
            text = ("-" if whole.startswith("-0") else "") + text
        text = text.replace(".", self.decimal).replace("\0", self.thousands)
        return f"{self.before}{text}{self.after}"

    def series(self, values: Sequence[Any]) -> pd.Series:
        """Int64 if all are whole numbers, else float64."""
        if any(isinstance(value, float) for value in values) or all(value is None for value in values):
            return pd.Series([np.nan if value is None else float(value) for value in values], dtype=np.float64)
        return pd.Series([pd.NA if value is None else value for value in values], dtype="Int64")


@dataclass(frozen=True)
class Booleans:
    """True and false, in the column's own spelling."""

    true: str = "True"
    false: str = "False"

    def read(self, text: str) -> bool | None:
        """In any case of letters."""
        return {"true": True, "false": False}.get(text.strip().lower())

    def write(self, value: Any) -> str:
        """A boolean in its spelling; a mean of booleans as a number."""
        return (self.true if value else self.false) if isinstance(value, (bool, np.bool_)) else repr(float(value))

    def series(self, values: Sequence[Any]) -> pd.Series:
        """Nullable booleans."""
        return pd.Series([pd.NA if value is None else value for value in values], dtype="boolean")


@dataclass(frozen=True)
class Dates:
    """Dates, perhaps with the time of the day.

    Attributes:
        pattern: Of ``strftime``; empty for ISO 8601, whose parts are the following.
        between: What divides date and time; empty where there are only dates.
        seconds: Whether there are seconds.
        fraction: Whether there are fractions of them.
        zone: ``"Z"`` or nothing.
    """

    pattern: str = ""
    between: str = ""
    seconds: bool = False
    fraction: bool = False
    zone: str = ""

    def read(self, text: str) -> pd.Timestamp | None:
        """A point in time; None if there is no such day."""
        text = text.strip()
        if not self.pattern and ISO_DATE.fullmatch(text) is None:
            return None
        try:
            if self.pattern:
                return pd.to_datetime(text, format=self.pattern)
            return pd.Timestamp(dt.datetime.fromisoformat(text))  # which, unlike text, knows years before 1677
        except ValueError:
            return None

    def write(self, value: Any) -> str:
        """As the others are written, to the last part that they have."""
        value = pd.Timestamp(value)
        if self.pattern:
            return value.strftime(self.pattern)
        if not self.between:
            return value.round("D").strftime("%Y-%m-%d")
        text = value.round("us" if self.fraction else "s" if self.seconds else "min").strftime(
            f"%Y-%m-%d{self.between}%H:%M{':%S' if self.seconds or self.fraction else ''}"
            f"{'.%f' if self.fraction else ''}"
        )
        return text + self.zone

    def series(self, values: Sequence[Any]) -> pd.Series:
        """Dates to the microsecond, which reach beyond the years that nanoseconds count."""
        zone = "[us, UTC]" if self.zone else "[us]"
        return pd.Series([pd.NaT if value is None else value for value in values], dtype=f"datetime64{zone}")


@dataclass(frozen=True)
class Words:
    """Text, as it stands."""

    def read(self, text: str) -> str:
        """The text."""
        return text

    def write(self, value: Any) -> str:
        """The text."""
        return str(value)

    def series(self, values: Sequence[Any]) -> pd.Series:
        """Text with pd.NA in the gaps."""
        return pd.Series([pd.NA if value is None else value for value in values], dtype="string")


def format_of(texts: Sequence[str], numbers: Numbers) -> CellFormat:
    """How a column's cells, less its gaps and codes, are written.

    Args:
        texts: The cells.
        numbers: How numbers are written in this file.
    """
    different = list(dict.fromkeys(texts))
    if not different:
        return numbers
    if all(text.strip().lower() in ("true", "false") for text in different):
        spelled = {text.strip().lower(): text.strip() for text in reversed(different)}
        known = next(iter(spelled.values()))
        case = str.upper if known.isupper() else str.lower if known.islower() else str.capitalize
        return Booleans(spelled.get("true", case("true")), spelled.get("false", case("false")))
    if has_leading_zeros(different):
        return Words()
    affixed = _affixed(different, numbers)
    if all(affixed.read(text) is not None for text in different):
        return affixed
    dates = _dates(different)
    return Words() if dates is None else dates


def has_leading_zeros(texts: Sequence[str]) -> bool:
    """Whether some are digits after a zero, as of postcodes, which no number keeps."""
    return any(re.fullmatch(r"\s*[+-]?0[0-9]+\s*", text) for text in texts)


def _affixed(texts: Sequence[str], numbers: Numbers) -> Numbers:
    """Numbers with the currency or percent sign that all of them have."""
    found = [AFFIX.fullmatch(text.strip()) for text in texts]
    affixes = {(match["before"], match["after"]) for match in found if match is not None}
    if None in found or len(affixes) != 1:
        return numbers
    before, after = affixes.pop()
    return Numbers(numbers.decimal, numbers.thousands, before, after)


def _dates(texts: Sequence[str]) -> Dates | None:
    found = [match for text in texts if (match := ISO_DATE.fullmatch(text.strip()))]
    parts = {(match["between"] or "", match["zone"] or "") for match in found}
    if len(found) != len(texts) or len(parts) != 1:
        return None
    between, zone = parts.pop()
    dates = Dates(
        "",
        between,
        seconds=any(match["seconds"] for match in found),
        fraction=any(match["fraction"] for match in found),
        zone=zone,
    )
    return dates if all(dates.read(text) is not None for text in texts) else None
