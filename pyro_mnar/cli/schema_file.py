"""Schema files: what is declared of a file and its columns, kept beside it as TOML or JSON, and drafted from it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from pyro_mnar.cli.declarations import DESIGN, Declarations
from pyro_mnar.tables.frame_files import FrameFile
from pyro_mnar.tables.row_functions import is_condition
from pyro_mnar.tables.table import Table
from pyro_mnar.tables.text_frame import TextFrame

TEXTS = ("sep", "encoding", "decimal", "thousands", "sheet")
LISTS = ("na", "codes", "constraints")
CODES = ("na_values", "not_applicable", "by_design")
ROLES = ("model", "auxiliary", "carry", *DESIGN)
OF_A_COLUMN = ("role", "kind", "levels", "date_format", "lower", "upper", "derived", *CODES)


def declarations_in(path: Path) -> Declarations:
    """What a schema file declares.

    Raises:
        ValueError: If it is no TOML (or JSON, by the file's ending), or holds what no schema file has: names the file,
            the entry, and what there may be.
    """
    text = path.read_text(encoding="utf-8")
    try:
        data = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected {'JSON' if path.suffix.lower() == '.json' else 'TOML'}: {error}") from None
    _check(isinstance(data, Mapping), path, "expected entries by name")
    known = (*TEXTS, *LISTS, "auxiliary", "columns")
    for key, value in data.items():
        _check(key in known, path, f"{key!r}: expected one of {list(known)!r}")
        if key in TEXTS:
            _check(isinstance(value, str), path, f"{key!r}: expected text, got {value!r}")
        if key in LISTS:
            _check(_are_plain(value), path, f"{key!r}: expected a list of words or numbers, got {value!r}")
    _check(
        data.get("auxiliary", "mask") in ("mask", ""),
        path,
        "'auxiliary': expected 'mask', or '' for none; a column says role = 'auxiliary'",
    )
    return Declarations(
        **{key: data[key] for key in TEXTS if key in data},
        **{key: tuple(data[key]) for key in LISTS if key in data},
        **_of_columns(data.get("columns", {}), path, data.get("auxiliary")),
    )


def draft(read: TextFrame | FrameFile, table: Table, declared: Declarations) -> str:
    """A schema file, in TOML, that says of a file what was found and declared; a reader changes what is wrong."""
    schema = table.schema
    auxiliaries = {auxiliary.name for auxiliary in schema.auxiliaries} - set(schema.names)
    path = read.text.path if isinstance(read, TextFrame) else read.path
    lines = [f"# What {path.name} holds: change what is wrong, and give it to --schema.", ""]
    if isinstance(read, TextFrame):
        lines += [f"sep = {_toml(read.text.separator)}", f"encoding = {_toml(read.text.encoding)}"]
        lines += [f"decimal = {_toml(declared.decimal or '.')}"]
    if declared.sheet:
        lines.append(f"sheet = {_toml(declared.sheet)}")
    if declared.thousands:
        lines.append(f"thousands = {_toml(declared.thousands)}")
    lines += [f"na = {_toml(declared.na)}  # words that are gaps, in every column"]
    lines += [f"codes = {_toml(declared.codes)}  # codes that are gaps, wherever they stand"]
    lines += [f"constraints = {_toml(declared.constraints)}  # such as 'start <= end'"]
    if schema.auxiliary_source == "mask" or declared.auxiliary == []:
        lines.append(f'auxiliary = "{declared.auxiliary or ""}"')
    modelled = {column.name: column for column in schema.columns}
    for name in read.frame.columns:
        gaps = int(read.frame[name].isna().sum())
        lines += ["", f"[columns.{_toml(str(name))}]  # {gaps} gaps"]
        if name in auxiliaries:
            lines.append('role = "auxiliary"')
        elif name not in modelled:
            role, because = schema.describe_kinds().loc[name, ["kind", "because"]]
            lines.append(
                f"derived = {_toml(because)}"
                if role == "derived"
                else f'role = "{role if role in DESIGN else "carry"}"  # {because}'
            )
        else:
            column = modelled[name]
            lines.append(f"kind = {_toml(_kind_of(declared, column))}  # {column.because}")
            if column.kind.has_order and column.kind.levels:
                lines.append(f"levels = {_toml(tuple(map(_plain, column.kind.levels)))}  # in their order")
        lines += [
            f"{key} = {_toml(getattr(declared, key)[name])}"
            for key in (*CODES, "date_format", "lower", "upper")
            if name in getattr(declared, key)
        ]
    return "\n".join(lines) + "\n"


def described(read: TextFrame | FrameFile, table: Table) -> str:
    """A line for each column: its role or kind, why, how many gaps, the levels."""
    return _told(read, table).to_string(max_colwidth=60)


def as_data(read: TextFrame | FrameFile, table: Table) -> dict[str, Any]:
    """The same as plain data."""
    return {"rows": len(read.frame), "columns": _told(read, table).reset_index().to_dict("records")}


def _told(read: TextFrame | FrameFile, table: Table) -> pd.DataFrame:
    kinds = table.schema.describe_kinds()
    auxiliaries = [a.name for a in table.schema.auxiliaries if a.name not in kinds.index]
    named = pd.DataFrame({"kind": "auxiliary", "because": "declared", "levels": ""}, index=auxiliaries)
    told = pd.concat([kinds, named]).loc[list(read.frame.columns)]
    told.insert(1, "gaps", read.frame.isna().sum())
    return told.rename_axis("column")


def _of_columns(columns: Any, path: Path, source: str | None) -> dict[str, Any]:
    _check(isinstance(columns, Mapping), path, "'columns': expected an entry for each column, by name")
    given: dict[str, Any] = {key: {} for key in ("kinds", "order", "date_format", "lower", "upper", "derived", *CODES)}
    carry, auxiliary = [], []
    for name, entry in columns.items():
        where = f"column {name!r}"
        _check(isinstance(entry, Mapping), path, f"{where}: expected entries by name, got {entry!r}")
        for key in entry:
            _check(key in OF_A_COLUMN, path, f"{where}: {key!r}: expected one of {list(OF_A_COLUMN)!r}")
        role = entry.get("role", "model")
        _check(role in ROLES, path, f"{where}: role: expected one of {list(ROLES)!r}, got {role!r}")
        carry += [name] * (role == "carry")
        auxiliary += [name] * (role == "auxiliary")
        if role in DESIGN:
            _check(role not in given, path, f"{where}: role: expected one column of role {role!r}, got a second")
            given[role] = name
        kind = entry.get("kind")
        _check(kind is None or isinstance(kind, (str, Mapping)), path, f"{where}: kind: expected a name, got {kind!r}")
        if "levels" in entry:
            _check(_are_plain(entry["levels"]), path, f"{where}: levels: expected a list, got {entry['levels']!r}")
            _check(kind in (None, "ordinal"), path, f"{where}: levels: expected kind 'ordinal' with them, got {kind!r}")
            given["order"][name] = tuple(entry["levels"])
        elif kind is not None:
            given["kinds"][name] = kind.replace("-", "_") if isinstance(kind, str) else dict(kind)
        for key in CODES:
            if key == "not_applicable" and isinstance(entry.get(key), str) and is_condition(entry[key]):
                given[key][name] = entry[key]
            elif key in entry:
                codes = entry[key] if isinstance(entry[key], list) else [entry[key]]
                _check(_are_plain(codes), path, f"{where}: {key}: expected codes, got {entry[key]!r}")
                given[key][name] = tuple(codes)
        for key in ("lower", "upper", "date_format", "derived"):
            if key in entry:
                given[key][name] = entry[key]
    of_table: Any = None if source is None else source or []
    _check(
        not (auxiliary and source is not None),
        path,
        f"'auxiliary': expected {source!r} or columns of role 'auxiliary', got both",
    )
    return {**given, "carry": tuple(carry), "auxiliary": auxiliary or of_table}


def _kind_of(declared: Declarations, column: Any) -> Any:
    given = declared.kinds.get(column.name)
    return given if isinstance(given, Mapping) else column.kind.name


def _are_plain(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, (str, int, float)) for each in value)


def _plain(level: Any) -> Any:
    return getattr(level, "item", lambda: level)()


def _toml(value: Any) -> str:
    """A value as TOML writes it, in which text is written as in JSON."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f") if isinstance(value, str) else repr(value)


def _check(holds: bool, path: Path, message: str) -> None:
    if not holds:
        raise ValueError(f"{path}: {message}")
