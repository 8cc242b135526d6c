"""Loaders of public data sets, on files of the same form that the tests write; no data come with the package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pyro_mnar.baselines.protocol import check_ratings
from pyro_mnar.datasets import Ratings, coat, eedi, long_csv, yahoo_r3
from pyro_mnar.tables.table import Table

YAHOO = "ydata-ymusic-rating-study-v1_0"


def some_cells(rows: int, columns: int, each: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of ``each`` cells in every row, ordered as the files are."""
    rng = np.random.default_rng(seed)
    picked = np.sort(rng.random((rows, columns)).argpartition(each, axis=1)[:, :each], axis=1)
    return np.repeat(np.arange(rows), each), picked.ravel()


@pytest.fixture(scope="module")
def yahoo_lines() -> dict[str, np.ndarray]:
    """User, song and rating, numbered from 1."""
    lines = {}
    for part, users, seed in (("train", 15_400, 0), ("test", 5_400, 1)):
        rows, columns = some_cells(users, 1_000, 10, seed)
        ratings = np.random.default_rng(seed).integers(1, 6, len(rows))
        lines[part] = np.stack([rows + 1, columns + 1, ratings], axis=1)
    return lines


def write_yahoo(folder: Path, lines: dict[str, np.ndarray]) -> Path:
    for part, values in lines.items():
        pd.DataFrame(values).to_csv(folder / f"{YAHOO}-{part}.txt", sep="\t", header=False, index=False)
    return folder


def write_coat(folder: Path) -> dict[str, np.ndarray]:
    """Both matrices and features, one of whose names' files is absent."""
    rng = np.random.default_rng(0)
    (folder / "user_item_features").mkdir()
    matrices = {}
    for part, each in (("train", 24), ("test", 16)):
        rows, columns = some_cells(290, 300, each, each)
        matrices[part] = np.zeros((290, 300), dtype=int)
        matrices[part][rows, columns] = rng.integers(1, 6, len(rows))
    matrices["test"][matrices["train"] > 0] = 0
    for part in ("train", "test"):
        np.savetxt(folder / f"{part}.ascii", matrices[part], fmt="%d")
    for of, shape in (("user", (290, 14)), ("item", (300, 33))):
        matrices[of] = rng.integers(0, 2, shape)
        np.savetxt(folder / "user_item_features" / f"{of}_features.ascii", matrices[of], fmt="%d")
    names = "\n".join(f"name {number}" for number in range(14))
    (folder / "user_item_features" / "user_features_map.txt").write_text(names + "\n")
    return matrices


def write_eedi(folder: Path) -> pd.DataFrame:
    """The four files where the archive has them; returns the answers."""
    rng = np.random.default_rng(0)
    (folder / "train_data").mkdir()
    (folder / "metadata").mkdir()
    rows, questions = some_cells(4_918, 948, 12, 0)
    users = np.sort(rng.permutation(6_148)[:4_918])  # the other numbers are those of the challenge's test sets
    choice, right = rng.integers(1, 5, len(rows)), rng.integers(1, 5, 948)[questions]
    answers = pd.DataFrame(
        {
            "QuestionId": questions,
            "UserId": users[rows],
            "AnswerId": rng.permutation(len(rows)),
            "IsCorrect": (choice == right).astype(int),
            "CorrectAnswer": right,
            "AnswerValue": choice,
        }
    )
    answers = answers.sample(frac=1, random_state=0, ignore_index=True)
    answers.to_csv(folder / "train_data" / "train_task_3_4.csv", index=False)
    born = pd.Series(rng.integers(2002, 2012, 6_148).astype(str)) + "-09-01 00:00:00.000"
    students = pd.DataFrame({"UserId": range(6_148), "Gender": rng.integers(0, 4, 6_148), "DateOfBirth": born})
    students["PremiumPupil"] = rng.choice([0.0, 1.0, np.nan], 6_148)
    students.loc[users[0], ["Gender", "DateOfBirth"]] = [1, np.nan]
    students.loc[users[1], ["Gender", "DateOfBirth"]] = [2, "1900-01-01 00:00:00.000"]
    students.to_csv(folder / "metadata" / "student_metadata_task_3_4.csv", index=False)
    subjects = [[3, 32] if number % 2 else [3, 71, 98] for number in range(948)]
    asked = pd.DataFrame({"QuestionId": range(948), "SubjectId": map(str, subjects)})
    asked.to_csv(folder / "metadata" / "question_metadata_task_3_4.csv", index=False)
    (folder / "metadata" / "subject_metadata.csv").write_text(
        "SubjectId,Name,ParentId,Level\n3,Maths,NULL,0\n32,Number,3,1\n71,Algebra,3,1\n98,Number,71,2\n5,Data,3,1\n",
        encoding="utf-8-sig",
    )
    return answers


