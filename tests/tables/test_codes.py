"""Codes and levels: what stands for no answer is no level, and no level has a probability that nobody gave it."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pyro_mnar import Imputations, Table, fit, impute
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.kinds import Binary, Categorical, Ordinal
from pyro_mnar.kinds.suspects import codes_among
from pyro_mnar.models import GINA

ROWS = 150
ANSWERS = ["unhappy", "so so", "happy", "ecstatic", "refused"]


def imputed(table: Table, num_draws: int = 20) -> Imputations:
    model = GINA(table, seed=0)
    fitted = fit(model, ZeroImpute(table, model.latent_dim, seed=0), table, seed=0, epochs=2, progress=False)
    return impute(fitted, table, num_draws=num_draws, num_particles=10)


@pytest.fixture
def satisfied() -> pd.DataFrame:
    """As SPSS gives it: an ordered category of which one value is a code, and one that nobody chose."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=ROWS)
    answers = np.array(ANSWERS, dtype=object)[np.digitize(z, [-0.5, 0.5])]
    answers[rng.random(ROWS) < 0.2] = "refused"
    answers[rng.random(ROWS) < 0.1] = None
    return pd.DataFrame({"age": 40 + 9 * z, "satisfaction": pd.Categorical(answers, ANSWERS, ordered=True)})


class TestDeclaredCodes:
    @pytest.mark.parametrize("reason", ["na_values", "by_design"])
    def test_are_no_levels(self, satisfied: pd.DataFrame, reason: str) -> None:
        table = Table.from_frame(satisfied, **{reason: {"satisfaction": ["refused"]}})
        assert table.schema.columns[1].kind == Ordinal(("unhappy", "so so", "happy"))
        for completed in imputed(table).frames():
            assert set(completed["satisfaction"]) == {"unhappy", "so so", "happy"}
            assert completed["satisfaction"].dtype == satisfied["satisfaction"].dtype

    def test_stay_where_there_is_nothing_to_impute(self, satisfied: pd.DataFrame) -> None:
        table = Table.from_frame(satisfied, not_applicable={"satisfaction": "refused"})
        refused = satisfied["satisfaction"] == "refused"
        for completed in imputed(table, 2).frames():
            assert (completed["satisfaction"][refused] == "refused").all()
            assert set(completed["satisfaction"][~refused]) == {"unhappy", "so so", "happy"}

    def test_mean_the_same_in_new_rows(self, satisfied: pd.DataFrame) -> None:
        table = Table.from_frame(satisfied, na_values={"satisfaction": "refused"})
        new = table.new_rows(satisfied.head(20))
        np.testing.assert_array_equal(new.mask, table.mask[:20])


class TestNumbersThatLookLikeCodes:
    SUSPECT = {
        "negative codes": ([-99, -98], [21, 30, 45, 38, 52, 60, 33, 41, 29, 55]),
        "a year's worth of nines": ([999], [21, 30, 45, 38, 52, 60, 33, 41, 29, 55]),
        "eights": ([8888], [100, 300, 450, 380, 520, 600, 330, 410, 290, 550]),
        "beyond a scale": ([99], [1, 2, 3, 4, 5, 1, 2, 3, 4, 5]),
        "two below zero": ([-9.0], [1500.0, 3000.5, 1800.0, 950.0, 2000.0, 2500.0, 700.0, 0.0, 1100.0, 900.0]),
    }

    @pytest.mark.parametrize("case", SUSPECT)
    def test_are_named(self, case: str) -> None:
        codes, rest = self.SUSPECT[case]
        frame = pd.DataFrame({"x": [*rest, *codes, *codes]})
        said = "numbers that look like codes for a missing value: {'x': " + str([int(code) for code in codes]) + "}"
        with pytest.warns(UserWarning, match=re.escape(said)):
            Table.from_frame(frame, auxiliary=[])
        with warnings.catch_warnings(action="error"):
            Table.from_frame(frame, auxiliary=[], na_values={"x": codes})

    def test_words_are_named_unless_they_are_declared(self) -> None:
        frame = pd.DataFrame({"x": ["low", "high", "n/a", "low", "NA", "?"] * 4, "y": np.arange(24.0)})
        codes = ["?", "NA", "n/a"]
        said = f"words that look like codes for a missing value: {{'x': {codes}}}; na_values={{'x': {codes}}}"
        with pytest.warns(UserWarning, match=re.escape(said)):
            table = Table.from_frame(frame, auxiliary=[])
        assert table.mask.all()
        with warnings.catch_warnings(action="error"):
            Table.from_frame(frame, auxiliary=[], kinds={"x": "categorical"})
            assert not Table.from_frame(frame, auxiliary=[], na_values={"x": codes}).mask.all()

    def test_an_abbreviation_among_others_may_be_namibia(self) -> None:
        of_countries = {"country": ["NA", "ZA", "BW", "ZA"] * 6, "region": ["NA", "EMEA", "APAC", "LATAM"] * 6}
        with warnings.catch_warnings(action="error"):
            Table.from_frame(pd.DataFrame({**of_countries, "y": np.arange(24.0)}), auxiliary=[])

    def test_are_named_beside_declared_ones(self) -> None:
        frame = pd.DataFrame({"x": [21, 30, 45, 38, 52, 60, 33, 41, 29, 55, -99, -99, -98]})
        with pytest.warns(UserWarning, match=re.escape("{'x': [-98]}; na_values={'x': [-98]} makes them gaps")):
            Table.from_frame(frame, auxiliary=[], na_values={"x": -99})

    FAIR = {
        "within the rest": [21, 30, 99, 38, 152, 60, 33, 41, 29, 55],
        "not far": [21, 30, 45, 38, 52, 60, 33, 41, 29, 88],
        "one below zero": [0.5, 30.0, 45.5, 38.0, 52.0, 60.0, 33.0, 41.0, 29.0, -9.0],
        "of another form": [21, 30, 45, 38, 52, 60, 33, 41, 29, 1000],
        "few": [1, 2, 99],
        "all of the form": [9, 99, 999, 9999, 9, 99, 999, 9999, 9, 99],
    }

    @pytest.mark.parametrize("case", FAIR)
    def test_others_are_not(self, case: str) -> None:
        assert codes_among(np.array(self.FAIR[case], dtype=float)) == []


