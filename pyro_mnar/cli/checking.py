"""`pyro-mnar check`, what speaks against a fit; `pyro-mnar compare`, which fit says more of rows it never saw."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from pyro_mnar.cli import inputs
from pyro_mnar.cli.inputs import Input
from pyro_mnar.cli.option_words import in_options
from pyro_mnar.cli.outcome import FOUND_A_PROBLEM, Outcome, records
from pyro_mnar.devices import device_of
from pyro_mnar.diagnostics import check_identifiability, compare, diagnose
from pyro_mnar.diagnostics.diagnosis import PROBLEM
from pyro_mnar.diagnostics.identifiability import NOT_IDENTIFIED
from pyro_mnar.imputation import impute
from pyro_mnar.tables.table import Table
from pyro_mnar.training.fitted import Fit


def check(options: argparse.Namespace) -> Outcome:
    """Print what speaks against a fit, worst first, and what the data cannot tell; status 1 if there is a problem."""
    fit = Fit.load(options.fit)
    table = inputs.read_as(options, fit).table
    device = device_of(options.device, "--device")
    imputations = impute(fit, table, num_draws=options.draws, seed=options.seed, device=device)
    diagnosis = diagnose(fit, imputations, seed=options.seed)
    print(in_options(f"{diagnosis}\n"), flush=True)
    search = {"search": not options.no_twins, "progress": not options.quiet}
    identifiability = check_identifiability(fit, table, seed=options.seed, **search)
    print(in_options(identifiability.to_text(detail=options.detail)))
    problems = [finding.subject for finding in diagnosis.findings if finding.verdict == PROBLEM]
    problems += [line.assumption for line in identifiability.lines if line.verdict == NOT_IDENTIFIED]
    found = {
        "problems": problems,
        "diagnosis": _records(diagnosis.to_frame()),
        "identifiability": _records(identifiability.to_frame()),
    }
    return Outcome(found, FOUND_A_PROBLEM if problems else 0)


def compare_fits(options: argparse.Namespace) -> Outcome:
    """Print fits in order of their bound on rows that none of them saw.

    Raises:
        ValueError: If there is one fit alone, or the rows are not held out of all of them.
    """
    fits = {
        str(path) if len({*map(_stem, options.fits)}) < len(options.fits) else _stem(path): path
        for path in options.fits
    }
    loaded = {name: Fit.load(path) for name, path in fits.items()}
    source = inputs.read_as(options, next(iter(loaded.values())))
    table = _unseen(source, loaded)
    device = device_of(options.device, "--device")
    found = compare(loaded, table, num_particles=options.particles, seed=options.seed, device=device)
    print(f"{len(table):,} rows that no fit saw\n")
    print(in_options(str(found)))
    return Outcome({"rows": len(table), "fits": records(found.to_frame().rename_axis("fit"))})


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Findings, options in their words."""
    return [
        {name: in_options(value) if isinstance(value, str) else value for name, value in record.items()}
        for record in records(frame)
    ]


def _unseen(source: Input, fits: dict[str, Fit]) -> Table:
    """The rows of a file that no fit was trained on."""
    digest = source.sha256
    unknown = [name for name, fit in fits.items() if "data_sha256" not in fit.notes]
    if unknown:
        print(f"{unknown[0]}: does not say which file it was trained on; its rows are taken to be others than these")
    trained = {
        name: fit.notes.get("held_out", []) for name, fit in fits.items() if fit.notes.get("data_sha256") == digest
    }
    if not trained:
        return source.table
    rows = next(iter(trained.values()))
    for name, others in trained.items():
        if not others:
            raise ValueError(
                f"{name}: was trained on all rows of {source.path}, so that these do not tell fits apart: fit with"
                " --held-out 0.2 (and the same --seed), or give a file of other rows"
            )
        if others != rows:
            first = next(iter(trained))
            raise ValueError(
                f"{name}: left out other rows of {source.path} than {first}: give both the same --held-out and --seed"
            )
    return source.table.take(rows)


def _stem(path: Path) -> str:
    return path.stem
