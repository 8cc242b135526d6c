"""Sparse matrices and long frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse

from bad_inputs.case import Case, refused, taken, untrained
from pyro_mnar import Table, impute

MATRIX = scipy.sparse.coo_array(([1.0, 2.0, 3.0, 4.5], ([0, 0, 1, 2], [0, 1, 0, 1])), shape=(3, 2))
LONG = pd.DataFrame({"row": [1, 1, 2, 3], "column": ["a", "b", "a", "b"], "value": [1.0, 2.0, 3.0, 4.5]})


def sparse(matrix: Any = MATRIX, **options: Any) -> Table:
    return Table.from_sparse(matrix, **{"auxiliary": [], **options})


def long(frame: Any = LONG, **options: Any) -> Table:
    return Table.from_long(frame, **{"auxiliary": [], **options})


def entries(*values: Any) -> scipy.sparse.coo_array:
    return scipy.sparse.coo_array((list(values), ([0, 0, 1, 2], [0, 1, 0, 1])), shape=(3, 2))


CASES: list[Case] = [
    refused("a dense array in place of a sparse matrix", lambda: sparse(np.eye(2)), "sparse matrix", "ndarray"),
    refused("None in place of a sparse matrix", lambda: sparse(None), "sparse matrix", "NoneType"),
    refused("a frame in place of a sparse matrix", lambda: sparse(LONG), "sparse matrix", "DataFrame"),
    refused("a sparse matrix of no rows", lambda: sparse(scipy.sparse.coo_array((0, 2))), "observed value"),
    refused("a sparse matrix of no columns", lambda: sparse(scipy.sparse.coo_array((2, 0))), "observed value"),
    refused("a sparse matrix without entries", lambda: sparse(scipy.sparse.coo_array((2, 2))), "observed value"),
    refused("a sparse matrix with infinity", lambda: sparse(entries(1.0, np.inf, 2.0, 3.0)), "inf"),
    refused("a sparse matrix of complex numbers", lambda: sparse(entries(1j, 1.0, 2.0, 3.0)), "numbers"),
    refused("a cell given twice", lambda: sparse(scipy.sparse.coo_array(([1.0, 2.0], ([0, 0], [0, 0])), shape=(1, 1))), "row 0", "2"),
    refused("too few names of columns", lambda: sparse(columns=["a"]), "columns", "2", "1"),
    refused("repeated names of columns", lambda: sparse(columns=["a", "a"]), "'a'"),
    refused("too few labels of rows", lambda: sparse(rows=[1]), "rows", "3", "1"),
    refused("repeated labels of rows", lambda: sparse(rows=[1, 1, 2]), "1"),
    refused("names as a number", lambda: sparse(columns=3), "columns", "3"),
    refused("unknown units", lambda: sparse(units="rows"), "units", "'rows'"),
    refused("a kind of no column", lambda: sparse(columns=["a", "b"], kinds={"c": "count"}), "'c'"),
    refused("positive entries below zero", lambda: sparse(entries(-1.0, 1.0, 2.0, 3.0), kinds="positive"), "-1"),
    refused("an auxiliary of a sparse matrix that is not there", lambda: sparse(auxiliary=["sex"]), "'sex'"),
    refused("U of too few rows", lambda: sparse(auxiliary=pd.DataFrame({"u": [1.0]})), "3", "1"),
    *(refused(f"U of {count} rows for 3", lambda count=count: sparse(auxiliary=pd.DataFrame({"u": np.arange(float(count))})), "3 rows", str(count))
      for count in (0, 2, 4)),
    refused("fewer labels than rows beside U", lambda: sparse(auxiliary=pd.DataFrame({"u": np.arange(3.0)}), rows=["a"]), "rows", "3", "1"),
    refused("U of no row for a long frame", lambda: long(auxiliary=pd.DataFrame({"u": []})), "which has none"),
    refused("U with gaps", lambda: sparse(auxiliary=pd.DataFrame({"u": [1.0, np.nan, 2.0]})), "'u'", "row 1"),
    refused("an option that is none", lambda: sparse(weights="w"), "weights"),
    refused("by_design of an observed cell", lambda: sparse(by_design=([0], [0])), "row 0"),
    refused("by_design out of the matrix", lambda: sparse(by_design=([9], [0])), "9"),
    refused("a dense view too large", lambda: sparse(most_dense_cells=1).x, "at most 1", "3 rows and 2 columns"),
    taken("explicit zeros", lambda: sparse(entries(0.0, 1.0, 2.0, 0.0)), "are values", lambda t: t.num_entries == 4),
    refused("labels of half floats that are none of the columns named", lambda: long(LONG.assign(column=np.array([0, 1, 0, 7], dtype=np.float16)), columns=[0, 1]), "column", "7"),
    taken("columns of 1e200 and of 1e39", lambda: sparse(entries(0.0, 4e38, 1e200, 0.0)).batch().x, "each has its own unit", lambda x: bool(x.isfinite().all()) and x.abs().max() == 1),
    taken("entries of NaN", lambda: sparse(entries(np.nan, 1.0, 2.0, 0.0)), "are gaps", lambda t: t.num_entries == 3),
    taken("a row without entries", lambda: impute(
        untrained(t := sparse(scipy.sparse.coo_array(([1.0, 2.0], ([0, 2], [0, 0])), shape=(3, 1)))), t,
        num_draws=2, num_particles=3, cells=([1], [0])).draws, "drawn", lambda draws: bool(np.isfinite(draws).all())),
    refused("a long frame that is none", lambda: long([1.0]), "DataFrame", "list"),
    refused("a long frame without the column of values", lambda: long(LONG[["row", "column"]]), "'value'"),
    refused("a long frame without lines", lambda: long(LONG[:0]), "at least one"),
    refused("a line without a row", lambda: long(LONG.assign(row=[1.0, np.nan, 2.0, 3.0])), "row"),
    refused("a line without a column", lambda: long(LONG.assign(column=["a", None, "a", "b"])), "column"),
    refused("a cell in two lines", lambda: long(pd.concat([LONG, LONG[:1]])), "row 1", "'a'"),
    refused("values of infinity", lambda: long(LONG.assign(value=[1.0, np.inf, 2.0, 3.0])), "inf"),
    refused("values of words among numbers", lambda: long(LONG.assign(value=[1.0, "x", 2.0, 3.0])), "'x'"),
    refused("values that are lists", lambda: long(LONG.assign(value=[[1], [2], [3], [4]])), "value"),
    refused("values of 10**400", lambda: long(LONG.assign(value=pd.Series([10**400, 1, 2, 3], dtype=object))), "value"),
    refused("a line of an undeclared column", lambda: long(columns=["a"]), "'b'"),
    refused("a line of an undeclared row", lambda: long(rows=[1, 2]), "3"),
    refused("a list for the label of a line", lambda: long(LONG.assign(column=[["a"]] * 4), columns=["a"]), "column", "['a']", "line 0"),
    refused("a set for the label of a line", lambda: long(LONG.assign(row=[{1}] * 4)), "row", "{1}", "line 0"),
    refused("a list for the name of an auxiliary", lambda: long(auxiliary=[["a"]]), "auxiliary", "['a']"),
    refused("labels that are lists", lambda: long(rows=[[1], [2]]), "row", "[1]"),
    refused("a list in place of a row's name", lambda: long(row=[None]), "row", "[None]"),
    refused("a Series in place of units", lambda: long(units=pd.Series([1.0, 2.0])), "units"),
    refused("a dtype that is a word", lambda: long(dtype="float64"), "dtype", "'float64'"),
    refused("a sparse matrix in a dtype of whole numbers", lambda: sparse(dtype=int), "dtype"),
    refused("complex entries of a declared kind", lambda: sparse(entries(0j, 1.0, 0.5, 0.2), kinds="bounded"), "complex"),
    refused("bytes in a long frame", lambda: long(LONG.assign(value=[b"\x80"] * 4)), "value"),
    refused("the same name for row and column", lambda: long(row="row", column="row"), "'row'"),
    refused("new lines of a new column", lambda: long().new_rows(LONG.assign(column="c")), "'c'"),
]  # fmt: skip