class TestLevels:
    def test_that_nobody_has_get_no_probability(self, satisfied: pd.DataFrame) -> None:
        imputations = imputed(Table.from_frame(satisfied, na_values={"satisfaction": "refused"}), 2)
        assert imputations.probabilities("satisfaction").columns.tolist() == ["unhappy", "so so", "happy"]

    def test_that_nobody_has_get_one_if_asked(self, satisfied: pd.DataFrame) -> None:
        kinds: dict[Any, Any] = {"satisfaction": Ordinal(tuple(ANSWERS[:4]))}
        table = Table.from_frame(satisfied, na_values={"satisfaction": "refused"}, kinds=kinds)
        shares = imputed(table, 2).probabilities("satisfaction")
        assert shares.columns.tolist() == ANSWERS[:4]
        assert (shares.sum() > 0).all()

    def test_that_nobody_has_are_named_in_new_rows(self) -> None:
        towns = pd.Categorical(["a", "b", "a", None], ["a", "b", "c"])
        table = Table.from_frame(pd.DataFrame({"town": towns, "x": [0.5, 1.5, 2.0, 1.0]}), auxiliary=[])
        with pytest.raises(ValueError, match=r"'town': expected one of \['a', 'b'\], got 'c' in row 0"):
            table.new_rows(pd.DataFrame({"town": ["c"], "x": [1.0]}))

    def test_ordinal_words_without_an_order_are_refused_with_the_cure(self) -> None:
        frame = pd.DataFrame({"education": ["secondary", "primary", "tertiary"] * 4, "x": np.arange(12) + 0.5})
        said = r"""'education': expected levels in their order .* kinds=\{'education': Ordinal\(\('primary', 'second"""
        with pytest.raises(ValueError, match=said):
            Table.from_frame(frame, kinds={"education": "ordinal"})
        with pytest.raises(ValueError, match=said):
            Table.from_frame(frame.astype({"education": "category"}), kinds={"education": "ordinal"})
        order = ("primary", "secondary", "tertiary")
        assert Table.from_frame(frame, kinds={"education": Ordinal(order)}).schema.columns[0].kind.levels == order
        ordered = frame.assign(education=pd.Categorical(frame["education"], order[::-1], ordered=True))
        assert Table.from_frame(ordered, kinds={"education": "ordinal"}).schema.columns[0].kind.levels == order[::-1]

    def test_a_word_or_blank_is_offered_as_a_checkbox(self) -> None:
        frame = pd.DataFrame({"smokes": ["yes", None, "yes", None], "x": [0.5, 1.5, 2.0, 1.0]})
        said = r"'smokes': .* got \('yes',\) beside 2 gaps\. .* put a word for it into the gaps.*Binary\(\('no', "
        with pytest.raises(ValueError, match=said):
            Table.from_frame(frame, auxiliary=[])
        assert Table.from_frame(frame.assign(smokes=frame["smokes"].notna())).schema.kinds["smokes"] == "binary"
        answered = Table.from_frame(frame, auxiliary=[], kinds={"smokes": Binary(("no", "yes"))})
        assert answered.mask[:, 0].tolist() == [True, False, True, False]

    def test_one_word_in_every_row_is_carried(self) -> None:
        frame = pd.DataFrame({"wave": ["first"] * 4, "x": [0.5, 1.5, 2.0, 1.0]})
        with pytest.warns(UserWarning, match=r"'wave' \(one word in every row\)"):
            assert Table.from_frame(frame, auxiliary=[]).schema.names_of("carried") == ["wave"]

    def test_another_word_stands_for_unseen_ones(self) -> None:
        kinds: dict[Any, Any] = {"town": Categorical(other="elsewhere")}
        frame = pd.DataFrame({"town": ["a", "b", "a", None], "x": [0.5, 1.5, 2.0, 1.0]})
        table = Table.from_frame(frame, auxiliary=[], kinds=kinds)
        assert table.schema.columns[0].kind.levels == ("a", "b", "elsewhere")
        new = table.new_rows(pd.DataFrame({"town": ["c"], "x": [1.0]}))
        assert table.schema.columns[0].decode(new.x[:, 0].numpy()).tolist() == [2.0]

    def test_numbers_written_as_text_name_their_cure(self) -> None:
        frame = pd.DataFrame({"price": ["1.5", "2", "3"], "x": [0.5, 1.5, 2.0]})
        with pytest.raises(ValueError, match=r"'1.5' in row 0 \(numbers written as text: pandas.to_numeric"):
            Table.from_frame(frame)

    @pytest.mark.parametrize(
        ("cells", "said", "kind"),
        [
            (["2021-01-02", "2021-03-04"], "pandas.to_datetime(frame['c'], format='ISO8601')", "datetime"),
            (["14/03/2021", "02/03/2021"], "pandas.to_datetime(frame['c'], format='%d/%m/%Y')", "datetime"),
            (["03-14-2021", "02-03-2021"], "pandas.to_datetime(frame['c'], format='%m-%d-%Y')", "datetime"),
            (["12%", "7.5%"], "pandas.to_numeric(frame['c'].str.strip(' %'))", "continuous"),
            (["$1,234.5", "$2"], "pandas.to_numeric(frame['c'].str.strip(' $').str.replace(',', ''))", "continuous"),
            (["1,5", "2,25"], "pandas.to_numeric(frame['c'].str.replace(',', '.'))", "continuous"),
        ],
    )
    def test_text_that_says_numbers_or_dates_names_what_reads_it(self, cells: list[str], said: str, kind: str) -> None:
        frame = pd.DataFrame({"x": np.linspace(-1, 1, 40), "c": cells * 20})
        with pytest.warns(UserWarning, match=rf"taken for levels: 'c' \(.*: {re.escape(said)}\)"):
            Table.from_frame(frame, auxiliary=["x"])
        read = eval(said, {"pandas": pd, "frame": frame})  # what the message says, word by word
        assert Table.from_frame(frame.assign(c=read), auxiliary=["x"]).schema.kinds["c"] == kind
        assert Table.from_frame(frame, auxiliary=["x"], kinds={"c": "categorical"}).schema.kinds["c"] == "categorical"

    def test_text_of_which_every_row_says_another_is_carried_with_the_same_words(self) -> None:
        days = [f"2021-{1 + day // 28:02}-{1 + day % 28:02}" for day in range(60)]
        frame = pd.DataFrame({"x": np.linspace(-1, 1, 60), "day": days})
        with pytest.warns(UserWarning, match=r"'day' \(60 different words in 60 rows; dates as text: pandas"):
            Table.from_frame(frame)

    @pytest.mark.parametrize(
        ("cells", "said"),
        [
            (["?", "1.5", "2", "3", "?"], r"'\?' in row 0 \(na_values={'c': \['\?'\]} makes such words gaps\)"),
            (["1,200", "900", "1,000", "2"], r"'1,200' in row 0 \(numbers with thousands: pandas.to_numeric"),
            (["01210", "75001", "01000"], r"\(digits after a zero, as of postcodes: kinds={'c': 'categorical'}"),
            ([[1], [2], [3]], r"got \[1\] in row 0 \(carry=\['c'\] keeps what is no single value\)"),
        ],
    )
    def test_words_among_numbers_name_their_cure(self, cells: list[Any], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            Table.from_frame(pd.DataFrame({"c": cells, "x": range(len(cells))}), auxiliary=["x"])
