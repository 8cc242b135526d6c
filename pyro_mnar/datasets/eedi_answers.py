"""Eedi: right and wrong answers of students to diagnostic questions (Wang et al. 2020), tasks 3 and 4; section 6.3.

4,918 students saw 948 multiple-choice questions of which each answered some; which ones, their teachers and they
themselves decided.
"""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Int
from numpy.typing import NDArray

from pyro_mnar.datasets import reading
from pyro_mnar.datasets.ratings import Ratings, Source, cells, no_cells

SOURCE = Source(
    name="Eedi, tasks 3 and 4 of the NeurIPS 2020 education challenge",
    address="https://eedi.com/projects/neurips-education-challenge",
    terms="Creative Commons BY-NC-ND 4.0",
    reference="Wang et al., Instructions and guide for diagnostic questions: the NeurIPS 2020 education challenge,"
    " arXiv:2007.12061",
)
STUDENTS, QUESTIONS = 4_918, 948
GENDERS = ("unspecified", "female", "male", "other")  # the codes 0 to 3 of the challenge's guide
BORN = (1995, 2016)  # at school from 2018 to 2020; dates outside are slips of the pen, and as good as none
LARGEST_ID = 10**9


def eedi(folder: str | PathLike[str]) -> Ratings:
    """Read ``train_task_3_4.csv`` and what is known of its students and questions.

    The files lie in the folder itself, or in ``train_data`` and ``metadata`` as in the archive:

    - ``train_task_3_4.csv``: QuestionId, UserId, IsCorrect, and columns that are not used here;
    - ``student_metadata_task_3_4.csv``: UserId, Gender, DateOfBirth, PremiumPupil, the last two with gaps;
    - ``question_metadata_task_3_4.csv``: QuestionId and SubjectId, a list such as ``[3, 71, 98]``;
    - ``subject_metadata.csv``: SubjectId and Name.

    Args:
        folder: Where the archive was unpacked.

    Returns:
        948 columns, 4,918 rows; ``value`` is 1 for a right answer, else 0.  The challenge's own test sets hold other
        students, so ``test`` is empty: :meth:`Ratings.split` sets answers apart.  ``row_features`` has no gaps:
        ``gender`` in words, ``premium_pupil`` as yes, no or unknown, ``born`` as a year (the median where it is unknown
        or impossible) and ``birth_unknown``.  ``column_features`` has a boolean a subject.

    Raises:
        FileNotFoundError: If a file is not there; says where the data are to be had, and under what terms.
        ValueError: If a line is not of that form, a student answers a question twice, or the shape is another.
    """
    path = reading.find(folder, "train_task_3_4.csv", SOURCE, within=("train_data",))
    frame = reading.read_table(path, ["QuestionId", "UserId", "IsCorrect"])
    question, user, correct = (
        reading.whole_numbers(frame[name], path, least=0, most=most, what=name, first_line=2)
        for name, most in (("QuestionId", QUESTIONS - 1), ("UserId", LARGEST_ID), ("IsCorrect", 1))
    )
    keys = pd.DataFrame({"UserId": user, "QuestionId": question})
    reading.refuse_repeated(keys, path, what="each question of a student", first_line=2)
    students, rows = np.unique(user, return_inverse=True)
    for what, count, expected in (
        ("students", len(students), STUDENTS),
        ("questions", len(np.unique(question)), QUESTIONS),
    ):
        if count != expected:
            raise ValueError(f"{path}: expected answers of {expected} {what}, got {count}")
    train = cells(rows, question, correct)
    return Ratings(
        train=train,
        test=no_cells(train),
        shape=(STUDENTS, QUESTIONS),
        row_labels=pd.Index(students, name="student"),
        column_labels=pd.RangeIndex(QUESTIONS, name="question"),
        row_features=_students(folder, students),
        column_features=_questions(folder),
        source=SOURCE,
    )


