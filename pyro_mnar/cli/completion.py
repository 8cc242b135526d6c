"""`pyro-mnar impute`: a CSV file with gaps in, completed tables out."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

from pyro_mnar import mechanisms
from pyro_mnar.cli.declarations import Declarations
from pyro_mnar.cli.output_folder import OutputFolder
from pyro_mnar.cli.schema_file import declarations_in
from pyro_mnar.graphs.graph import MissingnessGraph
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.imputation import Imputations, impute
from pyro_mnar.infer.arguments import device_of
from pyro_mnar.models import GINA
from pyro_mnar.tables.table import Table
from pyro_mnar.tables.text_frame import TextFrame
from pyro_mnar.training.fitted import Fit
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
    """Fit GINA to a CSV file and write completed tables (draw_01.csv, ...), their mean (mean.csv) and the history.

    Raises:
        ValueError: If the file, an option or what they say of each other is wrong.
        KeyboardInterrupt: If Ctrl-C ended the training, unless ``--keep-interrupted``; nothing is written then.
    """
    if options.draws < 1:
        raise ValueError(f"--draws: expected at least 1, got {options.draws}")
    declared = Declarations.of_options(options)
    if options.schema:
        declared = declared.over(declarations_in(options.schema))
    text, table = declared.read(options.data)
    _say_kinds(table)
    cause: dict[str, Any] = {"mechanism": MECHANISMS.get(options.mechanism)}
    if options.graph:
        cause = {"graph": _graph(options.graph, table)}
    device = device_of(options.device, "--device")
    names = [*_draw_names(options.draws), "mean.csv", "history.csv"]
    folder = OutputFolder(options.out, names, options.data)
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
    if result.interrupted and not options.keep_interrupted:
        raise KeyboardInterrupt(
            f"interrupted after {result.epochs_done} epochs; nothing was written (--keep-interrupted writes what such a"
            " model imputes)"
        )
    imputations = impute(result, table, num_draws=options.draws, seed=options.seed)
    folder.write(_files(text, imputations, result, names), _about(options, result))
    print(f"{options.out}: {options.draws} completed tables and their mean; {imputations.cells.shape[1]} cells imputed")


def _files(text: TextFrame, imputations: Imputations, result: Fit, names: list[str]) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of what is written, one at a time."""
    columns = imputations.table.schema.columns
    rows, positions = imputations.cells
    imputed = {column.name: rows[positions == at] for at, column in enumerate(columns)}
    levels = {column.name for column in columns if column.kind.has_levels}
    for name, frame in zip(names, chain(imputations.frames(), [imputations.mean()]), strict=False):
        yield name, text.written(frame, imputed, levels)
    yield names[-1], result.history.to_csv(index=False).encode()


def _about(options: argparse.Namespace, result: Fit) -> dict[str, Any]:
    """What a manifest says of a run."""
    return {
        "made_by": f"pyro-mnar {version('pyro-mnar')}",
        "data": options.data.name,
        "data_sha256": hashlib.sha256(options.data.read_bytes()).hexdigest(),
        "seed": options.seed,
        "epochs": result.epochs_done,
        "interrupted": result.interrupted,
    }


def _say_kinds(table: Table) -> None:
    """What was taken for levels or words, so that it can be overruled before the training rather than after."""
    kinds = table.schema.describe_kinds()
    inferred = kinds[(kinds["because"] != "declared") & (kinds["kind"] != "continuous")]
    if len(inferred):
        described = [f"{name} {kind} ({because})" for name, kind, because, _ in inferred.head(SHOWN).itertuples()]
        more = f" and {len(inferred) - SHOWN} more" if len(inferred) > SHOWN else ""
        print(f"kinds: {', '.join(described)}{more}; --kinds COLUMN=KIND overrules")


def _draw_names(draws: int) -> list[str]:
    digits = max(2, len(str(draws)))
    return [f"draw_{number:0{digits}}.csv" for number in range(1, draws + 1)]


def _graph(given: str, table: Table) -> MissingnessGraph:
    path = Path(given)
    if path.suffix == ".json":
        return MissingnessGraph.from_json(path.read_text(encoding="utf-8"), table)
    return MissingnessGraph.preset(given, table)
