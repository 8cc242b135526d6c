"""What an analysis says of one completed table: estimates, their covariance, degrees of freedom.

Results are read by what they offer, so that neither statsmodels nor scikit-learn is needed unless it is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import NDArray

from pyro_mnar.imputation.linear_models import is_linear_model, of_linear_model, refitted
from pyro_mnar.imputation.pooled import Pooled
from pyro_mnar.imputation.pooling import JointTest, combined, likelihood_ratio
from pyro_mnar.imputation.survey_regression import survey_regression
from pyro_mnar.messages import check_is, has_parts, real_array, shown, whole_number
from pyro_mnar.tables.survey import SurveyDesign

Analysis: TypeAlias = "str | Callable[[pd.DataFrame], Any] | Any"  # the last, a fitted scikit-learn linear model

_ACCEPTED = (
    "a statsmodels result, a fitted scikit-learn linear model, or a pair of estimates and their covariance (a matrix)"
    " or standard errors (a number, a list)"
)


class Estimates(NamedTuple):
    """What an analysis says of one table.

    Attributes:
        names: Of the coefficients.
        values: ``(coefficients,)``.
        covariance: ``(coefficients, coefficients)``.
        has_covariances: Whether more than its diagonal is known.
        df: Degrees of freedom of the residuals; infinite where unknown.
    """

    names: tuple[Hashable, ...]
    values: Float[NDArray, " coefficients"]
    covariance: Float[NDArray, "coefficients coefficients"]
    has_covariances: bool = True
    df: float = math.inf


def pool_frames(
    frames: Iterable[pd.DataFrame],
    analysis: Analysis,
    *,
    outcome: Hashable | None = None,
    dfcom: float | None = None,
    rule: str = "barnard-rubin",
    confidence: float = 0.95,
    note: str = "",
    design: SurveyDesign | None = None,
) -> Pooled:
    """Run an analysis on every completed table and combine what it says by Rubin's rules.

    Args:
        frames: Completed tables, from wherever.
        analysis: One of

            - a function of a frame that returns a statsmodels result, such as ``lambda frame: smf.ols("y ~ x",
              frame).fit()``, its predictions (``.get_prediction(...)``), contrasts (``.t_test(...)``) or marginal
              effects (``.get_margeff()``);
            - a function of a frame that returns a pair: estimates, and their covariance (a matrix or frame) or their
              standard errors (a number, list or Series; not variances);
            - a fitted scikit-learn ``LinearRegression`` or ``LogisticRegression`` without penalty, which is fitted
              anew to every table, with ``outcome`` naming the column that it predicts; or a function that returns one;
            - a formula such as ``"log_income ~ age + education"``, for statsmodels' least squares.
        outcome: The column that a scikit-learn model predicts.
        dfcom: Degrees of freedom that a complete table would have; by default those of the results' residuals, or
            infinite where these do not tell.
        rule: Whose degrees of freedom: ``"barnard-rubin"`` (1999) or ``"rubin"`` (1987).
        confidence: Of the intervals.
        note: What is printed below the table.
        design: How the rows were sampled, for formulas; other analyses take the columns of the frames themselves.

    Raises:
        TypeError: If a result is none of these.
        ValueError: If there are fewer than two frames, the draws name different coefficients, a pair does not fit, or a
            model has a penalty, under which coefficients have no standard errors.
    """
    run = reader(analysis, outcome, design)
    results = [run(frame) for frame in _frames(frames)]
    if not results:
        raise ValueError("frames: expected at least 2 completed tables, got none")
    first = results[0]
    for draw, result in enumerate(results):
        if result.names != first.names:
            differing = sorted({*result.names} ^ {*first.names}, key=str)
            raise ValueError(
                f"draw {draw}: expected the coefficients of draw 0, got others; they differ in"
                f" {differing or 'their order'}. A level that not every draw holds does that: declare the levels"
            )
    parts = combined(np.stack([r.values for r in results]), np.stack([r.covariance for r in results]))
    complete = min(r.df for r in results) if dfcom is None else dfcom
    whole = all(r.has_covariances for r in results)
    return Pooled(first.names, parts, complete, rule, confidence, whole, note)


def likelihood_ratio_frames(
    frames: Iterable[pd.DataFrame], full: Analysis, null: Analysis, *, num_tested: int | None = None
) -> JointTest:
    """D4: does the full model say more than the null one, which it contains (Chan and Meng, 2022)?

    Both are fitted to every completed table, and to all of these in one.

    Args:
        frames: Completed tables.
        full: A function of a frame that returns a statsmodels result with a log-likelihood, or a formula.
        null: The same, of the smaller model.
        num_tested: How many parameters the full model has more; by default how many more coefficients.

    Raises:
        TypeError: If a result has no log-likelihood ``llf``.
        ValueError: If there are fewer than two frames, or the full model has no more coefficients than the null one.
    """
    frames = list(_frames(frames))
    fits = [(_fitted(full, frame), _fitted(null, frame)) for frame in frames]
    if len(fits) < 2:
        raise ValueError(f"frames: expected at least 2 completed tables, got {len(fits)}")
    for role, one in zip(("full", "null"), fits[0], strict=True):
        if not hasattr(one, "params") or not hasattr(one, "llf"):
            raise TypeError(f"{role}: expected a formula or a function to a statsmodels result, got {shown(one)}")
    if num_tested is not None:
        num_tested = whole_number("num_tested", num_tested)
    more = num_tested if num_tested is not None else len(fits[0][0].params) - len(fits[0][1].params)
    if more < 1:
        raise ValueError(f"expected a full model of more coefficients than the null model's, got {more} more")
    stacked = pd.concat(frames, ignore_index=True)
    of_all = 2 * (_log_likelihood(_fitted(full, stacked)) - _log_likelihood(_fitted(null, stacked))) / len(frames)
    statistics = np.array([2 * (_log_likelihood(one) - _log_likelihood(other)) for one, other in fits])
    return likelihood_ratio(statistics, of_all, more, min(_residual_df(one) for one, _ in fits))


def _frames(frames: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """One after the other; TypeError for what is none."""
    if not has_parts(frames):
        raise TypeError(f"frames: expected completed tables, got {type(frames).__name__}")
    for frame in frames:
        check_is("frames", frame, pd.DataFrame)
        yield frame


def reader(
    analysis: Analysis, outcome: Hashable | None = None, design: SurveyDesign | None = None
) -> Callable[[pd.DataFrame], Estimates]:
    """An analysis as a function of a completed table to its estimates; arguments as of :func:`pool_frames`."""
    if isinstance(analysis, str) and design is not None:
        return lambda frame: estimates_of(survey_regression(analysis, frame, design), frame)
    if isinstance(analysis, str):
        return lambda frame: estimates_of(_fitted(analysis, frame), frame, outcome)
    if is_linear_model(analysis):
        return lambda frame: estimates_of(refitted(analysis, frame, outcome), frame, outcome)
    if not callable(analysis):
        raise TypeError(
            f"analysis: expected a formula, a function of a frame or a fitted scikit-learn linear model, got"
            f" {type(analysis).__name__}; of one table's results give the function that makes them, lambda frame: ..."
        )
    return lambda frame: estimates_of(analysis(frame), frame, outcome)


def estimates_of(result: Any, frame: pd.DataFrame, outcome: Hashable | None = None) -> Estimates:
    """Read what an analysis returned of a frame.

    Raises:
        TypeError: If it is nothing that :func:`pool_frames` names.
    """
    if callable(getattr(result, "cov_params", None)) and hasattr(result, "params"):
        return _of_parameters(result)
    for values, covariance, errors in (
        ("margeff", "margeff_cov", "margeff_se"),  # marginal effects
        ("predicted_mean", None, "se_mean"),  # predictions of least squares
        ("predicted", None, "se"),  # of the other models
        ("effect", None, "sd"),  # contrasts
    ):
        if hasattr(result, values) and hasattr(result, errors):
            found = getattr(result, values if covariance is None else covariance), getattr(result, errors)
            spread = np.squeeze(found[1]) if covariance is None else found[0]
            names = _names_of(result)
            return _of_pair(np.ravel(getattr(result, values)), spread, names)._replace(df=_residual_df(result))
    if is_linear_model(result):
        names, values, covariance, df = of_linear_model(result, frame, outcome)
        return Estimates(names, values, covariance, df=df)
    if isinstance(result, tuple) and len(result) == 2:
        return _of_pair(*result)
    raise TypeError(f"analysis: expected it to return {_ACCEPTED}, got {_described(result)}")


def _fitted(analysis: Analysis, frame: pd.DataFrame) -> Any:
    """The result of a formula or a function on a frame."""
    if not isinstance(analysis, str):
        return analysis(frame)
    try:
        import statsmodels.formula.api as smf
    except ImportError as error:
        raise ImportError("a formula needs statsmodels: pip install 'pyro-mnar[analysis]'") from error
    try:
        return smf.ols(analysis, frame).fit()
    except Exception as error:  # of patsy's own classes, or whatever evaluating a formula raises
        raise ValueError(
            f"analysis: cannot fit the formula {shown(analysis)}: {str(error).splitlines()[0] or type(error).__name__}"
        ) from None


def _of_parameters(result: Any) -> Estimates:
    """A statsmodels result."""
    params, covariance = result.params, result.cov_params()
    if isinstance(params, pd.DataFrame):  # one column an outcome, as of MNLogit, whose covariance goes by columns
        labels = getattr(covariance, "index", [(column, row) for column in params.columns for row in params.index])
        names = tuple(f"{outcome}: {name}" for outcome, name in labels)
    else:
        known = params.index if isinstance(params, pd.Series) else getattr(result.model, "exog_names", None)
        names = tuple(known) if known is not None and len(known) == np.size(params) else tuple(range(np.size(params)))
    values = np.ravel(np.asarray(params, dtype=np.float64), order="F")
    return Estimates(names, values, np.asarray(covariance, dtype=np.float64), df=_residual_df(result))


def _of_pair(estimates: Any, spread: Any, names: Sequence[Hashable] | None = None) -> Estimates:
    """Estimates, and their covariance or standard errors."""
    if isinstance(estimates, pd.DataFrame):
        if estimates.shape[1] != 1:
            raise ValueError(f"estimates: expected a frame of one column, got {estimates.shape[1]}")
        estimates = estimates.iloc[:, 0]
    labels = estimates.index if isinstance(estimates, pd.Series) else None
    if labels is not None and not labels.is_unique:
        raise ValueError(f"estimates: expected each name once, got {list(labels[labels.duplicated()])!r} again")
    values = real_array("estimates", estimates)
    if values.ndim > 1:
        raise ValueError(f"estimates: expected a number or one dimension, got shape {values.shape}")
    values = np.atleast_1d(values)
    spread = _aligned(spread, labels)
    if spread.ndim == 2:
        covariance, whole = spread, True
    else:
        errors = np.atleast_1d(spread)
        if (errors < 0).any():
            raise ValueError(f"standard errors: expected none below zero, got {errors.min()}")
        covariance, whole = np.diag(errors**2), len(errors) == 1
    if covariance.shape != (len(values), len(values)):
        raise ValueError(f"expected standard errors or a covariance of {len(values)} estimates, got {spread.shape}")
    if names is None:
        names = tuple(range(len(values))) if labels is None else tuple(labels)
    return Estimates(tuple(names), values, covariance, whole)


def _aligned(spread: Any, labels: pd.Index | None) -> Float[NDArray, "..."]:
    """A covariance or standard errors, in the order of the estimates' labels where both have some."""
    if isinstance(spread, pd.DataFrame) and spread.shape[1] == 1 and (labels is None or len(labels) > 1):
        spread = spread.iloc[:, 0]
    if labels is None or not isinstance(spread, pd.Series | pd.DataFrame):
        return real_array("standard errors", spread)
    for index in spread.axes:
        if set(index) != set(labels):
            raise ValueError(f"expected standard errors or a covariance of {list(labels)!r}, got {list(index)!r}")
    return np.asarray(spread.reindex(labels) if spread.ndim == 1 else spread.loc[labels, labels], dtype=np.float64)


