"""What is tried: a function each, of what Hypothesis draws."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse
from hypothesis import strategies as st

from bad_inputs.case import FRAME, of_frame, pair, untrained
from fuzz import columns, files, options
from fuzz.arguments import arguments
from fuzz.oracle import check_table, completed, judged, unchanged
from pyro_mnar import Fit, MissingnessGraph, Table, fit, pool_scalar
from pyro_mnar.estimator import MNARImputer
from pyro_mnar.guides import MeanField, PointNet, ZeroImpute
from pyro_mnar.kinds import Bounded, Categorical, Continuous, Count, Ordinal, Positive, ZeroInflated
from pyro_mnar.models import ANOVA, GINA, Ignorable, LatentDependent, NormalMixture, NotMIWAE, PartialVAE, SelfMasking

Target = Callable[[st.DataObject], None]


def frames(data: st.DataObject) -> None:
    """``Table.from_frame`` of any frame with any options, and what an untrained model imputes."""
    frame = data.draw(columns.PLAIN)
    given = data.draw(options.of_frames(frame))
    with unchanged(frame):
        table = judged(lambda: Table.from_frame(frame, **given))
        if table is not None:
            check_table(table)


def ordinary(data: st.DataObject) -> None:
    """Frames as people have them, none of which is refused: an oracle of errors alone would not see one too many."""
    frame = data.draw(columns.ordinary_frames())
    with unchanged(frame):
        table = judged(lambda: Table.from_frame(frame))
        assert table is not None, "refused"
        check_table(table)
        assert judged(lambda: Table.from_frame(frame.iloc[::-1], schema=table.schema)) is not None, "new rows refused"


def new_rows(data: st.DataObject) -> None:
    """Rows that a fit has not seen, of any frame."""
    frame = data.draw(columns.PLAIN)
    other = data.draw(st.one_of(columns.frames(), st.just(frame.iloc[::-1]), st.just(frame.iloc[:, ::-1])))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            table = of_frame(frame)
            known = untrained(table)
        except (ValueError, TypeError):
            return
    with unchanged(other):
        judged(lambda: table.new_rows(other))
        completed(known, other)


def long_frames(data: st.DataObject) -> None:
    """``Table.from_long`` and ``Table.from_sparse``."""
    num_lines = data.draw(st.sampled_from([0, 1, 4, 20]))
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    frame = pd.DataFrame(
        {"row": random.permutation(num_lines * 2)[:num_lines] // 3, "column": np.arange(num_lines) % 3}
    )
    frame["value"] = data.draw(columns.columns(num_lines))
    for name in ("row", "column"):
        if data.draw(st.sampled_from([False, False, True])):
            frame[name] = data.draw(columns.columns(num_lines))
    names = ["row", "column", "value"]
    known = {
        "row": st.one_of(options.one_name(names), options.JUNKS),
        "column": st.one_of(options.one_name(names), options.JUNKS),
        "value": st.one_of(options.one_name(names), options.JUNKS),
        "rows": st.one_of(st.just(list(range(40))), options.JUNKS),
        "columns": st.one_of(st.just([0, 1, 2]), options.JUNKS),
        **of_matrices(num_lines),
    }
    given = data.draw(options.a_few_of(known))
    with unchanged(frame):
        table = judged(lambda: Table.from_long(frame, **given))
        if table is not None:
            check_table(table)


def matrices(data: st.DataObject) -> None:
    """``Table.from_sparse``."""
    num_entries = data.draw(st.sampled_from([0, 1, 5, 12]))
    values = data.draw(st.lists(columns.NUMBERS, min_size=num_entries, max_size=num_entries))
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    at = random.permutation(5 * 4)[:num_entries]
    matrix = scipy.sparse.coo_array((np.array(values, dtype=float), (at // 4, at % 4)), shape=(5, 4))
    dtype = data.draw(st.sampled_from([float, np.float32, np.int64, bool, np.uint8, complex]))
    form = data.draw(st.sampled_from(["coo", "csr", "csc", "lil", "dok"]))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        matrix = matrix.astype(dtype).asformat(form)
    given = data.draw(options.a_few_of({"columns": options.JUNKS, "rows": options.JUNKS, **of_matrices(5)}))
    table = judged(lambda: Table.from_sparse(matrix, **given))
    if table is not None:
        check_table(table)


def of_matrices(num_rows: int) -> dict[str, st.SearchStrategy[Any]]:
    return {
        "auxiliary": st.one_of(
            st.sampled_from(["mask", None, [], pd.DataFrame({"u": np.arange(float(num_rows))}), [0], ["row"]]),
            options.JUNKS,
        ),
        "kinds": options.by_name([0, 1, 2], options.kinds()),
        "units": st.one_of(st.sampled_from(["columns", "table"]), options.JUNKS),
        "by_design": st.one_of(st.sampled_from([([0], [1]), ([], []), [(0, 1)], ([4], [2])]), options.JUNKS),
        "not_applicable": st.one_of(st.sampled_from([([0], [1]), ([], []), [(0, 1)]]), options.JUNKS),
        "most_dense_cells": options.SOME,
        "dtype": options.JUNKS,
    }


TABLE = of_frame(FRAME)
WORDS = of_frame(
    pd.DataFrame({"age": [1.0, 2.0, None, 4.0] * 6, "income": ["x", None, "y", "z"] * 6, "u": [1.0, 3.0] * 12}),
    auxiliary=["u"],
)


def training(data: st.DataObject) -> None:
    """Arguments of ``fit``, and imputations by what it gives."""
    given = {"epochs": 1, **data.draw(options.a_few_of(options.OF_FIT))}
    if given["epochs"] is None or (isinstance(given["epochs"], (int, np.integer)) and 4 < given["epochs"] < 2**60):
        given["epochs"] = 2  # right, and long
    if isinstance(given.get("bootstrap"), int) and given["bootstrap"] > 4:
        given["bootstrap"] = 2  # likewise
    table = data.draw(st.sampled_from([TABLE, WORDS]))
    if not {"compile"} & set(given):
        given["compile"] = "eager"
    found = judged(lambda: fit(*pair(table), table, **{"progress": False, **given}))
    if isinstance(found, Fit) and found.device.type == "cpu":
        completed(found, table)


def imputing(data: st.DataObject) -> None:
    """Arguments of ``impute``."""
    table = data.draw(st.sampled_from([TABLE, WORDS]))
    given = data.draw(options.a_few_of(options.OF_IMPUTE))
    if "cells" in given or given.keys() & {"device", "delta"}:
        from pyro_mnar import impute

        given = {"num_draws": 2, "num_particles": 3, "compile": "eager", **given}
        judged(lambda: impute(untrained(table), table, **given))
    else:
        completed(untrained(table), table, **given)


MODELS = [GINA, NotMIWAE, SelfMasking, LatentDependent, Ignorable, PartialVAE, NormalMixture, ANOVA]
GUIDES: dict[Any, list[str]] = {
    ZeroImpute: ["hidden", "activation"],
    PointNet: ["embedding_dim", "features", "by_entry"],
}
KINDS = {
    Bounded: ["lower", "upper", "noise", "whole"],
    Continuous: ["noise", "whole"],
    Positive: ["noise", "whole"],
    Count: ["overdispersed"],
    ZeroInflated: ["point"],
    Categorical: ["levels", "other"],
    Ordinal: ["levels", "other"],
}


def models(data: st.DataObject) -> None:
    """Arguments of models, guides and kinds."""
    table = data.draw(st.sampled_from([TABLE, WORDS, FRAME, None]))
    kind = data.draw(st.sampled_from(MODELS))
    known = {name: of for name, of in options.OF_MODELS.items() if name in kind.__init__.__annotations__}
    given = data.draw(options.a_few_of(known))
    model = judged(lambda: kind(table, **given))
    if model is not None and kind is not ANOVA:
        short = {"epochs": 1, "progress": False, "compile": "eager", "num_particles": 2}
        judged(lambda: fit(model, ZeroImpute(table, getattr(model, "latent_dim", 1)), table, **short))
    guide = data.draw(st.sampled_from([ZeroImpute, PointNet, MeanField]))
    of_guide = data.draw(options.a_few_of(dict.fromkeys([*GUIDES.get(guide, []), "seed"], options.JUNKS)))
    latent_dim = data.draw(options.SOME)
    if guide is MeanField:
        of_guide = {}
    judged(lambda: guide(table, latent_dim, **of_guide))
    column = data.draw(st.sampled_from(list(KINDS)))
    of_kind = data.draw(options.a_few_of(dict.fromkeys(KINDS[column], options.NUMBERS)))
    made = judged(lambda: column(**of_kind))
    if made is not None:
        read = judged(lambda: of_frame(FRAME, kinds={"income": made}))
        if read is not None:
            check_table(read)


def estimator(data: st.DataObject) -> None:
    """``MNARImputer``: its arguments, rows of training, and new ones in whatever container.

    What is no table of numbers or words scikit-learn itself refuses, as its contract has it.
    """
    given = data.draw(options.a_few_of(options.OF_IMPUTER, most=2))
    for name, least in (("max_steps", 3), ("num_draws", 2)):
        if not (isinstance(given.get(name), (int, np.integer)) and given[name] > 2**60):
            given[name] = given[name] if name in given and not _is_long(given[name]) else least
    frame = data.draw(st.one_of(st.just(FRAME), columns.ordinary_frames(), columns.frames()))
    of_array = data.draw(st.booleans())
    rows = frame.to_numpy() if of_array else frame
    new = data.draw(st.one_of(st.just(frame), st.just(frame.iloc[::-1]), columns.frames(), options.JUNKS))
    new = new.to_numpy() if of_array and isinstance(new, pd.DataFrame) else new
    weight = data.draw(st.one_of(st.none(), st.none(), st.just(np.ones(len(frame))), options.JUNKS))
    with unchanged(frame):
        trained = judged(lambda: MNARImputer(**given).fit(rows, sample_weight=weight), "sklearn")
        if trained is None:
            return
        for some in (rows, new):
            done = judged(lambda some=some: trained.transform(some), "sklearn")
            if done is None:
                continue
            assert np.shape(done) == (len(some), len(trained.get_feature_names_out()))
            carries = trained.carry is not None and len(list(trained.carry)) > 0  # whatever has no truth of its own
            if not carries and pd.isna(trained.missing_values):
                values = pd.DataFrame(done)
                assert values.notna().all(axis=None), "a gap is left"
                numbers = values.select_dtypes(["number", "bool"])
                assert np.isfinite(numbers.to_numpy(dtype=float)).all(), "not finite"
        judged(lambda: trained.sample(new, data.draw(options.SOME.filter(lambda n: not _is_long(n)))), "sklearn")


def _is_long(number: Any) -> bool:
    return isinstance(number, (int, np.integer)) and not isinstance(number, bool) and number > 4


def pooling(data: st.DataObject) -> None:
    """Estimates and variances."""
    numbers = st.one_of(st.lists(columns.NUMBERS, max_size=4), options.JUNKS)
    given = data.draw(
        options.a_few_of(
            {"dfcom": options.NUMBERS, "confidence": options.NUMBERS, "rule": options.JUNKS, "names": options.JUNKS}
        )
    )
    draws = data.draw(st.integers(2, 20))
    right = st.tuples(*[st.lists(st.floats(0, 1e6), min_size=draws, max_size=draws)] * 2)  # or nearly all are refused
    estimates, variances = data.draw(right | st.tuples(numbers, numbers))
    pooled = judged(lambda: pool_scalar(estimates, variances, **given))
    if pooled is not None:
        table = judged(lambda: (str(pooled), pooled.wald(), pooled.to_frame())[-1])
        assert pooled.standard_errors.min(initial=0.0) >= 0, table
        assert (pooled.interval[:, 0] <= pooled.estimates).all(), table
        assert (pooled.estimates <= pooled.interval[:, 1]).all(), table
        assert ((pooled.fmi >= 0) & (pooled.fmi <= 1)).all(), table


def graphs(data: st.DataObject) -> None:
    """Graphs of edges, and of JSON."""
    names = ["age", "income", "R[income]", "R[age]", "Z", "U"]
    node = st.one_of(st.sampled_from(names), options.JUNKS)
    known = st.dictionaries(
        st.sampled_from(["sign", "form", "slope", "x"]), options.NUMBERS | st.sampled_from(["high"])
    )
    edge = st.one_of(st.tuples(node, node), st.tuples(node, node, known), options.JUNKS)
    edges = data.draw(st.one_of(st.lists(edge, max_size=4), options.JUNKS))
    table = data.draw(st.one_of(st.sampled_from([TABLE, None, ["age", "income"]]), options.JUNKS))
    given = data.draw(
        options.a_few_of(
            {"incomplete": st.just(["age"]) | options.JUNKS, "auxiliaries": options.JUNKS, "latent": options.JUNKS}
        )
    )
    files.check_graph(judged(lambda: MissingnessGraph(edges, table, **given)), TABLE)
    name = data.draw(st.sampled_from(["mcar", "mar", "self-masking", "general", "latent"]) | options.JUNKS)
    files.check_graph(judged(lambda: MissingnessGraph.preset(name, table, **given)), TABLE)


@cache
def targets() -> dict[str, Target]:
    """All of them, by name."""
    own = (
        frames,
        ordinary,
        new_rows,
        long_frames,
        matrices,
        training,
        imputing,
        models,
        estimator,
        pooling,
        graphs,
        arguments,
    )
    return {target.__name__: target for target in (*own, *files.TARGETS)}
