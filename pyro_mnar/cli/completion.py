"""`pyro-mnar impute`: a CSV file with gaps in, completed tables out."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pyro_mnar import mechanisms
from pyro_mnar.graphs.graph import MissingnessGraph
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.imputation import impute
from pyro_mnar.models import GINA
from pyro_mnar.tables.table import Table
from pyro_mnar.training.svi import fit

SHOWN = 10  # columns whose kind is said
MECHANISMS = {
    "self-masking": mechanisms.SelfMasking,
    "self-masking-high": partial(mechanisms.SelfMasking, sign=-1),
    "self-masking-low": partial(mechanisms.SelfMasking, sign=1),
    "latent-dependent": mechanisms.LatentDependent,
    "general": mechanisms.General,
    "mcar": mechanisms.Constant,
}


def complete_file(options: argparse.Namespace) -> None:
    """Fit GINA to a CSV file and write completed tables (draw_01.csv, ...), their mean (mean.csv) and the history."""
    codes = dict(_codes(given) for given in options.na_values)
    table = Table.from_csv(
        options.data,
        auxiliary=_auxiliary(options.auxiliary),
        na_values=codes,
        kinds=dict(map(_kind, options.kinds)),
        lower=dict(_bound(given, "lower") for given in options.lower),
        upper=dict(_bound(given, "upper") for given in options.upper),
    )
    _say_kinds(table)
    if options.draws < 1:
        raise ValueError(f"--draws: expected at least 1, got {options.draws}")
    cause: dict[str, Any] = {"mechanism": MECHANISMS.get(options.mechanism)}
    if options.graph:
        cause = {"graph": _graph(options.graph, table)}
    device = _device(options.device)
    _make_folder(options.out, options.draws)
    model = GINA(table, latent_dim=options.latent_dim, seed=options.seed, **cause)
    guide = ZeroImpute(table, model.latent_dim, seed=options.seed)
    result = fit(
        model,
        guide,
        table,
        epochs=options.epochs,
        num_particles=options.particles,
        seed=options.seed,
        device=device,
        progress=not options.quiet,
    )
    imputations = impute(result, table, num_draws=options.draws, seed=options.seed)
    for name, frame in zip(_draw_names(options.draws), imputations.frames(), strict=True):
        frame.to_csv(options.out / name, index=False)
    imputations.mean().to_csv(options.out / "mean.csv", index=False)
    result.history.to_csv(options.out / "history.csv", index=False)
    print(f"{options.out}: {options.draws} completed tables and their mean; {imputations.cells.shape[1]} cells imputed")


def _say_kinds(table: Table) -> None:
    """What was taken for levels or words, so that it can be overruled before the training rather than after."""
    kinds = table.schema.describe_kinds()
    inferred = kinds[(kinds["because"] != "declared") & (kinds["kind"] != "continuous")]
    if len(inferred):
        described = [f"{name} {kind} ({because})" for name, kind, because, _ in inferred.head(SHOWN).itertuples()]
        more = f" and {len(inferred) - SHOWN} more" if len(inferred) > SHOWN else ""
        print(f"kinds: {', '.join(described)}{more}; --kinds COLUMN=KIND overrules")


def _auxiliary(given: str | None) -> Any:
    return given if given is None or given == "mask" else [name.strip() for name in given.split(",") if name.strip()]


def _draw_names(draws: int) -> list[str]:
    digits = max(2, len(str(draws)))
    return [f"draw_{number:0{digits}}.csv" for number in range(1, draws + 1)]


def _make_folder(out: Path, draws: int) -> None:
    """Before any training: make the folder, and refuse to leave draws of another run beside the new ones."""
    out.mkdir(parents=True, exist_ok=True)
    left = {path.name for path in out.glob("draw_*.csv")} - set(_draw_names(draws))
    if left:
        raise ValueError(f"--out: {out} holds {min(left)} of another run, which would stay beside these draws")


def _codes(given: str) -> tuple[str, list[Any]]:
    column, equals, codes = given.partition("=")
    if not (column and equals and codes):
        raise ValueError(f"--na-values: expected COLUMN=CODE,CODE, got {given!r}")
    return column, [_number(code) for code in codes.split(",")]


def _kind(given: str) -> tuple[str, str]:
    column, equals, kind = given.rpartition("=")
    if not (column and equals and kind):
        raise ValueError(f"--kinds: expected COLUMN=KIND, got {given!r}")
    return column, kind.replace("-", "_")


def _bound(given: str, end: str) -> tuple[str, Any]:
    column, equals, bound = given.rpartition("=")
    if not (column and equals and bound):
        raise ValueError(f"--{end}: expected COLUMN=NUMBER, got {given!r}")
    return column, _number(bound)


def _number(text: str) -> Any:
    """A code as the file's reader would read it: a number if it is one."""
    try:
        return float(text)
    except ValueError:
        return text


def _graph(given: str, table: Table) -> MissingnessGraph:
    path = Path(given)
    if path.suffix == ".json":
        return MissingnessGraph.from_json(path.read_text(encoding="utf-8"), table)
    return MissingnessGraph.preset(given, table)


def _device(name: str) -> Any:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device: cannot use {name!r}: {str(error).splitlines()[0]}") from None
    return device
