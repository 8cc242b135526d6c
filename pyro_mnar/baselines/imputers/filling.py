"""Single imputation (Appendix A): zeros, means, regressions, neighbours, forests, chained equations.

scikit-learn's imputers, on standardised columns and beside the auxiliary ones, behind the interface that all share.
All of them take missingness for ignorable.  scikit-learn takes as long to import as torch, so it waits for a fit.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pyro_mnar.baselines.protocol import check_table, completed, predictors_of
from pyro_mnar.memory import check_room
from pyro_mnar.messages import check_function, seed_of, shown, whole_number
from pyro_mnar.tables.table import Table

MOST_SEEDS = 2**32  # that NumPy's older generators take, which scikit-learn has
LEAST_BYTES_OF_TREE = 1000.0


@dataclass(frozen=True)
class ScikitLearn:
    """Any imputer of scikit-learn.

    Attributes:
        name: What tables and figures call it.
        make: Makes the imputer from a seed.
    """

    name: str
    make: Callable[[int], Any]

    def __post_init__(self) -> None:
        check_function("make", self.make)

    def complete(self, table: Table, *, seed: int) -> pd.DataFrame:
        """Fit to the table and fill its gaps."""
        from sklearn.exceptions import ConvergenceWarning

        seed = seed_of(seed) % MOST_SEEDS
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the number of rounds is each method's own
            imputer = self.make(seed)
            if not hasattr(imputer, "fit_transform"):
                raise TypeError(f"make: expected it to give an imputer with fit_transform, got {shown(imputer)}")
            x = imputer.fit_transform(predictors_of(table))
        return completed(table, np.asarray(x)[:, : table.schema.num_columns])


@dataclass(frozen=True)
class Zero:
    """Zero, in the user's units.

    Attributes:
        name: What tables and figures call it.
    """

    name: str = "zero"

    def complete(self, table: Table, *, seed: int) -> pd.DataFrame:
        """Fill the gaps by zero; the seed is not used."""
        check_table(table)
        seed_of(seed)
        zeros = np.zeros((len(table), 1))
        return completed(table, np.concatenate([column.encode(zeros) for column in table.schema.columns], axis=1))


def mean() -> ScikitLearn:
    """The column's observed mean."""
    return ScikitLearn("mean", lambda seed: _imputer("SimpleImputer", keep_empty_features=True))


def regression() -> ScikitLearn:
    """One round of least squares, each column on the others with means in their gaps."""
    return ScikitLearn(
        "regression",
        lambda seed: _chained(_least_squares(), max_iter=1, random_state=seed, keep_empty_features=True),
    )


def knn(neighbours: int = 5) -> ScikitLearn:
    """The average of the nearest rows that have the value; distances are over the columns that both rows have."""
    whole_number("neighbours", neighbours)
    return ScikitLearn("kNN", lambda seed: _imputer("KNNImputer", n_neighbors=neighbours, keep_empty_features=True))


def miss_forest(trees: int = 100, rounds: int = 10) -> ScikitLearn:
    """Chained random forests, after missForest (Stekhoven & Bühlmann 2012); leaves of five and a third of the columns
    a split, as in R's randomForest.
    """
    check_room("trees", whole_number("trees", trees), LEAST_BYTES_OF_TREE, "trees")
    whole_number("rounds", rounds)

    def make(seed: int) -> Any:
        from sklearn.ensemble import RandomForestRegressor

        forest = RandomForestRegressor(trees, min_samples_leaf=5, max_features=1 / 3, random_state=seed)
        return _chained(forest, max_iter=rounds, random_state=seed, keep_empty_features=True)

    return ScikitLearn("missForest", make)


def mice(rounds: int = 10) -> ScikitLearn:
    """Chained Bayesian ridges: the mean about which MICE (van Buuren & Groothuis-Oudshoorn 2011) draws."""
    whole_number("rounds", rounds)
    return ScikitLearn("MICE", lambda seed: _chained(max_iter=rounds, random_state=seed, keep_empty_features=True))


def _imputer(name: str, **options: Any) -> Any:
    from sklearn import impute

    return getattr(impute, name)(**options)


def _chained(*estimator: Any, **options: Any) -> Any:
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401  (registers the class)
    from sklearn.impute import IterativeImputer

    return IterativeImputer(*estimator, **options)


def _least_squares() -> Any:
    from sklearn.linear_model import LinearRegression

    return LinearRegression()
