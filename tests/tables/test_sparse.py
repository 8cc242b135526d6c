"""Sparse tables: the same tables as dense ones, made dense a minibatch at a time and never more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyro.poutine as poutine
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pyro_mnar import Table, compare, fit, impute
from pyro_mnar.guides import PointNet, ZeroImpute
from pyro_mnar.imputation.generation import generate
from pyro_mnar.mechanisms import SelfMasking
from pyro_mnar.models import GINA
from pyro_mnar.training.evidence import log_evidence
from pyro_mnar.training.fitted import Fit

FIELDS = ("x", "mask", "mask_modelled", "applicable", "aux")


def wide(rows: int = 60, columns: int = 30, share: float = 0.2, seed: int = 0) -> pd.DataFrame:
    """A frame of which few cells are seen, each column at least twice."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, 1)) + rng.normal(size=(rows, columns))
    seen = rng.random((rows, columns)) < share
    seen[:2] = True
    return pd.DataFrame(np.where(seen, values, np.nan), columns=[f"item {d}" for d in range(columns)])


def matrix_of(frame: pd.DataFrame) -> Any:
    """Its values as a scipy matrix."""
    rows, columns = np.nonzero(frame.notna().to_numpy())
    return scipy.sparse.csr_array((frame.to_numpy()[rows, columns], (rows, columns)), shape=frame.shape)


def long_of(frame: pd.DataFrame) -> pd.DataFrame:
    """Its values as a long frame, in no order."""
    rows, columns = np.nonzero(frame.notna().to_numpy())
    lines = {"user": frame.index[rows], "item": frame.columns[columns], "rating": frame.to_numpy()[rows, columns]}
    return pd.DataFrame(lines).sample(frac=1, random_state=0)


def from_long(frame: pd.DataFrame, **options: Any) -> Table:
    labels = {"rows": frame.index, "columns": frame.columns}
    return Table.from_long(long_of(frame), row="user", column="item", value="rating", **labels, **options)


def same(one: Table, other: Table) -> None:
    for name in FIELDS:
        torch.testing.assert_close(getattr(one, name), getattr(other, name), atol=1e-12, rtol=0)
    for left, right in zip(one.schema.columns, other.schema.columns, strict=True):
        if getattr(right.kind, "whole", None):  # of a frame, each column tells; of entries, all together
            left, right = (replace(column, kind=replace(column.kind, whole=True)) for column in (left, right))
        assert (left.name, left.kind, left.incomplete, left.is_auxiliary) == (
            right.name,
            right.kind,
            right.incomplete,
            right.is_auxiliary,
        )
        np.testing.assert_allclose([left.mean, left.std], [right.mean, right.std], rtol=1e-12)


@pytest.mark.parametrize("auxiliary", [[], "mask"])
def test_it_is_the_dense_table(auxiliary: Any) -> None:
    frame = wide()
    dense = Table.from_frame(frame, auxiliary=auxiliary)
    same(Table.from_sparse(matrix_of(frame), columns=frame.columns, auxiliary=auxiliary), dense)
    table = from_long(frame, auxiliary=auxiliary)
    same(table, dense)
    pd.testing.assert_frame_equal(table.frame, frame)


def test_complete_columns_serve_as_u() -> None:
    frame = wide()
    frame["item 3"] = np.arange(60.0)
    same(Table.from_sparse(matrix_of(frame), columns=frame.columns), Table.from_frame(frame))
    with pytest.warns(UserWarning, match="no auxiliary columns were named"):
        Table.from_sparse(matrix_of(wide()))


