"""Columns that go missing together are found from the mask, and nothing else is taken for them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes

from pyro_mnar import Table
from pyro_mnar.tables.blocks import blocks_of, events, members_of
from pyro_mnar.tables.schema import Schema

ROWS = 400


def mask_and_values(rng: np.random.Generator, columns: int, rate: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    return rng.random((ROWS, columns)) < rate, rng.normal(size=(ROWS, columns))


def page_missing(missing: np.ndarray, rng: np.random.Generator, columns: list[int], share: float = 0.25) -> None:
    missing[np.ix_(rng.random(ROWS) < share, columns)] = True


@pytest.mark.parametrize("rate", [0.0, 0.1])
@pytest.mark.parametrize("seed", range(3))
def test_a_skipped_page_is_found_beside_single_gaps(rate: float, seed: int):
    rng = np.random.default_rng(seed)
    missing, values = mask_and_values(rng, 10, rate)
    page_missing(missing, rng, [1, 2, 3, 5, 6, 7])
    assert blocks_of(missing, values) == ((1, 2, 3, 5, 6, 7),)


def test_two_pages_are_two_blocks_the_larger_first():
    rng = np.random.default_rng(0)
    missing, values = mask_and_values(rng, 9, 0.03)
    page_missing(missing, rng, [0, 1, 2, 3, 4])
    page_missing(missing, rng, [6, 7, 8])
    assert blocks_of(missing, values) == ((0, 1, 2, 3, 4), (6, 7, 8))


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_gaps_at_random_are_no_block(rate: float):
    # Ten tables a rate; with these seeds none is mistaken.
    for seed in range(10):
        assert blocks_of(*mask_and_values(np.random.default_rng(seed), 6, rate)) == ()


def test_self_masked_columns_that_depend_on_each_other_are_no_block():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(1000, 1))
    values = 0.95 * z + 0.3 * rng.normal(size=(1000, 6))  # correlations of 0.9
    assert blocks_of(values > 0.5, np.where(values > 0.5, np.nan, values)) == ()
    x = load_breast_cancer().data[:, :15]  # radius, perimeter and area are nearly the same thing
    values = (x - x.mean(0)) / x.std(0)
    assert blocks_of(values > 0, np.where(values > 0, np.nan, values)) == ()


def test_reasons_that_are_not_the_mechanisms_make_no_block():
    frame = load_diabetes(as_frame=True).data.iloc[:, :4].copy()
    skipped = np.arange(len(frame)) % 4 == 0
    frame.loc[skipped, ["age", "bmi", "bp"]] = np.nan
    assert Table.from_frame(frame, auxiliary=[]).schema.blocks == (("age", "bmi", "bp"),)
    asked = dict.fromkeys(["age", "bmi", "bp"], skipped)
    for reason in ({"by_design": asked}, {"not_applicable": asked}):
        assert Table.from_frame(frame, auxiliary=[], **reason).schema.blocks == ()


def test_a_row_has_an_event_where_it_lacks_all_members_and_counts_once():
    members = members_of((("a", "b", "c"), ("b", "c")), ["a", "b", "c", "d"])
    mask = torch.tensor([[0, 0, 0, 1], [1, 0, 0, 1], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]], dtype=torch.bool)
    modelled = torch.ones_like(mask)
    modelled[4, 1] = False
    expected = [[1, 0], [0, 1], [0, 0], [1, 0], [0, 0]]
    assert events(members, mask, modelled).int().tolist() == expected


def test_a_table_describes_itself_and_its_schema_keeps_the_blocks():
    frame = load_diabetes(as_frame=True).data.iloc[:, :5].copy()
    frame.loc[frame.index[::4], ["age", "bmi", "bp"]] = np.nan
    frame.loc[frame.index[1::9], "age"] = np.nan
    table = Table.from_frame(frame)
    described = table.describe()
    together = int(frame[["age", "bmi", "bp"]].isna().all(axis=1).sum())
    assert described.loc["age", "missing_together"] == f"{together} rows with bmi, bp"
    assert described.loc["sex", "missing_together"] == ""
    assert described["missing"].tolist() == frame.isna().sum().tolist()
    assert described.loc["s1", "serves_as_u"] and not described.loc["age", "serves_as_u"]
    np.testing.assert_allclose(described["share_missing"], frame.isna().mean())
    assert Schema.from_dict(table.schema.to_dict()) == table.schema
    assert table.new_rows(frame.iloc[:20]).schema.blocks == table.schema.blocks


def test_a_table_without_blocks_says_nothing():
    frame = pd.DataFrame({"a": [1.0, np.nan, 3.0, 4.0], "b": [1.0, 2.0, 0.5, 4.0]})
    assert (Table.from_frame(frame).describe()["missing_together"] == "").all()
