"""Arguments: right ones, nearly right ones, and what nobody should give."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import torch
from hypothesis import strategies as st

from pyro_mnar import InOrder, MissingnessGraph, SumsTo, mechanisms
from pyro_mnar.kinds import KINDS, Binary, Bounded, Categorical, Continuous, Count, Ordinal, ZeroInflated
from pyro_mnar.messages import is_hashable


class Text(str):
    """A text of another class."""


NAN, INF = float("nan"), float("inf")
JUNK = [
    None, 0, 1, -1, 3, 1.5, True, False, "", "a", "x == 1", NAN, INF, -INF, 10**400, 2**63, b"x", 1j, [], {}, (), {1},
    [None], ["a", "a"], [["a"]], {"a": {}}, {None: 1}, object, len, np.float64(2), np.int64(2), np.array([1.0, 2.0]),
    np.array([]), pd.Series([1.0, 2.0]), pd.DataFrame({"a": [1.0]}), torch.tensor([1.0]), range(3), iter([1]),
    "\n", "a" * 1000, np.nan, pd.NA, pd.NaT, Ellipsis, slice(0, 1), ValueError("x"),
    # Nearly a number, a text, a list, a frame.
    -0.0, 1e308, 5e-324, Decimal("1.5"), Fraction(1, 2), np.bool_(True), np.float32(1), np.array(1.0), np.array([1j]), np.array(["a"]),
    np.array([[1.0]]), np.array([None]), np.datetime64("NaT"), pd.Timestamp("2020-01-01"), torch.tensor(1.0), torch.tensor([1j]),
    Text("a"), np.str_("a"), "\0", "\ud800", {"a": {"b": [1]}}, frozenset(["a"]), pd.Index(["a"]), pd.Categorical(["a"]),
    pd.DataFrame(), pd.Series([], dtype=float), torch.empty(0), lambda *_, **__: None,
]  # fmt: skip
JUNKS = st.sampled_from(JUNK)
NUMBERS = st.one_of(st.integers(-5, 20), st.floats(-5, 5), st.floats(), JUNKS)
FORMULAS = ["a", "a + b", "a / b", "log(a)", "exp(a) * 2", "a ** b", "a == 1", "a > 0 & b < 3", "a +", "(", "import os",
            "__import__('os')", "a.b", "a[0]", "c * 2", "-a", "1", "'x'", "a == 'a'", "sqrt(a)", "a b", "a @ b", "not a",
            "(" * 300, "a" + "+a" * 400, "9**9**9", "a // 0", "lambda: 1", "a if b else c", "a.isna()", "abs(a)"]  # fmt: skip


def some_names(names: list[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(one_name(names), max_size=4)


def one_name(names: list[Any]) -> st.SearchStrategy[Any]:
    known = st.sampled_from(names) if names else st.just("a")
    return st.one_of(known, known, known, st.sampled_from(["absent", "a", 0, None]))


def kinds() -> st.SearchStrategy[Any]:
    return st.one_of(
        st.sampled_from(sorted(KINDS)),
        st.sampled_from(
            [Bounded(-5, 10), Bounded(0, 1), Count(False), Continuous(noise=1.0), ZeroInflated(0.0), ZeroInflated(5.0),
             Categorical(("a", "b", "c")), Ordinal((5, 3, 1, 0, 2, 4)), Binary((False, True)), Categorical(other="a"),
             Binary((1, 0)), Ordinal(("c", "b", "a")), Categorical((1.0, 2.0))]
        ),
        JUNKS,
    )  # fmt: skip


def by_name(names: list[Any], values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A mapping from columns, or one value for all."""
    return st.one_of(st.lists(st.tuples(one_name(names).filter(is_hashable), values), max_size=3).map(dict), values)


