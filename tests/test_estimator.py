"""MNARImputer keeps scikit-learn's contract, and imputes what ``fit`` and ``impute`` would."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_wine
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import make_scorer, r2_score
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from pyro_mnar import InOrder, MissingnessGraph, MNARImputer, Table, fit, impute
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.models import GINA

QUICK = {"max_steps": 3, "num_draws": 2, "random_state": 0}
QUICK_CHECKS = {
    "check_estimator_cloneable",
    "check_no_attributes_set_in_init",
    "check_estimators_unfitted",
    "check_estimator_sparse_array",
    "check_all_zero_sample_weights_error",
}


@pytest.fixture(autouse=True)
def float32(float64: None) -> Iterator[None]:
    """As users have it."""
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


def survey(num_rows: int = 40) -> pd.DataFrame:
    """An identifier, a complete number, a number, a count and a word with gaps."""
    random = np.random.default_rng(0)
    age = random.normal(45, 12, num_rows)
    frame = pd.DataFrame(
        {
            "id": [f"p{at}" for at in range(num_rows)],
            "age": age,
            "income": 40 * age + random.normal(0, 300, num_rows),
            "children": random.integers(0, 3, num_rows).astype(float),
            "town": random.choice(["Bath", "Ely", "York"], num_rows),
        },
        index=[f"row {at}" for at in range(num_rows)],
    )
    frame.loc[frame.income > 2100, "income"] = np.nan
    frame.loc[frame.index[::5], "children"] = np.nan
    frame.loc[frame.index[::7], "town"] = None
    return frame


def numbers(num_rows: int = 40) -> np.ndarray:
    values = np.random.default_rng(1).normal(size=(num_rows, 3))
    values[::3, 1] = values[1::4, 2] = np.nan
    return values


def test_quick_checks_of_scikit_learn() -> None:
    seen, known = set(), set()
    for estimator, check in estimator_checks_generator(MNARImputer(max_steps=3)):
        name = check.func.__name__
        known.add(name)
        if name in QUICK_CHECKS:
            check(estimator)
            seen.add(name)
    assert seen == QUICK_CHECKS & known
    assert len(seen) > 3


@pytest.mark.slow
def test_all_checks_of_scikit_learn() -> None:
    """In a process of its own, with warnings as errors and without this suite's check of types: a constructor of
    scikit-learn's takes anything and ``fit`` complains.
    """
    code = """
