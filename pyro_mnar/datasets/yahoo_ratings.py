"""Yahoo! R3: ratings of songs by choice, and of songs picked at random by the researchers (Marlin et al. 2009).

The training ratings are those that 15,400 users chose to give; the test ratings are those of ten random songs for each
of the first 5,400 users.  What goes missing depends on what would have been said, and the test set says by how much:
Table 1 of the paper.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd

from pyro_mnar.datasets import reading
from pyro_mnar.datasets.ratings import Ratings, Source, cells

SOURCE = Source(
    name="Yahoo! R3",
    address="https://webscope.sandbox.yahoo.com, data set R3 among the ratings",
    terms="for non-commercial research by those who signed Yahoo!'s data sharing agreement; not to be redistributed",
    reference="Marlin and Zemel, Collaborative prediction and ranking with non-random missing data, RecSys 2009",
)
USERS, SONGS = 15_400, 1_000
SURVEYED, SURVEY_SONGS = 5_400, 10  # users who rated random songs, and how many each
STEM = "ydata-ymusic-rating-study-v1_0"


def yahoo_r3(folder: str | PathLike[str]) -> Ratings:
    """Read the two files of ratings, ``ydata-ymusic-rating-study-v1_0-train.txt`` and ``...-test.txt``.

    Each line is a user, a song and a rating from 1 to 5, with tabulators between; users and songs are numbered from 1.

    Args:
        folder: Where the archive was unpacked.

    Returns:
        1,000 columns, 15,400 rows; labels are the files' own numbers.

    Raises:
        FileNotFoundError: If a file is not there; says where the data are to be had, and under what terms.
        ValueError: If a line is not of that form, a user rates a song twice, or users are missing.
    """
    train_path, test_path = (reading.find(folder, f"{STEM}-{part}.txt", SOURCE) for part in ("train", "test"))
    train, test = _ratings(train_path, USERS), _ratings(test_path, SURVEYED)
    counts = np.bincount(train["row"], minlength=USERS)
    if (counts == 0).any():
        raise ValueError(
            f"{train_path}: expected ratings by users 1 to {USERS}, got none by {int((counts == 0).sum())} of them,"
            f" among them user {int(counts.argmin()) + 1}"
        )
    counts = np.bincount(test["row"], minlength=SURVEYED)
    if (counts != SURVEY_SONGS).any():
        user = int((counts != SURVEY_SONGS).argmax())
        raise ValueError(
            f"{test_path}: expected {SURVEY_SONGS} ratings by each user, got {counts[user]} by user {user + 1}"
        )
    return Ratings(
        train=train,
        test=test,
        shape=(USERS, SONGS),
        row_labels=pd.RangeIndex(1, USERS + 1, name="user"),
        column_labels=pd.RangeIndex(1, SONGS + 1, name="song"),
        source=SOURCE,
    )


def _ratings(path: Path, users: int) -> pd.DataFrame:
    frame = reading.read_columns(path, ["user", "song", "rating"], separator="\t")
    user, song, rating = (
        reading.whole_numbers(frame[name], path, least=1, most=most, what=f"the {name}")
        for name, most in (("user", users), ("song", SONGS), ("rating", 5))
    )
    reading.refuse_repeated(pd.DataFrame({"user": user, "song": song}), path, what="each song of a user")
    return cells(user - 1, song - 1, rating)
