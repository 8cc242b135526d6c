"""Reference-based imputation: closed forms on simulated trials, published figures on a real one."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pyro_mnar import TrialImputations, impute_trial, pool_scalar
from pyro_mnar.scenarios.reference_means import REFERENCES

DATA = Path(os.environ.get("PYRO_MNAR_DATA", Path(__file__).parents[3] / "shared" / "data"))
VISITS = ["week 1", "week 2", "week 3"]
LONG: dict[str, Any] = {"patient": "id", "visit": "week", "arm": "arm", "control": "placebo", "outcome": "y"}


def wide(num_patients: int = 90, seed: int = 0) -> pd.DataFrame:
    """Two arms and a baseline; later visits are missing after dropout, and patient 0 has a gap at the second visit."""
    rng = np.random.default_rng(seed)
    arm = np.where(np.arange(num_patients) % 2, "drug", "placebo")
    baseline = rng.standard_normal(num_patients)
    walk = rng.standard_normal((num_patients, 3)).cumsum(1)
    y = walk + 0.5 * baseline[:, None] - (arm == "drug")[:, None] * np.array([0.5, 1.0, 2.0])
    for j in (1, 2):
        y[np.isnan(y[:, j - 1]) | (rng.random(num_patients) < 0.2), j] = np.nan
    y[:2] = rng.standard_normal((2, 3))
    y[0, 1] = y[1, 2] = np.nan
    index = pd.Index([f"p{i}" for i in range(num_patients)], name="id")
    return pd.DataFrame({"arm": arm, "base": baseline, **dict(zip(VISITS, y.T, strict=True))}, index=index)


def long(frame: pd.DataFrame) -> pd.DataFrame:
    """The same trial, without rows where nothing was measured."""
    whole = frame.reset_index().melt(["id", "arm", "base"], VISITS, "week", "y")
    return whole.dropna(subset="y").reset_index(drop=True)


def imputed(frame: pd.DataFrame | None = None, **options: Any) -> TrialImputations:
    settings: dict[str, Any] = {"arm": "arm", "control": "placebo", "outcome": VISITS, "covariates": ["base"]}
    return impute_trial(wide() if frame is None else frame, **{**settings, "num_draws": 5, **options})


@pytest.mark.parametrize(
    "reference", [pytest.param(name, marks=() if name in ("MAR", "jump") else pytest.mark.slow) for name in REFERENCES]
)
def test_conditional_means_are_those_of_the_formulas(reference: str) -> None:
    result = imputed(reference=reference)
    frame, trial = wide(), result.trial
    coefficients, covariance = result.estimate
    own, control = trial.design() @ coefficients, trial.design(as_control=True) @ coefficients
    done = result.mean()[VISITS].to_numpy()
    for i, y in enumerate(frame[VISITS].to_numpy()):
        seen = np.flatnonzero(~np.isnan(y))
        gaps = np.flatnonzero(np.isnan(y))
        mu, last = own[i].copy(), seen[-1]
        if last < 2 and reference == "jump":
            mu[last + 1 :] = control[i, last + 1 :]
        elif last < 2 and reference == "copy":
            mu = control[i]
        elif last < 2 and reference == "copy increments":
            mu[last + 1 :] = own[i, last] + control[i, last + 1 :] - control[i, last]
        elif last < 2 and reference == "last mean carried forward":
            mu[last + 1 :] = own[i, last]
        slopes = np.linalg.solve(covariance[np.ix_(seen, seen)], covariance[np.ix_(seen, gaps)]).T
        np.testing.assert_allclose(done[i, gaps], mu[gaps] + slopes @ (y[seen] - mu[seen]), rtol=1e-9, atol=1e-9)
        np.testing.assert_array_equal(done[i, seen], y[seen])


def test_control_arm_and_intermittent_gaps_are_the_same_under_every_reference() -> None:
    frame, under_mar = wide(), imputed()
    for reference in ("jump", "copy", "copy increments"):
        values = imputed(reference=reference).values
        control = (frame.arm == "placebo").to_numpy()
        np.testing.assert_allclose(values[:, control], under_mar.values[:, control], rtol=1e-12)
        np.testing.assert_array_equal(values[:, 0, 1], under_mar.values[:, 0, 1])
        assert (values[:, 1, 2] != under_mar.values[:, 1, 2]).all()  # p1: on the drug, gone after the second visit


@pytest.mark.slow
def test_each_patient_may_have_a_reference() -> None:
    frame = wide()
    names = pd.Series(np.where(np.arange(90) % 3, "jump", "copy"), index=frame.index)
    mixed = imputed(reference=names[::-1]).values
    for name in ("jump", "copy"):
        here = (names == name).to_numpy()
        np.testing.assert_array_equal(mixed[:, here], imputed(reference=name).values[:, here])


def test_delta_adds_exactly_to_what_is_imputed() -> None:
    plain, frame = imputed(reference="jump"), wide()
    np.testing.assert_array_equal(imputed(reference="jump", delta=0.0).draws, plain.draws)
    arms = plain.trial.gaps()["arm"]
    by_arm = imputed(reference="jump", delta={"drug": 3.0})
    np.testing.assert_array_equal(by_arm.draws, plain.draws + 3.0 * (arms == "drug").to_numpy())
    np.testing.assert_array_equal(by_arm.means, plain.means + 3.0 * (arms == "drug").to_numpy())
    grows = imputed(reference="jump", delta=lambda gaps: 0.5 * gaps["visits_since"].clip(lower=0))
    gaps = grows.trial.gaps()
    assert gaps.loc[gaps.patient == "p0", "visits_since"].tolist() == [-1]
    last = np.array([np.flatnonzero(row)[-1] for row in frame[VISITS].notna().to_numpy()])
    since = np.concatenate(
        [np.flatnonzero(np.isnan(y)) - t for y, t in zip(frame[VISITS].to_numpy(), last, strict=True)]
    )
    np.testing.assert_array_equal(grows.draws, plain.draws + 0.5 * np.maximum(since, 0))


@pytest.mark.slow
def test_long_and_wide_frames_give_the_same_trial() -> None:
    frame = long(wide())
    result = impute_trial(
        frame.sample(frac=1, random_state=0), **LONG, covariates=["base"], reference="jump", num_draws=5
    )
    by_patient = {who: at for at, who in enumerate(result.trial.patients)}
    expected = imputed(wide().loc[list(by_patient)], reference="jump").values
    np.testing.assert_allclose(result.values, expected, rtol=1e-9)
    for done, values in zip(result.frames(), result.values, strict=True):
        assert list(done.columns) == list(frame.columns)
        assert len(done) == 270
        assert done.dtypes.equals(frame.dtypes)
        wanted = values[[by_patient[who] for who in done.id], [VISITS.index(week) for week in done.week]]
        np.testing.assert_array_equal(done.y, wanted)
        kept = done.merge(frame, on=["id", "week"], suffixes=("", "_given"))
        assert len(kept) == len(frame)
        for name in ("arm", "base", "y"):
            np.testing.assert_array_equal(kept[name], kept[f"{name}_given"])


def test_a_long_frame_with_every_row_keeps_index_and_order() -> None:
    frame = wide().reset_index().melt(["id", "arm", "base"], VISITS, "week", "y").sample(frac=1, random_state=1)
    done = next(impute_trial(frame, **LONG, covariates=["base"], num_draws=1).frames())
    pd.testing.assert_frame_equal(done.drop(columns="y"), frame.drop(columns="y"))
    pd.testing.assert_series_equal(done.y[frame.y.notna()], frame.y.dropna())


def test_who_was_never_seen() -> None:
    frame = wide()
    frame.loc["p1", VISITS] = np.nan
    result = imputed(frame, reference="copy increments")
    control = result.trial.design(as_control=True)[1] @ result.estimate.coefficients
    np.testing.assert_allclose(result.mean().loc["p1", VISITS].to_numpy(dtype=float), control)
    with pytest.raises(ValueError, match="patient 'p1' was seen, whose mean is to be carried forward, got none"):
        imputed(frame, reference="last mean carried forward")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reference": "jmp"}, "reference: expected one of ['MAR', 'jump', 'copy', 'copy increments', 'last mean"),
        ({"reference": {"p0": "jump"}}, "reference for patient 'p1': expected one of"),
        ({"control": "sugar"}, "column 'arm': expected the control arm 'sugar' and others, got ['placebo', 'drug']"),
        ({"delta": {"drag": 1.0}}, "delta: expected arms among ['drug', 'placebo'], got 'drag'"),
        ({"delta": np.nan}, "delta: expected finite numbers"),
        ({"delta": lambda gaps: [1.0, 2.0]}, "one a gap, got shape (2,)"),
        ({"outcome": "week 1"}, "patient, visit: expected the columns of a long frame"),
        ({"covariates": "base"}, "covariates: expected a list of columns, got 'base'"),
        ({"covariates": ["arm"]}, "column 'arm': expected one part in the trial"),
        ({"covariates": ["age"]}, "column 'age': expected one of"),
        ({"num_draws": 0}, "num_draws: expected at least 1, got 0"),
    ],
)
def test_refuses(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        imputed(**options)


def test_refuses_long_frames_that_are_no_trial() -> None:
    frame = long(wide())
    with pytest.raises(ValueError, match="patient 'p0': expected one row at visit 'week 1', got several"):
        impute_trial(pd.concat([frame, frame[:1]]), **LONG)
    changing = frame.assign(base=frame.base + (frame.week == "week 2"))
    with pytest.raises(ValueError, match="column 'base': expected one value a patient, got several of patient 'p1'"):
        impute_trial(changing, **LONG, covariates=["base"])


@pytest.fixture(scope="module")
def antidepressant() -> pd.DataFrame:
    path = DATA / "antidepressant.csv"
    if not path.is_file():
        pytest.skip(f"antidepressant.csv is not in {DATA.name}/")
    return pd.read_csv(path)


def ancova(values: np.ndarray, persons: pd.DataFrame, covariates: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Drug minus placebo at the last visit, adjusted, and its variance, of each completed trial."""
    x = np.stack([np.ones(len(persons)), persons.arm == "DRUG", *(persons[name] for name in covariates)], axis=1)
    x = x.astype(float)
    inverse = np.linalg.inv(x.T @ x)
    y = values[..., -1]
    residuals = y - y @ x @ inverse @ x.T
    return (y @ x @ inverse)[..., 1], (residuals**2).sum(-1) / (len(x) - x.shape[1]) * inverse[1, 1]