def test_named_auxiliaries() -> None:
    frame, rng = wide(), np.random.default_rng(1)
    of_users = pd.DataFrame({"age": rng.normal(size=60), "town": rng.choice(["x", "y"], 60)})
    dense = Table.from_frame(pd.concat([of_users, frame], axis=1), auxiliary=["age", "town"])
    same(Table.from_sparse(matrix_of(frame), columns=frame.columns, auxiliary=of_users), dense)
    same(from_long(frame, auxiliary=of_users.sample(frac=1, random_state=0)), dense)

    lines = long_of(frame).join(of_users, on="user")
    named = {"row": "user", "column": "item", "value": "rating", "rows": frame.index, "columns": frame.columns}
    same(Table.from_long(lines, auxiliary=["age", "town"], **named), dense)
    lines.loc[lines.index[0], "town"] = "z"
    with pytest.raises(ValueError, match=r"auxiliary column 'town': expected one value in row \d+, got '.' and '.'"):
        Table.from_long(lines, auxiliary=["town"], **named)

    frame["age"] = of_users["age"]
    taken_out = Table.from_sparse(matrix_of(frame), columns=frame.columns, auxiliary=["age"])
    same(taken_out, Table.from_frame(frame, auxiliary=["age"]))
    with pytest.raises(ValueError, match=r"auxiliary column 'item 0': expected a value in every row, got none in row"):
        Table.from_sparse(matrix_of(frame), columns=frame.columns, auxiliary=["item 0"])


def test_explicit_zeros_are_values_and_nan_is_a_gap() -> None:
    matrix = scipy.sparse.coo_array(([0.0, 2.0, np.nan, 1.0], ([0, 1, 1, 2], [0, 0, 1, 1])), shape=(3, 2))
    table = Table.from_sparse(matrix, auxiliary=[])
    assert table.num_entries == 3
    np.testing.assert_array_equal(table.frame.to_numpy(), [[0, np.nan], [2, np.nan], [np.nan, 1]])


def test_labels_of_any_kind_and_rows_without_a_value() -> None:
    lines = pd.DataFrame({"row": [("a", 1), "a", 2.5], "column": ["x", ("x", "y"), "x"], "value": [1.0, 2.0, 3.0]})
    table = Table.from_long(lines, rows=["nobody", ("a", 1), "a", 2.5], auxiliary=[])
    assert table.schema.names == ["x", ("x", "y")]
    assert table.row_labels.tolist() == ["nobody", ("a", 1), "a", 2.5]
    np.testing.assert_array_equal(table.mask.sum(1), [0, 1, 1, 1])
    of_users = pd.DataFrame(
        {"age": [1.0, 2.0, 3.0, 4.0]}, index=pd.Index([2.5, "a", "nobody", ("a", 1)], tupleize_cols=False)
    )
    np.testing.assert_array_equal(Table.from_long(lines, auxiliary=of_users).mask.sum(1), [1, 1, 0, 1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"row": [1, 1, 1]}, r"entries: expected each cell once, got row 1, column 'x' 2 times"),
        ({"row": [1, None, 2]}, r"row 'row': expected a label in every line, got none in line 1"),
        ({"value": [1.0, np.inf, 2.0]}, r"column 'y': expected finite numbers, got inf in row 2"),
        ({"value": [1.0, "high", 2.0]}, r"column 'y': expected numbers, got 'high' in row 2"),
        ({"value": [np.nan] * 3}, r"expected at least one observed value, got none"),
    ],
)
def test_errors_of_long_frames_name_the_cell(change: dict[str, Any], message: str) -> None:
    lines = pd.DataFrame({"row": [1, 2, 3], "column": ["x", "y", "x"], "value": [1.0, 2.0, 3.0], **change})
    with pytest.raises(ValueError, match=message):
        Table.from_long(lines, auxiliary=[], kinds="continuous")


def test_errors_of_labels_and_shapes() -> None:
    lines = pd.DataFrame({"row": [1, 2], "column": ["x", "y"], "value": [1.0, 2.0]})
    with pytest.raises(ValueError, match=r"frame: expected a row \(row\) of the table, such as 1, 3, got 2"):
        Table.from_long(lines, rows=[1, 3], auxiliary=[])
    with pytest.raises(ValueError, match=r"value: expected one of \['row', 'column', 'value'\], got 'rating'"):
        Table.from_long(lines, value="rating")
    with pytest.raises(TypeError, match=r"matrix: expected a scipy sparse matrix, got ndarray"):
        Table.from_sparse(np.eye(2))
    with pytest.raises(ValueError, match=r"columns: expected 2 labels, got 1"):
        Table.from_sparse(scipy.sparse.eye_array(2), columns=["a"])
    with pytest.raises(ValueError, match=r"entries: expected each cell once, got row 0, column 1 2 times"):
        Table.from_sparse(scipy.sparse.coo_array(([1.0, 2.0], ([0, 0], [1, 1])), shape=(1, 2)), auxiliary=[])
    with pytest.raises(ValueError, match=r"auxiliary: expected a line for each of 2 rows, got 3"):
        Table.from_sparse(scipy.sparse.eye_array(2), auxiliary=pd.DataFrame({"a": [1, 2, 3]}))
    with pytest.raises(ValueError, match=r"auxiliary: expected a line for every row, got none for 2"):
        Table.from_long(lines, rows=[1, 2], auxiliary=pd.DataFrame({"a": [1.0]}, index=[1]))


