"""`pyro-mnar fit` and `pyro-mnar impute`: a CSV file with gaps in, a fit and completed tables out."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from pyro_mnar.cli import inputs
from pyro_mnar.cli.inputs import Input
from pyro_mnar.cli.option_words import in_options
from pyro_mnar.cli.outcome import Outcome
from pyro_mnar.cli.output_folder import OutputFolder
from pyro_mnar.cli.training import held_out_rows, interrupted, prepare, refuse_training_options
from pyro_mnar.devices import device_of
from pyro_mnar.diagnostics import AgainstIgnorable, against_ignorable
from pyro_mnar.imputation import Imputations, impute
from pyro_mnar.imputation.imputing import DEFAULT_DRAWS
from pyro_mnar.imputation.ranges import negative_where_none_was
from pyro_mnar.memory import GIB, check_room
from pyro_mnar.summaries import summarise
from pyro_mnar.tables.delimited_text import packed
from pyro_mnar.tables.frame_files import FrameFile, has_format
from pyro_mnar.tables.text_frame import TextFrame
from pyro_mnar.training.fitted import Fit

MOST_SENTENCES = 4  # of a summary, beside the line of the training
KEPT_FIT = "model.fit"  # beside the tables, for the commands that take a fit
BYTES_OF_A_FILE = 200  # its name, its digest, and what Python needs to hold them


def fit_file(options: argparse.Namespace) -> Outcome:
    """Fit GINA to a CSV file and write the fit.

    Raises:
        ValueError: If the file, an option or what they say of each other is wrong, or ``--out`` is there.
        KeyboardInterrupt: If Ctrl-C ended the training; nothing is written then.
    """
    inputs.check_place(options.out, options.data, force=options.force)
    source = inputs.read(options)
    out = held_out_rows(len(source.table), options.held_out, options.seed)
    prepared = prepare(options, source)
    print("\n".join(prepared.lines))
    if out:
        left = sorted({*range(len(source.table))} - {*out})
        result = prepared.train(source.table.take(left), source.table.take(out))
    else:
        result = prepared.train()
    if result.interrupted:
        raise interrupted(options, result)
    inputs.save(options.out, result, source, {"seed": options.seed, "held_out": out, "decided": prepared.decided})
    beside = against_ignorable(result, seed=options.seed) if not options.no_ignorable else None
    print(f"\n{told(result, beside)}\n{options.out}: the fit")
    print(f"next: pyro-mnar check {options.data} --fit {options.out}")
    print(f"      pyro-mnar impute {options.data} --fit {options.out} --out FOLDER")
    found = {"fit": str(options.out), **prepared.decided, "epochs": result.epochs_done, **last_bound(result)}
    return Outcome({**found, **_plain(beside)})


def complete_file(options: argparse.Namespace) -> Outcome:
    """Fit GINA to a CSV file, or take a fit, and write completed tables (draw_01.csv, ...), their mean (mean.csv), the
    history, and the fit (model.fit).

    Raises:
        ValueError: If the file, an option or what they say of each other is wrong.
        KeyboardInterrupt: If Ctrl-C ended the training, unless ``--keep-interrupted``; nothing is written then.
    """
    if options.draws is not None and options.draws < 1:
        raise ValueError(f"--draws: expected at least 1, got {options.draws}")
    device = device_of(options.device, "--device")
    result = None
    if options.fit:
        refuse_training_options(options)
        inputs.refuse_declarations(options)
        result = Fit.load(options.fit)
    source = inputs.read(options) if result is None else inputs.read_as(options, result)
    num_fits = len(result.bootstrap) if result is not None else options.bootstrap
    num_draws = options.draws or num_fits or DEFAULT_DRAWS
    if num_fits and num_draws > num_fits:
        raise ValueError(f"--draws: expected at most {num_fits}, one from each bootstrap fit, got {num_draws}")
    size = options.data.stat().st_size
    check_room("--draws", num_draws, BYTES_OF_A_FILE, "names and digests of the completed tables")
    free = shutil.disk_usage(existing(options.out)).free
    if num_draws * size > free:
        raise ValueError(
            f"--draws: {num_draws} tables take about {num_draws * size / GIB:.3g} GiB, and {free / GIB:.3g} GiB of"
            f" {options.out} are free: expected at most {free // size}"
        )
    suffix = options.data.suffix if has_format(options.data) else ".csv"
    if options.data.suffix.lower() == ".gz":
        suffix = ".csv.gz"
    names = [*_draw_names(num_draws, suffix), f"mean{suffix}", "history.csv"]
    names += [KEPT_FIT] if result is None else []
    folder = OutputFolder(options.out, names, options.data)
    decided: dict[str, Any] = {"fit": str(options.fit)}
    beside: AgainstIgnorable | None = None
    if result is None:
        prepared = prepare(options, source)
        decided = prepared.decided
        print("\n".join(prepared.lines))
        result = prepared.train()
        if not (options.no_ignorable or result.interrupted):
            beside = against_ignorable(result, seed=options.seed)
        print(f"\n{told(result, beside)}\n")
    else:
        print("\n".join(inputs.described(source)))
    if result.interrupted and not options.keep_interrupted:
        raise interrupted(options, result, "--keep-interrupted writes what such a model imputes, ")
    kept_fit: list[tuple[str, bytes]] = []  # where it was not there before
    if not options.fit:
        content = inputs.content(result, source, {"seed": options.seed, "held_out": [], "decided": decided})
        kept_fit.append((KEPT_FIT, content))
    imputations = impute(result, source.table, num_draws=num_draws, seed=options.seed, device=device)
    about = _about(options, source, result, imputations)
    folder.write(chain(_files(source.text, imputations, result, names), kept_fit), about)
    print(f"{options.out}: {num_draws} completed tables and their mean; {imputations.cells.shape[1]} cells imputed")
    of_cells = source.table.schema.columns, imputations.cells, imputations.draws
    print("".join(f"warning: {in_options(said)}\n" for said in negative_where_none_was(*of_cells)), end="")
    print(f"next: pyro-mnar pool {options.out} 'OUTCOME ~ COLUMN + COLUMN' runs a regression on all of them")
    kept = options.fit or options.out / KEPT_FIT
    print(f"      pyro-mnar check {options.data} --fit {kept} says what speaks against the fit")
    print(f"      pyro-mnar sensitivity {options.data} 'OUTCOME ~ COLUMN' --fit {kept} --delta COLUMN=-0.5,0,0.5")
    print(f"      pyro-mnar report {options.data} --fit {kept} --out report.html")
    written = {"folder": str(options.out), "files": names, "cells": imputations.cells.shape[1], "draws": num_draws}
    return Outcome({**decided, **written, "epochs": result.epochs_done, **last_bound(result), **_plain(beside)})


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there already."""
    return folder if folder.exists() else existing(folder.absolute().parent)


