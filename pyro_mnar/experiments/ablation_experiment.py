"""What each part of GINA buys: the prior on U, what the mechanism sees, K, a sample or the mean of X_u, β.

On the paper's data sets A, B and C (seeds are other data sets) and on two UCI tables whose high values are missing.
GINA is B.1's: p(Z|U) with the complete columns as U, a network of (X, Z) as the mechanism, K = 5; each other system
changes one thing.
"""

from __future__ import annotations

from functools import partial
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyro
import torch

from pyro_mnar.baselines import Fitted
from pyro_mnar.datasets.synthetic_tables import NAMES, synthetic
from pyro_mnar.datasets.uci import Loader, self_masked, uci_tables
from pyro_mnar.experiments.experiment import Experiment, Task
from pyro_mnar.experiments.metrics import crps
from pyro_mnar.experiments.synthetic import training_options
from pyro_mnar.imputation import impute
from pyro_mnar.mechanisms import FullyConnected, General, LatentDependent, SelfMasking, log_odds
from pyro_mnar.models import GINA, NotMIWAE, PartialVAE
from pyro_mnar.primitives import observe_mask, partially_observed, rows
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.table import Table

UCI = ("breast cancer", "concrete")
DRAWS = 20


class Masked(NamedTuple):
    """What is observed, and the truth in the same units."""

    observed: pd.DataFrame
    truth: pd.DataFrame


class MeanInMechanism(GINA):
    """GINA whose mechanism sees E[X_u | Z] where a value is missing, not a draw of it."""

    def forward(self, batch: Batch) -> torch.Tensor:
        """Run the model on a batch; returns the completed rows, standardised, ``(..., rows, columns)``."""
        with rows(batch):
            z = pyro.sample("z", self.prior(batch.aux))
            decoded = self.decoder(z)
            x = partially_observed("x", decoded, batch)
            seen = torch.where(batch.mask, x, decoded.mean)
            observe_mask("r", log_odds(self.mechanism, seen, z, batch), batch, weight=self.mechanism_weight)
        return x


def ablation(*, folder: str | PathLike[str] | None = None, quick: bool = False, rows: int | None = None) -> Experiment:
    """The experiment; systems are anything that has ``train(table, seed=...)``.

    Args:
        folder: Where the user's UCI tables are; without concrete, breast cancer stands alone.
        quick: Train briefly: it shows that all runs, and nothing else.
        rows: N of A, B and C; by default the paper's 2,000, or 300 if quick.

    Raises:
        FileNotFoundError: If there is no such folder.
    """
    options = training_options(quick=quick)
    size = rows or (300 if quick else 2000)
    tables = {name: load for name, load in uci_tables(folder).items() if name in UCI}

    def system(name: str, model: Any = GINA, particles: int = 5, **of_model: Any) -> Fitted:
        made = partial(model, **of_model) if of_model else model
        return Fitted(name, made, fit_options={"num_particles": particles, **options})

    return Experiment(
        name="ablation",
        title="GINA with one part changed.",
        systems=(
            system("GINA", mechanism=General),
            system("prior N(0, I)", NotMIWAE, mechanism=General),
            system("mechanism of X", mechanism=FullyConnected),
            system("mechanism of own X and Z", mechanism=LatentDependent),
            system("mechanism of own X", mechanism=SelfMasking),
            system("no mechanism", PartialVAE),
            system("K = 1", mechanism=General, particles=1),
            system("K = 20", mechanism=General, particles=20),
            system("mean of X_u in mechanism", MeanInMechanism, mechanism=General),
            system("β = 0.5", mechanism=General, mechanism_weight=0.5),
        ),
        data={
            **{name: partial(_synthetic, name, rows=size) for name in NAMES},
            **{name: partial(_uci, load) for name, load in sorted(tables.items())},
        },
        run=run,
        metrics={
            "rmse": "of the posterior means of the missing values, in standard deviations of the complete column",
            "crps": "mean continuous ranked probability score of the missing values, in the same unit",
        },
        settings={"rows": size},
    )


def run(task: Task) -> dict[str, float]:
    """Fit, impute given the mask, compare with the truth."""
    observed, truth = task.data
    table = Table.from_frame(observed)
    found = impute(task.system.train(table, seed=task.seed), table, num_draws=DRAWS, seed=task.seed)
    unit = truth.to_numpy().std(axis=0)[found.cells[1]]
    true = truth.to_numpy()[tuple(found.cells)] / unit
    return {
        "rmse": float(np.sqrt(np.mean((found.means / unit - true) ** 2))),
        "crps": float(crps(found.draws / unit, true).mean()),
    }


def _synthetic(name: str, seed: int, *, rows: int) -> Masked:
    data = synthetic(name, seed, rows=rows)
    return Masked(data.frame, data.complete)


def _uci(load: Loader, seed: int) -> Masked:
    return Masked(*self_masked(load()))
