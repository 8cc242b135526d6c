"""Arguments: of models and guides, graphs, fits, imputations."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule

from bad_inputs.case import FRAME, Case, of_frame, pair, refused, taken, untrained
from pyro_mnar import (
    Fit,
    ImportanceWeightedELBO,
    MissingnessGraph,
    SumsTo,
    check_identifiability,
    compare,
    fit,
    impute,
    mechanisms,
    partially_observed,
    pool_frames,
    pool_scalar,
    rows,
)
from pyro_mnar.datasets import synthetic
from pyro_mnar.guides import MeanField, PointNet, ZeroImpute
from pyro_mnar.models import ANOVA, GINA, NormalMixture, NotMIWAE, PartialVAE, SelfMasking

TABLE = of_frame(FRAME)
WORDED = of_frame({"age": [1.0, 2.0, None, 4.0] * 6, "income": ["x", None, "y", "z"] * 6})
OTHER = of_frame(FRAME[["income", "age"]])
ONE = {"epochs": 1, "progress": False, "compile": "eager"}


def fitted(**options: Any) -> Fit:
    return fit(*pair(TABLE), TABLE, **{**ONE, **options})


def drawn(**options: Any) -> Any:
    return impute(untrained(TABLE), TABLE, **{"num_draws": 2, "num_particles": 3, "compile": "eager", **options})


def poisoned() -> Fit:
    """A fit with a parameter of NaN."""
    model, guide = pair(TABLE)
    with torch.no_grad():
        next(model.parameters()).fill_(torch.nan)
    return Fit(model, guide, TABLE.schema)


class NaNs(PyroModule):
    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.nn.Parameter(torch.tensor(torch.nan))

    def forward(self, batch: Any) -> None:
        with rows(batch):
            partially_observed("x", dist.Normal(self.mean.expand(batch.x.shape), 1.0), batch)


DEEP = "[" * 200_000
GRAPH = json.loads(MissingnessGraph.self_masking(TABLE).to_json())
WORDS = {"epochs": 1, "batch_size": 128, "num_particles": 5, "patience": 1, "restarts": 1, "bootstrap": 2, "every": 1}
CASES: list[Case] = [
    *(refused(f"fit({name}={value!r})", lambda name=name, value=value: fitted(**{name: value}), f"{name}: expected")
      for name in WORDS for value in ("2", 1.5, True, float("nan"), float("inf"), -1, [1])
      if name != "every"),
    *(refused(f"fit({name}=0)", lambda name=name: fitted(**{name: 0}), f"{name}: expected", "0")
      for name in ("epochs", "batch_size", "num_particles", "patience", "restarts")),
    refused("fit(bootstrap=1)", lambda: fitted(bootstrap=1), "bootstrap: expected 0 or at least 2, got 1"),
    *(refused(f"fit(learning_rate={value!r})", lambda value=value: fitted(learning_rate=value), "learning_rate: expected")
      for value in (0, -0.1, float("nan"), float("inf"), "0.1", True, 1j)),
    *(refused(f"fit(seed={value!r})", lambda value=value: fitted(seed=value), "seed: expected a whole number")
      for value in (-1, 1.5, "0", None, True, float("nan"))),
    refused("fit(seed=10**30)", lambda: fitted(seed=10**30), "seed: expected"),
    *(refused(f"fit(held_out={value!r})", lambda value=value: fitted(held_out=value), "held_out: expected")
      for value in (-0.1, 1.0, 1, 2, float("nan"), "0.1", True, None, 0.9)),
    *(refused(f"fit(device={value!r})", lambda value=value: fitted(device=value), "device: ")
      for value in ("nope", "cuda:99", "", 3.5, -1)),
    refused("fit(estimator='reinforce')", lambda: fitted(estimator="reinforce"), "estimator", "'reinforce'"),
    refused("fit(device='meta')", lambda: fitted(device="meta"), "device", "'meta'", "holds numbers"),
    *(refused(f"GINA({name}=) of a mapping", lambda name=name: GINA(TABLE, **{name: {None: 1}}), f"{name}: expected a torch module")
      for name in ("decoder", "prior")),
    refused("SelfMasking(sign=[[1]])", lambda: mechanisms.SelfMasking(1, sign=[[1]]), "sign: expected", "[[1]]"),
    refused("SelfMasking(slope='x')", lambda: mechanisms.SelfMasking(1, slope="x"), "slope: expected", "'x'"),
    refused("SelfMasking(slope=nan)", lambda: mechanisms.SelfMasking(1, slope=float("nan")), "slope: expected", "nan"),
    *(refused(f"NormalMixture(num_classes={value!r})", lambda value=value: NormalMixture(TABLE, num_classes=value), "num_classes: expected")
      for value in (0, 1.5, "3", True)),
    refused("NormalMixture(num_classes=10**12)", lambda: NormalMixture(TABLE, num_classes=10**12), "num_classes", "GiB", "at most"),
    refused("fit(clip=10**400)", lambda: fitted(clip=10**400), "clip: expected", "finite"),
    taken("fit(clip=1e300)", lambda: fitted(clip=1e300), "no limit", lambda f: f.epochs_done == 1),
    refused("fit(learning_rate=1e21) of words", lambda: fit(*pair(WORDED), WORDED, **{**ONE, "epochs": 3}, learning_rate=1e21, clip=None), "finite"),
    refused("fit(resume='no')", lambda: fitted(resume="no"), "resume: expected True or False", "'no'"),
    refused("fit(progress='no')", lambda: fitted(progress="no"), "progress: expected True or False", "'no'"),
    refused("GINA(blocks='no')", lambda: GINA(TABLE, blocks="no"), "blocks: expected True or False", "'no'"),
    refused("fit(estimator=3)", lambda: fitted(estimator=3), "estimator", "3"),
    refused("fit(compile='fast')", lambda: fitted(compile="fast"), "compile", "'fast'"),
    refused("fit(compile=True)", lambda: fitted(compile=True), "compile", "True"),
    refused("fit(start=...) of a path", lambda: fitted(start="a.fit"), "start", "'a.fit'"),
    refused("fit(checkpoint=3)", lambda: fitted(checkpoint=3), "checkpoint", "3"),
    refused("fit(num_particles=10**8)", lambda: fitted(num_particles=10**8), "num_particles", "GiB", "at most"),
    refused("fit(num_particles=10**12)", lambda: fitted(num_particles=10**12), "num_particles", "GiB", "at most"),
    refused("fit(num_particles=10**30)", lambda: fitted(num_particles=10**30), "num_particles"),
    refused("fit(epochs=10**30)", lambda: fitted(epochs=10**30), "epochs"),
    refused("fit(restarts=10**9)", lambda: fitted(restarts=10**9), "restarts"),
    refused("fit(bootstrap=10**9)", lambda: fitted(bootstrap=10**9), "bootstrap"),
    taken("fit(batch_size=10**12)", lambda: fitted(batch_size=10**12), "all rows at once", lambda f: f.epochs_done == 1),
    refused("fit of a model's class", lambda: fit(GINA, pair()[1], TABLE, **ONE), "model", "class GINA"),
    refused("fit of a guide's class", lambda: fit(pair()[0], ZeroImpute, TABLE, **ONE), "guide", "class ZeroImpute"),
    refused("fit without a model", lambda: fit(None, pair()[1], TABLE, **ONE), "model", "None"),
    refused("fit without a guide", lambda: fit(pair()[0], None, TABLE, **ONE), "guide", "None", "lambda batch: None"),
    refused("fit of a frame", lambda: fit(*pair(), FRAME, **ONE), "table", "DataFrame"),
    refused("fit of a table's class", lambda: fit(*pair(), type(TABLE), **ONE), "table", "Table"),
    refused("fit of another table's model", lambda: fit(*pair(OTHER), TABLE, **ONE), "made for another table"),
    refused("fit of model and guide exchanged", lambda: fit(*reversed(pair()), TABLE, **ONE), "site"),
    refused("fit of a model with a NaN parameter",
            lambda: fit(NaNs(), lambda batch: None, TABLE, **ONE), "model", "nan in 'mean'"),
    refused("a guide of another latent_dim", lambda: fit(pair()[0], ZeroImpute(TABLE, 2), TABLE, **ONE), "'z'", "latent_dim"),
    *(refused(f"GINA(latent_dim={value!r})", lambda value=value: GINA(TABLE, latent_dim=value), "latent_dim: expected")
      for value in (0, -1, 1.5, "2", True, float("nan"), [1])),
    refused("MeanField(table, 10**400)", lambda: MeanField(TABLE, 10**400), "latent_dim", "GiB", "at most"),
    refused("a sign of NA beside levels without an order", lambda: SelfMasking(of_frame({"a": ["x", "y", "z", None] * 3, "b": [1.0, 2.0, 3.0, 5.0] * 3}), sign=pd.NA), "sign", "'a'"),
    refused("GINA(mechanism=NA)", lambda: GINA(TABLE, mechanism=pd.NA), "mechanism", "<NA>"),
    refused("GINA(latent_dim=10**10)", lambda: GINA(TABLE, latent_dim=10**10), "latent_dim", "GiB", "at most"),
    *(refused(f"{maker.__name__}(latent_dim={value!r})", lambda maker=maker, value=value: maker(TABLE, latent_dim=value),
              "latent_dim: expected") for maker in (NotMIWAE, PartialVAE, SelfMasking) for value in (0, 1.5)),
    *(refused(f"{maker.__name__}(table, {value!r})", lambda maker=maker, value=value: maker(TABLE, value),
              "latent_dim: expected") for maker in (ZeroImpute, PointNet, MeanField) for value in (0, -1, 1.5, "2")),
    refused("GINA of a frame", lambda: GINA(FRAME), "table", "DataFrame"),
    refused("GINA without a table", lambda: GINA(None), "table", "NoneType"),
    refused("GINA(graph='self-masking')", lambda: GINA(TABLE, graph="self-masking"), "graph", "'self-masking'", "preset"),
    refused("NotMIWAE(graph='self-masking')", lambda: NotMIWAE(TABLE, graph="self-masking"), "graph", "'self-masking'", "preset"),
    refused("GINA(graph=[...])", lambda: GINA(TABLE, graph=[("age", "R[income]")]), "graph", "list", "MissingnessGraph"),
    refused("GINA(graph={...})", lambda: GINA(TABLE, graph=GRAPH), "graph", "dict", "MissingnessGraph"),
    refused("GINA(mechanism='self-masking')", lambda: GINA(TABLE, mechanism="self-masking"), "mechanism", "'self-masking'"),
    refused("GINA(mechanism=3)", lambda: GINA(TABLE, mechanism=3), "mechanism", "3"),
    refused("GINA(mechanism=) of another width", lambda: fit(GINA(TABLE, latent_dim=1, mechanism=mechanisms.SelfMasking(5)), pair()[1], TABLE, **ONE), "5"),
    refused("GINA of mechanism and graph", lambda: GINA(TABLE, mechanism=mechanisms.General, graph=MissingnessGraph.self_masking(TABLE)), "both"),
    *(refused(f"GINA(mechanism_weight={value!r})", lambda value=value: GINA(TABLE, mechanism_weight=value), "mechanism_weight: expected")
      for value in (-1.0, float("nan"), float("inf"), "1")),
    refused("GINA(discrete='no')", lambda: GINA(TABLE, discrete="no"), "discrete", "'no'"),
    refused("GINA(seed=-1)", lambda: GINA(TABLE, seed=-1), "seed", "-1"),
    refused("GINA(seed='a')", lambda: GINA(TABLE, seed="a"), "seed", "'a'"),
    refused("ZeroImpute(hidden=0)", lambda: ZeroImpute(TABLE, 1, hidden=0), "hidden", "0"),
    refused("ZeroImpute(hidden=[0])", lambda: ZeroImpute(TABLE, 1, hidden=[0]), "hidden", "0"),
    refused("ZeroImpute(hidden=[2**63])", lambda: ZeroImpute(TABLE, 1, hidden=[2**63]), "hidden", "GiB", "at most"),
    refused("ZeroImpute(hidden=[10**6, 10**6])", lambda: ZeroImpute(TABLE, 1, hidden=[10**6, 10**6]), "hidden", "GiB", "at most"),
    refused("mechanisms.General(hidden=[2**63])", lambda: mechanisms.General(3, 2, hidden=[2**63]), "hidden", "GiB", "at most"),
    *(refused(f"PointNet({name}={told})", lambda name=name, value=value: PointNet(TABLE, 1, **{name: value}), name, "GiB", "at most")
      for name, value, told in (("embedding_dim", 2**63, "2**63"), ("features", 10**400, "10**400"), ("features", 10**6, "10**6"))),
    refused("ZeroImpute(hidden=['a'])", lambda: ZeroImpute(TABLE, 1, hidden=["a"]), "hidden", "'a'"),
    refused("SelfMasking(sign=2)", lambda: mechanisms.SelfMasking(2, sign=2), "sign", "2"),
    *(refused(f"ANOVA(noise={shown})", lambda value=value: ANOVA(TABLE, noise=value), "noise: expected")
      for shown, value in {"a Series": FRAME["age"], "text": "1", "nan": float("nan"), "inf": float("inf"), "0": 0}.items()),
    *(refused(f"edges of {value!r}", lambda value=value: MissingnessGraph(value, TABLE), "edges: expected a list")
      for value in ("", "ab", b"ab", None, pd.NA, 3)),
    *(refused(f"an edge to {value!r}", lambda value=value: MissingnessGraph([("age", value)]), "expected a name")
      for value in (None, pd.NA, pd.NaT, float("nan"))),
    *(refused(f"graph={value!r}", lambda value=value: GINA(TABLE, graph=value), "graph: expected a MissingnessGraph")
      for value in (pd.NA, float("nan"), 3, b"x")),
    refused("a graph of an unknown column", lambda: MissingnessGraph([("sex", "R[income]")], TABLE), "'sex'"),
    refused("a graph with an R of a complete column", lambda: MissingnessGraph([("income", "R[age]")], TABLE), "R[age]"),
    refused("a graph with a cycle", lambda: MissingnessGraph([("R[a]", "R[b]"), ("R[b]", "R[a]")], ["a", "b"]), "cycle"),
    refused("a graph in which R causes X", lambda: MissingnessGraph([("R[income]", "age")], TABLE), "R[income]"),
    refused("a graph of a string", lambda: MissingnessGraph("age -> income", TABLE), "edge"),
    refused("a graph of a number", lambda: MissingnessGraph(3, TABLE), "edges", "3"),
    refused("an edge of three columns", lambda: MissingnessGraph([("age", "income", "R[income]")], TABLE), "'R[income]'"),
    refused("an edge of one node", lambda: MissingnessGraph([("age",)], TABLE), "('age',)"),
    refused("an edge with an unknown sign", lambda: MissingnessGraph([("income", "R[income]", {"sign": "up"})], TABLE), "'up'"),
    refused("an edge that says something else of a frame", lambda: MissingnessGraph([("age", FRAME, {"x": 1})], TABLE), "edge", "'x'"),
    refused("an edge from a list", lambda: MissingnessGraph([(["age"], "R[income]")], TABLE), "edge", "['age']"),
    refused("an edge with an unknown sign and NA", lambda: MissingnessGraph([("income", "R[income]", {"sign": pd.NA})], TABLE), "sign"),
    refused("a latent whose name is a set", lambda: MissingnessGraph([], TABLE, latent={1}), "latent", "{1}"),
    refused("a latent whose name is NaN", lambda: MissingnessGraph([], ["a"], latent=float("nan")), "latent", "nan"),
    refused("auxiliaries that are text", lambda: MissingnessGraph([], ["a"], auxiliaries="ab"), "auxiliaries", "'ab'"),
    refused("a width that is none", lambda: MissingnessGraph([], ["a"], auxiliaries={"u": 0}), "'u'", "width"),
    refused("names that are lists", lambda: MissingnessGraph([], ["a"], incomplete=[["a"]]), "incomplete", "['a']"),
    refused("a preset that is a dictionary", lambda: MissingnessGraph.preset({}, TABLE), "{}"),
    refused("a cycle of names with line ends", lambda: MissingnessGraph([("\n", "R[a]"), ("\n", "\n")], ["a", "\n"]), "cycle"),
    refused("a known sign of an edge into a column with a line end", lambda: MissingnessGraph([("a", "b\n", {"sign": 1})], ["a", "b\n"]), "b\\n", "sign"),
    refused("a preset that is none", lambda: MissingnessGraph.preset("random", TABLE), "'random'"),
    refused("a preset of a number", lambda: MissingnessGraph.preset(3, TABLE), "3"),
    refused("a graph from broken JSON", lambda: MissingnessGraph.from_json("{", TABLE), "graph", "JSON"),
    refused("a graph from empty text", lambda: MissingnessGraph.from_json("", TABLE), "graph", "JSON"),
    refused("a graph from deeply nested JSON", lambda: MissingnessGraph.from_json(DEEP, TABLE), "graph", "JSON", "nested"),
    refused("a graph from a list in JSON", lambda: MissingnessGraph.from_json("[]", TABLE), "graph", "list"),
    refused("a graph from JSON without edges", lambda: MissingnessGraph.from_json("{}", TABLE), "'edges'"),
    refused("a graph from JSON with edges as text", lambda: MissingnessGraph.from_json('{"edges": "ab"}', TABLE), "edge"),
    refused("a graph from JSON with edges as a number", lambda: MissingnessGraph.from_json('{"edges": 3}', TABLE), "edges", "3"),
    refused("a graph from JSON with an unknown entry", lambda: MissingnessGraph.from_json('{"edges": [], "x": 1}', TABLE), "'x'"),
    refused("a graph from JSON with a preset that is none", lambda: MissingnessGraph.from_json('{"preset": "x"}', TABLE), "'x'"),
    refused("a graph from JSON with columns as a number", lambda: MissingnessGraph.from_json('{"edges": [], "columns": 3}'), "columns"),
    refused("a graph from JSON with auxiliaries as a number", lambda: MissingnessGraph.from_json('{"edges": [], "auxiliaries": 3}'), "auxiliaries"),
    refused("a graph from JSON with NaN for an edge", lambda: MissingnessGraph.from_json('{"edges": [NaN]}', TABLE), "edge"),
    refused("a graph from a dictionary in place of text", lambda: MissingnessGraph.from_json(GRAPH, TABLE), "graph", "dict"),
    *(refused(f"impute({name}={value!r})", lambda name=name, value=value: drawn(**{name: value}), f"{name}: expected")
      for name in ("num_draws", "num_particles") for value in (0, -1, 1.5, "2", True, float("nan"))),
    refused("impute(num_draws=10**9)", lambda: drawn(num_draws=10**9), "num_draws", "GiB", "at most"),
    refused("impute(num_draws=10**15)", lambda: drawn(num_draws=10**15), "num_draws", "GiB", "at most"),
    refused("impute(num_particles=10**12)", lambda: drawn(num_particles=10**12), "num_particles", "GiB", "at most"),
    refused("impute(seed=-1)", lambda: drawn(seed=-1), "seed", "-1"),
    refused("impute(seed=0.5)", lambda: drawn(seed=0.5), "seed", "0.5"),
    refused("impute(device='nope')", lambda: drawn(device="nope"), "device", "'nope'"),
    refused("impute(device='meta')", lambda: drawn(device="meta"), "device", "'meta'", "holds numbers"),
    *(refused(f"impute({name}={value!r})", lambda name=name, value=value: drawn(**{name: value}), f"{name}: expected True or False")
      for name in ("use_mechanism", "keep_mechanism_weight") for value in ("no", None, 0)),
    refused("impute(key=[])", lambda: drawn(key=[]), "key", "at least one column"),
    refused("impute(key=) of an array", lambda: drawn(key=np.array([1.0, 2.0])), "key", "array"),
    refused("impute(compile='fast')", lambda: drawn(compile="fast"), "compile", "'fast'"),
    refused("impute(fit=model)", lambda: impute(pair()[0], TABLE), "fit", "GINA"),
    refused("impute(fit=None)", lambda: impute(None, TABLE), "fit", "NoneType"),
    refused("impute(fit=path)", lambda: impute("a.fit", TABLE), "fit", "str", "Fit.load"),
    refused("impute of an array", lambda: impute(untrained(), np.zeros((2, 2))), "table", "ndarray"),
    refused("impute of other columns", lambda: impute(untrained(), pd.DataFrame({"a": [1.0]})), "'age'"),
    refused("impute of another table", lambda: impute(untrained(), OTHER), "table"),
    refused("impute(cells=[])", lambda: drawn(cells=[]), "cells"),
    taken("impute(cells=([], []))", lambda: drawn(cells=([], [])), "no cells", lambda found: len(found.draws[0]) == 0),
    refused("impute(cells=3)", lambda: drawn(cells=3), "cells", "int"),
    refused("impute(cells='income')", lambda: drawn(cells="income"), "cells", "str"),
    refused("impute(cells=) of an observed cell", lambda: drawn(cells=([0], [0])), "row 0", "'age'"),
    refused("impute(cells=) out of the table", lambda: drawn(cells=([9], [0])), "cells", "9"),
    refused("impute(cells=) of two lengths", lambda: drawn(cells=([1], [1, 1])), "cells"),
    refused("impute(constraints=) of text", lambda: drawn(constraints=["age < income"]), "constraints", "'age < income'"),
    refused("impute(constraints=) of one function", lambda: drawn(constraints=lambda f: f.age > 0), "constraints"),
    refused("impute(constraints=) nobody satisfies", lambda: drawn(constraints=[lambda f: f.age > 99]), "row"),
    refused("impute(constraints=) of another table", lambda: drawn(constraints=[SumsTo(["a", "b"], 1)]), "'a'"),
    refused("impute(constraints=) of a wrong answer", lambda: drawn(constraints=[lambda f: 3]), "boolean"),
    refused("impute(delta=3)", lambda: drawn(delta=3), "delta", "int"),
    refused("impute(delta=) of an unknown column", lambda: drawn(delta={"sex": 1.0}), "'sex'"),
    refused("impute(delta=) of NaN", lambda: drawn(delta={"income": float("nan")}), "'income'", "nan"),
    refused("impute(delta=) of infinity", lambda: drawn(delta={"income": float("inf")}), "'income'", "inf"),
    refused("impute(delta=) of text", lambda: drawn(delta={"income": "x"}), "'income'", "str"),
    *(refused(f"impute(delta={value!r})", lambda value=value: drawn(delta=value), "delta: expected a mapping") for value in (pd.NA, 0)),
    refused("impute(delta_scale=) of an array", lambda: drawn(delta={"income": 1.0}, delta_scale=np.array([1.0, 2.0])), "delta_scale", "array"),
    refused("compare of what are no fits", lambda: compare({"a": 1, "b": 2}, TABLE), "fits", "Fit", "int"),
    refused("check_identifiability(search=NA)", lambda: check_identifiability(untrained(), TABLE, search=pd.NA), "search: expected True or False", "<NA>"),
    refused("a graph's parents of a frame", lambda: MissingnessGraph.self_masking(TABLE).parents(FRAME), "column", "'income'"),
    refused("a graph drawn on a number", lambda: MissingnessGraph.self_masking(TABLE).plot(ax=3), "ax: expected an Axes", "int"),
    refused("minibatches of 1.5 rows", lambda: TABLE.batches(1.5), "batch_size: expected a whole number", "1.5"),
    refused("a batch on device 3", lambda: TABLE.batch(3), "device", "3"),
    refused("a fit saved to None", lambda: untrained().save(None), "path", "None"),
    refused("pool_frames by a formula of other columns", lambda: pool_frames([FRAME, FRAME], "income ~ wealth"), "analysis", "'income ~ wealth'"),
    refused("a synthetic table of 10**400 rows", lambda: synthetic("A", 0, rows=10**400), "rows", "GiB"),
    refused("impute(delta_scale='x')", lambda: drawn(delta={"income": 1.0}, delta_scale="x"), "scale", "'x'"),
    refused("impute by a fit with NaN parameters", lambda: impute(poisoned(), TABLE, num_draws=2, num_particles=3), "not a number"),
    refused("Fit of a frame's columns", lambda: Fit(*pair(), ["age", "income"]), "schema", "list"),
    refused("pool_scalar of nothing", lambda: pool_scalar([], []), "draws"),
    refused("pool_scalar of 10**400", lambda: pool_scalar([1.0, 2.0], 10**400), "variances", "numbers"),
    refused("pool_scalar(names='ab')", lambda: pool_scalar([1.0, 2.0], [1.0, 1.0], names="ab"), "names", "'ab'"),
    refused("pool_scalar(confidence='high')", lambda: pool_scalar([1.0, 2.0], [1.0, 1.0], confidence="high"), "confidence", "'high'"),
    refused("pool_scalar(dfcom=None)", lambda: pool_scalar([1.0, 2.0], [1.0, 1.0], dfcom=None), "dfcom", "None"),
    refused("pool_scalar(dfcom=10**400)", lambda: pool_scalar([1.0, 2.0], [1.0, 1.0], dfcom=10**400), "dfcom", "1e+150"),
    refused("pool_scalar(dfcom=1e-311)", lambda: pool_scalar([1.0, 2.0], [1.0, 1.0], dfcom=1e-311), "coefficient 0", "degrees of freedom", "dfcom"),
    refused("pool_scalar of variances that are zero, with dfcom", lambda: pool_scalar([1.0, 2.0], [0.0, 0.0], dfcom=9), "coefficient 0", "variance 0 within", "rubin"),
    refused("pool_scalar(rule=[])", lambda: pool_scalar([1.0, 2.0], [1.0, 1.0], rule=[]), "rule", "[]"),
    refused("pool_scalar of 1e160", lambda: pool_scalar([0.0, 1e160], [1.0, 1.0]), "estimates", "1e+150"),
    refused("pool_scalar of two lengths", lambda: pool_scalar([1.0, 2.0], [1.0]), "2", "1"),
    refused("pool_scalar of NaN", lambda: pool_scalar([1.0, float("nan")], [1.0, 1.0]), "draw 1", "finite"),
    refused("pool_scalar of negative variances", lambda: pool_scalar([1.0, 2.0], [1.0, -1.0]), "-1"),
    *(refused(f"ImportanceWeightedELBO({value!r})", lambda value=value: ImportanceWeightedELBO(value), "num_particles: expected")
      for value in (0, 1.5, "5", True)),
]  # fmt: skip
