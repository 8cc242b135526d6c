"""`pyro-mnar pool`, `sensitivity`, `report`: from completed tables and fits to results, and to a page that says so."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd

from pyro_mnar.cli import inputs
from pyro_mnar.cli.declarations import Declarations
from pyro_mnar.cli.option_values import value_of
from pyro_mnar.cli.option_words import in_options
from pyro_mnar.cli.outcome import Outcome, records
from pyro_mnar.cli.output_folder import MANIFEST
from pyro_mnar.devices import device_of
from pyro_mnar.diagnostics import check_identifiability, diagnose
from pyro_mnar.imputation import Imputations, Pooled, impute, pool_frames
from pyro_mnar.imputation.imputations import HELD_FIXED, OF_BOOTSTRAP
from pyro_mnar.reports import report
from pyro_mnar.scenarios import Sensitivity, TippingPoint, sensitivity, tipping_point
from pyro_mnar.tables.completion import with_gaps_for
from pyro_mnar.tables.schema import Schema
from pyro_mnar.tables.survey import SurveyDesign, design_columns, design_of
from pyro_mnar.training.fitted import Fit


def pool(options: argparse.Namespace) -> Outcome:
    """Print a regression on the completed tables of a folder, combined by Rubin's rules.

    Raises:
        ValueError: If the folder is none that ``impute`` wrote, not complete, or changed since.
    """
    manifest = _manifest(options.folder)
    if manifest.get("interrupted"):
        print(f"{options.folder}: made by a training that was interrupted after {manifest['epochs']} epochs")
    note = in_options(OF_BOOTSTRAP if manifest.get("from_bootstrap") else HELD_FIXED)
    frames = _frames(options.folder, manifest)
    first = next(frames, None)
    if first is None:
        raise ValueError(f"{options.folder}: expected completed tables, found none")
    pooled = pool_frames(
        chain([first], frames),
        options.formula,
        confidence=options.confidence,
        note=note,
        design=_design(first, Declarations.from_plain(manifest["reading"])),
    )
    print(in_options(str(pooled)))
    return Outcome({"formula": options.formula, "draws": pooled.num_draws, **_coefficients(pooled), "note": note})


def vary(options: argparse.Namespace) -> Outcome:
    """Print a regression under several assumptions, or the delta at which its conclusion changes.

    Raises:
        ValueError: If there is nothing to vary, or a tipping point is asked of several fits.
    """
    if not options.delta and not options.tipping and len(options.fit) < 2:
        raise ValueError("expected something to vary: --delta, --tipping, or several of --fit")
    paths = {path.stem: path for path in options.fit}
    if len(paths) < len(options.fit):
        paths = {str(path): path for path in options.fit}
    fits = {name: Fit.load(path) for name, path in paths.items()}
    first = next(iter(fits.values()))
    source = inputs.read_as(options, first)
    device = device_of(options.device, "--device")
    drawn = {
        name: impute(fit, source.table, num_draws=options.draws, seed=options.seed, device=device)
        for name, fit in fits.items()
    }
    found: dict[str, Any] = {"formula": options.formula}
    if options.delta or len(fits) > 1:
        varied = _varied(options, drawn)
        print(in_options(str(varied)))
        found["scenarios"] = records(varied.to_frame())
    if options.tipping:
        if len(fits) > 1:
            raise ValueError(f"--tipping: expected one --fit, got {len(fits)}")
        tip = _tipping(options, next(iter(drawn.values())))
        print(f"{tip}\n\n{tip.curve.sort_values('delta').to_string(index=False, float_format='{:.4g}'.format)}")
        found["tipping_point"] = {
            "delta": tip.delta,
            "monte_carlo_error": tip.monte_carlo_error,
            "conclusion": tip.conclusion,
            "coefficient": tip.coefficient,
            "curve": records(tip.curve),
        }
    return Outcome(found)


def write_report(options: argparse.Namespace) -> Outcome:
    """Write a page of what was assumed, done and found.

    Raises:
        ValueError: If ``--out`` is there or no page's name, or deltas come without a formula.
    """
    inputs.check_place(options.out, options.data, force=options.force)
    if options.out.suffix not in (".html", ".md"):
        raise ValueError(f"--out: expected an ending .html or .md, got {options.out.name!r}")
    if (options.delta or options.tipping) and not options.formula:
        raise ValueError("--delta, --tipping: expected --formula beside them, the analysis that is redone")
    fit = Fit.load(options.fit)
    source = inputs.read_as(options, fit)
    device = device_of(options.device, "--device")
    imputations = impute(fit, source.table, num_draws=options.draws, seed=options.seed, device=device)
    parts: dict[str, Any] = {}
    if options.formula:
        parts["pooled"] = {options.formula: imputations.pool(options.formula, confidence=options.confidence)}
    if options.delta:
        parts["sensitivity"] = _varied(options, {"": imputations})
    if options.tipping:
        parts["tipping"] = _tipping(options, imputations)
    if not options.no_checks:
        parts["diagnostics"] = diagnose(fit, imputations, seed=options.seed)
        parts["identifiability"] = check_identifiability(
            fit, source.table, seed=options.seed, progress=not options.quiet
        )
    seeds = {"impute": options.seed, **({"fit": fit.notes["seed"]} if "seed" in fit.notes else {})}
    report(fit, imputations, seeds=seeds, **parts).reworded(in_options).save(options.out)
    print(f"{options.out}: the report")
    return Outcome({"report": str(options.out)})


def _varied(options: argparse.Namespace, drawn: dict[str, Imputations]) -> Sensitivity:
    deltas = [{column: number} for column, numbers in map(_delta, options.delta) for number in numbers]
    return sensitivity(
        options.formula,
        drawn,
        deltas=deltas or None,
        delta_scale=options.delta_scale,
        seed=options.seed,
        confidence=options.confidence,
    )


def _tipping(options: argparse.Namespace, imputations: Imputations) -> TippingPoint:
    column, ends = _delta(options.tipping, "--tipping", "FROM,TO")
    if len(ends) != 2:
        raise ValueError(f"--tipping: expected COLUMN=FROM,TO, got {options.tipping!r}")
    return tipping_point(
        options.formula,
        imputations,
        column,
        value_of(options.conclusion),
        between=(ends[0], ends[1]),
        delta_scale=options.delta_scale,
        coefficient=options.coefficient,
        seed=options.seed,
        confidence=options.confidence,
    )


def _delta(given: str, option: str = "--delta", what: str = "NUMBER,NUMBER") -> tuple[str, list[float]]:
    column, _, words = given.rpartition("=")
    try:
        numbers = [float(word) for word in words.split(",")]
    except ValueError:
        numbers = []
    if not column or not numbers:
        raise ValueError(f"{option}: expected COLUMN={what}, got {given!r}")
    return column, numbers


def _coefficients(pooled: Pooled) -> dict[str, Any]:
    return {"coefficients": records(pooled.to_frame())}


def _design(frame: pd.DataFrame, declared: Declarations) -> SurveyDesign | None:
    """How the rows were sampled, if the run was told; completed tables have the same rows."""
    columns = tuple(design_columns(declared.weights, declared.cluster, declared.strata))
    return design_of(frame, Schema((), (), "none", others=columns)) if columns else None


def _manifest(folder: Path) -> dict[str, Any]:
    """What a run of ``impute`` says of its folder."""
    place = folder / MANIFEST
    if not place.is_file():
        raise ValueError(f"{folder}: expected a folder that 'pyro-mnar impute' wrote, found no {MANIFEST} in it")
    try:
        manifest = json.loads(place.read_text(encoding="utf-8"))
        complete, _ = manifest["complete"], manifest["files"].items()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{place}: cannot be read: {error!r}") from None
    if not complete:
        raise ValueError(f"{folder}: is not complete, its run was cut short: impute again")
    if "reading" not in manifest:
        raise ValueError(
            f"{folder}: is of an earlier version, which did not note how its tables are read: impute again"
        )
    return manifest


def _frames(folder: Path, manifest: dict[str, Any]) -> Iterator[pd.DataFrame]:
    """The completed tables, as they were written; cells without a value (not applicable) are gaps."""
    declared = Declarations.from_plain(manifest["reading"])
    for name, digests in manifest["files"].items():
        if not name.startswith("draw_"):
            continue
        place = folder / name
        if not place.is_file() or hashlib.sha256(place.read_bytes()).hexdigest() not in digests:
            raise ValueError(f"{place}: is not there, or was changed after it was written: impute again")
        yield with_gaps_for(declared.values(place), dict(manifest["not_applicable"]))
