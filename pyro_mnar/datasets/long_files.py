"""Any file of ratings, answers or measurements with one line an observed cell."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd

from pyro_mnar.datasets import reading
from pyro_mnar.datasets.ratings import Ratings, cells, no_cells
from pyro_mnar.messages import path_of, shown


def long_csv(
    path: str | PathLike[str],
    *,
    row: str,
    column: str,
    value: str,
    test: str | PathLike[str] | None = None,
    row_features: str | PathLike[str] | None = None,
    column_features: str | PathLike[str] | None = None,
    separator: str = ",",
) -> Ratings:
    """Read a file with a header and one line an observed cell, such as MovieLens' ``ratings.csv``.

    Args:
        path: The file.
        row: Header of the column that says who (a rater, a student, a patient).
        column: Header of the column that says what (an item, a question, a test).
        value: Header of the column of numbers.
        test: Another such file, of cells to be predicted; its rows and columns may be new.
        row_features: A file with the header ``row`` and what is known of each of them, without gaps: further columns
            of numbers or words, one line a row.  Rows without ratings count as rows if they stand here.
        column_features: The same of each column.
        separator: Between fields, in all files.

    Returns:
        Rows and columns in the order of their labels.

    Raises:
        FileNotFoundError: If a file is not there.
        ValueError: If a header is absent, a cell stands in two lines, a label or number is missing, or a row has
            ratings and no features.
    """
    if not isinstance(separator, str) or len(separator) != 1 or separator in "\r\n" or not separator.isascii():
        raise ValueError(f"separator: expected one ASCII character, got {shown(separator)}")
    train = _long(path_of("path", path), (row, column, value), separator)
    apart = _long(path_of("test", test), (row, column, value), separator) if test is not None else no_cells(train)
    features = [
        _features(path_of(what, file), key, separator) if file is not None else None
        for file, key, what in ((row_features, row, "row_features"), (column_features, column, "column_features"))
    ]
    labels = [
        _labels([train[key], apart[key], *([] if known is None else [known.index.to_series()])], key)
        for key, known in zip((row, column), features, strict=True)
    ]
    ordered = [
        None if known is None else _in_order(known, index, Path(str(file)))
        for known, index, file in zip(features, labels, (row_features, column_features), strict=True)
    ]
    coded = [
        cells(labels[0].get_indexer(pd.Index(f[row])), labels[1].get_indexer(pd.Index(f[column])), f[value].to_numpy())
        for f in (train, apart)
    ]
    return Ratings(
        train=coded[0],
        test=coded[1],
        shape=(len(labels[0]), len(labels[1])),
        row_labels=labels[0],
        column_labels=labels[1],
        row_features=ordered[0],
        column_features=ordered[1],
    )


def _long(path: Path, names: tuple[str, str, str], separator: str) -> pd.DataFrame:
    if len(set(names)) < 3:
        raise ValueError(f"row, column, value: expected three headers, got {list(names)!r}")
    frame = reading.read_table(path, names, separator=separator)
    for key in names[:2]:
        _refuse_gaps(frame[key], path, key)
    reading.refuse_repeated(frame[list(names[:2])], path, what="each cell", first_line=2)
    values = reading.numbers(frame[names[2]], path, what=names[2], first_line=2)
    if (values == np.rint(values)).all():
        values = values.astype(np.int64)  # whole ratings stay whole, so that they can be levels
    return frame.assign(**{names[2]: values})


def _features(path: Path, key: str, separator: str) -> pd.DataFrame:
    header = reading.read_header(path, separator=separator)
    if key not in header:
        raise ValueError(f"{path}, line 1: expected a column {key!r}, got {header!r}")
    frame = reading.read_table(path, header, separator=separator)
    for name in header:
        _refuse_gaps(frame[name], path, name)
    reading.refuse_repeated(frame[[key]], path, what=f"each {key}", first_line=2)
    return frame.set_index(key)


def _refuse_gaps(values: pd.Series, path: Path, name: str) -> None:
    gaps = values.isna().to_numpy()
    if gaps.any():
        raise ValueError(f"{path}, line {2 + int(gaps.argmax())}: expected a value of {name!r}, got nothing")


def _labels(parts: list[pd.Series], key: str) -> pd.Index:
    found = pd.unique(pd.concat([part for part in parts if len(part)], ignore_index=True))
    try:
        return pd.Index(np.sort(found), name=key)
    except TypeError:  # numbers in one file, words in another
        raise ValueError(f"column {key!r}: expected labels of one kind in all files, got numbers and words") from None


def _in_order(features: pd.DataFrame, labels: pd.Index, path: Path) -> pd.DataFrame:
    absent = labels.difference(features.index)
    if len(absent):
        raise ValueError(f"{path}: expected a line for every {labels.name}, got none for {absent.tolist()[0]!r}")
    return features.loc[labels].reset_index(drop=True)
