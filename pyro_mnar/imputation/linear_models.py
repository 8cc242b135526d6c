"""Coefficients of scikit-learn's linear models with their covariance, which scikit-learn does not compute."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import NDArray

from pyro_mnar.messages import shown

INTERCEPT = "Intercept"


class Coefficients(NamedTuple):
    """Of one fitted model; the intercept first, if there is one."""

    names: tuple[Hashable, ...]
    values: Float[NDArray, " coefficients"]
    covariance: Float[NDArray, "coefficients coefficients"]
    df: float


def is_linear_model(model: Any) -> bool:
    """Whether this is a scikit-learn estimator with coefficients, or one that is to have some."""
    return hasattr(model, "fit") and hasattr(model, "get_params") and hasattr(model, "predict")


def refitted(model: Any, frame: pd.DataFrame, outcome: Hashable | None) -> Any:
    """The same model fitted to another frame, by the columns that it was fitted to before."""
    from sklearn.base import clone

    inputs, target = _data(model, frame, outcome)
    return clone(model).fit(inputs, target)


def of_linear_model(model: Any, frame: pd.DataFrame, outcome: Hashable | None) -> Coefficients:
    """Coefficients of a model fitted to a frame, and their covariance.

    Least squares: σ̂² (X'X)⁻¹; logistic regression of two classes: the inverse of the Fisher information.

    Raises:
        TypeError: If it is another model.
        ValueError: If it has a penalty, or was fitted to something else than named columns of the frame.
    """
    from sklearn.linear_model import LinearRegression, LogisticRegression

    if not isinstance(model, LinearRegression | LogisticRegression):
        raise TypeError(
            f"{type(model).__name__}: expected LinearRegression or LogisticRegression, whose coefficients have standard"
            " errors; of other models pool a function that returns estimates and their standard errors"
        )
    inputs, target = _data(model, frame, outcome)
    design = inputs.to_numpy(dtype=np.float64)
    names: tuple[Hashable, ...] = tuple(inputs.columns)
    values = np.ravel(model.coef_)
    if model.fit_intercept:
        design, names = np.column_stack([np.ones(len(design)), design]), (INTERCEPT, *names)
        values = np.concatenate([np.ravel(model.intercept_), values])
    if len(values) != len(names):
        raise ValueError(f"{type(model).__name__}: expected one outcome (of two classes), got several")
    df = len(design) - np.linalg.matrix_rank(design)
    if isinstance(model, LinearRegression):
        if model.positive:
            raise ValueError("LinearRegression(positive=True): its coefficients at zero have no standard errors")
        residual = target.to_numpy(dtype=np.float64) - design @ values
        weight = np.full(len(design), df / (residual @ residual))
    else:
        if model.penalty is not None and not np.isinf(model.C):
            raise ValueError("LogisticRegression: expected no penalty, C=np.inf; shrunken coefficients have no errors")
        probability = 1 / (1 + np.exp(-design @ values))
        weight = probability * (1 - probability)
    information = design.T @ (weight[:, None] * design)
    if np.linalg.matrix_rank(information) < len(names):
        raise ValueError(f"{type(model).__name__}: columns {list(inputs.columns)!r} depend on each other")
    return Coefficients(names, values, np.linalg.inv(information), float(df))


def _data(model: Any, frame: pd.DataFrame, outcome: Hashable | None) -> tuple[pd.DataFrame, pd.Series]:
    """Inputs and target of a model, from a frame."""
    name = type(model).__name__
    columns = getattr(model, "feature_names_in_", None)
    if columns is None:
        raise ValueError(
            f"{name}: expected one fitted to named columns of a frame, model.fit(frame[['x']], frame['y'])"
        )
    if outcome is None:
        raise ValueError(f"{name}: name the column that it predicts, outcome='...'")
    absent = [column for column in (*columns, outcome) if column not in frame.columns]
    if absent:
        raise ValueError(f"{name}: expected columns of the frame, {list(frame.columns)!r}, got {shown(absent)}")
    return frame[list(columns)], frame[outcome]