import json, warnings
warnings.simplefilter("error")
from sklearn.utils.estimator_checks import check_estimator
from pyro_mnar import MNARImputer
results = check_estimator(MNARImputer(max_steps=3), on_fail=None, on_skip=None)
print(json.dumps([[result["check_name"], result["status"], result["expected_to_fail"]] for result in results]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert len(results) > 40
    assert not [result for result in results if result[1] == "failed" or result[2]]


def test_imputes_what_fit_and_impute_do() -> None:
    frame = survey().drop(columns="id")
    imputer = MNARImputer(graph="latent_dependent", **QUICK)
    found = imputer.set_output(transform="pandas").fit_transform(frame)
    table = Table.from_frame(frame)
    model = GINA(table, graph=MissingnessGraph.latent_dependent(table), seed=imputer.seed_)
    guide = ZeroImpute(table, model.latent_dim, seed=imputer.seed_)
    options = {"epochs": 3, "num_particles": 20, "seed": imputer.seed_, "progress": False}
    expected = impute(fit(model, guide, table, **options), table, num_draws=2, seed=imputer.seed_)
    pd.testing.assert_frame_equal(found, expected.mean(), check_column_type=False)
    pd.testing.assert_frame_equal(imputer.impute(frame).mean(), expected.mean())
    for drawn, other in zip(imputer.sample(frame, 2), expected.frames(), strict=True):
        pd.testing.assert_frame_equal(drawn, other, check_column_type=False)
    assert not np.array_equal(imputer.impute(frame, random_state=5).draws, expected.draws)


def test_what_was_seen_and_what_is_carried_come_out_as_they_went_in() -> None:
    frame = survey()
    frame.loc["row 3", "id"] = None
    imputer = MNARImputer(carry=["id"], sample_posterior=True, **QUICK).set_output(transform="pandas")
    completed = imputer.fit_transform(frame)
    assert list(completed) == list(frame) and completed.index.equals(frame.index)
    seen = frame.notna()
    pd.testing.assert_frame_equal(completed.where(seen), frame.where(seen), check_column_type=False)
    assert completed.drop(columns="id").notna().all(axis=None)
    assert pd.isna(completed.loc["row 3", "id"])
    assert set(completed["town"]) == {"Bath", "Ely", "York"}
    assert completed["children"].isin([0, 1, 2]).all()


def test_columns_of_an_array_are_named_or_counted() -> None:
    by_name = MNARImputer(auxiliary=["x0"], graph=[("x1", "R[x1]"), ("x0", "R[x2]")], kinds={"x1": "heavy_tailed"})
    by_place = MNARImputer(auxiliary=[0], graph={"x1": ["x1"], "x2": ["x0"]}, kinds={-2: "heavy_tailed"})
    results = [imputer.set_params(**QUICK).fit(numbers()) for imputer in (by_name, by_place)]
    assert [column.kind.name for column in results[1].fit_.schema.columns] == ["heavy_tailed", "continuous"]
    assert results[0].fit_.model.graph == results[1].fit_.model.graph
    np.testing.assert_array_equal(*(imputer.transform(numbers()) for imputer in results))


def test_indicators_and_names_of_columns() -> None:
    imputer = MNARImputer(add_indicator=True, **QUICK).fit(numbers())
    completed = imputer.transform(numbers())
    assert list(imputer.get_feature_names_out()) == ["x0", "x1", "x2", "missingindicator_x1", "missingindicator_x2"]
    np.testing.assert_array_equal(completed[:, 3:], np.isnan(numbers()[:, 1:]))
    simple = SimpleImputer(add_indicator=True).fit(numbers())
    assert list(imputer.get_feature_names_out(list("abc"))) == list(simple.get_feature_names_out(list("abc")))


def test_codes_that_no_column_can_hold() -> None:
    words = pd.DataFrame({"tree": pd.array(["oak", "elm"] * 20, dtype="string[pyarrow]")})
    completed = MNARImputer(missing_values=10**400, **QUICK).set_output(transform="pandas").fit_transform(words)
    assert completed.tree.tolist() == words.tree.tolist()
    with pytest.raises(ValueError, match="at least one column"):
        MNARImputer(missing_values=-1).fit(pd.DataFrame())


def test_two_columns_of_one_name() -> None:
    frame = pd.DataFrame(np.ones((4, 3)), columns=pd.Index([1, 1.0, "a"], dtype=object))
    with pytest.raises(ValueError, match=r"column 1.0: expected each name once, got it 2 times"):
        MNARImputer(**QUICK).fit(frame)


def test_codes_for_missing_values() -> None:
    coded = np.nan_to_num(numbers(), nan=-99)
    imputer = MNARImputer(missing_values=-99, add_indicator=True, **QUICK)
    np.testing.assert_array_equal(
        imputer.fit_transform(coded), MNARImputer(add_indicator=True, **QUICK).fit_transform(numbers())
    )
    assert not imputer.__sklearn_tags__().input_tags.allow_nan
    with pytest.raises(ValueError, match="contains NaN"):
        imputer.fit(numbers())
    with pytest.raises(ValueError, match="column 'income': expected gaps as missing_values=-99"):
        imputer.fit(survey()[["age", "income"]])


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.filterwarnings(
    "ignore:Currently, when `keep_empty_feature=False`:FutureWarning"
)  # SimpleImputer's before 1.8
def test_columns_without_a_value(keep: bool) -> None:
    values = np.insert(numbers(), 1, np.nan, axis=1)
    imputer = MNARImputer(keep_empty_features=keep, add_indicator=True, **QUICK)
    if keep:
        imputer.fit(values)
    else:
        with pytest.warns(UserWarning, match=r"Skipping features without any observed values: \['x1'\]"):
            imputer.fit(values)
    simple = SimpleImputer(keep_empty_features=keep, strategy="constant", fill_value=0, add_indicator=True)
    assert list(imputer.get_feature_names_out()) == [
        name for name in simple.fit(values).get_feature_names_out() if keep or name != "x1"
    ]
    completed = imputer.transform(np.nan_to_num(values[:2], nan=7.0))
    assert not keep or (completed[:, 1] == 7).all()
    assert not keep or (imputer.transform(values)[:, 1] == 0).all()
    if keep:
        with pytest.raises(ValueError, match="column 'town': has no value in training"):
            imputer.fit(survey().assign(town=pd.Categorical([None] * 40, ["Ely"])))


def test_frames_of_pandas_and_polars() -> None:
    polars = pytest.importorskip("polars")
    frame = survey().drop(columns="id").reset_index(drop=True)
    imputer = MNARImputer(add_indicator=True, **QUICK)
    plain = imputer.fit_transform(frame)
    assert isinstance(plain, np.ndarray)
    pandas = imputer.set_output(transform="pandas").transform(frame)
    assert isinstance(pandas, pd.DataFrame) and pandas["age"].dtype == float
    rows = {name: [None if pd.isna(cell) else cell for cell in frame[name]] for name in frame}
    found = clone(imputer).set_output(transform="polars").fit_transform(polars.DataFrame(rows))
    assert isinstance(found, polars.DataFrame)
    assert found.columns == list(pandas)
    assert found["town"].to_list() == list(pandas["town"])
    np.testing.assert_array_equal(found["income"].to_numpy(), pandas["income"])


@pytest.mark.slow
def test_in_pipelines_and_searches() -> None:
    rows, outcome = numbers(60), np.random.default_rng(2).normal(size=60)
    quick = MNARImputer(auxiliary=[0], **QUICK)
    pipeline = make_pipeline(StandardScaler(), quick, LinearRegression())
    assert np.isfinite(cross_val_score(pipeline, rows, outcome, cv=KFold(2))).all()
    grid = {
        "mnarimputer__graph": ["mcar", MissingnessGraph([("x1", "R[x1]")])],
        "mnarimputer__kinds": [None, {"x1": "heavy_tailed"}],
    }
    search = GridSearchCV(pipeline, grid, cv=KFold(2), error_score="raise").fit(rows, outcome)
    assert len(search.cv_results_["params"]) == 4
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_in_a_column_transformer() -> None:
    frame = survey()
    parts = ColumnTransformer(
        [("mnar", MNARImputer(**QUICK), ["age", "income", "children"])],
        remainder="drop",
        verbose_feature_names_out=False,
    )
    completed = parts.set_output(transform="pandas").fit_transform(frame)
    assert list(completed) == ["age", "income", "children"]
    LogisticRegression().fit(completed, np.arange(len(frame)) % 2)


def test_copies_give_the_same_numbers() -> None:
    imputer = MNARImputer(constraints=[InOrder("x1", "x2")], auxiliary=[], **QUICK)
    values = np.sort(numbers(), axis=1)
    values[::3, 1] = np.nan
    completed = imputer.fit_transform(values)
    assert (completed[:, 1] <= completed[:, 2]).all()
    np.testing.assert_array_equal(clone(imputer).fit_transform(values), completed)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(imputer)).transform(values), completed)


