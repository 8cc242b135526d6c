"""Drawing whether there is a value at all: skip patterns whose condition hangs on missing values of the row.

Let C be the condition under which column d has no value, on values that are drawn.  A gap of d is certain where C
holds, and has the mechanism's probability where it does not; an observed value of d rules C out:

    w' = w · (1 where C holds, else p(r_d = 0 | x, z))       where d is a gap
    w' = w · (0 where C holds, else p(r_d = 1 | x, z))       where d was observed

So a row without an age at moving more likely never moved, and draws lack an age exactly where they say so.  Where the
mask tells nothing (``use_mechanism=False``) the mechanism's factors are left out.  Training, in which C is not drawn,
scores d in no such row: to score it where it was seen alone would make gaps rarer than they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, NoReturn

import numpy as np
import pyro.distributions as dist
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from pyro_mnar.infer.objective import ImportanceWeightedELBO
from pyro_mnar.infer.particles import Particles
from pyro_mnar.infer.sites import columns_of, missing_sites
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.completion import completed
from pyro_mnar.tables.dense import DenseStorage
from pyro_mnar.tables.frames import in_plain_dtypes
from pyro_mnar.tables.row_checks import labelled
from pyro_mnar.tables.skip_patterns import SkipPattern
from pyro_mnar.tables.table import Table


class _Open(NamedTuple):
    """A skip pattern, and where it is open.

    Attributes:
        pattern: The pattern.
        at: Position of its column.
        gap: Rows in which the column is a gap, and missing values decide whether there is a value; ``(rows,)``.
        seen: Rows in which it was observed, and missing values say so; ``(rows,)``.
    """

    pattern: SkipPattern
    at: int
    gap: Bool[NDArray, " rows"]
    seen: Bool[NDArray, " rows"]


class Applicability:
    """The skip patterns of one table that hang on values to be imputed.

    Args:
        table: The table; dense.
        is_scored: Whether the mask tells of values.
    """

    def __init__(self, table: Table, *, is_scored: bool = True) -> None:
        self.table, self.is_scored = table, is_scored
        names, mask = table.schema.names, table.mask.numpy()
        self.wanted = (~table.mask & table.applicable).numpy()
        self.frame = in_plain_dtypes(table.frame)
        for at, name in enumerate(names):
            if not mask[:, at].all():
                self.frame[name] = self.frame[name].mask(~mask[:, at])
        self.open: list[_Open] = []
        for pattern in table.schema.skips:
            at = names.index(pattern.column)
            parents = [names.index(name) for name in pattern.parents(names)]
            unknown = self.wanted[:, parents].any(1)
            self.open.append(_Open(pattern, at, unknown & self.wanted[:, at], unknown & mask[:, at]))
        self.rows = np.zeros(len(table), dtype=bool)
        for one in self.open:
            self.rows |= one.gap | one.seen

    @classmethod
    def of(cls, table: Table, *, is_scored: bool = True) -> Applicability | None:
        """Of a table; None where every cell is known to have a value or none."""
        if not table.schema.skips or not isinstance(table.storage, DenseStorage):
            return None
        found = cls(table, is_scored=is_scored)
        return found if found.rows.any() else None

    @property
    def columns(self) -> set[object]:
        """The columns that are in a pattern, by name."""
        patterns = self.table.schema.skips
        names = self.table.schema.names
        return {name for p in patterns for name in (p.column, *p.parents(names))}

    def impose(
        self,
        objective: ImportanceWeightedELBO,
        run: Particles,
        model: Callable,
        batch: Batch,
        x: Float[Tensor, "particles rows columns"],
    ) -> tuple[Float[Tensor, "particles rows"], Float[Tensor, "particles rows columns"]]:
        """Weights of particles that know where there is a value; the entries as they are.

        Args:
            objective: What weighed them.
            run: The particles.
            model: The model.
            batch: Their rows.
            x: Their missing entries.
        """
        rows = batch.index.cpu().numpy()
        here = np.flatnonzero(self.rows[rows])
        if not len(here):
            return run.log_weights, x
        drawn = x[:, here].cpu().numpy()
        columns = self.table.schema.columns
        numbers = {at: columns[at].settle(columns[at].decode(drawn[..., at])) for at in range(len(columns))}
        if (bounds := self.table.bounds) is not None:
            ends = bounds.lower[rows[here]], bounds.upper[rows[here]]
            numbers = {at: np.clip(found, ends[0][:, at], ends[1][:, at]) for at, found in numbers.items()}
        without = self._without(numbers, rows[here])
        log_weights = run.log_weights.clone()
        for one, holds in zip(self.open, without, strict=True):
            seen, gap = one.seen[rows[here]], one.gap[rows[here]]
            log_weights[:, here] = log_weights[:, here].masked_fill(
                torch.from_numpy(holds & seen).to(x.device), -torch.inf
            )
            if self.is_scored and (gap | seen).any():
                rows_of_it = torch.from_numpy(here[gap | seen]).to(x.device)
                of_mask = _log_of_mask(objective, run, model, batch, x, one.at, rows_of_it)
                has_value = torch.from_numpy(~holds & (gap | seen)).to(x.device)
                log_weights[:, here] += torch.where(has_value, of_mask[:, here], 0.0)
        return log_weights, x

    def settle(self, draws: Float[NDArray, "draws cells"], cells: Int[NDArray, "2 cells"]) -> None:
        """Blank draws where there is no value: NaN, in place."""
        rows, places = np.flatnonzero(self.rows), {}
        numbers = {}
        for at in range(len(self.table.schema.names)):
            full = np.full((len(draws), len(self.table)), np.nan)
            places[at] = cells[1] == at
            full[:, cells[0][places[at]]] = draws[:, places[at]]
            numbers[at] = full[:, rows]
        for one, holds in zip(self.open, self._without(numbers, rows), strict=True):
            blank = np.zeros((len(draws), len(self.table)), dtype=bool)
            blank[:, rows] = holds & one.gap[rows]
            here = places[one.at]
            draws[:, here] = np.where(blank[:, cells[0][here]], np.nan, draws[:, here])

    def refuse(self, rows: Int[NDArray, " rows"], tries: int) -> NoReturn:
        """Name rows that nothing satisfied."""
        said = "; ".join(f"no {one.pattern.column!r} where {one.pattern.condition}" for one in self.open)
        raise ValueError(
            f"not_applicable ({said}): none of {tries} particles agrees with what was observed in"
            f" {labelled(rows, self.table.frame)}"
        )

    def _without(
        self, numbers: Mapping[int, Float[NDArray, "particles rows"]], rows: Int[NDArray, " rows"]
    ) -> list[Bool[NDArray, "particles rows"]]:
        """Of each pattern, whether there is no value, by particle and row."""
        schema, count = self.table.schema, len(next(iter(numbers.values())))
        needed = {schema.names.index(n) for p in schema.skips for n in (p.column, *p.parents(schema.names))}
        wanted = self.wanted[rows] & np.isin(np.arange(len(schema.names)), list(needed))
        cells = np.stack(np.nonzero(np.tile(wanted, (count, 1))))
        flat = np.stack([numbers[at].ravel() for at in range(len(schema.names))], axis=1)[tuple(cells)]
        here = ~np.isnan(flat)
        frame = self.frame.iloc[np.tile(rows, count)].reset_index(drop=True)
        frame = completed(frame, schema, cells[:, here], flat[here], keep_integers=True)
        found = []
        for one in self.open:
            holds = one.pattern.holds(frame)
            if holds.any():
                frame[one.pattern.column] = frame[one.pattern.column].mask(holds)
            found.append(holds.reshape(count, len(rows)))
        return found


def _log_of_mask(
    objective: ImportanceWeightedELBO,
    run: Particles,
    model: Callable,
    batch: Batch,
    x: Float[Tensor, "particles rows columns"],
    at: int,
    rows: Int[Tensor, " open_rows"],
) -> Float[Tensor, "particles rows"]:
    """Log p(r_d | x, z) of a column's cells that the batch leaves unscored: what scoring them adds to the weights."""
    modelled = batch.mask_modelled.clone()
    modelled[rows, at] = True
    scored = replace(batch, mask_modelled=modelled)
    missing = missing_sites(run.model_trace)
    values = {
        name: x[..., columns_of(site)].reshape(site["value"].shape).to(site["value"].dtype)
        for name, site in missing.items()
    }
    scored_too, unscored = (objective.moved(run, values, model, rows_as) for rows_as in (scored, batch))
    added = torch.where(unscored.log_weights == -torch.inf, 0.0, scored_too.log_weights - unscored.log_weights)
    for name, site in missing.items():
        # A value that is summed out of p(r_d = 0 | z) was drawn from p(x_d | z), and is to follow p(x_d | z, r_d = 0);
        # where the guide proposed it, the weights hold both laws already.
        if at in columns_of(site) and name not in run.guide_trace.nodes:
            position = list(columns_of(site)).index(at)
            laws = (particles.model_trace.nodes[name]["fn"] for particles in (scored_too, unscored))
            of_scored, of_unscored = (_log_density(law, values[name])[..., position] for law in laws)
            added = added + torch.where(of_unscored == -torch.inf, 0.0, of_scored - of_unscored).reshape(added.shape)
    return added


