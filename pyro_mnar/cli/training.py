"""The fit that `fit` and `impute` share: GINA, trained as options say."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pyro_mnar import mechanisms
from pyro_mnar.cli.inputs import Input, described
from pyro_mnar.cli.options import TRAINING
from pyro_mnar.devices import device_of
from pyro_mnar.graphs.graph import MissingnessGraph
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.models import GINA
from pyro_mnar.tables.table import Table
from pyro_mnar.training.fitted import Fit
from pyro_mnar.training.svi import fit

MECHANISMS = {
    "self-masking": mechanisms.SelfMasking,
    "self-masking-high": partial(mechanisms.SelfMasking, sign=-1),
    "self-masking-low": partial(mechanisms.SelfMasking, sign=1),
    "latent-dependent": mechanisms.LatentDependent,
    "general": mechanisms.General,
    "mcar": mechanisms.Constant,
}


class Prepared(NamedTuple):
    """A model of a table that is not trained yet.

    Attributes:
        train: Trains it, on some rows of the table, with others held out.
        lines: What was decided, in words.
        decided: The same for machines.
    """

    train: Callable[..., Fit]
    lines: list[str]
    decided: dict[str, Any]


def refuse_training_options(options: argparse.Namespace) -> None:
    """Beside a fit that is there, nothing says how to train one.

    Raises:
        ValueError: If an option does; names it.
    """
    given = [name for name in TRAINING if getattr(options, name) is not None]
    if given:
        raise ValueError(
            f"--{given[0].replace('_', '-')}: expected no option of a training beside --fit, whose file holds a fit"
        )


def prepare(options: argparse.Namespace, source: Input) -> Prepared:
    """Make the model that options ask for, and say what it takes to be the cause of the gaps.

    Raises:
        ValueError: If an option is wrong.
    """
    table = source.table
    cause: dict[str, Any] = {"mechanism": MECHANISMS.get(options.mechanism)}
    if options.graph:
        cause = {"graph": graph_of(options.graph, table)}
    device = device_of(options.device, "--device")
    model = GINA(table, latent_dim=options.latent_dim, seed=options.seed, **cause)
    guide = ZeroImpute(table, model.latent_dim, seed=options.seed)
    graph = model.graph or _graph_of_mechanism(options.mechanism or "self-masking", table)
    settings = {
        "epochs": options.epochs,
        "num_particles": 20 if options.particles is None else options.particles,
        "restarts": 1 if options.restarts is None else options.restarts,
        "bootstrap": options.bootstrap or 0,
        "seed": options.seed,
    }

    def train(rows: Table | None = None, held_out: Table | float = 0.0) -> Fit:
        return fit(
            model,
            guide,
            table if rows is None else rows,
            held_out=held_out,
            device=device,
            checkpoint=options.checkpoint,
            resume=options.checkpoint is not None,
            progress=not options.quiet,
            **settings,
        )

    lines = [*described(source), *(f"why values are missing: {graph!r}".splitlines())]
    if model.causes is not None:
        lines += ["found in the table (--mechanism or --graph overrules):", *str(model.causes).splitlines()]
    decided = {
        "rows": len(table),
        "missing": int((~table.mask & table.applicable).sum()),
        "kinds": {str(name): kind for name, kind in table.schema.kinds.items()},
        "others": {str(other.name): other.role for other in table.schema.others},
        "auxiliary": [str(auxiliary.name) for auxiliary in table.schema.auxiliaries],
        "missing_together": [list(map(str, block)) for block in table.schema.blocks],
        "mechanism": options.mechanism or options.graph or ("self-masking" if model.causes is None else "likely"),
        "causes": {str(name): list(map(str, graph.parents(name))) for name in graph.nodes.incomplete},
        **settings,
    }
    return Prepared(train, lines, decided)


def interrupted(options: argparse.Namespace, result: Fit, cure: str = "") -> KeyboardInterrupt:
    """What ends a command whose training Ctrl-C has ended; says from where it can go on."""
    told = f"interrupted after {result.epochs_done} epochs; nothing was written"
    if options.checkpoint is not None:
        return KeyboardInterrupt(f"{told} but {options.checkpoint}, from which the same command goes on")
    return KeyboardInterrupt(f"{told} ({cure}--checkpoint FILE lets the same command go on)")


def held_out_rows(count: int, share: float, seed: int) -> list[int]:
    """Positions of the rows that are left out of a training, the same for the same seed.

    Raises:
        ValueError: If it is no share, or leaves no rows.
    """
    if not 0 <= share < 1:
        raise ValueError(f"--held-out: expected a share from 0 to below 1, got {share}")
    rows = np.random.default_rng(seed).permutation(count)[: round(share * count)]
    if share and not 0 < len(rows) < count:
        raise ValueError(f"--held-out: {share} of {count} rows are {len(rows)}: expected some, and some to train on")
    return sorted(map(int, rows))


def graph_of(given: str, table: Table) -> MissingnessGraph:
    """A graph of a JSON file or of a preset's name."""
    path = Path(given)
    if path.suffix == ".json":
        return MissingnessGraph.from_json(path.read_text(encoding="utf-8"), table)
    return MissingnessGraph.preset(given, table)


def _graph_of_mechanism(name: str, table: Table) -> MissingnessGraph:
    """The graph that a mechanism of a name stands for; recovering it from the model would take seconds."""
    preset, high_or_low = name, None
    if name.startswith("self-masking-"):
        preset, high_or_low = "self-masking", name.removeprefix("self-masking-")
    return MissingnessGraph.preset(preset, table, sign=high_or_low)
