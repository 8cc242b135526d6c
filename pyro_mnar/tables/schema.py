"""What a table's columns are: names, kinds, units, and which of them are auxiliary.

A :class:`Schema` is made once, from the training table, and is what a fit keeps of it: new rows are encoded with the
training rows' means and standard deviations, matched by column name.  It holds one entry a column, so a column kind
is a matter of one entry and not of the whole table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Int
from numpy.typing import NDArray

from pyro_mnar.kinds import from_plain, to_plain
from pyro_mnar.kinds.choice import SKEWED
from pyro_mnar.messages import check_is, shown
from pyro_mnar.tables.columns import Auxiliary, Column, OtherColumn, check_label
from pyro_mnar.tables.constraints import RowConstraint
from pyro_mnar.tables.constraints import from_plain as constraint_from_plain
from pyro_mnar.tables.constraints import to_plain as constraint_to_plain
from pyro_mnar.tables.derived import Derived
from pyro_mnar.tables.plain_values import from_json as values_from_json
from pyro_mnar.tables.plain_values import to_json as values_to_json
from pyro_mnar.tables.row_functions import RowFunction
from pyro_mnar.tables.skip_patterns import SkipPattern

SHOWN = 5  # names of columns in a table's representation

AuxiliarySource = Literal["named", "complete", "mask", "none"]


@dataclass(frozen=True)
class Schema:
    """The columns of a table, in order, and where U comes from.

    Attributes:
        columns: The modelled columns of X.
        auxiliaries: The columns of U: those named, or the complete ones.
        auxiliary_source: ``"named"``; ``"complete"`` (the complete columns serve as U and stay in X, as X_1 does in the
            paper's B.1); ``"mask"`` (U = R); ``"none"``.
        codes: What codes in a frame mean, ``(reason, column, codes)`` with a reason ``"na_values"``,
            ``"not_applicable"`` or ``"by_design"``; new rows are read by the same.
        bounds: What every value of a column keeps to, ``(column, lower, upper)`` in the user's units, infinite where
            there is no bound; new rows keep to the same.
        constraints: What every row satisfies.
        others: The columns that are neither X nor U, with their roles; new rows may lack them.
        blocks: Columns that go missing together (:mod:`pyro_mnar.tables.blocks`), by name; read off dense training
            tables alone.
        skips: Conditions under which a column has no value.
        derived: Columns that are formulas of others.
    """

    columns: tuple[Column, ...]
    auxiliaries: tuple[Auxiliary, ...]
    auxiliary_source: AuxiliarySource
    codes: tuple[tuple[str, Hashable, tuple[Any, ...]], ...] = ()
    bounds: tuple[tuple[Hashable, float, float], ...] = ()
    constraints: tuple[RowConstraint, ...] = ()
    others: tuple[OtherColumn, ...] = ()
    blocks: tuple[tuple[Hashable, ...], ...] = ()
    skips: tuple[SkipPattern, ...] = ()
    derived: tuple[Derived, ...] = ()

    def __post_init__(self) -> None:
        for one in (*self.columns, *self.auxiliaries, *self.others):
            check_label(one.name)

    def names_of(self, role: str) -> list[Hashable]:
        """Names of the columns that have a role other than X and U, such as ``"carried"``."""
        return [other.name for other in self.others if other.role == role]

    def codes_of(self, reason: str) -> dict[Hashable, tuple[Any, ...]]:
        """The codes of a reason, by column."""
        return {column: codes for given, column, codes in self.codes if given == reason}

    def bounds_of(self, column: Hashable) -> tuple[float, float]:
        """What every value of a column keeps to."""
        return next(((lower, upper) for name, lower, upper in self.bounds if name == column), (-np.inf, np.inf))

    @property
    def names(self) -> list[Hashable]:
        """Names of the modelled columns."""
        return [column.name for column in self.columns]

    @property
    def kinds(self) -> dict[Hashable, str]:
        """How each column is modelled."""
        return {column.name: column.kind.name for column in self.columns}

    def describe_kinds(self) -> pd.DataFrame:
        """How each column is modelled and why: ``kind``, ``because`` and, if it has any, its ``levels``, in order.

        Columns that are not modelled have their role in place of a kind.
        """
        rows = {
            column.name: (column.kind.name, column.because, ", ".join(map(str, column.kind.levels)))
            for column in self.columns
        }
        rows |= {other.name: (other.role, other.because, "") for other in self.others}
        index = pd.Index(list(rows), name="column", tupleize_cols=False)
        return pd.DataFrame(list(rows.values()), index=index, columns=["kind", "because", "levels"])

    def kinds_in_words(self) -> str:
        """The kinds that there are, for a table's representation; empty if all columns are continuous."""
        counted = Counter(self.kinds.values())
        if set(counted) == {"continuous"}:
            return ""
        # Whole numbers taken for levels are the one choice that a reader might not expect.
        chosen = [f"{c.name!r}" for c in self.columns if c.kind.levels and c.because.endswith("whole numbers")]
        shown = ", ".join(chosen[:SHOWN]) + (", ..." if len(chosen) > SHOWN else "")
        notes = [f"whole numbers taken for levels: {shown}"] if chosen else []
        skewed = [repr(c.name) for c in self.columns if c.kind.name == "positive" and c.because.endswith(SKEWED)]
        if skewed:
            notes.append(
                f"positive since {SKEWED}: {', '.join(skewed[:SHOWN])}{', ...' if len(skewed) > SHOWN else ''}"
            )
        note = f" ({'; '.join(notes)})" if notes else ""
        return ", kinds: " + ", ".join(f"{count} {kind}" for kind, count in counted.items()) + note

    def others_in_words(self) -> str:
        """How many columns have each role other than X and U, for a table's representation; empty if there are none."""
        return "".join(f", {role}: {count}" for role, count in Counter(other.role for other in self.others).items())

    def check_hidden(self, columns: Int[NDArray, " cells"]) -> None:
        """Raise ValueError if cells of these columns, given by position, cannot be held out, since U has them."""
        if self.auxiliary_source == "mask":
            raise ValueError("cells cannot be held out where U is the mask: U would change with them")
        for position in np.unique(columns).tolist():
            column = self.columns[position]
            if column.is_auxiliary:
                raise ValueError(f"column {column.name!r}: serves as U, so none of its cells can be held out")

    @property
    def num_columns(self) -> int:
        """D, the number of modelled columns."""
        return len(self.columns)

    @property
    def num_auxiliaries(self) -> int:
        """Width of ``aux`` (levels of a text column count one less than there are)."""
        if self.auxiliary_source == "mask":
            return self.num_columns
        return sum(auxiliary.width for auxiliary in self.auxiliaries)

    def difference(self, other: Schema) -> str:
        """The first thing in which another schema would have a model see other numbers, in words; empty if none does.

        What only the rows keep (codes, bounds, constraints, carried columns, what went missing) does not count.
        """
        check_is("other", other, Schema)
        told = {
            "columns": ([c.name for c in self.columns], [c.name for c in other.columns]),
            "kinds of columns": ([c.kind for c in self.columns], [c.kind for c in other.columns]),
            "units of columns (mean, standard deviation)": (
                [(c.name, c.mean, c.std) for c in self.columns],
                [(c.name, c.mean, c.std) for c in other.columns],
            ),
            "U": (
                (self.auxiliary_source, [u.name for u in self.auxiliaries]),
                (other.auxiliary_source, [u.name for u in other.auxiliaries]),
            ),
            "units of U": (list(self.auxiliaries), list(other.auxiliaries)),
        }
        for what, (one, another) in told.items():
            if one != another:
                return f"expected {what} {_first_difference(one, another)}"
        return ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for a file that runs no code when it is read."""
        return {
            **asdict(self),
            "columns": [{**vars(c), "kind": to_plain(c.kind)} for c in self.columns],
            "constraints": [constraint_to_plain(constraint) for constraint in self.constraints],
            "skips": [(skip.column, skip.condition.source, skip.condition.names) for skip in self.skips],
            "derived": [(one.column, one.formula.source, one.formula.names) for one in self.derived],
        }

    def to_json(self) -> dict[str, Any]:
        """The same for a JSON file, types of names, levels and codes and all.

        Raises:
            TypeError: If one of them is of a type that a file cannot keep; names the column.
        """
        data = self.to_dict()
        for what, function in [(s.what, s.condition) for s in self.skips] + [(d.what, d.formula) for d in self.derived]:
            if callable(function.source):
                raise TypeError(f"{what}: expected an expression as text to save, got a function ({function})")
        named = {
            part: [values_to_json(entry, f"column {entry['name']!r}") for entry in data.pop(part)]
            for part in ("columns", "auxiliaries", "others")
        }
        codes = [values_to_json(entry, f"{entry[0]} of column {entry[1]!r}") for entry in data.pop("codes")]
        return {**named, "codes": codes, **{part: values_to_json(value, part) for part, value in data.items()}}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Schema:
        """The inverse of :meth:`to_json`; ValueError for other data."""
        check_is("data", data, Mapping, ", as to_json gives it")
        lists = ("columns", "auxiliaries", "others", "codes")
        return cls.from_dict(
            {
                part: list(map(values_from_json, value)) if part in lists else values_from_json(value)
                for part, value in data.items()
            }
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Schema:
        """The inverse of :meth:`to_dict`; ValueError for other data."""
        check_is("data", data, Mapping, ", as to_dict gives it")
        try:
            return cls._of_dict(data)
        except (KeyError, IndexError, AttributeError, TypeError) as error:
            raise ValueError(f"data: expected what to_dict gives of a schema, got {shown(data)}") from error

    @classmethod
    def _of_dict(cls, data: Mapping[str, Any]) -> Schema:
        return cls(
            tuple(Column(**{**column, "kind": from_plain(column["kind"])}) for column in data["columns"]),
            tuple(
                Auxiliary(**{**u, "levels": tuple(u["levels"]), "unseen": tuple(u.get("unseen", ()))})
                for u in data["auxiliaries"]
            ),
            data["auxiliary_source"],
            tuple((reason, column, tuple(codes)) for reason, column, codes in data["codes"]),
            tuple(tuple(entry) for entry in data.get("bounds", ())),
            tuple(constraint_from_plain(entry) for entry in data.get("constraints", ())),
            tuple(OtherColumn(**entry) for entry in data.get("others", ())),
            tuple(tuple(names) for names in data.get("blocks", ())),
            tuple(
                SkipPattern(name, RowFunction.of_file(text, of, f"not_applicable of column {name!r}"))
                for name, text, of in data.get("skips", ())
            ),
            tuple(
                Derived(name, RowFunction.of_file(text, of, f"derived column {name!r}"))
                for name, text, of in data.get("derived", ())
            ),
        )


def _first_difference(one: Any, other: Any) -> str:
    """Both sides of the first pair of entries that differ, or of all if their numbers do."""
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        one, other = next((a, b) for a, b in zip(one, other, strict=True) if a != b)
    return f"{one!r}, got {shown(other)}"