def test_kinds() -> None:
    rng = np.random.default_rng(0)
    rows, columns = np.divmod(np.arange(400), 20)
    stars = pd.DataFrame({"row": rows, "column": columns, "value": rng.integers(1, 6, 400)})
    table = Table.from_long(stars[rng.random(400) < 0.7], auxiliary=[])
    assert set(table.schema.kinds.values()) == {"ordinal"}
    assert {column.kind.levels for column in table.schema.columns} == {(1, 2, 3, 4, 5)}
    mixed = Table.from_long(stars, kinds={3: "continuous", 4: "count"})
    assert (
        mixed.schema.kinds[3] == "continuous"
        and mixed.schema.kinds[4] == "count"
        and mixed.schema.kinds[5] == "ordinal"
    )
    shared = Table.from_long(stars, kinds="continuous", units="table")
    observed = stars["value"].to_numpy()
    ((mean, std),) = {(column.mean, column.std) for column in shared.schema.columns}
    assert (mean, std) == pytest.approx((observed.mean(), observed.std()))
    with pytest.raises(ValueError, match=r"column 7: expected numbers above 0 \(kind 'positive'\), got -1 in row 0"):
        Table.from_long(stars.assign(value=np.where((rows == 0) & (columns == 7), -1, 1)), kinds="positive")


def test_a_column_without_a_value_has_the_others_units() -> None:
    matrix = scipy.sparse.coo_array(([1.0, 2.0, 6.0], ([0, 1, 2], [0, 0, 1])), shape=(3, 3))
    column = Table.from_sparse(matrix, auxiliary=[]).schema.columns[2]
    assert (column.mean, column.std) == pytest.approx((3.0, np.std([1.0, 2.0, 6.0])))


@settings(max_examples=settings.default.max_examples * 2 // 5)
@given(data=st.data())
def test_any_rows_are_those_of_the_dense_table(data: st.DataObject) -> None:
    frame = wide(12, 5, 0.4, seed=data.draw(st.integers(0, 100)))
    frame.iloc[5] = np.nan
    dense = Table.from_frame(frame, auxiliary=[])
    sparse = Table.from_sparse(matrix_of(frame), columns=frame.columns, auxiliary=[])
    rows = torch.tensor(data.draw(st.lists(st.integers(0, 11), max_size=20)), dtype=torch.long)
    hidden = np.array(data.draw(st.lists(st.booleans(), min_size=60, max_size=60))).reshape(12, 5)
    dense, sparse = dense.hold_out(hidden), sparse.hold_out(hidden)
    one, other = sparse.source().take(rows), dense.source().take(rows)
    for name in ("x", "mask", "mask_modelled", "aux", "index", "incomplete"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name))
    for left, right in zip(one.observed_entries(), other.observed_entries(), strict=True):
        assert torch.equal(left, right)
    assert one.size == other.size
    same(sparse.take(rows.numpy()).hold_out(hidden[rows.numpy()]), dense.take(rows.numpy()))


def test_reasons_for_gaps() -> None:
    frame = wide()
    rows, columns = np.nonzero(frame.isna().to_numpy())
    lines = pd.DataFrame({"user": rows, "item": frame.columns[columns]})
    table = from_long(frame, auxiliary=[], by_design=lines[:5], not_applicable=lines[3:9])
    modelled, applicable = ~table.mask_modelled.numpy(), ~table.applicable.numpy()
    np.testing.assert_array_equal(np.stack(np.nonzero(modelled)), [rows[:9], columns[:9]])
    np.testing.assert_array_equal(np.stack(np.nonzero(applicable)), [rows[3:9], columns[3:9]])
    with pytest.raises(ValueError, match=r"by_design of column 'item 0': expected a gap in row 0, got a value"):
        from_long(frame, auxiliary=[], by_design=([0], [0]))
    with pytest.raises(ValueError, match=r"cells: expected a column \(item\) of the table, such as 'item 0'.*got 'x'"):
        table.hold_out(pd.DataFrame({"user": [0], "item": ["x"]}))


