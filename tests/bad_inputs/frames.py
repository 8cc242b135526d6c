"""Frames and arrays."""

from __future__ import annotations

import datetime as dt
import decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import torch

from bad_inputs.case import FRAME, GAP, SEEN, Case, of_frame, pair, refused, taken, untrained
from pyro_mnar import InOrder, MNARImputer, SumsTo, Table, fit, impute
from pyro_mnar.kinds import Binary, Bounded, Categorical, Count, Ordinal, Positive


def imputed(columns: Any, **options: Any) -> pd.DataFrame:
    """Means of imputations by an untrained model: whether numbers stay numbers does not depend on training."""
    table = of_frame(columns, **options)
    return impute(untrained(table), table, num_draws=2, num_particles=4, compile="eager").mean()


def trained(columns: Any, **options: Any) -> pd.DataFrame:
    """Means after a step of training."""
    table = of_frame(columns, **options)
    result = fit(*pair(table), table, epochs=2, progress=False, compile="eager")
    return impute(result, table, num_draws=2, num_particles=4, compile="eager").mean()


def finite(frame: pd.DataFrame) -> bool:
    numbers = frame.select_dtypes("number").to_numpy(dtype=float)
    return bool(np.isfinite(numbers).all()) and bool(frame.notna().all(axis=None))


def long_gap(count: int = 200, share: float = 0.5) -> np.ndarray:
    values = np.random.default_rng(0).normal(size=count)
    values[np.random.default_rng(1).random(count) < share] = np.nan
    return values


