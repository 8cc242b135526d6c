"""Messages of the package as a shell has them: ``kinds={'income': 'positive'}`` is ``--kinds income=positive``.

The package's messages name arguments of Python's functions.  Those that have an option are replaced by it, ready to be
pasted behind a command; what has none stays as it is.
"""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pyro_mnar.tables.delimited_text import SPELLED

_SPELLINGS = {mark: word for word, mark in SPELLED.items() if word in ("tab", "space")}
_MECHANISMS = {
    "SelfMasking": "self-masking",
    "LatentDependent": "latent-dependent",
    "General": "general",
    "Constant": "mcar",
}
_NUMBERS = {
    "num_particles": "particles",
    "num_draws": "draws",
    "bootstrap": "bootstrap",
    "restarts": "restarts",
    "epochs": "epochs",
    "latent_dim": "latent-dim",
}
_CALL = r"(?:(?P<call>Table\.from_frame|Table\.from_csv|fit|impute)\((?:(?:\.\.\.|\w+), )?)?"
_CALLS = {  # calls that a command makes if it is asked to
    "imputations.pool(analysis)": "--formula FORMULA",
    "diagnose(fit, imputations)": "leave out --no-checks",
    "check_identifiability(fit, table)": "leave out --no-checks",
    "sensitivity(analysis, scenarios)": "--delta COLUMN=NUMBER",
    "tipping_point(analysis, imputations, ...)": "--tipping COLUMN=FROM,TO",
    ".to_text(detail=True)": "--detail",
}
_OPENS = {"{": "}", "[": "]", "(": ")"}


def in_options(message: str) -> str:
    """A message with options where it names arguments."""
    parts, at = [], 0
    for match in _ARGUMENT.finditer(message):
        if match.start() < at:
            continue
        value = _expression(message[match.end() :])
        option = None if value is None else _option(match["name"], value)
        end, is_call = match.end() + len(value or ""), match["call"] is not None
        if option is not None and not (is_call and message[end : end + 1] != ")"):
            parts += [message[at : match.start()], option]
            at = end + is_call
    found = _without_pandas("".join([*parts, message[at:]]))
    for call, option in _CALLS.items():
        found = found.replace(call, option)
    return found


def _without_pandas(message: str) -> str:
    """A message without the lines of pandas that read text in a frame, which files of other formats than text hold."""
    parts, at = [], 0
    for match in re.finditer(r"pandas\.to_\w+(?=\()", message):
        call = message[match.start() : match.end() + _length(message[match.end() :])]
        dates = re.fullmatch(r"pandas\.to_datetime\(frame\[(?P<name>.*)\], format='(?P<format>%.*)'\)", call, re.DOTALL)
        option = dates and _option("date_format", f"{{{dates['name']}: {dates['format']!r}}}")
        told = f"saved as CSV, {option} reads it" if option else "saved as CSV it is read"
        parts += [message[at : match.start()], told]
        at = match.start() + len(call)
    return "".join([*parts, message[at:]])


def words(names: Iterable[Any]) -> str:
    """Words with commas between, in quotes as CSV has them where they hold a comma themselves."""
    return ",".join(_word(str(name)) for name in names)


def _word(word: str) -> str:
    needs_quotes = not word or word != word.strip() or any(mark in word for mark in ",\r\n") or word.startswith('"')
    return '"' + word.replace('"', '""') + '"' if needs_quotes else word


def _expression(text: str) -> str | None:
    """The Python expression that a text begins with; empty if there is none, None if it does not end."""
    name = re.match(r"[A-Za-z_]\w*(?:\.\w+)*|-?\d+(?:\.\d+)?|\.\.\.", text)
    start = name.end() if name else 0
    if start < len(text) and text[start] in ("(" if name else "{[('\""):
        length = _length(text[start:])
        return text[: start + length] if length else None
    return text[:start]


