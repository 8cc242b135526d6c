"""The main job on real data: scikit-learn's breast-cancer table under the not-MIWAE paper's protocol.

569 rows × 30 columns; in the first half of the columns every value above the column's mean goes missing (Ipsen et al.
2021, section 5).  RMSE is over the missing entries, in standard deviations of the complete column; the fits see the
observed values only, and are not told that it is the high ones that are missing.
"""

from __future__ import annotations

import io
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from pyro_mnar.datasets.uci import breast_cancer, rmse, self_masked
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.imputation import Imputations, impute
from pyro_mnar.models import GINA, NotMIWAE, PartialVAE
from pyro_mnar.tables.table import Table
from pyro_mnar.tables.whole_files import write_atomically
from pyro_mnar.training.fitted import Fit
from pyro_mnar.training.svi import fit


class Score(NamedTuple):
    """A line of the comparison: RMSE in standard deviations of the complete column, and seconds to fit and impute."""

    method: str
    rmse: float
    seconds: float


def run(
    out: Path,
    seed: int = 0,
    *,
    epochs: int | None = None,
    particles: int = 20,
    per_draw: int = 100,
    progress: bool = True,
) -> list[Score]:
    """Compare on the breast-cancer table: print a table, write a figure and GINA's completed tables to ``out``.

    Args:
        out: The folder.
        seed: Of all methods.
        epochs: Of each fit; by default those of :func:`~pyro_mnar.fit`.
        particles: K, of each fit.
        per_draw: Particles of each draw.
        progress: Show a bar.
    """
    masked = self_masked(breast_cancer())
    observed, truth = masked
    table = Table.from_frame(observed)
    missing = observed.isna().to_numpy()
    print(f"{len(truth)} rows, {truth.shape[1]} columns; {missing.sum()} values missing, all above their column's mean")
    print(f"seed {seed}; RMSE over the missing values, in standard deviations\n")
    print(f"{'method':<28}{'RMSE':>8}{'seconds':>10}")

    scores: list[Score] = []

    def report(method: str, imputer: Callable[[], pd.DataFrame]) -> None:
        start = time.perf_counter()
        completed = imputer()
        scores.append(Score(method, rmse(completed, masked), time.perf_counter() - start))
        print(f"{method:<28}{scores[-1].rmse:>8.3f}{scores[-1].seconds:>10.1f}", flush=True)

    report("column mean", lambda: observed.fillna(observed.mean()))
    report("IterativeImputer (MICE)", lambda: iterative_imputer(observed, seed))
    imputations: Imputations | None = None
    trained: Fit | None = None
    for method in (PartialVAE, NotMIWAE, GINA):

        def complete(method: type = method) -> pd.DataFrame:
            nonlocal imputations, trained
            model = method(table, seed=seed)
            guide = ZeroImpute(table, model.latent_dim, seed=seed)
            trained = fit(model, guide, table, epochs=epochs, num_particles=particles, seed=seed, progress=progress)
            if trained.interrupted:
                raise KeyboardInterrupt("interrupted; nothing was written")
            imputations = impute(trained, table, num_draws=20, num_particles=per_draw, seed=seed)
            return imputations.mean()

        report(method.__name__, complete)

    assert imputations is not None and trained is not None
    out.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(imputations.frames(), start=1):
        _write(out / f"draw_{number:02}.csv", frame)
    _write(out / "mean.csv", imputations.mean())
    plot(out / "demo.png", imputations, trained, truth)
    _write(out / "gaps.csv", observed)
    print(
        f"\n{out}: GINA's {imputations.num_draws} completed tables, their mean, the table with gaps, and the figure"
        " demo.png"
    )
    print(f"""
next, the same table in single steps:
  pyro-mnar describe {out / "gaps.csv"}
  pyro-mnar fit {out / "gaps.csv"} --out {out / "gaps.fit"}
  pyro-mnar check {out / "gaps.csv"} --fit {out / "gaps.fit"} --no-twins
  pyro-mnar report {out / "gaps.csv"} --fit {out / "gaps.fit"} --no-checks --out {out / "report.html"}
and your own: pyro-mnar describe YOUR.csv, or notebooks/quickstart.ipynb""")
    return scores


def _write(path: Path, frame: pd.DataFrame) -> None:
    write_atomically(path, frame.to_csv(index=False).encode())


def plot(path: Path, imputations: Imputations, trained: Fit, truth: pd.DataFrame) -> None:
    """Imputed against true values, and the bound by epoch."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    scatter, curve = figure.subplots(1, 2)
    rows, columns = imputations.cells
    true = truth.to_numpy()[rows, columns]
    limits = [true.min(), true.max()]
    scatter.plot(limits, limits, color="0.6", linewidth=1, zorder=0)
    scatter.scatter(true, imputations.means, s=3, alpha=0.3, linewidths=0)
    scatter.set(xlabel="true value", ylabel="posterior mean (GINA)", title="missing values, in standard deviations")
    history = trained.history
    curve.plot(history["epoch"], history["bound"])
    curve.set(xlabel="epoch", ylabel="nats per row", title="importance-weighted bound")
    low, high = history["bound"].quantile([0.05, 1.0])  # the first epochs would hide the others
    if low < high:
        curve.set_ylim(low, high + 0.05 * (high - low))
    content = io.BytesIO()
    figure.savefig(content, dpi=120, format="png")
    write_atomically(path, content.getvalue())


def iterative_imputer(observed: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Ten rounds of chained ridge regressions (MICE), which take the missingness for ignorable."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401  (registers the class)
    from sklearn.impute import IterativeImputer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # max_iter=10 is the protocol's
        completed = IterativeImputer(max_iter=10, random_state=seed).fit_transform(observed)
    return pd.DataFrame(completed, index=observed.index, columns=observed.columns)