def replace_line(path: Path, number: int, text: str) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[number - 1] = text
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def check(data: Ratings) -> None:
    """What every consumer of ratings relies on."""
    check_ratings(data.train, data.shape)
    if len(data.test):
        check_ratings(data.test, data.shape)
    for at in (0, 1):
        labels, features = (data.row_labels, data.column_labels)[at], (data.row_features, data.column_features)[at]
        assert len(labels) == data.shape[at] and labels.is_unique
        if features is not None:
            assert len(features) == data.shape[at] and features.notna().all(axis=None)
            assert features.index.equals(pd.RangeIndex(data.shape[at]))


@pytest.mark.slow
def test_yahoo_r3(tmp_path: Path, yahoo_lines: dict[str, np.ndarray]) -> None:
    data = yahoo_r3(write_yahoo(tmp_path, yahoo_lines))
    check(data)
    assert data.shape == (15_400, 1_000) and data.source is not None
    for frame, lines in ((data.train, yahoo_lines["train"]), (data.test, yahoo_lines["test"])):
        rebuilt = np.stack([data.row_labels[frame["row"]], data.column_labels[frame["column"]], frame["value"]], axis=1)
        np.testing.assert_array_equal(rebuilt, lines)
    table = data.table(auxiliary="mask")
    assert len(table) == 15_400 and table.schema.num_columns == 1_000
    assert repr(data) == "Ratings(15400 rows, 1000 columns, 154000 to train (1.0%), 54000 to test)"


