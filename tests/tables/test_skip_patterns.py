"""Skip patterns and derived columns: what other columns say of a cell holds in every draw."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pyro_mnar import Fit, Imputations, Table, fit, impute
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.mechanisms import Constant, SelfMasking
from pyro_mnar.models import GINA
from pyro_mnar.tables.row_functions import RowFunction, is_condition

MOVED, SEEN, AGE_SEEN = 0.5, 0.7, 0.8
LEVELS: dict[Any, Any] = {"moved": "binary", "why": "binary"}


def frame_of(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame(columns, dtype=float)


@cache
def survey(rows: int = 800) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    x = rng.normal(size=rows)
    moved = rng.random(rows) < MOVED
    age = np.where(moved, np.rint(30 + 5 * x + 2 * rng.normal(size=rows)), np.nan)
    frame = pd.DataFrame({"x": x, "moved": moved.astype(float), "age_at_move": age})
    frame["moved"] = frame["moved"].where(rng.random(rows) < SEEN)
    frame["age_at_move"] = frame["age_at_move"].where(rng.random(rows) < AGE_SEEN)
    return frame


def fitted(table: Table, epochs: int = 1, **options: Any) -> Fit:
    model = GINA(table, latent_dim=1, seed=0, mechanism=Constant)
    guide = ZeroImpute(table, model.latent_dim, hidden=(8,), seed=0)
    return fit(model, guide, table, epochs=epochs, seed=0, progress=False, **options)


@cache
def imputed(condition: Any = "moved == 0") -> Imputations:
    table = Table.from_frame(survey(), auxiliary=["x"], not_applicable={"age_at_move": condition})
    trained = fitted(table, 40, batch_size=800, learning_rate=5e-2)
    return impute(trained, table, num_draws=5, num_particles=20, seed=1)


class TestASkipPattern:
    def test_is_known_where_the_parent_is(self) -> None:
        frame = frame_of(moved=[0, 1, None, 1], age=[None, 30, None, 25], x=[1, 2, 3, 4])
        table = Table.from_frame(frame, auxiliary=["x"], not_applicable={"age": "moved == 0"})
        assert table.applicable[:, 1].tolist() == [False, True, True, True]
        assert table.mask_modelled[:, 1].tolist() == [False, True, False, True]

    def test_holds_in_every_draw(self) -> None:
        for completed in imputed().frames():
            assert ((completed["moved"] == 0) == completed["age_at_move"].isna()).all()
            assert completed["moved"].notna().all()

    def test_learns_from_a_gap_that_there_may_be_nothing_to_tell(self) -> None:
        """By Bayes' rule; five standard errors of the draws' mean, false alarms below one in a million."""
        frame, told = survey(), survey()["moved"]
        share = told.mean()
        gap = frame["age_at_move"][told == 1].isna().mean()
        both = (frame["moved"].isna() & frame["age_at_move"].isna()).to_numpy()
        expected = share * gap / (share * gap + 1 - share)
        found = np.mean([completed["moved"][both].mean() for completed in imputed().frames()])
        assert found == pytest.approx(expected, abs=5 * np.sqrt(expected / (5 * both.sum())) + 0.03)
        assert expected < 0.25 < share - 0.2  # a draw that ignores the gap is far away

    def test_a_mean_has_a_value_where_most_draws_have_one(self) -> None:
        imputations = imputed()
        mean, blank = imputations.mean(), np.isnan(imputations.draws).mean(0)
        rows = imputations.cells[0][(imputations.cells[1] == 1) & (blank >= 0.5)]
        assert len(rows) and mean["age_at_move"].iloc[rows].isna().all()
        rows = imputations.cells[0][(imputations.cells[1] == 1) & (blank < 0.5)]
        assert mean["age_at_move"].iloc[rows].notna().all()

    def test_draws_withheld_levels_by_their_mechanism_whether_or_not_they_are_summed_out(self) -> None:
        """By Bayes' rule at the model's own parameters, with a slope that is known; five standard errors."""
        rng, rows = np.random.default_rng(0), 300
        moved = (rng.random(rows) < 0.5).astype(float)
        why = np.where(moved == 1, rng.integers(0, 2, rows), np.nan)
        frame = frame_of(x=rng.normal(size=rows), moved=moved, why=why)
        frame["moved"] = frame["moved"].where(rng.random(rows) < 0.5)
        frame["why"] = frame["why"].where(rng.random(rows) < 0.6)
        open_gap = (frame["moved"].isna() & frame["why"].isna()).to_numpy()
        shares = {}
        for discrete in ("summed", "sampled"):
            table = Table.from_frame(frame, auxiliary=["x"], not_applicable={"why": "moved == 0"}, kinds=LEVELS)
            mechanism = partial(SelfMasking, slope=[0.0, 2.0])
            model = GINA(table, latent_dim=1, seed=0, discrete=discrete, mechanism=mechanism)
            guide = ZeroImpute(table, 1, hidden=(4,), seed=0)
            trained = fit(model, guide, table, epochs=1, learning_rate=1e-9, seed=0, progress=False)
            drawn = impute(trained, table, num_draws=20, num_particles=40, seed=1)
            shares[discrete] = np.stack([completed["why"][open_gap] for completed in drawn.frames()])
        summed, sampled = (found[~np.isnan(found)] for found in shares.values())
        error = np.sqrt(2 * 0.1 * 0.9 / len(summed))
        assert summed.mean() == pytest.approx(sampled.mean(), abs=5 * error)
        assert summed.mean() < 0.3  # where half of those who are asked say 1

    def test_as_a_function_is_the_same(self) -> None:
        frame = survey().head(60)
        for condition in (lambda f: f.moved == 0, lambda f: f["moved"] == 0, lambda f: f.loc[:, "moved"] == 0):
            table = Table.from_frame(frame, auxiliary=["x"], not_applicable={"age_at_move": condition})
            for completed in impute(fitted(table), table, num_draws=3).frames():
                assert ((completed["moved"] == 0) == completed["age_at_move"].isna()).all()

    def test_of_words_writes_the_code_that_says_so(self) -> None:
        frame = survey().head(80).assign(moved=lambda f: f["moved"].map({0: "no", 1: "yes"}))
        frame["age_at_move"] = frame["age_at_move"].where(frame["moved"] != "no", -97).fillna(-99).astype(int)
        table = Table.from_frame(
            frame,
            auxiliary=["x"],
            na_values={"age_at_move": -99},
            not_applicable={"age_at_move": -97},
        )
        patterned = Table.from_frame(
            frame.assign(age_at_move=frame["age_at_move"].replace(-97, -99)),
            auxiliary=["x"],
            na_values={"age_at_move": -99},
            not_applicable={"age_at_move": "moved == 'no'"},
        )
        known = frame["moved"].notna().to_numpy()
        assert (table.applicable == patterned.applicable).numpy()[known].all()
        for completed in impute(fitted(patterned), patterned, num_draws=2).frames():
            assert (completed["age_at_move"] != -99).all()
            assert ((completed["moved"] == "no") == completed["age_at_move"].isna()).all()

    def test_of_patterns_one_after_the_other(self) -> None:
        frame = frame_of(
            a=[0, 1, None, 1, None, 0, 1, 1],
            b=[None, 1, None, 0, 1, None, 0, 1],
            c=[None, 5, None, None, 7, None, None, 6],
        )
        patterns = {"b": "a == 0", "c": "a == 0 or b == 0"}
        table = Table.from_frame(frame, auxiliary=[], not_applicable=patterns, kinds={"a": "binary", "b": "binary"})
        for completed in impute(fitted(table), table, num_draws=20).frames():
            assert ((completed["a"] == 0) == completed["b"].isna()).all()
            assert (((completed["a"] == 0) | (completed["b"] == 0)) == completed["c"].isna()).all()

    def test_goes_with_new_rows_and_files(self, tmp_path: Path) -> None:
        table = imputed().table
        new = table.new_rows(frame_of(x=[0, 1, 2], moved=[0, 1, None], age_at_move=[None, None, None]))
        assert new.applicable[:, 1].tolist() == [False, True, True]
        trained = fitted(table)
        trained.save(tmp_path / "fit.pt")
        assert Fit.load(tmp_path / "fit.pt").schema.skips == table.schema.skips
        functions = Table.from_frame(survey(), auxiliary=["x"], not_applicable={"age_at_move": lambda f: f.moved == 0})
        with pytest.raises(TypeError, match=r"not_applicable of column 'age_at_move': expected an expression as text"):
            fitted(functions).save(tmp_path / "other.pt")

    def test_is_refused_where_it_cannot_be(self) -> None:
        frame = frame_of(moved=[0, 1, None, 1], age=[None, 30, None, 25], x=[1, 2, 3, 4])
        for condition, said in {
            "moved == 1": r"'age': expected a gap in row 1, where moved == 1 holds, got 30.0",
            "mved == 0": r"'mved == 0': expected columns among .*got 'mved'",
            "age == 0": r"'age': expected a condition on other columns",
            "moved.max() == 0": r"expected columns, numbers, operators .*got 'moved.max\(\)'",
        }.items():
            with pytest.raises(ValueError, match=said):
                Table.from_frame(frame, auxiliary=["x"], not_applicable={"age": condition})
        with pytest.raises(ValueError, match=r"delta of column 'age_at_move'"):
            imputed().shifted({"age_at_move": 1.0})


class TestADerivedColumn:
    def people(self) -> pd.DataFrame:
        rng = np.random.default_rng(0)
        height = 1.7 + 0.1 * rng.normal(size=60)
        weight = 22 * height**2 + 5 * rng.normal(size=60)
        frame = pd.DataFrame({"weight": weight, "bmi": weight / height**2, "height": height, "x": rng.normal(size=60)})
        frame.loc[:9, "height"] = np.nan  # bmi and weight tell
        frame.loc[10:14, ["weight", "height"]] = np.nan  # bmi alone does not, and holds in draws
        frame.loc[15:29, ["weight", "bmi"]] = np.nan
        frame.loc[30:34, ["bmi"]] = np.nan
        return frame

    @pytest.mark.parametrize("formula", ["weight / height**2", lambda f: f.weight / f["height"] ** 2])
    def test_is_computed_and_never_modelled(self, formula: Any) -> None:
        frame = self.people()
        table = Table.from_frame(frame, auxiliary=["x"], derived={"bmi": formula})
        assert table.schema.names == ["weight", "height"] and table.schema.names_of("derived") == ["bmi"]
        imputations = impute(fitted(table), table, num_draws=3)
        told = frame["bmi"].notna()
        for completed in imputations.frames():
            assert list(completed) == list(frame) and completed.notna().all(axis=None)
            assert completed["bmi"][told].equals(frame["bmi"][told])
            expected = completed["weight"] / completed["height"] ** 2
            np.testing.assert_allclose(completed["bmi"], expected)
        drawn = np.mean([completed["bmi"] for completed in imputations.frames()], axis=0)
        np.testing.assert_allclose(imputations.mean()["bmi"][~told], drawn[~told])

    def test_tells_the_one_argument_that_is_missing(self) -> None:
        table = Table.from_frame(self.people(), auxiliary=["x"], derived={"bmi": "weight / height**2"})
        rng = np.random.default_rng(0)
        np.testing.assert_allclose(table.frame["height"][:10], 1.7 + 0.1 * rng.normal(size=60)[:10], rtol=1e-8)
        assert table.mask[:10, 1].all() and not table.mask_modelled[:10, 1].any()

    def test_may_be_absent_from_new_rows_and_its_rows_may_have_any_labels(self) -> None:
        frame = frame_of(cm=[180, 165, None, 172], kg=[80, 60, 66, 71], bmi=[24.7, 22.0, 22.8, -9], x=[1, 2, 3, 4])
        frame, options = frame.astype({"cm": "Int64"}).set_axis([4, 4, 5, 6]), {"na_values": {"bmi": -9}}
        table = Table.from_frame(frame, auxiliary=["x"], derived={"bmi": "kg / (cm / 100)**2"}, **options)
        assert table.frame["cm"].tolist() == [180, 165, 170, 172] and table.frame["cm"].dtype == "Int64"
        new = table.new_rows(frame.drop(columns="bmi"))
        assert not new.mask[2, 0]
        assert "bmi" not in next(impute(fitted(table), new, num_draws=1).frames())
        (completed,) = impute(fitted(table), table, num_draws=1).frames()
        assert completed["bmi"].tolist()[3] == pytest.approx(71 / 1.72**2)

    def test_tells_whole_numbers_where_all_are(self) -> None:
        frame = frame_of(cm=[180, 165, None, 172], kg=[80, 60, 66, 71], bmi=[24.7, 22.0, 22.8, 24.0], x=[1, 2, 3, 4])
        table = Table.from_frame(frame, auxiliary=["x"], derived={"bmi": "kg / (cm / 100)**2"})
        assert table.frame["cm"].tolist() == [180, 165, 170, 172]

    def test_tells_nothing_where_two_values_would_do(self) -> None:
        frame = frame_of(a=[-2, 3, None, 1, -1], square=[4, 9, 4, None, 1], x=[1, 2, 3, 4, 5])
        with pytest.warns(UserWarning, match="no single argument follows"):
            table = Table.from_frame(frame, auxiliary=["x"], derived={"square": "a * a"})
        assert not table.mask[2, 0]

    def test_warns_of_what_its_formula_does_not_give(self) -> None:
        frame = frame_of(a=[1, 2, 3, None], b=[2, 4, 7, 8], x=[1, 2, 3, 4])
        with pytest.warns(UserWarning, match=r"'b': 2 \* a gives 6 in row 2, where 7 stands \(1 such rows of 3\)"):
            Table.from_frame(frame, auxiliary=["x"], derived={"b": "2 * a"})

    def test_is_refused_where_it_cannot_be(self) -> None:
        frame = frame_of(a=[1, 2, None], b=[2, 4, 7], c=[1, 2, 3])
        for derived, said in (
            ({"z": "a + b"}, r"derived column 'z': expected one of"),
            ({"b": "a + z"}, r"'a \+ z': expected columns among .*got 'z'"),
            ({"b": "a", "c": "b"}, r"derived column 'c': expected a formula of columns that are not derived, got 'b'"),
            ({"b": lambda f: f.sum(axis=1)}, r"expected a formula of columns read by name"),
            ({"b": "a +"}, r"expected an expression of column names"),
        ):
            with pytest.raises(ValueError, match=said):
                Table.from_frame(frame, derived=derived)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("moved == 0", True), ("`a b` > 1 and c in [1, 2]", True), ("refused", False), ("n/a", False), ("-97", False)],
)
def test_conditions_are_told_from_codes(text: str, expected: bool) -> None:
    assert is_condition(text) == expected


def test_names_with_spaces_stand_between_backticks() -> None:
    frame = pd.DataFrame({"a b": [1.0, 4.0], "c": [1.0, np.nan]})
    function = RowFunction.of("sqrt(`a b`) + c", frame, "x")
    assert function.names == ("a b", "c")
    np.testing.assert_array_equal(function.numbers(frame, "x"), [2.0, np.nan])