def _students(folder: str | PathLike[str], students: Int[NDArray, " rows"]) -> pd.DataFrame:
    path = reading.find(folder, "student_metadata_task_3_4.csv", SOURCE, within=("metadata",))
    frame = reading.read_table(path, ["UserId", "Gender", "DateOfBirth", "PremiumPupil"])
    user = reading.whole_numbers(frame["UserId"], path, least=0, most=LARGEST_ID, what="UserId", first_line=2)
    reading.refuse_repeated(pd.DataFrame({"UserId": user}), path, what="each student", first_line=2)
    gender = reading.whole_numbers(frame["Gender"], path, least=0, most=len(GENDERS) - 1, what="Gender", first_line=2)
    premium = frame["PremiumPupil"].fillna(2)
    codes = reading.whole_numbers(premium, path, least=0, most=2, what="PremiumPupil", first_line=2)
    dates = frame["DateOfBirth"]
    years = pd.to_datetime(dates, errors="coerce", format="mixed").dt.year.to_numpy(dtype=np.float64, na_value=np.nan)
    unread = np.isnan(years) & dates.notna().to_numpy()
    if unread.any():
        at = int(unread.argmax())
        raise ValueError(f"{path}, line {2 + at}: expected DateOfBirth as a date, got {dates.iloc[at]!r}")

    place = pd.Index(user).get_indexer(pd.Index(students))
    if (place < 0).any():
        raise ValueError(
            f"{path}: expected every student with answers, got none with UserId {students[place.argmin()]}"
        )
    years = years[place]
    unknown = ~((years >= BORN[0]) & (years <= BORN[1]))
    typical = np.median(years[~unknown]) if not unknown.all() else float(BORN[0])
    return pd.DataFrame(
        {
            "gender": pd.Categorical.from_codes(gender[place], categories=list(GENDERS)),
            "premium_pupil": pd.Categorical.from_codes(codes[place], categories=["no", "yes", "unknown"]),
            "born": np.where(unknown, typical, years),
            "birth_unknown": unknown,
        }
    )


def _questions(folder: str | PathLike[str]) -> pd.DataFrame:
    path = reading.find(folder, "question_metadata_task_3_4.csv", SOURCE, within=("metadata",))
    frame = reading.read_table(path, ["QuestionId", "SubjectId"])
    question = reading.whole_numbers(
        frame["QuestionId"], path, least=0, most=QUESTIONS - 1, what="QuestionId", first_line=2
    )
    reading.refuse_repeated(pd.DataFrame({"QuestionId": question}), path, what="each question", first_line=2)
    if len(question) != QUESTIONS:
        raise ValueError(f"{path}: expected {QUESTIONS} questions, got {len(question)}")
    names = _subjects(folder)
    subjects = [_listed(text, path, 2 + at, names) for at, text in enumerate(frame["SubjectId"].tolist())]
    taught = sorted({subject for listed in subjects for subject in listed})
    place = {subject: at for at, subject in enumerate(taught)}
    indicators = np.zeros((QUESTIONS, len(taught)), dtype=bool)
    for at, listed in zip(question, subjects, strict=True):
        indicators[at, [place[subject] for subject in listed]] = True
    return pd.DataFrame(indicators, columns=[names[subject] for subject in taught])


def _subjects(folder: str | PathLike[str]) -> dict[int, str]:
    """Name of each subject; with its number where several share the name."""
    path = reading.find(folder, "subject_metadata.csv", SOURCE, within=("metadata",))
    frame = reading.read_table(path, ["SubjectId", "Name"])
    number = reading.whole_numbers(frame["SubjectId"], path, least=0, most=LARGEST_ID, what="SubjectId", first_line=2)
    reading.refuse_repeated(pd.DataFrame({"SubjectId": number}), path, what="each subject", first_line=2)
    shared = frame["Name"].duplicated(keep=False)
    return {
        int(key): f"{name} ({key})" if several else str(name)
        for key, name, several in zip(number, frame["Name"], shared, strict=True)
    }


def _listed(text: object, path: Path, line: int, names: dict[int, str]) -> list[int]:
    try:
        listed = json.loads(str(text))
    except json.JSONDecodeError:
        listed = None
    if not isinstance(listed, list) or not all(isinstance(subject, int) for subject in listed):
        raise ValueError(f"{path}, line {line}: expected SubjectId as a list such as [3, 71, 98], got {text!r}")
    for subject in listed:
        if subject not in names:
            raise ValueError(f"{path}, line {line}: expected subjects of subject_metadata.csv, got {subject}")
    return listed