def test_new_rows_may_have_gaps_in_columns_that_are_not_u() -> None:
    values, new = numbers(), numbers()
    new[0, 0] = np.nan
    with pytest.raises(ValueError, match=r"column 'x0': was complete in training.*auxiliary=\["):
        MNARImputer(**QUICK).fit(values).transform(new)
    assert np.isfinite(MNARImputer(auxiliary=[], **QUICK).fit(values).transform(new)).all()
    complete = np.nan_to_num(values)
    assert np.isfinite(MNARImputer(**QUICK).fit(complete).transform(new)).all()


def test_what_is_refused_names_the_argument(no_type_checker: None) -> None:
    with pytest.raises(ValueError, match="carry: column 'none': expected one of"):
        MNARImputer(carry=["none"]).fit(numbers())
    with pytest.raises(TypeError, match="carry: expected a list of columns, got 'id'"):
        MNARImputer(carry="id").fit(numbers())
    with pytest.raises(ValueError, match="max_steps: expected at least 1, got 0"):
        MNARImputer(max_steps=0).fit(numbers())
    for name, value, kind in (
        ("max_steps", 1.5, TypeError),
        ("batch_size", True, TypeError),
        ("num_draws", 0, ValueError),
        ("sample_posterior", "no", TypeError),
        ("add_indicator", 1, TypeError),
        ("keep_empty_features", None, TypeError),
        ("missing_values", [1], TypeError),
        ("random_state", -1, ValueError),
        ("random_state", "a", ValueError),
    ):
        with pytest.raises(kind, match=f"{name}: .*{value}"):
            MNARImputer(**{name: value}).fit(numbers())
    with pytest.raises(ValueError, match="sample_weight: expected"):
        MNARImputer().fit(numbers(), sample_weight=10**400)
    with pytest.raises(ValueError, match="expected at least one column with a value to model"):
        MNARImputer(carry=[0, 1, 2]).fit(numbers())


