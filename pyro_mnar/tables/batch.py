"""What a model is called with: the rows of a minibatch as tensors, and where in the table they stand."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from numbers import Integral
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pyro_mnar.devices import device_of
from pyro_mnar.messages import check_is, check_list, has_parts, shown, whole_number

_OF_ROWS = ("x", "mask", "mask_modelled", "aux", "index", "lower", "upper", "weight")


class Entries(NamedTuple):
    """Where the observed entries of a mask stand, row by row.

    Attributes:
        row: Position in the batch; ``(entries,)``.
        column: Position among the columns; ``(entries,)``.
        mask: The very mask that these are the entries of.
    """

    row: Int[Tensor, " entries"]
    column: Int[Tensor, " entries"]
    mask: Bool[Tensor, "rows columns"]


@runtime_checkable
class RowSource(Protocol):
    """What gives minibatches: a :class:`Batch` of all rows, or rows that are kept in another form."""

    def __len__(self) -> int:
        """Number of rows."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the batches."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the batches are."""
        ...

    def take(self, rows: Int[Tensor, " rows"]) -> Batch:
        """The given rows, still aware of the table they come from."""
        ...

    def minibatches(self, batch_size: int, generator: torch.Generator | None = None) -> Iterator[Batch]:
        """Split into minibatches, shuffled if a CPU generator is given."""
        ...


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows of a table, as every model and guide receives them.

    Attributes:
        x: X_o, standardised, zero where missing; ``(rows, columns)``.
        mask: R, True where observed; ``(rows, columns)``.
        mask_modelled: Cells whose R the mechanism explains; False where a cell is absent by design, held out, to be
            predicted or not applicable; ``(rows, columns)``.
        aux: U, standardised; ``(rows, auxiliaries)``, possibly of width zero.
        index: Position of each row in the table; ``(rows,)``.
        size: N, the number of rows of the table.
        incomplete: Columns that can go missing, and so have a mechanism; ``(columns,)``.
        entries: Where the observed entries stand, if that is known without a search; see :meth:`observed_entries`.
        lower: Least value that a gap can have, standardised, -inf where nothing is known; ``(rows, columns)``.  None in
            tables without bounds, as ``upper`` then is.  At observed cells neither is read.
        upper: Greatest value that a gap can have, inf where nothing is known; ``(rows, columns)``.
        names: Names of the columns; numbers from 0 where nobody named them.
        weight: How often each row counts in the objective, 1 on average over the table; ``(rows,)``.  None where every
            row counts once.
    """

    x: Float[Tensor, "rows columns"]
    mask: Bool[Tensor, "rows columns"]
    mask_modelled: Bool[Tensor, "rows columns"]
    aux: Float[Tensor, "rows auxiliaries"]
    index: Int[Tensor, " rows"]
    size: int
    incomplete: Bool[Tensor, " columns"]
    entries: Entries | None = None
    lower: Float[Tensor, "rows columns"] | None = None
    upper: Float[Tensor, "rows columns"] | None = None
    weight: Float[Tensor, " rows"] | None = None
    names: Sequence[Hashable] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names) or tuple(range(self.num_columns)))

    @classmethod
    def of(
        cls,
        x: Float[Tensor, "rows columns"],
        mask: Bool[Tensor, "rows columns"] | None = None,
        aux: Float[Tensor, "rows auxiliaries"] | None = None,
        *,
        lower: Float[Tensor, "rows columns"] | None = None,
        upper: Float[Tensor, "rows columns"] | None = None,
        names: Sequence[Hashable] = (),
    ) -> Batch:
        """A whole table given as tensors, without a frame: every gap modelled, every column able to go missing.

        Args:
            x: Values in the model's own units; NaN marks a gap where ``mask`` is not given.
            mask: True where observed.
            aux: Auxiliary variables; none if not given.
            lower: Least values of gaps, -inf where nothing is known.
            upper: Greatest values of gaps, inf where nothing is known.
            names: Names of the columns.
        """
        check_is("x", x, Tensor)
        if x.dim() != 2 or not x.is_floating_point():
            raise ValueError(f"x: expected numbers of shape (rows, columns), got {x.dtype} of shape {tuple(x.shape)}")
        if mask is None:
            mask = ~x.isnan()
        for name, value in (("mask", mask), ("lower", lower), ("upper", upper)):
            if value is not None:
                check_is(name, value, Tensor)
                if value.shape != x.shape:
                    raise ValueError(f"{name}: expected the shape of x, {tuple(x.shape)}, got {tuple(value.shape)}")
        if mask.dtype != torch.bool:
            raise TypeError(f"mask: expected True where observed, got {mask.dtype}")
        if not has_parts(names):
            raise TypeError(f"names: expected a list, got {shown(names)}")
        if lower is not None or upper is not None:
            lower = torch.full_like(x, -torch.inf) if lower is None else lower
            upper = torch.full_like(x, torch.inf) if upper is None else upper
        return cls(
            x=x.masked_fill(~mask, 0.0),
            mask=mask,
            mask_modelled=torch.ones_like(mask),
            aux=x.new_zeros(len(x), 0) if aux is None else aux,
            index=torch.arange(len(x), device=x.device),
            size=len(x),
            incomplete=torch.ones_like(mask[0]),
            lower=lower,
            upper=upper,
            names=names,
        )

    def __len__(self) -> int:
        return len(self.x)

    @property
    def num_columns(self) -> int:
        """D, the number of modelled columns."""
        return self.x.shape[-1]

    @property
    def dtype(self) -> torch.dtype:
        """Floating type."""
        return self.x.dtype

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.x.device

    def observed_entries(self) -> Entries:
        """Where the observed entries stand, row by row; without a search if the batch came from a sparse table."""
        # A batch whose mask was replaced may still hold the entries of the mask before.
        if self.entries is not None and self.entries.mask is self.mask:
            return self.entries
        row, column = self.mask.nonzero(as_tuple=True)
        return Entries(row, column, self.mask)

    def positions(self, columns: Hashable | Sequence[Hashable] | None, site: str = "columns") -> tuple[int, ...]:
        """Positions of some columns, in the order given.

        Args:
            columns: Names, or positions where no column has such a name; a list, or a single one; None for all.
            site: What they are for, in messages.

        Raises:
            ValueError: If a column is not there, or is given twice, or none is given.
        """
        if columns is None:
            return tuple(range(self.num_columns))
        known = {name: at for at, name in enumerate(self.names)}
        is_one = isinstance(columns, str) or not has_parts(columns)
        several: Any = columns
        asked = [columns] if is_one or (isinstance(columns, tuple) and columns in known) else list(several)
        found = [known.get(name, _position(name, self.num_columns)) for name in asked]
        for name, at in zip(asked, found, strict=True):
            if at is None:
                raise ValueError(f"site {site!r}: expected columns among {listed(self.names)}, got {shown(name)}")
            if found.count(at) > 1:
                raise ValueError(f"site {site!r}: expected each column once, got {self.names[at]!r} twice")
        if not asked:
            raise ValueError(f"site {site!r}: expected at least one of the columns {listed(self.names)}, got none")
        return tuple(at for at in found if at is not None)

    def to(self, device: torch.device | str | None) -> Batch:
        """The same rows on another device."""
        if device is not None and not isinstance(device, torch.device):
            device = device_of(device)
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: v.to(device) for name, v in values.items() if isinstance(v, Tensor)})

    def without_mechanism(self) -> Batch:
        """The same rows with no gap that the mechanism explains: missing values are then drawn without regard to it."""
        return replace(self, mask_modelled=torch.zeros_like(self.mask_modelled))

    def without_bounds(self) -> Batch:
        """The same rows with nothing known of the gaps."""
        return replace(self, lower=None, upper=None)

    @property
    def bounds(self) -> tuple[Float[Tensor, "rows columns"], Float[Tensor, "rows columns"]] | None:
        """What is known of each gap, infinities at observed cells; None where there are no bounds."""
        if self.lower is None or self.upper is None:
            return None
        return self.lower.masked_fill(self.mask, -torch.inf), self.upper.masked_fill(self.mask, torch.inf)

    @property
    def x_or_nearest(self) -> Float[Tensor, "rows columns"]:
        """x, with gaps at the value nearest to zero that their bounds allow: what an encoder may see of them."""
        bounds = self.bounds
        return self.x if bounds is None else torch.minimum(torch.maximum(self.x, bounds[0]), bounds[1])

    def take(self, rows: Int[Tensor, " rows"]) -> Batch:
        """A minibatch: the given rows, still aware of the table they come from."""
        check_is("rows", rows, Tensor, " of positions")
        if rows.is_floating_point() or rows.is_complex():
            raise TypeError(f"rows: expected positions, whole numbers, or a boolean a row, got {rows.dtype}")
        return replace(self, **{name: value[rows] for name, value in self.of_rows().items()})

    def of_rows(self) -> dict[str, Tensor]:
        """The fields that have one entry a row, by name."""
        values = {name: getattr(self, name) for name in _OF_ROWS}
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def joined(cls, batches: Sequence[Batch]) -> Batch:
        """Rows of one table, of one or more batches, one below the other."""
        for batch in check_list("batches", batches):
            check_is("batches", batch, Batch)
        parts = {name: torch.cat([batch.of_rows()[name] for batch in batches]) for name in batches[0].of_rows()}
        return replace(batches[0], **parts, entries=None)

    def minibatches(self, batch_size: int, generator: torch.Generator | None = None) -> Iterator[Batch]:
        """Split into minibatches whose sizes differ by at most one, shuffled if a CPU generator is given."""
        return (self.take(rows.to(self.device)) for rows in split(len(self), batch_size, generator))


