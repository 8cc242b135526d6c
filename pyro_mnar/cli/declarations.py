"""What a user says of a file: how it is written, what its columns are, what stands for a gap.

It comes from options and from a schema file; where both speak of one thing, the option holds.
"""

from __future__ import annotations

import argparse
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from pyro_mnar.cli.constraint_text import constraint_of
from pyro_mnar.cli.option_values import (
    codes_of,
    conditions_of,
    kind_of,
    pair_of,
    pairs_of,
    says,
    value_of,
    words_of,
)
from pyro_mnar.cli.option_words import in_options
from pyro_mnar.cli.sources import FileSource, TextSource
from pyro_mnar.kinds import Ordinal
from pyro_mnar.tables.delimited_text import DelimitedText
from pyro_mnar.tables.frame_files import FrameFile, has_format, read_file
from pyro_mnar.tables.frames import REASONS
from pyro_mnar.tables.places import placed
from pyro_mnar.tables.schema import Schema
from pyro_mnar.tables.table import Table
from pyro_mnar.tables.text_frame import TextFrame, Writing

_TUPLES = ("na", "codes", "carry", "constraints")
_OF_TUPLES = ("order", "na_values", "not_applicable", "by_design")
DESIGN = ("weights", "cluster", "strata")  # how the rows of a survey were sampled


