"""Imputation of UCI tables whose high values are missing: the table of the not-MIWAE paper (Ipsen et al. 2021).

No system is told which values are missing but those whose name says so.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd

from pyro_mnar import baselines
from pyro_mnar.baselines.imputers.low_rank import choose_penalty, fit_low_rank
from pyro_mnar.datasets.uci import Loader, rmse, self_masked, uci_tables
from pyro_mnar.experiments.experiment import Experiment, Task
from pyro_mnar.experiments.report import Published
from pyro_mnar.tables.table import Table

SOURCE = "Ipsen, Mattei & Frellsen (2021), table 1"
TABLES = ("banknote", "concrete", "red wine", "white wine", "yeast", "breast cancer")
RMSE: dict[str, tuple[float | None, ...]] = {
    "mean": (1.73, 1.85, 1.83, 1.74, 1.69, 1.82),
    "MICE, scikit-learn 0.21": (None, None, None, None, None, 1.17),
    "low-rank joint model, without offset": (0.79, 1.57, 1.42, 1.39, 1.19, 1.22),
    "MIWAE": (1.19, 1.66, 1.62, 1.55, 1.72, 1.20),
    "not-MIWAE, self-masking": (1.88, 1.26, 1.08, 1.04, 1.48, 0.74),
    "not-MIWAE, known sign": (0.74, 1.12, 1.07, 1.04, 1.38, 0.76),
    "not-MIWAE PPCA": (0.57, 1.31, 1.13, 0.99, 0.78, 0.72),
    "not-MIWAE PPCA, known sign": (0.57, 1.31, 1.13, 0.99, 0.77, 0.72),
}
QUICK = {"epochs": 20}
QUICK_ROUNDS = {"rounds": 60, "burn_in": 55}


def uci(*, folder: str | PathLike[str] | None = None, quick: bool = False) -> Experiment:
    """The experiment.

    Args:
        folder: Where the user's UCI tables are; breast cancer needs none.
            See :func:`~pyro_mnar.datasets.uci.uci_tables`.
        quick: Train briefly: it shows that all runs, and nothing else.

    Raises:
        FileNotFoundError: If there is no such folder.
    """
    options: dict[str, Any] = QUICK if quick else {}
    rounds: dict[str, Any] = QUICK_ROUNDS if quick else {}
    brief: dict[str, Any] = {"epochs": 1} if quick else {}
    return Experiment(
        name="uci",
        title="Values above the mean missing in the first half of the columns, restored.",
        systems=(
            baselines.mean(),
            baselines.mice(),
            MiceAsPublished(),
            baselines.LowRankJoint(),
            LowRankAsPublished(),
            baselines.pvae(**options),
            baselines.miwae(**options),
            baselines.not_miwae_self_masking(**options),
            baselines.not_miwae_known_sign(-1, **options),
            baselines.not_miwae_ppca(**options),
            baselines.not_miwae_ppca_known_sign(-1, **options),
            baselines.gina(**options),
            baselines.gina_self_masking(**options),
            baselines.self_masking(**options),
            baselines.normal_mixtures_known_sign(-1, **rounds),
            baselines.normal_mixtures_common_sign(**rounds),
            baselines.normal_mixture_model(-1, start=rounds, **brief),
            baselines.normal_mixture_model(start=rounds, **brief),
            baselines.normal_mixture_models(-1, start=rounds, **brief),
        ),
        data={name: _made_by(load) for name, load in uci_tables(folder).items()},
        run=run,
        metrics={
            "rmse": "root mean squared error of the missing values, in standard deviations of the complete column"
        },
        published=[
            Published(system, data, "rmse", value, SOURCE)
            for system, values in RMSE.items()
            for data, value in zip(TABLES, values, strict=True)
            if value is not None
        ],
    )


def run(task: Task) -> dict[str, float]:
    """Complete the table and compare with the truth."""
    table = Table.from_frame(task.data.observed)
    return {"rmse": rmse(task.system.complete(table, seed=task.seed), task.data)}


@dataclass(frozen=True)
class MiceAsPublished:
    """MICE as scikit-learn had it when the figures were published: on the columns in the units that they come in, those
    with most gaps first.

    Up to version 0.21 ``imputation_order="ascending"``, the default, was the reverse of what it says
    (scikit-learn/scikit-learn#15372).

    Attributes:
        name: What tables and figures call it.
    """

    name: str = "MICE, scikit-learn 0.21"

    def complete(self, table: Table, *, seed: int) -> pd.DataFrame:
        """Fill the gaps by ten rounds of chained ridges."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.experimental import enable_iterative_imputer  # noqa: F401  (registers the class)
        from sklearn.impute import IterativeImputer

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # ten rounds are the protocol's
            imputer = IterativeImputer(imputation_order="descending", random_state=seed)
            completed = imputer.fit_transform(table.frame)
        return pd.DataFrame(completed, index=table.frame.index, columns=table.frame.columns)


@dataclass(frozen=True)
class LowRankAsPublished:
    """The low-rank joint model as its authors' code and the published row have it.

    No offset, columns in the units that they come in, and the penalty with least error on a twentieth of the entries of
    data and mask together (Ipsen et al., appendix A.1).

    This protocol's columns have their *complete* mean at zero, and there is the border between seen and missing, so the
    method is told where both lie; on a table of unknown mean use :class:`~pyro_mnar.baselines.LowRankJoint`.

    Attributes:
        name: What tables and figures call it.
    """

    name: str = "low-rank joint model, without offset"

    def complete(self, table: Table, *, seed: int) -> pd.DataFrame:
        """Fill the gaps by M."""
        mask = table.frame.notna().to_numpy()
        x = table.frame.fillna(0.0).to_numpy(dtype=np.float64)
        entries = np.concatenate([mask, np.broadcast_to(~mask.all(axis=0), mask.shape)], axis=1)
        held_out = entries & (np.random.default_rng(seed).random(entries.shape) < 0.05)
        penalty = choose_penalty(x, mask, scored=entries & ~held_out, held_out=held_out, has_offset=False)
        fitted = fit_low_rank(x, mask, penalty, scored=entries, has_offset=False)
        return table.frame.where(mask, fitted.interaction[:, : x.shape[1]])


def _made_by(load: Loader) -> Any:
    return lambda seed: self_masked(load())