def test_cells_are_held_out_of_either_table_by_mask_and_by_name() -> None:
    frame = wide()
    rows, columns = (positions[10:15] for positions in np.nonzero(frame.notna().to_numpy()))
    hidden = np.zeros(frame.shape, dtype=bool)
    hidden[rows, columns] = True
    labels = pd.DataFrame({"row": rows, "column": frame.columns[columns]})
    matrix = scipy.sparse.coo_array(hidden)
    expected = Table.from_frame(frame, auxiliary=[]).hold_out(hidden)
    for table in (Table.from_frame(frame, auxiliary=[]), Table.from_sparse(matrix_of(frame), auxiliary=[])):
        named = labels if table.schema.names[0] == "item 0" else labels.assign(column=columns)
        for cells in (hidden, hidden.tolist(), pd.DataFrame(hidden), (rows, columns), matrix, named):
            held_out = table.hold_out(cells)
            for name in FIELDS:
                torch.testing.assert_close(getattr(held_out, name), getattr(expected, name), atol=1e-12, rtol=0)
        assert table.num_entries - 5 == expected.num_entries
        assert torch.equal(table.gaps_by_design().mask_modelled, table.mask)


def test_entries_of_another_mask_are_not_taken_for_this_ones() -> None:
    batch = Table.from_sparse(matrix_of(wide()), auxiliary=[]).batch()
    assert batch.observed_entries() is batch.entries
    taken = batch.take(torch.tensor([3, 1]))
    row, column, _ = taken.observed_entries()
    assert torch.equal(torch.stack([row, column]), torch.stack(taken.mask.nonzero(as_tuple=True)))


def moments(guide: PointNet, batch: Any) -> tuple[Tensor, Tensor]:
    fn = poutine.trace(guide).get_trace(batch).nodes["z"]["fn"].base_dist
    return fn.loc.detach(), fn.scale.detach()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kinds", ["continuous", "categorical"])
