"""What scikit-learn hands over and takes back: arrays, frames of pandas and polars, weights of rows."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse
from jaxtyping import Float
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils.validation import validate_data

from pyro_mnar.messages import positive_number, real_array
from pyro_mnar.tables.frames import check_labels
from pyro_mnar.tables.native_frames import as_pandas

WEIGHT = "sample_weight"  # column of a table that holds weights given beside it


def read_rows(estimator: BaseEstimator, X: Any, *, reset: bool, allow_nan: bool) -> pd.DataFrame:
    """Rows as a frame of their own, checked as scikit-learn's estimators check them; columns of an array are named
    ``"x0"``, ``"x1"``, and so on.

    Args:
        estimator: Whose ``n_features_in_`` and ``feature_names_in_`` they set or have to agree with.
        X: An array, a list of lists, a frame of pandas or polars.
        reset: Whether they are set.
        allow_nan: Whether numbers may be NaN.

    Raises:
        ValueError: If columns of a frame share a name or have a boolean for one, or it is not what scikit-learn takes.
    """
    is_polars = type(X).__module__.partition(".")[0] == "polars"
    if isinstance(X, pd.DataFrame):
        check_labels(X.columns)
    if is_polars or isinstance(X, pd.DataFrame):
        validate_data(estimator, X, reset=reset, skip_check_array=True)
        frame: Any = as_pandas(X)[0].apply(_plain) if is_polars else X.copy()
        frame.columns = pd.Index(list(frame.columns), dtype=object, tupleize_cols=False)
        return frame
    dtype, finite = (None, "allow-nan") if _holds_words(X) else ("numeric", "allow-nan" if allow_nan else True)
    with np.errstate(invalid="ignore"):  # scikit-learn sums to find what is not finite, and adds inf to -inf
        values = validate_data(estimator, X, reset=reset, dtype=dtype, ensure_all_finite=finite)
    return pd.DataFrame(values, columns=[f"x{at}" for at in range(values.shape[1])]).infer_objects()


def read_weights(sample_weight: Any, num_rows: int) -> Float[NDArray, " rows"]:
    """A weight for each row; one number is every row's.

    Raises:
        ValueError: If there is not one finite number a row, or all are zero.
    """
    if isinstance(sample_weight, Real):
        return np.full(num_rows, positive_number("sample_weight", sample_weight))
    given = real_array("sample_weight", sample_weight)
    weights = check_array(given, dtype=np.float64, ensure_2d=False, input_name="sample_weight", copy=True)
    if weights.ndim != 1:
        raise ValueError(f"sample_weight: expected one number a row, got an array of shape {weights.shape}")
    check_consistent_length(np.empty(num_rows), weights)
    if num_rows and not weights.any():
        raise ValueError("sample_weight: expected a weight other than zero in some row, got zero in all")
    return weights


def weight_label(names: Sequence[Hashable]) -> str:
    """What the column of weights is called beside columns of these names."""
    label = WEIGHT
    while label in names:
        label = f"_{label}"
    return label


def as_polars(frame: pd.DataFrame) -> Any:
    """A frame as polars has it."""
    import polars as pl

    return pl.DataFrame({name: _cells(frame[name]) for name in frame.columns})


def gaps_of(frame: pd.DataFrame) -> Float[NDArray, "rows columns"]:
    """NaN where a value is missing, zero elsewhere, as ``MissingIndicator`` reads it."""
    return np.where(frame.isna().to_numpy(), np.nan, 0.0)


def _holds_words(X: Any) -> bool:
    """Whether an array or a list of lists has text among its cells."""
    if scipy.sparse.issparse(X) or np.asarray(X).dtype.kind not in "OUS":
        return False
    return any(isinstance(cell, str) for cell in np.asarray(X, dtype=object).ravel())


def _plain(values: pd.Series) -> pd.Series:
    """Whole numbers as NumPy has them, floating ones beside gaps, so that arrays of them stay numbers."""
    dtype: Any = values.dtype
    if not isinstance(dtype, pd.api.extensions.ExtensionDtype) or dtype.kind not in "iu":
        return values
    return values.astype("float64" if values.isna().any() else dtype.numpy_dtype)


def _cells(values: pd.Series) -> Any:
    """A column as polars takes it."""
    if isinstance(values.dtype, np.dtype) and values.dtype.kind in "biufM":
        return values.to_numpy()
    return [None if pd.isna(cell) else cell for cell in values.astype(object)]