def _log_density(law: Any, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Of each entry by itself."""
    return (law.base_dist if isinstance(law, dist.Independent) else law).log_prob(value)


def average_applicable(
    table: Table,
    cells: Int[NDArray, "2 cells"],
    draws: Float[NDArray, "draws cells"],
    means: Float[NDArray, " cells"],
    shares: dict[int, Float[NDArray, "_ _"]],
) -> None:
    """Average over draws that say that there is a value, where some say that there is none; in place."""
    is_blank, rank = np.isnan(draws), np.zeros(cells.shape[1], dtype=int)
    for position in shares:
        of_column = cells[1] == position
        rank[of_column] = np.arange(int(of_column.sum()))
    for at in np.flatnonzero(is_blank.any(0)).tolist():
        position = int(cells[1, at])
        kind: Any = table.schema.columns[position].kind
        kept = draws[~is_blank[:, at], at]
        most_have_one = 2 * len(kept) > len(draws)
        means[at] = kept.mean() if most_have_one else np.nan
        if position in shares:
            counts = np.bincount(kind.codes(kept), minlength=len(kind.levels)) if len(kept) else np.nan
            shares[position][rank[at]] = counts / max(1, len(kept))
            if most_have_one and kind.holds_words:
                means[at] = np.argmax(counts)
