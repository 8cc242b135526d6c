"""Arguments of the public functions, one at a time replaced by what nobody should give.

    cd tests && python -m fuzz.arguments                 every argument with every value: ten minutes
    cd tests && python -m fuzz.arguments impute Table    of those whose names begin so

``make fuzz`` draws from the same list.  Classes of results, which nobody makes, are left out; the systems that the paper
compares stand in :mod:`fuzz.system_arguments`, the words of a model in :mod:`fuzz.word_arguments`.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import itertools
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyro
import scipy.sparse
import torch
from hypothesis import strategies as st

import pyro_mnar as pm
from bad_inputs.case import FRAME, of_frame, pair, untrained
from fuzz.options import JUNK
from fuzz.oracle import TRIED, Hangs, judged
from fuzz.system_arguments import OF_ANSWERS, OF_PAIRS, OF_RATINGS, system_calls
from fuzz.word_arguments import word_calls
from pyro_mnar import datasets, guides, kinds, mechanisms, models, nn, plots, scale
from pyro_mnar.diagnostics import against_ignorable
from pyro_mnar.messages import shown
from pyro_mnar.summaries import summarise

SHORT = {"num_draws": 2, "num_particles": 3, "compile": "eager"}
ONCE = {"epochs": 1, "progress": False, "compile": "eager"}
FOLDER = Path(tempfile.mkdtemp())


class Called(NamedTuple):
    """A public function and right arguments of it."""

    name: str
    call: Callable[..., Any]
    given: dict[str, Any]

    @property
    def arguments(self) -> list[str]:
        """Names of what may be given, options that are handed on aside."""
        known = inspect.signature(self.call).parameters.values()
        named = [one.name for one in known if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]
        return list(dict.fromkeys([*named, *self.given]))

    def tried(self, argument: str, value: Any) -> Any:
        given = copy.deepcopy({**self.given, argument: value})  # models learn, iterators end
        answer = self.call(**given)
        return list(answer) if isinstance(answer, Iterator) else answer


def of_elbo(method: str, model: Any, guide: Any, batch: Any) -> Any:

    with pyro.get_param_store().scope():
        return getattr(pm.ImportanceWeightedELBO(2), method)(model, guide, batch)


def of_estimator(**given: Any) -> Any:
    return pm.MNARImputer(**{"max_steps": 2, "num_draws": 2, **given}).fit_transform(FRAME)


def trial_frame() -> pd.DataFrame:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"arm": ["a", "b"] * 20, "y1": random.normal(size=40), "y2": random.normal(size=40), "c": 1.0 * np.arange(40)}
    )
    frame.loc[::7, "y2"] = np.nan
    frame.loc[3::9, "y1"] = np.nan
    return frame


def mean(frame: pd.DataFrame) -> tuple[float, float]:
    return float(frame.iloc[:, 1].mean()), 0.1


@cache
def calls() -> dict[str, Called]:
    """All of them, by name."""
    table = of_frame(FRAME)
    big = of_frame(pd.concat([FRAME] * 5, ignore_index=True))
    fit = untrained(table)
    trained = pm.fit(*pair(big), big, **ONCE)
    imputations = pm.impute(trained, big, **SHORT)
    batch = table.batch()
    graph = pm.MissingnessGraph.self_masking(table)
    pooled = imputations.pool(mean)
    trial = pm.impute_trial(trial_frame(), arm="arm", control="a", outcome=["y1", "y2"], num_draws=2)
    sens = pm.sensitivity(mean, trained, table=big, num_draws=2, num_particles=3)
    tip = pm.tipping_point(mean, imputations, "income", "sign", between=(0, 1), num_steps=2)
    diagnosis = pm.diagnose(trained, imputations, num_particles=500, replicates=20, ignorable=trained)
    twins = pm.search_twins(trained, big, epochs=1, profile=False)
    identified = pm.check_identifiability(trained, big, search=False)
    curve = pm.simulate_acquisition(trained, big, steps=1, num_particles=2, num_samples=2)
    truth = big.frame.fillna(2.0)
    estimator = partial(pm.MNARImputer, max_steps=2, num_draws=2)
    imputer = estimator().fit(FRAME)
    pathto = str(FOLDER / "a.fit")
    fit.save(pathto)
    csv = str(FOLDER / "a.csv")
    FRAME.to_csv(csv, index=False)
    parquet = str(FOLDER / "a.parquet")
    FRAME.to_parquet(parquet)
    long = pd.DataFrame({"row": [0, 0, 1, 2], "column": [0, 1, 0, 1], "value": [1.0, 2.0, 3.0, 5.0]})

    sparse = scipy.sparse.coo_array((np.array([1.0, 2.0]), ([0, 1], [1, 0])), shape=(3, 2))
    complete = pd.DataFrame({"age": [1.0, 2, 3, 4], "income": [2.0, 4, 1, 3]})
    values = pd.Series([1.0, 2.0, np.nan])
    words = of_frame(pd.DataFrame({"age": [1.0, 2.0, None, 4.0] * 6, "income": ["x", None, "y", "z"] * 6}))
    worded = pm.impute(untrained(words), words, **SHORT)
    file = pm.Table.from_csv(csv)
    item = datasets.item_responses(0, shape=(6, 4), num_levels=2)

    found: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
        "Batch.of": (pm.Batch.of, {"x": batch.x, "mask": batch.mask}),
        "Batch.minibatches": (batch.minibatches, {"batch_size": 2}),
        "Batch.joined": (pm.Batch.joined, {"batches": [batch]}),
        "Batch.positions": (batch.positions, {"columns": None}),
        "Batch.take": (batch.take, {"rows": torch.tensor([0])}),
        "Batch.to": (batch.to, {"device": "cpu"}),
        "Fit": (pm.Fit, {"model": fit.model, "guide": fit.guide, "schema": fit.schema}),
        "Fit.encoded": (fit.encoded, {"table": FRAME}),
        "Fit.from_posterior": (pm.Fit.from_posterior, {"model": fit.model, "samples": {"z": torch.zeros(2, 4, 1)}, "table": table}),
        "Fit.from_svi": (pm.Fit.from_svi, {"model": fit.model, "guide": fit.guide, "table": table}),
        "Fit.load": (pm.Fit.load, {"path": pathto, "model": fit.model, "guide": fit.guide}),
        "Fit.on": (fit.on, {"device": "cpu"}),
        "Fit.plot": (trained.plot, {}),
        "Fit.save": (fit.save, {"path": pathto}),
        "Fit.summary": (trained.summary, {"ignorable": False}),
        "Groups": (pm.Groups, {"table": of_frame(FRAME.astype({"age": "str"}), auxiliary=["age"]), "column": "age"}),
        "IdentifiabilityReport.to_text": (identified.to_text, {}),
        "ImportanceWeightedELBO": (pm.ImportanceWeightedELBO, {"num_particles": 2}),
        **{f"ImportanceWeightedELBO.{n}": (partial(of_elbo, n), {"model": fit.model, "guide": fit.guide, "batch": batch})
           for n in ("loss", "loss_and_grads", "differentiable_loss", "log_weights", "check_rows", "is_bound", "settle", "particles")},
        "Imputations.likelihood_ratio": (imputations.likelihood_ratio, {"full": "income ~ age", "null": "income ~ 1"}),
        "Imputations.of_fits": (pm.Imputations.of_fits, {"parts": [imputations]}),
        "Imputations.plot": (imputations.plot, {"column": "income"}),
        "Imputations.pool": (imputations.pool, {"analysis": mean}),
        "Imputations.pool of words": (imputations.pool, {"analysis": "income ~ age"}),
        "Imputations.probabilities": (worded.probabilities, {"column": "income"}),
        "Imputations.shifted": (imputations.shifted, {"delta": {"income": 1.0}}),
        "Imputations.to_inference_data": (imputations.to_inference_data, {}),
        "InOrder": (lambda one, other, **options: pm.InOrder(one, other, **options), {"one": "a", "other": "b", "strict": True}),
        "SumsTo": (pm.SumsTo, {"parts": ["a", "b"], "total": 1.0}),
        "InformationCurve.plot": (curve.plot, {}),
        **{f"MNARImputer({n})": (of_estimator, {n: v.default}) for n, v in inspect.signature(pm.MNARImputer).parameters.items()},
        "MissingnessGraph": (pm.MissingnessGraph, {"edges": [("income", "R[income]")], "table": table}),
        "MissingnessGraph.from_dict": (pm.MissingnessGraph.from_dict, {"data": graph.to_dict(), "table": table}),
        "MissingnessGraph.from_json": (pm.MissingnessGraph.from_json, {"text": graph.to_json(), "table": table}),
        "MissingnessGraph.from_parents": (pm.MissingnessGraph.from_parents, {"parents": {"income": ["age"]}, "table": table}),
        **{f"MissingnessGraph.{n}": (getattr(pm.MissingnessGraph, n), {"table": table}) for n in
           ("fully_connected", "general", "latent", "latent_dependent", "mar", "mcar", "no_self_censoring", "no_self_censoring_given_z", "self_masking")},
        "MissingnessGraph.knowing": (graph.knowing, {"parent": "income", "child": "R[income]", "sign": 1}),
        "MissingnessGraph.mechanism": (graph.mechanism, {"latent_dim": 1}),
        "MissingnessGraph.on": (graph.on, {"table": table}),
        "MissingnessGraph.parents": (graph.parents, {"column": "income"}),
        "MissingnessGraph.plot": (graph.plot, {}),
        "MissingnessGraph.preset": (pm.MissingnessGraph.preset, {"name": "mar", "table": table}),
        "OwnValueMechanism": (pm.OwnValueMechanism, {"predictor": lambda x: x}),
        "OwnValueMechanism.of": (pm.OwnValueMechanism.of, {"mechanism": lambda x: x}),
        "Pooled.wald": (pooled.wald, {}),
        "Report.save": (pm.report(trained, imputations).save, {"path": str(FOLDER / "a.md")}),
        "Schema.from_dict": (pm.Schema.from_dict, {"data": table.schema.to_dict()}),
        "Schema.from_json": (pm.Schema.from_json, {"data": table.schema.to_json()}),
        "Schema.bounds_of": (table.schema.bounds_of, {"column": "age"}),
        "Schema.codes_of": (table.schema.codes_of, {"reason": "missing"}),
        "Schema.names_of": (table.schema.names_of, {"role": "carried"}),
        "Schema.difference": (table.schema.difference, {"other": table.schema}),
        "Sensitivity.plot": (sens.plot, {}),
        "Sensitivity.to_frame": (sens.to_frame, {}),
        "Table": (pm.Table, {"schema": table.schema, "storage": table.storage}),
        "Table.batch": (table.batch, {}),
        "Table.batches": (table.batches, {"batch_size": 2}),
        "Table.bounded": (table.bounded, {"lower": {"income": [0.0] * 4}}),
        "Table.from_csv": (pm.Table.from_csv, {"path": csv}),
        "Table.from_file": (pm.Table.from_file, {"path": csv}),
        "Table.from_frame": (pm.Table.from_frame, {"frame": FRAME}),
        "Table.from_long": (pm.Table.from_long, {"frame": long}),
        "Table.from_numpy": (pm.Table.from_numpy, {"array": FRAME.to_numpy()}),
        "Table.from_sparse": (pm.Table.from_sparse, {"matrix": sparse}),
        "Table.hold_out": (table.hold_out, {"cells": ([0], [0])}),
        "Table.new_rows": (table.new_rows, {"frame": FRAME}),
        "Table.positions": (table.positions, {"cells": ([0], [0])}),
        "Table.source": (table.source, {}),
        "Table.status": (table.status, {"rows": np.array([0]), "columns": np.array([0])}),
        "Table.take": (table.take, {"rows": [0, 1]}),
        "Table.write": (lambda completed, path: file.write(completed, FOLDER / "b.csv" if path is None else path), {"completed": FRAME.fillna(1.0), "path": None}),
        "TippingPoint.plot": (tip.plot, {}),
        "TrialImputations.pool": (trial.pool, {"analysis": mean}),
        "TrialImputations.shifted": (trial.shifted, {"delta": 1.0}),
        "check_identifiability": (pm.check_identifiability, {"fit_or_model": trained, "table": big, "search": False}),
        "compare": (pm.compare, {"fits": {"a": trained, "b": trained}, "held_out": big, "num_particles": 1000}),
        "diagnose": (pm.diagnose, {"fit": trained, "imputations": imputations, "num_particles": 500, "replicates": 20, "ignorable": trained}),
        "fit": (pm.fit, {"model": pair()[0], "guide": pair()[1], "table": table, **ONCE}),
        "impute": (pm.impute, {"fit": fit, "table": table, **SHORT}),
        "impute_trial": (pm.impute_trial, {"frame": trial_frame(), "arm": "arm", "control": "a", "outcome": ["y1", "y2"], "num_draws": 2}),
        "information_reward": (pm.information_reward, {"fit": trained, "table": big, "num_particles": 2, "num_samples": 2}),
        "next_best": (pm.next_best, {"fit": trained, "table": big, "num_particles": 2, "num_samples": 2}),
        "simulate_acquisition": (pm.simulate_acquisition, {"fit": trained, "table": big, "steps": 1, "num_particles": 2, "num_samples": 2}),
        "missingness_graph_of": (pm.missingness_graph_of, {"model": fit.model, "batch": table, "num_points": 3}),
        "pool_frames": (pm.pool_frames, {"frames": [truth, truth + 1], "analysis": mean}),
        "pool_scalar": (pm.pool_scalar, {"estimates": [1.0, 2.0], "variances": [1.0, 1.0]}),
        "report": (pm.report, {"fit": trained, "imputations": imputations}),
        "report_trial": (pm.report_trial, {"imputations": trial}),
        "restart_spread": (pm.restart_spread, {"fit": pm.fit(*pair(big), big, restarts=2, **ONCE), "table": big, "num_particles": 3}),
        "search_twins": (pm.search_twins, {"fit": trained, "table": big, "epochs": 1, "profile": False}),
        "sensitivity": (pm.sensitivity, {"analysis": mean, "scenarios": trained, "table": big, "num_draws": 2, "num_particles": 3}),
        "sensitivity of imputations": (pm.sensitivity, {"analysis": mean, "scenarios": imputations, "deltas": {"a": {"income": 1.0}}}),
        "tipping_point": (pm.tipping_point, {"analysis": mean, "imputations": imputations, "delta": "income", "conclusion": "sign", "between": (0, 1), "num_steps": 2}),
        "rows": (pm.rows, {"batch": batch}),
        "summarise": (summarise, {"fit": trained, "table": big, "with_ignorable": False}),
        "against_ignorable": (against_ignorable, {"fit": trained, "table": big, "ignorable": trained, "steps": 1}),
        "MNARImputer.fit": (lambda X, **k: estimator().fit(X, **k), {"X": FRAME, "y": None, "sample_weight": None}),
        "MNARImputer.transform": (imputer.transform, {"X": FRAME}),
        "MNARImputer.impute": (imputer.impute, {"X": FRAME}),
        "MNARImputer.sample": (imputer.sample, {"X": FRAME, "n": 2}),
        "MNARImputer.get_feature_names_out": (imputer.get_feature_names_out, {}),
        # models, guides
        "GINA": (models.GINA, {"table": table, "latent_dim": 1}),
        "NotMIWAE": (models.NotMIWAE, {"table": table, "latent_dim": 1}),
        "SelfMasking": (models.SelfMasking, {"table": table, "latent_dim": 1}),
        "LatentDependent": (models.LatentDependent, {"table": table, "latent_dim": 1}),
        "Ignorable": (models.Ignorable, {"table": table, "latent_dim": 1}),
        "PartialVAE": (models.PartialVAE, {"table": table, "latent_dim": 1}),
        "NormalMixture": (models.NormalMixture, {"table": table}),
        "ANOVA": (models.ANOVA, {"table": table, "noise": 1.0}),
        "model(batch)": (fit.model, {"batch": batch}),
        "guide(batch)": (fit.guide, {"batch": batch}),
        "ZeroImpute": (guides.ZeroImpute, {"table": table, "latent_dim": 1}),
        "PointNet": (guides.PointNet, {"table": table, "latent_dim": 1}),
        "MeanField": (guides.MeanField, {"table": table, "latent_dim": 1}),
        "FromModel": (guides.FromModel, {"table": table}),
        "ANOVAConditional": (guides.ANOVAConditional, {"model": models.ANOVA(table, noise=1.0)}),
        # mechanisms
        **{f"mechanisms.{n}": (getattr(mechanisms, n), {"num_columns": 2, "latent_dim": 1}) for n in ("Constant", "FullyConnected", "General", "LatentDependent", "SelfMasking", "TwoSided")},
        "mechanisms.Blocks": (mechanisms.Blocks, {"schema": table.schema}),
        "mechanisms.build": (mechanisms.build, {"mechanism": mechanisms.General, "num_columns": 2, "latent_dim": 1}),
        # kinds
        **{f"kinds.{n}": (getattr(kinds, n), {}) for n in ("Binary", "Bounded", "Categorical", "Continuous", "Count", "Datetime", "HeavyTailed", "Ordinal", "Positive", "ZeroInflated")},
        "kinds.choice_of": (kinds.choice_of, {"values": values, "column": "a", "given": None}),
        "kinds.from_plain": (kinds.from_plain, {"data": kinds.to_plain(kinds.Continuous())}),
        "kinds.to_plain": (kinds.to_plain, {"kind": kinds.Continuous()}),
        "kinds.register": (kinds.register, {"kind": kinds.Continuous}),
        # nn
        "nn.MLP": (nn.MLP, {"sizes": [2, 3, 1]}),
        "nn.ResidualMLP": (nn.ResidualMLP, {"sizes": [2, 3, 3, 1]}),
        # plots
        "plots.bound_curve": (plots.bound_curve, {"fit": trained}),
        "plots.co_missingness": (plots.co_missingness, {"table": table}),
        "plots.contours": (plots.contours, {"generated": truth, "truth": truth, "columns": ("age", "income")}),
        **{f"plots.{n}": (getattr(plots, n), {"imputations": imputations, "column": "income"}) for n in ("draws_strip", "draws_trace", "imputed_against_observed")},
        "plots.forest": (plots.forest, {"results": {"a": pooled}}),
        "plots.imputed_against_ignorable": (plots.imputed_against_ignorable, {"imputations": imputations, "ignorable": imputations, "column": "income"}),
        "plots.intervals_against_truth": (plots.intervals_against_truth, {"imputations": imputations, "truth": truth, "column": "income"}),
        "plots.missingness_pattern": (plots.missingness_pattern, {"table": table}),
        "plots.pareto_k": (plots.pareto_k, {"diagnosis": diagnosis}),
        "plots.predictive_checks": (plots.predictive_checks, {"diagnosis": diagnosis}),
        "plots.response_curve": (plots.response_curve, {"fit": trained, "table": big, "column": "income"}),
        "plots.twin_means": (plots.twin_means, {"twins": twins}),
        # datasets
        "datasets.ampute": (datasets.ampute, {"data": complete, "graph": graph}),
        "datasets.LinearStructure": (datasets.LinearStructure, {"columns": ["a", "b"], "edges": [("a", "b")]}),
        "datasets.LinearStructure.of_graph": (datasets.LinearStructure.of_graph, {"graph": graph}),
        "datasets.anova": (datasets.anova, {"seed": 0, "rows": 4}),
        "datasets.item_responses": (datasets.item_responses, {"seed": 0, "shape": (6, 4), "num_levels": 2}),
        "datasets.synthetic": (datasets.synthetic, {"name": "A", "seed": 0, "rows": 4}),
        "datasets.synthetic_ratings": (datasets.synthetic_ratings, {"seed": 0, "shape": (40, 30)}),
        **{f"datasets.{n}": (getattr(datasets, n), {"score": np.array([0.0, 1.0, 2.0]), "rate": 0.3, "strength": 2.0}) for n in ("logistic", "quantile", "threshold")},
        **{f"datasets.{n}": (getattr(datasets, n), {"folder": str(FOLDER)}) for n in ("coat", "eedi", "yahoo_r3")},
        "datasets.long_csv": (datasets.long_csv, {"path": csv, "row": "a", "column": "b", "value": "c"}),
        "ItemResponses.split": (item.split, {"share": 0.5, "seed": 0}),
        # scale
        "scale.parquet_schema": (scale.parquet_schema, {"paths": parquet}),
        "scale.ParquetRows": (scale.ParquetRows, {"paths": parquet, "schema": table.schema}),
        "scale.impute_partitions": (scale.impute_partitions, {"fit": trained, "frame": FRAME}),
        "scale.mean_partitions": (scale.mean_partitions, {"fit": trained, "frame": FRAME}),
        "scale.MNARModule": (scale.MNARModule, {"model": fit.model, "guide": fit.guide, "schema": table.schema}),
    }  # fmt: skip
    found |= word_calls()
    found |= {f"baselines.{name}": rest for name, rest in system_calls().items()}
    return {name: Called(name, *rest) for name, rest in found.items()}


# Of which a large number is right, and an answer takes as long.
LONG = {
    ("MNARImputer(max_steps)", "max_steps"),
    ("against_ignorable", "steps"),
    *((f"baselines.{name}", "epochs") for name in (*OF_PAIRS, *OF_RATINGS, *OF_ANSWERS, "normal_mixture_model", "normal_mixture_models")),
    *((f"baselines.{name}", "steps") for name in ("AutoRec", "Training", "cpt_v", "logit_vd")),
    *((f"baselines.{name}", "rounds") for name in ("SelfMaskedMixture", "normal_mixtures_common_sign", "normal_mixtures_known_sign", "start_normal_mixture")),
    ("compare", "num_particles"),
    ("fit", "bootstrap"),
    ("fit", "epochs"),
    ("fit", "restarts"),
    ("missingness_graph_of", "num_points"),
    ("restart_spread", "num_particles"),
    ("search_twins", "epochs"),
    ("search_twins", "fresh"),
    ("search_twins", "num_particles"),
    ("tipping_point", "num_steps"),
}  # fmt: skip
MANY = 2**60


def is_long(called: Called, argument: str, value: Any) -> bool:
    """Whether an answer is right, and long."""
    is_large = value is None or (isinstance(value, (int, np.integer)) and value > MANY)
    return is_large and (called.name, argument) in LONG


def check(called: Called, argument: str, value: Any) -> None:
    """One argument replaced; scikit-learn's contract has its own refusals."""
    if "matplotlib.pyplot" in sys.modules:  # as by ArviZ: it keeps figures
        sys.modules["matplotlib.pyplot"].close("all")
    if not is_long(called, argument, value):
        judged(lambda: called.tried(argument, value), "sklearn" if called.name.startswith("MNARImputer") else None)


def arguments(data: st.DataObject) -> None:
    """One argument of one public function."""
    known = calls()
    called = known[data.draw(st.sampled_from(sorted(known)))]
    argument = data.draw(st.sampled_from(called.arguments))
    with in_a_folder():
        check(called, argument, data.draw(st.sampled_from(JUNK)))


def in_a_folder() -> contextlib.chdir[Path]:
    """Files that are written by names such as "a" go there."""
    return contextlib.chdir(FOLDER)


def main(begins: list[str]) -> int:
    logging.disable(logging.CRITICAL)
    found = 0
    for name, called in calls().items():
        if not name.startswith(tuple(begins or [""])):
            continue
        for argument, value in itertools.product(called.arguments, JUNK):
            try:
                with in_a_folder():
                    check(called, argument, value)
            except (Exception, Hangs) as error:
                found += 1
                print(f"{name}({argument}={shown(value)}): {type(error).__name__}: {shown(str(error))}", flush=True)
    print(f"{sum(TRIED.values())} calls, {found} findings")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