def test_the_set_encoder_agrees_on_sparse_and_dense(dtype: torch.dtype, kinds: str, own_store: None) -> None:
    frame = wide(40, 90, 0.1)
    if kinds == "categorical":
        frame = frame.round().clip(-1, 1)
        frame.iloc[:3] = np.array([[-1.0], [0.0], [1.0]])
    named = dict.fromkeys(frame.columns, kinds)
    dense = Table.from_frame(frame, auxiliary=[], kinds=named, dtype=dtype)
    sparse = Table.from_sparse(matrix_of(frame), columns=frame.columns, auxiliary=[], kinds=named, dtype=dtype)
    of_cells = PointNet(dense, 3, by_entry=False, seed=1).to(dtype)
    of_entries = PointNet(sparse, 3, seed=1).to(dtype)
    assert of_entries.by_entry
    few = torch.arange(5)  # fewer entries than vectors, the other way of computing h
    for rows in (torch.arange(40), few):
        expected = moments(of_cells, dense.source().take(rows))
        for one, other in zip(moments(of_entries, sparse.source().take(rows)), expected, strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_training_imputing_saving_as_with_the_dense_table(tmp_path: Any) -> None:
    frame = wide(50, 12, 0.4)
    tables = Table.from_frame(frame, auxiliary=[]), from_long(frame, auxiliary=[])
    results = []
    for table in tables:
        model = GINA(table, latent_dim=2, mechanism=SelfMasking, seed=0)
        guide = PointNet(table, 2, by_entry=True, seed=0)
        fitted = fit(model, guide, table, epochs=3, batch_size=16, held_out=0.2, progress=False)
        results.append((fitted, log_evidence(fitted, table, num_particles=20)))
    (dense, of_dense), (sparse, of_sparse) = results
    columns = ["bound", "held_out_bound"]
    np.testing.assert_allclose(sparse.history[columns], dense.history[columns], rtol=1e-8)
    np.testing.assert_allclose(of_sparse.log_p, of_dense.log_p, rtol=1e-8)

    sparse.save(tmp_path / "fit.pt")
    loaded = Fit.load(
        tmp_path / "fit.pt", GINA(tables[1], latent_dim=2, mechanism=SelfMasking), PointNet(tables[1], 2, by_entry=True)
    )
    cells = ([7, 3, 7], [np.flatnonzero(frame.iloc[row].isna())[at] for row, at in ((7, 1), (3, 0), (7, 0))])
    one, other = (impute(result, tables[1], cells=cells, num_draws=2) for result in (sparse, loaded))
    np.testing.assert_array_equal(one.draws, other.draws)

    restarted = fit(sparse.model, sparse.guide, tables[1], epochs=1, restarts=2, progress=False)
    assert len(restarted.members) == 2


@pytest.mark.slow
def test_captured_steps_take_their_rows_from_either() -> None:
    frame = wide(30, 8, 0.4)
    bounds = []
    for table in (Table.from_frame(frame, auxiliary=[]), from_long(frame, auxiliary=[])):
        model = GINA(table, latent_dim=2, mechanism=SelfMasking, seed=0)
        guide = ZeroImpute(table, 2, hidden=(4,), seed=0)
        fitted = fit(model, guide, table, epochs=2, batch_size=10, compile="graph", progress=False)
        bounds.append(fitted.history["bound"])
    np.testing.assert_allclose(*bounds, rtol=1e-8)


def test_new_rows() -> None:
    frame = wide()
    table = from_long(frame, auxiliary=[])
    new = frame.iloc[[4, 9]]
    same(table.new_rows(long_of(new), rows=new.index), table.take([4, 9]))
    of_matrix = Table.from_sparse(matrix_of(frame), auxiliary=[])
    same(of_matrix.new_rows(matrix_of(new)), of_matrix.take([4, 9]))
    with pytest.raises(ValueError, match=r"frame: expected a column \(item\) of the table"):
        table.new_rows(pd.DataFrame({"user": [1], "item": ["other"], "rating": [1.0]}))


def test_bounds_need_a_dense_table() -> None:
    sparse = from_long(wide(), auxiliary=[])
    lower = {"item 3": np.where(np.arange(60) < 30, -9.0, np.nan)}
    with pytest.raises(ValueError, match=r"table: expected a dense table, got a sparse one.*Table.from_frame"):
        sparse.bounded(lower=lower)
    dense = Table.from_frame(sparse.frame, schema=sparse.schema)  # what the message says
    same(Table.from_frame(sparse.frame, schema=sparse.schema, lower=lower), dense.bounded(lower=lower))


@pytest.mark.slow
def test_generating_and_comparing_need_no_dense_view(own_store: None) -> None:
    table = from_long(wide(), auxiliary=[], most_dense_cells=0)
    pairs = {str(dim): (GINA(table, latent_dim=dim, seed=0), PointNet(table, dim, seed=0)) for dim in (1, 2)}
    fits = {name: fit(*pair, table, epochs=1, progress=False) for name, pair in pairs.items()}
    drawn = generate(fits["1"], table)
    assert drawn.shape == (60, 30) and drawn.notna().all(axis=None)
    pd.testing.assert_index_equal(drawn.index, table.row_labels)
    pd.testing.assert_index_equal(compare(fits, table).per_row.index, table.row_labels)


def test_large_tables_have_no_dense_view() -> None:
    cells = np.random.default_rng(0).choice(30_000 * 1_000, 300, replace=False)
    ratings = scipy.sparse.coo_array((1.0 + cells % 5, np.divmod(cells, 1_000)), shape=(30_000, 1_000))
    table = Table.from_sparse(ratings, auxiliary=[])
    with pytest.raises(ValueError, match=r"sparse table of 30000 rows and 1000 columns has no dense 'x'"):
        _ = table.x
    assert repr(table).startswith("SparseTable(30000 rows, 1000 columns, 300 values observed (0.00%)")