YAHOO_SPOILED = {
    "rating": ("train", "1\t14\t6", 5, "line 5: expected the rating as a whole number from 1 to 5, got 6"),
    "song": ("train", "1\t1001\t3", 5, "line 5: expected the song as a whole number from 1 to 1000, got 1001"),
    "from zero": ("train", "0\t14\t3", 2, "line 2: expected the user as a whole number from 1 to 15400, got 0"),
    "tester": ("test", "5401\t14\t3", 7, "line 7: expected the user as a whole number from 1 to 5400, got 5401"),
    "word": ("test", "1\tfour\t3", 3, "line 3: expected the song as a number, got 'four'"),
    "half": ("test", "1\t14\t3.5", 3, "line 3: expected the rating as a whole number from 1 to 5, got 3.5"),
    "blank": ("train", "", 9, "line 9: expected the user as a number, got nothing"),
    "fields": ("train", "1\t2\t3\t4", 9, "Expected 3 fields in line 9, saw 4"),
    "commas": ("test", "1,2,3", 1, "Expected 1 fields in line 2, saw 3"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", YAHOO_SPOILED)
def test_yahoo_r3_names_the_file_and_the_line(case: str, tmp_path: Path, yahoo_lines: dict[str, np.ndarray]) -> None:
    part, line, number, message = YAHOO_SPOILED[case]
    path = write_yahoo(tmp_path, yahoo_lines) / f"{YAHOO}-{part}.txt"
    replace_line(path, number, line)
    with pytest.raises(ValueError, match=message) as error:
        yahoo_r3(tmp_path)
    assert str(path) in str(error.value)


def test_yahoo_r3_checks_the_shape(tmp_path: Path, yahoo_lines: dict[str, np.ndarray]) -> None:
    lines = dict(yahoo_lines)
    lines["train"] = lines["train"][:-10]
    with pytest.raises(
        ValueError, match="expected ratings by users 1 to 15400, got none by 1 of them, among them user"
    ):
        yahoo_r3(write_yahoo(tmp_path, lines))
    lines = dict(yahoo_lines)
    lines["test"] = lines["test"][:-1]
    with pytest.raises(ValueError, match="expected 10 ratings by each user, got 9 by user 5400"):
        yahoo_r3(write_yahoo(tmp_path, lines))
    lines["test"] = np.concatenate([yahoo_lines["test"], yahoo_lines["test"][3:4]])
    with pytest.raises(ValueError, match=r"line 54001: expected each song of a user once, got .* already in line 4"):
        yahoo_r3(write_yahoo(tmp_path, lines))


@pytest.mark.parametrize("load", [yahoo_r3, coat, eedi])
def test_a_missing_file_says_where_to_get_it(load: Callable[[Path], Ratings], tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"expected the file .*, found none; .* is to be had from https://.* \("
    ):
        load(tmp_path)


def test_coat(tmp_path: Path) -> None:
    matrices = write_coat(tmp_path)
    data = coat(tmp_path)
    check(data)
    for frame, matrix in ((data.train, matrices["train"]), (data.test, matrices["test"])):
        rebuilt = np.zeros(data.shape, dtype=int)
        rebuilt[frame["row"], frame["column"]] = frame["value"]
        np.testing.assert_array_equal(rebuilt, matrix)
    assert data.row_features is not None and data.column_features is not None
    np.testing.assert_array_equal(data.row_features, matrices["user"])
    np.testing.assert_array_equal(data.column_features, matrices["item"])
    table = data.table(kinds="ordinal")
    assert len(table) == 290 and table.schema.num_columns == 300 and table.schema.num_auxiliaries == 14
    batch = next(iter(table.batches(290)))
    np.testing.assert_array_equal(batch.mask.numpy(), matrices["train"] > 0)
    seen = batch.mask[:, 0].numpy()
    stars = table.schema.columns[0].decode(batch.x[:, 0].numpy())
    np.testing.assert_allclose(stars[seen], matrices["train"][seen, 0])
    assert data.row_features.columns[3] == "name 3" and data.column_features.columns[0] == "item feature 1"


def test_coat_does_not_test_on_what_it_trains_on(tmp_path: Path) -> None:
    matrices = write_coat(tmp_path)
    rows, columns = matrices["train"].nonzero()
    doubled = matrices["test"].copy()
    doubled[rows[::20], columns[::20]] = matrices["train"][rows[::20], columns[::20]]
    doubled[rows[0], columns[0]] = doubled[rows[0], columns[0]] % 5 + 1
    np.savetxt(tmp_path / "test.ascii", doubled, fmt="%d")
    message = rf"Coat: 348 of {(doubled > 0).sum()} cells to test on .* \(1 of them with another rating\)"
    with pytest.warns(UserWarning, match=message):
        data = coat(tmp_path)
    rebuilt = np.zeros(data.shape, dtype=int)
    rebuilt[data.test["row"], data.test["column"]] = data.test["value"]
    np.testing.assert_array_equal(rebuilt, matrices["test"])


@pytest.mark.parametrize(
    ("file", "number", "line", "message"),
    [
        ("train.ascii", 3, "0 1 2", "line 3: expected 300 numbers, got 3"),
        ("test.ascii", 290, " ".join(["0"] * 299 + ["6"]), "line 290, column 300: expected a rating as a whole .*'6'"),
        ("train.ascii", 1, "", "expected 290 lines, got 289"),
        ("user_item_features/item_features.ascii", 2, " ".join(["2"] * 33), "line 2, column 1: expected a feature"),
    ],
)
def test_coat_names_the_file_and_the_line(file: str, number: int, line: str, message: str, tmp_path: Path) -> None:
    write_coat(tmp_path)
    replace_line(tmp_path / file, number, line)
    with pytest.raises(ValueError, match=message) as error:
        coat(tmp_path)
    assert str(tmp_path / file) in str(error.value)


def test_eedi(tmp_path: Path) -> None:
    answers = write_eedi(tmp_path)
    data = eedi(tmp_path)
    check(data)
    assert data.shape == (4_918, 948) and not len(data.test)
    np.testing.assert_array_equal(data.row_labels[data.train["row"]], answers["UserId"])
    np.testing.assert_array_equal(data.train[["column", "value"]], answers[["QuestionId", "IsCorrect"]])
    known, taught = data.row_features, data.column_features
    assert known is not None and taught is not None
    assert known["gender"][:2].tolist() == ["female", "male"] and known["birth_unknown"][:3].tolist() == [1, 1, 0]
    assert known["born"][0] == known["born"][1] == np.median(known["born"][2:])
    assert set(known["premium_pupil"]) == {"no", "yes", "unknown"}
    assert taught.columns.tolist() == ["Maths", "Number (32)", "Algebra", "Number (98)"]
    assert taught.loc[1].tolist() == [True, True, False, False] and taught.loc[2].tolist() == [True, False, True, True]
    assert Table.from_frame(known, auxiliary=list(known)[1:]).aux.shape == (4_918, 4)

    parts = data.split(0.1, seed=3)
    assert len(parts.test) == round(0.1 * len(answers)) and len(parts.train) + len(parts.test) == len(answers)
    rejoined = pd.concat([parts.train, parts.test]).sort_values(["row", "column"], ignore_index=True)
    pd.testing.assert_frame_equal(rejoined, data.train.sort_values(["row", "column"], ignore_index=True))
    pd.testing.assert_frame_equal(data.split(0.1, seed=3).test, parts.test)
    assert not data.split(0.1, seed=4).test.equals(parts.test)
    with pytest.raises(ValueError, match="share: expected a share above 0 and below 1, got 1"):
        data.split(1.0, seed=0)


@pytest.mark.parametrize(
    ("file", "number", "line", "message"),
    [
        ("train_data/train_task_3_4.csv", 4, "948,1,0,1,2,2", "line 4: expected QuestionId as a whole .* 947, got 948"),
        ("train_data/train_task_3_4.csv", 4, "0,1,0,2,2,2", "line 4: expected IsCorrect as a whole .* to 1, got 2"),
        ("train_data/train_task_3_4.csv", 1, "a,b,c,d,e,f", "line 1: expected a column 'QuestionId', got"),
        ("train_data/train_task_3_4.csv", 4, "0,9999,0,1,2,2", "expected answers of 4918 students, got 4919"),
        ("metadata/student_metadata_task_3_4.csv", 9, "7,4,,", "line 9: expected Gender as a whole .* to 3, got 4"),
        ("metadata/student_metadata_task_3_4.csv", 9, "7,1,long ago,", "line 9: expected DateOfBirth as a date"),
        ("metadata/question_metadata_task_3_4.csv", 2, "0,Maths", "line 2: expected SubjectId as a list such as"),
        ("metadata/question_metadata_task_3_4.csv", 2, "0,[4]", "line 2: expected subjects of subject_metadata.csv"),
    ],
)
def test_eedi_names_the_file_and_the_line(file: str, number: int, line: str, message: str, tmp_path: Path) -> None:
    write_eedi(tmp_path)
    replace_line(tmp_path / file, number, line)
    with pytest.raises(ValueError, match=message) as error:
        eedi(tmp_path)
    assert str(tmp_path / file) in str(error.value)


class TestLongCSV:
    def test_labels_features_and_new_rows(self, tmp_path: Path) -> None:
        (tmp_path / "train.csv").write_text("who,what,stars,when\nzoe,b,4,1\nadam,c,2,2\nzoe,a,5,3\n")
        (tmp_path / "test.csv").write_text("stars,who,what\n1,bea,d\n3,zoe,c\n")
        (tmp_path / "people.csv").write_text("age,who\n30,zoe\n40,adam\n50,bea\n60,carl\n")
        data = long_csv(
            tmp_path / "train.csv",
            row="who",
            column="what",
            value="stars",
            test=tmp_path / "test.csv",
            row_features=tmp_path / "people.csv",
        )
        check(data)
        assert data.shape == (4, 4) and data.source is None
        assert data.row_labels.tolist() == ["adam", "bea", "carl", "zoe"] and data.column_labels.tolist() == list(
            "abcd"
        )
        assert data.train.to_numpy().tolist() == [[3, 1, 4], [0, 2, 2], [3, 0, 5]]
        assert data.test.to_numpy().tolist() == [[1, 3, 1], [3, 2, 3]]
        assert (data.train.dtypes == "int64").all()
        assert data.row_features is not None and data.row_features["age"].tolist() == [40, 50, 60, 30]

    def test_numbers_as_labels_and_fractions_as_values(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("userId;movieId;rating\n10;7;3.5\n2;7;4\n")
        data = long_csv(tmp_path / "a.csv", row="userId", column="movieId", value="rating", separator=";")
        assert data.row_labels.tolist() == [2, 10] and data.train["value"].tolist() == [3.5, 4.0]
        assert not len(data.test) and data.test.columns.tolist() == ["row", "column", "value"]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "expected lines, got an empty file"),
            ("r,c\n1,2\n", r"line 1: expected a column 'v', got \['r', 'c'\]"),
            ("r,c,v\n1,2,3\n1,2,4\n", r"line 3: expected each cell once, got r 1, c 2 already in line 2"),
            ("r,c,v\n1,2,3\n1,3,x\n", "line 3: expected v as a number, got 'x'"),
            ("r,c,v\n1,2,3\n,3,4\n", "line 3: expected a value of 'r', got nothing"),
            ("r,c,v\n1,2,3,5\n", "line 2: expected as many fields as in the header, 3, got more"),
            ("r,c,v\n1,2,3\n1,3,4,5\n", "Expected 3 fields in line 3, saw 4"),
        ],
    )
    def test_names_the_line(self, text: str, message: str, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text(text)
        with pytest.raises(ValueError, match=message):
            long_csv(tmp_path / "a.csv", row="r", column="c", value="v")

    def test_features_fit_the_ratings(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("r,c,v\n1,2,3\n5,2,4\n")
        (tmp_path / "b.csv").write_text("r,age\n1,30\n")
        (tmp_path / "c.csv").write_text("r,age\n1,30\n5,\n")
        (tmp_path / "d.csv").write_text("r,age\none,30\nfive,20\n")
        names = {"row": "r", "column": "c", "value": "v"}
        with pytest.raises(ValueError, match=r"b\.csv: expected a line for every r, got none for 5"):
            long_csv(tmp_path / "a.csv", row_features=tmp_path / "b.csv", **names)
        with pytest.raises(ValueError, match=r"c\.csv, line 3: expected a value of 'age', got nothing"):
            long_csv(tmp_path / "a.csv", row_features=tmp_path / "c.csv", **names)
        with pytest.raises(ValueError, match="column 'r': expected labels of one kind in all files"):
            long_csv(tmp_path / "a.csv", row_features=tmp_path / "d.csv", **names)
        with pytest.raises(ValueError, match=r"row, column, value: expected three headers, got \['r', 'r', 'v'\]"):
            long_csv(tmp_path / "a.csv", row="r", column="r", value="v")
