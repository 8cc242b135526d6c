"""Columns of a survey's design: kept, never modelled, and heeded by objective, bootstrap and pooled formulas."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from checks import gina_pair
from pyro_mnar import Fit, Schema, Table, impute, pool_frames
from pyro_mnar.imputation.survey_regression import survey_regression
from pyro_mnar.tables.survey import design_of

DESIGN = {"weights": "w", "cluster": "psu", "strata": "region"}


def survey(num_rows=40, seed=0):
    random = np.random.default_rng(seed)
    frame = pd.DataFrame({"age": random.normal(size=num_rows), "w": random.uniform(1, 5, num_rows)})
    frame["income"] = frame.age + random.normal(size=num_rows)
    frame["region"] = np.where(np.arange(num_rows) < num_rows // 2, "north", "south")
    frame["psu"] = np.arange(num_rows) // 4 % 5  # numbered anew in each region
    return frame


def with_gaps():
    frame = survey()
    frame.loc[::3, "income"] = np.nan
    return frame


def test_columns_of_the_design_stay_and_are_not_modelled():
    frame = with_gaps()
    table = Table.from_frame(frame, auxiliary=["age"], **DESIGN)
    assert table.schema.names == ["income"]
    np.testing.assert_allclose(table.batch().weight, frame.w / frame.w.mean())
    assert Schema.from_dict(table.schema.to_dict()) == table.schema
    completed = next(impute(Fit(*gina_pair(table), table.schema), table, num_draws=2, num_particles=5).frames())
    pd.testing.assert_frame_equal(completed[["w", "region", "psu"]], frame[["w", "region", "psu"]])
    assert list(completed.columns) == list(frame.columns)


def test_rows_that_are_taken_count_once_on_average_again():
    table = Table.from_frame(with_gaps(), auxiliary=["age"], **DESIGN).take(np.arange(7))
    assert table.batch().weight.mean().item() == pytest.approx(1)
    assert Table.from_frame(with_gaps(), auxiliary=["age"], carry=["region", "psu", "w"]).batch().weight is None


def test_clusters_numbered_anew_in_each_stratum_are_different_ones():
    table = Table.from_frame(with_gaps(), auxiliary=["age"], **DESIGN)
    design = design_of(table.frame, table.schema)
    assert len(np.unique(design.unit)) == 10
    assert design.strata == ("north", "south")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"w": -1.0}, r"weights column 'w': expected numbers from 0, got -1.0 in row 3"),
        ({"w": np.nan}, r"weights column 'w': expected a value in every row, got none in row 3"),
        ({"psu": np.nan}, r"cluster column 'psu': expected a value in every row, got none in row 3"),
        ({"region": None}, r"strata column 'region': expected a value in every row, got none in row 3"),
    ],
)
def test_a_design_with_holes_is_refused(change, message):
    frame = with_gaps()
    for name, value in change.items():
        frame.loc[3, name] = value
    with pytest.raises(ValueError, match=message):
        Table.from_frame(frame, auxiliary=["age"], **DESIGN)


def test_a_survey_regression_is_that_of_statsmodels_where_that_has_it():
    """Weighted least squares with clusters: statsmodels' sandwich, whose factor is (n - 1)/(n - k) larger."""
    frame = survey()
    table = Table.from_frame(frame.assign(income=frame.income.mask(frame.index == 0)), auxiliary=["age"], weights="w")
    design = design_of(table.frame, table.schema)
    ours = survey_regression("income ~ age", frame, design)
    theirs = smf.wls("income ~ age", frame, weights=frame.w).fit(cov_type="HC1")
    np.testing.assert_allclose(ours.params, theirs.params)
    np.testing.assert_allclose(ours.covariance, theirs.cov_params() * (38 / 40) * (40 / 39), rtol=1e-10)
    assert ours.df_resid == 39

    clustered = design._replace(unit=np.arange(40) // 4)
    ours = survey_regression("income ~ age", frame, clustered)
    groups = {"groups": np.arange(40) // 4, "use_correction": False}
    theirs = smf.wls("income ~ age", frame, weights=frame.w).fit(cov_type="cluster", cov_kwds=groups)
    np.testing.assert_allclose(ours.covariance, theirs.cov_params() * 10 / 9, rtol=1e-10)
    assert ours.df_resid == 9


def test_a_stratified_mean_has_its_textbook_error():
    frame = survey()
    design = design_of(frame, Table.from_frame(with_gaps(), auxiliary=["age"], cluster="psu", strata="region").schema)
    result = survey_regression("income ~ 1", frame, design)
    means = frame.groupby(["region", "psu"]).income.mean().groupby("region")
    np.testing.assert_allclose(result.covariance.iloc[0, 0], (means.var(ddof=1) / 5 * 0.25).sum())


def test_formulas_are_pooled_by_the_design_and_ratios_refused():
    table = Table.from_frame(with_gaps(), auxiliary=["age"], **DESIGN)
    imputations = impute(Fit(*gina_pair(table), table.schema), table, num_draws=3, num_particles=5)
    design = design_of(table.frame, table.schema)
    pooled = imputations.pool("income ~ age")
    by_hand = pool_frames(imputations.frames(), lambda frame: survey_regression("income ~ age", frame, design))
    pd.testing.assert_frame_equal(pooled.to_frame(), by_hand.to_frame())
    assert pooled.dfcom == 8
    with pytest.raises(ValueError, match="likelihood_ratio: expected rows sampled alike"):
        imputations.likelihood_ratio("income ~ age", "income ~ 1")


def test_a_lonely_unit_is_named():
    frame = survey()
    frame.loc[0, "region"] = "island"
    table = Table.from_frame(frame.assign(income=frame.income.mask(frame.index == 5)), auxiliary=["age"], **DESIGN)
    with pytest.raises(ValueError, match="stratum 'island': expected at least two sampling units, got 1"):
        survey_regression("income ~ age", frame, design_of(table.frame, table.schema))
