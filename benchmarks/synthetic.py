"""Recovery of the paper's synthetic data sets A, B and C (section 6.1) under PartialVAE, NotMIWAE and GINA.

    python benchmarks/synthetic.py --seeds 10 --out benchmarks/synthetic.csv

Each run: 2,000 rows, fit, then the energy distance between 2,000 generated and 2,000 fresh true (X_2, X_3), and the
RMSE of the posterior means of the missing values, both in standard deviations of the complete training columns.
Finished runs are read back from the file and not run again.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pyro_mnar import Table, fit, impute
from pyro_mnar.datasets.synthetic import INCOMPLETE, NAMES, Synthetic, synthetic
from pyro_mnar.generation import generate
from pyro_mnar.graph import MissingnessGraph
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.metrics import energy_distance
from pyro_mnar.models import GINA, NotMIWAE, PartialVAE

Model = Callable[[Table, MissingnessGraph, int], torch.nn.Module]
LATENT_DIM = 2  # one less than there are columns, so that the decoder can be injective (A5)
STARTS = 4
MODELS: dict[str, Model] = {
    "PartialVAE": lambda table, graph, seed: PartialVAE(table, latent_dim=LATENT_DIM, seed=seed),
    "NotMIWAE, fully connected": lambda table, graph, seed: NotMIWAE(
        table, latent_dim=LATENT_DIM, graph=MissingnessGraph.fully_connected(table), seed=seed
    ),
    "GINA, general": lambda table, graph, seed: GINA(
        table, latent_dim=LATENT_DIM, graph=MissingnessGraph.general(table), seed=seed
    ),
    "GINA, true graph": lambda table, graph, seed: GINA(
        table, latent_dim=LATENT_DIM, graph=without_signs(graph), seed=seed
    ),
}
SIGNED = "GINA, true graph and signs"  # on A; the slopes of B and C are random, and the signs not part of their graph
MODELS[SIGNED] = lambda table, graph, seed: GINA(table, latent_dim=LATENT_DIM, graph=graph, seed=seed)
BEST_OF = {f"GINA, true graph, best of {STARTS}": STARTS}  # by the bound, which knows nothing of the truth
MODELS |= dict.fromkeys(BEST_OF, MODELS["GINA, true graph"])


def run(data: Synthetic, build: Model, seed: int, restarts: int = 1) -> dict[str, float]:
    """Fit one model to one data set."""
    start = time.perf_counter()
    table = Table.from_frame(data.frame)
    model = build(table, data.graph, seed)
    guide = ZeroImpute(table, model.latent_dim, seed=seed)
    trained = fit(model, guide, table, seed=seed, restarts=restarts, progress=False)
    unit = data.complete[list(INCOMPLETE)].std(ddof=0)
    generated = generate(trained, table, seed=seed)[list(INCOMPLETE)]
    missing = data.frame.isna().to_numpy()
    errors = (
        impute(trained, table, num_draws=1, num_particles=200, seed=seed).mean().to_numpy() - data.complete.to_numpy()
    )
    return {
        "energy_distance": energy_distance(generated / unit, data.test[list(INCOMPLETE)] / unit),
        "rmse": float(np.sqrt(np.mean(errors[missing] ** 2))),
        "bound": float(trained.history["bound"].iloc[-20:].mean()),
        "seconds": time.perf_counter() - start,
    }


def without_signs(graph: MissingnessGraph) -> MissingnessGraph:
    """The true graph's edges alone: which way the values push is for the fit to find out."""
    return MissingnessGraph([(edge.parent, edge.child) for edge in graph.edges])


def main() -> None:
    """Run what the file does not hold yet, then print mean and standard error over seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--data", nargs="*", choices=NAMES, default=NAMES)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/synthetic.csv"))
    options = parser.parse_args()
    torch.set_num_threads(1)  # networks this small: a second thread waits longer than it computes
    warnings.simplefilter("ignore", FutureWarning)
    done = pd.read_csv(options.out) if options.out.exists() else pd.DataFrame(columns=["data", "model", "seed"])
    finished = set(zip(done["data"], done["model"], done["seed"], strict=True))
    rows = done.to_dict("records")
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for name in options.data:
            data = synthetic(name, seed)
            for model, build in MODELS.items():
                if model == SIGNED and not any(edge.sign for edge in data.graph.edges):
                    continue
                if (name, model, seed) not in finished:
                    rows.append(
                        {"data": name, "model": model, "seed": seed, **run(data, build, seed, BEST_OF.get(model, 1))}
                    )
                    pd.DataFrame(rows).to_csv(options.out, index=False)
    report(pd.DataFrame(rows))


def report(runs: pd.DataFrame) -> None:
    """Print mean, standard error and worst over seeds, and every model's paired difference to the first one."""
    table = runs.groupby(["data", "model"])[["energy_distance", "rmse", "bound", "seconds"]]
    print(table.agg(["mean", "sem", "max"]).round(3).to_string())
    first, *others = MODELS
    for metric in ("energy_distance", "rmse"):
        wide = runs.pivot(index=["data", "seed"], columns="model", values=metric)
        less = wide[[name for name in others if name in wide]].sub(wide[first], axis=0)
        print(f"\n{metric}, less that of {first}, over the same seeds")
        print(less.groupby("data").agg(["mean", "sem"]).round(3).T.unstack().to_string())


if __name__ == "__main__":
    main()