def _length(text: str) -> int:
    """Of brackets with what they hold, or of a quoted word; 0 if it does not end."""
    open_marks, at = [], 0
    while at < len(text):
        mark = text[at]
        if mark in "'\"":
            quoted = re.match(rf"{mark}(?:[^{mark}\\]|\\.)*{mark}", text[at:], re.DOTALL)
            if quoted is None:
                return 0
            at += quoted.end()
        else:
            if mark in _OPENS:
                open_marks.append(_OPENS[mark])
            elif open_marks and mark == open_marks[-1]:
                open_marks.pop()
            at += 1
        if not open_marks:
            return at
    return 0


def _option(name: str, source: str) -> str | None:
    """The option for an argument; None if it has none."""
    option = f"--{_NUMBERS.get(name, name).replace('_', '-')}"
    if not source:
        return option
    try:
        value = _value(ast.parse(source, mode="eval").body)
        return _WRITTEN[name](option, value) if name in _WRITTEN else f"{option} {value}"
    except (SyntaxError, ValueError, TypeError, AttributeError, KeyError):
        return None


class _Made:
    """A call in a message, such as ``Ordinal(('low', 'high'))``."""

    def __init__(self, name: str, arguments: list[Any], keywords: Mapping[str, Any]) -> None:
        self.name, self.arguments, self.keywords = name, arguments, keywords


def _value(node: ast.expr) -> Any:
    """What an expression is, names as text."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        keywords = {str(each.arg): _value(each.value) for each in node.keywords}
        return _Made(node.func.id, [_value(each) for each in node.args], keywords)
    if isinstance(node, ast.Dict):
        return {ast.literal_eval(key): _value(each) for key, each in zip(node.keys, node.values, strict=True) if key}
    return ast.literal_eval(node)


def _listed(option: str, value: Any) -> str:
    if value == [...]:
        return f"{option} A,B"
    return f"{option} {shlex.quote(value if isinstance(value, str) else words(value))}"


def _of_kinds(option: str, value: Mapping[Any, Any]) -> str:
    return " ".join(_of_kind(option, column, kind) for column, kind in value.items())


def _of_kind(option: str, column: Any, kind: Any) -> str:
    if not isinstance(kind, _Made):
        name = "KIND" if kind is ... else kind
        return f"{option} {shlex.quote(f'{column}={name}')}"
    if kind.name == "Ordinal":
        return f"--order {shlex.quote(f'{column}={words(kind.arguments[0])}')}"
    entries = {"name": kind.name.lower(), **({"levels": kind.arguments[0]} if kind.arguments else {}), **kind.keywords}
    told = ", ".join(f"{key} = {_toml(entry)}" for key, entry in entries.items())
    return f"in a schema file [columns.{_toml(str(column))}] kind = {{{told}}}"


def _toml(value: Any) -> str:
    if value is ...:
        return "..."
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)


def _of_codes(option: str, value: Mapping[Any, Any]) -> str:
    listed = {name: codes if isinstance(codes, (list, tuple)) else [codes] for name, codes in value.items()}
    return " ".join(f"{option} {shlex.quote(f'{name}={words(codes)}')}" for name, codes in listed.items())


def _by_column(option: str, value: Mapping[Any, Any]) -> str:
    return " ".join(f"{option} {shlex.quote(f'{name}={each}')}" for name, each in value.items())


def _mark(option: str, value: str) -> str:
    word = shlex.quote(_SPELLINGS.get(value, value))
    return f"{option} {word if len(word) > 1 else repr(word)}"  # a comma of its own is read better in quotes


_WRITTEN: dict[str, Callable[[str, Any], str]] = {
    **dict.fromkeys(("auxiliary", "carry", "na"), _listed),
    **dict.fromkeys(("na_values", "by_design"), _of_codes),
    **dict.fromkeys(("sep", "decimal", "thousands", "encoding"), _mark),
    "kinds": _of_kinds,
    "date_format": _by_column,
    "mechanism": lambda option, value: f"{option} {_MECHANISMS[value]}",
}
_ARGUMENT = re.compile(rf"{_CALL}(?<![\w.`-])(?P<name>{'|'.join([*_WRITTEN, *_NUMBERS, 'graph'])})=(?!=)")