def conditions(names: list[Any], num_rows: int) -> st.SearchStrategy[Any]:
    """What names cells: booleans a row, codes, conditions."""
    random = np.random.default_rng(0)
    return st.one_of(
        st.sampled_from([[1.0, 2.0], [0], 1, "a", -99, [NAN], ["a", 1]]),
        st.sampled_from([random.random(num_rows) < 0.3, pd.Series(random.random(num_rows) < 0.5), [True] * num_rows]),
        st.sampled_from(FORMULAS),
        st.just(lambda f: f.iloc[:, 0].isna()),
        st.just(lambda f: f["absent"] == 1),
        JUNKS,
    )


def row_conditions(names: list[Any]) -> st.SearchStrategy[Any]:
    def made(kind: type, *arguments: Any) -> Any:
        try:
            return kind(*arguments)
        except (ValueError, TypeError):
            return "a <= b"

    pairs = st.lists(one_name(names).filter(is_hashable), min_size=2, max_size=3)
    return st.lists(
        st.one_of(
            pairs.map(lambda p: made(InOrder, *p)),
            st.tuples(pairs, NUMBERS).map(lambda p: made(SumsTo, p[0][:-1], p[0][-1])),
            st.tuples(pairs, NUMBERS).map(lambda p: made(SumsTo, p[0], p[1])),
            JUNKS,
        ),
        max_size=2,
    )


def of_frames(frame: pd.DataFrame) -> st.SearchStrategy[dict[str, Any]]:
    """Options of ``Table.from_frame``, a few at a time."""
    names, num_rows = list(frame.columns), len(frame)
    bounds = st.one_of(NUMBERS, st.just(pd.Series(np.linspace(-1, 5, num_rows))), st.just([NAN] * num_rows))
    known: dict[str, st.SearchStrategy[Any]] = {
        "auxiliary": st.one_of(some_names(names), st.sampled_from(["mask", None, [], "a"]), JUNKS),
        "kinds": st.one_of(by_name(names, kinds()), kinds()),
        "na_values": by_name(names, st.one_of(st.sampled_from([1.0, [0, 1], "a", ["a"], -99]), JUNKS)),
        "not_applicable": by_name(names, conditions(names, num_rows)),
        "by_design": by_name(names, conditions(names, num_rows)),
        "lower": by_name(names, bounds),
        "upper": by_name(names, bounds),
        "constraints": st.one_of(row_conditions(names), JUNKS),
        "carry": st.one_of(some_names(names), JUNKS),
        "derived": by_name(names, st.one_of(st.sampled_from(FORMULAS), st.just(lambda f: f["a"] * 2), JUNKS)),
        "standardize": st.one_of(st.booleans(), by_name(names, st.booleans()), JUNKS),
        "weights": st.one_of(one_name(names), JUNKS),
        "cluster": st.one_of(one_name(names), JUNKS),
        "strata": st.one_of(one_name(names), JUNKS),
        "dtype": st.sampled_from([torch.float32, torch.float64, torch.float16, torch.int64, "float32", float, 3]),
    }
    return a_few_of(known)


def a_few_of(known: dict[str, st.SearchStrategy[Any]], most: int = 3) -> st.SearchStrategy[dict[str, Any]]:
    return st.lists(st.sampled_from(sorted(known)), max_size=most, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: known[name] for name in names})
    )


