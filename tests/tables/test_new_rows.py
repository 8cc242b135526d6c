"""New rows: gaps where training had none, words that nobody knew, a single row, and draws that follow the row."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pyro_mnar import Fit, InOrder, Table, fit, impute
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.kinds import Categorical
from pyro_mnar.models import GINA

KINDS: dict[Any, Any] = {"visits": "count", "income": "positive", "pain": "heavy_tailed"}
OTHER: dict[Any, Any] = {"town": Categorical(other="elsewhere")}


@cache
def training() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows, skill = 200, rng.normal(size=200)
    frame = pd.DataFrame(
        {
            "id": rng.permutation(rows) + 100,
            "u": skill,
            "full": 2 * skill + 0.2 * rng.normal(size=rows),
            "town": rng.choice(["a", "b", "c"], rows),
            "visits": rng.poisson(2, rows).astype(float),
            "income": np.exp(skill),
            "pain": rng.standard_t(4, rows),
            "stars": rng.integers(1, 4, rows).astype(float),
        }
    )
    for name in ("visits", "income", "pain", "stars"):
        frame[name] = frame[name].where(rng.random(rows) < 0.7)
    return frame


@cache
def fitted(auxiliary: tuple[str, ...] | str | None = ("u",)) -> Fit:
    options: Any = auxiliary if isinstance(auxiliary, str) or auxiliary is None else list(auxiliary)
    table = Table.from_frame(training(), auxiliary=options, carry=["id"], kinds={**KINDS, **OTHER})
    model = GINA(table, seed=0)
    guide = ZeroImpute(table, model.latent_dim, seed=0, hidden=(16,))
    return fit(model, guide, table, epochs=1, seed=0, progress=False)


def draws_of(frame: pd.DataFrame, **options: Any) -> list[pd.DataFrame]:
    options = {"key": True, **options}
    return list(impute(fitted(), frame, num_draws=1, num_particles=10, seed=3, **options).frames())


class TestAGapWhereTrainingHadNone:
    def test_is_imputed_from_what_goes_with_it(self) -> None:
        frame = training()[["u", "full", "income"]]
        table = Table.from_frame(frame, auxiliary=["u"], kinds={"income": "positive"})
        model = GINA(table, latent_dim=1, seed=0)
        guide = ZeroImpute(table, 1, hidden=(8,), seed=0)
        new = pd.DataFrame({"u": [-1.5, 1.5], "full": np.nan, "income": np.nan})
        low, high = impute(fit(model, guide, table, seed=0, progress=False), new).mean()["full"]
        assert low == pytest.approx(-3, abs=1) and high == pytest.approx(3, abs=1)

    def test_in_a_column_that_serves_as_u_is_refused_with_the_cure(self) -> None:
        new = training().head(2).assign(full=[1.0, np.nan])
        with pytest.raises(
            ValueError, match=r"column 'full': was complete in training.* row 1;.*auxiliary=\['u', 'town'\]"
        ):
            impute(fitted(None), new)

    def test_in_a_column_of_u_alone_is_refused_with_the_cure(self) -> None:
        with pytest.raises(
            ValueError, match=r"auxiliary column 'u': .* in row 0; left out of auxiliary, .* is modelled"
        ):
            impute(fitted(), training().head(1).assign(u=np.nan))

    def test_says_nothing_where_the_mask_is_u(self) -> None:
        new = fitted("mask").encoded(training().head(2).assign(full=np.nan))
        assert new.aux[:, new.schema.names.index("full")].tolist() == [1.0, 1.0]  # as in every row of the training
        assert impute(fitted("mask"), new, num_draws=1).mean()["full"].notna().all()


@pytest.mark.parametrize("name", ["full", "visits", "income", "pain"])
def test_dates_in_place_of_numbers_are_no_days(name: str) -> None:
    new = training()[:3].assign(**{name: pd.to_datetime(["2021-01-01", None, "2021-01-02"])})
    with pytest.raises(ValueError, match=f"column '{name}': expected numbers for kind .* got dates"):
        draws_of(new)


@pytest.mark.parametrize("dtype", ["str", "string", object])
def test_a_column_without_a_value_may_be_one_of_words(dtype: Any) -> None:
    new = training()[:3].assign(income=pd.Series([None] * 3, dtype=dtype))
    assert (draws_of(new)[0]["income"].astype(float) > 0).all()


class TestAWordThatNobodyKnew:
    def test_counts_as_another_where_it_is_modelled_and_is_kept(self) -> None:
        new = training().head(1).assign(town="z")
        (completed,) = draws_of(new)
        assert completed["town"].tolist() == ["z"]

    @pytest.mark.parametrize("auxiliary", [["town"], None])
    def test_counts_as_an_average_row_in_u(self, auxiliary: Any) -> None:
        frame = training()[["town", "income"]]
        table = Table.from_frame(frame, auxiliary=auxiliary, kinds={"income": "positive", **OTHER})
        shares = [(frame["town"] == level).mean() for level in "bc"]
        new = table.new_rows(pd.DataFrame({"town": ["z", "b"], "income": [1.0, 2.0]}))
        np.testing.assert_allclose(new.aux.numpy(), [shares, [1.0, 0.0]])

    def test_counts_as_those_that_training_rows_called_so(self) -> None:
        frame = training()[["town", "income"]].replace({"town": {"c": "elsewhere"}})
        table = Table.from_frame(frame, auxiliary=["town"], kinds=OTHER)
        new = table.new_rows(pd.DataFrame({"town": ["z", "elsewhere", "b"], "income": 1.0}))
        assert new.aux.tolist() == [[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]

    def test_is_refused_where_nobody_said_so(self) -> None:
        table = Table.from_frame(training()[["town", "income"]], auxiliary=["town"])
        with pytest.raises(ValueError, match=r"'town': expected one of .*'z' in row 0.*Categorical\(other=...\)"):
            table.new_rows(pd.DataFrame({"town": ["z"], "income": [1.0]}))


def test_codes_of_u_are_levels_where_that_is_declared() -> None:
    frame = training()[["income"]].assign(region=[1.0, 2.0, 3.0, 7.0] * 50)
    table = Table.from_frame(frame, auxiliary=["region"], kinds={"region": "categorical"})
    assert table.aux[:4].tolist() == [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]


class TestTheSameRowGetsTheSameDraws:
    """Bounds of rounding: products of matrices of other sizes differ by the last bits."""

    def same(self, one: pd.DataFrame, other: pd.DataFrame) -> None:
        pd.testing.assert_frame_equal(one, other, rtol=1e-5, atol=1e-8)

    def test_in_any_order(self) -> None:
        frame = training().head(40)
        backwards = draws_of(frame[::-1])
        for one, other in zip(draws_of(frame), backwards, strict=True):
            self.same(one, other[::-1])

    def test_alone(self) -> None:
        frame = training().head(40)
        for row in (0, 7):
            (alone,), (together,) = draws_of(frame.iloc[[row]]), draws_of(frame)
            self.same(alone, together.iloc[[row]])

    def test_by_what_it_holds_or_by_a_key(self) -> None:
        frame = training().head(20)
        (one,), (other,) = draws_of(frame), draws_of(frame, key="id")
        assert not one["pain"].equals(other["pain"])
        (renamed,) = draws_of(frame.assign(id=frame["id"] + 1))
        self.same(one.drop(columns="id"), renamed.drop(columns="id"))  # a carried column is nothing that it holds
        shifted = frame.assign(pain=frame["pain"] + 0.1)
        (again,) = draws_of(shifted, key=["id"])
        gaps = frame["visits"].isna()
        assert (again["visits"] == other["visits"])[gaps].mean() > 0.5  # the same random numbers, another posterior

    def test_though_equal_rows_have_draws_of_their_own(self) -> None:
        row = training().head(1).assign(pain=np.nan)
        (completed,) = draws_of(pd.concat([row] * 3))
        assert completed["pain"].nunique() == 3

    @pytest.mark.slow
    def test_under_constraints_that_few_particles_satisfy(self) -> None:
        frame = training().head(12).assign(pain=np.nan, full=np.nan)
        options: Any = {"constraints": [InOrder("u", "pain", strict=True), lambda f: f["pain"] < f["u"] + 0.5]}
        (one,), (other,) = draws_of(frame, **options), draws_of(frame.iloc[[5, 3]], **options)
        self.same(one.iloc[[5, 3]], other)

    def test_unless_the_key_names_none(self) -> None:
        frame = training().head(3)
        for values, said in (([1, 1, 2], "again in row 1"), ([1, None, 2], "got none in row 1")):
            with pytest.raises(ValueError, match=f"key: expected .*{said}"):
                draws_of(frame.assign(id=values), key="id")
        with pytest.raises(ValueError, match=r"key: expected a column among .*got 'who'"):
            draws_of(frame, key="who")