@pytest.mark.slow
def test_told_nothing_it_asks_the_table() -> None:
    """Three columns of wine that another, complete one lets go missing: self-masking would impute them 1.5 sd off."""
    complete = load_wine(as_frame=True).data[["alcohol", "malic_acid", "ash", "alcalinity_of_ash", "hue", "proline"]]
    proline = (complete["proline"] - complete["proline"].mean()) / complete["proline"].std()
    frame, lost = complete.copy(), ["alcohol", "malic_acid", "ash"]
    for at, name in enumerate(lost):
        frame.loc[np.random.default_rng(at).random(len(frame)) < expit(1.5 * proline - 1.2), name] = np.nan
    imputer = MNARImputer(num_particles=5, random_state=0).set_output(transform="pandas").fit(frame)
    assert {edge.parent for edge in imputer.fit_.model.graph.edges}.isdisjoint(lost)
    table = Table.from_frame(frame)
    model = GINA(table, seed=imputer.seed_)
    guide = ZeroImpute(table, model.latent_dim, seed=imputer.seed_)
    expected = impute(fit(model, guide, table, seed=imputer.seed_, progress=False), table, seed=imputer.seed_).mean()
    pd.testing.assert_frame_equal(imputer.transform(frame), expected, check_column_type=False)
    error = (expected - complete)[frame.isna()].mean() / complete.std()
    assert error[lost].abs().max() < 0.35


def test_corrects_a_mean_that_self_masking_bends() -> None:
    """On one table of 500 rows; the standard error of the mean of complete data is 25."""
    random = np.random.default_rng(0)
    age = random.normal(45, 12, 500)
    income = 2000 + 40 * (age - 45) + random.normal(0, 300, 500)
    withheld = random.random(500) < 1 / (1 + np.exp(-(income - 2300) / 150))
    frame = pd.DataFrame({"age": age, "income": np.where(withheld, np.nan, income)})
    completed = (
        MNARImputer(graph="self_masking", auxiliary=["age"], max_steps=300, random_state=0)
        .set_output(transform="pandas")
        .fit_transform(frame)
    )
    truth, seen = income.mean(), frame.income.mean()
    assert abs(completed.income.mean() - truth) < 0.25 * abs(seen - truth)


