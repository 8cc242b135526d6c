"""Figures 3 and 4 of the paper: generated rows, and imputations by one draw a row, over the true density."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.stats import gaussian_kde

from pyro_mnar.datasets.synthetic_tables import INCOMPLETE, NAMES, synthetic
from pyro_mnar.experiments.experiment import Task
from pyro_mnar.tables.whole_files import write_atomically

PICTURED_SEED = 0
PICTURES = ("PartialVAE", "NotMIWAE, fully connected", "GINA, general graph")  # as in the paper
TARGETS = ("given the mask", "not")
HEADINGS = {"given the mask": "given the mask", "not": "not given the mask"}
COLORS = 24  # of the palette that figures are written with, a quarter of their size in full colour
FOLDER = "samples"
POINTS = 500  # of 2,000: more hide the contours
GRID = 80

Samples = dict[str, NDArray]


def keep(task: Task, generated: pd.DataFrame, completed: dict[str, pd.DataFrame]) -> None:
    """Write what the figures show of a run; ``(rows, 2)`` each, in standard deviations."""
    path = _path(task.folder, task.data_name, task.system.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {"generated": generated, **completed}
    content = io.BytesIO()
    np.savez_compressed(content, **{name: frame.to_numpy(np.float32) for name, frame in arrays.items()})
    write_atomically(path, content.getvalue())


def draw(runs: pd.DataFrame, folder: Path, *, rows: int) -> None:
    """Draw the figures from the kept samples; data sets without any are left out.

    Args:
        runs: Not used: samples say more.
        folder: The experiment's.
        rows: N of the data sets.
    """
    found = {
        name: {system: _kept(path) for system in PICTURES if (path := _path(folder, name, system)).exists()}
        for name in NAMES
    }
    found = {name: samples for name, samples in found.items() if samples}
    if not found:
        return
    _draw_generated(found, folder / "figure3.png", rows)
    _draw_completed(found, folder / "figure4.png", rows)


def _draw_generated(found: dict[str, dict[str, Samples]], path: Path, rows: int) -> None:
    figure, axes = _grid(len(found), 1 + len(PICTURES))
    for axis, title in zip(axes[0], ("training set", *PICTURES), strict=True):
        axis.set_title(title, fontsize=8)
    for line, (name, samples) in zip(axes, found.items(), strict=True):
        data = synthetic(name, PICTURED_SEED, rows=rows)
        seen = data.frame.dropna()[list(INCOMPLETE)].to_numpy()
        panels = {"training set": seen, **{system: kept["generated"] for system, kept in samples.items()}}
        for axis, title in zip(line, ("training set", *PICTURES), strict=True):
            _panel(axis, _density(name, rows), panels.get(title))
        line[0].set_ylabel(name, rotation=0, fontsize=12)
    _save(figure, path)


def _draw_completed(found: dict[str, dict[str, Samples]], path: Path, rows: int) -> None:
    figure, axes = _grid(len(found), len(PICTURES) * len(TARGETS))
    panels = [(system, target) for system in PICTURES for target in TARGETS]
    for axis, (system, target) in zip(axes[0], panels, strict=True):
        axis.set_title(f"{system}\n{HEADINGS[target]}", fontsize=8)
    for line, (name, samples) in zip(axes, found.items(), strict=True):
        for axis, (system, target) in zip(line, panels, strict=True):
            _panel(axis, _density(name, rows), samples[system][target] if system in samples else None)
        line[0].set_ylabel(name, rotation=0, fontsize=12)
    _save(figure, path)


class _Density:
    """Kernel estimate of the true density of (X2, X3) on a grid."""

    def __init__(self, truth: Float[NDArray, "rows 2"]) -> None:
        low, high = truth.min(0) - 0.5, truth.max(0) + 0.5
        self.axes = [np.linspace(start, end, GRID) for start, end in zip(low, high, strict=True)]
        mesh = np.meshgrid(*self.axes)
        self.values = gaussian_kde(truth.T)(np.stack([m.ravel() for m in mesh])).reshape(GRID, GRID)


def _density(name: str, rows: int) -> _Density:
    data = synthetic(name, PICTURED_SEED, rows=rows)
    return _Density(data.test[list(INCOMPLETE)].to_numpy())


def _panel(axis: Any, density: _Density, points: Float[NDArray, "rows 2"] | None) -> None:
    levels = density.values.max() * np.array([0.05, 0.2, 0.4, 0.6, 0.8])
    axis.contour(*density.axes, density.values, levels=levels, colors="0.55", linewidths=0.8)
    if points is not None:
        axis.scatter(*points[:POINTS].T, s=2, linewidths=0, color="#0b5fa5")
    axis.set(xlim=density.axes[0][[0, -1]], ylim=density.axes[1][[0, -1]], xticks=[], yticks=[])


def _grid(lines: int, columns: int) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.75 * columns, 1.75 * lines + 0.4), layout="constrained")
    return figure, figure.subplots(lines, columns, squeeze=False)


def _save(figure: Any, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    figure.set_dpi(80)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    content = io.BytesIO()
    image.quantize(COLORS).save(content, format="PNG", optimize=True)
    write_atomically(path, content.getvalue())


def _kept(path: Path) -> Samples:
    with np.load(path) as arrays:
        return dict(arrays)


def _path(folder: Path, data_name: str, system: str) -> Path:
    return folder / FOLDER / f"{data_name}-{system.replace(',', '').replace(' ', '-')}.npz"
