"""Numbers of much the same size: told apart to the last one, or refused, and never drawn without their spread."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from pyro_mnar import Table

SPREAD = np.array([0, 400, 800, 1200, 300, 700] * 5)


def table_of(values: object, **options: object) -> Table:
    frame = pd.DataFrame({"x": np.linspace(0.0, 1.0, 30) ** 2, "y": values})
    frame["y"] = frame["y"].where(np.arange(30) % 5 > 0)
    return Table.from_frame(frame, **options)


@pytest.mark.parametrize("offset", [0, 2**40, 2**50, 2**53 + 2, -(2**53) - 1204])
def test_a_spread_is_kept_whatever_stands_before_it(offset: int) -> None:
    column = table_of(pd.Series(SPREAD + offset, dtype="Int64")).schema.columns[1]
    seen = SPREAD[np.arange(30) % 5 > 0]
    assert column.std == pytest.approx(seen.std(), rel=1e-2)
    assert column.mean - offset == pytest.approx(seen.mean(), abs=4)
    drawn = column.decode(np.array([-1.0, 0.0, 1.0])) - offset
    np.testing.assert_allclose(drawn, seen.mean() + np.array([-1, 0, 1]) * seen.std(), atol=8)


def test_the_same_in_sparse_tables() -> None:
    values = np.repeat(SPREAD[:, None] + float(2**50), 2, axis=1)
    table = Table.from_sparse(scipy.sparse.coo_matrix(values), auxiliary=[])
    assert [column.std for column in table.schema.columns] == pytest.approx([SPREAD.std()] * 2, rel=1e-2)


REFUSED = {
    "beyond what a float tells": pd.Series(SPREAD + 2**60, dtype="Int64"),
    "objects": pd.Series([10**25 + int(value) for value in SPREAD], dtype=object),
    "one number that is no float": pd.Series([2**53 + 1] * 30, dtype="Int64"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.filterwarnings("ignore:constant columns")
def test_what_a_float_does_not_tell_apart_is_refused(case: str) -> None:
    values = REFUSED[case]
    least = min(value for at, value in enumerate(values) if at % 5)
    message = rf"'y': expected numbers that a float tells apart, got .*{least}.*frame\['y'\] - {least}.*carry=\['y'\]"
    with pytest.raises(ValueError, match=message):
        table_of(values)
    with pytest.raises(ValueError, match=message.replace(str(least), str(min(values)))):
        Table.from_frame(pd.DataFrame({"x": [0.5, None, 1.5] * 10, "y": values}), auxiliary=["y"])
    assert table_of(values, carry=["y"]).schema.names == ["x"]
    assert table_of(values - least).schema.columns[1].std > 0


def test_two_whole_numbers_that_are_one_float() -> None:
    values = pd.Series([2**53, 2**53 + 1] * 15, dtype="Int64")
    with pytest.raises(ValueError, match="tells apart"):
        table_of(values, kinds={"y": "continuous"})
    column = table_of(values).schema.columns[1]  # levels are no floats
    assert column.kind.label(column.decode(column.encode(column.read(values)))).tolist() == values.tolist()


@pytest.mark.filterwarnings("ignore:constant columns")
def test_equal_numbers_may_differ_by_rounding() -> None:
    columns = [table_of(values).schema.columns[1] for values in ([0.1 + 0.2, 0.3] * 15, [2**53 + 2] * 30)]
    assert all(column.is_constant and column.std == 1.0 for column in columns)
