"""Coat: 290 shoppers rate coats that they chose, and coats picked at random (Schnabel et al. 2016)."""

from __future__ import annotations

import warnings
from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd

from pyro_mnar.datasets import reading
from pyro_mnar.datasets.ratings import Ratings, Source, cells

SOURCE = Source(
    name="Coat",
    address="https://www.cs.cornell.edu/~schnabts/mnar/",
    terms="for research that cites Schnabel et al. 2016; see the README.txt in the archive",
    reference="Schnabel, Swaminathan, Singh, Chandak and Joachims, Recommendations as treatments: debiasing learning"
    " and evaluation, ICML 2016",
)
SHOPPERS, COATS = 290, 300
SHOPPER_FEATURES, COAT_FEATURES = 14, 33
WITHIN = ("user_item_features",)


def coat(folder: str | PathLike[str]) -> Ratings:
    """Read ``train.ascii``, ``test.ascii`` and the features of shoppers and coats.

    Both files of ratings are matrices of 290 lines with 300 numbers, 0 where there is no rating, else 1 to 5.  Features
    are indicators (gender, age, where they live and interest in fashion of shoppers; gender, type, colour and front
    page of coats), in ``user_item_features/user_features.ascii`` and ``.../item_features.ascii``; the files ending in
    ``_map.txt`` beside them give their names, if they are there.

    The published files hold 366 cells in both matrices, with the same ratings.  Predicting what was trained on tells
    nothing, so such cells are left out of ``test``, and a warning says how many.

    Args:
        folder: Where the archive was unpacked.

    Returns:
        300 columns, 290 rows, with both kinds of features as booleans.

    Raises:
        FileNotFoundError: If a file is not there; says where the data are to be had, and under what terms.
        ValueError: If a file has another shape or numbers outside these limits.
    """
    train, test = (_ratings(reading.find(folder, f"{part}.ascii", SOURCE)) for part in ("train", "test"))
    return Ratings(
        train=train,
        test=_unseen(test, train),
        shape=(SHOPPERS, COATS),
        row_labels=pd.RangeIndex(SHOPPERS, name="shopper"),
        column_labels=pd.RangeIndex(COATS, name="coat"),
        row_features=_features(folder, "user", (SHOPPERS, SHOPPER_FEATURES)),
        column_features=_features(folder, "item", (COATS, COAT_FEATURES)),
        source=SOURCE,
    )


def _unseen(test: pd.DataFrame, train: pd.DataFrame) -> pd.DataFrame:
    """The cells of a test set that are not among those to train on; warns where some are."""
    trained = train.set_index(["row", "column"])["value"]
    at = pd.MultiIndex.from_frame(test[["row", "column"]])
    both = at.isin(trained.index)
    if not both.any():
        return test
    differ = int((trained.reindex(at[both]).to_numpy() != test.loc[both, "value"].to_numpy()).sum())
    warnings.warn(
        f"Coat: {both.sum()} of {len(test)} cells to test on are also among those to train on"
        f" ({differ or 'none'} of them with another rating); they are left out of test",
        stacklevel=3,
    )
    return test[~both].reset_index(drop=True)


def _ratings(path: Path) -> pd.DataFrame:
    matrix = reading.read_matrix(path, (SHOPPERS, COATS), least=0, most=5, what="a rating")
    rows, columns = np.nonzero(matrix)
    return cells(rows, columns, matrix[rows, columns])


def _features(folder: str | PathLike[str], of: str, shape: tuple[int, int]) -> pd.DataFrame:
    path = reading.find(folder, f"{of}_features.ascii", SOURCE, within=WITHIN)
    indicators = reading.read_matrix(path, shape, least=0, most=1, what="a feature").astype(bool)
    return pd.DataFrame(indicators, columns=_names(path.with_name(f"{of}_features_map.txt"), of, shape[1]))


def _names(path: Path, of: str, count: int) -> list[str]:
    """A line a name; numbers where the file is absent or its lines are no names of the features, each once."""
    numbered = [f"{of} feature {number}" for number in range(1, count + 1)]
    if not path.is_file():
        return numbered
    names = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return names if len(names) == len(set(names)) == count else numbered