@pytest.mark.slow
def test_weights_of_rows_are_those_of_a_table() -> None:
    frame = survey().drop(columns="id")
    weight = np.random.default_rng(3).uniform(0.5, 2, len(frame))
    imputer = MNARImputer(graph="latent_dependent", **QUICK).fit(frame, sample_weight=list(weight))
    table = Table.from_frame(frame.assign(w=weight), weights="w")
    model = GINA(table, graph=MissingnessGraph.latent_dependent(table), seed=imputer.seed_)
    guide = ZeroImpute(table, model.latent_dim, seed=imputer.seed_)
    options = {"epochs": 3, "num_particles": 20, "seed": imputer.seed_, "progress": False}
    fitted = fit(model, guide, table, **options)
    assert imputer.fit_.history["bound"].tolist() == fitted.history["bound"].tolist()
    assert fitted.history["bound"].tolist() != MNARImputer(**QUICK).fit(frame).fit_.history["bound"].tolist()
    drawn = impute(fitted, table, num_draws=2, seed=imputer.seed_)
    np.testing.assert_array_equal(imputer.impute(frame, sample_weight=weight).draws, drawn.draws)
    pooled = [one.pool("income ~ age").to_frame() for one in (imputer.impute(frame, sample_weight=weight), drawn)]
    pd.testing.assert_frame_equal(*pooled)
    assert list(imputer.set_output(transform="pandas").transform(frame)) == list(frame)
    with pytest.raises(ValueError, match="since fit had some, got none; sample_weight=1"):
        imputer.impute(frame)
    with pytest.raises(ValueError, match="sample_weight: expected none, since fit had none"):
        MNARImputer(**QUICK).fit(frame).impute(frame, sample_weight=weight)
    with pytest.raises(ValueError, match=r"'sample_weight': expected numbers from 0, got -1\.0"):
        MNARImputer(**QUICK).fit(frame, sample_weight=-np.ones(len(frame)))
    same = [MNARImputer(**QUICK).fit(frame, sample_weight=w).fit_.history["bound"].tolist() for w in (2, 2 * weight**0)]
    assert same[0] == same[1]


def test_weights_go_where_metadata_routing_sends_them() -> None:
    """Through a search and a pipeline to this step alone, the weights of each part's training rows."""
    rows, outcome = numbers(), np.random.default_rng(2).normal(size=40)
    weight = np.random.default_rng(3).uniform(0.5, 2, len(rows))
    with config_context(enable_metadata_routing=True):
        asks = MNARImputer(auxiliary=[0], **QUICK).set_fit_request(sample_weight=True)
        score = LinearRegression().set_fit_request(sample_weight=False).set_score_request(sample_weight=True)
        parts = make_pipeline(ColumnTransformer([("mnar", asks, [0, 1, 2])]), score)
        grid = {"columntransformer__mnar__graph": ["mcar", "self_masking"]}
        scoring = make_scorer(r2_score).set_score_request(sample_weight=True)
        search = GridSearchCV(parts, grid, scoring=scoring, cv=KFold(2), error_score="raise")
        search.fit(rows, outcome, sample_weight=weight)
        routed = search.best_estimator_[0].named_transformers_["mnar"].fit_.history["bound"].tolist()
        alone = clone(asks).set_params(graph=search.best_params_["columntransformer__mnar__graph"])
        assert routed == alone.fit(rows, sample_weight=weight).fit_.history["bound"].tolist()
        refuses = make_pipeline(MNARImputer(**QUICK).set_fit_request(sample_weight=False), score)
        with pytest.raises(TypeError, match="sample_weight"):
            refuses.fit(rows, outcome, sample_weight=weight)


def test_a_column_of_truth_values_without_one_is_filled_with_false() -> None:
    frame = pd.DataFrame(numbers(), columns=list("abc")).assign(d=pd.array([pd.NA] * len(numbers()), dtype="boolean"))
    completed = MNARImputer(keep_empty_features=True, **QUICK).set_output(transform="pandas").fit_transform(frame)
    assert completed["d"].dtype == "boolean" and not completed["d"].any()


def test_a_code_of_numbers_stands_in_no_column_of_words() -> None:
    frame = pd.DataFrame(np.nan_to_num(numbers(), nan=-1), columns=list("abc"))
    frame["town"] = pd.array(["oak", "elm"] * 20, dtype="string[pyarrow]")
    completed = MNARImputer(missing_values=-1, **QUICK).set_output(transform="pandas").fit_transform(frame)
    assert completed["town"].tolist() == frame["town"].tolist() and not (completed[["b", "c"]] == -1).any(axis=None)
