"""What the fitted mechanism says: how likely a value is to be observed, over the value."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import numpy as np
import pyro.poutine as poutine
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from pyro_mnar.figures import axes_or_new
from pyro_mnar.infer.session import Session
from pyro_mnar.infer.sites import column_distribution, columns_of, mechanism_weight, sample_sites
from pyro_mnar.messages import check_is, is_one_of, shown
from pyro_mnar.plots.axes import IMPUTED, SEEN
from pyro_mnar.tables.positions import spread_evenly
from pyro_mnar.tables.table import Table
from pyro_mnar.training import Fit
from pyro_mnar.training.fitted import check_fit

POINTS, MOST_ROWS = 61, 400
BEYOND = 0.35  # of the observed range, to each side: where the curve is the model's word alone


def response_curve(fit: Fit, table: Table, column: Hashable, *, seed: int = 0, ax: Any = None) -> Any:
    """P(observed) of a column over its value, with the range shaded in which it was ever observed.

    Every row is given each of the values in turn, with its latent from the guide and its other gaps from the model; the
    curve is the mean over rows, exact where the column's own value alone matters.  Fits to bootstrap weights are thin
    lines.  Outside the shade no value was seen, and the curve is the model's form.

    Args:
        fit: Whose model has a mechanism.
        table: Rows in its units.
        column: A column with gaps.
        seed: Same seed, same curve.
        ax: Axes to draw on; by default a figure of its own.

    Raises:
        ValueError: If the column does not go missing, or the model says nothing of why.
    """
    check_fit(fit)
    check_is("table", table, Table)
    schema = table.schema
    if not is_one_of(column, schema.names) or not schema.columns[schema.names.index(column)].incomplete:
        gaps = [c.name for c in schema.columns if c.incomplete]
        raise ValueError(f"column {shown(column)}: expected one that goes missing, of {gaps!r}")
    at = schema.names.index(column)
    its = schema.columns[at]
    seen = table.x[table.mask[:, at], at].double().numpy()
    low, high = float(seen.min()), float(seen.max())
    if its.kind.has_levels:
        values = its.points
    else:
        width = (high - low) or 1.0
        values = np.linspace(low - BEYOND * width, high + BEYOND * width, POINTS)
        units = its.decode(values)
        values = values[np.concatenate([[True], np.diff(units) > 0])]  # where the kind has an end, or whole numbers
    ax = axes_or_new(ax, (5.0, 3.2))
    for one in fit.bootstrap:
        _draw(ax, its, values, _chances(one, table, at, values, seed), linewidth=0.6, alpha=0.5)
    _draw(ax, its, values, _chances(fit, table, at, values, seed), linewidth=2.0, label="fitted")
    if not its.kind.has_levels:
        ends = its.decode(np.array([low, high]))
        ax.axvspan(*ends, color=SEEN, alpha=0.15, linewidth=0, label="where values were seen")
    ax.set(ylim=(-0.03, 1.03), xlabel=str(column), ylabel="probability to be observed")
    ax.set_title(f"{column}: who answers")
    ax.legend(frameon=False)
    return ax


def _draw(ax: Any, column: Any, values: NDArray[Any], chances: NDArray[Any], **style: Any) -> None:
    if column.kind.has_levels:
        ax.plot(range(len(values)), chances, color=IMPUTED, marker="o", **style)
        ax.set_xticks(range(len(values)), [str(level) for level in column.kind.levels])
    else:
        ax.plot(column.decode(values), chances, color=IMPUTED, **style)


def _chances(
    fit: Fit, table: Table, at: int, values: Float[NDArray, " values"], seed: int
) -> Float[NDArray, " values"]:
    """Mean over rows of P(R_d = 1) where x_d has each of the values."""
    rows = spread_evenly(len(table), MOST_ROWS)
    batch = table.source().take(torch.from_numpy(rows)).to(fit.device).without_bounds()
    found = []
    with Session(seed, fit.device, fit.store).running(), torch.no_grad():
        guided = poutine.trace(fit.guide).get_trace(batch)
        for value in values.tolist():
            x, mask = batch.x.clone(), batch.mask.clone()
            x[:, at], mask[:, at] = value, True
            given = replace(batch, x=x, mask=mask, entries=None)
            trace = poutine.trace(poutine.replay(fit.model, trace=guided)).get_trace(given)
            found.append(_chance(trace, at))
    return np.array(found)


def _chance(trace: Any, at: int) -> float:
    for site in sample_sites(trace).values():
        if mechanism_weight(site) and at in columns_of(site):
            logits = column_distribution(site["fn"]).logits
            return float(logits[..., list(columns_of(site)).index(at)].sigmoid().mean())
    raise ValueError("the model has no site made by observe_mask for this column, so it does not say why it is missing")
