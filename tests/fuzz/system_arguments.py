"""Arguments of the systems that the paper compares (``pyro_mnar.baselines``), for :mod:`fuzz.arguments`.

What makes a system is tried together with what it makes, since a system may refuse at its first table.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from bad_inputs.case import FRAME, of_frame
from pyro_mnar import baselines
from pyro_mnar.baselines.heckman import heckman, heckman_likelihood
from pyro_mnar.baselines.ratings.factorization import Training
from pyro_mnar.models import NormalMixture

Calls = dict[str, tuple[Callable[..., Any], dict[str, Any]]]

SHAPE = (6, 4)
BRIEF = Training(steps=2, batch_size=10)
QUICK = {"epochs": 1, "compile": "eager"}
CHAIN = {"rounds": 53, "burn_in": 51}
# One of each kind: options of the others go the same way, to ``fit``.
OF_PAIRS, OF_RATINGS, OF_ANSWERS = ("gina",), ("rating_pvae",), ("response_gina",)
OF_FACTORS: dict[str, dict[str, Any]] = {"pmf": {}, "ipw_pmf": {}, "deconfounded_pmf": {"exposure_dim": 1}, "pmf_mar": {"num_levels": 3},
              "pmf_mnar": {"num_levels": 3}}  # fmt: skip


def ratings() -> pd.DataFrame:
    rows, columns = np.nonzero(np.random.default_rng(0).random(SHAPE) < 0.6)
    return pd.DataFrame({"row": rows, "column": columns, "value": 1.0 + (rows + columns) % 3})


def predicted(make: Callable[..., Any], /, **given: Any) -> Any:
    return make(**given).fit(ratings(), SHAPE, seed=0).predict(np.array([0, 1]), np.array([0, 1]))


def restored(make: Callable[..., Any], table: Any, /, **given: Any) -> pd.DataFrame:
    return make(**given).complete(table, seed=0)


def moments(make: Callable[..., Any], table: Any, /, **given: Any) -> Any:
    return make(**given).moments(table)


def answered(make: Callable[..., Any], /, **given: Any) -> Any:
    answers = pd.DataFrame({"a": [1.0, 0, np.nan, 1], "b": [0.0, np.nan, 1, 0]})
    system = make(**{**QUICK, **given})
    return system.train(system.table(answers), seed=0)


def system_calls() -> Calls:
    """All of them, by name."""
    table = of_frame(pd.concat([FRAME] * 5, ignore_index=True))
    of_tables = {
        "AutoRec": ({"steps": 2}, baselines.AutoRec),
        "Factorization": ({}, partial(baselines.pmf, training=BRIEF)),
        "RatingMixture": ({"steps": 2}, baselines.cpt_v),
        "RatingNetwork": ({}, partial(baselines.rating_pvae, **QUICK)),
        "OracleTest": ({}, partial(baselines.OracleTest, ratings())),
    }
    found: Calls = {}
    for name, (options, make) in of_tables.items():
        untaught, taught = make(**options), make(**options).fit(ratings(), SHAPE, seed=0)
        found[f"{name}.fit"] = untaught.fit, {"train": ratings(), "shape": SHAPE, "seed": 0}
        found[f"{name}.predict"] = taught.predict, {"rows": np.array([0, 1]), "columns": np.array([0, 1])}
    completing = {
        "ScikitLearn": baselines.mean(), "Zero": baselines.Zero(), "regression": baselines.regression(),
        "mice": baselines.mice(rounds=1), "miss_forest": baselines.miss_forest(2, 1), "LowRankJoint": baselines.LowRankJoint(),
        "FullInformationML": baselines.FullInformationML(), "Fitted": baselines.gina(**QUICK),
        "Averaged": baselines.Averaged("a", [baselines.Zero()]),
        "SelfMaskedMixture": baselines.normal_mixtures_known_sign(**CHAIN, components=[1]),
    }  # fmt: skip
    for name, system in completing.items():
        found[f"{name}.complete"] = system.complete, {"table": table, "seed": 0}
    for name in ("CompleteCases", "PairwiseDeletion", "FullInformationML", "InverseProbabilityWeighting"):
        make = getattr(baselines, name)
        found[f"{name}.moments"] = make().moments, {"table": table}
    answers = pd.DataFrame({"a": [1.0, 0, np.nan, 1], "b": [0.0, np.nan, 1, 0]})
    features = pd.DataFrame({"year": [1.0, 2, 3, 4]})
    of_answers = baselines.response_gina(**QUICK)
    pair = baselines.gina(**QUICK)
    fitted = pair.train(table, seed=0)
    mixture = NormalMixture(table, num_classes=1)
    y = pd.Series(np.where(np.arange(40) % 3 == 0, np.nan, np.sin(np.arange(40.0))))
    x = pd.DataFrame({"x": np.cos(np.arange(40.0))})
    w = x.assign(w=np.cos(3 + np.arange(40.0) ** 2))
    of_heckman = {"outcome": y, "regressors": x, "selectors": w}
    given = {"num_particles": 2}
    return {
        **found,
        **{name: (partial(restored, getattr(baselines, name), table), {**QUICK, **given}) for name in OF_PAIRS},
        **{name: (partial(predicted, getattr(baselines, name)), {**QUICK, **given}) for name in OF_RATINGS},
        **{name: (partial(answered, getattr(baselines, name)), {**QUICK, **given}) for name in OF_ANSWERS},
        **{name: (partial(predicted, getattr(baselines, name)), {**some, "training": BRIEF, "latent_dim": 2, "scale": 1.0, "offset_scale": 1.0,
                  **({} if "num_levels" in some else {"noise": 1.0})}) for name, some in OF_FACTORS.items()},
        "ipw_pmf of propensities": (partial(predicted, baselines.ipw_pmf), {"propensities": baselines.logistic_propensities, "training": BRIEF}),
        "pmf(guide)": (partial(predicted, partial(baselines.pmf, training=BRIEF)), {"guide": baselines.pmf().guide}),
        "Training": (lambda **k: predicted(baselines.pmf, training=Training(**k)), {"steps": 2, "batch_size": 10, "learning_rate": 0.1}),
        "not_miwae_known_sign(sign)": (partial(restored, partial(baselines.not_miwae_known_sign, **QUICK), table), {"sign": -1}),
        "not_miwae_ppca_known_sign(sign)": (partial(restored, partial(baselines.not_miwae_ppca_known_sign, **QUICK), table), {"sign": -1}),
        "rating_gina(mechanism)": (partial(predicted, partial(baselines.rating_gina, **QUICK)), {"mechanism": None, "name": "a"}),
        "rating_not_miwae(mechanism)": (partial(predicted, partial(baselines.rating_not_miwae, **QUICK)), {"mechanism": None, "name": "a"}),
        "cpt_v": (partial(predicted, baselines.cpt_v), {"num_classes": 2, "steps": 2, "batch_size": 3, "learning_rate": 0.1, "use_mechanism": False}),
        "logit_vd": (partial(predicted, baselines.logit_vd), {"num_classes": 2, "steps": 2, "batch_size": 3, "learning_rate": 0.1, "use_mechanism": True}),
        "AutoRec": (partial(predicted, baselines.AutoRec), {"name": "a", "hidden": 2, "penalty": 1.0, "steps": 2, "batch_size": 2, "learning_rate": 0.1}),
        "RatingMixture": (partial(predicted, partial(baselines.RatingMixture, steps=2)), {"name": "a", "model_class": baselines.cpt_v().model_class}),
        "RatingNetwork": (partial(predicted, baselines.RatingNetwork), {"name": "a", "model": baselines.rating_pvae().model, "uses_mask": False,
                          "guide": baselines.rating_pvae().guide, "fit_options": QUICK, "num_particles": 2}),
        "RatingNetwork.fit of features": (baselines.rating_gina(**QUICK).fit, {"train": ratings(), "shape": SHAPE, "seed": 0,
                                          "row_features": pd.DataFrame({"year": np.arange(6.0)}), "most_dense_cells": 1000}),
        "RatingNetwork.train": (baselines.rating_pvae(**QUICK).train, {"table": table, "seed": 0}),
        "OracleTest": (partial(predicted, baselines.OracleTest), {"test": ratings()}),
        "ResponseNetwork.table": (of_answers.table, {"answers": answers, "features": features}),
        "ResponseNetwork.train": (of_answers.train, {"table": of_answers.table(answers), "seed": 0}),
        "ResponseNetwork": (lambda **k: baselines.ResponseNetwork(**k).train(of_answers.table(answers), seed=0),
                            {"name": "a", "model": of_answers.model, "uses_features": False, "guide": of_answers.guide, "fit_options": QUICK}),
        "logistic_propensities": (baselines.logistic_propensities, {"train": ratings(), "shape": SHAPE}),
        "naive_bayes_propensities": (lambda random_ratings: baselines.naive_bayes_propensities(random_ratings)(ratings(), SHAPE), {"random_ratings": ratings()}),
        "naive_bayes_propensities(...)": (baselines.naive_bayes_propensities(ratings()), {"train": ratings(), "shape": SHAPE}),
        "Fitted": (partial(restored, baselines.Fitted, table), {"name": "a", "model": pair.model, "guide": pair.guide, "fit_options": QUICK, "impute_options": {"num_draws": 2}}),
        "Fitted.train": (pair.train, {"table": table, "seed": 0}),
        "Fitted.completed_by": (pair.completed_by, {"trained": fitted, "table": table, "seed": 0}),
        "ScikitLearn": (partial(restored, baselines.ScikitLearn, table), {"name": "a", "make": baselines.mean().make}),
        "knn": (partial(restored, baselines.knn, table), {"neighbours": 2}),
        "miss_forest": (partial(restored, baselines.miss_forest, table), {"trees": 2, "rounds": 1}),
        "mice": (partial(restored, baselines.mice, table), {"rounds": 1}),
        "LowRankJoint": (partial(restored, baselines.LowRankJoint, table), {"penalty": 1.0}),
        "FullInformationML": (partial(restored, baselines.FullInformationML, table), {"max_iterations": 2}),
        "InverseProbabilityWeighting": (partial(moments, baselines.InverseProbabilityWeighting, table), {"name": "a", "propensities": np.full(20, 0.5)}),
        "Averaged": (partial(restored, baselines.Averaged, table), {"name": "a", "systems": [baselines.Zero()]}),
        "SelfMaskedMixture": (partial(restored, baselines.SelfMaskedMixture, table), {"name": "a", "sign": -1, "components": [1], **CHAIN}),
        "normal_mixtures_common_sign": (partial(restored, baselines.normal_mixtures_common_sign, table), {**CHAIN}),
        "normal_mixtures_known_sign": (partial(restored, baselines.normal_mixtures_known_sign, table), {"sign": 1, **CHAIN}),
        "normal_mixture_model": (partial(restored, baselines.normal_mixture_model, table), {"sign": 0, "num_classes": 1, "start": CHAIN, **QUICK}),
        "normal_mixture_models": (partial(restored, baselines.normal_mixture_models, table), {"sign": 0, "start": CHAIN, **QUICK}),
        "start_normal_mixture": (baselines.start_normal_mixture, {"model": mixture, "table": table, **CHAIN, "seed": 0}),
        "bounded_by_thresholds": (baselines.bounded_by_thresholds, {"table": table, "sign": None}),
        "hide_further": (baselines.hide_further, {"table": table, "sign": -1, "share": 0.5}),
        "extrapolation_errors": (baselines.extrapolation_errors, {"systems": [baselines.Zero()], "table": table, "sign": -1, "share": 0.5, "seed": 0}),
        "heckman": (heckman, of_heckman),
        "heckman_likelihood": (heckman_likelihood, of_heckman),
    }  # fmt: skip