BIG = 10**400
CASES: list[Case] = [
    refused("a frame without rows", lambda: of_frame({"a": pd.Series([], dtype=float)}), "at least one row", "none"),
    refused("a frame without columns", lambda: of_frame(pd.DataFrame(index=[0, 1])), "at least one column"),
    refused("a list of lists in place of a frame", lambda: Table.from_frame([[1.0]]), "pandas DataFrame", "list"),
    refused("a dictionary", lambda: Table.from_frame({"a": GAP}), "pandas DataFrame", "dict"),
    refused("a Series", lambda: Table.from_frame(pd.Series(GAP)), "pandas DataFrame", "Series"),
    refused("None", lambda: Table.from_frame(None), "pandas DataFrame", "NoneType"),
    refused("the frame's class", lambda: Table.from_frame(pd.DataFrame), "pandas DataFrame"),
    refused("a file's name in place of a frame", lambda: Table.from_frame("t.csv"), "pandas DataFrame", "str"),
    refused("a tensor", lambda: Table.from_frame(torch.zeros(3, 2)), "pandas DataFrame", "Tensor"),
    refused("two columns of one name", lambda: of_frame(pd.DataFrame([[1.0, np.nan]] * 3, columns=["a", "a"])), "'a'"),
    refused("a column without values", lambda: of_frame({"a": SEEN, "b": [np.nan] * 4}), "'b'", "observed value"),
    refused("a column of None", lambda: of_frame({"a": SEEN, "b": [None] * 4}), "'b'", "observed value"),
    refused("infinity", lambda: of_frame({"a": [1.0, np.inf, np.nan]}), "'a'", "finite", "inf", "row 1"),
    refused("minus infinity", lambda: of_frame({"a": [1.0, -np.inf, np.nan]}), "'a'", "finite", "-inf", "row 1"),
    refused(
        "infinity among whole numbers beside gaps",
        lambda: of_frame({"a": [1.0, 2.0, np.inf, np.nan, 2.0, 1.0]}), "'a'", "finite", "inf", "row 2",
    ),
    refused(
        "infinity in an object column of whole numbers",
        lambda: of_frame({"a": pd.Series([1, 2, float("inf"), None, 2, 1], dtype=object)}), "'a'", "inf", "row 2",
    ),
    refused(
        "infinity declared ordinal",
        lambda: of_frame({"a": [1.0, 2.0, np.inf, np.nan]}, kinds={"a": "ordinal"}), "'a'", "finite", "inf",
    ),
    refused(
        "infinity declared categorical",
        lambda: of_frame({"a": [1.0, 2.0, np.inf, np.nan]}, kinds={"a": "categorical"}), "'a'", "finite", "inf",
    ),
    refused(
        "infinity among nullable numbers",
        lambda: of_frame({"a": pd.Series([1.0, np.inf, None], dtype="Float64")}), "'a'", "finite", "inf",
    ),
    refused(
        "infinity in U", lambda: of_frame({"u": [1.0, np.inf, 2.0, 3.0], "a": GAP}, auxiliary=["u"]), "'u'", "finite",
    ),
    refused("text among numbers", lambda: of_frame({"a": [1.0, "n/a", 2.0]}), "'a'", "'n/a'", "row 1"),
    refused("complex numbers", lambda: of_frame({"a": [1j, 2.0, None]}), "'a'", "numbers"),
    refused("lists in cells of named levels", lambda: of_frame({"a": [[1], "a", None], "b": [1.0, 2.0, 3.0]}, kinds={"a": Categorical(("a", "b"))}), "'a'", "row 0"),
    refused("lists in cells", lambda: of_frame({"a": [[1], [2], None]}), "'a'"),
    refused("dictionaries in cells", lambda: of_frame({"a": [{"x": 1}, {"x": 2}, None]}), "'a'"),
    refused("arrays in cells", lambda: of_frame({"a": [np.zeros(2), np.ones(2), None]}), "'a'"),
    refused("sets in cells", lambda: of_frame({"a": [{1}, {2}, None]}), "'a'"),
    refused("functions in cells", lambda: of_frame({"a": [len, print, None]}), "'a'"),
    refused("tensors in cells", lambda: of_frame({"a": [torch.zeros(2), torch.ones(2), None]}), "'a'"),
    refused("bytes among numbers", lambda: of_frame({"a": [b"x", 1.0, None]}), "'a'"),
    refused("10**400 in an object column", lambda: of_frame({"a": pd.Series([BIG, 1, None, 2], dtype=object)}), "'a'", "row 0"),
    refused("-10**400 in an object column", lambda: of_frame({"a": pd.Series([1, -BIG, None, 2], dtype=object)}), "'a'", "row 1"),
    refused("a Decimal of NaN's signalling kind", lambda: of_frame({"a": [decimal.Decimal("sNaN"), 1, 2]}), "'a'"),
    refused("a Decimal of 1E+500", lambda: of_frame({"a": [decimal.Decimal("1E+500"), 1, None]}), "'a'"),
    refused("a Decimal of infinity", lambda: of_frame({"a": [decimal.Decimal("Infinity"), 1, None]}), "'a'", "row 0"),
    refused("a Fraction of 10**400", lambda: of_frame({"a": [Fraction(BIG), 1, None]}), "'a'"),
    refused("the digits of 10**400 as text", lambda: of_frame({"a": [str(BIG), "1", None, "2"]}), "'a'"),
    refused("1e999 as text", lambda: of_frame({"a": ["1e999", "1.5", None, "2"]}), "'a'"),
    taken("Decimals beside gaps", lambda: imputed({"a": [decimal.Decimal("1.5"), None, decimal.Decimal("2.5")]}),
          "numbers", finite),
    taken("Fractions beside gaps", lambda: imputed({"a": [Fraction(1, 2), None, Fraction(3, 2)]}), "numbers", finite),
    taken("a column of one value", lambda: imputed({"a": [2.0, np.nan, 2.0]}), "its constant",
          lambda frame: (frame["a"] == 2).all()),
    taken("a single row", lambda: imputed({"a": [1.0], "b": [2.0]}), "the row itself", finite),
    taken("a single observed value", lambda: imputed({"a": [1.0, np.nan, np.nan]}), "its constant",
          lambda frame: (frame["a"] == 1).all()),
    taken("rows of nothing but gaps", lambda: imputed({"a": [1.0, np.nan, 3.0], "b": [2.0, np.nan, 1.0]}), "drawn",
          finite),
    taken("all rows identical", lambda: trained({"a": [1.0, 1.0, np.nan], "b": [2.0, 2.0, 2.0]}), "constants", finite),
    taken("99.9 % missing", lambda: trained({"a": [*[np.nan] * 998, 1.0, 2.5], "b": np.arange(1000.0)}), "finite",
          finite),
    taken("more columns than rows", lambda: trained(pd.DataFrame(np.random.default_rng(0).normal(size=(5, 40))).mask(
        np.random.default_rng(1).random((5, 40)) < 0.1)), "finite", finite),
    taken("collinear columns", lambda: trained({"a": long_gap(), "b": 2 * long_gap(share=0.0)}), "finite", finite),
    taken("a column of 1e-300", lambda: trained({"a": long_gap() * 1e-300}), "finite", finite),
    taken("a column of 1e300", lambda: trained({"a": long_gap() * 1e300}), "finite", finite),
    refused("a column with 1e308 and -1e308", lambda: of_frame({"a": [1e308, -1e308, np.nan, 1.0]}), "'a'", "1e+308"),
    taken("a column with 1e305 and -1e305", lambda: trained({"a": [1e305, -1e305, np.nan, 1.0]}), "finite", finite),
    taken("1e305 in U", lambda: trained({"u": [1e305, -1e305, 2.0, 3.0], "a": GAP}, auxiliary=["u"]), "finite", finite),
    refused("1e308 in U", lambda: trained({"u": [1e308, -1e308, 2.0, 3.0], "a": GAP}, auxiliary=["u"]), "'u'"),
    taken("columns of 1e-12 and 1e12", lambda: trained({"a": long_gap() * 1e-12, "b": long_gap(share=0.2) * 1e12}),
          "finite", finite),
    refused("a positive column from 1e-300 to 1e300",
            lambda: of_frame({"a": [1e-300, 1e300, np.nan, 1.0]}, kinds={"a": "positive"}), "'a'", "1e-300 to 1e+300"),
    refused("zeros beside 1e-300 to 1e300",
            lambda: of_frame({"a": [1e-300, 1e300, np.nan, 0.0]}, kinds={"a": "zero_inflated"}), "'a'", "0 to 1e+300"),
    taken("a positive column from 1e-10 to 1e10",
          lambda: trained({"a": [1e-10, 1e10, np.nan, 1.0]}, kinds={"a": "positive"}), "finite", finite),
    taken("denormal numbers", lambda: trained({"a": [5e-324, 0.0, np.nan, 1e-310]}), "finite", finite),
    taken("one value of 1e6 among 500", lambda: trained({"a": [*long_gap(499), 1e6]}), "finite", finite),
    taken("whole numbers beyond 2**53", lambda: imputed({"a": [2**53 + 1, 2**60, None]}), "finite", finite),
    taken("unsigned 64-bit numbers", lambda: imputed({"a": pd.array([2**64 - 1, 1, None], dtype="UInt64")}), "finite", finite),
    taken("half floats", lambda: imputed({"a": np.array([1.0, np.nan, 3.0], dtype=np.float16)}), "finite", finite),
    taken("numbers as column names", lambda: imputed({0: SEEN, 1: GAP}), "kept", lambda f: list(f) == [0, 1]),
    taken("a column named NaN", lambda: imputed({np.nan: SEEN, "a": GAP}), "kept", finite),
    taken("a column without a name", lambda: imputed({"": SEEN, "a": GAP}), "kept", finite),
    taken("a column with a line break in its name", lambda: imputed({"a\nb": GAP, "c": SEEN}), "kept", finite),
    refused("a column with a line break in its name, and infinity", lambda: of_frame({"a\nb": [1.0, np.inf, None]}), r"'a\nb'"),
    refused("NaN as a column's name", lambda: of_frame({np.nan: SEEN, "a": [np.inf, *GAP[1:]]}), "'a'"),
    taken("a column index of two levels", lambda: imputed(
        pd.DataFrame([[1.0, 2.0], [np.nan, 3.0], [2.0, 2.5]], columns=pd.MultiIndex.from_tuples([("a", "b"), ("a", "c")]))),
        "kept", finite),
    taken("repeated row labels", lambda: imputed(pd.DataFrame({"a": GAP}, index=[7, 7, 7, 7])), "kept",
          lambda f: list(f.index) == [7] * 4),
    taken("an index of NaN", lambda: imputed(pd.DataFrame({"a": GAP}, index=[np.nan] * 4)), "kept", finite),
    refused("a single string as auxiliaries", lambda: of_frame(FRAME, auxiliary="age"), "'age'"),
    refused("an auxiliary that is not there", lambda: of_frame(FRAME, auxiliary=["sex"]), "'sex'", "['age', 'income']"),
    refused("an auxiliary with gaps", lambda: of_frame(FRAME, auxiliary=["income"]), "'income'", "row 1"),
    refused("a column called True", lambda: of_frame({True: SEEN, "a": [1.0, None, 2.0, 3.0]}), "column True", "boolean", "rename"),
    refused("True as a long table's column", lambda: Table.from_long(pd.DataFrame({"row": [0, 1, 2], "column": True, "value": 1.0})), "column True", "rename"),
    refused("MNARImputer of a column called False", lambda: MNARImputer().fit(pd.DataFrame({False: [1.0, None, 2.0]})), "column False", "rename"),
    refused("an auxiliary named twice", lambda: of_frame(FRAME, auxiliary=["age", "age"]), "'age'", "2 times"),
    refused("nothing but auxiliaries", lambda: of_frame({"a": SEEN}, auxiliary=["a"]), "at least one column"),
    refused("a number as auxiliaries", lambda: of_frame(FRAME, auxiliary=3), "auxiliary", "3"),
    refused("True as auxiliaries", lambda: of_frame(FRAME, auxiliary=True), "auxiliary", "True"),
    refused("a list in the list of auxiliaries", lambda: of_frame(FRAME, auxiliary=[["age"]]), "['age']", "expected one of"),
    refused("a kind that is none", lambda: of_frame(FRAME, kinds={"age": "nominal"}), "'age'", "'nominal'"),
    refused("a kind that is a number", lambda: of_frame(FRAME, kinds={"age": 3}), "'age'", "3"),
    refused("a kind's class", lambda: of_frame(FRAME, kinds={"age": Bounded}), "'age'", "Bounded"),
    refused("a kind for all that is none", lambda: of_frame(FRAME, kinds="nominal"), "'nominal'"),
    refused("a kind for all that is a number", lambda: of_frame(FRAME, kinds=3), "kind", "3"),
    refused("kinds as a list", lambda: of_frame(FRAME, kinds=["count", "count"]), "kind", "['count', 'count']"),
    refused("a kind of a column that is not there", lambda: of_frame(FRAME, kinds={"sex": "count"}), "'sex'"),
    refused("a kind for a column of U", lambda: of_frame(FRAME, auxiliary=["age"], kinds={"age": "count"}), "'age'"),
    refused("a kind for a carried column", lambda: of_frame(FRAME, carry=["age"], kinds={"age": "count"}), "'age'"),
    refused("a kind for a column of weights", lambda: of_frame(FRAME, weights="age", kinds={"age": "count"}), "'age'"),
    refused("counts that are negative", lambda: of_frame({"a": [-1.0, 2.0, None]}, kinds={"a": "count"}), "'a'", "-1"),
    refused("counts of a half", lambda: of_frame({"a": [0.5, 2.0, None]}, kinds={"a": "count"}), "'a'", "0.5"),
    refused("positive numbers below zero", lambda: of_frame({"a": [-1.0, 2.0, None]}, kinds={"a": "positive"}), "'a'", "-1"),
    refused("positive numbers that are zero", lambda: of_frame({"a": [0.0, 2.0, None]}, kinds={"a": "positive"}), "'a'", "0"),
    refused("binary of three values", lambda: of_frame({"a": [0.0, 1.0, 2.0, None]}, kinds={"a": "binary"}), "'a'"),
    refused("bounded numbers outside", lambda: of_frame({"a": [0.5, 3.0, None]}, kinds={"a": Bounded(0, 1)}), "'a'", "3"),
    refused("bounds that are the same", lambda: Bounded(1, 1), "1"),
    refused("bounds the wrong way round", lambda: Bounded(2, 1), "2", "1"),
    refused("bounds of NaN", lambda: Bounded(float("nan"), 1), "nan"),
    refused("bounds of infinity", lambda: Bounded(0, float("inf")), "inf"),
    refused("bounds of text", lambda: Bounded("0", "1"), "'0'"),
    *(refused(f"limits of {name} for ages", lambda limits=limits: of_frame(FRAME, kinds={"age": Bounded(*limits)}), "'age'", "nearer limits", "4 of 4")
      for name, limits in {"0 and 2.6e255": (0, 2.6e255), "0 and a billion": (0, 10**9), "plus and minus 1e9": (-1e9, 10)}.items()),
    refused("limits whose distance is infinite", lambda: Bounded(-1e308, 1e308), "1e+306"),
    refused("limits with no number between them", lambda: Bounded(1.0, 1.0 + 2**-52), "between"),
    refused("counts of 1e100", lambda: of_frame({"a": [1e100, 2.0, None]}, kinds={"a": "count"}), "'a'", "counts up to 1e+15", "row 0"),
    *(refused(f"a level for others that is a {type(other).__name__}", lambda other=other: Categorical(other=other), "other: expected")
      for other in (FRAME, FRAME["age"], [1], {}, np.ones(2), torch.zeros(0), pd.NA, float("nan"))),
    refused("levels as a frame", lambda: Categorical(FRAME), "levels: expected a list"),
    refused("levels as a mapping", lambda: Categorical({"a": 1}), "levels: expected a list"),
    *(refused(f"levels {levels!r} of numbers", lambda levels=levels: of_frame(FRAME, kinds={"age": Categorical(levels, other=0)}), "'age'", "levels that are numbers", "'a'")
      for levels in (("a",), (1.0, "a"))),
    refused("a word for the other numbers", lambda: of_frame(FRAME, kinds={"age": Categorical(other="else")}), "'age'", "'else'"),
    refused("a number for the other words", lambda: of_frame({"a": pd.array(["x", "y", None], dtype="string")}, kinds={"a": Categorical(other=0)}), "'a'", "text", "0"),
    refused("levels named twice", lambda: Categorical(("a", "b", "a")), "'a'"),
    refused("ordinal levels named twice", lambda: Ordinal(("a", "b", "a")), "'a'"),
    refused("binary levels named twice", lambda: Binary(("a", "a")), "'a'"),
    refused("binary of three levels", lambda: Binary(("a", "b", "c")), "two"),
    refused("one level", lambda: of_frame({"a": ["x", None, "x"]}, kinds={"a": Categorical(("x",))}), "level"),
    refused("levels as text", lambda: Categorical("ab"), "'ab'"),
    refused("a level that is missing", lambda: Categorical(("a", None)), "None"),
    refused("a level of NaN", lambda: Categorical(("a", float("nan"))), "nan"),
    taken("levels that are complex numbers", lambda: Categorical(np.array([1j, 2.0])).points, "words: positions", lambda points: points.tolist() == [0.0, 1.0]),
    refused("a level that is a list", lambda: Categorical(("a", ["b"])), "['b']"),
    refused("a value among no level", lambda: of_frame({"a": ["x", "y", None]}, kinds={"a": Categorical(("x", "z"))}), "'a'", "'y'"),
    refused("dates declared as counts", lambda: of_frame({"a": pd.to_datetime(["2020-01-01", None])}, kinds={"a": "count"}), "'a'"),
    refused("words declared continuous", lambda: of_frame({"a": ["x", "y", None]}, kinds={"a": "continuous"}), "'a'", "'x'"),
    refused(
        "objects of dates of two time zones",
        lambda: of_frame({"a": pd.Series([pd.Timestamp("2020-01-01", tz=zone) for zone in ("UTC", "Europe/Berlin")])}),
        "'a'", "UTC in row 0", "Europe/Berlin in row 1", "to_datetime",
    ),
    refused(
        "objects of dates with and without a time zone",
        lambda: of_frame({"a": pd.Series([pd.Timestamp("2020-01-01"), pd.Timestamp("2020-01-01", tz="UTC")])}),
        "'a'", "no zone in row 0", "UTC in row 1",
    ),
    refused("words declared ordinal without an order", lambda: of_frame({"a": ["x", "y", None]}, kinds={"a": "ordinal"}), "'a'", "order"),
    refused("codes of a column that is not there", lambda: of_frame(FRAME, na_values={"sex": -9}), "'sex'"),
    refused("codes as a list", lambda: of_frame(FRAME, na_values=[-9]), "na_values", "list"),
    refused("codes as a number", lambda: of_frame(FRAME, na_values=-9), "na_values", "int"),
    taken("True as a code of a column of numbers", lambda: of_frame({"a": [1.0, 2.0, 3.0], "b": [1.0, None, 3.0]}, na_values={"a": True}).mask[:, 0], "1 is no True", lambda mask: bool(mask.all())),
    taken("1 as a code of an object column of truth values", lambda: of_frame({"a": [1.0, 2.0, 3.0], "b": pd.Series([True, False, None], dtype=object)}, na_values={"b": 1}).mask[:, 1], "True is no 1", lambda mask: mask.tolist() == [True, True, False]),
    taken("a word as a code of Arrow's whole numbers", lambda: of_frame({"a": [1.0, None, 3.0], "b": pd.array([1, 2, 3], dtype="int64[pyarrow]")}, na_values={"b": "none"}).mask[:, 1], "stands in no row", lambda mask: bool(mask.all())),
    refused("codes that leave nothing", lambda: of_frame({"a": [-9, -9]}, na_values={"a": -9}), "'a'", "observed value"),
    refused("reasons of another length", lambda: of_frame(FRAME, by_design={"income": [True, False]}), "'income'", "4 booleans"),
    refused("reasons as a list", lambda: of_frame(FRAME, by_design=[True]), "by_design", "list"),
    refused("a reason for no gap", lambda: of_frame(FRAME, by_design={"income": [False, False, True, False]}), "'income'", "row 2"),
    refused("lower bounds as a number", lambda: of_frame(FRAME, lower=3), "lower", "3"),
    refused("a lower bound of text", lambda: of_frame(FRAME, lower={"income": "x"}), "'income'", "'x'"),
    refused("a lower bound of NaN", lambda: of_frame(FRAME, lower={"income": float("nan")}), "'income'", "nan"),
    refused("bounds that exclude what was seen", lambda: of_frame(FRAME, lower={"income": 2.0}), "'income'", "row 0"),
    refused("bounds of another length", lambda: of_frame(FRAME, upper={"income": [1.0]}), "'income'", "4"),
    refused("a lower bound above the upper one", lambda: of_frame(FRAME, lower={"income": 0.0}, upper={"income": -1.0}), "'income'"),
    refused("a constraint that is none", lambda: of_frame(FRAME, constraints=["age <= income"]), "constraints", "'age <= income'"),
    refused("a constraint that is a function", lambda: of_frame(FRAME, constraints=[lambda frame: True]), "constraints"),
    refused("constraints that are no list", lambda: of_frame(FRAME, constraints=InOrder("age", "income")), "constraints", "InOrder"),
    refused("constraints that are a number", lambda: of_frame(FRAME, constraints=3), "constraints", "3"),
    refused("an order of one column", lambda: InOrder("a"), "two columns", "['a']"),
    refused("an order of a column and itself", lambda: InOrder("a", "a"), "'a'"),
    refused("an order of a column that is not there", lambda: of_frame(FRAME, constraints=[InOrder("age", "sex")]), "'sex'"),
    refused("an order that rows break", lambda: of_frame(FRAME, constraints=[InOrder("income", "age", strict=True)]), "rows 0, 2"),
    refused("a sum of one part", lambda: SumsTo(["a"], 1), "two parts"),
    refused("a sum of the same part twice", lambda: SumsTo(["a", "a"], 1), "'a'"),
    refused("a sum of which the total is a part", lambda: SumsTo(["a", "b"], "a"), "'a'"),
    refused("a total of NaN", lambda: SumsTo(["a", "b"], float("nan")), "nan"),
    refused("a total of infinity", lambda: SumsTo(["a", "b"], float("inf")), "inf"),
    refused("a tolerance below zero", lambda: SumsTo(["a", "b"], 1.0, tolerance=-1.0), "tolerance", "-1"),
    *(refused(f"a tolerance that is {shown}", lambda value=value: SumsTo(["a", "b"], 1.0, tolerance=value), "tolerance", "at least 0")
      for shown, value in {"text": "x", "a frame": FRAME, "NA": pd.NA, "True": True}.items()),
    refused("parts as text", lambda: SumsTo("ab", 1), "'ab'"),
    refused("parts as a number", lambda: SumsTo(3, 1), "3"),
    refused("carried columns as text", lambda: of_frame(FRAME, carry="age"), "carry", "'age'"),
    refused("a carried column that is not there", lambda: of_frame(FRAME, carry=["sex"]), "'sex'"),
    refused("every column carried", lambda: of_frame(FRAME, carry=["age", "income"]), "at least one column"),
    refused("standardize as text", lambda: of_frame(FRAME, standardize="yes"), "standardize", "'yes'"),
    refused("standardize of a column that is not there", lambda: of_frame(FRAME, standardize={"sex": False}), "'sex'"),
    refused("a weight below zero", lambda: of_frame({"w": [-1.0, 1, 1, 1], "a": GAP}, weights="w"), "'w'", "row 0"),
    refused("weights of NaN", lambda: of_frame({"w": [np.nan, 1, 1, 1], "a": GAP}, weights="w"), "'w'", "row 0"),
    refused("weights of infinity", lambda: of_frame({"w": [np.inf, 1, 1, 1], "a": GAP}, weights="w"), "'w'", "row 0"),
    refused("weights of zero", lambda: of_frame({"w": [0.0] * 4, "a": GAP}, weights="w"), "'w'"),
    refused("weights of words", lambda: of_frame({"w": list("wxyz"), "a": GAP}, weights="w"), "'w'"),
    refused("weights that are not there", lambda: of_frame(FRAME, weights="w"), "'w'"),
    refused("clusters with gaps", lambda: of_frame(FRAME, cluster="income"), "'income'", "row 1"),
    refused("pandas' NA for the column of clusters", lambda: of_frame(FRAME, cluster=pd.NA), "<NA>", "expected one of"),
    refused(
        "the same for U, beside one kind for all columns",
        lambda: of_frame(FRAME, auxiliary=[pd.NA], kinds="continuous"),
        "<NA>",
        "expected one of",
    ),
    refused("a dtype of whole numbers", lambda: of_frame(FRAME, dtype=torch.int64), "dtype", "torch.int64"),
    refused("a dtype of NumPy's", lambda: of_frame(FRAME, dtype=np.float32), "dtype"),
    refused("a dtype as text", lambda: of_frame(FRAME, dtype="float32"), "dtype", "'float32'"),
    refused("a schema that is none", lambda: of_frame(FRAME, schema={"age": 1}), "schema", "dict"),
    refused("an array of one dimension", lambda: Table.from_numpy(np.zeros(3)), "(3,)"),
    refused("an array of three dimensions", lambda: Table.from_numpy(np.zeros((2, 2, 2))), "(2, 2, 2)"),
    refused("an array of no rows", lambda: Table.from_numpy(np.zeros((0, 2))), "at least one row"),
    refused("an array of text", lambda: Table.from_numpy(np.array([["a", "b"], ["c", "1"]]), kinds="continuous"), "numbers"),
    refused("an array with infinity", lambda: Table.from_numpy(np.array([[1.0, np.inf], [2.0, 1.0]])), "inf"),
    refused("an array and too few names", lambda: Table.from_numpy(np.eye(2), columns=["a"]), "2", "1"),
    refused("an array and repeated names", lambda: Table.from_numpy(np.eye(2), columns=["a", "a"]), "'a'"),
    refused("an array of structures", lambda: Table.from_numpy(np.zeros(2, dtype=[("a", float)])), "(2,)"),
    refused("new rows without a column", lambda: of_frame(FRAME).new_rows(pd.DataFrame({"age": SEEN})), "'income'"),
    refused("new rows with a new level", lambda: of_frame({"a": ["x", "y", None]}).new_rows(pd.DataFrame({"a": ["z"]})), "'a'", "'z'"),
    refused("new rows that are no frame", lambda: of_frame(FRAME).new_rows([1.0]), "DataFrame", "list"),
    refused("new rows with infinity", lambda: of_frame(FRAME).new_rows(FRAME.replace(1.0, np.inf)), "inf", "row 0"),
    taken("new rows of 1e300", lambda: imputed_new(FRAME.replace(1.0, 1e300)), "finite", finite),
    refused("rows out of range", lambda: of_frame(FRAME).take([9]), "9", "4"),
    refused("rows by name", lambda: of_frame(FRAME).take(["a"]), "'a'"),
    refused("cells held out of another shape", lambda: of_frame(FRAME).hold_out(np.ones((4, 1), bool)), "(4, 2)", "(4, 1)"),
    refused("a batch size of zero", lambda: of_frame(FRAME).batches(0), "batch_size", "0"),
    refused("a batch size of a half", lambda: of_frame(FRAME).batches(0.5), "batch_size", "0.5"),
    taken("dates beside gaps", lambda: imputed({"a": pd.to_datetime(["2020-01-01", None, "2021-01-01"])}), "dates",
          lambda f: bool(f["a"].notna().all())),
    taken(
        "objects of dates with a time zone beside gaps",
        lambda: imputed({"a": pd.Series([pd.Timestamp("2020-01-01", tz="UTC"), None], dtype=object)}), "dates of the zone",
        lambda f: all(date.tzinfo is not None for date in f["a"]),
    ),
    taken("dates of the year 9999", lambda: imputed({"a": pd.Series([dt.date(9999, 12, 31), None, dt.date(1, 1, 1)])}),
          "dates", lambda f: bool(f["a"].notna().all())),
    taken("booleans beside gaps", lambda: imputed({"a": [True, None, False]}), "probabilities or levels",
          lambda f: bool(f["a"].notna().all())),
    refused("a level of 10**400", lambda: Categorical((1, BIG)), "levels", "1e+306"),
    refused("an overdispersion that is a Series", lambda: Count(pd.Series([1.0, 2.0])), "overdispersed", "True or False"),
    refused("kinds of NA", lambda: of_frame(FRAME, kinds=pd.NA), "kind", "<NA>"),
    refused("kinds of a Series", lambda: of_frame(FRAME, kinds=pd.Series([1.0, 2.0])), "kind"),
    refused("kinds of nought", lambda: of_frame(FRAME, kinds=0), "kind", "0"),
    refused("a noise of 1e16 standard deviations", lambda: Positive(noise=1e16), "noise", "at most", "1e+16"),
    refused("a noise that is an array", lambda: Positive(noise=np.ones(2)), "noise", "array"),
    refused("whole numbers by a word", lambda: Positive(whole="no"), "whole", "'no'"),
    refused("a Series in place of bounds", lambda: of_frame(FRAME, upper=pd.Series([1.0, 2.0])), "upper", "mapping"),
    refused("a Series in place of a kind", lambda: of_frame(FRAME, kinds={"age": pd.Series([1.0])}), "'age'", "kind"),
    refused("a formula nested 300 deep", lambda: of_frame(FRAME, derived={"age": "(" * 300}), "'age'", "expression"),
    refused("bytes that are no text", lambda: of_frame({"a": [b"\x80", b"\x81", None], "b": [1.0, 2.0, 3.0]}), "'a'", "numbers"),
    refused("a formula of another unit", lambda: of_frame({"a": SEEN, "b": [2.2, 4.4, 6.6, 11.0], "c": GAP}, derived={"b": "a"}), "'b'", "4 of 4 rows", "2.2 times"),
    taken("an iterator of auxiliaries", lambda: of_frame(FRAME, auxiliary=iter(["age"])), "U",
          lambda table: [u.name for u in table.schema.auxiliaries] == ["age"]),
]  # fmt: skip


def imputed_new(frame: pd.DataFrame) -> pd.DataFrame:
    table = of_frame(FRAME)
    return impute(untrained(table), frame, num_draws=2, num_particles=4, compile="eager").mean()
