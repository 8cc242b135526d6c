"""Text that says numbers or dates: what it is, and what makes it such."""

from __future__ import annotations

import re
from collections.abc import Hashable

import pandas as pd

CURRENCIES = "$€£¥₹₽₩"
_NUMBER = r"[+-]?\d+(?:\.\d+)?"
_GROUPED = r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?"
AMOUNT = re.compile(rf"[{CURRENCIES}]\s?(?:{_NUMBER}|{_GROUPED})|(?:{_NUMBER}|{_GROUPED})\s?[%{CURRENCIES}]")
GROUPED = re.compile(rf"{_NUMBER}|{_GROUPED}")
DECIMAL_COMMA = re.compile(r"[+-]?\d+(?:,\d+)?")
ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:?\d{2})?)?")
LEADING_ZERO = re.compile(r"[+-]?0\d+")
SLASHED_DATE = re.compile(r"(\d{1,2})([/.-])(\d{1,2})\2\d{4}")
MOST_LISTED = 5


def meant_by(values: pd.Series, column: Hashable) -> str:
    """What a column of text says, and how pandas reads it; empty if it is words.

    Args:
        values: The column.
        column: Its name.
    """
    observed = values.dropna()
    if not len(observed) or pd.api.types.infer_dtype(observed, skipna=True) != "string":
        return ""
    texts, here = [text.strip() for text in observed.unique().tolist()], f"frame[{column!r}]"
    if _all(ISO_DATE, texts):
        return f"dates as text: pandas.to_datetime({here}, format='ISO8601')"
    if _all(SLASHED_DATE, texts):
        return f"dates as text: pandas.to_datetime({here}, format={_pattern(texts)!r})"
    if _all(AMOUNT, texts):
        signs = "".join(sign for sign in f"%{CURRENCIES}" if any(sign in text for text in texts))
        grouped = ".str.replace(',', '')" if any("," in text for text in texts) else ""
        return f"numbers with a sign: pandas.to_numeric({here}.str.strip(' {signs}'){grouped})"
    if any("," in text for text in texts):
        if _all(GROUPED, texts):
            return f"numbers with thousands: pandas.to_numeric({here}.str.replace(',', ''))"
        if _all(DECIMAL_COMMA, texts):
            return f"numbers with a decimal comma: pandas.to_numeric({here}.str.replace(',', '.'))"
    return ""


def cure_of_words(values: pd.Series, column: Hashable, *, has_words: bool) -> str:
    """What to do with text in a column that was to hold numbers.

    Args:
        values: The column.
        column: Its name.
        has_words: Whether some of it is no number even if read as one.
    """
    observed = values.dropna()
    texts = [value for value in observed.tolist() if isinstance(value, str)]
    if any(LEADING_ZERO.fullmatch(text) for text in texts):
        return f"digits after a zero, as of postcodes: kinds={{{column!r}: 'categorical'}} takes them for words"
    if not has_words:
        return f"numbers written as text: pandas.to_numeric(frame[{column!r}])"
    if meant := meant_by(values, column):
        return meant
    is_number = pd.to_numeric(texts_of(observed), errors="coerce").notna().to_numpy()
    words = observed[~is_number].tolist()
    few = list(dict.fromkeys(words)) if all(isinstance(word, str) for word in words) else []
    if 2 * is_number.sum() > len(observed) and 0 < len(few) <= MOST_LISTED:
        return f"na_values={{{column!r}: {few!r}}} makes such words gaps"
    if not texts:
        return f"carry=[{column!r}] keeps what is no single value"
    return "a complete column of text can be an auxiliary one"


def _all(pattern: re.Pattern[str], texts: list[str]) -> bool:
    return all(pattern.fullmatch(text) for text in texts)


def _pattern(texts: list[str]) -> str:
    """Days first, unless a second number can be no month."""
    found = [match for text in texts if (match := SLASHED_DATE.fullmatch(text))]
    mark = found[0][2]
    is_month_first = any(int(match[3]) > 12 for match in found)
    return f"%m{mark}%d{mark}%Y" if is_month_first else f"%d{mark}%m{mark}%Y"


def texts_of(values: pd.Series) -> pd.Series:
    """What Python writes of each value, whatever the dtype; pandas' own ways decode bytes, and keep dtypes of Arrow."""
    return pd.Series([str(value) for value in values.tolist()], index=values.index, dtype=object)