@dataclass(frozen=True)
class Declarations:
    """What is declared of a file and its columns; what is not is found in the file.

    Attributes:
        sep: What divides cells.
        encoding: Codec of the text.
        decimal: The decimal point.
        thousands: What divides thousands.
        na: Words that are gaps in every column.
        codes: Codes that stand for a missing value in whatever column they are found.
        date_format: Patterns of dates, by column.
        auxiliary: Names of the columns that are U, none if there are none, or ``"mask"``.
        carry: Columns that no model sees.
        kinds: By column.
        order: Levels in their order, by column.
        na_values: Codes that stand for a missing value, by column.
        not_applicable: Codes that say that there is no value, or a condition such as ``"moved == 0"``, by column.
        by_design: Codes that say that a value was not asked for, by column.
        lower: Least values, by column.
        upper: Greatest values, by column.
        constraints: What every row satisfies, in words such as ``"start <= end"``.
        derived: Formulas such as ``"weight / height**2"``, by column.
        weights: Column that says how many people a row stands for.
        cluster: Column of the clusters that were sampled whole.
        strata: Column of the strata.
        sheet: Of a workbook, the name of a sheet; the first if None.
    """

    sep: str | None = None
    encoding: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    na: tuple[str, ...] = ()
    codes: tuple[Any, ...] = ()
    date_format: Mapping[str, str] = field(default_factory=dict)
    auxiliary: Any = None
    carry: tuple[str, ...] = ()
    kinds: Mapping[str, Any] = field(default_factory=dict)
    order: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    na_values: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    not_applicable: Mapping[str, Any] = field(default_factory=dict)
    by_design: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    lower: Mapping[str, Any] = field(default_factory=dict)
    upper: Mapping[str, Any] = field(default_factory=dict)
    constraints: tuple[str, ...] = ()
    derived: Mapping[str, str] = field(default_factory=dict)
    weights: str | None = None
    cluster: str | None = None
    strata: str | None = None
    sheet: str | None = None

    @classmethod
    def of_options(cls, options: argparse.Namespace) -> Declarations:
        """What the options say.

        Raises:
            ValueError: If an option is not written as its help says.
        """
        coded = [given for given in options.na_values if "=" in given]
        return replace(
            cls.of_writing(options),
            codes=tuple(map(value_of, words_of(given for given in options.na_values if "=" not in given))),
            auxiliary=options.auxiliary if options.auxiliary in (None, "mask") else list(words_of([options.auxiliary])),
            carry=words_of(options.carry),
            kinds={name: kind.replace("-", "_") for name, kind in pairs_of(options.kinds, "--kinds", "KIND")},
            order={name: words_of([levels]) for name, levels in pairs_of(options.order, "--order", "LEVEL,LEVEL")},
            na_values=codes_of(coded, "--na-values"),
            not_applicable=conditions_of(options.not_applicable, "--not-applicable"),
            by_design=codes_of(options.by_design, "--by-design"),
            lower={name: value_of(end) for name, end in pairs_of(options.lower, "--lower", "NUMBER")},
            upper={name: value_of(end) for name, end in pairs_of(options.upper, "--upper", "NUMBER")},
            constraints=tuple(options.constraint),
            derived=dict(pair_of(given, "--derived", "FORMULA", first=True) for given in options.derived),
            weights=options.weights,
            cluster=options.cluster,
            strata=options.strata,
        )

    @classmethod
    def of_writing(cls, options: argparse.Namespace) -> Declarations:
        """What the options say of how the file is written, and not of its columns.

        Raises:
            ValueError: As :meth:`of_options`.
        """
        return cls(
            sep=options.sep,
            encoding=options.encoding,
            decimal=options.decimal,
            thousands=options.thousands,
            na=words_of(options.na),
            date_format=dict(pair_of(given, "--date-format", "FORMAT", first=True) for given in options.date_format),
            sheet=options.sheet,
        )

    def over(self, others: Declarations) -> Declarations:
        """These, and of others what these do not speak of; lists of words, columns and codes are joined."""
        merged: dict[str, Any] = {}
        for each in fields(self):
            mine, theirs = getattr(self, each.name), getattr(others, each.name)
            if isinstance(mine, Mapping):
                merged[each.name] = {**theirs, **mine}
            elif isinstance(mine, tuple):
                merged[each.name] = tuple(dict.fromkeys((*theirs, *mine)))
            else:
                merged[each.name] = theirs if mine is None else mine
        # A kind overrules an order, and the other way round: whichever is the option.
        merged["order"] = {n: v for n, v in merged["order"].items() if n in self.order or n not in self.kinds}
        merged["kinds"] = {n: v for n, v in merged["kinds"].items() if n in self.kinds or n not in self.order}
        return replace(self, **merged)

    def read(self, path: Path) -> tuple[TextFrame | FrameFile, Table]:
        """The file, with its values, and its table.

        Raises:
            ValueError: As :meth:`pyro_mnar.Table.from_file`; names the line where a row is wrong.
            ImportError: Likewise.
        """
        source = self._source(path)
        self._check_names(path, source.names)
        kinds: Any = {**{name: kind_of(given, name) for name, given in self.kinds.items()}, **self._ordinals()}
        na_values = self._codes_where_found(source)
        read = self._frame(source, kinds, (na_values, self.not_applicable, self.by_design))
        lower: Any = dict(self.lower)
        upper: Any = dict(self.upper)
        with placed(source.place, stacklevel=2):
            table = Table.from_frame(
                read.frame,
                auxiliary=self.auxiliary,
                kinds=kinds,
                na_values={name: list(entries) for name, entries in na_values.items()},
                not_applicable={
                    name: entries if isinstance(entries, str) else list(entries)
                    for name, entries in self.not_applicable.items()
                },
                by_design={name: list(entries) for name, entries in self.by_design.items()},
                lower=lower,
                upper=upper,
                constraints=[constraint_of(words) for words in self.constraints],
                carry=list(self.carry),
                derived=dict(self.derived),
                weights=self.weights,
                cluster=self.cluster,
                strata=self.strata,
            )
        return read, table

    def read_as(self, path: Path, schema: Schema, dtype: torch.dtype) -> tuple[TextFrame | FrameFile, Table]:
        """The file, with its values, and its table in the units, kinds and codes of a schema.

        Raises:
            ValueError: As :meth:`read`, and if the file lacks a column of the schema.
            ImportError: As there.
        """
        source = self._source(path)
        kinds = {column.name: column.kind for column in schema.columns}
        codes: list[Any] = [schema.codes_of(reason) for reason in REASONS]
        read = self._frame(source, kinds, codes)
        with placed(source.place, stacklevel=2):
            return read, Table.from_frame(read.frame, schema=schema, dtype=dtype)

    def values(self, path: Path) -> pd.DataFrame:
        """The file's values, read as declared and encoded for no model."""
        kinds: Any = {**{name: kind_of(given, name) for name, given in self.kinds.items()}, **self._ordinals()}
        codes = (self.na_values, self.not_applicable, self.by_design)
        return self._frame(self._source(path), kinds, codes).frame

    def to_plain(self) -> dict[str, Any]:
        """For a JSON file: what differs from what is found by itself."""
        return {each.name: value for each in fields(self) if (value := getattr(self, each.name)) not in (None, (), {})}

    @classmethod
    def from_plain(cls, data: Mapping[str, Any]) -> Declarations:
        """The inverse of :meth:`to_plain`, of data that went through JSON."""
        given: dict[str, Any] = {key: tuple(value) if key in _TUPLES else value for key, value in data.items()}
        of_tuples = {
            key: {name: each if isinstance(each, str) else tuple(each) for name, each in given[key].items()}
            for key in _OF_TUPLES
            if key in given
        }
        return cls(**{**given, **of_tuples})

    def _source(self, path: Path) -> TextSource | FileSource:
        if not has_format(path):
            if self.sheet is not None:
                raise ValueError(f"--sheet: expected a workbook, got {path}")
            text = DelimitedText.read(path, separator=self.sep, encoding=self.encoding)
            for note in text.said:
                print(in_options(f"{path}: {note}"))
            return TextSource(text)
        given = [n for n in ("sep", "encoding", "decimal", "thousands", "date_format") if getattr(self, n)]
        if given:
            raise ValueError(f"--{given[0].replace('_', '-')}: expected a file of text, got {path}")
        return FileSource(read_file(path, sheet=self.sheet))

    def _frame(
        self, source: TextSource | FileSource, kinds: Any, codes_by_reason: Iterable[Mapping[str, Any]]
    ) -> TextFrame | FrameFile:
        codes: dict[Hashable, list[Any]] = {}
        for reason in codes_by_reason:
            for name, entries in reason.items():
                codes.setdefault(name, []).extend(() if isinstance(entries, str) else entries)
        if isinstance(source, FileSource):
            return source.read(kinds)
        formats: Any = self.date_format
        writing = Writing.of(self.decimal or ".", self.thousands, self.na, formats)
        design = [name for name in (self.weights, self.cluster, self.strata) if name is not None]
        return TextFrame.of(source.text, writing, kinds, codes, [*self.carry, *design])

    def _ordinals(self) -> dict[str, Ordinal]:
        ordinals = {}
        for name, levels in self.order.items():
            numbers = [value_of(str(level)) for level in levels]
            are_words = any(
                isinstance(number, str) or str(level).startswith("0")
                for level, number in zip(levels, numbers, strict=True)
            )
            if len(set(levels)) != len(levels) or len(levels) < 2:
                raise ValueError(
                    f"--order: expected at least two levels of column {name!r}, each once, got {list(levels)!r}"
                )
            ordinals[name] = Ordinal(tuple(map(str, levels)) if are_words else tuple(numbers))
        return ordinals

    def _codes_where_found(self, source: TextSource | FileSource) -> dict[str, tuple[Any, ...]]:
        """The codes of single columns, and those of all columns where they stand."""
        found = {name: tuple(codes) for name, codes in self.na_values.items()}
        apart: tuple[Any, ...] = (*self.carry, *self.derived, self.weights, self.cluster, self.strata)
        if isinstance(source, FileSource):
            named = {str(name): tuple(codes) for name, codes in source.file.na_values.items() if name not in self.carry}
            found = {**named, **{name: (*named.get(name, ()), *codes) for name, codes in found.items()}}
        everywhere = (*self.codes, *(self.na if isinstance(source, FileSource) else ()))
        columns = [code for code in everywhere if code in source.names]
        if columns:
            raise ValueError(
                f"--na-values: expected {columns[0]}=CODE,CODE or codes alone, got the column {columns[0]!r}"
            )
        unseen = list(everywhere)
        for name in source.names if everywhere else ():
            if name in apart and name not in self.derived:
                continue
            cells = source.different(name)
            here = [code for code in everywhere if any(says(cell, code) for cell in cells)]
            unseen = [code for code in unseen if code not in here]
            if here:
                found[name] = (*found.get(name, ()), *(code for code in here if code not in found.get(name, ())))
        if unseen:
            print(f"--na-values: {', '.join(map(str, unseen))} stands in no cell")
        return found

    def _check_names(self, path: Path, names: Sequence[str]) -> None:
        """Raise ValueError if something is declared of a column that is not there."""
        for each in fields(self):
            given = getattr(self, each.name)
            if each.name in DESIGN and given is not None:
                given = (given,)
            if isinstance(given, Mapping) or each.name in ("carry", *DESIGN):
                absent = [name for name in given or () if name not in names]
                if absent:
                    raise ValueError(f"{path}: column {absent[0]!r}: expected one of {list(names)!r}")
