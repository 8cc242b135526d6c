"""From pandas to tensors: every kind of gap, every index, every column name, and why a value is missing."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_mnar import Table

GAP = [1.0, np.nan, 3.0, 4.0]
ODD_INDICES = [
    pd.Index([7, 7, 7, 7]),
    pd.Index(["a", "a", "b", None]),
    pd.MultiIndex.from_tuples([(1, "a"), (1, "a"), (2, "b"), (3, "c")]),
    pd.date_range("2021-01-01", periods=4),
]


def frame_of(**columns):
    return pd.DataFrame(columns)


# Gaps ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        pd.Series(GAP),
        pd.Series(GAP, dtype="float32"),
        pd.Series([1, None, 3, 4], dtype="Int64"),
        pd.Series([1, None, 3, 4], dtype="UInt8"),
        pd.Series([1, None, 3, 4], dtype="Float32"),
        pd.Series([1, None, 3.0, 4], dtype=object),
        pd.Series([1, np.nan, 3.0, 4], dtype=object),
        pd.Series([1, pd.NA, 3.0, 4], dtype=object),
        pd.Series(pd.arrays.SparseArray(GAP)),
    ],
    ids=lambda values: str(values.dtype),
)
def test_every_kind_of_gap_is_a_gap(values):
    table = Table.from_frame(frame_of(a=values), auxiliary=[])
    assert table.mask[:, 0].tolist() == [True, False, True, True]
    assert table.x[1, 0] == 0
    assert table.schema.columns[0].mean == pytest.approx(8 / 3)


@pytest.mark.parametrize("dtype", ["boolean", object])
def test_booleans_with_gaps_are_zeros_and_ones(dtype):
    (column,) = Table.from_frame(
        frame_of(a=pd.Series([True, None, False, False], dtype=dtype)), auxiliary=[]
    ).schema.columns
    assert column.mean == pytest.approx(1 / 3)


@pytest.mark.parametrize("index", ODD_INDICES, ids=lambda index: type(index).__name__)
def test_any_index_does(index):
    frame = pd.DataFrame({"a": GAP, "b": [1, 2, -9, 4]}, index=index)
    table = Table.from_frame(
        frame, auxiliary=[], na_values={"b": [-9]}, not_applicable={"a": [False, True, False, False]}
    )
    assert table.mask.tolist() == [[True, True], [False, True], [True, False], [True, True]]
    assert table.applicable.tolist() == [[True, True], [False, True], [True, True], [True, True]]
    assert table.frame.index is index or table.frame.index.equals(index)


@pytest.mark.parametrize("names", [[0, 1], [("a", 1), ("a", 2)], ["", " "], [1.5, "1.5"]], ids=str)
def test_any_column_names_do(names):
    frame = pd.DataFrame(np.array([GAP, [1.0, 2.0, 3.0, 5.0]]).T)
    frame.columns = names
    table = Table.from_frame(frame, auxiliary=[names[1]], na_values={names[0]: [4.0]})
    assert table.schema.names == [names[0]]
    assert table.mask[:, 0].tolist() == [True, False, True, False]


def test_the_callers_frame_stays_as_it_was():
    frame = frame_of(a=GAP, b=[1, 2, -9, 4])
    before = frame.copy(deep=True)
    Table.from_frame(frame, auxiliary=[], na_values={"b": [-9]}, not_applicable={"a": [4.0]})
    pd.testing.assert_frame_equal(frame, before)


def test_tensors_follow_the_dtype_asked_for():
    assert Table.from_frame(frame_of(a=GAP), auxiliary=[]).x.dtype == torch.float64
    table = Table.from_frame(frame_of(a=GAP, u=[1, 2, 3, 4]), dtype=torch.float32)
    assert (table.x.dtype, table.aux.dtype) == (torch.float32, torch.float32)


# Gaps have reasons --------------------------------------------------------------------------------------------------


def test_codes_become_gaps_and_are_kept():
    frame = pd.DataFrame({"income": [10, -98, -99, 30], "age": GAP}, index=[5, 5, 6, 7])
    table = Table.from_frame(frame, auxiliary=[], na_values={"income": [-98, -99]})
    assert table.mask[:, 0].tolist() == [True, False, False, True]
    assert table.mask_modelled.all()
    assert table.codes["income"].isna().tolist() == [True, False, False, True]
    assert table.codes["income"].iloc[1:3].tolist() == [-98, -99]
    assert table.codes.index.equals(frame.index)
    assert table.schema.columns[0].mean == 20


@pytest.mark.parametrize("code", [-98, [-98], (-98,), {-98}, np.array([-98]), ["refused", -98]], ids=repr)
def test_codes_come_alone_or_together(code):
    table = Table.from_frame(frame_of(income=[10, -98, 20, 30]), auxiliary=[], na_values={"income": code})
    assert table.mask[:, 0].tolist() == [True, False, True, True]


def test_a_code_can_be_a_word():
    table = Table.from_frame(frame_of(income=[10, "NA", 20, 30]), auxiliary=[], na_values={"income": "NA"})
    assert table.mask[:, 0].tolist() == [True, False, True, True]
    assert table.codes["income"].iloc[1] == "NA"


@pytest.mark.parametrize("as_booleans", [list, np.array, pd.Series, lambda b: pd.array(b, dtype="boolean")])
def test_reasons_are_given_as_booleans(as_booleans):
    table = Table.from_frame(
        frame_of(a=[1.0, np.nan, np.nan, 0.0], b=[1.0, np.nan, np.nan, 4.0]),
        auxiliary=[],
        not_applicable={"a": as_booleans([False, True, False, False])},
        by_design={"b": as_booleans([False, False, True, False])},
    )
    assert table.mask.tolist() == [[True, True], [False, False], [False, False], [True, True]]
    assert table.applicable.tolist() == [[True, True], [False, True], [True, True], [True, True]]
    assert table.mask_modelled.tolist() == [[True, True], [False, True], [True, False], [True, True]]


def test_reasons_are_given_as_codes():
    frame = frame_of(a=[1.0, -1.0, -2.0, 4.0, np.nan])
    table = Table.from_frame(frame, auxiliary=[], not_applicable={"a": [-1]}, by_design={"a": [-2]})
    assert table.mask[:, 0].tolist() == [True, False, False, True, False]
    assert table.applicable[:, 0].tolist() == [True, False, True, True, True]
    assert table.mask_modelled[:, 0].tolist() == [True, False, False, True, True]


def test_booleans_may_mark_a_cell_that_holds_a_code():
    frame = frame_of(a=[1, -98, 3, 4])
    table = Table.from_frame(frame, auxiliary=[], na_values={"a": [-98]}, by_design={"a": [False, True, False, False]})
    assert table.mask_modelled[:, 0].tolist() == [True, False, True, True]


# U ------------------------------------------------------------------------------------------------------------------


def test_named_auxiliaries_are_conditioned_on_and_not_modelled():
    table = Table.from_frame(frame_of(age=[1, 2, 3, 4], income=GAP, rent=[1.0, 2.0, 3.0, 5.0]), auxiliary=["age"])
    assert table.schema.names == ["income", "rent"]
    assert table.schema.auxiliary_source == "named"
    assert table.aux.shape == (4, 1)
    assert table.aux.mean().abs() < 1e-12
    assert table.batch().incomplete.tolist() == [True, False]


def test_auxiliaries_may_be_named_by_a_pandas_index():
    frame = frame_of(age=[1, 2, 3, 4], sex=[0, 1, 0, 1], income=GAP)
    assert Table.from_frame(frame, auxiliary=frame.columns[:2]).schema.names == ["income"]


def test_complete_columns_serve_as_u_and_stay_modelled():
    table = Table.from_frame(frame_of(age=[1, 2, 3, 4], income=GAP))
    assert table.schema.auxiliary_source == "complete"
    assert [column.is_auxiliary for column in table.schema.columns] == [True, False]
    assert torch.equal(table.aux[:, 0], table.x[:, 0])


def test_no_complete_column_is_said_in_one_warning():
    with pytest.warns(UserWarning, match="no column is complete") as said:
        table = Table.from_frame(frame_of(a=GAP, b=[np.nan, 1.0, 2.0, 3.0]))
    assert len(said) == 1
    assert table.schema.auxiliary_source == "none"
    assert table.aux.shape == (4, 0)


def test_an_empty_list_of_auxiliaries_is_silent():
    table = Table.from_frame(frame_of(a=GAP, b=[1, 2, 3, 4]), auxiliary=[])
    assert table.schema.auxiliary_source == "none"
    assert table.aux.shape == (4, 0)


def test_the_mask_serves_as_u_by_name():
    table = Table.from_frame(frame_of(a=GAP, b=[1, 2, 3, 4]), auxiliary="mask")
    assert torch.equal(table.aux, table.mask.to(table.aux.dtype))
    assert table.schema.num_auxiliaries == 2


def test_constant_columns_are_allowed_and_warned_of_once():
    frame = frame_of(a=[5.0, np.nan, 5.0, 5.0], b=[7, 7, 7, 7], c=GAP)
    with pytest.warns(UserWarning, match="constant columns.*'a', 'b'") as said:
        table = Table.from_frame(frame, auxiliary=[])
    assert len(said) == 1
    assert (table.x[:, :2] == 0).all()
    with warnings.catch_warnings(action="error"):  # new rows are no news
        table.new_rows(frame.head(1))


# Files and arrays ---------------------------------------------------------------------------------------------------


def test_a_csv_file_is_the_frame_it_was_written_from(tmp_path):
    frame = frame_of(age=[1, 2, 3, 4], income=GAP, town=["a", "b", "a", "b"])
    frame.to_csv(tmp_path / "t.csv", index=False)
    table = Table.from_csv(tmp_path / "t.csv", auxiliary=["age", "town"])
    expected = Table.from_frame(frame, auxiliary=["age", "town"])
    assert table.schema == expected.schema
    assert torch.equal(table.x, expected.x)
    assert torch.equal(table.aux, expected.aux)


def test_whole_numbers_and_booleans_of_a_csv_file_stay_so_beside_gaps(tmp_path):
    (tmp_path / "t.csv").write_text("count,length,flag\n1,1.0,True\n,2.0,\n3,,False\n")
    dtypes = Table.from_csv(tmp_path / "t.csv", auxiliary=[]).frame.dtypes
    assert [str(dtype) for dtype in dtypes] == ["Int64", "float64", "boolean"]


def test_a_word_as_code_leaves_a_csv_column_numbers(tmp_path):
    (tmp_path / "t.csv").write_text("age,income\n1,10\n2,refused\n3,20.5\n4,\n")
    table = Table.from_csv(tmp_path / "t.csv", na_values={"income": ["refused"]})
    assert table.mask[:, 1].tolist() == [True, False, True, False]
    assert table.codes["income"].iloc[1] == "refused"
    assert table.schema.columns[1].mean == pytest.approx(15.25)


def test_an_arrays_columns_are_numbered_unless_named():
    array = np.array([[1.0, np.nan], [2.0, 3.0], [3.0, 4.0]])
    assert Table.from_numpy(array).schema.names == [0, 1]
    assert Table.from_numpy(array, columns=["a", ("b", 1)]).schema.names == ["a", ("b", 1)]


# Other rows ---------------------------------------------------------------------------------------------------------


def test_new_rows_are_encoded_in_the_training_tables_units_by_name():
    table = Table.from_frame(frame_of(age=[1, 2, 3, 4], income=GAP, sex=["f", "m", "f", "m"]), auxiliary=["sex"])
    new = table.new_rows(pd.DataFrame({"sex": ["m"], "income": [None], "age": [3.0]}))
    assert new.schema is table.schema
    assert new.mask.tolist() == [[True, False]]
    assert new.x[0, 0] == table.x[2, 0]
    assert new.aux.tolist() == [[1.0]]


def test_take_keeps_units_and_order_of_the_rows_asked_for():
    table = Table.from_frame(frame_of(a=GAP, b=[1, 2, -9, 4]), auxiliary=[], na_values={"b": [-9]})
    some = table.take([3, 1])
    assert torch.equal(some.x, table.x[[3, 1]])
    assert torch.equal(some.mask, table.mask[[3, 1]])
    assert some.frame.index.tolist() == [3, 1]
    assert some.codes.index.tolist() == [3, 1]
    assert len(some) == some.batch().size == 2
    assert torch.equal(table.take(np.array([False, True, False, True])).x, table.x[[1, 3]])


def test_held_out_cells_are_missing_for_a_reason_of_their_own():
    table = Table.from_frame(frame_of(a=GAP, b=[1.0, 2.0, np.nan, 4.0]), auxiliary=[])
    cells = np.zeros((4, 2), dtype=bool)
    cells[0, 0] = cells[1, 0] = True  # the first was seen, the second was missing all along
    hidden = table.hold_out(cells)
    assert hidden.mask[:2, 0].tolist() == [False, False]
    assert hidden.mask_modelled[:2, 0].tolist() == [False, True]
    assert hidden.x[0, 0] == 0
    assert hidden.frame.iloc[0, 0] == 1.0
    assert table.mask[0, 0]


# Batches ------------------------------------------------------------------------------------------------------------


@given(rows=st.integers(1, 60), batch_size=st.integers(1, 70), seed=st.none() | st.integers(0, 9))
@settings(max_examples=settings.default.max_examples * 3 // 5)
def test_batches_hold_every_row_once_in_sizes_that_differ_by_at_most_one(rows, batch_size, seed):
    table = Table.from_numpy(np.arange(rows + 1.0)[:, None], auxiliary=[]).take(range(rows))
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    batches = list(table.batches(batch_size, generator=generator))
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    index = torch.cat([batch.index for batch in batches])
    assert sorted(index.tolist()) == list(range(rows))
    assert torch.equal(torch.cat([batch.x for batch in batches]), table.x[index])
    assert {batch.size for batch in batches} == {rows}


def test_batches_are_shuffled_by_a_generator_of_their_own():
    global_state = torch.get_rng_state()
    table = Table.from_numpy(np.arange(100.0)[:, None], auxiliary=[])

    def orders(seed):
        generator = torch.Generator().manual_seed(seed)
        return [[i for b in table.batches(7, generator=generator) for i in b.index.tolist()] for _ in range(2)]

    first, second = orders(0)
    assert first != second != list(range(100))
    assert orders(0) == [first, second]
    assert orders(1) != [first, second]
    assert [i for b in table.batches(7) for i in b.index.tolist()] == list(range(100))
    assert torch.equal(torch.get_rng_state(), global_state)


def test_codes_mean_the_same_in_new_rows():
    frame = pd.DataFrame({"income": [1.0, 2.0, -99.0, 3.0, -97.0]})
    table = Table.from_frame(frame, auxiliary=[], na_values={"income": [-98, -99]}, not_applicable={"income": [-97]})
    new = table.new_rows(pd.DataFrame({"income": [-98.0, -97.0, 2.0]}))
    assert new.mask[:, 0].tolist() == [False, False, True]
    assert new.applicable[:, 0].tolist() == [True, False, True]
    assert new.schema == table.schema
    assert type(table.schema).from_dict(table.schema.to_dict()) == table.schema


def test_codes_that_stand_in_no_row_are_told():
    frame = pd.DataFrame({"income": [1.0, 2.0, -99.0, None]})
    with pytest.warns(UserWarning, match=r"na_values of column 'income': none of \['-99'\] stands in any row"):
        Table.from_frame(frame, auxiliary=[], na_values={"income": ["-99"]})


@pytest.mark.parametrize("marks", [[0, 1, 0, 1], [True, False, None, True], np.array([0.0, 1.0, 0.0, 0.0])])
def test_marks_that_are_no_booleans_are_not_taken_for_codes(marks):
    frame = pd.DataFrame({"kids": [0.0, None, 1.0, None]})
    with pytest.raises(ValueError, match="not_applicable of column 'kids': expected booleans"):
        Table.from_frame(frame, auxiliary=[], not_applicable={"kids": marks})


@pytest.mark.parametrize("reason", ["na_values", "not_applicable", "by_design"])
def test_reasons_are_given_by_column(reason):
    with pytest.raises(TypeError, match=reason):
        Table.from_frame(pd.DataFrame({"a": [1.0, None]}), auxiliary=[], **{reason: -99})


def test_gaps_are_listed_by_row_and_column():
    frame = pd.DataFrame({"a": [1.0, None, 3.0, 4.0], "b": [None, 2.0, None, 1.0]}, index=["x", "y", "z", "w"])
    table = Table.from_frame(frame, auxiliary=[], not_applicable={"b": [False, False, True, False]})
    assert table.gaps().to_dict("list") == {"row": ["x", "y"], "column": ["b", "a"]}
    lines = pd.DataFrame({"who": ["p", "q"], "when": [1, 2], "pain": [3.0, 4.0]})
    table = Table.from_long(lines, row="who", column="when", value="pain", units="table", auxiliary=[])
    assert table.gaps().to_dict("list") == {"who": ["p", "q"], "when": [2, 1]}