def _position(column: Any, num_columns: int) -> int | None:
    if not isinstance(column, Integral) or isinstance(column, bool):
        return None
    return int(column) if 0 <= int(column) < num_columns else None


def listed(names: Sequence[Hashable], most: int = 12) -> str:
    """Names as messages show them."""
    return repr(list(names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")


def split(count: int, batch_size: int, generator: torch.Generator | None = None) -> tuple[Int[Tensor, " rows"], ...]:
    """Positions of ``count`` rows, in groups whose sizes differ by at most one, shuffled if a generator is given.

    A short last minibatch would weigh its few rows by N over their number; equal sizes do not.
    """
    batch_size = whole_number("batch_size", batch_size)
    if generator is not None:
        check_is("generator", generator, torch.Generator)
    order = torch.arange(count) if generator is None else torch.randperm(count, generator=generator)
    return order.tensor_split(-(-count // batch_size))


def shuffled(count: int, batch_size: int, generator: torch.Generator) -> Int[Tensor, "batches size"]:
    """Positions of ``count`` rows in random order, in groups of one size, at most the given one.

    Where the rows do not divide into equal groups, the last group takes its last few from the first one.  Each group is
    still a random sample of the rows, so a bound estimated from it stays unbiased, and one size can be compiled once.

    Args:
        count: Number of rows.
        batch_size: The most rows a group may have.
        generator: A CPU generator.
    """
    batch_size = whole_number("batch_size", batch_size)
    groups = -(-count // batch_size)
    size = -(-count // groups)
    order = torch.randperm(count, generator=generator)
    return torch.cat([order, order[: groups * size - count]]).view(groups, size)
