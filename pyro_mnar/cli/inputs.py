"""What a command reads, as its options, a schema file or a fit say; and fits, with how their own table was read."""

from __future__ import annotations

import argparse
import hashlib
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from pyro_mnar.cli.declarations import Declarations
from pyro_mnar.cli.schema_file import declarations_in
from pyro_mnar.tables.frame_files import FrameFile
from pyro_mnar.tables.table import Table
from pyro_mnar.tables.text_frame import TextFrame
from pyro_mnar.tables.whole_files import check_writable
from pyro_mnar.training.fitted import Fit

SHOWN = 10  # columns whose kind is said


class Input(NamedTuple):
    """A file that was read.

    Attributes:
        path: Where it is.
        text: Its cells and values.
        table: The same, encoded.
        declared: How it was read.
    """

    path: Path
    text: TextFrame | FrameFile
    table: Table
    declared: Declarations

    @property
    def sha256(self) -> str:
        """Digest of the file."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


def read(options: argparse.Namespace) -> Input:
    """Read ``options.data`` as options and schema file say.

    Raises:
        ValueError: If the file is not as declared.
    """
    given = Declarations.of_options(options)
    declared = given.over(declarations_in(options.schema)) if options.schema else given
    return Input(options.data, *declared.read(options.data), declared)


def read_as(options: argparse.Namespace, fit: Fit) -> Input:
    """Read ``options.data`` as a fit's own table was read, but for how the options say that it is written.

    Raises:
        ValueError: If the file is not as the fit's table was.
    """
    declared = Declarations.of_writing(options).over(Declarations.from_plain(fit.notes.get("reading", {})))
    return Input(options.data, *declared.read_as(options.data, fit.schema, fit.dtype), declared)


def refuse_declarations(options: argparse.Namespace) -> None:
    """Beside a fit, nothing says what columns are.

    Raises:
        ValueError: If an option does; names it.
    """
    of_columns = set(Declarations.of_options(options).to_plain()) - set(Declarations.of_writing(options).to_plain())
    option = {"constraints": "constraint", "codes": "na-values"}
    wrong = ["schema"] * (options.schema is not None) + [option.get(name, name) for name in sorted(of_columns)]
    if wrong:
        raise ValueError(
            f"--{wrong[0].replace('_', '-')}: the fit says what columns are; beside --fit expected only options of how"
            " the file is written, such as --sep"
        )


def save(path: Path, fit: Fit, source: Input, about: dict[str, Any]) -> None:
    """Write a fit with how its table was read; whole or not at all."""
    fit.notes = {
        "made_by": f"pyro-mnar {version('pyro-mnar')}",
        "data": source.path.name,
        "data_sha256": source.sha256,
        "reading": source.declared.to_plain(),
        **about,
    }
    fit.save(path)


def content(fit: Fit, source: Input, about: dict[str, Any]) -> bytes:
    """What :func:`save` would write."""
    with TemporaryDirectory() as folder:
        save(Path(folder) / "fit", fit, source, about)
        return (Path(folder) / "fit").read_bytes()


def check_place(path: Path, data: Path, *, force: bool) -> None:
    """Refuse a place to write to before the training rather than after.

    Raises:
        ValueError: If it is the data's, or there is something already, unless ``force``.
        OSError: If its folder is not there, or cannot be written to.
    """
    if path.exists() and (not force or path.samefile(data)):
        what = "is the file that is read" if path.samefile(data) else "is there (--force writes over it)"
        raise ValueError(f"--out: {path} {what}: choose another name")
    if not path.parent.is_dir():
        raise NotADirectoryError(f"--out: {path.parent} is no folder")
    check_writable(path)


def described(source: Input) -> list[str]:
    """What was decided about a table, in lines: cells, roles, kinds, columns that go missing together."""
    table, schema = source.table, source.table.schema
    gaps, applicable = ~table.mask & table.applicable, int(table.applicable.sum())
    inapplicable = table.applicable.numel() - applicable
    lines = [
        f"{source.path}: {len(table):,} rows, {schema.num_columns} modelled columns; {int(gaps.sum()):,} cells missing"
        f" ({gaps.sum().item() / max(1, applicable):.0%})"
        + (f", {inapplicable:,} not applicable" if inapplicable else "")
    ]
    kinds = schema.describe_kinds()
    inferred = kinds.loc[[c.name for c in schema.columns]].query("because != 'declared' and kind != 'continuous'")
    if len(inferred):
        told = [f"{name} {kind} ({because})" for name, kind, because, _ in inferred.head(SHOWN).itertuples()]
        more = f" and {len(inferred) - SHOWN} more" if len(inferred) > SHOWN else ""
        lines.append(f"kinds: {', '.join(told)}{more}; --kinds COLUMN=KIND overrules")
    for role in dict.fromkeys(other.role for other in schema.others):
        told = [f"{other.name} ({other.because})" for other in schema.others if other.role == role]
        lines.append(f"{role}: {_listed(told)}")
    by_source = {
        "named": f"conditioned on (auxiliary): {_listed([str(u.name) for u in schema.auxiliaries])}",
        "complete": f"conditioned on, since complete: {_listed([str(u.name) for u in schema.auxiliaries])};"
        " --auxiliary overrules",
        "mask": "conditioned on: the mask itself",
        "none": "conditioned on: nothing",
    }
    lines.append(by_source[schema.auxiliary_source])
    lines += [f"missing together: {_listed(list(map(str, block)))}" for block in schema.blocks]
    return lines


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