def last_bound(result: Fit) -> dict[str, float]:
    """The last numbers of the history, by their names."""
    columns = [name for name in result.history.columns if name.endswith(("bound", "objective"))]
    return {name: float(result.history[name].iloc[-1]) for name in columns}


def told(result: Fit, beside: AgainstIgnorable | None) -> str:
    """How a training ended, and the first lines of what it found: how strongly being missing depends on what, and what
    that moves against an ignorable fit.
    """
    reached = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in last_bound(result).items())
    bootstrap = f"; {len(result.bootstrap)} bootstrap fits" if result.bootstrap else ""
    # Intervals from curvature would take seconds.
    summary = summarise(result, with_intervals=bool(result.bootstrap), with_ignorable=False)
    sentences = [f"warning: {warning}" for warning in summary.warnings] + summary.sentences()
    lines = [f"trained for {result.epochs_done} epochs: {reached} nats per row{bootstrap}", *_first(sentences)]
    if beside is not None:
        lines += ["against an ignorable fit:", *_first(list(beside.lines()))]
    return in_options("\n".join(lines))


def _first(sentences: list[str]) -> list[str]:
    """The first few, and how many more there are."""
    more = len(sentences) - MOST_SENTENCES
    return [*sentences[:MOST_SENTENCES], *([f"and {more} lines more (Fit.summary)"] if more > 0 else [])]


def _plain(beside: AgainstIgnorable | None) -> dict[str, Any]:
    """The fit beside an ignorable one, for machines."""
    if beside is None:
        return {}
    columns = {str(name): dict(line) for name, line in beside.columns.iterrows()}
    found = {"nats": beside.nats, "nats_error": beside.nats_error, "weight": beside.weight, "columns": columns}
    return {"against_ignorable": {**found, "why": beside.why}}


def _files(
    text: TextFrame | FrameFile, imputations: Imputations, result: Fit, names: list[str]
) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of what is written, one at a time."""
    columns = imputations.table.schema.columns
    rows, positions = imputations.cells
    imputed = {column.name: rows[positions == at] for at, column in enumerate(columns)}
    table = imputations.table
    coded = {name: table.codes[name].notna().to_numpy() for name in table.codes.columns}
    for one in table.schema.derived:  # of which codes for a missing value, too, are replaced
        imputed[one.column] = np.flatnonzero(coded.get(one.column, []))
    for one in table.schema.skips:
        if one.column in coded:
            without = ~table.applicable[:, table.schema.names.index(one.column)].numpy() & coded[one.column]
            imputed[one.column] = np.union1d(imputed[one.column], np.flatnonzero(without))
    levels = {column.name for column in columns if column.kind.has_levels}
    for name, frame in zip(names, chain(imputations.frames(), [imputations.mean()]), strict=False):
        yield name, packed(name, text.written(frame, imputed, levels))
    yield "history.csv", result.history.to_csv(index=False).encode()


def _about(options: argparse.Namespace, source: Input, result: Fit, imputations: Imputations) -> dict[str, Any]:
    """What a manifest says of a run."""
    return {
        "made_by": f"pyro-mnar {version('pyro-mnar')}",
        "data": options.data.name,
        "data_sha256": source.sha256,
        "seed": options.seed,
        "epochs": result.epochs_done,
        "interrupted": result.interrupted,
        "from_bootstrap": imputations.from_bootstrap,
        "reading": source.declared.to_plain(),
        "not_applicable": [
            [str(name), list(codes)] for name, codes in source.table.schema.codes_of("not_applicable").items()
        ],
    }


def _draw_names(draws: int, suffix: str) -> list[str]:
    digits = max(2, len(str(draws)))
    return [f"draw_{number:0{digits}}{suffix}" for number in range(1, draws + 1)]