SOME = st.one_of(st.integers(1, 4), NUMBERS)
OF_FIT = {
    "epochs": SOME,
    "batch_size": SOME,
    "num_particles": SOME,
    "learning_rate": NUMBERS,
    "clip": NUMBERS,
    "seed": NUMBERS,
    "device": st.one_of(st.sampled_from(["cpu", "cuda", "meta", torch.device("cpu"), "cpu:1"]), JUNKS),
    "estimator": st.one_of(st.sampled_from(["pathwise", "doubly-reparameterized"]), JUNKS),
    "held_out": NUMBERS,
    "patience": SOME,
    "restarts": SOME,
    "bootstrap": SOME,
    "start": st.one_of(st.just("data"), JUNKS),
    "checkpoint": st.one_of(st.just("/dev/null/x"), JUNKS.filter(lambda value: not isinstance(value, (str, bytes)))),
    "every": SOME,
    "resume": st.one_of(st.booleans(), JUNKS),
    "compile": st.one_of(st.sampled_from(["eager", "auto"]), JUNKS),
}
OF_IMPUTE = {
    "cells": st.one_of(
        st.sampled_from([([1], ["income"]), ([], []), [(1, "income")], ([1], [1]), ([-1], ["age"])]), JUNKS
    ),
    "constraints": st.one_of(row_conditions(["age", "income"]), JUNKS),
    "num_draws": SOME,
    "num_particles": SOME,
    "use_mechanism": JUNKS,
    "keep_mechanism_weight": JUNKS,
    "delta": st.one_of(by_name(["age", "income"], NUMBERS), JUNKS),
    "delta_scale": st.one_of(st.sampled_from(["sd", "outcome", "factor"]), JUNKS),
    "key": st.one_of(st.sampled_from(["age", "income", ["age", "income"]]), JUNKS),
    "seed": NUMBERS,
    "device": st.one_of(st.sampled_from(["cpu", "cuda", "meta"]), JUNKS),
    "compile": st.one_of(st.sampled_from(["eager", "auto"]), JUNKS),
}
OF_MODELS = {
    "latent_dim": SOME,
    "mechanism": st.one_of(
        st.sampled_from([mechanisms.SelfMasking, mechanisms.General, mechanisms.SelfMasking(2), mechanisms.Constant]), JUNKS
    ),
    "graph": st.one_of(st.sampled_from([MissingnessGraph.self_masking(["age", "income"]), "self-masking"]), JUNKS),
    "decoder": JUNKS,
    "prior": JUNKS,
    "blocks": JUNKS,
    "shrinkage": JUNKS,
    "groups": SOME,
    "forests": st.one_of(st.sampled_from([True, False, ["income"], ["age", "no"]]), JUNKS),
    "mechanism_weight": NUMBERS,
    "discrete": st.one_of(st.sampled_from(["summed", "drawn"]), JUNKS),
    "numbers": JUNKS,
    "sign": st.one_of(st.sampled_from([1, -1, 0, [1], [1, -1], "high"]), JUNKS),
    "slope": NUMBERS,
    "seed": NUMBERS,
    "num_classes": SOME,
    "noise": NUMBERS,
}  # fmt: skip
NAMED = ["age", "income", 0, 1, -1, "x0"]
OF_IMPUTER = {
    "graph": st.one_of(
        st.sampled_from(["self_masking", "mar", "general", "nope", [("age", "R[income]")], {"income": ["age"]},
                         {"preset": "mar"}, {"edges": []}]), JUNKS
    ),
    "kinds": st.one_of(by_name(NAMED, kinds()), kinds()),
    "auxiliary": st.one_of(some_names(NAMED), st.sampled_from(["mask", None, [], "age"]), JUNKS),
    "carry": st.one_of(some_names(NAMED), JUNKS),
    "lower": st.one_of(by_name(NAMED, NUMBERS), JUNKS),
    "upper": st.one_of(by_name(NAMED, NUMBERS), JUNKS),
    "constraints": st.one_of(row_conditions(NAMED), JUNKS),
    "missing_values": st.one_of(st.sampled_from([-1, 3.0, "", "a", "NA"]), JUNKS),
    "latent_dim": SOME,
    "max_steps": SOME,
    "batch_size": SOME,
    "num_particles": SOME,
    "learning_rate": NUMBERS,
    "num_draws": SOME,
    "sample_posterior": JUNKS,
    "add_indicator": JUNKS,
    "keep_empty_features": JUNKS,
    "random_state": st.one_of(st.sampled_from([np.random.RandomState(0), np.random.default_rng(0)]), NUMBERS),
    "verbose": JUNKS,
}  # fmt: skip
