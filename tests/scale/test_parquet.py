"""Parquet files, row group by row group, give what the whole table gives."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_mnar import Table

parquet = pytest.importorskip("pyarrow.parquet")
from pyro_mnar.cli import main  # noqa: E402
from pyro_mnar.kinds import Bounded  # noqa: E402
from pyro_mnar.scale import ParquetRows, parquet_schema  # noqa: E402

NUM_ROWS = 1_003


def frame_of_every_kind(num_rows: int = NUM_ROWS) -> pd.DataFrame:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "id": np.arange(num_rows) * 1.0,
            "number": random.normal(1e6, 1.0, num_rows),  # deviations small beside the mean
            "amount": random.lognormal(size=num_rows),
            "share": random.uniform(0, 10, num_rows),
            "count": pd.array(random.poisson(30, num_rows), dtype="Int64"),
            "rank": pd.array(random.integers(1, 6, num_rows), dtype="Int64"),
            "yes": pd.array(random.random(num_rows) < 0.3, dtype="boolean"),
            "word": pd.array(random.choice(["ash", "elm", "oak"], num_rows), dtype="object"),
            "u": random.normal(size=num_rows),
            "region": random.choice(["north", "south", "west"], num_rows),
        }
    )
    for position, name in enumerate(["number", "amount", "share", "count", "rank", "yes", "word"]):
        frame.loc[position :: 7 + position, name] = pd.NA
    return frame


OPTIONS = {"auxiliary": ["u", "region"], "kinds": {"amount": "positive", "share": Bounded(0, 10), "count": "count"}}


@pytest.fixture
def folder(tmp_path):
    """Two files of row groups of different sizes."""
    frame = frame_of_every_kind()
    frame[:600].to_parquet(tmp_path / "a.parquet", row_group_size=130)
    frame[600:].to_parquet(tmp_path / "b.parquet", row_group_size=77)
    return tmp_path


def check_same_schema(found, expected):
    assert found.auxiliary_source == expected.auxiliary_source
    for one, other in zip(
        [*found.columns, *found.auxiliaries], [*expected.columns, *expected.auxiliaries], strict=True
    ):
        moments = [name for name in vars(one) if name.startswith(("mean", "std"))]
        for name in moments:
            rounding = 1e-12 if name.startswith("mean") else 1e-9
            assert getattr(one, name) == pytest.approx(getattr(other, name), rel=rounding)
        without = [{k: v for k, v in vars(c).items() if k not in moments} for c in (one, other)]
        assert without[0] == without[1]


@pytest.mark.parametrize(
    "options",
    [OPTIONS, {**OPTIONS, "auxiliary": None}, {**OPTIONS, "auxiliary": "mask"}],
    ids=["named", "complete", "mask"],
)
def test_the_streamed_schema_is_the_whole_tables(folder, options):
    check_same_schema(parquet_schema(folder, **options), Table.from_frame(frame_of_every_kind(), **options).schema)


def test_levels_that_only_one_row_group_has_are_levels(tmp_path):
    frame = pd.DataFrame(
        {"level": [1, 2] * 100 + [3] * 100, "word": ["b", "c"] * 100 + ["a"] * 100, "x": np.arange(300.0)}
    )
    frame.to_parquet(tmp_path / "t.parquet", row_group_size=100)
    schema = parquet_schema(tmp_path / "t.parquet", auxiliary=[])
    assert [column.kind.levels for column in schema.columns] == [(1, 2, 3), ("a", "b", "c"), ()]


def test_whole_numbers_of_many_values_are_no_levels(tmp_path):
    frame = pd.DataFrame({"level": np.arange(5, 305), "few": [1, 2, 3, 4] * 5 + [1] * 280})
    frame.to_parquet(tmp_path / "t.parquet", row_group_size=7)
    check_same_schema(parquet_schema(tmp_path, auxiliary=[]), Table.from_frame(frame, auxiliary=[]).schema)


def test_what_rows_cannot_teach_is_carried_as_in_a_frame(tmp_path):
    x, names = np.linspace(0, 1, 300) ** 2, [f"p{i}" for i in range(300)]
    frame = pd.DataFrame({"row": np.arange(300), "name": names, "Unnamed: 0": np.arange(1, 301), "x": x, "y": x})
    frame.to_parquet(tmp_path / "t.parquet", row_group_size=7)
    said = "carried through.*'row' .the rows, counted from 0.*'name' .more than 100 different.*'Unnamed: 0' .the index"
    with pytest.warns(UserWarning, match=said):
        streamed = parquet_schema(tmp_path, auxiliary=[], carry=["y"])
    with pytest.warns(UserWarning, match="carried through"):
        check_same_schema(streamed, Table.from_frame(frame, auxiliary=[], carry=["y"]).schema)
    assert streamed.names == ["x"]
    assert streamed.names_of("carried") == ["y", "row", "name", "Unnamed: 0"]


def test_columns_of_one_value_and_of_none_are_named_as_in_a_frame(tmp_path):
    frame = pd.DataFrame({"same": [0.1] * 7, "x": [1.0, 2.0, None, 4.0, 5.0, 6.0, 7.0]})
    frame.to_parquet(tmp_path / "t.parquet", row_group_size=3)
    with pytest.warns(UserWarning, match=r"constant columns, kept in their own units: \['same'\]"):
        streamed = parquet_schema(tmp_path, auxiliary=[])
    with pytest.warns(UserWarning, match=r"constant columns, kept in their own units: \['same'\]"):
        check_same_schema(streamed, Table.from_frame(frame, auxiliary=[]).schema)
    frame.assign(none=pd.Series([None] * 7, dtype="float64")).to_parquet(tmp_path / "t.parquet", row_group_size=3)
    with pytest.raises(ValueError, match="column 'none': expected at least one observed value, got none in 7 rows"):
        parquet_schema(tmp_path, auxiliary=[])
    with pytest.raises(ValueError, match="auxiliary column 'x': expected a value in every row, got none in row 2"):
        parquet_schema(tmp_path, auxiliary=["x", "none"])


def batches_of(folder, num_workers=0, **options):
    schema = Table.from_frame(frame_of_every_kind(), **OPTIONS).schema
    rows = ParquetRows(folder, schema, batch_size=64, buffer_rows=200, **options)
    return rows, list(rows.loader(num_workers))


@pytest.mark.parametrize("seed", [None, 0])
def test_every_row_comes_once_an_epoch_as_the_table_encodes_it(folder, seed):
    rows, batches = batches_of(folder, seed=seed)
    whole = Table.from_frame(frame_of_every_kind(), **OPTIONS).batch()
    index = torch.cat([batch.index for batch in batches])
    assert sorted(index.tolist()) == list(range(NUM_ROWS))
    for name in ("x", "mask", "mask_modelled", "aux"):
        torch.testing.assert_close(torch.cat([getattr(batch, name) for batch in batches]), getattr(whole, name)[index])
    assert {batch.size for batch in batches} == {NUM_ROWS}
    sizes = {len(batch) for batch in batches}
    assert max(sizes) <= 64 and max(sizes) - min(sizes) <= 1
    assert len(batches) == len(rows) == 16
    assert (index.tolist() == list(range(NUM_ROWS))) == (seed is None)


def test_an_epoch_has_an_order_of_its_own_and_the_same_one_again(folder):
    rows, first = batches_of(folder)
    again = [batch.index.tolist() for batch in rows]
    rows.epoch = 1
    other = [batch.index.tolist() for batch in rows]
    assert [batch.index.tolist() for batch in first] == again != other


def test_no_more_than_a_buffer_and_a_row_group_is_in_memory(folder, monkeypatch):
    from pyro_mnar.tables.batch import Batch

    held, joined = [], Batch.joined.__func__
    monkeypatch.setattr(Batch, "joined", classmethod(lambda cls, b: held.append(sum(map(len, b))) or joined(cls, b)))
    batches_of(folder)
    assert max(held) <= 200 + 130 and len(held) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_and_workers_share_the_rows(folder, monkeypatch, ranks, num_workers):
    per_rank = []
    for rank in range(ranks):
        monkeypatch.setattr("pyro_mnar.scale.parquet._rank", lambda rank=rank: (rank, ranks))
        rows, batches = batches_of(folder, num_workers)
        assert len(batches) == len(rows)
        per_rank.append(batches)
    assert len({len(batches) for batches in per_rank}) == 1  # a rank with one more would wait for the others for ever
    sizes = {len(batch) for batches in per_rank for batch in batches}
    assert max(sizes) - min(sizes) <= 1
    assert sorted(i for batches in per_rank for batch in batches for i in batch.index.tolist()) == list(range(NUM_ROWS))


def test_a_damaged_row_group_is_named_and_nothing_is_written(tmp_path, capsys):
    """One bit of a page of the third group; checksums are in the file, as they are where its writer was asked."""
    frame, path = pd.DataFrame({"a": np.arange(400.0), "b": np.arange(400.0) ** 2}), tmp_path / "t.parquet"
    frame.loc[::3, "a"] = np.nan
    frame.to_parquet(path, row_group_size=100, write_page_checksum=True)
    schema = parquet_schema(path, auxiliary=[])
    column = parquet.ParquetFile(path).metadata.row_group(2).column(0)
    content = bytearray(path.read_bytes())
    content[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    path.write_bytes(content)
    for read in (
        lambda: parquet_schema(path, auxiliary=[]),
        lambda: list(ParquetRows(path, schema, batch_size=50, seed=None)),
    ):
        with pytest.raises(ValueError, match=r"t\.parquet: row group 2 \(100 rows\) cannot be read: .*CRC"):
            read()
    assert main(["impute", str(path), "--out", str(tmp_path / "out"), "--quiet"]) == 2
    told = capsys.readouterr().err
    assert "t.parquet" in told and "CRC" in told and told.count("\n") == 1
    assert not (tmp_path / "out").exists()
    path.write_bytes(content[:-9])
    with pytest.raises(ValueError, match=r"t\.parquet: its footer cannot be read"):
        parquet_schema(path, auxiliary=[])


@pytest.mark.slow
@pytest.mark.parametrize("compression", ["snappy", None])
def test_damage_without_checksums_is_named_where_it_can_be_noticed(tmp_path, compression):
    """No other error comes of it, nor of what pandas leaves in the footer; compressed pages hide the least."""
    random, path = np.random.default_rng(0), tmp_path / "t.parquet"
    frame = pd.DataFrame({"a": random.normal(size=200), "b": random.choice(["xx", "yy", "zz"], 200)})
    frame.to_parquet(path, row_group_size=50, compression=compression)
    content, told, read = path.read_bytes(), [], 0
    for at in random.integers(len(content), size=60).tolist():
        damaged = bytearray(content)
        damaged[at] ^= 1 << random.integers(8)
        path.write_bytes(damaged)
        for reader in (parquet_schema, Table.from_file):
            try:
                reader(path, auxiliary=[], carry=["b"])
            except ValueError as error:
                told.append(str(error))
            else:
                read += 1
    assert not [text for text in told if (str(path) not in text and "'a': expected" not in text) or "\n" in text]
    assert len(told) >= 20 and read >= 20, (len(told), read)


def test_what_pandas_left_in_the_footer_is_not_read(tmp_path):
    frame, path = pd.DataFrame({"a": [1.0, None, 2.5], "b": ["x", "y", "x"]}), tmp_path / "t.parquet"
    frame.to_parquet(path)
    before = parquet_schema(path, auxiliary=[])
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"index_columns"', b'?index_columns"'))
    assert path.read_bytes() != content
    assert parquet_schema(path, auxiliary=[]) == before
    assert Table.from_file(path, auxiliary=[]).schema.names == ["a", "b"]


def test_numbers_whose_squares_are_infinite_have_the_whole_tables_units(tmp_path):
    frame = pd.DataFrame({"a": [1e200, -3e200, None, 5e200] * 20, "b": np.linspace(-1e304, 1e305, 80)})
    frame.to_parquet(tmp_path / "t.parquet", row_group_size=13)
    check_same_schema(parquet_schema(tmp_path, auxiliary=[]), Table.from_frame(frame, auxiliary=[]).schema)


def test_what_is_no_table_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match="nowhere: expected a Parquet file"):
        parquet_schema(tmp_path / "nowhere")
    pd.DataFrame({"a": [1.0]}).to_parquet(tmp_path / "a.parquet")
    pd.DataFrame({"b": [1.0]}).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"b.parquet: expected the columns of the first file, \['a'\], got \['b'\]"):
        parquet_schema(tmp_path)
    pd.DataFrame({"a": []}).to_parquet(tmp_path / "none.parquet")
    with pytest.raises(ValueError, match="expected at least one row"):
        parquet_schema(tmp_path / "none.parquet")
