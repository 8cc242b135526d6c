"""Deltas: imputations moved away from what the model says, by so much as the user names.

What was not seen may differ from what the fit makes of it.  Of a number with observed standard deviation s, on the
scale on which the column is modelled (logarithm of amounts above zero, logit of bounded ones),

    x → x + δ s,        or in the column's units x → x + δ,        or x → δ x

and the probabilities p of levels, given all that the fit knows of the cell, are tilted:

    log q_l / q_1 = log p_l / p_1 + δ        levels without an order, against the first one
    logit Q(x ≥ l) = logit P(x ≥ l) + δ      levels in their order

A draw of a level moves by a coupling of p and q: of levels in their order upwards or downwards alone, of others no more
often than must be.  A larger delta moves the same draws and more.  Other cells of a row stay as they are.  Of draws
from several fits p is the average over the fits.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy.typing import NDArray

from pyro_mnar.kinds.reading import row_label
from pyro_mnar.messages import check_one_of, is_one_of, real_array, shown
from pyro_mnar.tables.columns import Column
from pyro_mnar.tables.table import Table

SCALES = ("sd", "outcome", "factor")

# A number; one a row, as a Series or a sequence; or a function of the frame to any of these.
ByRow: TypeAlias = "float | pd.Series | list | NDArray | Callable[[pd.DataFrame], Any]"
Delta: TypeAlias = "ByRow | Mapping[Any, ByRow]"  # the last, of levels without an order
Deltas: TypeAlias = "Mapping[Hashable, Delta]"
DeltaScale: TypeAlias = "str | Mapping[Hashable, str]"


class Moved(NamedTuple):
    """What imputations become; as the attributes of :class:`~pyro_mnar.Imputations`.

    Attributes:
        draws: ``(draws, cells)``.
        means: ``(cells,)``.
        shares: Of each column of levels, by position.
    """

    draws: Float[NDArray, "draws cells"]
    means: Float[NDArray, " cells"]
    shares: dict[int, Float[NDArray, "_ _"]]


def moved(
    table: Table, cells: Int[NDArray, "2 cells"], imputed: Moved, deltas: Deltas, scale: DeltaScale, seed: int
) -> Moved:
    """Move the draws and means of some columns.

    Args:
        table: The table that was imputed.
        cells: Row and column position of each imputed cell.
        imputed: Draws, means and shares as they are.
        deltas: By column: numbers, or one a row; of levels without an order also by level.
        scale: What a number means, for all columns of numbers or by column.
        seed: Of the numbers in [0, 1) that decide which draws of levels and whole numbers move.

    Raises:
        ValueError: If a column, a level or a scale is unknown, a delta of a gap is not finite, or a moved value is none
            that the column can take, or outside of its bounds.
    """
    scales = scales_of(table, deltas, scale)
    draws, means, shares = imputed.draws.copy(), imputed.means.copy(), dict(imputed.shares)
    for name, given in deltas.items():
        at = table.schema.names.index(name)
        here, column = cells[1] == at, table.schema.columns[at]
        rows = cells[0][here]
        chance = np.random.default_rng([seed, at]).random((len(draws), len(rows)))
        if column.kind.has_levels:
            log_odds = _log_odds(column, given, table.frame, rows)
            tilted = _tilted(shares[at], log_odds, ordered=column.kind.has_order)
            draws[:, here] = _transported(column, draws[:, here], shares[at], tilted, chance)
            still = (log_odds == 0).all(1)
            shares[at] = np.where(still[:, None], shares[at], tilted)
            means[here] = np.where(still, means[here], _mean_of_levels(column, shares[at]))
        else:
            delta = _by_row(given, table.frame, rows, name)
            before = draws[:, here]
            draws[:, here] = after = _shifted(table, at, before, delta, scales[name], chance)
            _check_values(table, at, rows, before, after, delta)
            means[here] = _shifted_mean(column, means[here], delta, scales[name], before, after)
    return Moved(draws, means, shares)


def check_deltas(deltas: Any) -> None:
    """TypeError unless deltas are given by column."""
    if not isinstance(deltas, Mapping):
        raise TypeError(f"delta: expected a mapping from columns to deltas, got {type(deltas).__name__}")


def scales_of(table: Table, deltas: Deltas, scale: DeltaScale) -> dict[Hashable, str]:
    """What a number means, for every column that is moved.

    Raises:
        ValueError: If a column or a scale is unknown, or the column has no such scale.
        TypeError: If the deltas are not given by column.
    """
    check_deltas(deltas)
    names, by_column = table.schema.names, scale if isinstance(scale, Mapping) else dict.fromkeys(deltas, scale)
    for name in (*deltas, *by_column):
        if not is_one_of(name, names):
            raise ValueError(f"delta of column {name!r}: expected one of the modelled columns {names!r}")
        if isinstance(scale, Mapping) and name in scale and table.schema.columns[names.index(name)].kind.has_levels:
            raise ValueError(
                f"delta_scale of column {name!r}: expected none, for deltas of levels are log-odds, got {scale[name]!r}"
            )
        kind = table.schema.columns[names.index(name)].kind
        check_one_of("delta_scale", by_column.get(name, "sd"), SCALES)
        if by_column.get(name) == "factor" and kind.name == "datetime":
            raise ValueError(
                f"delta of column {name!r}: expected days to add to dates, which have no zero, got factors"
            )
    return {name: by_column.get(name, "sd") for name in deltas}


def _by_row(given: Any, frame: pd.DataFrame, rows: Int[NDArray, " cells"], name: Hashable) -> Float[NDArray, " cells"]:
    """The delta of each cell."""
    what = f"delta of column {name!r}"
    made: Any = given(frame) if callable(given) else given
    if isinstance(made, pd.Series):
        if not made.index.equals(frame.index):
            if not made.index.is_unique or not frame.index.is_unique:
                raise ValueError(f"{what}: expected the frame's own index, got another, with labels that repeat")
            made = made.reindex(frame.index)
        made = made.to_numpy(dtype=np.float64, na_value=np.nan)
    try:
        numbers = real_array(what, made)
    except TypeError:
        raise ValueError(f"{what}: expected a number, or one a row, got {type(made).__name__}") from None
    if numbers.shape not in ((), (len(frame),)):
        raise ValueError(f"{what}: expected a number or {len(frame)} of them, one a row, got shape {numbers.shape}")
    of_cells = np.broadcast_to(numbers, len(frame))[rows]
    if not np.isfinite(of_cells).all():
        at = int((~np.isfinite(of_cells)).argmax())
        raise ValueError(
            f"{what}: expected a finite number for every gap, got {of_cells[at]} in row {_row(frame, rows, at)!r}"
        )
    return of_cells


def _log_odds(
    column: Column, given: Any, frame: pd.DataFrame, rows: Int[NDArray, " cells"]
) -> Float[NDArray, "cells levels"]:
    """What is added to the log-odds of each level; of ordered ones, in every level but the first the same."""
    levels = list(column.kind.levels)
    log_odds = np.zeros((len(rows), len(levels)))
    if not isinstance(given, Mapping):
        log_odds[:, 1:] = _by_row(given, frame, rows, column.name)[:, None]
        return log_odds
    if column.kind.has_order:
        raise ValueError(
            f"delta of column {column.name!r}: expected a number, for its levels have an order, got numbers by level"
        )
    for level, of_level in given.items():
        if not is_one_of(level, levels):
            raise ValueError(f"delta of column {column.name!r}: expected levels among {levels!r}, got {shown(level)}")
        log_odds[:, levels.index(level)] = _by_row(of_level, frame, rows, column.name)
    return log_odds


def _tilted(
    shares: Float[NDArray, "cells levels"], log_odds: Float[NDArray, "cells levels"], *, ordered: bool
) -> Float[NDArray, "cells levels"]:
    """Probabilities of levels after the tilt; those that were zero stay so."""
    if not ordered:
        logits = np.log(shares, where=shares > 0, out=np.full_like(shares, -np.inf)) + log_odds
        weights = np.exp(logits - logits.max(1, keepdims=True))
        return weights / weights.sum(1, keepdims=True)
    above = np.clip(shares[:, ::-1].cumsum(1)[:, ::-1], 0.0, 1.0)[:, 1:]  # P(x ≥ l), of all levels but the first
    below = np.clip(shares.cumsum(1)[:, :-1], 0.0, 1.0)  # not 1 - above, which loses small probabilities
    raised = np.exp(log_odds[:, 1:] / 2)
    above, below = above * raised, below / raised
    above = above / (above + below)
    ends = np.concatenate([np.ones((len(shares), 1)), above, np.zeros((len(shares), 1))], axis=1)
    return np.maximum(-np.diff(ends, axis=1), 0.0)


def _transported(
    column: Column,
    draws: Float[NDArray, "draws cells"],
    before: Float[NDArray, "cells levels"],
    after: Float[NDArray, "cells levels"],
    chance: Float[NDArray, "draws cells"],
) -> Float[NDArray, "draws cells"]:
    """Draws of one law as draws of another."""
    points = column.kind.points
    codes = np.searchsorted((points[1:] + points[:-1]) / 2, draws)
    cells = np.arange(draws.shape[1])
    if column.kind.has_order:
        # The same place of the distribution function: uniform within the level's own step.
        reached = before.cumsum(1)
        new = _at(after, (reached[cells, codes] - chance * before[cells, codes]) / reached[:, -1])
    else:
        # Stay as often as both laws have the level in common, else go where the new law has more.
        stay = np.minimum(after[cells, codes] / np.maximum(before[cells, codes], np.finfo(float).tiny), 1.0)
        gained = np.maximum(after - before, 0.0)
        gained /= np.maximum(gained.sum(1, keepdims=True), np.finfo(float).tiny)
        moves = np.clip((chance - stay) / np.maximum(1.0 - stay, np.finfo(float).tiny), 0.0, 1.0)
        new = np.where(chance < stay, codes, _at(gained, moves))
    still = (before == after).all(1) | (new == codes)
    return np.where(still, draws, points[new])


def _at(law: Float[NDArray, "cells levels"], place: Float[NDArray, "draws cells"]) -> Int[NDArray, "draws cells"]:
    """The level at which a distribution function reaches a place, whatever the rounding one that has probability."""
    possible = law > 0
    first, last = possible.argmax(1), possible.shape[1] - 1 - possible[:, ::-1].argmax(1)
    return np.clip((law.cumsum(1) < place[:, :, None]).sum(-1), first, last)


def _mean_of_levels(column: Column, shares: Float[NDArray, "cells levels"]) -> Float[NDArray, " cells"]:
    """Means of levels that are numbers, of words the position of the most probable."""
    return shares.argmax(1).astype(np.float64) if column.kind.holds_words else shares @ column.kind.points


def _shifted(
    table: Table,
    at: int,
    draws: Float[NDArray, "draws cells"],
    delta: Float[NDArray, " cells"],
    scale: str,
    chance: Float[NDArray, "draws cells"],
) -> Float[NDArray, "draws cells"]:
    """Numbers moved; whole ones to a whole one beside the exact place, which on average they hit."""
    column = table.schema.columns[at]
    if scale == "sd" and not column.kind.scale.is_linear:
        on_line = column.kind.scale.ends(draws) + delta * column.std
        after = column.kind.scale.constrained(on_line)
    elif scale == "factor":
        after = draws * delta
    else:
        after = draws + delta * (column.std if scale == "sd" else 1.0)
    is_whole = column.kind.is_whole or pd.api.types.is_integer_dtype(table.frame[column.name].dtype)
    if is_whole and (draws == np.rint(draws)).all():
        nearest = np.rint(after)
        after = np.where(np.isclose(after, nearest, rtol=0, atol=1e-9), nearest, np.floor(after + chance))
    return np.where(delta == (1.0 if scale == "factor" else 0.0), draws, after)


def _shifted_mean(
    column: Column,
    means: Float[NDArray, " cells"],
    delta: Float[NDArray, " cells"],
    scale: str,
    before: Float[NDArray, "draws cells"],
    after: Float[NDArray, "draws cells"],
) -> Float[NDArray, " cells"]:
    """Means of moved numbers, in the user's units.

    Exact but for bounded columns on their own scale, where the mean moves in proportion to the draws'.
    """
    none = delta == (1.0 if scale == "factor" else 0.0)
    if scale == "sd" and not column.kind.scale.is_linear:
        lower = column.kind.scale.lower
        return np.where(none, means, lower + (means - lower) * (after - lower).mean(0) / (before - lower).mean(0))
    return np.where(
        none, means, means * delta if scale == "factor" else means + delta * (column.std if scale == "sd" else 1)
    )


def _check_values(
    table: Table,
    at: int,
    rows: Int[NDArray, " cells"],
    before: Float[NDArray, "draws cells"],
    after: Float[NDArray, "draws cells"],
    delta: Float[NDArray, " cells"],
) -> None:
    """Refuse a value that is none of the column's, or outside of the cell's bounds."""
    column, dtype = table.schema.columns[at], table.frame[table.schema.names[at]].dtype
    lower, upper = np.full(len(rows), -np.inf), np.full(len(rows), np.inf)
    if pd.api.types.is_integer_dtype(dtype):
        limits = np.iinfo(getattr(dtype, "numpy_dtype", dtype))
        lower, upper = lower.clip(min=limits.min), upper.clip(max=limits.max)
    if table.bounds is not None:
        lower, upper = np.maximum(lower, table.bounds.lower[rows, at]), np.minimum(upper, table.bounds.upper[rows, at])
    alien = (after != before) & ~column.kind.contains(after)
    outside = ((after < lower) & (before >= lower)) | ((after > upper) & (before <= upper))
    for wrong, why in ((alien, f"no value of kind {column.kind.name!r}"), (outside, "outside of its bounds")):
        if wrong.any():
            draw, cell = np.argwhere(wrong)[0].tolist()
            raise ValueError(
                f"delta of column {column.name!r}: expected values that it can take, got {after[draw, cell]:g}, {why},"
                f" from {before[draw, cell]:g} by a delta of {delta[cell]:g} in row {_row(table.frame, rows, cell)!r}"
                " (amounts and shares keep inside by delta_scale 'sd', amounts by 'factor' too)"
            )


def _row(frame: pd.DataFrame, rows: Int[NDArray, " cells"], at: int) -> Hashable:
    return row_label(frame, int(rows[at]))