def _names_of(result: Any) -> Sequence[Hashable] | None:
    """Names of marginal effects, of the rows that are predicted, or of contrasts."""
    if hasattr(result, "margeff"):
        return list(result.summary_frame().index)
    labels = getattr(result, "row_labels", getattr(result, "c_names", None))
    return list(labels) if labels is not None else None


def _residual_df(result: Any) -> float:
    """Of a model, a contrast, a prediction or a marginal effect, whichever it tells."""
    for holder, name in ((result, "df_resid"), (result, "df_denom"), (result, "df")):
        df = getattr(holder, name, None)
        if df is not None and np.ndim(df) == 0 and df > 0:
            return float(df)
    of_model = getattr(result, "results", None)
    return math.inf if of_model is None else _residual_df(of_model)


def _log_likelihood(result: Any) -> float:
    if not hasattr(result, "llf"):
        raise TypeError(f"expected a statsmodels result with a log-likelihood, got {type(result).__name__}")
    return float(result.llf)


def _described(result: Any) -> str:
    if isinstance(result, int | float | np.generic):
        return f"the number {result!r} alone: give its standard error too"
    if isinstance(result, np.ndarray | pd.Series):
        return f"{type(result).__name__} of shape {result.shape} alone: give its standard errors too"
    return f"a {type(result).__name__}"
