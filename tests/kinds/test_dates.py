"""Columns of dates: read as days, imputed in their own dtype, in their order and between bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_mnar import Batch, Fit, InOrder, Table, impute, partially_observed, rows
from pyro_mnar.imputation.generation import generate
from pyro_mnar.kinds import Datetime
from pyro_mnar.kinds.reading import dates_of, numbers_of

DTYPES = ["datetime64[s]", "datetime64[ms]", "datetime64[us]", "datetime64[ns]", "datetime64[ns, Europe/Berlin]"]


def model(batch: Batch) -> None:
    """Independent standard normals, on the standardised line."""
    with rows(batch):
        partially_observed("x", dist.Normal(torch.zeros(batch.num_columns).expand(len(batch), -1), 1.0), batch)


def no_latents(batch: Batch) -> None:
    """A guide that leaves everything to the model."""


def stays(dtype: str = "datetime64[ns]", freq: str = "1D") -> pd.DataFrame:
    """Arrivals and departures, some missing."""
    start = pd.Series(pd.date_range("2021-03-20", periods=30, freq=freq))
    frame = pd.DataFrame({"arrived": start, "left": start + pd.Timedelta(days=5)})
    frame.loc[3:9, "arrived"] = pd.NaT
    frame.loc[7:14, "left"] = pd.NaT
    zone = dtype.partition(", ")[2].rstrip("]")
    if zone:
        return frame.apply(lambda dates: dates.dt.tz_localize(zone).astype(dtype))
    return frame.astype(dtype)


def imputed(table: Table, **options: Any) -> list[pd.DataFrame]:
    with pyro.get_param_store().scope():
        imputations = impute(Fit(model, no_latents, table.schema), table, num_draws=5, num_particles=50, **options)
        return [*imputations.frames(), imputations.mean()]


@pytest.mark.parametrize("dtype", DTYPES)
def test_dates_survive_the_way_to_days_and_back(dtype: str) -> None:
    dates = stays(dtype, "7h")["arrived"].dropna().reset_index(drop=True)
    pd.testing.assert_series_equal(dates_of(numbers_of(dates, "day"), dtype=dates.dtype), dates, check_names=False)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("freq", ["1D", "7h"])
def test_dates_are_imputed_in_their_own_dtype_and_order(dtype: str, freq: str) -> None:
    frame = stays(dtype, freq)
    table = Table.from_frame(frame, auxiliary=[], constraints=[InOrder("arrived", "left")])
    assert table.schema.columns[0].kind == Datetime(whole_days=freq == "1D")
    *draws, mean = imputed(table)
    for done in (*draws, mean):
        assert (done.dtypes == frame.dtypes).all()
        assert done.notna().all(axis=None)
        assert (done["arrived"] <= done["left"]).all()
        pd.testing.assert_frame_equal(done[frame.notna().all(axis=1)], frame[frame.notna().all(axis=1)])
    if freq == "1D":
        assert all((done["left"].dt.normalize() == done["left"]).all() for done in draws)


def test_dates_keep_to_bounds_in_dates() -> None:
    frame = stays()
    first = pd.Timestamp("2021-03-20 15:00")
    frame.loc[0, "arrived"] = pd.NaT
    *draws, _ = imputed(Table.from_frame(frame, auxiliary=[], lower={"arrived": first}))
    assert all((done["arrived"] >= first).all() for done in draws)
    with pytest.raises(ValueError, match=r"column 'left': expected values from the lower bound .* in row 0"):
        Table.from_frame(frame, auxiliary=[], lower={"left": pd.Timestamp("2021-03-27")})


def test_an_auxiliary_column_of_dates_is_a_number(tmp_path: Any) -> None:
    frame = stays().assign(born=pd.date_range("1990-01-01", periods=30, freq="40D"))
    table = Table.from_frame(frame, auxiliary=["born"])
    assert table.aux.shape == (30, 1)
    assert table.aux.std(correction=0).item() == pytest.approx(1.0)
    fit = Fit(model, no_latents, table.schema)
    with pyro.get_param_store().scope():
        fit.save(tmp_path / "fit.pt")
        assert Fit.load(tmp_path / "fit.pt", model, no_latents).schema == table.schema
        assert (generate(fit, table).dtypes == "datetime64[us]").all()


def test_a_file_s_dates_are_read_where_they_are_declared(tmp_path: Any) -> None:
    stays().to_csv(tmp_path / "stays.csv", index=False)
    kinds = dict.fromkeys(["arrived", "left"], "datetime")
    table = Table.from_csv(tmp_path / "stays.csv", auxiliary=[], kinds=kinds)
    assert np.array_equal(table.mask.numpy(), stays().notna().to_numpy())
    (tmp_path / "wrong.csv").write_text("arrived,left\n2021-01-01,soon\n,2021-01-02\n")
    with pytest.raises(ValueError, match=r"column 'left': expected dates such as .* got 'soon' in row 0"):
        Table.from_csv(tmp_path / "wrong.csv", auxiliary=[], kinds=kinds)
