"""Recovery of one self-masked column of each kind: errors of its mean, or of a level's share, in standard errors.

    python benchmarks/kinds.py --seeds 5

SelfMasking knows that Y decides but not which way; Ignorable takes the gaps for random.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
import torch

from pyro_mnar import Table, fit, impute
from pyro_mnar.datasets.one_kind import OF_KIND, OneKind, one_kind
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.models import Ignorable, SelfMasking


def error(data: OneKind, model_class: type, seed: int) -> float:
    """Largest error of what is estimated of Y, in standard errors of the complete data's."""
    table = Table.from_frame(data.frame, kinds={"y": data.kind}, auxiliary=[])
    model = model_class(table, latent_dim=1, seed=seed)
    guide = ZeroImpute(table, 1, seed=seed)
    options = {"num_particles": 20, "learning_rate": 0.02, "epochs": 150}
    fitted = fit(model, guide, table, seed=seed, progress=False, **options)
    imputations = impute(fitted, table, num_draws=1, num_particles=200, seed=seed)
    truth, found = data.complete["y"], imputations.mean()["y"]
    if data.kind.name == "categorical":
        truth, found = pd.get_dummies(truth, dtype=float), pd.get_dummies(found, dtype=float)
        shares = imputations.probabilities("y")
        found.loc[shares.index] = shares
    off = (found.astype(float).mean() - truth.mean()) / (truth.std() / np.sqrt(len(truth)))
    return float(np.ravel(off)[np.abs(np.ravel(off)).argmax()])


def main() -> None:
    """Print one line a kind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--kinds", nargs="*", choices=list(OF_KIND), default=list(OF_KIND))
    options = parser.parse_args()
    torch.set_num_threads(1)
    for kind in options.kinds:
        for model_class in (SelfMasking, Ignorable):
            errors = [error(one_kind(kind, seed), model_class, seed) for seed in range(options.seeds)]
            print(f"{kind:13} {model_class.__name__:12}", *(f"{e:7.2f}" for e in errors), flush=True)


if __name__ == "__main__":
    main()
