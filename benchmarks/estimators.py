"""Signal-to-noise ratio of the guide's gradient: pathwise against doubly reparameterised, at K = 5, 50, 500.

    OMP_NUM_THREADS=1 python benchmarks/estimators.py --draws 400

GINA on 100 rows x 3 columns (the problem of steps.py), after a short training at K = 5.  Of each parameter's gradient
over independent draws of the noise, the ratio is |mean| / standard deviation; the table gives the median over the
parameters of the guide, and of the model, with the standard error of that median over five groups of draws.
Rainforth et al. (2018) show that the pathwise guide's falls with the root of K; Tucker et al. (2018) that theirs rises.
"""

from __future__ import annotations

import argparse
import copy

import pandas as pd
import pyro
import torch
from problem import Problem
from torch import Tensor

from pyro_mnar import ImportanceWeightedELBO, fit
from pyro_mnar.capture.tracing import flat

GROUPS = 5


def gradients(objective: ImportanceWeightedELBO, model: torch.nn.Module, guide: torch.nn.Module, problem: Problem,
              draws: int) -> dict[str, Tensor]:  # fmt: skip
    """Gradients of independent draws; ``(draws, parameters)`` of the model and of the guide."""
    batch, parts = problem.table.batch(), {"model": [*model.parameters()], "guide": [*guide.parameters()]}
    collected: dict[str, list[Tensor]] = {name: [] for name in parts}
    for _ in range(draws):
        loss = objective.differentiable_loss(model, guide, batch)
        both = torch.autograd.grad(loss, [p for part in parts.values() for p in part])
        collected["model"].append(flat(both[: len(parts["model"])]))
        collected["guide"].append(flat(both[len(parts["model"]) :]))
    return {name: torch.stack(values) for name, values in collected.items()}


def ratio(values: Tensor) -> float:
    """Median over parameters of |mean| / standard deviation."""
    return (values.mean(0).abs() / values.std(0)).median().item()


def table_of(draws: int, particles: list[int], epochs: int) -> pd.DataFrame:
    problem = Problem.of()
    model, guide = problem.pair()
    fit(model, guide, problem.table, epochs=epochs, batch_size=100, progress=False)
    rows = []
    for count in particles:
        for estimator in ("pathwise", "doubly-reparameterized"):
            torch.manual_seed(0)
            with pyro.get_param_store().scope():
                objective = ImportanceWeightedELBO(count, estimator)
                sampled = gradients(objective, *copy.deepcopy((model, guide)), problem, draws)
            for part, values in sampled.items():
                groups = torch.tensor([ratio(group) for group in values.chunk(GROUPS)])
                error = (groups.std() / GROUPS**0.5).item()
                rows.append({"K": count, "gradient of": part, "estimator": estimator, "ratio": ratio(values),
                             "error": error})  # fmt: skip
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--particles", type=int, nargs="+", default=[5, 50, 500])
    parser.add_argument("--epochs", type=int, default=300)
    options = parser.parse_args()
    torch.set_num_threads(1)
    measured = table_of(options.draws, options.particles, options.epochs)
    wide = measured.pivot_table(index=["gradient of", "estimator"], columns="K", values=["ratio", "error"])
    print(wide.round(4).to_string())


if __name__ == "__main__":
    main()
