"""Makes the pictures of docs/gallery.md: ``.venv/bin/python docs/figures/gallery.py`` (about a minute on one core).

`make docs` draws them too, with ``SMOKE=1``, from few rows and hardly trained, so that none stops working unnoticed.

A survey of 600 people: whether someone answers depends on the answer (income, above all when it is high; health), two
questions of one page are skipped together, and the truth is known.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pyro_mnar import MissingnessGraph, Table, check_identifiability, diagnose, fit, impute, plots, sensitivity
from pyro_mnar import tipping_point as tip
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.imputation.generation import generate
from pyro_mnar.models import GINA, PartialVAE

FOLDER = Path(__file__).parent / "gallery"
DPI, COLOURS = 80, 48
SMOKE = "SMOKE" in os.environ
ROWS, RESTARTS, REPEATS, REPLICATES = (100, 1, 0, 5) if SMOKE else (600, 3, 20, 40)
QUICK = {"progress": False, "epochs": 2 if SMOKE else 80, "num_particles": 10}


def survey(rows: int = ROWS) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The table with gaps, and the truth."""
    random = np.random.default_rng(0)
    age = random.normal(45, 12, rows)
    income = np.exp(7.2 + 0.012 * (age - 45) + 0.35 * random.normal(size=rows))
    score = -0.03 * (age - 45) + 0.8 * (np.log(income) - 7.2) + random.logistic(size=rows)
    health = pd.cut(score, [-np.inf, -2, -0.5, 0.8, np.inf], labels=["poor", "fair", "good", "excellent"])
    rent = 300 + 0.22 * income + 90 * random.normal(size=rows)
    savings = 2000 + 1.4 * income + 900 * random.normal(size=rows)
    truth = pd.DataFrame({"age": age, "income": income, "health": health, "rent": rent, "savings": savings})
    seen = truth.copy()
    chance = random.uniform(size=(rows, 3))
    seen.loc[chance[:, 0] < 1 / (1 + np.exp(-(income - 1700) / 250)), "income"] = np.nan
    seen.loc[chance[:, 1] < np.where(truth["health"] == "poor", 0.5, 0.1), "health"] = np.nan
    seen.loc[chance[:, 2] < 0.15, ["rent", "savings"]] = np.nan
    return seen, truth


def pictures() -> dict[str, Any]:
    """The Axes of each picture, by its file's name."""
    seen, truth = survey()
    table = Table.from_frame(seen, auxiliary=["age"])
    edges = [("income", "R[income]", {"sign": "high"}), ("age", "R[health]"), ("health", "R[health]"), ("Z", "R[rent]")]
    graph = MissingnessGraph(edges, table)
    model = GINA(table, latent_dim=2, graph=graph, seed=0)
    result = fit(
        model, ZeroImpute(table, 2, seed=0), table, held_out=0.1, restarts=RESTARTS, bootstrap=REPEATS, **QUICK
    )
    imputations = impute(result, table, seed=0)
    plain = PartialVAE(table, latent_dim=2, seed=0)
    plain_fit = fit(plain, ZeroImpute(table, 2, seed=0), table, **QUICK)
    ignorable = impute(plain_fit, table, seed=0)
    diagnosis = diagnose(result, imputations, ignorable=plain_fit, replicates=REPLICATES)
    report = check_identifiability(result, table, epochs=2 if SMOKE else 20, profile=not SMOKE)
    deltas = [{}, {"income": -0.5}, {"income": 0.5}]
    found = sensitivity("np.log(income) ~ age", {"GINA": imputations, "cause ignored": ignorable}, deltas=deltas)
    tipping = tip("np.log(income) ~ age", imputations, "income", between=(0, -3), coefficient="age")
    random = np.random.default_rng(1)
    questions = [f"question {number}" for number in range(1, 31)]
    wide = pd.DataFrame(random.normal(size=(300, 30)), columns=questions)
    wide = wide.mask(random.uniform(size=wide.shape) < np.linspace(0, 0.02, 30))
    wide.iloc[:60, 20:25] = np.nan
    return {
        "missingness_pattern": plots.missingness_pattern(table),
        "missingness_pattern_wide": plots.missingness_pattern(Table.from_frame(wide, auxiliary=[])),
        "co_missingness": plots.co_missingness(table),
        "graph": graph.plot(),
        "graph_wide": MissingnessGraph.self_masking(Table.from_frame(wide, auxiliary=[])).plot(),
        "bound_curve": plots.bound_curve(result),
        "response_curve": plots.response_curve(result, table, "income"),
        "imputed_against_observed": plots.imputed_against_observed(imputations, "income"),
        "imputed_levels": plots.imputed_against_observed(imputations, "health"),
        "imputed_against_ignorable": plots.imputed_against_ignorable(imputations, ignorable, "income"),
        "draws_strip": plots.draws_strip(imputations, "income"),
        "draws_trace": plots.draws_trace(imputations, "income"),
        "intervals_against_truth": plots.intervals_against_truth(imputations, truth, "income"),
        "pareto_k": plots.pareto_k(diagnosis),
        "predictive_checks": plots.predictive_checks(diagnosis),
        "twin_means": plots.twin_means(report.twins),
        "forest": plots.forest(found, "age"),
        "tipping_point": tipping.plot(),
        "contours": plots.contours(generate(result, table), truth, ("income", "rent")),
    }  # fmt: skip


def save(axes: Any, path: Path) -> None:
    """A PNG of few colours, so that the repository stays small."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    axes.figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(axes.figure)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    image.quantize(COLOURS).save(path, optimize=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.getLogger("pyro_mnar").setLevel(logging.ERROR)
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, axes in pictures().items():
        save(axes, folder / f"{name}.png")
