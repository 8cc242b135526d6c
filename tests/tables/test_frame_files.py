"""Excel, Parquet, Feather, Stata and SPSS: in with labels and codes, out in the same format but for the gaps."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pyro_mnar import Table, fit, impute
from pyro_mnar.cli import main
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.models import GINA

ROWS = 30
QUICK = ["--epochs", "1", "--draws", "2", "--quiet", "--particles", "2"]
RNG = np.random.default_rng(0)
NUMBERS = {
    "x": RNG.normal(size=ROWS),
    "age": np.where(np.arange(ROWS) % 5, RNG.integers(20, 60, ROWS), np.nan),
    "income": np.where(np.arange(ROWS) % 4, RNG.normal(size=ROWS), np.nan),
}
WORDS = np.where(np.arange(ROWS) % 3, np.where(np.arange(ROWS) % 2, "f", "m"), None)
DAYS = [None if day % 6 == 0 else dt.date(2020, 1, 1 + day) for day in range(ROWS)]


def draws_of(path: Path, num_draws: int = 2, **options: Any) -> tuple[Table, list[Any]]:
    table = Table.from_file(path, auxiliary=["x"], **options)
    model = GINA(table, latent_dim=1, seed=0)
    trained = fit(model, ZeroImpute(table, 1, hidden=(4,), seed=0), table, epochs=1, seed=0, progress=False)
    return table, list(impute(trained, table, num_draws=num_draws, num_particles=5).frames())


def in_shell(path: Path, out: Path, *options: str) -> list[Path]:
    assert main(["impute", str(path), "--out", str(out), "--auxiliary", "x", *options, *QUICK]) == 0
    return sorted(out.glob(f"draw_*{path.suffix}"))


class TestSPSS:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        pyreadstat = pytest.importorskip("pyreadstat")
        stars = np.arange(ROWS) % 5 + 1.0
        stars[::7], stars[1::7] = -99, np.nan
        frame = pd.DataFrame({**NUMBERS, "stars": stars, "sex": np.where(WORDS == None, "", WORDS), "day": DAYS})  # noqa: E711
        frame["note"] = [f"word {row}" for row in range(ROWS)]
        frame.loc[2, "income"] = -98
        pyreadstat.write_sav(
            frame,
            tmp_path / "s.sav",
            file_label="a survey",
            column_labels={"stars": "How satisfied?"},
            variable_value_labels={
                "stars": {1: "bad", 2: "poor", 3: "fair", 4: "good", 5: "best", -99: "refused"},
                "income": {-98: "unknown"},
            },
            missing_ranges={"stars": [-99], "income": [{"lo": -99, "hi": -97}]},
            variable_measure={"stars": "ordinal", "sex": "nominal"},
        )
        return tmp_path / "s.sav"

    def test_labels_are_levels_and_codes_are_gaps(self, path: Path) -> None:
        table, frames = draws_of(path, carry=["note"])
        kind = table.schema.columns[table.schema.names.index("stars")].kind
        assert (kind.name, kind.levels) == ("ordinal", ("bad", "poor", "fair", "good", "best"))
        assert table.schema.codes_of("na_values") == {"stars": ("refused",), "income": (-98.0,)}
        for frame in frames:
            assert set(frame["stars"]) <= {"bad", "poor", "fair", "good", "best"}
            assert frame.notna().all(axis=None) and frame.loc[2, "income"] != -98
            assert (frame["age"] == frame["age"].round()).all()

    def test_comes_back_with_its_labels_formats_and_codes(self, path: Path, tmp_path: Path) -> None:
        pyreadstat = pytest.importorskip("pyreadstat")
        table, frames = draws_of(path, carry=["note"])
        table.write(frames[0], tmp_path / "own.sav")
        before, told = pyreadstat.read_sav(path, user_missing=True)
        for place in (tmp_path / "own.sav", *in_shell(path, tmp_path / "out", "--carry", "note")):
            after, told_after = pyreadstat.read_sav(place, user_missing=True)
            for what in (
                "column_names_to_labels",
                "variable_value_labels",
                "missing_ranges",
                "variable_measure",
                "original_variable_types",
                "file_label",
            ):
                assert getattr(told_after, what) == getattr(told, what), what
            assert after["stars"].isin([1, 2, 3, 4, 5]).all() and after["sex"].isin(["m", "f"]).all()
            gaps = before.isna() | (before == "") | (before == -99) | (before == -98)
            pd.testing.assert_frame_equal(after.mask(gaps), before.mask(gaps), check_dtype=False)
            assert after.notna().all(axis=None)
        with pytest.raises(ValueError, match="is there: choose another name"):
            table.write(frames[0], path)


class TestStata:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        pyreadstat = pytest.importorskip("pyreadstat")
        stars = (np.arange(ROWS) % 3 + 1.0).astype(object)
        stars[::7], stars[1::7] = "a", np.nan
        frame = pd.DataFrame({**NUMBERS, "region": stars, "day": DAYS})
        labels = {"region": {1.0: "north", 2.0: "south", 3.0: "east"}}
        pyreadstat.write_dta(
            frame, tmp_path / "s.dta", variable_value_labels=labels, missing_user_values={"region": ["a"]},
            column_labels={"region": "Where?"},
        )  # fmt: skip
        return tmp_path / "s.dta"

    def test_comes_back_with_labels_and_without_missing_letters(self, path: Path, tmp_path: Path) -> None:
        pyreadstat = pytest.importorskip("pyreadstat")
        table, frames = draws_of(path)
        assert table.schema.kinds["region"] == "categorical" and table.schema.kinds["day"] == "datetime"
        assert table.schema.codes_of("na_values") == {"region": ("a",)}
        table.write(frames[0], tmp_path / "own.dta")
        before, told = pyreadstat.read_dta(path, user_missing=True)
        for place in (tmp_path / "own.dta", *in_shell(path, tmp_path / "out")):
            after, told_after = pyreadstat.read_dta(place, user_missing=True)
            assert told_after.variable_value_labels == told.variable_value_labels
            assert told_after.original_variable_types == told.original_variable_types
            assert told_after.column_names_to_labels == told.column_names_to_labels
            assert after["region"].isin([1, 2, 3]).all() and after.notna().all(axis=None)
            seen = before["region"].isin([1.0, 2.0, 3.0])
            assert (after["region"][seen] == before["region"][seen]).all()
            pd.testing.assert_series_equal(after["day"][before["day"].notna()], before["day"].dropna())


class TestExcel:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        openpyxl = pytest.importorskip("openpyxl")
        book = openpyxl.Workbook()
        sheet = book.active
        sheet.title = "answers"
        sheet.append(["x", "age", "income", "sex", "day", "twice"])
        for row in range(ROWS):
            numbers = [NUMBERS[name][row] for name in ("x", "age", "income")]
            cells = [None if np.isnan(n) else int(n) if n == int(n) else float(n) for n in numbers]
            day = DAYS[row] and dt.datetime.combine(DAYS[row], dt.time())
            sheet.append([*cells, WORDS[row], day, f"=2*A{row + 2}"])
        sheet["B3"].font = openpyxl.styles.Font(bold=True)
        sheet["E3"].number_format = "DD.MM.YYYY"
        book.create_sheet("notes")["A1"] = "keep me"
        book.save(tmp_path / "s.xlsx")
        return tmp_path / "s.xlsx"

    def test_a_title_above_the_header_and_text_that_says_numbers_are_said(self, tmp_path: Path, capsys) -> None:
        openpyxl = pytest.importorskip("openpyxl")
        for title, expected in (
            ("A survey", "'A survey' alone over 2 columns; row 3 is"),
            (None, "saved as CSV it is"),
        ):
            book = openpyxl.Workbook()
            for row in [[title], [], ["a", "b"], *[[f"{at}.50", at / 3] for at in range(9)]][0 if title else 2 :]:
                book.active.append(row)
            book.save(tmp_path / "t.xlsx")
            assert main(["describe", str(tmp_path / "t.xlsx")]) == 2
            assert expected in capsys.readouterr().err

    def test_comes_back_with_formats_formulas_and_other_sheets(self, path: Path, tmp_path: Path) -> None:
        openpyxl = pytest.importorskip("openpyxl")
        table, frames = draws_of(path, carry=["twice"])
        assert table.schema.kinds == {"age": "continuous", "income": "continuous", "sex": "binary", "day": "datetime"}
        table.write(frames[0], tmp_path / "own.xlsx")
        before = openpyxl.load_workbook(path)
        for place in (tmp_path / "own.xlsx", *in_shell(path, tmp_path / "out", "--carry", "twice")):
            after = openpyxl.load_workbook(place)
            assert after["notes"]["A1"].value == "keep me"
            assert after["answers"]["B3"].font.bold and after["answers"]["E3"].number_format == "DD.MM.YYYY"
            for cells in zip(before["answers"].iter_rows(), after["answers"].iter_rows(), strict=True):
                for one, other in zip(*cells, strict=True):
                    assert other.value == one.value if one.value is not None else other.value is not None
            whole = [row[1].value for row in after["answers"].iter_rows(min_row=2)]
            assert all(isinstance(value, int) for value in whole)

    def test_says_the_row_of_the_sheet_and_takes_named_sheets(self, path: Path, capsys: Any) -> None:
        openpyxl = pytest.importorskip("openpyxl")
        book = openpyxl.load_workbook(path)
        book["answers"]["B5"] = "?"
        book.save(path)
        assert main(["describe", str(path), "--auxiliary", "x"]) == 2
        said = capsys.readouterr().err
        assert "s.xlsx" in said and "'age'" in said and "'?' in row 5" in said
        assert main(["describe", str(path), "--auxiliary", "x", "--na", "?", "--carry", "twice"]) == 0
        assert main(["describe", str(path), "--sheet", "answer"]) == 2
        assert "expected a sheet among ['answers', 'notes'], got 'answer'" in capsys.readouterr().err
        assert main(["describe", str(path), "--sep", ";"]) == 2
        assert "--sep: expected a file of text" in capsys.readouterr().err


class TestArrow:
    @pytest.mark.parametrize("suffix", [".parquet", ".feather"])
    def test_comes_back_with_types_and_metadata(self, suffix: str, tmp_path: Path) -> None:
        pa = pytest.importorskip("pyarrow")
        import pyarrow.feather as feather
        import pyarrow.parquet as parquet

        columns = {
            "x": pa.array(NUMBERS["x"]),
            "age": pa.array([None if np.isnan(a) else int(a) for a in NUMBERS["age"]], pa.int16()),
            "income": pa.array(NUMBERS["income"]),  # NaN and not null
            "sex": pa.array(WORDS.tolist()).dictionary_encode(),
            "day": pa.array(DAYS),
            "note": pa.array([[row] for row in range(ROWS)]),
        }
        metadata = {"about": "a survey"}
        table = pa.table(columns, metadata=metadata)
        path = tmp_path / f"s{suffix}"
        read = parquet.read_table if suffix == ".parquet" else feather.read_table
        parquet.write_table(table, path) if suffix == ".parquet" else feather.write_feather(table, str(path))
        ours, frames = draws_of(path, carry=["note"])
        ours.write(frames[0], tmp_path / f"own{suffix}")
        for place in (tmp_path / f"own{suffix}", *in_shell(path, tmp_path / "out", "--carry", "note")):
            after = read(place)
            assert after.schema.equals(read(path).schema, check_metadata=True)
            assert sum(column.null_count for column in after.columns) == 0
            for name in columns:
                for one, other in zip(table.column(name).to_pylist(), after.column(name).to_pylist(), strict=True):
                    assert one == other or one is None or one != one
        mean = read(tmp_path / "out" / f"mean{suffix}")
        assert mean.schema.field("age").type == pa.float64()


def test_csv_is_written_as_it_was_read(tmp_path: Path) -> None:
    text = 'id,x,"age"\r\n007,1.50,\r\n008,2,31\r\n009,3,42\r\n010,4,"50"\r\n'
    (tmp_path / "s.csv").write_bytes(text.encode())
    table, frames = draws_of(tmp_path / "s.csv", carry=["id"])
    table.write(frames[0], tmp_path / "own.csv")
    lines = (tmp_path / "own.csv").read_bytes().decode().split("\r\n")
    assert [*lines[:1], *lines[2:]] == [*text.split("\r\n")[:1], *text.split("\r\n")[2:]]
    assert lines[1].startswith("007,1.50,") and lines[1] != "007,1.50,"


@pytest.mark.parametrize("suffix", [".xlsx", ".parquet", ".feather", ".sav", ".dta"])
def test_a_damaged_file_is_one_line(suffix: str, tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip({".xlsx": "openpyxl", ".sav": "pyreadstat", ".dta": "pyreadstat"}.get(suffix, "pyarrow"))
    (tmp_path / f"s{suffix}").write_bytes(b"no such thing")
    assert main(["describe", str(tmp_path / f"s{suffix}")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["describe", str(tmp_path / f"absent{suffix}")]) == 2
    with pytest.raises(ValueError, match=r"expected a file that ends in one of"):
        Table.from_file(tmp_path / "s.pdf")
