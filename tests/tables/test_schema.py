"""A schema standardises, goes back, and survives being written down."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyro_mnar import Schema, Table
from pyro_mnar.tables.columns import Auxiliary

NUMBERS = st.floats(-1e12, 1e12, allow_subnormal=False)


@given(st.lists(NUMBERS, min_size=2, max_size=30, unique=True))
def test_standardisation_goes_back_to_the_users_units(values):
    values = np.array(values)
    (column,) = Table.from_numpy(values[:, None], auxiliary=[]).schema.columns
    largest = np.abs(values).max()
    np.testing.assert_allclose(column.decode(column.encode(values)), values, rtol=1e-12, atol=1e-12 * largest)


@given(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=30, unique_by=lambda value: round(value, 3)), NUMBERS)
def test_observed_values_have_mean_zero_and_deviation_one(values, shift):
    table = Table.from_numpy(np.array([*values, np.nan])[:, None], auxiliary=[])
    observed = table.x[table.mask]
    assert abs(observed.mean()) < 1e-6
    assert abs(observed.std(correction=0) - 1) < 1e-6


def test_moments_are_those_of_the_observed_values_alone():
    (column,) = Table.from_numpy(np.array([[1.0], [3.0], [np.nan]]), auxiliary=[]).schema.columns
    assert (column.mean, column.std, column.incomplete) == (2.0, 1.0, True)


def test_moments_of_huge_numbers_do_not_overflow():
    (column,) = Table.from_numpy(np.array([[1e200], [3e200], [np.nan]]), auxiliary=[]).schema.columns
    assert column.mean == pytest.approx(2e200)
    assert column.std == pytest.approx(1e200)


@pytest.mark.parametrize("auxiliary", [None, [], "mask", ["age", "sex", "town"]])
@pytest.mark.filterwarnings("ignore:constant columns")
def test_schema_survives_a_round_trip_through_plain_data(auxiliary):
    frame = pd.DataFrame(
        {
            "age": [30, 40, 50],
            "sex": ["f", "m", "f"],
            "town": pd.Categorical(["x", "y", "x"], categories=["z", "y", "x"]),
            ("income", 1): [1.0, np.nan, 2.0],
            7: [1.0, 2.0, 2.5],
            "": [1.0, None, 1.0],
        }
    )
    if not isinstance(auxiliary, list) or not auxiliary:
        frame = frame.drop(columns=["sex", "town"])
    schema = Table.from_frame(frame, auxiliary=auxiliary).schema
    assert Schema.from_dict(schema.to_dict()) == schema


def test_a_schema_written_to_a_file_reads_back_without_running_code(tmp_path):
    frame = pd.DataFrame({"sex": ["f", "m", "f"], ("income", 1): [1.0, np.nan, 2.0]})
    schema = Table.from_frame(frame, auxiliary=["sex"]).schema
    torch.save(schema.to_dict(), tmp_path / "schema")
    assert Schema.from_dict(torch.load(tmp_path / "schema", weights_only=True)) == schema


@pytest.mark.parametrize("dtype", [object, "string", "category", "str"])
def test_text_becomes_one_indicator_per_level_beyond_the_first(dtype):
    frame = pd.DataFrame({"town": pd.Series(["b", "a", "c", "a"], dtype=dtype), "x": [1.0, None, 2.0, 3.0]})
    table = Table.from_frame(frame, auxiliary=["town"])
    assert table.schema.num_auxiliaries == 2
    assert table.aux.tolist() == [[1, 0], [0, 0], [0, 1], [0, 0]]


def test_categories_keep_their_order_and_unused_levels():
    town = pd.Categorical(["x", "y", "x"], categories=["z", "y", "x"])
    table = Table.from_frame(pd.DataFrame({"town": town, "x": [1.0, None, 2.0]}), auxiliary=["town"])
    assert table.schema.auxiliaries == (Auxiliary("town", levels=("z", "y", "x")),)
    assert table.aux.tolist() == [[0, 1], [1, 0], [0, 1]]


def test_levels_of_several_types_are_ordered_by_type():
    frame = pd.DataFrame({"grade": ["a", 2, "b", 1], "x": [1.0, None, 2.0, 3.0]})
    assert Table.from_frame(frame, auxiliary=["grade"]).schema.auxiliaries[0].levels == (1, 2, "a", "b")


def test_numbers_in_an_object_column_are_numbers_and_not_levels():
    frame = pd.DataFrame({"age": pd.Series([20, 30.5, 40], dtype=object), "x": [1.0, None, 2.0]})
    (age,) = Table.from_frame(frame, auxiliary=["age"]).schema.auxiliaries
    assert age.levels == ()
    assert age.mean == pytest.approx(90.5 / 3)


@pytest.mark.parametrize("dtype", [bool, "boolean", object])
def test_booleans_become_one_indicator(dtype):
    frame = pd.DataFrame({"flag": pd.Series([True, False, True, False], dtype=dtype), "x": [1.0, None, 2.0, 3.0]})
    table = Table.from_frame(frame, auxiliary=["flag"])
    assert table.aux.shape == (4, 1)
    assert (table.aux[:, 0] > 0).tolist() == [True, False, True, False]


def test_one_level_is_one_column_that_says_nothing():
    table = Table.from_frame(pd.DataFrame({"town": ["a", "a", "a"], "x": [1.0, None, 2.0]}), auxiliary=["town"])
    assert table.aux.tolist() == [[0], [0], [0]]
