"""Drawing from p(X_u | X_o, R, constraints): what row constraints do to weighed particles.

An order or any other condition of positive probability: particles that break it get weight zero, which is conditioning
on the event.  A sum has probability zero, so one missing part of it is not drawn but follows from the others; the
particle is weighed with the density of that value given z, in the user's units,

    w' = w(x with the value put in) · p(x_det | z)

which is importance sampling of the law on the plane Σ parts = total (the map from the other parts to this one has
Jacobian 1).  A derived value that was seen is such a condition, too, with a Jacobian of its own
(:mod:`pyro_mnar.imputation.seen_formulas`).  The fit itself does not know the conditions: they are on its imputations,
not its likelihood.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple, NoReturn

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from pyro_mnar.imputation.determined_entries import Determined, PutIn, weighed_anew
from pyro_mnar.imputation.seen_formulas import SeenFormulas
from pyro_mnar.infer.objective import ImportanceWeightedELBO
from pyro_mnar.infer.particles import Particles
from pyro_mnar.kinds.kind import is_near_whole
from pyro_mnar.messages import has_parts, shown
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.completion import as_held, completed
from pyro_mnar.tables.constraints import InOrder, RowConstraint, SumsTo, described
from pyro_mnar.tables.derived_arguments import Following, following, warn_of_unused
from pyro_mnar.tables.row_checks import check_rows, labelled, numbers_in
from pyro_mnar.tables.table import Table

Declared = RowConstraint | Callable[[pd.DataFrame], Any]
CERTAIN = 1e3  # log-weight beside which a density is nothing, in any floating type


class _Sum(NamedTuple):
    """A sum, and the column of each row that follows from the others.

    Attributes:
        constraint: The sum.
        determined: Position of the column; -1 for rows in which nothing is to be determined; ``(rows,)``.
    """

    constraint: SumsTo
    determined: Int[NDArray, " rows"]


class Conditions:
    """Constraints on the completed rows of one table.

    Args:
        table: The table that is imputed.
        constraints: Constraints by name of columns.
        functions: Functions of a frame of candidate rows to a boolean for each.
        found: What follows from derived values that were seen.

    Raises:
        ValueError: If observed values break a constraint, or the only value that a missing part can have is not one of
            its column; names the rows.
    """

    def __init__(
        self,
        table: Table,
        constraints: Sequence[RowConstraint],
        functions: Sequence[Callable[[pd.DataFrame], Any]] = (),
        found: Sequence[Following] = (),
    ) -> None:
        self.table, self.constraints, self.functions = table, constraints, functions
        schema = table.schema
        self.wanted = (~table.mask & table.applicable).numpy()
        observed = table.mask.numpy()
        columns = [c.read(table.frame[c.name].where(observed[:, at])) for at, c in enumerate(schema.columns)]
        numbers = np.stack(columns, axis=1)
        check_rows(constraints, table.frame, numbers, schema)
        named = {name: constraint for constraint in constraints for name in constraint.columns}
        self.known = {
            name: numbers_in(name, constraint, table.frame, numbers, schema) for name, constraint in named.items()
        }
        self.formulas = SeenFormulas(table, found, self.wanted)
        read = named.keys() | self.formulas.names
        self.positions = [at for at, name in enumerate(schema.names) if functions or name in read]
        self.known |= {schema.names[at]: numbers[:, at] for at in self.positions}
        self.sums = self._determine([c for c in constraints if isinstance(c, SumsTo)])
        self._check_functions()
        self._check_single_parts()

    @classmethod
    def of(cls, table: Table, constraints: Sequence[Declared]) -> Conditions | None:
        """What a table declares and what is given beside it; None if that is nothing."""
        if isinstance(constraints, (str, InOrder, SumsTo)) or not has_parts(constraints):
            raise TypeError(
                f"constraints: expected a list, such as [InOrder('start', 'end')], got {shown(constraints)}"
            )
        for constraint in constraints:
            if not (isinstance(constraint, (InOrder, SumsTo)) or callable(constraint)):
                raise TypeError(
                    f"constraints: expected InOrder, SumsTo or functions of a frame, got {shown(constraint)}"
                )
        by_name = [c for c in (*table.schema.constraints, *constraints) if isinstance(c, (InOrder, SumsTo))]
        functions = [c for c in constraints if not isinstance(c, (InOrder, SumsTo))]
        found: list[Following] = []
        if table.schema.derived:
            mask = table.mask.numpy()
            found = following(table.schema, table.frame, mask, ~mask & table.applicable.numpy(), by_name)
            if any(isinstance(c, SumsTo) for c in constraints):  # which may use what a formula would have
                warn_of_unused(found, table.frame, stacklevel=3)
        follows = any((each.at >= 0).any() for each in found)
        return cls(table, by_name, functions, found) if by_name or functions or follows else None

    @property
    def are_of_completed_rows(self) -> bool:
        """Whether they are about whole rows, and not only about what derived values say of single cells."""
        return bool(self.constraints or self.functions)

    def impose(
        self,
        objective: ImportanceWeightedELBO,
        run: Particles,
        model: Callable,
        batch: Batch,
        x: Float[Tensor, "particles rows columns"],
    ) -> tuple[Float[Tensor, "particles rows"], Float[Tensor, "particles rows columns"]]:
        """Weights and missing entries of particles that satisfy the constraints, weight zero for the others.

        Args:
            objective: What weighed them.
            run: The particles.
            model: The model.
            batch: Their rows.
            x: Their missing entries.
        """
        rows = batch.index.cpu().numpy()
        values = {}
        for at in self.positions:
            drawn = self._held(at, self.table.schema.columns[at].decode(x[..., at].cpu().numpy()), rows)
            values[at] = np.where(self.wanted[rows, at], drawn, self.known[self.table.schema.names[at]][rows])
        put = self._put_in(values, rows)
        log_weights = run.log_weights
        if put.cells.any():
            moved = put.ok & ~put.is_free
            for at in np.flatnonzero(put.cells.any(0)):
                column = self.table.schema.columns[at]
                here = put.cells[:, at] & moved
                encoded = column.encode(np.where(here, values[at], column.decode(np.zeros(1))))
                x[..., at] = torch.where(
                    torch.from_numpy(here).to(x.device), torch.from_numpy(encoded).to(x), x[..., at]
                )
            log_weights = weighed_anew(objective, run, model, batch, x, torch.from_numpy(put.cells).to(x.device))
            log_weights = log_weights + torch.from_numpy(put.log_slope).to(x)
            is_free = torch.from_numpy(put.is_free).to(x.device)
            log_weights = torch.where(is_free, run.log_weights + CERTAIN, log_weights)
        ok = put.ok & self._hold(values, rows)
        return log_weights.masked_fill(~torch.from_numpy(ok).to(x.device), -torch.inf), x

    def settle(self, draws: Float[NDArray, "draws cells"], cells: Int[NDArray, "2 cells"]) -> None:
        """Draws as the frame's dtypes hold them, determined parts exact to their last digit; in place."""
        is_here = np.ones(len(self.table), dtype=bool) if self.are_of_completed_rows else self.formulas.rows()
        rows, place_of = np.flatnonzero(is_here), is_here.cumsum() - 1
        values, places = {}, {}
        for at in self.positions:
            places[at] = np.flatnonzero((cells[1] == at) & is_here[cells[0]])
            known = self.known[self.table.schema.names[at]][rows]
            values[at] = np.broadcast_to(known, (len(draws), len(rows))).copy()
            here = cells[0][places[at]]
            values[at][:, place_of[here]] = self._held(at, draws[:, places[at]], here)
        self._put_in(values, rows)
        for at, place in places.items():
            draws[:, place] = values[at][:, place_of[cells[0][place]]]

    def check(self, draws: Float[NDArray, "draws cells"], cells: Int[NDArray, "2 cells"]) -> None:
        """Refuse draws, in the user's units, that were moved and satisfy the constraints no more; names the rows."""
        rows = np.arange(len(self.table))
        values = {}
        for at in self.positions:
            known, place = self.known[self.table.schema.names[at]], cells[1] == at
            values[at] = np.broadcast_to(known, (len(draws), len(rows))).copy()
            values[at][:, cells[0][place]] = self._held(at, draws[:, place], cells[0][place])
        broken = ~(self._hold(values, rows) & self.formulas.hold(values, rows)).all(0)
        if broken.any():
            where = labelled(np.flatnonzero(broken), self.table.frame)
            raise ValueError(
                f"{self._named()}: expected draws that still satisfy them when moved, got others in {where} (a part of"
                " a sum, or an argument of a derived value that was seen, moves with another: give both a delta by row,"
                " or neither)"
            )

    def _named(self) -> str:
        names = [described(constraint) for constraint in self.constraints]
        names += [getattr(function, "__name__", repr(function)) for function in self.functions]
        return "; ".join([f"constraints {', '.join(names)}"] * bool(names) + self.formulas.what)

    def refuse(self, rows: Int[NDArray, " rows"], tries: int) -> NoReturn:
        """Name rows that nothing satisfied."""
        raise ValueError(
            f"{self._named()}: none of {tries} particles satisfies them in {labelled(rows, self.table.frame)}"
            + " (a derived value that its arguments cannot give is left out by na_values)" * bool(self.formulas)
        )

    def _put_in(self, values: dict[int, NDArray[np.float64]], rows: Int[NDArray, " rows"]) -> PutIn:
        """Put determined parts in, in place."""
        shape = next(iter(values.values())).shape
        ok, is_free, log_slope = np.ones(shape, dtype=bool), np.zeros(shape, dtype=bool), np.zeros(shape)
        cells = np.zeros((len(rows), len(self.table.schema.names)), dtype=bool)
        for part in chain(self._rests(values, rows), self.formulas.determined(values, rows)):
            at, here = part.at, part.here
            possible = part.is_found & self._is_possible(at, part.numbers, rows[here])
            ok[:, here] &= possible | part.is_free
            is_free[:, here] |= part.is_free
            held = as_held(part.numbers, self._dtype(at))
            values[at][:, here] = np.where(possible, held, values[at][:, here])
            log_slope[:, here] += np.where(possible, part.log_slope, 0.0)
            cells[here, at] = True
        # Where one part is free and another is not, nothing is known of how the two weigh against each other.
        return PutIn(ok & ~(is_free & (cells.sum(1) > 1)), is_free, log_slope, cells)

    def _rests(self, values: dict[int, NDArray[np.float64]], rows: Int[NDArray, " rows"]) -> Iterator[Determined]:
        """What sums leave to their determined parts."""
        names = self.table.schema.names
        for constraint, column in self.sums:
            for at in np.unique(column[rows][column[rows] >= 0]).tolist():
                here = np.flatnonzero(column[rows] == at)
                given = {
                    name: values[names.index(name)][:, here] if name in names else self.known[name][rows[here]]
                    for name in constraint.columns
                }
                rest = np.broadcast_to(constraint.rest(given, names[at]), (len(values[at]), len(here)))
                log_slope = self.table.schema.columns[at].kind.scale.log_slope(rest)
                yield Determined(at, here, rest, log_slope, np.ones_like(rest, bool), np.zeros_like(rest, bool))

    def _hold(self, values: dict[int, NDArray[np.float64]], rows: Int[NDArray, " rows"]) -> NDArray[np.bool_]:
        """Whether all constraints hold, by particle and row."""
        names, schema = self.table.schema.names, self.table.schema
        shape = next(iter(values.values())).shape if values else (1, len(rows))
        by_name = {name: np.broadcast_to(known[rows], shape) for name, known in self.known.items()}
        by_name |= {names[at]: value for at, value in values.items()}
        ok = np.ones(shape, dtype=bool)
        for constraint in self.constraints:
            ok &= constraint.holds({name: by_name[name] for name in constraint.columns})
        if self.functions:
            frame = self.table.frame.iloc[np.tile(rows, shape[0])]
            cells = np.stack(np.nonzero(np.tile(self.wanted[rows], (shape[0], 1))))
            flat = np.stack([values[at].ravel() for at in range(len(names))], axis=1)
            frame = completed(frame, schema, cells, flat[tuple(cells)], keep_integers=True)
            for function in self.functions:
                ok &= _booleans(function, frame).reshape(shape)
        return ok

    def _determine(self, sums: Sequence[SumsTo]) -> list[_Sum]:
        """Of each sum the missing part with the widest spread, which the others say the least about."""
        schema, taken, found = self.table.schema, np.zeros_like(self.wanted), []
        ends = np.array([-0.5, 0.5])
        spread = {at: float(np.ptp(schema.columns[at].decode(ends))) for at in self.positions}
        for constraint in sums:
            members = [schema.names.index(name) for name in constraint.columns if name in schema.names]
            determined = np.full(len(self.table), -1)
            for at in sorted(members, key=spread.__getitem__):
                determined[self.wanted[:, at] & ~taken[:, at]] = at
            # A part that one sum has used is not moved by the next.
            taken[:, members] |= self.wanted[:, members]
            found.append(_Sum(constraint, determined))
        return found

    def _check_single_parts(self) -> None:
        """Where one part alone is missing its value is known, and may not be one that the column can take."""
        names = self.table.schema.names
        for constraint, determined in self.sums:
            values = {name: self.known[name] for name in constraint.columns}
            for at in np.unique(determined[determined >= 0]):
                rest = constraint.rest(values, names[at])
                alone = (determined == at) & ~np.isnan(rest)
                wrong = np.flatnonzero(alone & ~self._is_possible(int(at), rest, np.arange(len(self.table))))
                if len(wrong):
                    raise ValueError(
                        f"{described(constraint)}: column {names[at]!r} cannot be {rest[wrong[0]]:g}, which the other"
                        f" parts leave to it, in {labelled(wrong, self.table.frame)}"
                    )

    def _check_functions(self) -> None:
        complete = np.flatnonzero(~self.wanted.any(1))
        for function in self.functions if len(complete) else ():
            broken = ~_booleans(function, self.table.frame.iloc[complete])
            if broken.any():
                name = getattr(function, "__name__", repr(function))
                raise ValueError(f"constraint {name}: broken by {labelled(complete[broken], self.table.frame)}")

    def _dtype(self, at: int) -> Any:
        return self.table.frame[self.table.schema.names[at]].dtype

    def _held(
        self, at: int, numbers: Float[NDArray, "*particles rows"], rows: Int[NDArray, " rows"]
    ) -> NDArray[np.float64]:
        """Numbers as the completed frame gives them back."""
        bounds = self.table.bounds
        if bounds is not None:
            numbers = np.clip(numbers, bounds.lower[rows, at], bounds.upper[rows, at])
        return as_held(numbers, self._dtype(at))

    def _is_possible(
        self, at: int, numbers: Float[NDArray, "*particles rows"], rows: Int[NDArray, " rows"]
    ) -> NDArray[np.bool_]:
        """Whether a column can take these values."""
        bounds, ok = self.table.bounds, self.table.schema.columns[at].kind.contains(numbers)
        if pd.api.types.is_integer_dtype(self._dtype(at)):
            ok &= is_near_whole(numbers)
        if bounds is not None:
            ok &= (numbers >= bounds.lower[rows, at]) & (numbers <= bounds.upper[rows, at])
        return ok


def _booleans(function: Callable[[pd.DataFrame], Any], frame: pd.DataFrame) -> NDArray[np.bool_]:
    found = np.asarray(function(frame))
    if found.shape != (len(frame),) or found.dtype != bool:
        name = getattr(function, "__name__", repr(function))
        raise ValueError(
            f"constraint {name}: expected a boolean for each of {len(frame)} rows, got {found.dtype} of shape"
            f" {found.shape}"
        )
    return found