def of_trial(frame: pd.DataFrame, covariates: list[str], **options: Any) -> TrialImputations:
    names = {"patient": "patient", "visit": "visit", "arm": "arm", "control": "PLACEBO", "outcome": "change"}
    return impute_trial(frame, **names, covariates=covariates, **options)


def test_published_conditional_mean_under_jump_to_reference(antidepressant: pd.DataFrame) -> None:
    """Gower-Page, Noci & Wolbers (2022), rbmi's quick start: placebo minus drug 2.126, to the digits given."""
    result = of_trial(antidepressant, ["baseline"], reference="jump", num_draws=1)
    observed = antidepressant.groupby(["arm", "visit"]).change.mean().round(2)
    assert observed["DRUG"].tolist() == [-1.82, -4.71, -6.79, -8.34]
    assert observed["PLACEBO"].tolist() == [-1.51, -2.70, -4.07, -5.14]
    persons = result.mean().query("visit == 7")
    difference, _ = ancova(persons[["change"]].to_numpy(), persons, ["baseline"])
    assert -difference == pytest.approx(2.126, abs=5e-4)


# Published with 5,000 draws (150 for the first), drug minus placebo and standard errors; ours has 2,000.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("covariates", "options", "published", "error", "draws"),
    [
        (["baseline"], {"reference": "jump"}, -2.156, 1.113, 150),
        (["baseline", "female"], {"reference": "MAR"}, -2.830, 1.123, 5000),
        (["baseline", "female"], {"reference": "copy"}, -2.394, 1.112, 5000),
        (["baseline", "female"], {"reference": "jump"}, -2.148, 1.135, 5000),
        (["baseline", "female"], {"reference": "copy increments"}, -2.479, 1.112, 5000),
        (["baseline", "female"], {"reference": "MAR", "delta": {"DRUG": 3.0}}, -2.100, 1.140, 5000),
    ],
)
def test_published_multiple_imputation(
    antidepressant: pd.DataFrame,
    covariates: list[str],
    options: dict[str, Any],
    published: float,
    error: float,
    draws: int,
) -> None:
    """Within 3.5 Monte Carlo errors of both estimates: each fails by chance once in 2,000. The last
    standard error is the one that p = .0675 implies.
    """
    frame = antidepressant.assign(female=(antidepressant.gender == "F").astype(float))
    result = of_trial(frame, covariates, num_draws=2000, seed=1, **options)
    persons = next(result.frames()).query("visit == 7")
    estimates, variances = ancova(result.values, persons, covariates)
    pooled = pool_scalar(estimates, variances, dfcom=172 - 2 - len(covariates))
    between = float(pooled.between[0])
    assert pooled.estimates[0] == pytest.approx(published, abs=3.5 * np.sqrt(between * (1 / 2000 + 1 / draws)))
    # The spread of B, of relative variance 2 / (M - 1), and of the mean of the variances; half of it is the error's.
    of_total = np.sqrt((2 * between**2 + variances.var()) * (1 / 1999 + 1 / (draws - 1)))
    noise = of_total / (2 * pooled.standard_errors[0])
    assert pooled.standard_errors[0] == pytest.approx(error, abs=3.5 * noise + 5e-4)
    if "delta" in options:
        assert pooled.p[0] == pytest.approx(0.0675, abs=0.006)


def test_pooling_runs_the_analysis_on_every_frame() -> None:
    result = imputed(reference="jump", num_draws=4)
    pooled = result.pool(lambda frame: (frame["week 3"].mean(), frame["week 3"].std() / 90**0.5), dfcom=89)
    means, errors = result.values[..., 2].mean(1), result.values[..., 2].std(1, ddof=1) / 90**0.5
    expected = pool_scalar(means, errors**2, dfcom=89)
    np.testing.assert_allclose(pooled.interval, expected.interval)
