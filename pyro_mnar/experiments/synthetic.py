"""Recovery of the paper's data sets A, B and C (section 6.1, Figures 3 and 4): what a fitted model generates, imputes.

2,000 rows of three columns; every seed is another data set.  What is generated is compared with fresh complete rows,
imputations with what went missing.  All numbers are in standard deviations of the complete training columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from os import PathLike
from typing import Any

import numpy as np

from pyro_mnar.baselines import Fitted
from pyro_mnar.datasets.synthetic_tables import INCOMPLETE, NAMES, Synthetic, synthetic
from pyro_mnar.experiments.experiment import Experiment, Task
from pyro_mnar.experiments.metrics import coverage, crps, energy_distance, sliced_wasserstein
from pyro_mnar.experiments.synthetic_figures import PICTURED_SEED, PICTURES, draw, keep
from pyro_mnar.graphs.graph import MissingnessGraph
from pyro_mnar.imputation import impute
from pyro_mnar.imputation.generation import generate
from pyro_mnar.models import GINA, NotMIWAE, PartialVAE
from pyro_mnar.tables.table import Table

LATENT_DIM = 2  # one less than there are columns, so that the decoder can be injective (A5)
STARTS = 4
DRAWS = 50
SIGNED = "GINA, true graph and signs"
METRICS = {
    "energy_distance": "of generated (X2, X3) to as many fresh true rows",
    "sliced_wasserstein": "of the same",
    "rmse": "of the posterior means of the missing values, given the mask",
    "crps": "mean continuous ranked probability score of the missing values, given the mask",
    "coverage_50": "share of the missing values in their central 50% interval, given the mask",
    "coverage_90": "the same for 90%",
    "completed_energy_distance": "of (X2, X3) completed by one draw a row, given the mask, to the complete rows",
    "completed_without_mask": "the same for draws of p(X_u | X_o), the paper's formula",
}


@dataclass(frozen=True)
class Declared:
    """A model that a missingness graph is declared to.

    Attributes:
        name: What tables and figures call it.
        model: Class of the model.
        graph: The graph, given the table and the true graph.
        fit_options: Options of :func:`~pyro_mnar.fit`.
    """

    name: str
    model: type
    graph: Callable[[Table, MissingnessGraph], MissingnessGraph]
    fit_options: Mapping[str, Any] = field(default_factory=dict)

    def on(self, table: Table, true: MissingnessGraph) -> Fitted:
        """The system for one data set."""
        model = partial(self.model, latent_dim=LATENT_DIM, graph=self.graph(table, true))
        return Fitted(self.name, model, fit_options=self.fit_options)


def training_options(*, quick: bool) -> dict[str, Any]:
    """Of `fit`, for systems that start alike: at random, since the data cannot tell the networks of some a start."""
    return {"start": "random", **({"epochs": 20} if quick else {})}


def synthetic_experiment(
    *, folder: str | PathLike[str] | None = None, quick: bool = False, rows: int | None = None
) -> Experiment:
    """The experiment; systems are :class:`Declared` or anything that has ``train(table, seed=...)``.

    Args:
        folder: Not used: the data are simulated.
        quick: Fewer rows and epochs: it shows that all runs, and nothing else.
        rows: N; by default the paper's 2,000, or 300 if quick.
    """
    options = training_options(quick=quick)
    rows = rows or (300 if quick else 2000)
    signed = Declared(SIGNED, GINA, true_graph, options)
    unsigned = [name for name in NAMES if not any(edge.sign for edge in synthetic(name, 0, rows=2).graph.edges)]
    return Experiment(
        name="synthetic",
        title="Data sets A, B and C: is p(X) recovered from values missing not at random?",
        systems=(
            Fitted(PICTURES[0], partial(PartialVAE, latent_dim=LATENT_DIM), fit_options=options),
            Declared(PICTURES[1], NotMIWAE, fully_connected_graph, options),
            Declared(PICTURES[2], GINA, general_graph, options),
            Declared("GINA, true graph", GINA, true_graph_without_signs, options),
            Declared(
                f"GINA, true graph, best of {STARTS}",
                GINA,
                true_graph_without_signs,
                {"restarts": STARTS, **options},  # by the bound, which knows nothing of the truth
            ),
            signed,
        ),
        data={name: partial(_made, name, rows=rows) for name in NAMES},
        run=run,
        metrics=METRICS,
        settings={"rows": rows},
        left_out=[(SIGNED, name) for name in unsigned],
        draw=partial(draw, rows=rows),
        notes=(
            "Published as pictures alone (Figures 3 and 4); the paper leaves its nonlinear functions open, so the data"
            " sets are not the same.",
        ),
    )


def run(task: Task) -> dict[str, float]:
    """Fit, generate, impute; and keep what the figures show."""
    data: Synthetic = task.data
    table = Table.from_frame(data.frame)
    system = task.system.on(table, data.graph) if isinstance(task.system, Declared) else task.system
    trained = system.train(table, seed=task.seed)

    columns = list(INCOMPLETE)
    unit = data.complete[columns].std(ddof=0)
    fresh, generated = data.test[columns] / unit, generate(trained, table, seed=task.seed)[columns] / unit
    missing = data.frame.isna().to_numpy()
    truth = data.complete.to_numpy()
    means = impute(trained, table, num_draws=1, num_particles=200, seed=task.seed).mean().to_numpy()
    given = impute(trained, table, num_draws=DRAWS, num_particles=100, seed=task.seed)
    without = impute(trained, table, num_draws=1, num_particles=100, use_mechanism=False, seed=task.seed)
    completed = {"given the mask": given, "not": without}
    frames = {target: next(iter(found.frames()))[columns] / unit for target, found in completed.items()}
    if task.seed == PICTURED_SEED:
        keep(task, generated, frames)

    deviations = unit.reindex(data.frame.columns, fill_value=1.0).to_numpy()[given.cells[1]]
    draws, true = given.draws / deviations, truth[tuple(given.cells)] / deviations
    whole = data.complete[columns] / unit
    return {
        "energy_distance": energy_distance(generated, fresh),
        "sliced_wasserstein": sliced_wasserstein(generated, fresh),
        "rmse": float(np.sqrt(np.mean((means - truth)[missing] ** 2))),
        "crps": float(crps(draws, true).mean()),
        "coverage_50": coverage(draws, true, 0.5),
        "coverage_90": coverage(draws, true, 0.9),
        "completed_energy_distance": energy_distance(frames["given the mask"], whole),
        "completed_without_mask": energy_distance(frames["not"], whole),
    }


def true_graph(table: Table, true: MissingnessGraph) -> MissingnessGraph:
    """What made the gaps, with the directions."""
    return true


def true_graph_without_signs(table: Table, true: MissingnessGraph) -> MissingnessGraph:
    """The true graph's edges alone: which way the values push is for the fit to find out."""
    return MissingnessGraph([(edge.parent, edge.child) for edge in true.edges])


def general_graph(table: Table, true: MissingnessGraph) -> MissingnessGraph:
    """Everything causes every gap, as in the paper."""
    return MissingnessGraph.general(table)


def fully_connected_graph(table: Table, true: MissingnessGraph) -> MissingnessGraph:
    """All of X causes every gap."""
    return MissingnessGraph.fully_connected(table)


def _made(name: str, seed: int, *, rows: int) -> Synthetic:
    return synthetic(name, seed, rows=rows)
