"""Draw docs/figures/consistency.png: error of estimated column means against the number of rows.

Law: u ~ N(0, 1), z = 0.6 u + 0.8 e, three columns x_d = l_d z + sqrt(1 - l_d²) e_d with l = (0.9, -0.8, 0.7), each
value observed with probability sigmoid(1 - 2 x_d).  True means are 0.  Rows have seeds 0 to 3, and parameters and
training the same ones.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from pyro_mnar import Table, fit, impute
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.models import Ignorable, SelfMasking

LOADINGS = np.array([0.9, -0.8, 0.7])
ROWS = (250, 1000, 4000, 16000)
SEEDS = range(4)
STEPS = 4000
MODELS = {
    "mechanism ignored (Ignorable)": (Ignorable, {}, "C1", "s"),
    "mechanism modelled (SelfMasking, sign declared)": (SelfMasking, {"sign": -1}, "C0", "o"),
}


def draw(rows: int, seed: int) -> pd.DataFrame:
    """Rows of the law, with holes."""
    rng = np.random.default_rng(seed)
    u = rng.normal(size=rows)
    z = 0.6 * u + 0.8 * rng.normal(size=rows)
    x = z[:, None] * LOADINGS + np.sqrt(1 - LOADINGS**2) * rng.normal(size=(rows, 3))
    x[rng.uniform(size=x.shape) > 1 / (1 + np.exp(2 * x - 1))] = np.nan
    return pd.DataFrame(x, columns=["a", "b", "c"]).assign(u=u)


def error(model_class: type, options: dict, rows: int, seed: int) -> float:
    """Root mean square over columns of the completed columns' means, whose true value is 0."""
    table = Table.from_frame(draw(rows, seed), auxiliary=["u"])
    model = model_class(table, latent_dim=1, seed=seed, **options)
    guide = ZeroImpute(table, 1, hidden=[32], seed=seed)
    epochs = max(1, STEPS * 128 // rows)
    fitted = fit(model, guide, table, epochs=epochs, num_particles=20, seed=seed, progress=False)
    completed = impute(fitted, table, num_draws=5, num_particles=100, seed=seed).mean()
    return float(np.sqrt((completed[["a", "b", "c"]].mean() ** 2).mean()))


def main() -> None:
    """Measure and draw."""
    figure, axes = plt.subplots(figsize=(6, 4))
    for name, (model_class, options, colour, marker) in MODELS.items():
        errors = np.array([[error(model_class, options, rows, seed) for seed in SEEDS] for rows in ROWS])
        print(name, errors.round(4).tolist(), flush=True)  # noqa: T201
        axes.plot(np.repeat(ROWS, len(SEEDS)), errors.ravel(), marker, color=colour, alpha=0.35, markersize=4)
        axes.plot(ROWS, errors.mean(1), marker=marker, color=colour, label=name)
    axes.plot(ROWS, 1 / np.sqrt(ROWS), "k:", label="1/√N, what complete rows would give")
    axes.set(xscale="log", yscale="log", xlabel="rows N", ylabel="error of column means (standard deviations)")
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=110)


if __name__ == "__main__":
    main()
